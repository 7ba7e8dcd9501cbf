"""Online reads in process: headway, Feast, and the stores with nothing around them, on LMDB or SQLite and on Redis."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import lmdb
import numpy as np
from features_report import Answer, Claim
from features_work import (
    FLOATS,
    ROWS,
    SERVICES,
    SHAPES,
    World,
    peer,
    raw_keys,
    raw_matrix,
    values_of,
)
from harness import SERVER, Section, answer, child, figure, median, p99

SIZES = (1, 10, 100)
_WARM = 30  # reads that are checked, and not timed
_FEAST = {"sqlite": "Feast on SQLite", "redis": "Feast on Redis", "vector": "Feast on Redis, precomputed vectors"}
_OURS = {
    "matrix": "headway, matrix",
    "table": "headway, Arrow",
    "lmdb": "by hand: LMDB get, frombuffer",
    "redis": "by hand: Redis MGET, frombuffer",
}

_FORMS = {"matrix": "matrix", "table": "Arrow"}

Reader = Callable[[list[int]], Any]


def read(directory: str, env: str, port: int, entities: int, times: int) -> dict[str, Any]:
    """Seconds of every read, by service, number of entities and contender, who take turns by rounds."""
    import headway as hw

    values = values_of(entities)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with hw.load(directory, env) as project:
        raw = _raw_lmdb(directory) if env == "local" else _raw_redis(port)
        for service in SERVICES:
            by_hand = functools.partial(_by_hand, raw, service == "several")
            readers: dict[str, Reader] = {
                "matrix": _matrix(project, service),
                "table": _table(project, service),
                "floor": by_hand,
            }
            for size in SIZES:
                random = np.random.default_rng(size)
                asked = random.integers(0, entities, (times, size)).tolist()
                taken = found.setdefault(service, {})[str(size)] = {name: [] for name in readers}
                for chosen in asked[:_WARM]:
                    for name, reader in readers.items():
                        if not np.array_equal(_values(reader(chosen)), values[chosen]):
                            raise SystemExit(f"the values that {name} reads are not those written")
                gc.collect()
                for start in range(0, times, 200):
                    for name, reader in readers.items():
                        taken[name] += _timed(reader, asked[start : start + 200])
    return {"seconds": {s: {n: _figures(t) for n, t in sizes.items()} for s, sizes in found.items()}}


def _figures(taken: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [median(seconds), p99(seconds)] for name, seconds in taken.items()}


def _timed(reader: Reader, asked: list[list[int]]) -> list[float]:
    taken = []
    for chosen in asked:
        begin = perf_counter()
        reader(chosen)
        taken.append(perf_counter() - begin)
    return taken


def _matrix(project: Any, service: str) -> Reader:
    """The public call: a float64 matrix of all the service's features, which have been judged for their age."""
    return lambda chosen: project.online.matrix(service, {"entity": chosen})


def _table(project: Any, service: str) -> Callable[[list[int]], Any]:
    """The public call: an Arrow table of keys, features, as-of and states."""
    return lambda chosen: project.online.read(service, {"entity": chosen})


def _values(found: Any) -> np.ndarray:
    """What a contender has read, as a matrix; tables are made one outside of the measured time."""
    if isinstance(found, np.ndarray):
        return found
    return np.column_stack([found.column(n) for n in found.column_names if n.rpartition("__")[2].startswith("f")])


def _raw_lmdb(directory: str) -> Callable[[list[bytes]], list[Any]]:
    env = lmdb.open(str(Path(directory) / "raw"), readonly=True, readahead=False)

    def get(keys: list[bytes]) -> list[Any]:
        with env.begin() as txn:
            return [txn.get(key) for key in keys]

    return get


def _raw_redis(port: int) -> Callable[[list[bytes]], list[Any]]:
    import redis

    return redis.Redis(port=port, db=1).mget


def _by_hand(get: Callable[[list[bytes]], list[Any]], several: bool, chosen: list[int]) -> np.ndarray:
    return raw_matrix(several, get(raw_keys(several, chosen)))


def measure(world: World, quick: bool) -> Answer:
    """Fill all stores, read from them, and say how headway compares."""
    section = Section(
        f"Online reads in process, {FLOATS} floats an entity",
        ("", "store", "views", "entities", "median µs", "p99 µs"),
        note=(
            f"{figure(ROWS)} entities, random ones in each read, one core for the reader, another for Redis. "
            "*Matrix*: `project.online.matrix` on a feature set: float64, NaN for null and for what is too old. "
            "*Arrow*: `project.online.read` on a feature set: a table with the moment and the states of every view. "
            "Feast: `get_online_features(feature service).to_dict()`. By hand: get or MGET and `numpy.frombuffer`. "
            "All must give the values that were written."
        ),
    )
    world.fill()
    times, answer_ = (200, 30) if quick else (1000, 100), Answer([section])
    for kind in ("lmdb", "redis"):
        if kind == "redis" and world.redis is None:
            section.verdicts.append("no redis-server here: Redis is left out")
            continue
        env, port = ("local", 0) if kind == "lmdb" else ("redis", world.redis)
        seconds = child(__file__, "read", str(world.place), env, port, ROWS, times[0], cores=SERVER)["seconds"]
        theirs = _feast(world, kind, times[1])
        for service, label in SERVICES.items():
            for size in SIZES:
                _add(section, answer_, kind, service, label, size, seconds[service][str(size)], theirs)
    return answer_


def _feast(world: World, kind: str, times: int) -> dict[tuple[str, str, int], list[float]]:
    """Median and p99 seconds by set-up, service and number of entities."""
    if world.feast is None:
        return {}
    found = {}
    set_ups = {"sqlite": ""} if kind == "lmdb" else {"redis": "", "vector": "_vector"}
    for set_up, suffix in set_ups.items():
        names = [service + suffix for service in SERVICES]
        online = "sqlite" if kind == "lmdb" else "redis"
        said = peer(world.feast, "feast_read.py", str(world.place), online, names, SIZES, times, cores=SERVER)
        for service, by_size in zip(SERVICES, said["seconds"], strict=True):
            for size, seconds in zip(SIZES, by_size, strict=True):
                found[set_up, service, size] = [median(seconds), p99(seconds)]
    return found


def _add(
    section: Section,
    found: Answer,
    kind: str,
    service: str,
    views: str,
    size: int,
    ours: dict[str, list[float]],
    theirs: dict[tuple[str, str, int], list[float]],
) -> None:
    store = "LMDB" if kind == "lmdb" else "Redis"
    rows = [(_OURS[name].format(store), store, ours[name]) for name in ("matrix", "table")]
    peers = {set_up: figures for (set_up, s, n), figures in theirs.items() if (s, n) == (service, size)}
    rows += [(_FEAST[set_up], "SQLite" if kind == "lmdb" else store, figures) for set_up, figures in peers.items()]
    rows.append((_OURS[kind], store, ours["floor"]))
    for name, at, figures in rows:
        section.rows.append((name, at, views, str(size), *(figure(1e6 * seconds) for seconds in figures)))
    best = min((figures[0] for figures in peers.values()), default=None)
    main = service == "one" and size == 100
    wanted = {"lmdb": 200.0, "redis": 60.0}[kind] if main else None
    if size == 100:
        for name in ("matrix", "table"):
            what = f"in process, {SHAPES[service].format(size)}, {store}, {_FORMS[name]}"
            floor = ours["floor"][0]
            of_floor = 2.0 if main and name == "matrix" else None
            found.claims.append(Claim(what, ours[name][0], best, floor, True, wanted, of_floor, drawn=service == "one"))


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"read": read})
