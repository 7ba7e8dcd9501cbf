"""Starting a process for each queued run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headway.clock import WallClock
from headway.define.run_records import RunRecord, RunStatus
from headway.errors import StoreBusy
from headway.locks import exclusive
from headway.metadata import Metadata
from headway.orchestrate.runs._alive import crashed
from headway.orchestrate.runs.history import OUTPUT
from headway.orchestrate.runs.recorder import run_directory
from headway.settings import Settings

_QUEUED: tuple[RunStatus, ...] = ("queued",)
_RUNNING: tuple[RunStatus, ...] = ("running",)
AT_ONCE = 4
TRIES = 3  # processes started for a run that died before they could take it
_NOTE = "dispatched.json"
_LONGEST_START = 300_000_000  # µs after which a process that has not taken its run is not waited for
_children: set[int] = set()  # processes started here, until they end: none stays behind as a zombie


def dispatch(settings: Settings, metadata: Metadata) -> int:
    """Start ``python -m headway runs execute ID`` in a session of its own for queued runs, oldest first.

    At most four runs of an environment go on at once, and one of them is of the project: more would only wait for its
    lock. Any number of dispatchers may be at it; a run is carried out once, by the process that takes it. Returns how
    many were started. To be called about once a second.
    """
    _reap()
    if not metadata.runs.list(status=_QUEUED, limit=1):
        return 0
    try:
        with exclusive(settings.locks_dir / "dispatch.lock", "the dispatcher"):
            return _start_some(settings, metadata)
    except StoreBusy:
        return 0  # another dispatcher is at it this very moment


def _reap() -> None:
    for pid in list(_children):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True
        if ended:
            _children.discard(pid)


def _start_some(settings: Settings, metadata: Metadata) -> int:
    crashed(metadata, settings.home, WallClock().now())
    going = metadata.runs.list(status=_RUNNING, limit=1000)
    queued = sorted(metadata.runs.list(status=_QUEUED, limit=1000), key=lambda run: run.id)
    begun = [run for run in queued if _is_starting(settings, run)]
    busy = len(going) + len(begun)
    project = any(run.kind == "project" for run in [*going, *begun])
    started = 0
    for run in queued:
        if run in begun or (project and run.kind == "project") or _waits(run, [*going, *queued]):
            continue
        if busy >= AT_ONCE:
            break
        if _start(settings, metadata, run):
            busy, started, project = busy + 1, started + 1, project or run.kind == "project"
    return started


def _waits(run: RunRecord, others: Sequence[RunRecord]) -> bool:
    """Whether the run that this one is behind, or an earlier one of its schedule, has not ended: nobody may take it."""
    if run.behind is None:
        return False
    return any(
        other.id == run.behind
        or (run.schedule is not None and other.schedule == run.schedule and other.id < run.behind)
        for other in others
    )


def _is_starting(settings: Settings, run: RunRecord) -> bool:
    """Whether a process was started for the run that has not taken it yet."""
    note = _read_note(settings, run.id)
    age = WallClock().now() - int(note.get("at", 0))
    if note.get("host") != socket.gethostname() or age > _LONGEST_START:
        return False
    try:
        os.kill(int(note["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _start(settings: Settings, metadata: Metadata, run: RunRecord) -> bool:
    directory = run_directory(settings.home, run.id)
    directory.mkdir(parents=True, exist_ok=True)
    tries = int(_read_note(settings, run.id).get("tries", 0)) + 1
    if tries > TRIES:
        said = f"{TRIES} processes that were started for it ended before they could; `headway runs logs {run.id}`"
        metadata.runs.finish(run.id, "failed", WallClock().now(), said)
        return False
    with (directory / OUTPUT).open("ab") as output:
        child = subprocess.Popen(
            command(settings, run.id),
            cwd=settings.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _children.add(child.pid)
    child.returncode = 0  # it may well outlive this process: `_reap` looks after it, and no warning is due
    note = {"pid": child.pid, "host": socket.gethostname(), "tries": tries, "at": WallClock().now()}
    temporary = directory / f"{_NOTE}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(note))
    temporary.replace(directory / _NOTE)
    return True


def command(settings: Settings, run: int) -> list[str]:
    """The command line that carries out a queued run."""
    place = ["-C", str(settings.root), "-e", settings.env]
    return [sys.executable, "-m", "headway", "runs", "execute", str(run), *place]


def _read_note(settings: Settings, run: int) -> dict[str, Any]:
    file: Path = run_directory(settings.home, run) / _NOTE
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found
