"""One process at a time: advisory locks that die with their process."""

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

_PAUSE = 0.02
_held: set[int] = set()  # handles of the locks this process holds or waits for


def _let_go() -> None:
    """A forked child has its parent's handles: one that outlives the parent would keep its locks."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def exclusive(path: Path, what: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock at ``path``, waiting up to ``patience`` seconds for it.

    The kernel drops the lock when its process dies, so a file left behind is never in the way; what it says of its
    holder is only for the message and for ``doctor``.

    Raises
    ------
    StoreBusy
        A living process holds it for longer; the message says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(handle)
    try:
        _take(handle, path, what, patience)
        try:
            command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": command}
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(holder).encode(), 0)
            yield
        finally:
            if handle in _held:
                os.ftruncate(handle, 0)
    finally:
        if handle in _held:
            _held.discard(handle)
            os.close(handle)


def is_held(path: Path) -> bool | None:
    """Whether a living process of this machine holds the lock at ``path``; None if there is no such file.

    Looking holds the lock itself for a moment: whoever wants it should have a little patience.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _take(handle: int, path: Path, what: str, patience: float) -> None:
    pause = _PAUSE if patience < 60 else 0.5
    for left in range(round(patience / pause), -1, -1):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if left:
                time.sleep(pause)
    raise StoreBusy(f"{what} is under way already ({_holder(path)}); wait for it or end it, then try again")


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text())
        return f"process {found['pid']} on {found['host']}: {found['command']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
