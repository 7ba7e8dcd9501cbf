"""What a reader of a source is, whatever the rows are kept in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

EVENT, KNOWN, SEQ, ARRIVED, DELETED = "__event", "__known", "__seq", "__arrived", "__deleted"
OWN = (EVENT, KNOWN, SEQ, ARRIVED, DELETED)
"""headway's own columns, which no column of the user may be called."""


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


class TableReader(Protocol):
    """Reads tables of one database; what ``headway.sources`` entry points give for a connection's URL.

    The columns are those of the table, in any Arrow types; batches are fetched as they are asked for, from one
    snapshot of the database. Closing lets go of the connection. Not for use by several threads. Raises ``StoreError``
    if the database fails, ``DataError`` if it does not have the table or a column; no message tells a secret.
    """

    def read(self, table: str, cursor: str | None = None, since: object = None) -> pa.RecordBatchReader:
        """All rows of ``table``, or, with ``since`` (a value of the column ``cursor``), those at or after it. With
        ``cursor`` they come in its order."""

    def close(self) -> None:
        """Let go of the connection."""
