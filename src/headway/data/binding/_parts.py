"""A view's events in parts that fit into memory one at a time.

All rows of a key are in one part, so that a part's features are those of the whole. A view with few rows is one part.
Rows come from one streaming pass over the view's SQL; the SQL engine also says which part a key belongs to, for events
and for the keys that somebody asks about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from headway.data.binding._columns import CASTS
from headway.data.binding._events import _as_events, _files, _multiplied, _number, _versions, _what, load_events
from headway.data.binding._sql import SEQ, name
from headway.data.engine import Engine, Piles, Workspace, ahead, needed
from headway.data.lake import Lake
from headway.define.records import Events, ViewPlan
from headway.errors import StoreError

_PART = "__part"
_MOST_PARTS = 4096
_KEYS = "keys to look up"


class EventParts:
    """The events of a view at one version of its data: ``len`` parts, each read when it is asked for.

    ``close`` gives back what is kept of them.
    """

    def __init__(
        self, plan: ViewPlan, workspace: Workspace, engine: Engine, found: Events | Piles, version: int
    ) -> None:
        self.plan, self.workspace, self.version = plan, workspace, version
        self._engine, self._found = engine, found
        self._count = 1

    @classmethod
    def open(
        cls,
        plan: ViewPlan,
        lake: Lake,
        engine: Engine,
        workspace: Workspace,
        tables: Mapping[str, int] | None = None,
    ) -> EventParts:
        """Read what a view sees, see ``load_events``; what does not fit into memory is kept in files."""
        pinned = _versions(plan, lake, tables)
        files = _files(lake, pinned)
        values = _width(plan)
        count = _parts_for(_rows(plan, engine, files), workspace.rows_at_once(values))
        if count == 1:
            events = load_events(plan, lake, engine, pinned)
            return cls(plan, workspace, engine, events, events.version)
        piles = workspace.piles()
        made = cls(plan, workspace, engine, piles, _number(pinned))
        made._count = count
        try:
            made._fill(piles, files)
        except BaseException:
            piles.close()
            raise
        return made

    def __len__(self) -> int:
        return self._count

    @property
    def whole(self) -> Events | None:
        """All events, if they are one part."""
        return self._found if isinstance(self._found, Events) else None

    def part(self, number: int) -> Events:
        """Some of the events. Raises ``StoreError`` if one key has so many that they do not fit into memory."""
        if isinstance(self._found, Events):
            return self._found
        self._refuse_crowd(self._found.rows(number))
        batches = list(self._found.read(number))
        schema = batches[0].schema if batches else self._schema
        rows = pa.Table.from_batches(batches, schema)
        return _as_events(self.plan, rows, self.version)

    def numbers(self, keys: pa.Table) -> np.ndarray:
        """The part that each row of ``keys`` (the plan's key columns, in its types) belongs to."""
        if self._count == 1:
            return np.zeros(keys.num_rows, np.uint16)
        sql = f"select {self._part_of_key()} as {name(_PART)} from {name(_KEYS)}"
        return _numbers(self._engine.query(sql, {_KEYS: keys}).column(_PART).combine_chunks())

    def close(self) -> None:
        if isinstance(self._found, Piles):
            self._found.close()

    def _part_of_key(self) -> str:
        keys = ", ".join(f"cast({name(key.name)} as {CASTS.get(key.type, key.type)})" for key in self.plan.keys)
        return f"cast(hash({keys}) % {self._count} as usmallint)"

    def _fill(self, piles: Piles, files: Mapping[str, list[str]]) -> None:
        sql = f"select *, {self._part_of_key()} as {name(_PART)} from ({self.plan.sql})"
        arrivals, rows = _Arrivals(), 0
        self._schema: pa.Schema | None = None
        for batch in ahead(self._engine.batches(sql, files)):
            at = batch.schema.get_field_index(_PART)
            kept = batch.select([n for n in batch.schema.names if n != _PART])
            self._schema = kept.schema
            arrivals.add(batch.column(SEQ))
            rows += batch.num_rows
            piles.add_parted(kept, _numbers(batch.column(at)))
        if arrivals.count() < rows:
            self._refuse_multiplied(rows - arrivals.count(), files)
        if self._schema is None:
            self._schema = self._engine.query(f"select * from ({self.plan.sql}) limit 0", files).schema

    def _refuse_multiplied(self, more: int, files: Mapping[str, list[str]]) -> None:
        again = f"select {name(SEQ)} from ({self.plan.sql}) group by all having count(*) > 1 limit 1"
        found = self._engine.query(f"select * from ({self.plan.sql}) where {name(SEQ)} = ({again}) limit 1", files)
        raise _multiplied(_what(self.plan), self.plan.tables, found.select([key.name for key in self.plan.keys]), more)

    def _refuse_crowd(self, rows: int) -> None:
        size = needed(rows, _width(self.plan)) // 2
        if size > self.workspace.memory and rows > 2 * self.workspace.most_rows:
            raise StoreError(
                f"view {self.plan.name!r}: some key has so many rows that {rows} of them belong together, which takes"
                f" about {size / 1e9:.1f} GB, and memory_limit leaves {self.workspace.memory / 1e9:.1f} GB for it;"
                " raise memory_limit, or key the view by something finer"
            )


def _width(plan: ViewPlan) -> int:
    """How many values a row has; a vector counts for as many as it takes the room of, without their indexes."""
    columns = {feature.column: feature.n or 0 for feature in plan.features if feature.kind == "row"}
    return len({feature.column for feature in plan.features}) + sum(columns.values()) // 16


def _parts_for(rows: int, at_once: int) -> int:
    """Some room to spare: keys are not spread evenly, and one part more costs little."""
    return min(max(1, -(-rows * 4 // (at_once * 3)) if rows > at_once else 1), _MOST_PARTS)


def _rows(plan: ViewPlan, engine: Engine, files: Mapping[str, list[str]]) -> int:
    """About how many rows a view has: as many as the table that drives its source."""
    driver = plan.tables[0]
    counted = engine.query(f"select count(*) as n from {name(driver)}", {driver: files[driver]})
    rows: int = counted.column("n")[0].as_py()
    return rows


def _numbers(array: pa.Array) -> np.ndarray:
    return np.frombuffer(array.buffers()[1], np.uint16, len(array), array.offset * 2)


class _Arrivals:
    """Which places in the order of arrival were seen, a bit for each."""

    def __init__(self) -> None:
        self._bits = np.zeros(1 << 17, np.uint8)

    def add(self, seq: pa.Array) -> None:
        places = np.asarray(seq.cast(pa.int64()))
        if not len(places):
            return
        size = int(places.max()) // 8 + 1
        if size > len(self._bits):
            self._bits = np.concatenate([self._bits, np.zeros(max(size, len(self._bits)), np.uint8)])
        np.bitwise_or.at(self._bits, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))

    def count(self) -> int:
        return sum(int(np.bitwise_count(part).sum()) for part in self._chunks())

    def _chunks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._bits), 1 << 20):
            yield self._bits[start : start + (1 << 20)]
