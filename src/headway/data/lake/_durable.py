"""Files that survive: locks of dead processes do not block, half-written files do not stay, written ones do."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def staged_file(folder: Path) -> Iterator[BinaryIO]:
    """A new file in ``folder`` to write to; it is removed at the end unless it has been moved away.

    Files that a killed process left there are removed first: a living one holds a lock on its file.
    """
    _sweep(folder)
    path, file = _claim(folder)
    try:
        with file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _claim(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f"{uuid.uuid4().hex}.parquet"
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # else swept between its making and its lock
            return path, file
        file.close()


def _sweep(folder: Path) -> None:
    for path in folder.glob("*.parquet"):
        try:
            with path.open("rb") as file:
                if _try_lock(file):
                    path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_file(path: Path) -> None:
    """Have a file's content, or a directory's entries, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its parents so that they survive."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_file(path.parent)
