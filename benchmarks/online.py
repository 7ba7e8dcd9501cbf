"""Reading 1, 10 and 100 entities × 50 floats in process, of one view and of five, from LMDB and from Redis: headway and
the store with nothing around it."""

from __future__ import annotations

import contextlib
import gc
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import redis
from features_work import redis_server
from harness import SERVER, Section, answer, child, figure, median, p99

from headway.data.online import OnlineReader, OnlineStore, Watermark, pack, write_watermark
from headway.data.online.lmdb import LmdbStore
from headway.data.online.redis import RedisStore
from headway.define.records import FeaturePlan, Field, Snapshot, ViewPlan

ENTITIES, FLOATS, VIEWS = 20_000, 50, 5
HOUR = 3_600_000_000
AS_OF = 475_000 * HOUR
SIZES = (100, 10, 1)

Get = Callable[[list[bytes]], list[Any]]


def plan_of(floats: int, number: int = 0) -> ViewPlan:
    """A view of hourly means, one row per entity."""
    features = tuple(FeaturePlan(f"f{i}", "mean", "double", f"c{i}", 24 * HOUR) for i in range(floats))
    return ViewPlan(
        name="bench",
        fingerprint=f"{0xBE + number:02x}" * 16,
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
    """The same values into a store of headway's on LMDB and a plain LMDB environment."""
    store = LmdbStore(directory / "online")
    put(store, plan, values)
    store.close()
    with lmdb.open(str(directory / "raw"), map_size=1 << 30) as env, env.begin(write=True) as txn:
        for entity, row in enumerate(values):
            txn.put(struct.pack(">q", entity), row.tobytes())


def put(store: OnlineStore, plan: ViewPlan, values: np.ndarray) -> None:
    """A refresh of the view."""
    keys = pa.table({"entity": np.arange(len(values))})
    columns = pa.table({f.name: values[:, i] for i, f in enumerate(plan.features)})
    for rows in pack(plan, Snapshot(keys, columns, AS_OF, 1)):
        store.put_many(rows)
    write_watermark(store, plan, Watermark(AS_OF, 1))


def read(directory: str, port: int | None, rounds: int, reads: int) -> dict[str, Any]:
    """Median and 99th percentile of the seconds of a read, by store, views, entities and contender, by turns."""
    plans, values = [plan_of(FLOATS, i) for i in range(VIEWS)], values_of(ENTITIES, FLOATS)
    raw = [struct.pack(">Bq", view, entity) for view in range(VIEWS) for entity in range(ENTITIES)]
    found = {}
    with contextlib.ExitStack() as stack:
        stores: dict[str, tuple[OnlineStore, Get]] = {"LMDB": _lmdb(Path(directory), raw, values, stack)}
        if port is not None:
            stores["Redis"] = _redis(port, raw, values, stack)
        for name, (store, get) in stores.items():
            for plan in plans:
                put(store, plan, values)
            for views in (1, VIEWS):
                contenders = {"headway": _headway(store, plans[:views]), "floor": partial(_floor, get, views)}
                found[f"{name} {views}"] = _compare(contenders, values, views, rounds, reads)
            store.close()
    return {"seconds": found}


def _lmdb(
    directory: Path, raw: list[bytes], values: np.ndarray, stack: contextlib.ExitStack
) -> tuple[OnlineStore, Get]:
    env = stack.enter_context(lmdb.open(str(directory / "raw"), map_size=1 << 30))
    with env.begin(write=True) as txn:
        for i, key in enumerate(raw):
            txn.put(key, values[i % ENTITIES].tobytes())

    def get(keys: list[bytes]) -> list[Any]:
        with env.begin() as txn:
            return [txn.get(key) for key in keys]

    return LmdbStore(directory / "online"), get


def _redis(port: int, raw: list[bytes], values: np.ndarray, stack: contextlib.ExitStack) -> tuple[OnlineStore, Get]:
    client = stack.enter_context(redis.Redis(port=port, db=1))
    for start in range(0, len(raw), 1000):
        client.mset({key: values[i % ENTITIES].tobytes() for i, key in enumerate(raw[start : start + 1000], start)})
    return RedisStore(f"redis://127.0.0.1:{port}/0", namespace="bench:local"), client.mget  # type: ignore[return-value]


def _headway(store: OnlineStore, plans: list[ViewPlan]) -> Callable[[list[int]], list[np.ndarray]]:
    reader = OnlineReader(store)
    bound = [reader.bind(plan) for plan in plans]

    def ask(entities: list[int]) -> list[np.ndarray]:
        asked = [(each, each.encode({"entity": entities})) for each in bound]
        return [columns.floats() for columns in reader.lookup_many(asked, AS_OF + 1)]

    return ask


def _floor(get: Get, views: int, entities: list[int]) -> list[np.ndarray]:
    encode = struct.Struct(">Bq").pack
    blobs = get([encode(view, entity) for view in range(views) for entity in entities])
    return list(np.frombuffer(b"".join(blobs)).reshape(views, -1, FLOATS))


def _compare(
    contenders: dict[str, Callable[[list[int]], list[np.ndarray]]],
    values: np.ndarray,
    views: int,
    rounds: int,
    reads: int,
) -> dict[str, dict[str, list[float]]]:
    random = np.random.default_rng(1)
    times = {}
    for size in SIZES:
        asked = random.integers(0, ENTITIES, (reads, size)).tolist()
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for entities in asked[:50]:
            for contender in contenders.values():
                answers = contender(entities)
                if len(answers) != views or not all(np.array_equal(one, values[entities]) for one in answers):
                    raise SystemExit("the values read are not those written")
        gc.collect()
        for _ in range(rounds):
            for name, contender in contenders.items():
                found[name] += _timed(contender, asked)
        times[str(size)] = {name: [median(taken), p99(taken)] for name, taken in found.items()}
    return times


def _timed(contender: Callable[[list[int]], Any], asked: list[list[int]]) -> list[float]:
    taken = []
    for entities in asked:
        begin = perf_counter()
        contender(entities)
        taken.append(perf_counter() - begin)
    return taken


def measure(directory: Path, quick: bool) -> Section:
    with redis_server(directory) as port:
        times = (3, 200) if quick else (7, 500)
        seconds = child(__file__, "read", str(directory), port, *times, cores=SERVER)["seconds"]
    section = Section(
        f"Online read in process, {FLOATS} floats an entity and view",
        ("", "store", "views", "entities", "median µs", "p99 µs"),
        note=(
            f"{ENTITIES} entities, random ones per read, one core for the reader and another for Redis. headway: keys "
            "encoded, rows looked up with the views' watermarks, staleness judged, a float64 matrix for each view. By "
            "hand: get, or MGET with redis-py, and `numpy.frombuffer`."
        ),
    )
    for place, sizes in seconds.items():
        store, views = place.split()
        for size, found in sizes.items():
            for name, label in (("headway", "headway"), ("floor", "by hand")):
                section.rows.append((label, store, views, size, *(figure(1e6 * s) for s in found[name])))
            ratio = found["headway"][0] / found["floor"][0]
            what = f"{store}, {views} {'view' if views == '1' else 'views'}, {size} entities: headway ÷ by hand"
            if size == "100" and views == "1":
                section.judge(what, ratio, "≤ 2", ratio <= 2)
            else:
                section.verdicts.append(f"{what}: **{figure(ratio)}**")
    return section


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"read": read})
