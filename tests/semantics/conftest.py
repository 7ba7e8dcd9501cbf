"""A copy of the project `world` with data of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.semantics.rows import Rows, write

import headway as hw
from headway.clock import Clock
from headway.project import Project

TOML = '[project]\nname = "world"\ndefinitions = "world"\n'
Opener = Callable[[Rows, Clock | str | int], Project]


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
