"""Feast's side of the work: a repository in a directory, and what all its scripts share.

The best of what Feast documents for speed: a feature service instead of a list of names, a registry that is not read
again while it is measured, the newest key format, the latest row of an entity alone when materializing, batches of
writes. No telemetry is sent (this release has none; the variables are those of releases that had).
"""

from __future__ import annotations

import os

os.environ |= {"FEAST_USAGE": "False", "FEAST_TELEMETRY": "False", "DO_NOT_TRACK": "1"}

import json
import logging
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")

BEGIN, END = datetime(2023, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
BATCH = 10_000  # rows


def open_store(directory: Path, online: str, offline: str = "dask") -> FeatureStore:
    """A store whose repository is in ``directory``; ``online`` is ``sqlite`` or the port of a Redis on loopback."""
    directory.mkdir(parents=True, exist_ok=True)
    where = (
        {"type": "sqlite", "path": "online.db"}
        if online == "sqlite"
        else {"type": "redis", "connection_string": f"127.0.0.1:{online}"}
    )
    settings = {
        "project": directory.name.replace("-", "_"),
        "provider": "local",
        "registry": {"path": "registry.db", "cache_ttl_seconds": 0},  # never read again
        "online_store": where,
        "offline_store": {"type": offline},
        "entity_key_serialization_version": 3,
        "materialization": {"pull_latest_features": True, "online_write_batch_size": BATCH},
    }
    (directory / "feature_store.yaml").write_text(json.dumps(settings))  # JSON is YAML
    return FeatureStore(repo_path=str(directory))


def view(name: str, key: str, file: Path, features: list[str], ttl: timedelta) -> tuple[Entity, FeatureView]:
    """A view of the latest values in a Parquet file with the columns key, ``ts`` and ``created``."""
    entity = Entity(name=key, join_keys=[key], value_type=ValueType.INT64)
    source = FileSource(name=f"{name}_file", path=str(file), timestamp_field="ts", created_timestamp_column="created")
    schema = [Field(name=feature, dtype=Float64) for feature in features]
    return entity, FeatureView(name=name, entities=[entity], schema=schema, source=source, ttl=ttl)


def service(name: str, views: list[FeatureView], precomputed: bool = False) -> FeatureService:
    return FeatureService(name=name, features=views, precompute_online=precomputed)


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def pinned() -> list[Any]:
    """Pin to the cores that the first argument names; the other arguments."""
    _, cores, arguments = sys.argv
    if chosen := json.loads(cores):
        os.sched_setaffinity(0, chosen)
    return list(json.loads(arguments))


def say(**figures: Any) -> None:
    """The result, as the last line of the output."""
    print(json.dumps({**figures, "peak_mb": peak_mb()}))
