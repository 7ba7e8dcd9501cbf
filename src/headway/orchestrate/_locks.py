"""One run at a time: advisory locks that die with their process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headway.errors import StoreBusy


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock at ``path`` or say who does.

    The kernel drops the lock when its process dies, so a file left behind is never in the way; what it says of its
    holder is only for the message and for ``doctor``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(f"{what} is under way already ({holder(path)}); wait for it, or end it") from None
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "command": _command()}).encode())
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def holder(path: Path) -> str:
    """Who wrote itself into a lock file, in words."""
    try:
        found = json.loads(path.read_text() or "{}")
        return f"process {found['pid']} on {found['host']}: {found['command']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "an unnamed process"


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
