"""100 000 entities × 50 floats from events in memory into the online store, and the same bytes into plain LMDB."""

from __future__ import annotations

import struct
import sys
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
from harness import ALL, Section, answer, child, figure, median, peak_mb, rounds, warmed

from headway.data.materialize import materialize
from headway.data.online.lmdb import LmdbStore
from headway.define.records import FOREVER, Events, FeaturePlan, Field, ViewPlan

ENTITIES, FLOATS = 100_000, 50
HOUR = 3_600_000_000
COMMIT = 16_384  # rows


def _values(entities: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(entities, FLOATS))


def headway(directory: str, entities: int) -> dict[str, Any]:
    kinds = ("row", "last")
    plan = ViewPlan(
        name="bench",
        fingerprint="ba" * 16,
        source="bench",
        tables=(),
        sql="",
        keys=(Field("entity", "int64"),),
        features=tuple(FeaturePlan(f"f{i}", kinds[i % 2], "double", f"c{i}") for i in range(FLOATS)),
    )
    random = np.random.default_rng(4)
    event = random.integers(0, 24 * HOUR, entities)
    matrix = _values(entities)
    events = Events(
        keys=pa.table({"entity": random.permutation(entities)}),
        event=event,
        known=event,
        until=np.full(entities, FOREVER),
        rank=np.arange(entities),
        values={f"c{i}": pa.array(matrix[:, i].copy()) for i in range(FLOATS)},
        version=1,
    )
    del matrix
    before = peak_mb()
    store = LmdbStore(Path(directory) / "online")
    begin = perf_counter()
    result = materialize(plan, lambda: events, store, 25 * HOUR)
    seconds = perf_counter() - begin
    store.close()
    assert result.written == entities
    return {"seconds": seconds, "before_mb": before}


def floor(directory: str, entities: int) -> dict[str, Any]:
    matrix, order = _values(entities), np.random.default_rng(4).permutation(entities)
    before = peak_mb()
    with lmdb.open(str(Path(directory) / "raw"), map_size=1 << 28) as env:
        begin = perf_counter()
        rows = iter([(struct.pack(">q", key), matrix[key].tobytes()) for key in np.sort(order).tolist()])
        while batch := list(islice(rows, COMMIT)):
            with env.begin(write=True) as txn:
                for key, value in batch:
                    txn.put(key, value)
        seconds = perf_counter() - begin
    return {"seconds": seconds, "before_mb": before}


def measure(directory: Path, quick: bool) -> Section:
    section = Section(
        f"Materialize {ENTITIES} entities × {FLOATS} floats",
        ("", "rows/s", "seconds", "peak memory MB", "of it before MB"),
        note=(
            "headway: events in memory, the latest values of each entity, rows packed and written under the store's "
            f"guard, watermark. Floor: the values as bytes, put in key order. Both commit to disk every {COMMIT} rows."
        ),
    )
    found: dict[str, list[dict[str, Any]]] = {"headway": [], "floor": []}
    for round_ in rounds(1 if quick else 5, 20):
        for name, runs in found.items():
            place = directory / f"{name}{round_}"
            small = place / "small"
            small.mkdir(parents=True)
            runs.append(child(__file__, name, (str(small), 100), str(place), ENTITIES, cores=ALL))
    for name, label in (("headway", "headway"), ("floor", "raw LMDB")):
        seconds, peak, before = (median(r[k] for r in found[name]) for k in ("seconds", "peak_mb", "before_mb"))
        section.rows.append((label, figure(ENTITIES / seconds), figure(seconds), figure(peak), figure(before)))
        if name == "headway":
            section.judge("rows/s", ENTITIES / seconds, "≥ 200 000", ENTITIES / seconds >= 200_000)
            section.judge("peak memory, MB", peak, "< 500", peak < 500)
    return section


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"headway": warmed(headway), "floor": warmed(floor)})
