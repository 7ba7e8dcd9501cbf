"""Runs whose process is gone."""

from __future__ import annotations

import socket
from pathlib import Path

from headway.define.run_records import RunRecord, RunStatus
from headway.locks import is_held
from headway.metadata import Metadata
from headway.orchestrate.runs.recorder import close_steps, run_lock

_RUNNING: tuple[RunStatus, ...] = ("running",)
SILENCE = 60_000_000  # µs without a sign of life after which a process that cannot be looked at counts as gone


def crashed(metadata: Metadata, home: Path, now: int) -> list[RunRecord]:
    """Mark running runs whose process is gone as crashed, with their steps; returns them.

    On this machine a run lives as long as its lock is held. Elsewhere, or where its lock is not to be seen (another
    checkout that shares the metadata), a minute without a beat means that it is gone. ``home`` is the environment's
    folder, ``now`` wall time.
    """
    found = []
    for run in metadata.runs.list(status=_RUNNING, limit=1000):
        if _lives(home, run, now):
            continue
        said = f"its process ({run.pid} on {run.host}) is gone; `headway runs rerun {run.id}` goes on from there"
        metadata.runs.finish(run.id, "crashed", now, said)
        after = metadata.runs.get(run.id)
        if after is None or after.status != "crashed":
            continue  # it had just come to its end
        closed = close_steps(metadata.runs.steps(run.id), "failed", "the process of the run was gone", now)
        if closed:
            metadata.runs.plan(run.id, closed)
        run_lock(home, run.id).unlink(missing_ok=True)
        found.append(after)
    return found


def _lives(home: Path, run: RunRecord, now: int) -> bool:
    held = is_held(run_lock(home, run.id)) if run.host == socket.gethostname() else None
    if held is not None:
        return held
    return now - max(run.beat_at or 0, run.started_at or 0) < SILENCE
