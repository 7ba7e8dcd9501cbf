"""Tables of databases, and functions → their source's table."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from headway.data.engine import Engine
from headway.data.ingest._put import Put, Way
from headway.data.ingest._state import State, look
from headway.data.lake import Lake
from headway.data.sources import Counts, SourceReader, TableReader, reading_digest
from headway.data.sources._raw import RawReader
from headway.data.sources._schema import Held
from headway.data.spine import as_table
from headway.define import FunctionSource, Source
from headway.define._duration import microseconds
from headway.define.records import IngestResult
from headway.errors import DataError, HeadwayError, ProjectCodeError

Watch = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Into:
    """Where rows go, when they arrived, and whether to start over; see ``ingest``."""

    lake: Lake
    engine: Engine
    arrived: int | None
    full: bool = False
    scratch: Path | None = None
    watch: Watch = lambda _: None


def ingest_table(source: Source, table: str, reader: TableReader, into: Into) -> IngestResult:
    """Bring the lake's copy of a database's table up to date.

    With a cursor the rows at or after its last value are read, and those that the lake has already are left out; else
    the whole table is read. Rows with an id are compared with what the lake has of it: a changed row is a version, and
    so is an id that a whole table no longer has. A whole table without an id replaces its copy, if any row differs.
    """
    by, state = source.cursor, look(source, into.lake)
    how = reading_digest(source, f"table {table} by {by}", "")
    again = not into.full and state.note.get("how") == how
    far = _Far(source, by, _noted(state) if again else None)
    found = reader.read(table, by, far.since(source.lookback))
    held = _held(state, into.lake, whole=True) if again else None
    raw = RawReader(source, far.followed(found), f"table {table}", found.schema, held)
    way = _way(source, again, part=by is not None)
    return _put(source, into, way, by, lambda: {"how": how, **far.note()}).carry_out(_Watched(raw, into.watch), state)


def ingest_function(source: FunctionSource, into: Into) -> IngestResult:
    """Bring the lake's copy of what a function returns up to date.

    The function is told how far its rows were seen; those that it returns again are left out. One that takes no
    argument returns all rows there are, as a whole table of a database does.
    """
    by, state = source.cursor or source.timestamp, look(source, into.lake)
    how = reading_digest(source, f"function by {by}", "")
    again = not into.full and state.note.get("how") == how
    part = source.takes_since and by is not None
    far = _Far(source, by if part else None, _noted(state) if again else None, strict=False)
    held = _held(state, into.lake, whole=False) if again else None
    returned = _returned(source, far.since(source.lookback))
    raw = RawReader(source, returned, "its function", held=held)
    way = _way(source, again, part=part)
    made = _put(source, into, way, by if part else None, lambda: {"how": how, **far.note()})
    return made.carry_out(_Watched(raw, into.watch, far), state)


def _way(source: Source, again: bool, *, part: bool) -> Way:
    if not again:
        return "start"
    return "part" if part else "whole" if source.id else "renew"


def _put(source: Source, into: Into, way: Way, by: str | None, note: Callable[[], Mapping[str, str]]) -> Put:
    return Put(
        *(source, into.lake, into.engine, into.arrived, way),
        again=None if source.id else by,
        note=note,
        scratch=into.scratch,
    )


def _held(state: State, lake: Lake, *, whole: bool) -> Held | None:
    columns = state.columns(lake)
    return None if columns is None else Held(columns, whole)


@dataclass(eq=False)
class _Far:
    """How far a source has been read: the greatest value of a column, the cursor. ``strict``: every row has to have
    one."""

    source: Source
    column: str | None
    value: Any = None
    strict: bool = True
    missing: int = 0

    def since(self, lookback: str | None) -> Any:
        """The value from which on rows are read again."""
        if lookback is None or self.value is None:
            return self.value
        earlier = dt.timedelta(microseconds=microseconds(lookback))
        if isinstance(self.value, dt.datetime):
            return self.value - earlier
        try:  # SQLite keeps times as text
            return (dt.datetime.fromisoformat(self.value) - earlier).isoformat(sep=self.value[10])
        except (TypeError, ValueError, IndexError):
            raise DataError(
                str(self.source.refuse(f"lookback is for a cursor of times, and {self.column!r} has {self.value!r}"))
            ) from None

    def followed(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches, whose values are noted as they pass."""
        for batch in batches:
            self.see(batch)
            yield batch
        if self.missing and self.strict:
            raise DataError(
                str(
                    self.source.refuse(
                        f"{self.missing} rows have no value in its cursor {self.column!r}, so a later reading would"
                        " not come upon a change of theirs; take another column, or leave cursor out to read the whole"
                        " table every time"
                    )
                )
            )

    def see(self, batch: pa.RecordBatch) -> None:
        if self.column is None or not batch.num_rows:
            return
        values = batch.column(self.column)
        self.missing += values.null_count
        kind = values.type
        if types.is_boolean(kind) or types.is_nested(kind) or isinstance(values, pa.ExtensionArray):
            raise DataError(
                str(self.source.refuse(f"its cursor {self.column!r} is {kind}; it has to be a number or a time"))
            )
        if types.is_timestamp(kind) and kind.unit == "ns":
            values = pc.cast(values, pa.timestamp("us", kind.tz), safe=False)  # rounded down: rather read a row again
        greatest = pc.max(values).as_py()
        if greatest is not None and (self.value is None or greatest > self.value):
            self.value = greatest

    def note(self) -> dict[str, str]:
        if self.column is None or self.value is None:
            return {}
        kind = next(kind for kind, made in _KINDS if isinstance(self.value, made))
        text = self.value.isoformat() if isinstance(self.value, dt.date) else repr(self.value)
        if kind in ("text", "decimal"):
            text = str(self.value)
        return {"cursor": json.dumps([kind, text])}


_KINDS: tuple[tuple[str, type], ...] = (
    ("time", dt.datetime),
    ("date", dt.date),
    ("int", int),
    ("float", float),
    ("decimal", Decimal),
    ("text", str),
)
_READ: Mapping[str, Callable[[str], Any]] = {
    "time": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "int": int,
    "float": float,
    "decimal": Decimal,
    "text": str,
}


def _noted(state: State) -> Any:
    """The cursor of a state."""
    if "cursor" not in state.note:
        return None
    kind, text = json.loads(state.note["cursor"])
    return _READ[kind](text)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A reader that somebody watches, and that notes in ``far`` how far it has come."""

    reader: SourceReader
    watch: Watch
    far: _Far | None = None

    @property
    def schema(self) -> pa.Schema:
        return self.reader.schema

    @property
    def counts(self) -> Counts:
        return self.reader.counts

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self.reader.batches():
            if self.far is not None:
                self.far.see(batch)
            yield batch
            self.watch(self.counts.rows)


def _returned(source: FunctionSource, since: Any) -> Iterator[pa.RecordBatch]:
    """What the function returns, piece by piece; what it raises names it."""
    try:
        found = source(since) if source.takes_since else source()
        pieces = found if isinstance(found, Iterator) else [found]
        for piece in pieces:
            yield from _as_rows(source, piece).to_batches()
    except HeadwayError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ProjectCodeError(str(source.refuse(f"its function raised {' '.join(said.split())}"))) from error


def _as_rows(source: Source, found: Any) -> pa.Table:
    if found is None:
        found = []
    if isinstance(found, Sequence) and all(isinstance(row, Mapping) for row in found):
        names = list(source.schema) if source.schema is not None else []
        names = list(dict.fromkeys([*names, *(name for row in found for name in row)])) if found else names
        return pa.table({name: pa.array([row.get(name) for row in found]) for name in names})
    return as_table(found, f"what the function of source {source.name!r} returned")
