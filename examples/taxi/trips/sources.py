"""Raw files, and the trips we learn from."""

import headway as hw

raw_trips = hw.Source(
    "raw_trips",
    path="data/trips*.parquet",
    id="trip_id",
    timestamp="pickup_at",
    timezone="America/New_York",
    owner="mobility",
    description="Trip records of the NYC Taxi & Limousine Commission, as published",
)

zones = hw.Source("zones", path="data/zones.parquet", owner="mobility", description="Taxi zones and their boroughs")

trips = hw.Source(
    "trips",
    id="trip_id",
    timestamp="pickup_at",
    created="dropoff_at",  # a trip's duration is known only once it has ended
    query="""
        select t.*, z."Borough" as borough, epoch(t.dropoff_at - t.pickup_at) as duration_s
        from raw_trips t join zones z on z."LocationID" = t.pickup_zone_id
    """,
    checks=[
        hw.not_null("pickup_zone_id", "dropoff_zone_id"),
        hw.unique("trip_id"),
        hw.row_count(100_000),
        hw.between("fare_amount", 0, 1000, on_fail="warn"),
        # Meters left running, and trips that ended before they began: 1.9 % of the rows.
        hw.between("duration_s", 60, 3 * 3600, on_fail="quarantine"),
    ],
    owner="mobility",
    description="Completed green-cab trips",
)
