"""Reading 1 and 100 entities × 50 floats in process: headway's reader, and LMDB with nothing around it."""

from __future__ import annotations

import gc
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
from harness import SERVER, Section, answer, child, figure, median, p99

from headway.data.online import OnlineReader, Watermark, pack, write_watermark
from headway.data.online.lmdb import LmdbStore
from headway.define.records import FeaturePlan, Field, Snapshot, ViewPlan

ENTITIES, FLOATS = 20_000, 50
HOUR = 3_600_000_000
AS_OF = 475_000 * HOUR


def plan_of(floats: int) -> ViewPlan:
    """A view of hourly means, one row per entity."""
    features = tuple(FeaturePlan(f"f{i}", "mean", "double", f"c{i}", 24 * HOUR) for i in range(floats))
    return ViewPlan(
        name="bench",
        fingerprint="be" * 16,
        source="bench",
        tables=(),
        sql="",
        keys=(Field("entity", "int64"),),
        features=features,
        refresh=HOUR,
    )


def values_of(entities: int, floats: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(entities, floats))


def fill(directory: Path, plan: ViewPlan, values: np.ndarray) -> None:
    """The same values into a store of headway's and a plain LMDB environment."""
    keys = pa.table({"entity": np.arange(len(values))})
    columns = pa.table({f.name: values[:, i] for i, f in enumerate(plan.features)})
    store = LmdbStore(directory / "online")
    for rows in pack(plan, Snapshot(keys, columns, AS_OF, 1)):
        store.put_many(rows)
    write_watermark(store, plan, Watermark(AS_OF, 1))
    store.close()
    with lmdb.open(str(directory / "raw"), map_size=1 << 30) as env, env.begin(write=True) as txn:
        for entity, row in enumerate(values):
            txn.put(struct.pack(">q", entity), row.tobytes())


def read(directory: str, rounds: int, reads: int) -> dict[str, Any]:
    """Seconds of every read, by contender and number of entities; they take turns by rounds."""
    plan, values = plan_of(FLOATS), values_of(ENTITIES, FLOATS)
    fill(Path(directory), plan, values)
    store = LmdbStore(Path(directory) / "online", readonly=True)
    reader = OnlineReader(store)
    bound = reader.bind(plan)
    env = lmdb.open(str(Path(directory) / "raw"), readonly=True, readahead=False)
    encode = struct.Struct(">q").pack

    def headway(entities: list[int]) -> np.ndarray:
        return reader.lookup(bound, bound.encode({"entity": entities}), AS_OF + 1).floats()

    def floor(entities: list[int]) -> np.ndarray:
        with env.begin() as txn:
            blobs = [txn.get(encode(entity)) for entity in entities]
        return np.frombuffer(b"".join(blobs)).reshape(-1, FLOATS)

    contenders: dict[str, Callable[[list[int]], np.ndarray]] = {"headway": headway, "floor": floor}
    random = np.random.default_rng(1)
    times: dict[str, dict[str, list[float]]] = {}
    for size in (100, 1):
        asked = random.integers(0, ENTITIES, (reads, size)).tolist()
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for entities in asked[:50]:
            for contender in contenders.values():
                if not np.array_equal(contender(entities), values[entities]):
                    raise SystemExit("the values read are not those written")
        gc.collect()
        for _ in range(rounds):
            for name, contender in contenders.items():
                found[name] += _timed(contender, asked)
        times[str(size)] = found
    store.close()
    return {"seconds": {size: {n: [median(t), p99(t)] for n, t in found.items()} for size, found in times.items()}}


def _timed(contender: Callable[[list[int]], np.ndarray], asked: list[list[int]]) -> list[float]:
    taken = []
    for entities in asked:
        begin = perf_counter()
        contender(entities)
        taken.append(perf_counter() - begin)
    return taken


def measure(directory: Path, quick: bool) -> Section:
    seconds = child(__file__, "read", str(directory), 3 if quick else 15, 300 if quick else 1000, cores=SERVER)[
        "seconds"
    ]
    section = Section(
        f"Online read in process, {FLOATS} floats an entity",
        ("", "entities", "median µs", "p99 µs"),
        note=(
            f"{ENTITIES} entities in LMDB, random ones per read, one core. headway: keys encoded, rows looked up with "
            "the view's watermark, staleness judged, a float64 matrix. Floor: LMDB get and `numpy.frombuffer`."
        ),
    )
    for size, found in seconds.items():
        for name, label in (("headway", "headway"), ("floor", "raw LMDB")):
            section.rows.append((label, size, *(figure(1e6 * s) for s in found[name])))
        ratio = found["headway"][0] / found["floor"][0]
        if size == "100":
            section.judge("100 entities, headway ÷ raw LMDB", ratio, "≤ 2", ratio <= 2)
        else:
            section.verdicts.append(f"1 entity, headway ÷ raw LMDB: **{figure(ratio)}**")
    return section


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"read": read})
