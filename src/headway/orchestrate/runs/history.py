"""What can be told of runs without the project's code: lists, logs, differences, lineage; and asking one to end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from headway.clock import WallClock
from headway.define.run_records import Artifact, RunRecord, RunStatus, StepRecord
from headway.errors import NotFoundError
from headway.metadata import Metadata
from headway.orchestrate._user import user
from headway.orchestrate.runs._alive import crashed
from headway.orchestrate.runs._step_log import file_name
from headway.orchestrate.runs.recorder import run_directory
from headway.settings import Settings

OUTPUT = "output.log"  # what a run of its own process printed, outside its steps too


class Change(msgspec.Struct, frozen=True):
    """Something that is not the same in two runs; None where a run does not have it."""

    name: str
    a: Any
    b: Any


class StepChange(msgspec.Struct, frozen=True):
    """One step in two runs. ``differs`` names what is not the same; seconds never are, so they do not count."""

    key: str
    a: StepRecord | None
    b: StepRecord | None
    differs: tuple[str, ...]


class RunDiff(msgspec.Struct, frozen=True):
    """What tells run ``b`` from run ``a``: parameters, facts such as the commit, and every step of either."""

    a: RunRecord
    b: RunRecord
    params: tuple[Change, ...]
    facts: tuple[Change, ...]
    steps: tuple[StepChange, ...]


class Link(msgspec.Struct, frozen=True):
    """A step's place in the lineage: what it read and which step that came from, what it put out, and who used that."""

    key: str
    inputs: dict[str, str]  # argument or table → digest
    origins: dict[str, str]  # argument → key of the step whose output it is
    output: Artifact | None
    used_by: tuple[str, ...]


class RunHistory:
    """The runs of one environment, as they are recorded. Every look notices runs whose process is gone."""

    def __init__(self, settings: Settings, metadata: Metadata) -> None:
        self._settings, self._metadata = settings, metadata

    def list(
        self,
        *,
        status: Collection[RunStatus] = (),
        name: str | None = None,
        kind: str | None = None,
        schedule: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[RunRecord]:
        """Runs, newest first: of these statuses (none: all), with ``name`` among their targets, older than the run
        ``before``."""
        self.find_crashed()
        return self._metadata.runs.list(
            status=status, name=name, kind=kind, schedule=schedule, before=before, limit=limit
        )

    def get(self, id: int) -> RunRecord:
        """One run.

        Raises
        ------
        NotFoundError
            There is none of this number.
        """
        self.find_crashed()
        run = self._metadata.runs.get(id)
        if run is None:
            newest = self._metadata.runs.list(limit=1)
            there = f"the newest is run {newest[0].id}" if newest else "there are none yet; `headway run` makes one"
            raise NotFoundError(f"there is no run {id} in environment {self._settings.env!r}; {there}")
        return run

    def steps(self, id: int) -> Sequence[StepRecord]:
        """The steps of a run, in the order in which they were planned."""
        self.get(id)
        return self._metadata.runs.steps(id)

    def find_crashed(self) -> Sequence[RunRecord]:
        """Mark runs whose process is gone; see ``crashed``."""
        return crashed(self._metadata, self._settings.home, WallClock().now())

    def logs(self, id: int, step: str | None = None, offset: int = 0) -> tuple[str, int]:
        """What a step printed from ``offset`` (bytes) on, and the offset to go on from.

        Without a step: what the run's own process printed, which is nothing for a run that had a terminal.
        """
        name = OUTPUT if step is None else file_name(step)
        try:
            with (run_directory(self._settings.home, id) / name).open("rb") as file:
                file.seek(offset)
                found = file.read()
        except FileNotFoundError:
            return "", offset
        whole = found if not _cut(found) else found[: -_cut(found)]  # a character may be half written
        return whole.decode("utf-8", "replace"), offset + len(whole)

    def diff(self, a: int, b: int) -> RunDiff:
        """What tells run ``b`` from run ``a``."""
        first, second = self.get(a), self.get(b)
        steps = [{step.key: step for step in self._metadata.runs.steps(id)} for id in (a, b)]
        return RunDiff(
            a=first,
            b=second,
            params=_changes(first.params, second.params),
            facts=_changes(_facts(first), _facts(second)),
            steps=tuple(
                StepChange(key, steps[0].get(key), steps[1].get(key), _differs(steps[0].get(key), steps[1].get(key)))
                for key in dict.fromkeys([*steps[0], *steps[1]])
            ),
        )

    def lineage(self, id: int) -> Sequence[Link]:
        """What every step of a run read and put out, and which steps used that."""
        return lineage(self.steps(id))

    def cancel(self, id: int, by: str | None = None, why: str = "") -> RunStatus:
        """Ask for a run to end; returns its status now.

        A queued run is cancelled at once, a running one within about a second, and one that ended stays as it is.
        """
        before, by = self.get(id), by or user()
        status = self._metadata.runs.cancel(id, by, WallClock().now())
        if before.status in ("queued", "running"):
            self._tell(by, "cancel run", id, why, {"targets": list(before.targets)})
        return status

    def fail_queued(self, id: int, error: str) -> None:
        """Note why a queued run could not be carried out, if nobody has taken it."""
        run = self._metadata.runs.get(id)
        if run is not None and run.status == "queued":
            self._metadata.runs.finish(id, "failed", WallClock().now(), self._settings.redact(error))

    def _tell(self, by: str, action: str, id: int, why: str, details: Mapping[str, Any]) -> None:
        self._metadata.audit.append(by, action, f"run {id}", why, details, at=WallClock().now())


def lineage(steps: Sequence[StepRecord]) -> list[Link]:
    """The steps of one run with where their inputs came from and who used their outputs.

    Steps that put out the same are told apart by what the reader needs.
    """
    made: dict[str, dict[str, None]] = {}
    for step in steps:
        if step.output is not None:
            made.setdefault(step.output.digest, {})[step.key] = None
    origins = {
        step.key: {
            name: next((key for key in step.needs if key in made[digest]), next(iter(made[digest])))
            for name, digest in step.inputs.items()
            if digest in made
        }
        for step in steps
    }
    users: dict[str, dict[str, None]] = {}
    for step in steps:
        for key in (*step.needs, *origins[step.key].values()):
            users.setdefault(key, {})[step.key] = None
    return [
        Link(step.key, step.inputs, origins[step.key], step.output, tuple(users.get(step.key, ()))) for step in steps
    ]


def seconds(run: RunRecord, now: int | None = None) -> float | None:
    """How long a run took, or has taken until ``now``; None if it has not begun or is not over."""
    end = run.ended_at or now
    return None if run.started_at is None or end is None else max(end - run.started_at, 0) / 1e6


def _facts(run: RunRecord) -> dict[str, Any]:
    return {
        "targets": list(run.targets),
        "status": run.status,
        "error": run.error or None,
        "commit": run.commit,
        "trigger": run.trigger,
        "by": run.by,
        "host": run.host,
        "from_step": run.from_step,
        "schedule": run.schedule,
    }


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys([*a, *b])
    return tuple(Change(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name))


def _differs(a: StepRecord | None, b: StepRecord | None) -> tuple[str, ...]:
    """What is not the same of a step in two runs. One found in the cache is as good as one done."""
    if a is None or b is None:
        return ("there",)
    found = [] if a.status == b.status or {a.status, b.status} <= {"done", "cached"} else ["status"]
    for name in ("digest", "detail", "error"):
        one, other = getattr(a, name), getattr(b, name)
        if one != other and ((one and other) or name == "error"):
            found.append(name)
    for what, one, other in (("input", a.inputs, b.inputs), ("made of", a.made_of, b.made_of)):
        if one and other:
            found += [f"{what} {change.name}" for change in _changes(one, other)]
    if a.output is not None and b.output is not None and a.output.digest != b.output.digest:
        found.append("output")
    return tuple(found)


def _cut(text: bytes) -> int:
    """How many bytes at the end are the beginning of a UTF-8 character that is not whole yet."""
    for back in range(1, min(4, len(text) + 1)):
        byte = text[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue  # the middle of a character
        wanted = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        return back if wanted > back else 0
    return 0
