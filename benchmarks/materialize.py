"""100 000 entities × 50 floats from events in memory into the online store on LMDB and on Redis, and the same bytes as
they are into plain LMDB and Redis."""

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
import redis
from features_work import redis_server
from harness import ALL, Section, answer, child, figure, median, peak_mb, rounds, warmed

from headway.data.materialize import materialize
from headway.data.online.lmdb import LmdbStore
from headway.data.online.redis import RedisStore
from headway.define.records import FOREVER, Events, FeaturePlan, Field, ViewPlan

ENTITIES, FLOATS = 100_000, 50
HOUR = 3_600_000_000
COMMIT = 16_384  # rows
ROWS_OF_MSET = 1000


def _values(entities: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(entities, FLOATS))


def headway(directory: str, port: int | None, entities: int) -> dict[str, Any]:
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
    store = LmdbStore(Path(directory) / "online") if port is None else _redis(port)
    begin = perf_counter()
    result = materialize(plan, lambda: events, store, 25 * HOUR)
    seconds = perf_counter() - begin
    store.close()
    assert result.written == entities
    return {"seconds": seconds, "before_mb": before}


def _redis(port: int) -> RedisStore:
    """An empty store."""
    store = RedisStore(f"redis://127.0.0.1:{port}/0", namespace="bench:local")
    for prefix in store.prefixes():
        store.drop(prefix)
    return store


def floor(directory: str, port: int | None, entities: int) -> dict[str, Any]:
    matrix, order = _values(entities), np.random.default_rng(4).permutation(entities)
    before = peak_mb()
    if port is not None:
        return {"seconds": _mset(port, matrix, order), "before_mb": before}
    with lmdb.open(str(Path(directory) / "raw"), map_size=1 << 28) as env:
        begin = perf_counter()
        rows = iter([(struct.pack(">q", key), matrix[key].tobytes()) for key in np.sort(order).tolist()])
        while batch := list(islice(rows, COMMIT)):
            with env.begin(write=True) as txn:
                for key, value in batch:
                    txn.put(key, value)
        seconds = perf_counter() - begin
    return {"seconds": seconds, "before_mb": before}


def _mset(port: int, matrix: np.ndarray, order: np.ndarray) -> float:
    with redis.Redis(port=port, db=1) as client:
        client.flushdb()
        begin = perf_counter()
        rows = iter([(struct.pack(">q", key), matrix[key].tobytes()) for key in order.tolist()])
        while batch := dict(islice(rows, ROWS_OF_MSET)):
            client.mset(batch)
        return perf_counter() - begin


def measure(directory: Path, quick: bool) -> Section:
    section = Section(
        f"Materialize {ENTITIES} entities × {FLOATS} floats",
        ("", "store", "rows/s", "seconds", "peak memory MB", "of it before MB"),
        note=(
            "headway: events in memory, the latest values of each entity, rows packed and written under the store's "
            "guard, watermark. By hand: the values as bytes, put into LMDB in key order, or into Redis with MSET, "
            f"{ROWS_OF_MSET} rows at a time. LMDB is committed to disk every {COMMIT} rows; Redis keeps an append-only "
            "file that is synced every second, and is on one of the cores, too; its memory is not counted."
        ),
    )
    with redis_server(directory) as server:
        ports = {"LMDB": None} if server is None else {"LMDB": None, "Redis": server}
        found: dict[tuple[str, str], list[dict[str, Any]]] = {(n, s): [] for s in ports for n in ("headway", "floor")}
        for round_ in rounds(1 if quick else 5, 30):
            for (name, store), runs in found.items():
                place = directory / f"{name}{store}{round_}"
                small = place / "small"
                small.mkdir(parents=True)
                port = ports[store]
                runs.append(child(__file__, name, (str(small), port, 100), str(place), port, ENTITIES, cores=ALL))
    for (name, store), runs in found.items():
        seconds, peak, before = (median(r[k] for r in runs) for k in ("seconds", "peak_mb", "before_mb"))
        figures = (figure(value) for value in (ENTITIES / seconds, seconds, peak, before))
        section.rows.append(("headway" if name == "headway" else "by hand", store, *figures))
        if name == "headway":
            section.judge(f"{store}, rows/s", ENTITIES / seconds, "≥ 200 000", ENTITIES / seconds >= 200_000)
            section.judge(f"{store}, peak memory, MB", peak, "< 500", peak < 500)
    return section


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"headway": warmed(headway), "floor": warmed(floor)})
