"""A version's directory: put in place whole or not at all, and checked against what was recorded."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from headway.errors import ArtifactError

_INCOMING = ".incoming-"


def publish(staging: Path, target: Path) -> None:
    """Move a finished directory to ``target``, replacing what is there; on disk when the call returns.

    A process killed at any moment leaves ``target`` absent, as it was, or complete.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync_tree(staging)
    if target.exists():
        shutil.rmtree(target)
    try:
        staging.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_across(staging, target)
    _sync(target.parent)
    _sync(target.parent.parent)


def digests(directory: Path) -> dict[str, str]:
    """The sha256 of every file under ``directory``, by path relative to it."""
    return {name: sha256(directory / name) for name in sorted(_names(directory))}


def sha256(path: Path) -> str:
    """The sha256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(directory: Path, files: Mapping[str, str], what: str) -> None:
    """Compare files with their recorded sha256.

    Raises:
        ArtifactError: the first file that is missing, unreadable or changed.
    """
    for name, expected in files.items():
        try:
            found = sha256(directory / name)
        except FileNotFoundError:
            raise ArtifactError(f"{name} of {what} is missing from {directory}") from None
        except OSError as error:
            raise ArtifactError(f"{name} of {what} cannot be read from {directory}: {error.strerror}") from None
        if found != expected:
            raise ArtifactError(
                f"{name} of {what} in {directory} was changed since it was recorded: "
                f"its sha256 is {found[:12]}…, not {expected[:12]}…"
            )


def _move_across(staging: Path, target: Path) -> None:
    """From another file system: copy beside the target first, so that the target still appears at once."""
    incoming = target.with_name(_INCOMING + target.name)
    shutil.rmtree(incoming, ignore_errors=True)
    shutil.copytree(staging, incoming)
    _sync_tree(incoming)
    incoming.rename(target)
    shutil.rmtree(staging)


def _names(directory: Path) -> Iterator[str]:
    for folder, _, names in os.walk(directory):
        for name in names:
            yield (Path(folder) / name).relative_to(directory).as_posix()


def _sync_tree(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            _sync(Path(folder) / name)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
