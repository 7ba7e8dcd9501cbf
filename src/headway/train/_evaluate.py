"""How good a fitted version is on given rows: figures overall and per segment, the naive baseline, importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.define.records import ServingPlan
from headway.errors import ArtifactError, DataError
from headway.train import _metrics
from headway.train._target import Target, label_values
from headway.train.predictor import Predictor

# Importance asks the model about this many cells at most, so that wide sets take no longer than narrow ones.
_IMPORTANCE_CELLS = 40_000


@dataclass(frozen=True, slots=True)
class Figures:
    """Metric → value, overall and by segment, over ``rows`` rows. What is not defined there is NaN."""

    metrics: dict[str, float]
    segments: dict[str, dict[str, float]]
    rows: int


def read_plan(directory: Path) -> ServingPlan:
    """The ``serving.json`` of a directory. Errors: ``ArtifactError``."""
    path = directory / "serving.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServingPlan)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing; restore it, or train the model again") from error
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{path} is not a serving plan: {error}") from error


def segment_names(column: pa.Array | pa.ChunkedArray | Sequence[Any] | np.ndarray | None) -> list[str | None] | None:
    """Segment values as text, which is how models are named after them; None for null."""
    if column is None:
        return None
    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, from_pandas=True)
    if pa.types.is_null(array.type):
        return [None] * len(array)
    names: list[str | None] = pc.cast(array, pa.string()).to_pylist()
    return names


def figures(
    metrics: Sequence[str],
    task: str,
    classes: Sequence[Any] | None,
    label: np.ndarray,
    scores: np.ndarray,
    segments: Sequence[str | None] | None,
) -> Figures:
    """Evaluate scores overall and for each segment (rows without one count only overall)."""
    overall = _metrics.evaluate(metrics, task, classes, label, scores)
    each: dict[str, dict[str, float]] = {}
    if segments is not None:
        names = np.array(segments, dtype=object)
        for name in sorted({s for s in segments if s is not None}):
            rows = np.flatnonzero(names == name)
            each[name] = _metrics.evaluate(metrics, task, classes, label[rows], scores[rows])
    return Figures(overall, each, len(label))


def evaluate_version(
    directory: Path,
    columns: Mapping[str, np.ndarray],
    label: pa.Array | np.ndarray,
    segment: pa.Array | Sequence[str | None] | None,
    metrics: Sequence[str],
    *,
    allow_pickle: bool = False,
) -> Figures:
    """Evaluate the twin of the version in ``directory`` on rows it has not seen.

    ``columns`` are those the version's plan names, as ``columns_of`` gives them.

    Errors: ``DataError`` where a column is missing or a row has no prediction, ``ArtifactError`` for broken files.
    """
    twin = directory / "twin"
    plan = read_plan(twin)
    predictor = Predictor.load(twin, plan, allow_pickle=allow_pickle)
    values = label if isinstance(label, np.ndarray) else label_values(label)
    names = segment_names(segment)
    scores = complete_scores(predictor, columns, len(values), names)
    return figures(metrics, plan.task, plan.classes, values, scores, names)


def evaluate_twin(
    directory_of_version: Path,
    columns: Mapping[str, np.ndarray],
    label: pa.Array | np.ndarray,
    segment: pa.Array | Sequence[str | None] | None,
    metrics: Sequence[str],
    *,
    allow_pickle: bool = False,
) -> dict[str, float]:
    """The overall figures of ``evaluate_version``; what is not defined on these rows is left out."""
    found = evaluate_version(directory_of_version, columns, label, segment, metrics, allow_pickle=allow_pickle)
    return defined(found.metrics)


def defined(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are numbers."""
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def complete_scores(
    predictor: Predictor, columns: Mapping[str, np.ndarray], rows: int, segments: Sequence[str | None] | None
) -> np.ndarray:
    """Scores of rows that must all have one. Errors: ``DataError`` with the number of rows nothing stands for."""
    scores, _ = predictor.scores(columns, rows, segments)
    empty = np.isnan(scores) if scores.ndim == 1 else np.isnan(scores).any(axis=1)
    if empty.any():
        raise DataError(
            f"model {predictor.plan.model!r} has no answer for {int(empty.sum())} of {rows} rows, whose segment has no"
            ' model; declare fallback="pooled"'
        )
    return scores


def baseline_scores(
    kind: Literal["median", "mean", "majority", "prior"], target: Target, train: np.ndarray, rows: int
) -> np.ndarray:
    """The scores of somebody who knows the training labels and nothing else, for ``rows`` rows."""
    known = target.y[train]
    if target.classes is None:
        return np.full(rows, np.median(known) if kind == "median" else np.mean(known))
    shares = np.bincount(known, minlength=len(target.classes)) / len(known)
    if kind == "majority":
        shares = (np.arange(len(shares)) == np.argmax(shares)).astype(np.float64)
    return np.full(rows, shares[1]) if target.task == "binary" else np.tile(shares, (rows, 1))


def importance(
    predictor: Predictor,
    columns: Mapping[str, np.ndarray],
    label: np.ndarray,
    segments: list[str | None] | None,
    *,
    metric: str,
    seed: int,
) -> dict[str, float]:
    """By how much ``metric`` gets worse on test rows when one column is shuffled among them; greatest first.

    It says what the model as served relies on, and means the same for every estimator. Columns that carry the same
    information share it.
    """
    plan = predictor.plan
    rows = min(len(label), max(200, _IMPORTANCE_CELLS // len(plan.columns)))
    chosen = np.linspace(0, len(label) - 1, rows).astype(np.int64)
    label, names = label[chosen], [segments[i] for i in chosen] if segments is not None else None
    encoded = predictor.encode({s.name: columns[s.name][chosen] for s in plan.columns}, rows)
    random = np.random.default_rng(seed)

    def figure() -> float:
        scores = predictor.scores_of(encoded, rows, names)[0]
        return _metrics.evaluate([metric], plan.task, plan.classes, label, scores)[metric]

    before, found = figure(), {}
    for j, spec in enumerate(plan.columns):
        kept = (encoded.iloc[:, j] if plan.frame else encoded[:, j]).copy()
        _put(encoded, j, np.asarray(kept)[random.permutation(rows)], frame=plan.frame)
        worse = _metrics.worse_by(metric, figure(), before)
        _put(encoded, j, np.asarray(kept), frame=plan.frame)
        found[spec.name] = float(worse) if np.isfinite(worse) else 0.0
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _put(encoded: Any, j: int, values: np.ndarray, *, frame: bool) -> None:
    if frame:
        encoded.isetitem(j, values)
    else:
        encoded[:, j] = values
