"""A small world to train in: two numbers, a text, a truth value; labels that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import headway as hw
from headway.define.records import ColumnSpec, ServingPlan, TrainingSet
from headway.train import Trained, _plots, train

DAY = 86_400_000_000
TRIPS = hw.Source("trips", path="trips.parquet", timestamp="at", id="id")
VIEW = hw.FeatureView("view", source=TRIPS, entity=hw.Entity("place", key="place_id"), features={"a": "a"})


@pytest.fixture
def make_model() -> Callable[..., hw.Model]:
    def make(**options: Any) -> hw.Model:
        given = {"estimator": "lightgbm:LGBMRegressor", "split": hw.TimeSplit(test="7d"), **options}
        if given["estimator"] == "lightgbm:LGBMRegressor":
            given.setdefault("params", {"n_estimators": 15})
        features = [VIEW, hw.Request("city", "string")]
        return hw.Model("demo", label=hw.Label(TRIPS, "y"), features=features, **given)

    return make


@pytest.fixture
def make_data() -> Callable[..., TrainingSet]:
    def make(
        rows: int = 900, *, label: str = "number", nulls: bool = True, text: bool = True, segmented: bool = False
    ) -> TrainingSet:
        random = np.random.default_rng(7)
        a, b = random.normal(size=rows), random.integers(0, 9, rows)
        city = np.array(["Ames", "Bath", "Cork", "Dax"], dtype=object)[
            random.choice(4, size=rows, p=[0.45, 0.32, 0.2, 0.03])
        ]
        y = 2 * a + b + 3 * (city == "Bath") + random.normal(size=rows) * 0.1
        labels = {
            "number": lambda: pa.array(y),
            "truth": lambda: pa.array(y > 4),
            "three": lambda: pa.array(np.array(["low", "mid", "high"], dtype=object)[np.digitize(y, [2, 6])]),
        }
        columns = {"view__a": pa.array(a, mask=random.random(rows) < 0.05 if nulls else None), "b": pa.array(b)}
        if text:
            columns["city"] = pa.array([None if nulls and i % 40 == 0 else c for i, c in enumerate(city)], pa.string())
        columns["flag"] = pa.array(a > 0)
        event = np.sort(random.integers(0, 30 * DAY, rows))
        return TrainingSet(
            table=pa.table(columns),
            columns=tuple(ColumnSpec(name, str(column.type)) for name, column in columns.items()),
            label=labels[label](),
            event=event,
            known=event + 3_600_000_000,
            digest="0" * 32,
            segment=pa.array(city, pa.string()) if segmented else None,
        )

    return make


@pytest.fixture
def pictures() -> None:
    """Ask for this where the plots themselves matter."""


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    # Drawing takes longer than the training of these few rows.
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(_plots, "_saved", lambda figure, path: path)


@pytest.fixture
def skeleton() -> ServingPlan:
    return ServingPlan(
        model="demo",
        task="regression",
        views=(),
        requests=(),
        calendars=(),
        functions=(),
        columns=(),
        pooled=None,
    )


@pytest.fixture
def run(skeleton: ServingPlan, tmp_path: Path) -> Callable[..., tuple[Trained, Path]]:
    """Train into a directory of its own; returns the result and the directory."""
    made: list[Path] = []

    def call(model: hw.Model, data: TrainingSet, **options: Any) -> tuple[Trained, Path]:
        directory = tmp_path / f"v{len(made)}"
        made.append(directory)
        return train(model, data, skeleton, directory, **{"jobs": 1, **options}), directory

    return call
