"""``headway run``: bring targets up to date, in order, each stage only if it is stale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from headway.clock import stopwatch, to_iso
from headway.data.ingest import ingest
from headway.data.quality import raise_for, run_checks
from headway.define import Source
from headway.define.records import CheckResult, GateResult, IngestResult, VersionRecord
from headway.errors import CheckFailed, GateRefused, HeadwayError
from headway.locks import exclusive
from headway.orchestrate import plan as planning
from headway.orchestrate._parts import Parts
from headway.orchestrate.batch import predict_batch
from headway.orchestrate.features import FeatureStage
from headway.orchestrate.models import ModelStage
from headway.orchestrate.plan import Item
from headway.orchestrate.training import train_version

Outcome = Literal["done", "cached", "refused", "failed", "skipped"]


class Done(msgspec.Struct, frozen=True):
    """What became of one stage of a run."""

    stage: str
    target: str
    outcome: Outcome
    detail: str
    seconds: float = 0.0


@dataclass(eq=False)
class Run:
    """One run: decides, does, and remembers. ``report`` is told of every stage as it ends."""

    parts: Parts
    features: FeatureStage
    models: ModelStage
    report: Callable[[Done], None] = lambda _: None
    done: list[Done] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)  # source → why nothing may use it
    errors: list[HeadwayError] = field(default_factory=list)

    def execute(self, names: Iterable[str] = ()) -> list[Done]:
        """Run the targets (all, if none is named).

        A check that fails stops what depends on its source and nothing else; what was refused is raised at the end.

        Raises
        ------
        CheckFailed, GateRefused
            After everything else was done.
        StoreBusy
            Another run of this environment is under way.
        """
        with exclusive(self.parts.settings.locks_dir / "run.lock", "a run of this environment"):
            targets = planning.resolve(self.parts, names)
            for name in targets.sources:
                self._source(self.parts.declarations.sources[name])
            for name in targets.models:
                self._model(name)
            self._materialize(targets.views, everything=not list(names))
            for name in targets.batches:
                self._batch(name)
        if self.errors:
            raise self.errors[0]
        return self.done

    def _note(self, stage: str, target: str, outcome: Outcome, detail: str, seconds: float = 0.0) -> None:
        entry = Done(stage, target, outcome, detail, round(seconds, 3))
        self.done.append(entry)
        self.report(entry)

    def _source(self, source: Source) -> None:
        for base in self.parts.binder.base_sources(source):
            if base in self.blocked:
                self.blocked[source.name] = self.blocked[base]
                self._note("check", source.name, "skipped", self.blocked[base])
                return
        if source.path is not None:
            self._stage(planning.ingest_item(self.parts, source), lambda: _told(copy(self.parts, source)))
        if source.checks and source.name not in self.blocked:
            self._stage(planning.check_item(self.parts, source, False), lambda: self._check(source))

    def _stage(self, item: Item, do: Callable[[], str]) -> None:
        if not item.stale:
            self._note(item.stage, item.target, "cached", item.why)
            return
        self.parts.progress(f"{item.stage} {item.target}", 0, 0)
        watch = stopwatch()
        try:
            self._note(item.stage, item.target, "done", do(), watch())
        except (CheckFailed, GateRefused) as error:
            self._note(item.stage, item.target, "refused", str(error), watch())
            self.errors.append(error)
            if item.stage == "check":
                self.blocked[item.target] = f"a check of {item.target} failed"

    def _check(self, source: Source) -> str:
        parts = self.parts
        results = run_checks(source, parts.binder, parts.lake, parts.engine, parts.clock.now())
        raise_for(results)
        parts.metadata.stages.put(
            "check", source.name, planning.check_digest(parts, source), results, parts.clock.now()
        )
        return checks_in_words(results)

    def _model(self, name: str) -> None:
        model = self.parts.declarations.models[name]
        read = {model.label.source.name, *(s.view.source.name for s in model.selections)}
        stopped = sorted(read & set(self.blocked))
        if stopped:
            self._note("train", name, "skipped", self.blocked[stopped[0]])
            return
        watch = stopwatch()
        record, gate, trained = train_version(self.parts, model)
        told = f"version {record.version}, {record.metric} {record.metrics.get(record.metric, float('nan')):.6g}"
        self._note("train", name, "done" if trained else "cached", told, watch() if trained else 0.0)
        self._promote(record, gate)

    def _promote(self, record: VersionRecord, gate: GateResult) -> None:
        champion = self.parts.registry.champion(record.model)
        if any(line.version == record.version for line in self.parts.registry.log(record.model)):
            live = champion is not None and champion.version == record.version
            self._note("promote", record.model, "cached", "it answers already" if live else "it was decided already")
            return
        if not gate.passed:
            self._refuse(record.model, f"the gate refused version {record.version} of {record.model}: {gate.reason}")
            return
        watch = stopwatch()
        figures = {
            "metric": gate.metric,
            "candidate": gate.candidate,
            "champion": gate.champion,
            "champion_version": gate.champion_version,
            "rows": gate.rows,
        }
        try:
            self.models.promote(
                record.model, record.version, by="headway run", why=gate.reason, figures=figures, auto=True
            )
        except GateRefused as error:
            self._refuse(record.model, str(error))
            return
        before = "none" if champion is None else f"version {champion.version}"
        told = f"version {record.version} answers now (before: {before}); {gate.reason}"
        self._note("promote", record.model, "done", told, watch())

    def _refuse(self, target: str, message: str) -> None:
        self._note("promote", target, "refused", message)
        self.errors.append(GateRefused(message))

    def _materialize(self, views: Iterable[str], *, everything: bool) -> None:
        plans = {}
        for name in views:
            item = planning.materialize_item(self.parts, self.features, name, set())
            source = self.features.view(name).source.name
            if source in self.blocked:
                self._note("materialize", name, "skipped", self.blocked[source])
            elif not item.stale:
                self._note("materialize", name, "cached", item.why)
            else:
                plan = self.parts.binder.view(self.features.view(name))
                plans[plan.fingerprint] = plan
        if everything and not self.blocked:
            plans.update(self.features.needed())
        for plan in plans.values():
            watch = stopwatch()
            (result,) = self.features.materialize_plans([plan])
            if result.outcome in ("full", "changed"):
                told = f"{result.written} entities, as of {to_iso(result.as_of)}"
                self._note("materialize", plan.name, "done", told, watch())
        if everything and not self.blocked:
            self.features.collect()

    def _batch(self, name: str) -> None:
        batch = self.parts.declarations.batches[name]
        watch = stopwatch()
        rows, version = predict_batch(self.parts, self.models, batch)
        self._note("predict", name, "done", f"{rows} rows by version {version} → {batch.output}", watch())


def check(parts: Parts, names: Iterable[str]) -> list[CheckResult]:
    """Copy what changed and run the checks of some sources, or of all, whether or not they were run before."""
    found: list[CheckResult] = []
    wanted = planning.resolve_sources(parts, names)
    with exclusive(parts.settings.locks_dir / "run.lock", "a run of this environment"):
        for name in wanted:
            source = parts.declarations.sources[name]
            if source.path is not None and planning.ingest_item(parts, source).stale:
                copy(parts, source)
            if source.checks:
                parts.progress(f"check {name}", 0, 0)
                found += run_checks(source, parts.binder, parts.lake, parts.engine, parts.clock.now())
    return found


def copy(parts: Parts, source: Source) -> IngestResult:
    """Copy a file source into the lake."""
    override = parts.settings.sources.get(source.name, {}).get("path")
    cache = parts.settings.home / "digests.json"
    found = ingest(source, parts.root, parts.lake, path_override=override, cache=cache)
    parts.rows_changed()
    return found


def _told(result: IngestResult) -> str:
    extra = [
        f"{count} {what}"
        for count, what in (
            (result.ambiguous, "ambiguous local times"),
            (result.nonexistent, "skipped local times"),
            (result.unplaced, "rows without an event time"),
        )
        if count
    ]
    return f"{result.rows} rows" + (f" ({', '.join(extra)})" if extra else "")


def checks_in_words(results: Iterable[CheckResult]) -> str:
    """The results of a source's checks in one line."""
    results = list(results)
    failed = [
        f"{r.check}: {r.failed} rows {'set aside' if r.on_fail == 'quarantine' else 'warned of'}"
        for r in results
        if r.failed
    ]
    return f"{len(results)} checks, {'; '.join(failed) if failed else 'all passed'}"
