"""The code and the environment a training ran in: git commit, what was not committed, installed packages."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import msgspec

from headway.plugins import import_path
from headway.train._files import write_bytes

_TIMEOUT_SECONDS = 30
_LARGEST_PATCH = 5_000_000
_LARGEST_UNTRACKED = 200_000
# What a project's code is written in. Other untracked files may be data, or hold secrets.
_CODE = (".py", ".sql", ".toml")
_OWN = ":(exclude,glob)**/.headway/**"


class Captured(msgspec.Struct, frozen=True):
    """What was found. ``notes`` says, a sentence each, what could not be."""

    commit: str | None
    dirty: bool
    patch: str  # applies with `git apply` at the top of the repository; "" if nothing is uncommitted
    python: str
    environment: tuple[str, ...]  # name==version, sorted
    environment_digest: str  # sha256 of python and environment
    notes: tuple[str, ...] = ()


class _GitError(Exception):
    """Why git could not say."""


def capture(root: Path) -> Captured:
    """Look at the repository around ``root`` and at the installed packages. Never fails a training: see ``notes``."""
    python = platform.python_version()
    environment = installed()
    digest = hashlib.sha256("\n".join((python, *environment)).encode()).hexdigest()
    notes: list[str] = []
    try:
        commit: str | None = _git(root, "rev-parse", "--verify", "HEAD").strip()
        changed = bool(_git(root, "status", "--porcelain", "--", ":/", _OWN).strip())
        patch = _patch(root, notes) if changed else ""
    except _GitError as error:
        commit, changed, patch = None, False, ""
        notes.append(f"the code's commit is not recorded: {error}")
    return Captured(commit, changed, patch, python, environment, digest, tuple(notes))


def write_capture(captured: Captured, directory: Path) -> None:
    """Write ``environment.txt``, and ``uncommitted.patch`` if there is one, and wait until the disk has them."""
    lines = (f"# python {captured.python}", *captured.environment)
    write_bytes(directory / "environment.txt", ("\n".join(lines) + "\n").encode())
    if captured.patch:
        write_bytes(directory / "uncommitted.patch", captured.patch.encode("utf-8", "surrogateescape"))


def installed() -> tuple[str, ...]:
    """``name==version`` of every installed distribution, sorted; the first on the path wins."""
    return _installed(import_path())


@lru_cache(maxsize=4)
def _installed(where: object) -> tuple[str, ...]:  # noqa: ARG001 - what is installed is found there
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower().replace("_", "-").replace(".", "-"), f"{name}=={distribution.version}")
    return tuple(found[name] for name in sorted(found))


def _patch(root: Path, notes: list[str]) -> str:
    top = Path(_git(root, "rev-parse", "--show-toplevel").strip())
    pieces = [_git(root, "diff", "--no-color", "--no-ext-diff", "HEAD", "--", ":/", _OWN)]
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ".", _OWN)
    for name in filter(None, listed.split("\0")):
        file = top / name
        if not name.endswith(_CODE) or not file.is_file() or file.is_symlink():
            continue
        if file.stat().st_size > _LARGEST_UNTRACKED:
            notes.append(f"the untracked file {name} is larger than {_LARGEST_UNTRACKED} bytes and is not recorded")
            continue
        # Exit code 1 only says that the two differ, as anything does from nothing.
        pieces.append(
            _git(top, "diff", "--no-color", "--no-ext-diff", "--no-index", "--", os.devnull, name, codes=(0, 1))
        )
    patch = "".join(pieces)
    if len(patch) > _LARGEST_PATCH:
        notes.append(
            f"the uncommitted changes are {len(patch)} characters, more than {_LARGEST_PATCH}, and not recorded"
        )
        return ""
    return patch


def _git(directory: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    # No locks: a training must not be in the way of somebody committing.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise _GitError("git is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _GitError(f"git {arguments[0]} did not answer ({error})") from error
    if done.returncode not in codes:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _GitError(said[0] if said else f"git {arguments[0]} ended with code {done.returncode}")
    return done.stdout.decode("utf-8", "surrogateescape")
