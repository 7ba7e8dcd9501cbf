"""What makes a run look closer, and what does not."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest
from tests import project

from headway.orchestrate.unchanged import LastRun
from headway.settings import load_settings


def test_an_installed_library_counts_and_a_compiled_module_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = tmp_path / "site-packages"
    (libraries / "anyhow-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(libraries))
    last = LastRun(load_settings(project.build(tmp_path / "shop").root), ())
    before = last.begin()
    (libraries / "__pycache__").mkdir()  # what the first import of a fresh environment writes
    os.utime(libraries, ns=(1, 1))
    assert last.begin() == before
    (libraries / "anyhow-1.0.dist-info").rename(libraries / "anyhow-1.1.dist-info")
    assert last.begin() != before
