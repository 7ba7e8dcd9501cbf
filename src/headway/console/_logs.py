"""The logs of a run's steps, read piece by piece from where somebody stopped reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.define.run_records import RunRecord, StepRecord
from headway.orchestrate.runs._step_log import file_name
from headway.orchestrate.runs.history import OUTPUT
from headway.orchestrate.runs.recorder import run_directory
from headway.settings import Settings

PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of one step's log: where it begins and ends, in bytes, and how long the log is now."""

    step: str
    text: str
    begin: int
    end: int
    size: int


def path(settings: Settings, run: int, step: str) -> Path:
    """Where a step's log is, be it there or not; "" stands for what the run's own process printed."""
    return run_directory(settings.home, run) / (file_name(step) if step else OUTPUT)


def piece(settings: Settings, run: int, step: str, offset: int) -> Piece:
    """What the log of a step has from ``offset`` on, at most ``PIECE`` bytes; a negative offset asks for the end."""
    try:
        with path(settings, run, step).open("rb") as file:
            size = file.seek(0, 2)
            begin = max(size - PIECE, 0) if offset < 0 else min(offset, size)
            file.seek(begin)
            data = file.read(PIECE)
    except OSError:
        return Piece(step, "", 0, 0, 0)
    if offset < 0 and begin and b"\n" in data:
        cut = data.index(b"\n") + 1  # begin with a whole line
        begin, data = begin + cut, data[cut:]
    data = data[: len(data) - _broken(data)]  # and end with a whole character: one may be half written
    return Piece(step, data.decode(errors="replace"), begin, begin + len(data), size)


def _broken(data: bytes) -> int:
    """How many bytes at the end belong to a character that is not all there."""
    for n in range(1, min(4, len(data) + 1)):
        byte = data[-n]
        if byte & 0xC0 == 0x80:
            continue
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return n if length > n else 0
    return 0


def chosen(steps: Sequence[StepRecord], asked: str | None) -> StepRecord | None:
    """The step whose log to show: the one asked for, else the first that failed, the one that runs, or the one that
    began last."""
    if asked is not None:
        return next((step for step in steps if step.key == asked), None)
    for status in ("failed", "refused", "running"):
        found = next((step for step in steps if step.status == status), None)
        if found is not None:
            return found
    begun = [step for step in steps if step.started_at is not None]
    return max(begun, key=lambda step: step.started_at or 0, default=None)


def next_step(steps: Sequence[StepRecord], read: str, run: RunRecord) -> StepRecord | None:
    """The step to go on with once the log of ``read`` is read to its end: the one that began after it, if it is
    over."""
    current = next((step for step in steps if step.key == read), None)
    if current is None or current.status == "running" or current.started_at is None or run.status == "queued":
        return None
    later = [s for s in steps if s.started_at is not None and s.started_at > current.started_at]
    return min(later, key=lambda step: step.started_at or 0, default=None)
