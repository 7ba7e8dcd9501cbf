"""The documentation site can be made, without a warning, and its reference says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_reference_is_as_the_code_says() -> None:
    done = call("docs/generate.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    arguments = ("--fail-on-warning", "--keep-going", "--quiet", "-d", str(tmp_path / "doctrees"), "-b", "html")
    done = call("-m", "sphinx", *arguments, "docs", str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    python = (tmp_path / "site/reference/python.html").read_text()
    assert 'id="headway.FeatureView"' in python
    assert 'id="headway.pipeline"' in python
    first = (tmp_path / "site/index.html").read_text()
    assert "Coming from" in first
    assert (tmp_path / "site/tutorial.html").exists()
