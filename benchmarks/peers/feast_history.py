"""Historical features from Parquet files to a Parquet file, with Feast's default engine (Dask) or with DuckDB.

Feast's join sees rows at the very moment of a label, the others do not: it is asked for the moment 1 µs before. Reading
the labels and writing the result are counted.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from time import perf_counter

import pandas as pd
from feast import FeatureStore
from feast_repository import open_store, pinned, say, service, view


def main(small: tuple[str, int], much: tuple[str, int], offline: str, views: int, floats: int, ttl_days: int) -> None:
    """``small`` and ``much``: a directory with files and how many labels to take; the first is not timed."""
    seconds = 0.0
    for directory, labels in (small, much):
        place = Path(directory)
        store = open_store(place / f"feast-{offline}", "sqlite", offline)
        found = [
            view(
                f"v{n}", "key", place / f"v{n}.parquet", [f"v{n}_{i}" for i in range(floats)],
                timedelta(days=ttl_days),
            )
            for n in range(views)
        ]  # fmt: skip
        store.apply([found[0][0], *(each for _, each in found), service("all", [each for _, each in found])])
        seconds = run(store, place, labels, offline)
    say(seconds=seconds)


def run(store: FeatureStore, place: Path, count: int, offline: str) -> float:
    begin = perf_counter()
    labels = pd.read_parquet(place / f"labels-{count}.parquet")
    labels["event_timestamp"] = labels.pop("ts") - pd.Timedelta(1, "us")
    job = store.get_historical_features(entity_df=labels, features=store.get_feature_service("all"))
    job.to_df().to_parquet(place / f"{offline}.parquet", compression="snappy", index=False)
    return perf_counter() - begin


main(*pinned())
