"""One training, from a training set to the files of a version."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headway.define import GREATER_IS_BETTER, Model
from headway.define.records import ColumnSpec, SegmentModel, ServingPlan, TrainingSet
from headway.errors import DataError
from headway.train import _metrics, _plots
from headway.train._encode import columns_of, is_text, matrix_of_table, with_categories
from headway.train._estimator import has_column_transformer, kind_of, recorded_params, resolve, role_of, with_seed
from headway.train._evaluate import (
    Figures,
    baseline_scores,
    complete_scores,
    defined,
    figures,
    importance,
    segment_names,
)
from headway.train._files import sync_tree, write_bytes, write_json
from headway.train._fit import Fitted, Recipe, fit
from headway.train._segments import Segment, fit_segments
from headway.train._split import Split, split_rows
from headway.train._target import Target, make_target
from headway.train.predictor import Predictor

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A finished training; its files are in the directory it was given.

    Figures are those of the twin on the test rows; one that is not defined there is left out (``metrics.json`` has
    null). ``test`` marks the rows of the training set that were tested on, so that a champion's twin can be asked
    about the same ones.
    """

    serving: ServingPlan
    metrics: dict[str, float]
    segment_metrics: dict[str, dict[str, float]]
    baseline: dict[str, float]
    baseline_segments: dict[str, dict[str, float]]
    importance: dict[str, float]
    params: dict[str, Any]
    seed: int
    cut: int | None
    train_rows: int  # the twin's
    test_rows: int
    test: np.ndarray  # bool, one for each row of the training set
    metric: str  # the one a gate looks at
    greater_is_better: bool
    plots: tuple[str, ...] = ()


@dataclass(slots=True)
class _Report:
    """The training's log and progress. The log has no times in it: the same training writes the same log."""

    say_also: Callable[[str], None] | None
    progress: Progress | None
    lines: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 1

    def say(self, text: str) -> None:
        self.lines.append(text)
        if self.say_also is not None:
            self.say_also(text)

    def step(self, what: str) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(what, self.done, max(self.done, self.total))


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What one training works on."""

    model: Model
    data: TrainingSet
    target: Target
    split: Split
    recipe: Recipe
    segments: list[str | None] | None
    own: tuple[str, ...]  # the segments that get a model of their own
    jobs: int
    report: _Report


def train(
    model: Model,
    data: TrainingSet,
    skeleton: ServingPlan,
    directory: Path,
    *,
    jobs: int = 1,
    allow_pickle: bool = False,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Trained:
    """Fit ``model`` on ``data``, judge it, and write everything into ``directory``.

    Parameters
    ----------
    skeleton
        The plan with its views, requests, calendars and functions; task, classes, columns and models are filled in.
    directory
        A staging directory. When this returns, what is in it is on disk; if this raises, throw it away.
    jobs
        How many processors to use. The result is the same whatever the number.
    progress
        Called with what was just done, how many steps are done, and of how many.
    log
        Called with each line of ``train.log`` as it comes.

    Errors: ``DefinitionError`` where declaration, estimator and rows do not fit each other, ``DataError`` for rows
    that cannot be split or learned from, ``ArtifactError`` where an estimator cannot be stored as data.
    """
    directory.mkdir(parents=True, exist_ok=True)
    task = _prepare(model, data, skeleton, jobs, allow_pickle, _Report(log, progress))
    twin_plan = _fit_phase(task, task.split.train, directory / "twin", "twin")
    if model.split.refit:
        plan = _fit_phase(task, np.ones(len(data), dtype=bool), directory, "final")
    else:
        plan = twin_plan
        shutil.copytree(directory / "twin", directory, dirs_exist_ok=True)
    trained = _judge(task, twin_plan, plan, directory, allow_pickle)
    write_bytes(directory / "train.log", ("\n".join(task.report.lines) + "\n").encode())
    sync_tree(directory)
    return trained


def _prepare(
    model: Model, data: TrainingSet, skeleton: ServingPlan, jobs: int, allow_pickle: bool, report: _Report
) -> _Task:
    split = split_rows(model, data)
    estimator = resolve(model)
    target = make_target(model, data.label, role_of(estimator))
    _check_metrics(model, target)
    if target.classes is not None and not hasattr(estimator, "predict_proba"):
        raise model.refuse(
            f"{type(estimator).__name__} gives no probabilities (it has no predict_proba); wrap it in"
            " sklearn.calibration.CalibratedClassifierCV"
        )
    text = [spec.name for spec in data.columns if is_text(spec)]
    frame = kind_of(estimator) == "other" and (bool(text) or has_column_transformer(estimator))
    plan = msgspec.structs.replace(
        skeleton, task=target.task, columns=data.columns, pooled=None, segments={}, segment=model.segment, frame=frame
    )
    owner = f"{model.kind} {model.name!r} ({model.place})"
    segments = _segments_of(model, data)
    own = _own_segments(model, target, split, segments, report)
    report.say(
        f"{model.name}: {type(estimator).__name__}, {target.task}, {len(data)} rows, {len(data.columns)} columns;"
        f" the twin learns from {int(split.train.sum())} rows and is tested on {int(split.test.sum())}"
    )
    left_out = len(data) - int(split.train.sum()) - int(split.test.sum())
    if left_out:
        report.say(f"{left_out} rows before the cut are in the gap, or had no known label by then")
    fits = (len(own) + (model.fallback is not None or model.segment is None)) * (2 if model.split.refit else 1)
    report.total = fits + 1
    recipe = Recipe(owner, plan, estimator, model.seed, allow_pickle)
    return _Task(model, data, target, split, recipe, segments, own, jobs, report)


def _check_metrics(model: Model, target: Target) -> None:
    possible = _metrics.for_task(target.task)
    for name in (*model.metrics, *((model.gate.metric,) if model.gate else ())):
        if name not in possible:
            raise model.refuse(f"{name!r} is no metric of a {target.task} model; there are {', '.join(possible)}")
    baselines = ("median", "mean") if target.task == "regression" else ("prior", "majority")
    if model.baseline is not None and model.baseline not in baselines:
        raise model.refuse(
            f"baseline {model.baseline!r} does not fit a {target.task} model; there are {' and '.join(baselines)}"
        )


def _metrics_of(model: Model, task: str) -> tuple[str, ...]:
    named = (*(model.metrics or _metrics.DEFAULTS[task]), *((model.gate.metric,) if model.gate else ()))
    return tuple(dict.fromkeys(named))


def _segments_of(model: Model, data: TrainingSet) -> list[str | None] | None:
    if model.segment is None:
        return None
    if data.segment is None:
        raise DataError(f"model {model.name!r}: the training set has no segment column {model.segment!r}")
    return segment_names(data.segment)


def _own_segments(
    model: Model, target: Target, split: Split, segments: list[str | None] | None, report: _Report
) -> tuple[str, ...]:
    """The segments with enough of the twin's training rows, of every class; decided once for twin and final model."""
    if segments is None:
        return ()
    names = np.array(segments, dtype=object)
    own, small = [], []
    phases = (split.train, np.ones_like(split.train)) if model.split.refit else (split.train,)
    for name in sorted({s for s in segments if s is not None}):
        of_segment = names == name
        rows = np.flatnonzero(of_segment & split.train)
        lacks = not all(_has_every_class(target, chosen, of_segment) for chosen in phases)
        if len(rows) < model.min_rows or lacks:
            small.append(f"{name!r} ({len(rows)} rows{', not of every class' if lacks else ''})")
        else:
            own.append(name)
    nameless = int(sum(s is None for s in segments))
    if nameless:
        small.append(f"none ({nameless} rows without a segment)")
    if small and model.fallback is None:
        raise model.refuse(
            f"{len(small)} segments have too little to learn from (min_rows is {model.min_rows}):"
            f' {", ".join(small[:5])}{" and others" if len(small) > 5 else ""}; declare fallback="pooled"'
        )
    if small:
        report.say(f"the pooled model answers for {len(small)} segments: {', '.join(small)}")
    return tuple(own)


def _has_every_class(target: Target, chosen: np.ndarray, of_segment: np.ndarray) -> bool:
    if target.classes is None:
        return True
    return len(np.unique(target.y[chosen & of_segment])) == len(np.unique(target.y[chosen]))


def _fit_phase(task: _Task, chosen: np.ndarray, directory: Path, phase: str) -> ServingPlan:
    """Fit the pooled model and those of the segments on some of the rows; write them and their ``serving.json``."""
    rows = np.flatnonzero(chosen)
    table = task.data.table.take(pa.array(rows)) if len(rows) < len(task.data) else task.data.table
    target = task.target.on(rows)
    if target.classes is not None and len(target.classes) < 2:
        raise DataError(
            f"model {task.model.name!r}: all {len(rows)} training rows are {target.classes[0]!s}, though the test rows"
            " are not; a classifier needs at least two classes to learn from"
        )
    specs = with_categories(task.data.columns, table)
    plan = msgspec.structs.replace(task.recipe.plan, columns=specs, classes=target.classes)
    recipe = Recipe(task.recipe.owner, plan, task.recipe.estimator, task.recipe.seed, task.recipe.allow_pickle)
    matrix = matrix_of_table(table, specs)
    pooled = None
    if task.model.fallback is not None or task.model.segment is None:
        pooled = fit(recipe, matrix, target, directory / "pooled", root=directory, threads=task.jobs, segment=None)
        _note(task, phase, "pooled", pooled)
    each = _fit_each(task, recipe, matrix, target, rows, directory, phase)
    plan = msgspec.structs.replace(
        plan,
        columns=_recorded(specs, plan.frame),
        pooled=pooled.entry if pooled else None,
        segments=each,
    )
    write_json(directory / "serving.json", plan)
    return plan


def _recorded(specs: tuple[ColumnSpec, ...], frame: bool) -> tuple[ColumnSpec, ...]:
    # In a DataFrame text stays text; what a category is, the pipeline knows.
    return tuple(msgspec.structs.replace(s, categories=None) for s in specs) if frame else specs


def _fit_each(
    task: _Task, recipe: Recipe, matrix: np.ndarray, target: Target, rows: np.ndarray, directory: Path, phase: str
) -> dict[str, SegmentModel]:
    if task.segments is None or not task.own:
        return {}
    names = np.array(task.segments, dtype=object)[rows]
    parts = [Segment(name, np.flatnonzero(names == name)) for name in task.own]

    def done(name: str) -> None:
        task.report.step(f"{phase} {name}")

    found = fit_segments(recipe, matrix, target, parts, directory, jobs=task.jobs, done=done)
    for name, fitted in found.items():
        _say(task, phase, f"segment {name!r}", fitted)
    return {name: fitted.entry for name, fitted in found.items()}


def _note(task: _Task, phase: str, what: str, fitted: Fitted) -> None:
    _say(task, phase, what, fitted)
    task.report.step(f"{phase} {what}")


def _say(task: _Task, phase: str, what: str, fitted: Fitted) -> None:
    entry = fitted.entry
    task.report.say(f"{phase}, {what}: {entry.rows} rows, {entry.file} ({entry.format})")
    for warning in fitted.warnings:
        task.report.say(f"{phase}, {what}: warning: {' '.join(warning.split())}")


def _judge(task: _Task, twin_plan: ServingPlan, plan: ServingPlan, directory: Path, allow_pickle: bool) -> Trained:
    """Ask the stored twin about the test rows and write down how it did."""
    model, data, target, split = task.model, task.data, task.target, task.split
    rows = np.flatnonzero(split.test)
    predictor = Predictor.load(directory / "twin", twin_plan, allow_pickle=allow_pickle)
    columns = columns_of(data.table.take(pa.array(rows)), twin_plan.columns)
    names = [task.segments[i] for i in rows] if task.segments is not None else None
    label = _label_of(target, rows)
    scores = complete_scores(predictor, columns, len(rows), names)
    metrics = _metrics_of(model, target.task)
    found = figures(metrics, target.task, twin_plan.classes, label, scores, names)
    kind = model.baseline or ("median" if target.task == "regression" else "prior")
    naive = baseline_scores(kind, target, split.train, len(rows))
    base = figures(metrics, target.task, target.classes, label, naive, names)
    metric = model.gate.metric if model.gate else metrics[0]
    relied = importance(predictor, columns, label, names, metric=_shown(metric, found), seed=model.seed)
    _write_figures(directory, found, base, kind, relied, metric)
    _write_predictions(directory, data, rows, predictor.labels(scores) if scores.ndim == 2 else scores)
    plots = _plots.plot_test(directory, model.name, target.task, twin_plan.classes, label, scores)
    plots.append(_plots.plot_importance(directory, model.name, relied, metric))
    _say_figures(task, found, base, kind)
    task.report.step("evaluate")
    return Trained(
        serving=plan,
        metrics=defined(found.metrics),
        segment_metrics={name: defined(each) for name, each in found.segments.items()},
        baseline=defined(base.metrics),
        baseline_segments={name: defined(each) for name, each in base.segments.items()},
        importance=relied,
        params=recorded_params(with_seed(resolve(model), model.seed)),
        seed=model.seed,
        cut=split.cut,
        train_rows=int(split.train.sum()),
        test_rows=len(rows),
        test=split.test,
        metric=metric,
        greater_is_better=metric in GREATER_IS_BETTER,
        plots=tuple(path.name for path in plots),
    )


def _label_of(target: Target, rows: np.ndarray) -> np.ndarray:
    values = target.y[rows]
    return values if target.classes is None else np.asarray(np.array(target.classes)[values])


def _shown(metric: str, found: Figures) -> str:
    """The metric importance is told in: the gate's, or the first that is defined on these rows."""
    usable = [metric, *found.metrics]
    return next((name for name in usable if np.isfinite(found.metrics[name])), metric)


def _write_figures(
    directory: Path, found: Figures, base: Figures, kind: str, relied: Mapping[str, float], metric: str
) -> None:
    write_json(
        directory / "metrics.json",
        {
            "rows": found.rows,
            "metrics": _nulls(found.metrics),
            "segments": {name: _nulls(each) for name, each in found.segments.items()},
            "baseline": {"kind": kind, "metrics": _nulls(base.metrics)},
            "baseline_segments": {name: _nulls(each) for name, each in base.segments.items()},
        },
    )
    write_json(directory / "importance.json", {"metric": metric, "worse_by_when_shuffled": dict(relied)})


def _nulls(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}


def _write_predictions(directory: Path, data: TrainingSet, rows: np.ndarray, predictions: np.ndarray) -> None:
    chosen = pa.array(rows)
    columns = {
        "event": pa.array(data.event[rows], pa.timestamp("us", tz="UTC")),
        "label": data.label.take(chosen),
        "prediction": pa.array(predictions.tolist() if predictions.dtype == object else predictions),
        "segment": data.segment.take(chosen) if data.segment is not None else pa.nulls(len(rows), pa.string()),
    }
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer)
    write_bytes(directory / "predictions_test.parquet", buffer.getvalue().to_pybytes())


def _say_figures(task: _Task, found: Figures, base: Figures, kind: str) -> None:
    for name, value in found.metrics.items():
        text = f"{value:.6g}" if np.isfinite(value) else "not defined on these rows"
        task.report.say(f"test {name}: {text} ({kind} baseline: {base.metrics[name]:.6g})")
    undefined = sorted(name for name, each in found.segments.items() if len(defined(each)) < len(each))
    if undefined:
        task.report.say(f"some figures are not defined for the segments {', '.join(undefined)} (null in metrics.json)")
    if "mape" in found.metrics and task.target.classes is None:
        zeros = int((task.target.y[task.split.test] == 0).sum())
        if zeros:
            task.report.say(f"mape leaves out {zeros} test rows whose label is 0")
