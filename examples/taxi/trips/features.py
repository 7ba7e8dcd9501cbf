"""What is known of a zone and of a route at any moment."""

import headway as hw
from trips.ratios import ratio
from trips.sources import trips

zone = hw.Entity("zone", key="zone_id")
route = hw.Entity("route", key=("pickup_zone_id", "dropoff_zone_id"))

zone_traffic = hw.FeatureView(
    "zone_traffic",
    source=trips,
    entity=zone,
    keys={"zone_id": "pickup_zone_id"},
    refresh="15m",
    lag="2m",
    features={
        "trips_1h": hw.count(window="1h"),
        "duration_avg": hw.mean("duration_s", window=["1d", "7d"]),
        "duration_p90_7d": hw.quantile("duration_s", 0.9, window="7d"),
    },
    owner="mobility",
    description="How busy a pick-up zone is, and how long trips from it take",
)

route_history = hw.FeatureView(
    "route_history",
    source=trips,
    entity=route,
    refresh="1h",
    # The sample jumps from March 2023 to January 2024, so what was last seen of a route may be long ago.
    ttl="400d",
    features={
        "trips_28d": hw.count(window="28d"),
        "duration_avg": hw.mean("duration_s", window=["28d", "366d"]),
        "last_duration": hw.last("duration_s"),
        "distance_avg_366d": hw.mean(
            "case when trip_distance between 0.05 and 100 then trip_distance end", window="366d"
        ),
        "fare_per_mile": "fare_amount / nullif(trip_distance, 0)",
    },
    owner="mobility",
    description="Trips between one zone and another",
)


@hw.request_features(
    inputs=[
        route_history["duration_avg_28d"],
        zone_traffic.alias("pickup", keys={"zone_id": "pickup_zone_id"})["duration_avg_1d"],
    ]
)
def at_request(route_avg, zone_avg):
    """How a route compares with its pick-up zone, from what is known when the request comes in."""
    return {"route_vs_zone": ratio(route_avg, zone_avg)}
