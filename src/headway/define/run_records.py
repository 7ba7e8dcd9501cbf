"""What runs leave behind: runs, their steps, what the steps put out, and the slots of schedules."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

RunStatus = Literal["queued", "running", "done", "failed", "refused", "cancelled", "crashed"]
StepStatus = Literal["waiting", "running", "done", "cached", "failed", "refused", "skipped", "cancelled"]
Trigger = Literal["manual", "schedule", "console", "alert", "rerun"]
ArtifactType = Literal["json", "arrow", "npy", "bytes", "file", "pickle"]

ENDED: frozenset[RunStatus] = frozenset({"done", "failed", "refused", "cancelled", "crashed"})


class Artifact(msgspec.Struct, frozen=True):
    """What a step put out, kept by content: the same content is the same file.

    ``digest`` is 32 hex digits of the content; ``path`` is relative to the environment's artifact root; ``preview``
    is a line for people.
    """

    digest: str
    type: ArtifactType
    size: int  # bytes
    path: str
    preview: str = ""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run of targets or of a pipeline. ``id`` counts up within a database and is what people type."""

    id: int = 0
    kind: Literal["project", "pipeline", "monitor", "train"] = "project"
    targets: tuple[str, ...] = ()  # of a project run (none: everything); a pipeline run has its name as the only one
    params: dict[str, Any] = msgspec.field(default_factory=dict)  # of a pipeline, as JSON values
    status: RunStatus = "queued"
    trigger: Trigger = "manual"
    by: str = ""
    created_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    beat_at: int | None = None  # the owner's last sign of life
    host: str | None = None
    pid: int | None = None
    parent: int | None = None  # the run that this one repeats or resumes
    from_step: str | None = None  # with parent: this step and what follows it run again, cached or not
    schedule: str | None = None
    slot: int | None = None
    behind: int | None = None  # the run that must have ended before anybody may take this one
    commit: str | None = None
    error: str = ""
    cancel_by: str | None = None  # who asked for it to end

    @property
    def name(self) -> str:
        """What was run, for people."""
        return ", ".join(self.targets) or "everything"


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run. ``key`` is unique within the run: ``train:trip_duration``, ``export[city=lisbon]``."""

    run: int
    key: str
    step: str  # the stage or function, without its item
    item: dict[str, Any] = msgspec.field(default_factory=dict)  # of a fan-out
    needs: tuple[str, ...] = ()  # keys of steps that come before
    status: StepStatus = "waiting"
    why: str = ""  # why it ran or did not
    digest: str | None = None  # of code, libraries, parameters and inputs: the key of the cache
    attempt: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    seconds: float | None = None
    inputs: dict[str, str] = msgspec.field(default_factory=dict)  # argument → digest of the artifact
    made_of: dict[str, Any] = msgspec.field(default_factory=dict)  # what ``digest`` covers, to say what changed
    output: Artifact | None = None
    detail: str = ""  # what came of it, for people
    error: str = ""


class ScheduleState(msgspec.Struct, frozen=True):
    """What is known of a schedule besides its declaration. Slots before ``since`` are nobody's business."""

    name: str  # model:trip_duration, batch:nightly, pipeline:publish, monitor:trip_duration
    since: int
    paused: bool = False
    by: str = ""
    at: int = 0
    why: str = ""


class Slot(msgspec.Struct, frozen=True):
    """One due moment of a schedule: taken exactly once, to run or to be skipped for a reason."""

    schedule: str
    slot: int
    taken_at: int
    taken_by: str
    run: int | None  # None: skipped
    why: str = ""


class AuditLine(msgspec.Struct, frozen=True):
    """Something somebody did besides deployments: started or cancelled a run, paused a schedule, answered an alert."""

    id: int
    at: int
    by: str
    action: str  # "start run", "pause schedule", "acknowledge alert", …
    object: str
    why: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)
