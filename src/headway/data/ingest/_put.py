"""Rows that were read → the source's table, as one commit."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from headway.data.engine import Engine, plain
from headway.data.ingest._compare import CHANGED, GONE, NEW, WHAT, Comparison, brought_to
from headway.data.ingest._state import WRITER, State, result, table_of
from headway.data.lake import Lake, Mode, Once
from headway.data.lake._durable import make_directory, staged_file
from headway.data.lake._errors import named
from headway.data.lake._rows import write_rows
from headway.data.sources import ARRIVED, DELETED, KNOWN, OWN, SEQ, SourceReader
from headway.define import Source
from headway.define.records import IngestResult

INSTANT = pa.timestamp("us", "UTC")
Way = Literal["start", "renew", "whole", "part"]


@dataclass(slots=True)
class Tally:
    """What is being appended, counted as it passes."""

    new: int = 0
    changed: int = 0
    gone: int = 0
    content: Any = field(default_factory=hashlib.sha256)

    @property
    def rows(self) -> int:
        return self.new + self.changed + self.gone

    def add(self, batch: pa.RecordBatch, content: bool, what: pa.Array | None = None) -> None:
        """Count a batch; ``what`` says what its rows are, if they are not all new. ``content``: digest it too."""
        if content:
            self.content.update(batch.serialize())
        if what is None:
            self.new += batch.num_rows
            return
        found = {each["values"]: each["counts"] for each in what.value_counts().to_pylist()}
        self.new += found.get(NEW, 0)
        self.changed += found.get(CHANGED, 0)
        self.gone += found.get(GONE, 0)


@dataclass(frozen=True, slots=True)
class Put:
    """Rows of one source on their way into the lake.

    Parameters
    ----------
    way
        ``start``: they are all there is, and replace what there was. ``renew``: so they do, but only if any of them
        differs from what there was. ``whole``: they are all there is, and what the
        lake holds of their ids is compared with them. ``part``: there may be others; rows with an id are compared,
        others are appended.
    again
        The column by which rows without an id are read again, so that those the lake has already are left out; None
        if none is.
    arrived
        When they arrived, in microseconds since 1970; None if the clock has no time yet. Then a row arrived when it
        was known.
    token
        What tells these rows from others, for the digest; by default their content.
    note
        To be kept with the commit, see ``State``; a function is asked for it after the last row.
    mark
        How far writers have come with these rows, see ``Lake.write``.
    """

    source: Source
    lake: Lake
    engine: Engine
    arrived: int | None
    way: Way = "part"
    again: str | None = None
    token: str | None = None
    note: Mapping[str, str] | Callable[[], Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    mark: Once = field(default_factory=lambda: MappingProxyType({}))
    scratch: Path | None = None

    def carry_out(self, reader: SourceReader, state: State) -> IngestResult:
        """Commit the rows. ``state`` is that of the table they were read for: ``StoreBusy``, and nothing is written,
        if it has changed since."""
        if self.way == "start" or state.version is None:
            again = {key: value for key, value in state.note.items() if key == "puts"}
            made = _Made(self, reader, replace(state, note=again), started=True)
            return made.commit(made.stamped(0))
        if self.way == "renew":
            with self._staged(reader) as staged:
                return self._renewed(reader, state, staged)
        if self.lake.tidy(state.table):  # many small appends would make reading slow
            state = replace(state, version=self.lake.version(state.table))
        made = _Made(self, reader, state, started=False)
        if not (self.source.id or self.again):
            return made.commit(made.stamped(state.next_seq))
        with self._staged(reader) as staged:
            return made.commit(made.compared(staged))

    def noted(self) -> Mapping[str, str]:
        return self.note() if callable(self.note) else self.note

    def _renewed(self, reader: SourceReader, state: State, staged: str) -> IngestResult:
        """Replace the rows, if those that are staged are not the same, in whatever order."""
        made = _Made(self, reader, state, started=False)
        compare, tables = made.comparison(), {"new": [staged], "old": self.lake.files(state.table, state.version)}
        if self.engine.query(compare.same(), tables).column("same")[0].as_py():
            return made.commit(iter(()))
        again = {key: value for key, value in state.note.items() if key == "puts"}
        made = _Made(self, reader, replace(state, note=again), started=True)
        rows = self.engine.batches("select * from new", {"new": [staged]})
        return made.commit(made.stamped(0, (b.select(reader.schema.names).cast(reader.schema) for b in rows)))

    @contextmanager
    def _staged(self, reader: SourceReader) -> Iterator[str]:
        """The rows as a file of their own, with ``__deleted``; it goes with the block, or with the next one after a
        kill."""
        with ExitStack() as stack:
            folder = self.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headway-ingest-")))
            make_directory(folder)
            file = stack.enter_context(staged_file(folder))
            schema = reader.schema
            batches = reader.batches()
            if self.source.id:
                schema = schema.append(pa.field(DELETED, pa.bool_()))
                batches = (_appended(b, schema, _deleted(self.source, b)) for b in batches)
            with named(table_of(self.source)):
                write_rows(table_of(self.source), file, pa.RecordBatchReader.from_batches(schema, batches), schema)
                file.flush()
            yield file.name


@dataclass(eq=False)
class _Made:
    """One commit in the making."""

    put: Put
    reader: SourceReader
    state: State
    started: bool
    tally: Tally = field(default_factory=Tally)

    @property
    def schema(self) -> pa.Schema:
        """All columns of the table, headway's own last."""
        added = [pa.field(ARRIVED, INSTANT)] + ([pa.field(DELETED, pa.bool_())] if self.put.source.id else [])
        return pa.schema([*self.reader.schema, *added])

    @property
    def columns(self) -> pa.Schema:
        """The user's columns."""
        return pa.schema([item for item in self.reader.schema if item.name not in OWN])

    def comparison(self) -> Comparison:
        put, state = self.put, self.state
        held = state.columns(put.lake)
        assert held is not None
        return Comparison(put.source, held, self.columns, state.next_seq, self.reader.counts.rows, put.arrived)

    def stamped(self, first: int, rows: Iterator[pa.RecordBatch] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows that were read, as they are, with ``__seq`` from ``first`` on."""
        schema, source, arrived = self.schema, self.put.source, self.put.arrived
        at = schema.get_field_index(SEQ)
        for batch in self.reader.batches() if rows is None else rows:
            columns = [*batch.columns]
            if first:
                columns[at] = pc.add(columns[at], first)
            if arrived is not None:
                columns.append(pa.repeat(pa.scalar(arrived, pa.int64()), batch.num_rows).view(INSTANT))
            else:
                columns.append(pa.nulls(batch.num_rows, INSTANT) if source.timeless else batch.column(KNOWN))
            if source.id:
                columns.append(_deleted(source, batch))
            made = pa.RecordBatch.from_arrays(columns, schema=schema)
            self.tally.add(made, self.put.token is None)
            yield made

    def compared(self, staged: str) -> Iterator[pa.RecordBatch]:
        """Those of the staged rows that the lake does not have, and what is gone."""
        put, state, new = self.put, self.state, {"new": [staged]}
        compare = self.comparison()
        if put.source.id:
            several = put.engine.query(compare.several(), new).column("n")[0].as_py() > 0
            sql = compare.changes(whole=put.way == "whole", several=several)
        else:
            assert put.again is not None
            sql = compare.unseen(put.again)
        schema = self.schema
        for batch in put.engine.batches(sql, {**new, "old": put.lake.files(state.table, state.version)}):
            values = [plain(batch.column(item.name)).cast(item.type) for item in schema]
            made = pa.RecordBatch.from_arrays(values, schema=schema)
            self.tally.add(made, put.token is None, batch.column(WHAT))
            yield made

    def commit(self, batches: Iterator[pa.RecordBatch]) -> IngestResult:
        put, state = self.put, self.state
        first = None if self.started else next(batches, None)
        if not self.started and first is None:
            return self._commit_nothing()
        rows = batches if first is None else chain([first], batches)
        mode: Mode = "overwrite" if self.started else "append"
        held = None if self.started else state.columns(put.lake)
        if held is not None and any(c.name in self.columns.names and self.columns.field(c.name) != c for c in held):
            mode, rows = "overwrite", chain(self._widened(held), rows)
        return self._write(pa.RecordBatchReader.from_batches(self.schema, rows), mode, changed=True)

    def _commit_nothing(self) -> IngestResult:
        """No row is new; what was read is noted all the same, if it is not what was noted before."""
        put, state = self.put, self.state
        if not put.mark and all(state.note.get(key) == value for key, value in put.noted().items()):
            return result(put.source, state, changed=False, read=self.reader.counts.rows)
        empty = put.lake.schema(state.table, state.version).empty_table()
        return self._write(empty, "append", changed=False)

    def _write(self, data: pa.Table | pa.RecordBatchReader, mode: Mode, *, changed: bool) -> IngestResult:
        put, state, tally = self.put, self.state, self.tally
        once = {WRITER: (state.puts, (state.puts or 0) + 1), **put.mark}
        notes: dict[str, str] = {}

        def note() -> dict[str, str]:
            counts = self.reader.counts
            notes.update({**state.note, **{k: str(v) for k, v in asdict(counts).items()}, **put.noted()})
            notes["rows"] = str(state.rows + tally.rows)
            notes["seq"] = str(state.next_seq + counts.rows + tally.gone)
            notes["puts"] = str((state.puts or 0) + 1)
            if changed:
                notes["digest"] = _chained(state.note.get("digest"), put.token or tally.content.hexdigest())
            return notes

        version = put.lake.write(state.table, data, mode, note, once=once)
        figures = {"new": tally.new, "versions": tally.changed, "gone": tally.gone, "read": self.reader.counts.rows}
        return result(put.source, State(state.table, version, notes), changed=changed, **figures)

    def _widened(self, held: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of the lake in the types they are to have."""
        put, state, schema = self.put, self.state, self.schema
        sql = brought_to(held, self.columns, [c for c in schema.names if c in OWN])
        for batch in put.engine.batches(sql, {"old": put.lake.files(state.table, state.version)}):
            values = [plain(batch.column(item.name)).cast(item.type) for item in schema]
            yield pa.RecordBatch.from_arrays(values, schema=schema)


def _deleted(source: Source, batch: pa.RecordBatch) -> pa.Array:
    if source.deleted is None:
        return pa.repeat(pa.scalar(False), batch.num_rows)
    return pc.fill_null(batch.column(source.deleted), False)


def _appended(batch: pa.RecordBatch, schema: pa.Schema, *columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=schema)


def _chained(before: str | None, token: str) -> str:
    """The digest of rows that came after those of the digest ``before``."""
    return token if before is None else hashlib.sha256(f"{before}{token}".encode()).hexdigest()
