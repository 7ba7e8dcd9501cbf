"""What a reader of a source is, whatever the rows are kept in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True)
class Counts:
    """What reading met: rows, local times at clock changes (``ambiguous``, ``nonexistent``), and rows without an
    event time (``unplaced``)."""

    rows: int = 0
    ambiguous: int = 0
    nonexistent: int = 0
    unplaced: int = 0


class SourceReader(Protocol):
    """Reads a source once, from the first row to the last.

    The rows have the user's columns in plain types (see ``headway.data.engine.plain``; every timestamp is
    ``timestamp[us, tz=UTC]``), and after them

    - ``__event``, ``__known``: event time, and since when the row is known (null: not yet); not in timeless sources;
    - ``__seq``: int64, 0, 1, … in the order of arrival.

    Memory is bounded whatever the source holds. Not for use by several threads. Raises ``BindingError`` if the columns
    do not fit the declaration, ``DataError`` if rows cannot be read or do not fit.
    """

    @property
    def schema(self) -> pa.Schema:
        """The columns of every batch."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order of arrival; call it once."""

    @property
    def counts(self) -> Counts:
        """What was met so far; complete when ``batches`` has come to its end."""
