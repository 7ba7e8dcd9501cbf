"""A folder for what does not fit into memory. It goes with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
import weakref
from pathlib import Path


class Scratch:
    """A folder of this process's own below ``root``.

    Folders that killed processes left there are removed first: a living one holds a lock on its own.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        self.path, handle = _claim(root)
        self._finalizer = weakref.finalize(self, _remove, self.path, handle, os.getpid())

    def new(self, name: str) -> Path:
        """Another folder in it, which is there."""
        path = self.path / f"{name}-{uuid.uuid4().hex[:12]}"
        path.mkdir(parents=True)
        return path

    def close(self) -> None:
        """Remove the folder with all that is in it; a second call does nothing."""
        self._finalizer()


def _claim(root: Path) -> tuple[Path, int]:
    while True:
        path = root / uuid.uuid4().hex
        path.mkdir()
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists():  # else swept between its making and its lock
            return path, handle
        os.close(handle)


def _sweep(root: Path) -> None:
    for path in root.iterdir():
        if not path.is_dir():
            continue
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(handle)


def _remove(path: Path, handle: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child's copy is not its own to remove
        shutil.rmtree(path, ignore_errors=True)
    os.close(handle)
