"""A registry on SQLite, and trainings that took no time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.define.records import ColumnSpec, SegmentModel, ServingPlan, VersionRecord
from headway.metadata import Metadata, open_metadata
from headway.registry import Registry

AT = 1_700_000_000_000_000


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[Metadata]:
    with open_metadata(f"sqlite:///{tmp_path}/metadata.db", "trips", "local") as opened:
        yield opened


@pytest.fixture
def registry(metadata: Metadata, tmp_path: Path) -> Registry:
    moments = itertools.count(AT)
    return Registry(metadata, tmp_path / "artifacts", lambda: next(moments))


@pytest.fixture
def draft() -> Callable[..., VersionRecord]:
    """Makes what a training says of itself; anything may be said otherwise."""

    def build(digest: str = "d1", model: str = "m", **changes: Any) -> VersionRecord:
        serving = ServingPlan(
            model,
            "regression",
            (),
            (),
            (),
            (),
            (ColumnSpec("x", "double"), ColumnSpec("n", "int64"), ColumnSpec("borough", "string", ("Bronx", "Queens"))),
            SegmentModel("pooled.txt", "lightgbm", 100),
            {"Staten Island": SegmentModel("segment-1.txt", "lightgbm", 10)},
            "borough",
        )
        values: dict[str, Any] = {
            "version": 0,
            "created_at": AT,
            "directory": "",
            "files": {},
            "serving": serving,
            "metrics": {"mae": 100.0, "rmse": 150.0},
            "segment_metrics": {"Queens": {"mae": 90.0}, "Staten Island": {"mae": 120.0}},
            "baseline": {"mae": 200.0},
            "params": {"leaves": 31, "path": [1, 2]},
            "seed": 7,
            "cut": None,
            "train_rows": 1000,
            "test_rows": 100,
            "data": {"source/trips": 3},
            "data_digest": "data-1",
            "commit": "abcdef",
            "dirty": True,
            "environment": "env-1",
            "bundle": "bundle-1",
            "metric": "mae",
        }
        return VersionRecord(model=model, digest=digest, **(values | changes))

    return build


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Path]:
    """Makes a finished staging directory with files of its own."""
    numbers = itertools.count()

    def build(content: str = "tree") -> Path:
        folder = tmp_path / "staging" / str(next(numbers))
        (folder / "bundle" / "trips").mkdir(parents=True)
        (folder / "pooled.txt").write_text(content)
        (folder / "serving.json").write_text("{}")
        (folder / "bundle" / "trips" / "__init__.py").write_text("")
        return folder

    return build


@pytest.fixture
def trained(
    registry: Registry, draft: Callable[..., VersionRecord], stage: Callable[..., Path]
) -> Callable[..., VersionRecord]:
    """Registers a new version."""

    def build(digest: str, **changes: Any) -> VersionRecord:
        return registry.register(stage(digest), draft(digest, **changes))

    return build
