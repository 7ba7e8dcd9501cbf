"""One process at a time per model."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headway.errors import StoreBusy

_PAUSE = 0.05


@contextmanager
def waiting_lock(path: Path, what: str, patience: float = 60.0) -> Iterator[None]:
    """Hold the lock at ``path``, waiting up to ``patience`` seconds for it.

    The kernel drops the lock when its holder dies; what the file says of the holder is for messages and ``doctor``.

    Raises:
        StoreBusy: a living process holds it for longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, path, what, patience)
        os.ftruncate(handle, 0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": command}
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(handle: int, path: Path, what: str, patience: float) -> None:
    for _ in range(max(1, round(patience / _PAUSE))):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_PAUSE)
    raise StoreBusy(f"{what} is locked by {_holder(path)}; wait for it or end it, then try again")


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text())
        return f"process {found['pid']} on {found['host']} ({found['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
