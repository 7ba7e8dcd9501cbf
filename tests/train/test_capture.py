"""What a version remembers of the code and the environment."""

from __future__ import annotations

import os
import subprocess

import pytest

from headway.train import capture, write_capture


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    root = tmp_path / "project"
    root.mkdir()

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return root, git


def test_a_clean_checkout(repository):
    root, git = repository
    git("init", "-q")
    (root / "features.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-qm", "one")
    (root / ".headway").mkdir()
    (root / ".headway" / "own.py").write_text("headway's own files do not count\n")
    found = capture(root)
    assert found.commit == git("rev-parse", "HEAD")
    assert (found.dirty, found.patch, found.notes) == (False, "", ())
    assert any(line.startswith("numpy==") for line in found.environment)
    assert list(found.environment) == sorted(
        found.environment, key=lambda s: s.partition("==")[0].lower().replace("_", "-").replace(".", "-")
    )
    assert len(found.environment_digest) == 64
    assert capture(root) == found


def test_the_patch_brings_uncommitted_code_back(repository, tmp_path):
    root, git = repository
    git("init", "-q")
    (root / "features.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-qm", "one")
    (root / "features.py").write_text("a = 2  # ü\n")
    (root / "new.py").write_text("b = 3\n")
    (root / "secrets.env").write_text("PASSWORD=hunter2\n")
    (root / "large.sql").write_text("select 1;\n" * 30_000)
    found = capture(root)
    assert found.dirty
    assert "hunter2" not in found.patch
    assert found.notes == ("the untracked file large.sql is larger than 200000 bytes and is not recorded",)
    write_capture(found, tmp_path / "version")
    assert f"# python {found.python}\n" in (tmp_path / "version" / "environment.txt").read_text()
    git("checkout", "-q", "features.py")
    (root / "new.py").unlink()
    git("apply", str(tmp_path / "version" / "uncommitted.patch"))
    assert (root / "features.py").read_text() == "a = 2  # ü\n"
    assert (root / "new.py").read_text() == "b = 3\n"


def test_no_repository_no_commit_and_no_git_are_only_noted(repository, monkeypatch):
    root, git = repository
    found = capture(root)
    assert (found.commit, found.dirty, found.patch) == (None, False, "")
    assert "not a git repository" in found.notes[0]
    git("init", "-q")
    assert capture(root).commit is None
    monkeypatch.setenv("PATH", str(root))
    assert capture(root).notes == ("the code's commit is not recorded: git is not installed",)
