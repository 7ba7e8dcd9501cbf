"""``headway run``: bring targets up to date, in order, each stage only if it is stale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from headway.clock import stopwatch, to_iso
from headway.data.quality import raise_for, run_checks
from headway.define import BatchPrediction, Model, Source
from headway.define.records import CheckResult, GateResult, IngestResult, VersionRecord, ViewPlan
from headway.define.run_records import StepRecord
from headway.errors import Cancelled, GateRefused, HeadwayError, StoreError
from headway.locks import exclusive
from headway.orchestrate import plan as planning
from headway.orchestrate._parts import Parts
from headway.orchestrate._publish import publish
from headway.orchestrate.features import FeatureStage
from headway.orchestrate.ingest import copy, is_copied
from headway.orchestrate.models import ModelStage
from headway.orchestrate.plan import Item, Stage
from headway.orchestrate.predictions.batch import predict_batch
from headway.orchestrate.runs._graph import following, key, steps_of, stopped_by
from headway.orchestrate.runs.recorder import Recorder
from headway.orchestrate.training import judged_version, train_version

Outcome = Literal["done", "cached", "refused", "failed", "skipped"]
LOCK = "a run of this environment"


class Done(msgspec.Struct, frozen=True):
    """What became of one stage of a run."""

    stage: str
    target: str
    outcome: Outcome
    detail: str
    seconds: float = 0.0


@dataclass(eq=False)
class Run:
    """One run: decides, does, and remembers. ``report`` is told of every stage as it ends, ``recorder`` of all.

    ``from_step`` is a stage that is done again, with all that needs it, be it stale or not.
    """

    parts: Parts
    features: FeatureStage
    models: ModelStage
    report: Callable[[Done], None] = lambda _: None
    recorder: Recorder | None = None
    from_step: str | None = None
    done: list[Done] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)  # step → why nothing that needs it may be done
    errors: list[HeadwayError] = field(default_factory=list)
    steps: dict[str, StepRecord] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)

    def execute(self, names: Iterable[str] = (), *, patience: float = 0.0) -> list[Done]:
        """Run the targets (all, if none is named).

        What fails stops what depends on it and nothing else; it is raised at the end. ``patience`` is how many seconds
        to wait for another run of the environment to end.

        Raises
        ------
        CheckFailed, GateRefused
            After everything else was done; so is any other error of a stage, before these.
        StoreBusy
            Another run of this environment is under way.
        """
        with exclusive(self.parts.settings.locks_dir / "run.lock", LOCK, patience=patience):
            return self.carry_out(names)

    def carry_out(self, names: Iterable[str] = ()) -> list[Done]:
        """``execute`` for who holds the environment's lock already."""
        names = list(names)
        targets = planning.resolve(self.parts, names)
        planned = steps_of(self.parts, targets)
        self.steps = {step.key: step for step in planned}
        self.again = following(planned, self.from_step)
        if self.recorder is not None:
            self.recorder.plan(planned)
        for name in targets.sources:
            self._source(self.parts.declarations.sources[name])
        for name in targets.models:
            self._model(self.parts.declarations.models[name])
        for name in targets.views:
            self._view(name)
        whole = not names and not self.stopped
        if whole or targets.views:
            self._publish(whole)
        if whole:
            self._keep_others()
        for name in targets.batches:
            self._batch(self.parts.declarations.batches[name])
        if self.errors:
            raise next((e for e in self.errors if e.exit_code != 3), self.errors[0])
        return self.done

    def _stage(
        self, stage: Stage, target: str, look: Callable[[], Item], do: Callable[[], str | Item], step: str | None = None
    ) -> None:
        """Do one stage if it is stale.

        ``look`` says whether it is stale; ``do`` returns what came of it, or an item if it found that it had nothing
        to do after all. ``step`` is the step's key, if it is not the stage's and target's.
        """
        step, watch = step or key(stage, target), stopwatch()
        if self.recorder is not None:
            self.recorder.check_cancelled()
        why = stopped_by(self.steps[step].needs if step in self.steps else (), self.stopped)
        if why is not None:
            self.stopped[step] = why
            self._note(step, stage, target, "skipped", why)
            return
        try:
            item = look()
            if not item.stale and step not in self.again:
                self._note(step, stage, target, "cached", item.why, digest=item.digest)
                return
            found = self._do(step, item, do)
        except Cancelled:
            raise
        except HeadwayError as error:
            if self.recorder is not None:
                self.recorder.check_cancelled()  # then that is why: an interrupted query is an error of the engine
            self._broke(step, stage, target, error, watch())
            return
        if isinstance(found, Item):
            self._note(step, stage, target, "cached", found.why, digest=found.digest)
        else:
            self._note(step, stage, target, "done", found, watch())

    def _do(self, step: str, item: Item, do: Callable[[], str | Item]) -> str | Item:
        self.parts.progress(f"{item.stage} {item.target}", 0, 0)
        if self.recorder is None:
            return do()
        why = item.why if item.stale else f"asked to run again from {self.from_step}"
        inputs = lake_inputs(self.parts, item.stage, item.target)
        self.recorder.started(step, digest=item.digest, inputs=inputs, why=why)
        with self.recorder.log(step):
            return do()

    def _broke(self, step: str, stage: str, target: str, error: HeadwayError, seconds: float) -> None:
        """A stage failed, or was told no. A gate's no stops nothing: what answered goes on answering."""
        self.errors.append(error)
        if isinstance(error, GateRefused):
            self._note(step, stage, target, "refused", str(error), seconds)
            return
        refused = error.exit_code == 3
        said = f"a check of {target} failed" if stage == "check" and refused else f"{stage} {target} failed"
        self.stopped[step] = said
        self._note(step, stage, target, "refused" if refused else "failed", str(error), seconds)

    def _note(
        self,
        step: str,
        stage: str,
        target: str,
        outcome: Outcome,
        said: str,
        seconds: float = 0.0,
        digest: str | None = None,
    ) -> None:
        entry = Done(stage, target, outcome, said, round(seconds, 3))
        self.done.append(entry)
        if self.recorder is not None:
            self.recorder.ended(
                step,
                outcome,
                detail=said if outcome == "done" else "",
                why=said if outcome in ("cached", "skipped") else "",
                error=said if outcome in ("refused", "failed") else "",
                seconds=seconds or None,
                digest=digest,
            )
        self.report(entry)

    def _source(self, source: Source) -> None:
        if is_copied(source):
            look = lambda: planning.ingest_item(self.parts, source)
            self._stage("ingest", source.name, look, lambda: _told(copy(self.parts, source)))
        if source.checks:
            look = lambda: planning.check_item(self.parts, source, False)
            self._stage("check", source.name, look, lambda: self._check(source))

    def _check(self, source: Source) -> str:
        results = _checked(self.parts, source)
        raise_for(results)
        return checks_in_words(results)

    def _model(self, model: Model) -> None:
        found: list[tuple[VersionRecord, GateResult]] = []

        def look() -> Item:
            item = planning.train_item(self.parts, model, set())
            known = None if item.stale or item.digest is None else judged_version(self.parts, model, item.digest)
            if known is None:
                return item
            found.append(known)
            return Item("train", model.name, False, version_in_words(known[0]), item.digest)

        def do() -> str | Item:
            record, gate, trained = train_version(self.parts, model)
            found.append((record, gate))
            told = version_in_words(record)
            return told if trained else Item("train", model.name, False, told, record.digest)

        def decide() -> str | Item:
            item = self._decided(found[-1][0])
            return promote(self.parts, self.models, *found[-1]) if item.stale else item

        self._stage("train", model.name, look, do)
        self._stage("promote", model.name, lambda: self._decided(found[-1][0]), decide)

    def _decided(self, record: VersionRecord) -> Item:
        """Was it decided already whether this version answers?"""
        log = self.parts.registry.log(record.model)
        if not any(line.version == record.version for line in log):
            return Item("promote", record.model, True, f"version {record.version} is new")
        champion = self.parts.registry.champion(record.model)
        live = champion is not None and champion.version == record.version
        return Item("promote", record.model, False, "it answers already" if live else "it was decided already")

    def _view(self, name: str) -> None:
        def do() -> str | Item:
            plan = self.parts.binder.view(self.features.view(name))
            return self._materialize(plan, full=key("materialize", name) in self.again)

        self._stage("materialize", name, lambda: planning.materialize_item(self.parts, self.features, name, set()), do)

    def _materialize(self, plan: ViewPlan, *, full: bool = False) -> str | Item:
        (result,) = self.features.materialize_plans([plan], full=full)
        if result.outcome in ("full", "changed"):
            return f"{result.written} entities, as of {to_iso(result.as_of)}"
        return Item("materialize", plan.name, False, "its last refresh is there")

    def _publish(self, whole: bool) -> None:
        try:
            publish(self.parts, whole=whole)
        except StoreError as error:  # then every view failed, too, and whatever is served stays as it is
            self.errors.append(error)

    def _keep_others(self) -> None:
        """Keep online what older versions need that answer now or would after a rollback; drop what nobody needs."""
        own = {plan.fingerprint for plan in self.features.plans().values()}
        for plan in self.features.needed().values():
            item = planning.bound_item(self.parts, plan)
            if plan.fingerprint not in own and item.stale:
                self._other(plan, item)
        self.features.collect()

    def _other(self, plan: ViewPlan, item: Item) -> None:
        step = f"{key('materialize', plan.name)}[{plan.fingerprint[:8]}]"
        self._stage("materialize", plan.name, lambda: item, lambda: self._materialize(plan), step)

    def _batch(self, batch: BatchPrediction) -> None:
        def do() -> str:
            rows, version = predict_batch(self.parts, self.models, batch)
            return f"{rows} rows by version {version} → {batch.output}"

        self._stage("predict", batch.name, lambda: Item("predict", batch.name, True, "it was asked for"), do)


def promote(parts: Parts, models: ModelStage, record: VersionRecord, gate: GateResult) -> str:
    """Make a version answer if its gate lets it; returns what came of it.

    Raises
    ------
    GateRefused
        The gate said no, or promotion is held.
    """
    if not gate.passed:
        raise GateRefused(f"the gate refused version {record.version} of {record.model}: {gate.reason}")
    champion = parts.registry.champion(record.model)
    figures = {
        "metric": gate.metric,
        "candidate": gate.candidate,
        "champion": gate.champion,
        "champion_version": gate.champion_version,
        "rows": gate.rows,
    }
    models.promote(record.model, record.version, by="headway run", why=gate.reason, figures=figures, auto=True)
    before = "none" if champion is None else f"version {champion.version}"
    return f"version {record.version} answers now (before: {before}); {gate.reason}"


def version_in_words(record: VersionRecord) -> str:
    """A version and how good it is."""
    return f"version {record.version}, {record.metric} {record.metrics.get(record.metric, float('nan')):.6g}"


def lake_inputs(parts: Parts, stage: str, target: str) -> dict[str, str]:
    """The lake tables a stage reads, with the digests of what they hold."""
    declared, tables = parts.declarations, dict[str, None]()
    if stage in ("check", "predict"):
        source = declared.sources[target] if stage == "check" else declared.batches[target].input
        tables.update(dict.fromkeys(parts.binder.tables(source)))
    elif stage == "train":
        model = declared.models[target]
        views = [parts.binder.view(s.view) for s in model.selections]
        tables.update(dict.fromkeys(parts.binder.tables(model.label.source)))
        tables.update(dict.fromkeys(table for view in views for table in view.tables))
    elif stage == "materialize" and target in declared.views:
        tables.update(dict.fromkeys(parts.binder.view(declared.views[target]).tables))
    return digests(parts, tables)


def digests(parts: Parts, tables: Iterable[str]) -> dict[str, str]:
    """What lake tables hold, as digests."""
    return {table: parts.lake.note(table).get("digest", "") for table in tables}


def result_of(parts: Parts, target: str) -> dict[str, Any]:
    """What a target is now, as JSON data that is other data when it has changed: rows by digest, a model by the version
    that answers, a batch prediction by the version of its table."""
    declared = parts.declarations
    if target in declared.batches:
        table = declared.batches[target].output.removeprefix("lake:")
        return {"table": table, "version": parts.lake.version(table)}
    if target in declared.models:
        champion = parts.registry.champion(target)
        return {"model": target, "version": None if champion is None else champion.version}
    if target in declared.views:
        plan = parts.binder.view(declared.views[target])
        return {"view": plan.fingerprint, "rows": lake_inputs(parts, "materialize", target)}
    tables = parts.binder.tables(declared.sources[target])
    return {"source": parts.binder.sql(declared.sources[target]), "rows": digests(parts, tables)}


def check(parts: Parts, names: Iterable[str]) -> list[CheckResult]:
    """Copy what changed and run the checks of some sources, or of all, whether or not they were run before."""
    found: list[CheckResult] = []
    wanted = planning.resolve_sources(parts, names)
    with exclusive(parts.settings.locks_dir / "run.lock", LOCK):
        for name in wanted:
            source = parts.declarations.sources[name]
            if is_copied(source) and planning.ingest_item(parts, source).stale:
                copy(parts, source)
            if source.checks:
                parts.progress(f"check {name}", 0, 0)
                found += _checked(parts, source)
    return found


def _checked(parts: Parts, source: Source) -> list[CheckResult]:
    """Run a source's checks and keep what they found: monitoring follows it over time.

    What failed is kept under a digest that nobody looks for, so that it is checked again.
    """
    now = parts.clock.now()
    results = run_checks(source, parts.binder, parts.lake, parts.engine, now)
    failed = any(not r.passed and r.on_fail == "error" for r in results)
    digest = f"{'failed ' if failed else ''}{planning.check_digest(parts, source)}"
    parts.metadata.stages.put("check", source.name, digest, results, now)
    return results


def _told(result: IngestResult) -> str:
    extra = [
        f"{count} {what}"
        for count, what in (
            (result.versions, "changed"),
            (result.gone, "gone"),
            (result.ambiguous, "ambiguous local times"),
            (result.nonexistent, "skipped local times"),
            (result.unplaced, "rows without an event time"),
        )
        if count
    ]
    new = f", {result.new} new" if result.new != result.rows else ""
    return f"{result.rows} rows{new}" + (f" ({', '.join(extra)})" if extra else "")


def checks_in_words(results: Iterable[CheckResult]) -> str:
    """The results of a source's checks in one line."""
    results = list(results)
    failed = [
        f"{r.check}: {r.failed} rows {'set aside' if r.on_fail == 'quarantine' else 'warned of'}"
        for r in results
        if r.failed
    ]
    return f"{len(results)} checks, {'; '.join(failed) if failed else 'all passed'}"
