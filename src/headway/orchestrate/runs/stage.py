"""Starting runs, carrying them out, and running them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, get_args

import msgspec

from headway.clock import WallClock
from headway.define._parameters import parameters, plain, read_parameters
from headway.define._step import Pipeline
from headway.define.records import GateResult, VersionRecord
from headway.define.run_records import ENDED, RunRecord, StepRecord, Trigger
from headway.errors import HeadwayError, NotFoundError, UsageError
from headway.locks import exclusive
from headway.orchestrate._parts import Parts
from headway.orchestrate._user import user
from headway.orchestrate.features import FeatureStage
from headway.orchestrate.models import ModelStage
from headway.orchestrate.plan import plan as plan_targets
from headway.orchestrate.plan import resolve
from headway.orchestrate.run import LOCK, Done, Outcome, Run, result_of
from headway.orchestrate.runs._alive import crashed
from headway.orchestrate.runs.dispatch import dispatch
from headway.orchestrate.runs.history import RunHistory
from headway.orchestrate.runs.recorder import Recorder, commit, recording
from headway.orchestrate.steps import PlannedStep, execute_pipeline, plan_pipeline

PATIENCE = 3600.0  # seconds a queued run waits for another one of the environment to end
_MONITOR, _TRAIN = "monitor:", "train:"
_OF_MODELS = {"monitor": _MONITOR, "train": _TRAIN}  # kinds of runs whose targets are models, and what tells them

Report = Callable[[Done], None]


class Watched(Protocol):
    """What monitoring a model came to."""

    @property
    def said(self) -> str:
        """It, in a line for people."""


class RunStage(RunHistory):
    """``project.runs``: what ran and runs, starting a run, carrying one out, running one again.

    ``start`` and ``rerun`` only put a run into the queue, for ``dispatch`` to find; ``carry_out`` is for who waits.
    """

    def __init__(
        self, parts: Parts, features: FeatureStage, models: ModelStage, monitor: Callable[[str], Sequence[Watched]]
    ) -> None:
        super().__init__(parts.settings, parts.metadata)
        self._parts, self._features, self._models, self._watch = parts, features, models, monitor

    def draft(
        self,
        targets: str | Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        *,
        only: Mapping[str, Any] | None = None,
        trigger: Trigger = "manual",
        by: str | None = None,
    ) -> RunRecord:
        """A run that could be started: its targets exist, its parameters fit. Nothing is stored.

        ``targets`` are sources, views, models and batch predictions (none: the whole project), one pipeline,
        ``monitor:MODEL``, or ``train:MODEL``, which trains and judges and promotes nothing. ``params`` are a
        pipeline's parameters as text or JSON values; ``only`` picks one of the values that it fans out over. Nothing is
        stored.

        Raises
        ------
        NotFoundError, UsageError
            No such target, or parameters that do not fit.
        """
        names = (targets,) if isinstance(targets, str) else tuple(targets)
        run = RunRecord(targets=names, trigger=trigger, by=by or user(), commit=commit(self._settings.root))
        pipelines = self._parts.declarations.pipelines
        if any(name in pipelines for name in names):
            if len(names) > 1:
                raise UsageError(f"a pipeline runs by itself, got {', '.join(names)}; run them one after the other")
            chosen = read_parameters(
                pipelines[names[0]], {**(params or {}), **_picked(pipelines[names[0]], only or {})}
            )
            return msgspec.structs.replace(
                run, kind="pipeline", params={name: plain(value) for name, value in chosen.items()}
            )
        kind = next((k for k, p in _OF_MODELS.items() if names and all(n.startswith(p) for n in names)), "project")
        if kind in _OF_MODELS:
            names = tuple(self._models.declared(name.removeprefix(_OF_MODELS[kind])).name for name in names)
        else:
            _check_known(self._parts, names)
        if params or only:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in [*(params or {}), *(only or {})])
            what = ", ".join(names) or "a run of the whole project"
            raise UsageError(f"{what} takes no parameters, got {given}; they are for pipelines")
        return msgspec.structs.replace(run, kind=kind, targets=names)

    def start(
        self,
        targets: str | Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        *,
        only: Mapping[str, Any] | None = None,
        trigger: Trigger = "manual",
        by: str | None = None,
        why: str = "",
        schedule: str | None = None,
        slot: int | None = None,
        parent: int | None = None,
        from_step: str | None = None,
    ) -> RunRecord:
        """Put a run into the queue; see ``draft`` for the targets and parameters."""
        draft = self.draft(targets, params, only=only, trigger=trigger, by=by)
        more = {"schedule": schedule, "slot": slot, "parent": parent, "from_step": from_step}
        return self._queue(msgspec.structs.replace(draft, **more), "start run", why)

    def draft_again(
        self,
        id: int,
        from_step: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> RunRecord:
        """A run that repeats another one: what is done and unchanged is taken from the cache, so that a run that failed
        or crashed goes on where it ended. Nothing is stored.

        Parameters
        ----------
        from_step
            This step, and all that needs it, is done again even if nothing changed.
        params
            Parameters that shall be others than those of the repeated run.
        """
        before = self.get(id)
        if before.status not in ENDED:
            raise UsageError(f"run {id} is {before.status}; it can run again when it has ended")
        if from_step is not None:
            keys = [step.key for step in self._metadata.runs.steps(id)]
            known = {*(key.partition("[")[0] for key in keys), *keys}
            if from_step not in known:
                raise NotFoundError.among(f"step of run {id}", from_step, known)
        targets = [_OF_MODELS.get(before.kind, "") + name for name in before.targets]
        draft = self.draft(targets, {**before.params, **(params or {})}, trigger="rerun", by=by)
        return msgspec.structs.replace(draft, parent=id, from_step=from_step)

    def rerun(
        self,
        id: int,
        from_step: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        by: str | None = None,
        why: str = "",
    ) -> RunRecord:
        """Put a run that repeats another one into the queue; see ``draft_again``."""
        return self._queue(self.draft_again(id, from_step, params=params, by=by), "rerun", why)

    def tell_again(self, draft: RunRecord, why: str = "") -> None:
        """Note in the audit that a run is repeated, for who carries the draft out at once."""
        details = {"targets": list(draft.targets), "params": draft.params, "from_step": draft.from_step}
        self._tell(draft.by, "rerun", draft.parent or 0, why, details)

    def carry_out(
        self, draft: RunRecord, report: Report = lambda _: None, begun: Callable[[RunRecord], None] = lambda _: None
    ) -> tuple[RunRecord, list[Done]]:
        """Carry out a drafted run in this process, and record it; returns the run and what became of its stages.

        ``report`` hears of every stage as it ends, ``begun`` of the run when it has its number.

        Raises
        ------
        StoreBusy
            Another run of the environment holds its stores; nothing is recorded.
        """
        alone = exclusive(self._settings.locks_dir / "run.lock", LOCK) if draft.kind == "project" else nullcontext()
        with alone:
            return self._record(draft, report, begun, patience=None)

    def train(self, model: str) -> tuple[VersionRecord, GateResult, bool]:
        """Train and register a model in this process, as a run; see ``ModelStage.train``."""
        with recording(self._parts, self.draft(f"{_TRAIN}{model}")) as recorder:
            return self._train(recorder, model)

    def execute(self, id: int, report: Report = lambda _: None) -> tuple[RunRecord, list[Done]]:
        """Take a queued run and carry it out in this process; it waits for another run of the environment to end.

        Raises
        ------
        StoreBusy, UsageError
            The run was taken by somebody else, or has ended.
        """
        return self._record(self.get(id), report, lambda _: None, patience=PATIENCE)

    def plan(
        self, name: str, params: Mapping[str, Any] | None = None, *, only: Mapping[str, Any] | None = None
    ) -> list[PlannedStep]:
        """What a run of a pipeline would do, step by step, and why; nothing is changed."""
        draft = self.draft(self.pipeline(name).name, params, only=only)
        return plan_pipeline(self._parts, self.pipeline(name), draft.params, self._stale)

    def pipeline(self, name: str) -> Pipeline:
        """A pipeline of the project by name."""
        known = self._parts.declarations.pipelines
        if name not in known:
            raise NotFoundError.among("pipeline", name, known)
        return known[name]

    def _record(
        self, run: RunRecord, report: Report, begun: Callable[[RunRecord], None], patience: float | None
    ) -> tuple[RunRecord, list[Done]]:
        done: list[Done] = []

        def told(step: StepRecord) -> None:
            if run.kind != "project" and step.status in get_args(Outcome):
                said = step.error or step.detail or step.why
                done.append(Done("step", step.key, step.status, said, round(step.seconds or 0.0, 3)))  # type: ignore[arg-type]
                report(done[-1])

        with recording(self._parts, run, told) as recorder:
            begun(recorder.run)
            if run.kind == "project":
                done = self._targets(recorder, report, patience)
            elif run.kind == "pipeline":
                self._steps(recorder)
            elif run.kind == "train":
                for name in run.targets:
                    self._train(recorder, name)
            else:
                self._monitor(recorder)
        return self._metadata.runs.get(recorder.run.id) or recorder.run, done

    def _targets(self, recorder: Recorder, report: Report, patience: float | None) -> list[Done]:
        work = Run(self._parts, self._features, self._models, report, recorder, recorder.run.from_step)
        if patience is None:
            return work.carry_out(recorder.run.targets)
        return work.execute(recorder.run.targets, patience=patience)

    def _steps(self, recorder: Recorder) -> None:
        run = recorder.run
        execute_pipeline(
            self._parts,
            self.pipeline(run.targets[0]),
            run.params,
            recorder,
            self._bring_up_to_date,
            from_step=run.from_step,
        )

    def _bring_up_to_date(self, target: str) -> dict[str, Any]:
        """A built-in stage as a step of a pipeline; see ``RunTarget``."""
        if target.startswith(_MONITOR):
            found = self._watch(target.removeprefix(_MONITOR))
            return {"detail": "; ".join(watched.said for watched in found), "at": self._parts.clock.now()}
        report = lambda done: print(f"{done.outcome} {done.stage} {done.target}: {done.detail}")
        done = Run(self._parts, self._features, self._models, report).execute([target], patience=PATIENCE)
        own = [each for each in done if each.target == target] or done
        told = {"status": "done" if any(each.outcome == "done" for each in done) else "cached"}
        return told | {"detail": "; ".join(each.detail for each in own), "is": result_of(self._parts, target)}

    def _stale(self, target: str) -> str | None:
        """Why a built-in stage would do something; None if it is up to date."""
        if target.startswith(_MONITOR) or target in self._parts.declarations.batches:
            return "it runs whenever it is asked for"
        items = plan_targets(self._parts, self._features, [target])
        return next((f"{item.stage} {item.target}: {item.why}" for item in items if item.stale), None)

    def _train(self, recorder: Recorder, model: str) -> tuple[VersionRecord, GateResult, bool]:
        key = f"{_TRAIN}{model}"
        recorder.plan([StepRecord(run=0, key=key, step=key)])
        recorder.started(key, why="it was asked for")
        try:
            with recorder.log(key):
                record, gate, fresh = self._models.train(model)
        except HeadwayError as error:
            recorder.ended(key, "failed", error=str(error))
            raise
        judged = "would let it pass" if gate.passed else "refuses it"
        said = f"version {record.version}; the gate {judged}: {gate.reason}"
        recorder.ended(key, "done" if fresh else "cached", detail=said, digest=record.digest)
        return record, gate, fresh

    def _monitor(self, recorder: Recorder) -> None:
        steps = [StepRecord(run=0, key=f"monitor:{name}", step=f"monitor:{name}") for name in recorder.run.targets]
        recorder.plan(steps)
        for step, name in zip(steps, recorder.run.targets, strict=True):
            recorder.check_cancelled()
            recorder.started(step.key, why="it was asked for")
            try:
                with recorder.log(step.key):
                    found = self._watch(name)
            except HeadwayError as error:
                recorder.ended(step.key, "failed", error=str(error))
                raise
            recorder.ended(step.key, "done", detail="; ".join(watched.said for watched in found))

    def _queue(self, draft: RunRecord, action: str, why: str) -> RunRecord:
        now = WallClock().now()
        run = self._metadata.runs.create(msgspec.structs.replace(draft, status="queued", created_at=now))
        if run.trigger != "schedule":
            details = {"targets": list(run.targets), "params": run.params, "trigger": run.trigger}
            self._tell(run.by, action, run.id, why, details | ({"parent": run.parent} if run.parent else {}))
        return run


def _check_known(parts: Parts, names: Sequence[str]) -> None:
    """Refuse what the project does not declare."""
    declared = parts.declarations
    known = {*declared.sources, *declared.views, *declared.models, *declared.batches, *declared.pipelines}
    for name in names:
        if name not in known:
            raise NotFoundError.among("target", name, known)
    resolve(parts, names)


def _picked(pipeline: Pipeline, only: Mapping[str, Any]) -> dict[str, Any]:
    """Values of parameters that a pipeline fans out over."""
    each = {p.name: p.each for p in parameters(pipeline) if p.each}
    for name, value in only.items():
        if name not in each:
            raise NotFoundError.among(f"parameter that {pipeline.name} fans out over", name, each)
        if str(value) not in map(str, each[name]):
            raise NotFoundError.among(f"{name} of {pipeline.name}", str(value), map(str, each[name]))
    return dict(only)


__all__ = ["Recorder", "RunHistory", "RunStage", "crashed", "dispatch", "recording"]
