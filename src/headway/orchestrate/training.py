"""One training, from declarations to a registered version; and its gate."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from headway.define import GREATER_IS_BETTER, Model
from headway.define._bundle import BundleLoader, write_bundle
from headway.define._code import reach_digest
from headway.define._duration import microseconds
from headway.define.records import GateResult, VersionRecord
from headway.errors import HeadwayError
from headway.metadata import standing
from headway.orchestrate._digest import digest
from headway.orchestrate._parts import Parts
from headway.orchestrate.monitoring.reference import write_reference
from headway.orchestrate.training_set import LabelRows, model_columns, skeleton, training_set
from headway.registry import decide
from headway.train import capture, evaluate_twin, train, write_capture

FORMAT = 1  # part of every training digest: raise it when a training would come out differently


def training_moment(parts: Parts, model: Model) -> int:
    """The moment a training looks from: the clock's now, or the last row's if nothing is newer.

    Time passing without new rows then does not make a training stale.
    """
    now = parts.clock.now()
    newest = parts.binder.newest_known(model.label.source)
    if newest is None:
        return now
    return min(now, newest + (microseconds(model.label.matures) if model.label.matures else 0))


def training_digest(parts: Parts, model: Model) -> str:
    """Everything a training depends on: declaration, data, code it reaches, libraries, settings, seed."""
    plan = skeleton(parts, model)
    tables = set(parts.binder.tables(model.label.source)).union(*(use.plan.tables for use in plan.views))
    return digest(
        FORMAT,
        model.name,
        declared(model),
        msgspec.json.encode(plan).decode(),
        parts.binder.sql(model.label.source),
        {table: parts.lake.note(table).get("digest") for table in sorted(tables)},
        estimator_digest(parts, model),
        library_versions(),
        training_moment(parts, model),
        parts.settings.allow_pickle,
    )


def declared(model: Model) -> dict[str, Any]:
    """What of a model's declaration decides the outcome of a training."""
    label = model.label
    return {
        "label": [label.source.name, label.column, label.matures, label.as_of],
        "features": [getattr(f, "columns", None) or getattr(f, "name", None) for f in model.features],
        "params": repr(sorted(model.params.items())),
        "metrics": model.metrics,
        "task": model.task,
        "split": repr(model.split),
        "baseline": model.baseline,
        "segment": [model.segment, model.fallback, model.min_rows],
        "gate": None if model.gate is None else model.gate.metric,
        "seed": model.seed,
    }


def estimator_digest(parts: Parts, model: Model) -> str:
    """The code of a factory function, the parameters of an object, or the name of a class."""
    estimator = model.estimator
    if isinstance(estimator, str):
        return estimator
    if hasattr(estimator, "get_params"):
        reached = reach_digest(type(estimator), [parts.settings.definitions])
        return digest(reached, repr(estimator), repr(sorted(estimator.get_params(deep=True).items(), key=str)))
    return reach_digest(estimator, [parts.settings.definitions])


@functools.cache
def library_versions() -> Mapping[str, str]:
    """The libraries whose version can change what a training gives, as they were when the process first asked."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("headway", "numpy", "pyarrow", "duckdb", "scikit-learn", "lightgbm", "xgboost", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def judged_version(parts: Parts, model: Model, wanted: str) -> tuple[VersionRecord, GateResult] | None:
    """The version whose training digest is ``wanted``, with what the gate said of it; None if there is none yet."""
    existing = parts.metadata.versions.by_digest(model.name, wanted)
    judged = parts.metadata.stages.find("gate", model.name, wanted)
    if existing is None or judged is None:
        return None
    return existing, msgspec.convert(judged.output, GateResult)


def train_version(parts: Parts, model: Model) -> tuple[VersionRecord, GateResult, bool]:
    """Train, judge and register a model; the version that has these very inputs is returned if there is one.

    Returns the version, what the gate says of it against the champion, and whether it was trained just now.
    """
    wanted = training_digest(parts, model)
    found = judged_version(parts, model, wanted)
    if found is not None:
        return *found, False
    existing = parts.metadata.versions.by_digest(model.name, wanted)
    data, rows, plan = training_set(parts, model, training_moment(parts, model))
    staging = parts.settings.artifacts_dir / ".staging" / f"{model.name}-{wanted}-{os.getpid()}"
    _sweep(staging.parent, f"{model.name}-")
    trained = train(
        model,
        data,
        plan,
        staging,
        jobs=os.cpu_count() or 1,
        allow_pickle=parts.settings.allow_pickle,
        progress=parts.progress,
    )
    captured = capture(parts.root)
    write_capture(captured, staging)
    write_reference(model, data, rows, trained.test, staging, parts.declarations.monitors[model.name].length)
    bundle = write_bundle(parts.root, parts.settings.definitions, staging / "bundle")
    tables = set(parts.binder.tables(model.label.source)).union(*(use.plan.tables for use in plan.views))
    draft = VersionRecord(
        model=model.name,
        version=0,
        digest=wanted,
        created_at=parts.clock.now(),
        directory="",
        files={},
        serving=trained.serving,
        metrics=trained.metrics,
        segment_metrics=trained.segment_metrics,
        baseline=trained.baseline,
        params=trained.params,
        seed=trained.seed,
        cut=trained.cut,
        train_rows=trained.train_rows,
        test_rows=trained.test_rows,
        data={table: parts.lake.version(table) or 0 for table in sorted(tables)},
        data_digest=data.digest,
        commit=captured.commit,
        dirty=captured.dirty,
        environment=captured.environment_digest,
        bundle=bundle,
        metric=trained.metric,
        greater_is_better=trained.greater_is_better,
        split=repr(model.split),
    )
    record = existing or parts.registry.register(staging, draft)
    shutil.rmtree(staging, ignore_errors=True)
    gate = judge(parts, model, record, rows, trained.test)
    parts.metadata.stages.put("gate", model.name, wanted, gate, parts.clock.now())
    return record, gate, True


def _sweep(folder: Path, prefix: str) -> None:
    """Throw away what killed trainings of the model left behind; the run's lock says nobody else is at it."""
    for left in folder.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)


def judge(parts: Parts, model: Model, record: VersionRecord, rows: LabelRows, test: np.ndarray) -> GateResult:
    """The gate: the candidate's twin beside the champion's, and the best one's, on the same rows."""
    gate = model.gate
    if gate is None:
        return GateResult(True, "the model has no gate", record.metric, record.metrics.get(record.metric))
    champion = parts.registry.champion(model.name)
    best = _best_holder(parts, model, gate.metric)
    figures: dict[int, float | None] = {}
    for rival in {r.version: r for r in (champion, best) if r is not None and r.version != record.version}.values():
        found = twin_figures(parts, rival, record, model, rows, test)
        if isinstance(found, str):
            return GateResult(False, found, gate.metric, record.metrics.get(gate.metric), None, rival.version)
        figures[rival.version] = found.get(gate.metric)
    return decide(
        gate.metric,
        gate.metric in GREATER_IS_BETTER,
        record.metrics.get(gate.metric),
        champion=figures.get(champion.version) if champion else None,
        best=figures.get(best.version) if best else None,
        max_regression=gate.max_regression,
        baseline=record.baseline.get(gate.metric) if gate.beat_baseline else None,
        minimum=gate.at_least,
        maximum=gate.at_most,
        champion_version=champion.version if champion else None,
        rows=record.test_rows,
    )


def _best_holder(parts: Parts, model: Model, metric: str) -> VersionRecord | None:
    """The version with the best figure among those that stand in the log since the last promotion by hand."""
    held: list[tuple[float, int]] = []
    for line in standing(parts.registry.log(model.name)):
        if line.version is None:
            continue
        if not line.figures.get("automatic", False):
            held.clear()
        if line.figures.get("metric") == metric and line.figures.get("candidate") is not None:
            held.append((float(line.figures["candidate"]), line.version))
    if not held:
        return None
    _, version = (max if metric in GREATER_IS_BETTER else min)(held)
    return parts.registry.show(model.name, version)


def twin_figures(
    parts: Parts,
    rival: VersionRecord,
    candidate: VersionRecord,
    model: Model,
    rows: LabelRows,
    test: np.ndarray,
) -> Mapping[str, float] | str:
    """The rival's twin's figures on the candidate's test rows, with the rival's own features and code; or, in a
    sentence, why they cannot be had."""
    name = f"{rival.model}@{rival.version}"
    if rival.cut is not None and candidate.cut is not None and rival.cut > candidate.cut:
        return (
            f"the twin of {name} was trained on rows up to a later moment than the candidate's test rows begin at, so"
            " there is no fair comparison; train the candidate on newer data, or promote it by hand"
        )
    if candidate.cut is None and (rival.split, rival.seed) != (candidate.split, candidate.seed):
        return (
            f"the test rows of {name} were drawn in another way (split or seed), so its twin may have seen the"
            " candidate's; use the same split and seed, or promote the candidate by hand"
        )
    chosen = np.flatnonzero(test)
    subset = LabelRows(
        table=rows.table.take(pa.array(chosen)),
        label=rows.label.take(pa.array(chosen)),
        event=rows.event[chosen],
        known=rows.known[chosen],
        moment=rows.moment[chosen],
        moment_valid=rows.moment_valid[chosen],
    )
    directory = parts.registry.directory(rival)
    try:
        parts.registry.verify_files(rival)
        loader = BundleLoader(directory / "bundle", rival.serving.package or parts.settings.definitions)
        functions = {f.name: loader.function(f.module, f.qualname) for f in rival.serving.functions}
        columns, _ = model_columns(parts, rival.serving, functions, subset)
        segment = subset.table.column(rival.serving.segment) if rival.serving.segment else None
        return evaluate_twin(
            directory,
            {c.name: columns[c.name] for c in rival.serving.columns},
            subset.label,
            None if segment is None else segment.cast(pa.string()),
            [model.gate.metric if model.gate else rival.metric],
            allow_pickle=parts.settings.allow_pickle,
        )
    except HeadwayError as error:
        return f"the champion's side of the comparison cannot be computed: {name}: {error}"
