"""A version record to store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headway.define.records import ServingPlan, VersionRecord
from headway.metadata import Metadata, open_metadata

Build = Callable[..., VersionRecord]


@pytest.fixture
def metadata(url: str) -> Iterator[Metadata]:
    """An empty database of each kind."""
    with open_metadata(url, "trips", "local") as opened:
        yield opened


@pytest.fixture
def record() -> Build:
    """Makes a version record; anything may be said otherwise."""

    def build(model: str = "m", version: int = 1, digest: str = "d1", **changes: Any) -> VersionRecord:
        serving = ServingPlan(model, "regression", (), (), (), (), (), None)
        values: dict[str, Any] = {
            "created_at": 1_700_000_000_000_000,
            "directory": f"{model}/{version}",
            "files": {"model.txt": "00"},
            "serving": serving,
            "metrics": {"mae": 1.5},
            "segment_metrics": {"Queens": {"mae": 1.25}},
            "baseline": {"mae": 3.0},
            "params": {"n": 3, "deep": {"x": [1, None]}},
            "seed": 7,
            "cut": None,
            "train_rows": 10,
            "test_rows": 5,
            "data": {"source/trips": 3},
            "data_digest": "dd",
            "commit": None,
            "dirty": True,
            "environment": "e",
            "bundle": "b",
        }
        return VersionRecord(model=model, version=version, digest=digest, **(values | changes))

    return build
