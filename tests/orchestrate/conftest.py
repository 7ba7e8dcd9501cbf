"""The tiny project, as it is before its first run and after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import project
from tests.orchestrate.killed import Warm
from tests.project import Shop


@pytest.fixture
def empty(tmp_path: Path) -> Shop:
    """The project before anything ran."""
    return project.build(tmp_path / "empty" / "shop")


@pytest.fixture
def shop(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A copy of the project after ``headway run``."""
    return project.copy(project.finished(tmp_path_factory), tmp_path / "shop")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    made = Warm()
    yield made
    made.close()
