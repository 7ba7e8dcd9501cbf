"""What the engine tells of a run, and asks: the part of a recorder that it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from headway.define.run_records import Artifact, RunRecord, StepRecord, StepStatus


class Recorder(Protocol):
    """One run being carried out. Threads may share it; what it was told is kept when a call returns."""

    run: RunRecord

    def plan(self, steps: Sequence[StepRecord]) -> None:
        """Steps that are known now; what was told of one already stays."""

    def started(
        self,
        key: str,
        *,
        attempt: int = 1,
        digest: str | None = None,
        inputs: Mapping[str, str] | None = None,
        made_of: Mapping[str, Any] | None = None,
        why: str = "",
    ) -> None:
        """A step begins, or begins again."""

    def ended(
        self,
        key: str,
        status: StepStatus,
        *,
        detail: str = "",
        why: str = "",
        output: Artifact | None = None,
        error: str = "",
        seconds: float | None = None,
        digest: str | None = None,
        inputs: Mapping[str, str] | None = None,
        made_of: Mapping[str, Any] | None = None,
    ) -> None:
        """A step ended, or need not begin."""

    def log(self, key: str) -> AbstractContextManager[None]:
        """Within the block, what is printed goes to the step's log."""

    def log_path(self, key: str) -> Path:
        """The step's log, which a worker appends to by itself."""

    def cancelled(self) -> str | None:
        """Who asked for the run to end."""
