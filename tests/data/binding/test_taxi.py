"""The example's own data, read, bound and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from tests.data.binding.conftest import World

import headway as hw
from headway.data.engine import Engine
from headway.data.ingest import ingest
from headway.data.lake import open_lake
from headway.data.quality import run_checks

EXAMPLE = Path(__file__).parents[3] / "examples" / "taxi"


@pytest.fixture(scope="module")
def taxi(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> World:
    folder = tmp_path_factory.mktemp("taxi")
    world = World(engine, open_lake(str(folder / "lake")))
    raw = hw.Source(
        "raw_trips",
        path="data/trips.parquet",
        id="trip_id",
        timestamp="pickup_at",
        timezone="America/New_York",
    )
    for source in (raw, hw.Source("zones", path="data/zones.parquet")):
        world.sources[source.name] = source
        ingest(source, EXAMPLE, world.lake, cache=folder / "digests.json")
    world.add(
        hw.Source(
            "trips",
            id="trip_id",
            timestamp="pickup_at",
            created="dropoff_at",
            query="""select t.*, z."Borough" as borough, epoch(t.dropoff_at - t.pickup_at) as duration_s
                     from raw_trips t join zones z on z."LocationID" = t.pickup_zone_id""",
            checks=[hw.not_null("pickup_zone_id"), hw.between("duration_s", 60, 3 * 3600, on_fail="quarantine")],
        )
    )
    return world


def test_durations_are_seconds_between_instants(taxi: World) -> None:
    rows = taxi.binder.current_rows(taxi.sources["trips"], 2**60)
    seconds = pc.divide(
        pc.subtract(rows["dropoff_at"].cast("int64"), rows["pickup_at"].cast("int64")).cast("double"), 1e6
    )
    assert np.array_equal(rows["duration_s"].to_numpy(), seconds.to_numpy())
    assert pc.all(pc.less_equal(rows["__event"], rows["__known"])).as_py()
    assert rows["__known"].combine_chunks().equals(rows["dropoff_at"].combine_chunks().cast(rows["__known"].type))
    assert np.all(np.diff(rows["__seq"].to_numpy()) > 0)


def test_every_trip_is_either_kept_or_set_aside(taxi: World) -> None:
    source, binder = taxi.sources["trips"], taxi.binder
    present, sensible = run_checks(source, binder, taxi.lake, taxi.engine, 2**60)
    assert present.passed
    assert sensible.failed == taxi.lake.rows("quarantine/trips") > 0
    view = hw.FeatureView(
        "zone",
        source=source,
        entity=hw.Entity("zone", key="pickup_zone_id"),
        features={"n": hw.count(), "b": "borough"},
    )
    assert len(taxi.events(view)) + sensible.failed == sensible.rows == taxi.lake.rows("source/raw_trips")
