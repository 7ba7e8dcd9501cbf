"""Materialization: 100 000 entities × 50 floats from where each keeps its history into its online store."""

from __future__ import annotations

import shutil
import struct
import sys
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from features_report import Answer, Claim
from features_work import FLOATS, World, flush, headway_verb, peer, values_of, write_project, write_values
from harness import ALL, Section, answer, child, figure, median, peak_mb, rounds
from materialize import COMMIT

ENTITIES, SOME, FEW = 100_000, 3_000, 100  # SOME: Feast's share of a quick run
_LABELS = {
    "headway-lmdb": ("headway", "LMDB"),
    "headway-redis": ("headway", "Redis"),
    "feast-sqlite": ("Feast", "SQLite"),
    "feast-redis": ("Feast", "Redis"),
    "floor-lmdb": ("by hand: puts of bytes", "LMDB"),
    "floor-redis": ("by hand: MSET of bytes", "Redis"),
}


def headway(directory: str, env: str) -> dict[str, Any]:
    """``materialize`` of a small project first: what loads at the first use is not counted."""
    import headway as hw

    with hw.load(Path(directory) / "few", env) as project:
        project.features.materialize(["whole"])
    with hw.load(Path(directory) / "all", env) as project:
        before = peak_mb()
        begin = perf_counter()
        (result,) = project.features.materialize(["whole"])
        seconds = perf_counter() - begin
    assert result.written == ENTITIES, result
    return {"seconds": seconds, "before_mb": before}


def floor(directory: str, port: int) -> dict[str, Any]:
    """The values as bytes under their keys; ``port`` 0 is LMDB, in key order."""
    import lmdb
    import redis

    rows = iter([(struct.pack(">q", key), row.tobytes()) for key, row in enumerate(values_of(ENTITIES))])
    before = peak_mb()
    if port:
        with redis.Redis(port=port, db=1) as client:
            begin = perf_counter()
            while batch := dict(islice(rows, 1000)):
                client.mset(batch)
            return {"seconds": perf_counter() - begin, "before_mb": before}
    with lmdb.open(str(Path(directory) / "raw"), map_size=1 << 28) as env:
        begin = perf_counter()
        while chunk := list(islice(rows, COMMIT)):
            with env.begin(write=True) as txn:
                for key, value in chunk:
                    txn.put(key, value)
        return {"seconds": perf_counter() - begin, "before_mb": before}


def measure(world: World, quick: bool) -> Answer:
    section = Section(
        f"Materialize {figure(ENTITIES)} entities × {FLOATS} floats",
        ("", "store", "rows/s", "seconds", "peak memory MB", "of it before MB"),
        note=(
            "headway: `project.features.materialize`, from its lake through point-in-time computing and packing into "
            "the store under its guard, watermark last; its one-off ingest of the file is in a row of its own. Feast: "
            "`FeatureStore.materialize` from the Parquet file, which pulls the latest row of an entity alone and "
            "writes in batches. By hand: the values as bytes, from memory. All cores, a process for each run; a small "
            "run before it is not counted. Redis appends to a file that is synced every second; its memory is not "
            "counted."
        ),
    )
    place = world.directory / "materialize"
    _prepare(world, place, section)
    ours = [name for name in _LABELS if "feast" not in name and (world.redis or "redis" not in name)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ours}
    for number in rounds(1 if quick else 3, 25):
        for name in ours:
            runs[name].append(_once(world, place, name, number))
    if world.feast is not None:
        for name, online in (("feast-sqlite", "sqlite"), ("feast-redis", world.redis)):
            if online is not None:
                runs[name] = [_feast(world, place / "all", str(online), SOME if quick else ENTITIES)]
    return _judged(section, runs, quick)


def _prepare(world: World, place: Path, section: Section) -> None:
    seconds = 0.0
    for name, entities in (("few", FEW), ("all", ENTITIES)):
        write_project(place / name, entities, world.redis, name)
        write_values(place / name / "few.parquet", FEW)
        for env in ("local", "redis") if world.redis else ("local",):
            begin = perf_counter()
            headway_verb(place / name, env, "ingest")
            seconds = perf_counter() - begin
    section.rows.append(("headway ingest, the whole command", "", figure(ENTITIES / seconds), figure(seconds), "", ""))


def _once(world: World, place: Path, name: str, number: int) -> dict[str, Any]:
    """One run of headway or the floor into an empty store."""
    who, _, store = name.partition("-")
    if world.redis:
        flush(world.redis)
    if who == "floor":
        target = place / f"raw{number}"
        target.mkdir(exist_ok=True)
        return child(__file__, "floor", str(target), world.redis if store == "redis" else 0, cores=ALL)
    env = "local" if store == "lmdb" else "redis"
    for project in ("few", "all"):
        _forget(place / project, env)
    return child(__file__, "headway", str(place), env, cores=ALL)


def _forget(project: Path, env: str) -> None:
    """Empty the embedded online store of a project."""
    for found in (project / ".headway" / env).glob("online*"):
        shutil.rmtree(found)


def _feast(world: World, place: Path, online: str, rows: int) -> dict[str, Any]:
    assert world.feast is not None
    if rows < ENTITIES:
        write_values(place / "some.parquet", rows)
    file = "some.parquet" if rows < ENTITIES else "values.parquet"
    return peer(world.feast, "feast_materialize.py", str(place), file, online, FLOATS, cores=ALL) | {"rows": rows}


def _judged(section: Section, runs: dict[str, list[dict[str, Any]]], quick: bool) -> Answer:
    rate: dict[str, float] = {}
    peak: dict[str, float] = {}
    for name, (label, store) in _LABELS.items():
        if not runs.get(name):
            continue
        rows = runs[name][0].get("rows", ENTITIES)
        seconds, peak[name], before = (median(r[k] for r in runs[name]) for k in ("seconds", "peak_mb", "before_mb"))
        rate[name] = rows / seconds
        label += f", {figure(rows)} rows" if rows != ENTITIES else ""
        section.rows.append((label, store, figure(rate[name]), figure(seconds), figure(peak[name]), figure(before)))
    found = Answer([section])
    for store, other, title in (("lmdb", "sqlite", "LMDB"), ("redis", "redis", "Redis")):
        if f"headway-{store}" in rate:
            ours, theirs = rate[f"headway-{store}"], rate.get(f"feast-{other}")
            by_hand = rate[f"floor-{store}"]
            found.claims.append(Claim(f"materialize 100 k × 50, {title}", ours, theirs, by_hand, slow=False))
    section.judge("rows/s into LMDB", rate["headway-lmdb"], "≥ 200 000", rate["headway-lmdb"] >= 200_000)
    for store in ("lmdb", "redis"):
        if f"headway-{store}" in peak:
            value = peak[f"headway-{store}"]
            section.judge(f"peak memory, MB, {_LABELS[f'headway-{store}'][1]}", value, "< 500", value < 500)
    if quick and "feast-sqlite" in rate:
        section.verdicts.append(f"Feast has materialized {figure(SOME)} rows only")
    return found


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"headway": headway, "floor": floor})
