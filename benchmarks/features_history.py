"""Historical features, from Parquet files to a Parquet file: headway, Feast's two local engines, DuckDB and Polars.

Labels meet the latest earlier row of three views; of rows with one event time the one that arrived last counts, and a
row older than the ttl gives nulls. Moments are whole minutes, so that many rows tie, with each other and with labels.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from features_report import Answer, Claim
from features_work import LONGEST, World, headway_verb, peer
from harness import ALL, Section, answer, child, figure, median, rounds

VIEWS, FLOATS, TTL_DAYS = 3, 5, 3
ROWS_PER_KEY, SMALL = 20, 1000
MINUTE = 60_000_000
SPAN = 30 * 1440  # minutes
BEGIN = 28_400_000 * MINUTE
NAMES = [f"v{view}_{i}" for view in range(VIEWS) for i in range(FLOATS)]

_TOML = '[project]\nname = "history"\ndefinitions = "history"\n\n[env.local]\nclock = "2024-06-01T00:00:00Z"\n'
_DEFINITIONS = """
import headway as hw

key = hw.Entity("key", key="key")
sources = [hw.Source(f"v{{n}}", path=f"v{{n}}.parquet", timestamp="ts") for n in range({views})]
views = [
    hw.FeatureView(
        f"v{{n}}", source=sources[n], entity=key, ttl="{ttl}d",
        features=dict(zip(names, names)),
    )
    for n in range({views})
    for names in [[f"v{{n}}_{{i}}" for i in range({floats})]]
]
"""
_LABELS = {
    "headway": "headway",
    "dask": "Feast, its default engine (Dask)",
    "duckdb": "Feast on DuckDB",
    "by_duckdb": "by hand: DuckDB ASOF",
    "by_polars": "by hand: Polars join_asof",
}
_FEAST = ("dask", "duckdb")

Times = dict[tuple[str, int, int], float]  # seconds by contender, labels and rows


def make(directory: str, labels: list[int], rows: int) -> dict[str, Any]:
    """A project over three views of so many rows, and files of labels.

    ``created`` is the order of arrival, as Feast wants to be told it.
    """
    random = np.random.default_rng(rows)
    place = Path(directory)
    (place / "history").mkdir(parents=True)
    (place / "headway.toml").write_text(_TOML)
    definitions = _DEFINITIONS.format(views=VIEWS, floats=FLOATS, ttl=TTL_DAYS)
    (place / "history" / "__init__.py").write_text(definitions)
    keys = max(1, rows // ROWS_PER_KEY)
    utc = pa.timestamp("us", tz="UTC")

    def columns(count: int) -> dict[str, pa.Array]:
        times = BEGIN + random.integers(0, SPAN, count) * MINUTE
        return {"key": pa.array(random.integers(0, keys, count)), "ts": pa.array(times).view(utc)}

    for count in labels:
        asked = {"label": pa.array(np.arange(count)), **columns(count)}
        pq.write_table(pa.table(asked), _labels(place, count), compression="snappy")
    arrived = pa.array(BEGIN + np.arange(rows)).view(utc)
    for view in range(VIEWS):
        found = {**columns(rows), "created": arrived}
        found |= {f"v{view}_{i}": pa.array(random.normal(size=rows)) for i in range(FLOATS)}
        pq.write_table(pa.table(found), place / f"v{view}.parquet", compression="snappy")
    return {}


def _labels(place: Path, count: int) -> Path:
    return place / f"labels-{count}.parquet"


def headway(directory: str, labels: int) -> float:
    import headway as hw

    place = Path(directory)
    with hw.load(place) as project:
        views = [f"v{view}" for view in range(VIEWS)]
        begin = perf_counter()
        project.features.historical_file(_labels(place, labels), views, place / "headway.parquet", timestamp="ts")
        return perf_counter() - begin


def by_duckdb(directory: str, labels: int) -> float:
    place = Path(directory)
    joins, chosen = [], []
    for view in range(VIEWS):
        names = [f"v{view}_{i}" for i in range(FLOATS)]
        latest = ", ".join(f"max_by({name}, created) as {name}" for name in names)
        rows = f"select key, ts, {latest} from '{place}/v{view}.parquet' group by all"
        joins.append(f"asof left join ({rows}) r{view} on l.key = r{view}.key and l.ts > r{view}.ts")
        young = f"r{view}.ts >= l.ts - interval {TTL_DAYS} day"
        chosen += [f"case when {young} then r{view}.{name} end as {name}" for name in names]
    query = f"select l.*, {', '.join(chosen)} from '{_labels(place, labels)}' l {' '.join(joins)}"
    begin = perf_counter()
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"copy ({query}) to '{place}/by_duckdb.parquet' (format parquet, compression snappy)")
    return perf_counter() - begin


def by_polars(directory: str, labels: int) -> float:
    place = Path(directory)
    begin = perf_counter()
    joined = pl.scan_parquet(_labels(place, labels)).sort("ts")
    for view in range(VIEWS):
        names = [f"v{view}_{i}" for i in range(FLOATS)]
        rows = pl.scan_parquet(place / f"v{view}.parquet").sort("ts", "created").select("key", "ts", *names)
        joined = joined.join_asof(
            rows,
            on="ts",
            by="key",
            strategy="backward",
            tolerance=f"{TTL_DAYS}d",
            allow_exact_matches=False,
            check_sortedness=False,
        )
    joined.sink_parquet(place / "by_polars.parquet", compression="snappy")
    return perf_counter() - begin


def timed(task: Callable[[str, int], float]) -> Callable[[str, str, int], dict[str, Any]]:
    """The task on little data first, which is not counted, and then on much."""

    def run(small: str, directory: str, labels: int) -> dict[str, Any]:
        task(small, SMALL)
        return {"seconds": task(directory, labels)}

    return run


def compare(directory: str, contenders: list[str]) -> dict[str, Any]:
    """For each result how many labels it lacks, and how many rows are not those of DuckDB by hand."""
    found: dict[str, Any] = {}
    place = Path(directory)
    with duckdb.connect() as connection:
        connection.execute("set memory_limit = '6GB'")
        for name in contenders:
            lead = {column: f"{column[:2]}__" if name == "headway" else "" for column in NAMES}
            unequal = " or ".join(f"a.{column} is distinct from b.{lead[column]}{column}" for column in NAMES)
            row = connection.execute(
                f"select count(*), count(b.label), count(*) filter (b.label is not null and ({unequal})), "
                f"count(a.v0_0) "
                f"from '{place}/by_duckdb.parquet' a left join '{place}/{name}.parquet' b using (label)"
            ).fetchone()
            assert row is not None
            found[name] = {"missing": row[0] - row[1], "different": row[2], "share": row[3] / row[0]}
    return found


def measure(world: World, quick: bool) -> Answer:
    sizes = {50_000: [20_000]} if quick else {1_000_000: [100_000, 1_000_000], 10_000_000: [10_000_000]}
    section = Section(
        f"Historical features: labels × {VIEWS} views × {FLOATS} latest features with ttl, files to file",
        ("", "labels", "rows a view", "seconds", "peak memory MB", "labels missing", "rows that differ"),
        note=(
            "Parquet in, Parquet out, all cores, a process for each run; imports and a first small run are not "
            "counted. Same rules for all: the latest row strictly before the label, of equal times the last to arrive, "
            f"null beyond the ttl of {TTL_DAYS} days. headway: `project.features.historical_file` over its lake, into "
            "which the files were ingested once before. Feast: `get_historical_features(…).to_df()`; its join includes "
            "the label's own moment, so it is asked for 1 µs before. Missing and different are in comparison with "
            "DuckDB by hand. No memory limits are set beyond headway's own defaults."
        ),
    )
    found = Answer([section])
    small = world.directory / "small-history"
    child(__file__, "make", str(small), [SMALL], SMALL)
    headway_verb(small, "local", "ingest")
    times: Times = {}
    for rows, asked in sizes.items():
        place = world.directory / f"history-{rows}"
        child(__file__, "make", str(place), asked, rows, longest=LONGEST)
        headway_verb(place, "local", "ingest")
        for labels in asked:
            _one_size(world, found, times, (small, place), (labels, rows), quick)
        shutil.rmtree(place)
    if not quick:
        _judge_growth(section, times)
    return found


def _one_size(
    world: World, found: Answer, times: Times, places: tuple[Path, Path], size: tuple[int, int], quick: bool
) -> None:
    """Measure all contenders with so many labels and rows, compare what they give, and write it down."""
    (section,), (labels, rows) = found.sections, size
    contenders = [name for name in _LABELS if name not in _FEAST or (world.feast and rows < 10_000_000)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for number in rounds(1 if quick or rows > 1_000_000 else 3, 15):
        for name in contenders:
            if name not in _FEAST or number == 0:
                runs[name].append(_once(world, name, *places, labels))
    compared = child(__file__, "compare", str(places[1]), contenders, longest=LONGEST)
    for name in contenders:
        times[name, labels, rows] = median(run["seconds"] for run in runs[name])
        peak = median(run["peak_mb"] for run in runs[name])
        cells = figure(times[name, labels, rows]), figure(peak)
        wrong = (str(compared[name][what]) for what in ("missing", "different"))
        section.rows.append((_LABELS[name], figure(labels), figure(rows), *cells, *wrong))
    found.claims.append(_claim(times, labels, rows))
    ratio, share = times["headway", labels, rows] / times["by_polars", labels, rows], compared["headway"]["share"]
    what = f"{figure(labels)} labels × {figure(rows)} rows, {share:.0%} of the labels with values"
    section.verdicts.append(f"{what}: headway ÷ Polars **{figure(ratio)}**")


def _judge_growth(section: Section, times: Times) -> None:
    def grown(name: str) -> float:
        return times[name, 10_000_000, 10_000_000] / times[name, 1_000_000, 1_000_000]

    section.judge(
        "growth of headway's time at 10 × the labels and rows", grown("headway"), "≤ 12", grown("headway") <= 12
    )
    floors = {"DuckDB": grown("by_duckdb"), "Polars": grown("by_polars")}
    section.verdicts += [f"growth of {name}'s: **{figure(times_)}**" for name, times_ in floors.items()]


def _once(world: World, name: str, small: Path, place: Path, labels: int) -> dict[str, Any]:
    if name in _FEAST:
        assert world.feast is not None
        arguments = ((str(small), SMALL), (str(place), labels), name, VIEWS, FLOATS, TTL_DAYS)
        return peer(world.feast, "feast_history.py", *arguments, cores=ALL)
    return child(__file__, name, str(small), str(place), labels, cores=ALL, longest=LONGEST)


def _claim(times: Times, labels: int, rows: int) -> Claim:
    def of(name: str) -> float | None:
        return times.get((name, labels, rows))

    best = min((s for s in (of("dask"), of("duckdb")) if s is not None), default=None)
    work = f"historical, {_short(labels)} labels × {VIEWS} × {_short(rows)} rows"
    ours, floor = times["headway", labels, rows], times["by_duckdb", labels, rows]
    return Claim(work, ours, best, floor, True, None, 1.3 if labels == rows else None)


def _short(count: int) -> str:
    return f"{count // 1_000_000} M" if count >= 1_000_000 else f"{count // 1000} k"


if __name__ == "__main__" and len(sys.argv) > 1:
    runs = {task.__name__: timed(task) for task in (headway, by_duckdb, by_polars)}
    answer({"make": make, "compare": compare, **runs})
