"""A copy of the project `world` with data of one's own, and small projects for single cases."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.semantics.lab import Lab, lab
from tests.semantics.rows import Rows, write

import headway as hw
from headway.clock import Clock
from headway.project import Project

TOML = '[project]\nname = "world"\ndefinitions = "world"\n'
Opener = Callable[[Rows, Clock | str | int], Project]
Maker = Callable[..., Lab]


@pytest.fixture
def open_world(tmp_path: Path) -> Iterator[Opener]:
    with ExitStack() as stack:

        def opened(rows: Rows, clock: Clock | str | int) -> Project:
            root = tmp_path / "world"
            shutil.copytree(Path(__file__).parent / "world", root / "world")
            (root / "headway.toml").write_text(TOML)
            write(root, rows)
            return stack.enter_context(hw.load(root, clock=clock))

        yield opened


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    """Make small projects that are closed after the test, see `lab`."""
    with ExitStack() as stack:

        def made(declared: str, /, **options: Any) -> Lab:
            root = tmp_path / f"lab{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(lab(root, declared, **options))

        yield made
