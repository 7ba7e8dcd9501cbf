"""The second half of the demo: November 2025 arrives, a week at a time, and is not what the model has learnt from."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise

from shell import HEADWAY, HERE, WORK, replace, run, title

WEEKS = ("2025-11-03", "2025-11-10", "2025-11-17", "2025-11-24")
CLOCK = "2024-02-01T05:00:00Z"
NEWS = "cbd_congestion_fee"  # the fee for driving into Manhattan, charged since 2025


def hold_back() -> None:
    """Leave out what had not happened by February 2024: the trips of 2025, and the column they brought."""
    _copy(f"select * exclude ({NEWS}) from trips where source_month < '2025'", "data/trips.parquet")


def replay() -> None:
    title("7. November 2025: each week is asked about, then arrives")
    run("models", "release", "trip_duration", "--why", "the mistake is understood; the gate may decide again")
    clock = CLOCK
    for begin, end in pairwise(WEEKS):
        _copy(
            f"select * from trips where source_month = '2025-11' and pickup_at >= '{begin}' and pickup_at < '{end}'",
            f"data/trips-{begin}.parquet",
        )
        replace("headway.toml", clock, f"{end}T06:00:00Z")
        clock = f"{end}T06:00:00Z"
        run("run", "zone_traffic", "route_history")  # and all they need: the new file is copied and checked
        asked = WORK.parent / f"asked-{begin}.parquet"
        _copy(
            f"""select t.trip_id, t.pickup_zone_id, t.dropoff_zone_id, z."Borough" as borough,
                   timezone('America/New_York', t.pickup_at) as pickup_at
                from read_parquet('{WORK}/data/trips-{begin}.parquet') t
                join read_parquet('{WORK}/data/zones.parquet') z on z."LocationID" = t.pickup_zone_id""",
            asked,
        )
        run("predict", "trip_duration", "--input", str(asked), "--output", str(asked.with_suffix(".scored.parquet")))
        run("monitor", "trip_duration", allowed=(0, 3))
    _say_what_the_trips_say()
    title("8. What is wrong now?")
    run("status", allowed=(0, 3))
    title("9. Learn from it: test on the last week from now on; the gate compares with what answers today")
    replace(
        "trips/models.py",
        'hw.TimeSplit(test="2024-01-01T00:00:00-05:00"),  # learn from 2023, judge once on January 2024',
        'hw.TimeSplit(test="7d"),',
    )
    run("run", "trip_duration")
    run("models", "list")
    run("features", "verify", "--late-limit", "1")  # in the replay a week passes in a minute: the store was late
    _console()


def _say_what_the_trips_say() -> None:
    """Of all that the newest report says, what it says of the trips themselves, whether they are features or not."""
    newest = sorted((WORK / ".headway/local/reports/trip_duration").glob("*.json"))[-1]
    figures = json.loads(newest.read_text())["figures"]
    print("\nof the trips themselves, headway says:")
    for wanted in ("duration_s", "fare_amount", "total_amount", NEWS, "passenger_count", "payment_type"):
        for figure in figures:
            if figure["alarm"] and figure["segment"] is None and figure["name"].startswith(f"trips.{wanted}"):
                print(f"  {figure['said']}")


def _console() -> None:
    """What `make up` will show."""
    listed = subprocess.run([HEADWAY, "runs", "list", "--json"], cwd=WORK, check=True, capture_output=True, text=True)
    runs = json.loads(listed.stdout)
    print(f"\n`make up` opens the console on this project: {len(runs)} runs, and what monitoring found")


def _copy(query: str, file: object) -> None:
    import duckdb

    target = WORK / str(file)
    duckdb.execute(f"create or replace view trips as from read_parquet('{HERE}/data/trips.parquet')")
    duckdb.execute(f"copy ({query}) to '{target}'")
