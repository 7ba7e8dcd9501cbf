"""A view's events, read from the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.binding._sql import EVENT, KNOWN, SEQ, UNTIL
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.define.records import BEGINNING, FOREVER, Events, ViewPlan
from headway.errors import DataError

ID = "__id"


def load_events(plan: ViewPlan, lake: Lake, engine: Engine, tables: Mapping[str, int] | None = None) -> Events:
    """Read what a view sees: every version that is visible at some moment, with a key.

    ``tables`` pins lake tables to versions; the newest are read by default.

    Raises
    ------
    DataError
        A table is not in the lake, or a join of the view's source gives several rows for one.
    """
    pinned = _versions(plan, lake, tables)
    rows = engine.query(plan.sql, _files(lake, pinned))
    keys = rows.select([key.name for key in plan.keys])
    refuse_multiplied(rows.column(SEQ), _what(plan), plan.tables, keys)
    return _as_events(plan, rows, _number(pinned))


def _what(plan: ViewPlan) -> str:
    return f"source {plan.source!r} of view {plan.name!r}"


def _files(lake: Lake, pinned: Mapping[str, int]) -> dict[str, list[str]]:
    return {table: lake.files(table, version) for table, version in pinned.items()}


def _number(pinned: Mapping[str, int]) -> int:
    """Table versions as one growing number: every version only grows, so their sum does."""
    return sum(version + 1 for version in pinned.values())


def _as_events(plan: ViewPlan, rows: pa.Table, version: int) -> Events:
    keys = rows.select([key.name for key in plan.keys])
    count = rows.num_rows
    moments = {c: _integers(rows.column(c)) for c in (EVENT, KNOWN) if c in rows.column_names}
    return Events(
        keys=keys.combine_chunks(),
        event=moments.get(EVENT, np.full(count, BEGINNING)),
        known=moments.get(KNOWN, np.full(count, BEGINNING)),
        until=_integers(rows.column(UNTIL)) if UNTIL in rows.column_names else np.full(count, FOREVER),
        rank=_rank(rows),
        values={c: _array(rows.column(c)) for c in rows.column_names if c.startswith("__c")},
        version=version,
    )


def refuse_multiplied(seq: pa.ChunkedArray, what: str, tables: Sequence[str], keys: pa.Table) -> None:
    """Refuse rows of which two have one place in the order of arrival: a join made them of one row."""
    values = _integers(seq)
    ordered = np.sort(values)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again):
        at = int(np.flatnonzero(values == again[0])[0])
        raise _multiplied(what, tables, keys.slice(at, 1), len(again))


def _multiplied(what: str, tables: Sequence[str], example: pa.Table, more: int) -> DataError:
    """``example`` has one of the rows; ``more`` is how many there are too many."""
    first = next((n for n in example.column_names if not n.startswith("__")), None)
    such = "" if first is None else f", for example for {first}={example.column(first)[0].as_py()!r}"
    driver, *joined = [table.removeprefix("source/") for table in tables]
    return DataError(
        f"{what}: its join with {' or '.join(joined) or driver} finds several rows for one row of {driver},"
        f" {more} too many in all{such}; join on columns that are unique there"
    )


def in_order_of_arrival(rows: pa.Table) -> pa.Table:
    """Sorted by ``__seq``; a join may have moved rows."""
    seq = _integers(rows.column(SEQ))
    return rows.take(pa.array(np.argsort(seq))) if np.any(seq[1:] < seq[:-1]) else rows


def _versions(plan: ViewPlan, lake: Lake, tables: Mapping[str, int] | None) -> dict[str, int]:
    found = {}
    for table in plan.tables:
        version = lake.version(table) if tables is None else tables[table]
        if version is None:
            raise DataError(
                f"view {plan.name!r} reads {table!r}, which is not in the lake yet; `headway run` copies it"
            )
        found[table] = version
    return found


def _array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _integers(column: pa.ChunkedArray) -> np.ndarray:
    """Whole numbers, or microseconds since 1970; nulls, which only ``__until`` has, as ``FOREVER``."""
    array = _array(column)
    plain = array.view(pa.int64()) if pa.types.is_timestamp(array.type) else array.cast(pa.int64())
    return np.asarray(pc.fill_null(plain, FOREVER) if plain.null_count else plain)


def _rank(rows: pa.Table) -> np.ndarray:
    """The order of ids, where there are ids, then of arrival; text by code point."""
    columns = [c for c in rows.column_names if c.startswith(ID)]
    seq = _integers(rows.column(SEQ))
    if not columns:
        return seq
    arrays = [_array(rows.column(c)) for c in columns]
    if all(pa.types.is_integer(a.type) and not a.null_count for a in arrays):
        order = np.lexsort([seq, *(np.asarray(a) for a in reversed(arrays))])
    else:
        # Nulls first, by columns that say where they are: how to ask for that differs between versions of pyarrow.
        filled = {f"__has_{c}": a.is_valid().cast(pa.int8()) for c, a in zip(columns, arrays, strict=True)}
        table = pa.table({**filled, **dict(zip(columns, arrays, strict=True)), SEQ: seq})
        by = [name for c in columns for name in (f"__has_{c}", c)]
        order = np.asarray(pc.sort_indices(table, sort_keys=[(c, "ascending") for c in (*by, SEQ)]))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank
