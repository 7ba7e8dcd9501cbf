"""Rows that somebody hands over → the source's table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from headway.data.engine import Engine
from headway.data.ingest._put import Put
from headway.data.ingest._state import look
from headway.data.lake import Lake, Once
from headway.data.sources import reading_digest
from headway.data.sources._raw import RawReader
from headway.data.sources._schema import Held
from headway.define import Source
from headway.define.records import IngestResult
from headway.errors import DataError, UsageError


def append_rows(
    source: Source,
    batches: Iterable[pa.RecordBatch],
    lake: Lake,
    engine: Engine,
    *,
    arrived: int | None,
    mark: Once = MappingProxyType({}),
    note: Mapping[str, str] = MappingProxyType({}),
    where: str = "what was pushed",
    scratch: Path | None = None,
) -> IngestResult:
    """Append rows to a source's table, in one commit with ``mark`` and ``note``.

    Columns are brought to the form that rows of files have: types, time zone, ``__event``, ``__known``, ``__seq``,
    ``__arrived``. Rows with an id are compared with the version of it that arrived last: one that is equal is left out,
    another one is a version, known no earlier than ``arrived`` unless the source declares ``created``; a row whose
    ``deleted`` column is true is a version too. Rows without an id are all appended: exactly once is what ``mark`` is
    for. A column the table does not have is added to it, and a type may become wider.

    Parameters
    ----------
    batches
        The user's columns; consumed piece by piece. They are those of ``source.schema``, if it declares one, else
        those of the first batch.
    arrived
        The clock's now, in microseconds since 1970; None if a clock of data has no time yet.
    mark, note
        See ``Lake.write``; ``note`` is kept beside what ingest notes itself.
    where
        What a message says of where the rows come from.
    scratch
        A folder for rows that wait to be compared; a temporary one by default.

    Raises
    ------
    DataError
        A row has no id, a value does not fit, or a column has a type that the table's cannot be widened to. Nothing
        is written.
    UsageError
        The source is read from somewhere, so its rows cannot be handed over.
    StoreBusy
        Somebody else wrote to the table, or moved a mark, meanwhile. Nothing is written; hand the rows over again.
    """
    if not source.pushed:
        raise UsageError(
            str(
                source.refuse(
                    "its rows are read from where it says, and a reading would not know of rows that are handed over;"
                    " declare another source with schema= and no place"
                )
            )
        )
    state = look(source, lake)
    how = how_pushed(source)
    if state.version is not None and state.note.get("how") not in (None, how):
        raise DataError(
            str(
                source.refuse(
                    "the rows in the lake were put there under another declaration of id, timestamp, created, delay,"
                    " deleted or timezone; give the source another name, or take the change back"
                )
            )
        )
    columns = state.columns(lake)
    reader = RawReader(source, batches, where, held=None if columns is None else Held(columns))
    put = Put(source, lake, engine, arrived, "part", note={"how": how, **note}, mark=mark, scratch=scratch)
    return put.carry_out(reader, state)


def how_pushed(source: Source) -> str:
    """The digest of the declaration that rows are pushed under."""
    return reading_digest(source, "rows", "")
