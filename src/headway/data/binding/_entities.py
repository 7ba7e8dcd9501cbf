"""Whom a view tells of, and the events of a part of them: what is too large to be read at once is read like this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import pyarrow as pa

from headway.data.binding._events import load_events
from headway.data.binding._sql import EVENT, KNOWN, UNTIL, instant, name, names
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.define.records import Events, ViewPlan

_SEEN = "__seen"


class Part(msgspec.Struct, frozen=True):
    """Part ``number`` of ``parts`` of every ``every``-th entity. Who belongs to it follows from the key alone."""

    every: int = 1
    number: int = 0
    parts: int = 1

    def condition(self, plan: ViewPlan) -> str:
        """The part as a condition in SQL."""
        digest = f"hash({names(key.name for key in plan.keys)})"
        return f"{digest} % {self.every} = 0 and ({digest} // {self.every}) % {self.parts} = {self.number}"


def part_events(plan: ViewPlan, lake: Lake, engine: Engine, tables: Mapping[str, int], part: Part) -> Events:
    """``load_events`` of the entities of one part."""
    sql = plan.sql if part == Part() else f"select * from ({plan.sql}) where {part.condition(plan)}"
    return load_events(msgspec.structs.replace(plan, sql=sql), lake, engine, tables)


def entities(
    plan: ViewPlan, lake: Lake, engine: Engine, tables: Mapping[str, int], r: int
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """The keys of everybody that a view has events of, each once and piece by piece, with whether any of the events was
    visible at ``r``."""
    files = {table: lake.files(table, version) for table, version in tables.items()}
    columns = {field.name for field in engine.describe(plan.sql, files)}
    keys = names(key.name for key in plan.keys)
    sql = f"select {keys}, bool_or({_visible(plan, columns, r)}) as {name(_SEEN)} from ({plan.sql}) group by {keys}"
    for batch in engine.batches(sql, files):
        table = pa.table(batch)
        yield table.drop_columns(_SEEN), np.asarray(table.column(_SEEN).combine_chunks())


def _visible(plan: ViewPlan, columns: set[str], r: int) -> str:
    """The condition that a version is visible at ``r``; see ``Events``."""
    if EVENT not in columns:
        return "true"
    before = "<=" if plan.effective else "<"
    until = f" and ({name(UNTIL)} is null or {name(UNTIL)} > {instant(r)})" if UNTIL in columns else ""
    return f"{name(EVENT)} {before} {instant(r)} and {name(KNOWN)} <= {instant(r)}{until}"
