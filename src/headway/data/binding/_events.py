"""Events of a view, read from the lake into arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.define.records import BEGINNING, FOREVER, Events, ViewPlan
from headway.errors import DataError


def load_events(
    plan: ViewPlan, lake: Lake, engine: Engine, versions: Mapping[str, int] | None = None
) -> Events:
    """Read a view's events; ``versions`` pins lake tables, their newest versions are the default.

    Raises
    ------
    DataError
        A join gave several rows for one row of the driving source.
    """
    pinned = {t: (versions or {}).get(t, lake.version(t) or 0) for t in plan.tables}
    files = {t: lake.files(t, v) for t, v in pinned.items()}
    table = engine.query(plan.sql, files).combine_chunks()
    keys = table.select([k.name for k in plan.keys])
    seq = _int64(table, "__seq")
    _refuse_multiplied(plan, seq)
    present = np.ones(table.num_rows, bool)
    for name in keys.column_names:
        present &= np.asarray(keys.column(name).is_valid().combine_chunks())
    known, event, until = (_moments(table, c) for c in ("__known", "__event", "__until"))
    if plan.timeless:
        event = np.full(table.num_rows, BEGINNING)
        known, until = event.copy(), np.full(table.num_rows, FOREVER)
    else:
        present &= (event != BEGINNING) & (known != BEGINNING)
        until[until == BEGINNING] = FOREVER
        present &= until > known
    rank = _rank(table, seq)
    if not present.all():
        chosen = np.flatnonzero(present)
        table = table.take(pa.array(chosen))
        event, known, until, rank = event[chosen], known[chosen], until[chosen], rank[chosen]
    values = {c: _array(table.column(c)) for c in table.column_names if c.startswith("c") and c[1:].isdigit()}
    version = sum(1 + v for v in pinned.values())
    return Events(table.select([k.name for k in plan.keys]), event, known, until, rank, values, version)


def _array(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return pa.concat_arrays([*found.chunks, pa.array([], column.type)]) if isinstance(found, pa.ChunkedArray) else found


def _int64(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(_array(table.column(name)).cast(pa.int64()))


def _moments(table: pa.Table, name: str) -> np.ndarray:
    """Microseconds, BEGINNING for null."""
    raw = _array(table.column(name)).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return np.array(pc.fill_null(raw, BEGINNING))


def _refuse_multiplied(plan: ViewPlan, seq: np.ndarray) -> None:
    ordered = np.sort(seq)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise DataError(
            f"the query of {plan.source!r} gives several rows for one row of its driving source (row {twice[0]} of"
            f" its file, and {len(np.unique(twice)) - 1} others): a joined source has several rows of one key; make it"
            " unique with hw.unique(..., on_fail='quarantine')"
        )


def _rank(table: pa.Table, seq: np.ndarray) -> np.ndarray:
    """Orders ties: by id, then by arrival."""
    ids = [c for c in table.column_names if c.startswith("__id")]
    if not ids:
        return seq
    order = pc.sort_indices(table, sort_keys=[*((c, "ascending") for c in ids), ("__seq", "ascending")])
    rank = np.empty(len(seq), np.int64)
    rank[np.asarray(order)] = np.arange(len(seq))
    return rank
