"""Window features of the taxi example at every trip's pick-up: headway, and DuckDB's RANGE windows."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
from harness import ALL, Section, answer, child, figure, median, rounds, warmed

from headway.data.compute import at
from headway.data.engine import Engine
from headway.define.records import FOREVER, Events, FeaturePlan, Field, ViewPlan

TRIPS = Path(__file__).resolve().parent.parent / "examples" / "taxi" / "data" / "trips.parquet"
HOUR = 3_600_000_000
DAY = 24 * HOUR

# Name, kind, column, window in microseconds, result, and the same in DuckDB's words.
FEATURES = (
    ("trips_1h", "count", None, HOUR, "int64", "count(duration)", "1 hour"),
    ("duration_avg", "mean", "duration", DAY, "double", "avg(duration)", "1 day"),
    ("duration_max", "max", "duration", DAY, "double", "max(duration)", "1 day"),
    ("duration_p90", "quantile", "duration", 7 * DAY, "double", "quantile_cont(duration, 0.9)", "7 days"),
    ("dropoffs", "nunique", "dropoff", 7 * DAY, "int64", "count(distinct dropoff)", "7 days"),
)
PLAN = ViewPlan(
    name="zone_traffic",
    fingerprint="bc" * 16,
    source="trips",
    tables=(),
    sql="",
    keys=(Field("zone", "int32"),),
    features=tuple(
        FeaturePlan(name, kind, result, column, window, 0.9 if kind == "quantile" else None)
        for name, kind, column, window, result, _, _ in FEATURES
    ),
)
# The file's times are taken as they stand, without their time zone.
ROWS = """
    select trip_id, pickup_zone_id as zone, epoch_us(pickup_at) as event,
        epoch_us(greatest(dropoff_at, pickup_at)) as known,
        epoch(dropoff_at - pickup_at)::double as duration, dropoff_zone_id as dropoff
    from trips
"""


def headway(directory: str, where: str, visible: bool) -> dict[str, Any]:
    """The features of the trips for which ``where`` holds.

    ``visible``: a trip counts once it has ended, as in the example; else from its pick-up on, as for DuckDB.
    """
    begin = perf_counter()
    with Engine() as engine:
        rows = engine.query(f"{ROWS} where {where}", {"trips": [str(TRIPS)]}).combine_chunks()
    event = np.asarray(rows.column("event").chunk(0))
    events = Events(
        keys=rows.select(["zone"]),
        event=event,
        known=np.asarray(rows.column("known").chunk(0)) if visible else event,
        until=np.full(len(event), FOREVER),
        rank=np.asarray(rows.column("trip_id").chunk(0)),
        values={name: rows.column(name).chunk(0) for name in ("duration", "dropoff")},
    )
    found = at(PLAN, events, rows.select(["zone"]), event)
    found = found.append_column("trip_id", rows.column("trip_id"))
    pq.write_table(found, Path(directory) / ("visible.parquet" if visible else "headway.parquet"))
    return {"seconds": perf_counter() - begin, "rows": len(event)}


def by_duckdb(directory: str, where: str) -> dict[str, Any]:
    windows = ", ".join(
        f"{text} over (partition by zone order by moment range between interval {window} preceding "
        f"and interval 1 microsecond preceding) as {name}"
        for name, _, _, _, _, text, window in FEATURES
    )
    trips = f"from '{TRIPS}' where {where}"
    query = f"""
        select trip_id, {", ".join(name for name, *_ in FEATURES)} from (
            select *, {windows} from (
                select null as trip_id, pickup_zone_id as zone, pickup_at as moment,
                    epoch(dropoff_at - pickup_at)::double as duration, dropoff_zone_id as dropoff {trips}
                union all
                select trip_id, pickup_zone_id, pickup_at, null, null {trips}
            )
        ) where trip_id is not null
    """
    begin = perf_counter()
    with duckdb.connect() as connection:
        connection.execute(f"copy ({query}) to '{directory}/duckdb.parquet' (format parquet)")
    return {"seconds": perf_counter() - begin}


def compare(directory: str) -> dict[str, Any]:
    """Rows in which DuckDB's values are other than headway's, rounding aside; and what the visibility rule changes."""
    with duckdb.connect() as connection:
        different = {}
        for other in ("duckdb", "visible"):
            unequal = " or ".join(
                f"(a.{name} is null) <> (b.{name} is null) or abs(a.{name} - b.{name}) > 1e-6 * (1 + abs(a.{name}))"
                for name, *_ in FEATURES
            )
            row = connection.execute(
                f"select count(*) from '{directory}/headway.parquet' a full join '{directory}/{other}.parquet' b "
                f"using (trip_id) where {unequal}"
            ).fetchone()
            different[other] = row[0] if row else -1
    return {"different": different}


def measure(directory: Path, quick: bool) -> Section:
    section = Section(
        f"{len(FEATURES)} window features at every pick-up of the taxi trips",
        ("", "seconds", "labels/s", "peak memory MB"),
        note=(
            "Per pick-up zone: trips in an hour, mean and longest duration of a day, 90th percentile of duration and "
            "number of drop-off zones of a week; Parquet in, Parquet out, all cores. headway counts a trip once it has "
            "ended; DuckDB's RANGE windows over the union of trips and questions cannot, so they count it from its "
            "pick-up on, and headway is timed in that way too to compare the values."
        ),
    )
    tasks: dict[str, tuple[str, tuple[Any, ...]]] = {
        "headway": ("headway", (True,)),
        "headway, without visibility": ("headway", (False,)),
        "DuckDB RANGE windows": ("duckdb", ()),
    }
    where = "source_month = '2023-01'" if quick else "true"
    small = directory / "small"
    small.mkdir()
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in tasks}
    for _ in rounds(1 if quick else 3, 30):
        for label, (task, arguments) in tasks.items():
            asked = (str(directory), where, *arguments)
            runs[label].append(child(__file__, task, (str(small), "trip_id % 1000 = 0", *arguments), *asked, cores=ALL))
    rows = runs["headway"][0]["rows"]
    seconds = {label: median(run["seconds"] for run in found) for label, found in runs.items()}
    for label, found in runs.items():
        peak = median(run["peak_mb"] for run in found)
        section.rows.append((label, figure(seconds[label]), figure(rows / seconds[label]), figure(peak)))
    ratio = seconds["headway"] / seconds["DuckDB RANGE windows"]
    section.verdicts.append(f"headway ÷ DuckDB: **{figure(ratio)}**")
    different = child(__file__, "compare", str(directory))["different"]
    section.verdicts.append(
        f"{rows} labels: without visibility {different['duckdb']} rows differ from DuckDB's; "
        f"visibility changes {different['visible']} rows"
    )
    return section


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"headway": warmed(headway), "duckdb": warmed(by_duckdb), "compare": compare})
