"""Features of real trips, computed a second time by hand in Polars and in pandas, which share no code with headway.

The pipelines below read the same Parquet file and follow DESIGN §3 in their own way: local times to instants, a floor
on the grid of the UTC epoch, rows joined by key and calendar day, filtered to what was past and known, aggregated.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from tests.semantics.lab import INSTANT, Lab, lab, us

TRIPS = Path(__file__).resolve().parents[2] / "examples/taxi/data/trips.parquet"
MINUTE = 60_000_000
DAY = 1440 * MINUTE
DECLARED = """
    raw = hw.Source("raw", path="data/trips.parquet", id="trip_id", timestamp="pickup_at",
                    timezone="America/New_York")
    trips = hw.Source("trips", id="trip_id", timestamp="pickup_at", created="dropoff_at",
        query="select *, epoch(dropoff_at - pickup_at) as duration_s from raw")
    zone = hw.Entity("zone", key="pickup_zone_id")
    route = hw.Entity("route", key=("pickup_zone_id", "dropoff_zone_id"))
    zones = hw.FeatureView("zones", source=trips, entity=zone, refresh="15m", lag="2m", features={
        "n_1h": hw.count(window="1h"), "n_1d": hw.count(window="1d"),
        "duration_1d": hw.mean("duration_s", window="1d"), "fares_1d": hw.sum("fare_amount", window="1d"),
        "riders_1d": hw.sum("passenger_count", window="1d"), "near_7d": hw.min("trip_distance", window="7d"),
        "far_7d": hw.max("trip_distance", window="7d"), "tip_std_7d": hw.std("tip_amount", window="7d"),
        "riders_std_1d": hw.std("passenger_count", window="1d"),
        "duration_p90_7d": hw.quantile("duration_s", 0.9, window="7d"),
        "fare_p25_1d": hw.quantile("fare_amount", 0.25, window="1d"),
        "targets_7d": hw.nunique("dropoff_zone_id", window="7d"),
        "riders_7d": hw.nunique("passenger_count", window="7d")})
    routes = hw.FeatureView("routes", source=trips, entity=route, ttl="3d", features={
        "fare": "fare_amount", "riders": "passenger_count", "known_riders": hw.last("passenger_count"),
        "duration": hw.last("duration_s")})
    recent = hw.FeatureView("recent", source=trips, entity=route, features={
        "n_12h": hw.count(window="12h"), "max_12h": hw.max("duration_s", window="12h")})
    starts = hw.FeatureView("starts", source=raw, entity=zone, ttl="36h", features={
        "trip_id": "trip_id", "fare": "fare_amount"})
"""
KNOWN_ZONES = 300


@pytest.fixture(scope="module")
def taxi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("taxi")
    (root / "data").mkdir()
    shutil.copy(TRIPS, root / "data")
    with lab(root, DECLARED) as made:
        made.put()
        yield made


@pytest.fixture(scope="module")
def trips() -> pl.DataFrame:
    """The trips with their times in microseconds of UTC, and the moment each was known: when it had ended."""

    def instant(column: str) -> pl.Expr:
        return pl.col(column).dt.replace_time_zone("America/New_York", ambiguous="earliest").dt.epoch("us")

    timed = pl.read_parquet(TRIPS).with_columns(event=instant("pickup_at"), ended=instant("dropoff_at"))
    return timed.with_columns(
        known=pl.max_horizontal("event", "ended"),
        duration_s=(pl.col("ended") - pl.col("event")) / 1e6,
        day=pl.col("event") // DAY,
    )


@pytest.fixture(scope="module")
def asked(trips: pl.DataFrame) -> pl.DataFrame:
    """Three thousand places and moments: around real trips' beginnings and ends, on the grid and beside it."""
    r = random.Random(2023)
    sample = trips.sample(2_850, seed=1).select("pickup_zone_id", "dropoff_zone_id", "event", "known")
    rows = [
        (
            pickup if r.random() < 0.9 else r.randrange(KNOWN_ZONES),
            dropoff if r.random() < 0.9 else r.randrange(KNOWN_ZONES),
            _moment(r, event, known),
        )
        for pickup, dropoff, event, known in sample.iter_rows()
    ]
    rows += [(r.choice([74, 75, 41]), r.choice([74, 75, 42]), us("2025-11-02T04:00") + r.randrange(180) * MINUTE)
             for _ in range(150)]  # fmt: skip # the hours in which New York's clocks are put back
    return pl.DataFrame(rows, ["pickup_zone_id", "dropoff_zone_id", "ts"], orient="row").with_row_index("ask")


def _moment(r: random.Random, event: int, known: int) -> int:
    at = r.choice([event, known, event + r.randrange(4 * DAY)])
    at -= r.choice([0, 0, at % (15 * MINUTE), at % (15 * MINUTE) - 2 * MINUTE])
    return at + r.choice([0, 0, 0, 1, -1])


def past(trips: pl.DataFrame, asked: pl.DataFrame, keys: list[str], days: int) -> pl.DataFrame:
    """For each ask the rows of its key of some days that had happened before ``r`` and were known at ``r``."""
    wanted = asked.with_columns(
        day=pl.int_ranges((pl.col("r") - days * DAY) // DAY, pl.col("r") // DAY + 1)
    ).explode("day")  # fmt: skip
    wanted = wanted.select("ask", "r", "day", *keys)
    met = wanted.join(trips.with_columns(pl.col(keys).cast(pl.Int64)), on=[*keys, "day"])
    return met.filter((pl.col("event") < pl.col("r")) & (pl.col("known") <= pl.col("r")))


def within(length: int) -> pl.Expr:
    return pl.col("event") >= pl.col("r") - length


def over(rows: pl.DataFrame, length: int, **aggregates: pl.Expr) -> pl.DataFrame:
    return rows.filter(within(length)).group_by("ask").agg(**aggregates)


def latest(rows: pl.DataFrame, ttl: int, **columns: str) -> pl.DataFrame:
    """The latest row of each ask: by event time, then by when it was known, then by id."""
    return over(rows.sort("event", "known", "trip_id"), ttl, **{name: pl.col(c).last() for name, c in columns.items()})


def together(asked: pl.DataFrame, parts: list[pl.DataFrame], zero: list[str]) -> pl.DataFrame:
    """One row for each ask, in order; what nothing was found for is null, or 0 if it counts."""
    found = asked.select("ask")
    for part in parts:
        found = found.join(part, on="ask", how="left", maintain_order="left")
    return found.drop("ask").with_columns(pl.col(zero).fill_null(0))


def zones_by_hand(trips: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    grid, late = 15 * MINUTE, 2 * MINUTE
    asked = asked.with_columns(r=(pl.col("ts") - late) // grid * grid)
    rows = past(trips, asked, ["pickup_zone_id"], 7)
    hour = over(rows, DAY // 24, n_1h=pl.len())
    day = over(
        rows,
        DAY,
        n_1d=pl.len(),
        duration_1d=pl.col("duration_s").mean(),
        fares_1d=_sum("fare_amount"),
        riders_1d=_sum("passenger_count"),
        riders_std_1d=pl.col("passenger_count").std(ddof=1),
        fare_p25_1d=pl.col("fare_amount").quantile(0.25, interpolation="linear"),
    )
    week = over(
        rows,
        7 * DAY,
        near_7d=pl.col("trip_distance").min(),
        far_7d=pl.col("trip_distance").max(),
        tip_std_7d=pl.col("tip_amount").std(ddof=1),
        duration_p90_7d=pl.col("duration_s").quantile(0.9, interpolation="linear"),
        targets_7d=pl.col("dropoff_zone_id").drop_nulls().n_unique(),
        riders_7d=pl.col("passenger_count").drop_nulls().n_unique(),
    )
    return together(asked, [hour, day, week], ["n_1h", "n_1d", "targets_7d", "riders_7d"])


def _sum(column: str) -> pl.Expr:
    """Null over nothing, where Polars says 0."""
    return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum())


def routes_by_hand(trips: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    asked = asked.with_columns(r=pl.col("ts"))
    rows = past(trips, asked, ["pickup_zone_id", "dropoff_zone_id"], 3)
    filled = rows.filter(pl.col("passenger_count").is_not_null())
    parts = [
        latest(rows, 3 * DAY, fare="fare_amount", riders="passenger_count", duration="duration_s"),
        latest(filled, 3 * DAY, known_riders="passenger_count"),
    ]
    return together(asked, parts, [])


def recent_by_hand(trips: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    rows = past(trips, asked.with_columns(r=pl.col("ts")), ["pickup_zone_id", "dropoff_zone_id"], 1)
    return together(asked, [over(rows, DAY // 2, n_12h=pl.len(), max_12h=pl.col("duration_s").max())], ["n_12h"])


def spine(asked: pl.DataFrame) -> pa.Table:
    moments = pa.array(asked["ts"].to_list(), pa.int64()).cast(INSTANT)
    return asked.select("pickup_zone_id", "dropoff_zone_id").to_arrow().append_column("ts", moments)


def differences(ours: Mapping[str, list[Any]], theirs: pl.DataFrame, prefix: str) -> list[str]:
    """One line for each value that differs: whole numbers exactly, floats by 1e-9."""
    wrong = []
    for name in theirs.columns:
        for n, (a, b) in enumerate(zip(ours[f"{prefix}__{name}"], theirs[name].to_list(), strict=True)):
            near = isinstance(a, float) and b is not None and math.isclose(a, b, rel_tol=1e-9)
            if not (a == b or near):
                wrong.append(f"{prefix}__{name} of ask {n}: {a!r}, by hand {b!r}")
    return wrong


def test_windows_of_a_view_with_refresh_lag_and_created_agree_with_polars(
    taxi: Lab, trips: pl.DataFrame, asked: pl.DataFrame
) -> None:
    theirs = zones_by_hand(trips, asked)
    ours = taxi.project.features.historical(spine(asked), "zones").to_pydict()
    assert not differences(ours, theirs, "zones")[:10]
    assert len(theirs) == 3_000
    assert len(theirs.columns) == 13
    assert all(theirs[c].drop_nulls().n_unique() > 5 for c in theirs.columns)  # there was something to differ
    assert theirs["duration_1d"].null_count() > 100


def test_exact_windows_with_created_agree_with_polars(taxi: Lab, trips: pl.DataFrame, asked: pl.DataFrame) -> None:
    theirs = recent_by_hand(trips, asked)
    ours = taxi.project.features.historical(spine(asked), "recent").to_pydict()
    assert not differences(ours, theirs, "recent")[:10]
    assert theirs["n_12h"].n_unique() > 5


def test_latest_values_with_ttl_and_created_agree_with_polars(
    taxi: Lab, trips: pl.DataFrame, asked: pl.DataFrame
) -> None:
    theirs = routes_by_hand(trips, asked)
    ours = taxi.project.features.historical(spine(asked), "routes").to_pydict()
    assert not differences(ours, theirs, "routes")[:10]
    assert 300 < theirs["fare"].null_count() < 2_700
    assert theirs["riders"].null_count() > theirs["known_riders"].null_count()


def test_latest_rows_agree_with_an_asof_join_of_pandas(taxi: Lab, trips: pl.DataFrame, asked: pl.DataFrame) -> None:
    """Without created: the row that began last, strictly before, not longer ago than the ttl; of ties the greater id."""
    rows = trips.sort("event", "trip_id").select(
        pl.col("pickup_zone_id").cast(pl.Int64), "event", "trip_id", "fare_amount"
    )
    one = rows.unique(["pickup_zone_id", "event"], keep="last", maintain_order=True)
    right = pd.DataFrame({c: one[c].to_numpy() for c in one.columns}).rename(columns={"event": "at"})
    left = pd.DataFrame({c: asked[c].to_numpy() for c in ("ask", "pickup_zone_id", "ts")}).rename(columns={"ts": "at"})
    met = pd.merge_asof(
        left.sort_values("at"), right, on="at", by="pickup_zone_id", allow_exact_matches=False, tolerance=36 * DAY // 24
    ).sort_values("ask")
    ours = taxi.project.features.historical(spine(asked), "starts")
    assert ours["starts__trip_id"].to_pylist() == [None if math.isnan(x) else int(x) for x in met["trip_id"]]
    assert ours["starts__fare"].to_pylist() == [None if math.isnan(x) else x for x in met["fare_amount"]]
    assert len(rows) - len(one) > 100  # ties there were
    assert 100 < ours["starts__fare"].null_count < 2_700


def test_what_is_served_agrees_with_polars(taxi: Lab, trips: pl.DataFrame) -> None:
    """Every zone, and routes between some, right after refreshes at two moments."""
    places = [(p, d) for p in (41, 42, 74, 75, 95, 166, 299) for d in (41, 42, 74, 75, 1)] + [
        (z, z) for z in range(270)
    ]
    for now in ("2023-01-20T15:03", "2023-03-12T07:17"):
        taxi.now(now)
        taxi.refresh("zones", "routes")
        asked = pl.DataFrame(
            [(p, d, us(now)) for p, d in places], ["pickup_zone_id", "dropoff_zone_id", "ts"], orient="row"
        ).with_row_index("ask")
        found = taxi.project.online.read(["zones", "routes"], spine(asked).drop_columns(["ts"])).to_pydict()
        assert not differences(found, zones_by_hand(trips, asked), "zones")[:10]
        assert not differences(found, routes_by_hand(trips, asked), "routes")[:10]
