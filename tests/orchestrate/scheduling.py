"""A scheduler that also carries out what it queued, for processes that are killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from headway.define import Schedule
from headway.define.run_records import RunRecord
from headway.metadata import open_metadata
from headway.orchestrate.runs.schedules import Scheduled, Scheduler

NAME = "pipeline:publish"
MINUTE = 60_000_000


class FastClock:
    """Runs ``speed`` times as fast as the machine's time since ``origin``, and stops at the last of the moments."""

    def __init__(self, origin: float, speed: float, moments: int) -> None:
        self._origin, self._speed, self._last = origin, speed, (moments - 1) * MINUTE

    def now(self) -> int:
        return min(int((time.monotonic() - self._origin) * self._speed * 1e6), self._last)


def work(url: str, output: Path, origin: float, speed: float, moments: int) -> None:
    """Schedule a run for every minute, and take and carry out whatever is queued, for ever."""
    schedule = Schedule("* * * * *", missed="all", overlap="allow")
    declared = {NAME: Scheduled(NAME, "publish", schedule)}
    with open_metadata(url, "trips", "local") as metadata:
        scheduler = Scheduler(metadata, declared, _draft, FastClock(origin, speed, moments))
        while True:
            scheduler.tick()
            for run in metadata.runs.list(status=["queued"], limit=10):
                if metadata.runs.take(run.id, "here", os.getpid(), 1) is not None:
                    with output.open("a") as lines:
                        lines.write(f"{run.slot}\n")
                    metadata.runs.finish(run.id, "done", 2)
            time.sleep(0.005)


def _draft(target: str) -> RunRecord:
    return RunRecord(kind="pipeline", targets=(target,))
