"""What holds for every test: no display, no settings of the developer's own, and property tests that do not watch the
clock. ``HYPOTHESIS_PROFILE=thorough`` looks at ten times as many cases; CI looks at the same ones every time."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.databases import postgres, url

from headway.registry import _mlflow

__all__ = ["postgres", "url"]

os.environ.setdefault("MPLBACKEND", "Agg")
sys.dont_write_bytecode = True  # a file of the same size, changed within a second, would look as it was

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_collection_finish() -> None:
    """What has been imported stays: the garbage collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _mlflow_is_migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new MLflow database takes dozens of migrations: the first one that is made here is copied for the others."""
    migrate, made = _mlflow._migrate, tmp_path_factory.mktemp("mlflow") / "new.db"

    def copy(file: Path) -> None:
        if not made.exists():
            migrate(made)
        shutil.copyfile(made, file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mlflow, "_migrate", copy)
        yield


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HEADWAY_"):
            monkeypatch.delenv(name)
