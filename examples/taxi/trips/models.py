"""The model, and its nightly predictions."""

import headway as hw
from trips.features import at_request, route_history, zone_traffic
from trips.sources import trips

trip_duration = hw.Model(
    "trip_duration",
    label=hw.Label(trips, "duration_s"),
    features=[
        zone_traffic.alias("pickup", keys={"zone_id": "pickup_zone_id"}),
        zone_traffic.alias("dropoff", keys={"zone_id": "dropoff_zone_id"}),
        route_history,
        at_request,
        hw.Request("borough", "string"),
        hw.calendar("pickup_at", timezone="America/New_York", parts=["hour", "weekday"]),
    ],
    estimator="lightgbm:LGBMRegressor",
    params={"n_estimators": 300, "learning_rate": 0.05, "objective": "regression_l1"},
    metrics=["mae", "rmse"],
    split=hw.TimeSplit(test="2024-01-01T00:00:00-05:00"),  # learn from 2023, judge once on January 2024
    baseline="median",
    segment="borough",
    fallback="pooled",
    min_rows=2_000,
    gate=hw.Gate("mae", max_regression=0.01),
    schedule="0 3 * * *",
    owner="mobility",
    description="Seconds from pick-up to drop-off",
)

watch = hw.Monitor(
    trip_duration,
    window="7d",
    on_alert="notify",  # or "retrain", or "rollback"
    runbook="Look at the report first. If trips really changed: run it again with newer rows, and let the gate decide.",
)

nightly = hw.BatchPrediction(
    "nightly", model=trip_duration, input=trips, output="lake:predictions_nightly", schedule="0 4 * * *"
)
