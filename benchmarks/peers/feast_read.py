"""Reads of Feast's online store in process: the seconds of every one, and whether the values are those written."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow.parquet as pq
from feast import FeatureService, FeatureStore
from feast_repository import pinned, say


def main(directory: str, online: str, services: list[str], sizes: list[int], times: int) -> None:
    """Reads of several feature services and numbers of entities; the first few are warmed up with, and checked."""
    place = Path(directory)
    store = FeatureStore(repo_path=str(place / f"feast-{online}"))
    written = pq.read_table(place / "values.parquet")
    names = [name for name in written.column_names if name.startswith("f")]
    values = np.column_stack([written.column(name) for name in names])
    found = []
    for service in services:
        asked = store.get_feature_service(service)

        def read(chosen: list[int], asked: FeatureService = asked) -> dict[str, list[float]]:
            rows = {"entity": chosen}
            # Only under full names does Feast find its precomputed vectors.
            return store.get_online_features(features=asked, entity_rows=rows, full_feature_names=True).to_dict()

        found.append([measured(read, names, values, size, times if size >= 100 else 3 * times) for size in sizes])
    say(seconds=found)


def measured(
    read: Callable[[list[int]], dict[str, list[float]]], names: list[str], values: np.ndarray, size: int, times: int
) -> list[float]:
    reads = np.random.default_rng(size).integers(0, len(values), (times, size)).tolist()
    for chosen in reads[:10]:
        found = {name.rpartition("__")[2]: column for name, column in read(chosen).items()}
        if not np.array_equal(np.column_stack([found[name] for name in names]), values[chosen]):
            raise SystemExit("the values read are not those written")
    gc.collect()
    return [timed(read, chosen) for chosen in reads]


def timed(read: Callable[[list[int]], object], chosen: list[int]) -> float:
    begin = perf_counter()
    read(chosen)
    return perf_counter() - begin


main(*pinned())
