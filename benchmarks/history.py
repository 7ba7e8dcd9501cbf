"""The point-in-time join, from Parquet files to a Parquet file: headway, hand-written DuckDB, and Polars.

Labels meet the latest earlier row of three views; of rows with one event time the one that arrived last counts, and a
row older than the ttl gives nulls. All three must give the same values. headway keeps to a memory limit; the others
have none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from harness import ALL, Section, answer, child, figure, median, rounds, warmed

from headway.data.binding import EventParts
from headway.data.compute import PartedView
from headway.data.engine import Engine, Memory, Workspace
from headway.data.lake import Lake
from headway.define.records import FeaturePlan, Field, ViewPlan, ViewUse
from headway.orchestrate._parts import Parts
from headway.orchestrate.history_file import history_file

VIEWS, FLOATS = 3, 5
MEMORY = "4GB"
ROWS_PER_KEY = 20
MINUTE = 60_000_000
SPAN = 30 * 1440  # minutes; so coarse that rows tie with each other, and labels with rows
BEGIN = 28_400_000 * MINUTE
TTL_DAYS = 3
UTC = pa.timestamp("us", tz="UTC")


def make(directory: str, rows: int) -> dict[str, Any]:
    """Labels and views of ``rows`` rows each; the columns beginning with ``__`` are those that the lake adds."""
    random = np.random.default_rng(rows)
    place = Path(directory)
    keys = max(1, rows // ROWS_PER_KEY)

    def columns(count: int) -> dict[str, pa.Array]:
        times = BEGIN + random.integers(0, SPAN, count) * MINUTE
        return {"key": pa.array(random.integers(0, keys, count)), "at": pa.array(times).view(UTC)}

    labels = {"label": pa.array(np.arange(rows)), **columns(rows)}
    pq.write_table(pa.table(labels), place / "labels.parquet", compression="snappy")
    for view in range(VIEWS):
        found = columns(rows)
        events = {
            "key": found["key"],
            "__event": found["at"],
            "__known": found["at"],
            "__seq": pa.array(np.arange(rows)),
        }
        events |= {f"v{view}_{i}": pa.array(random.normal(size=rows)) for i in range(FLOATS)}
        pq.write_table(pa.table(events), place / f"v{view}.parquet", compression="snappy")
    return {}


class _Files:
    """A lake that is one Parquet file per table."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def version(self, table: str) -> int:  # noqa: ARG002 - a lake's method
        return 0

    def files(self, table: str, version: int | None = None) -> list[str]:  # noqa: ARG002 - a lake's method
        return [str(self._place / f"{table}.parquet")]


def _plan(view: int) -> ViewPlan:
    columns = ", ".join(f"v{view}_{i} as __c{i}" for i in range(FLOATS))
    return ViewPlan(
        name=f"v{view}",
        fingerprint=f"{view:032x}",
        source=f"v{view}",
        tables=(f"v{view}",),
        sql=f'select key, __event, __known, __seq, {columns} from "v{view}"',
        keys=(Field("key", "int64"),),
        features=tuple(FeaturePlan(f"v{view}_{i}", "row", "double", f"__c{i}") for i in range(FLOATS)),
        ttl=TTL_DAYS * 1440 * MINUTE,
    )


class _Environment:
    """What of a project's parts the work needs."""

    def __init__(self, place: Path) -> None:
        memory = Memory.of(MEMORY)
        self.lake = cast("Lake", _Files(place))
        self.workspace = Workspace(place / "spill", memory.rows)
        self.engine = Engine(f"{memory.sql >> 20}MiB", temp_directory=self.workspace.scratch.new("sql"))

    def view(self, plan: ViewPlan) -> PartedView:
        return PartedView(plan, EventParts.open(plan, self.lake, self.engine, self.workspace))

    def progress(self, what: str, done: int, total: int) -> None:
        """Nobody watches."""

    def close(self) -> None:
        self.engine.close()
        self.workspace.close()


def headway(directory: str) -> dict[str, Any]:
    place = Path(directory)
    uses = [
        ViewUse(f"v{view}", _plan(view), {"key": "key"}, tuple(f"v{view}_{i}" for i in range(FLOATS)))
        for view in range(VIEWS)
    ]
    begin = perf_counter()
    environment = _Environment(place)
    parts, output = cast("Parts", environment), place / "headway.parquet"
    history_file(parts, uses, place / "labels.parquet", output, timestamp="at", timezone=None)
    environment.close()
    return {"seconds": perf_counter() - begin}


def by_duckdb(directory: str) -> dict[str, Any]:
    place = Path(directory)
    joins, chosen = [], []
    for view in range(VIEWS):
        names = [f"v{view}_{i}" for i in range(FLOATS)]
        latest = ", ".join(f"max_by({name}, __seq) as {name}" for name in names)
        rows = f"select key, __event, {latest} from '{place}/v{view}.parquet' group by all"
        joins.append(f"asof left join ({rows}) r{view} on l.key = r{view}.key and l.at > r{view}.__event")
        young = f"r{view}.__event >= l.at - interval {TTL_DAYS} day"
        chosen += [f"case when {young} then r{view}.{name} end as {name}" for name in names]
    query = f"select l.*, {', '.join(chosen)} from '{place}/labels.parquet' l {' '.join(joins)}"
    begin = perf_counter()
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"copy ({query}) to '{place}/duckdb.parquet' (format parquet, compression snappy)")
    return {"seconds": perf_counter() - begin}


def by_polars(directory: str) -> dict[str, Any]:
    place = Path(directory)
    begin = perf_counter()
    joined = pl.scan_parquet(place / "labels.parquet").sort("at")
    for view in range(VIEWS):
        names = [f"v{view}_{i}" for i in range(FLOATS)]
        rows = pl.scan_parquet(place / f"v{view}.parquet").sort("__event", "__seq")
        joined = joined.join_asof(
            rows.select("key", pl.col("__event").alias("at"), *names),
            on="at",
            by="key",
            strategy="backward",
            tolerance=f"{TTL_DAYS}d",
            allow_exact_matches=False,
            check_sortedness=False,
        )
    joined.sink_parquet(place / "polars.parquet", compression="snappy")
    return {"seconds": perf_counter() - begin}


def _ours(name: str) -> str:
    """What headway calls a column: with the view before it."""
    return f"{name[:2]}__{name}" if name.startswith("v") else name


def compare(directory: str) -> dict[str, Any]:
    """How many rows of either other result are not the same in headway's."""
    names = ["label", *(f"v{view}_{i}" for view in range(VIEWS) for i in range(FLOATS))]
    different = {}
    with duckdb.connect() as connection:
        for other in ("duckdb", "polars"):
            unequal = " or ".join(f"a.{_ours(name)} is distinct from b.{name}" for name in names)
            row = connection.execute(
                f"select count(*) from '{directory}/headway.parquet' a full join '{directory}/{other}.parquet' b "
                f"using (label) where {unequal}"
            ).fetchone()
            different[other] = row[0] if row else -1
        row = connection.execute(
            f"select count(*), count({_ours('v0_0')}) from '{directory}/headway.parquet'"
        ).fetchone()
    assert row is not None
    return {"different": different, "rows": row[0], "found": row[1]}


_LONGEST = 600  # seconds that one of them may take
_LABELS = {"headway": "headway", "duckdb": "DuckDB ASOF by hand", "polars": "Polars join_asof"}


def measure(directory: Path, quick: bool) -> Section:
    sizes = [100_000] if quick else [1_000_000, 10_000_000]
    section = Section(
        f"Point-in-time join, N labels × {VIEWS} views of N rows × {FLOATS} latest features with ttl, files to file",
        ("", "N", "seconds", "peak memory MB"),
        note=(
            "Parquet in, Parquet out, all cores, a process for each run; imports and a first small run are not "
            "counted. Same rules for all: the latest row strictly before the label, of equal times the last to "
            f"arrive, null beyond the ttl of {TTL_DAYS} days. headway's memory_limit is {MEMORY}; the others have none."
        ),
    )
    seconds: dict[tuple[str, int], float] = {}
    small = directory / "small"
    small.mkdir()
    child(__file__, "make", str(small), 1000)
    for size in sizes:
        place = directory / str(size)
        place.mkdir()
        child(__file__, "make", str(place), size, longest=_LONGEST)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in _LABELS}
        for _ in rounds(3 if size == sizes[0] and not quick else 1, 20):
            for name, found in runs.items():
                found.append(child(__file__, name, [str(small)], str(place), cores=ALL, longest=_LONGEST))
        for name, label in _LABELS.items():
            seconds[name, size] = median(run["seconds"] for run in runs[name])
            peak = median(run["peak_mb"] for run in runs[name])
            section.rows.append((label, figure(size), figure(seconds[name, size]), figure(peak)))
        _judge(section, seconds, size, child(__file__, "compare", str(place), longest=_LONGEST))
    if len(sizes) > 1:
        grown, times = seconds["headway", sizes[1]] / seconds["headway", sizes[0]], sizes[1] / sizes[0]
        wanted = f"≤ {1.2 * times:.1f} at {times:.0f} × the rows"
        section.judge("growth of headway's time", grown, wanted, grown <= 1.2 * times)
    return section


def _judge(section: Section, seconds: dict[tuple[str, int], float], size: int, compared: dict[str, Any]) -> None:
    ratio = seconds["headway", size] / seconds["duckdb", size]
    section.judge(f"{figure(size)} labels, headway ÷ DuckDB", ratio, "≤ 1.3", ratio <= 1.3)
    section.verdicts.append(
        f"{figure(size)} labels, headway ÷ Polars: **{figure(seconds['headway', size] / seconds['polars', size])}**"
    )
    different = ", ".join(f"{n} rows differ from {_LABELS[name]}'s" for name, n in compared["different"].items())
    share = compared["found"] / compared["rows"]
    section.verdicts.append(f"{figure(compared['rows'])} labels, {share:.0%} of them with values: {different}")


if __name__ == "__main__" and len(sys.argv) > 1:
    runs = {"headway": warmed(headway), "duckdb": warmed(by_duckdb), "polars": warmed(by_polars)}
    answer({"make": make, "compare": compare, **runs})
