"""How good predictions were, once their labels are known: each metric with what sampling makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from headway.define.watch_records import Figure, FigureKind, Severity
from headway.monitor._bins import number
from headway.monitor._statistics import BEFORE, ENOUGH, history_limit
from headway.monitor._words import rows_of
from headway.train import _metrics

# A metric may be worse than in the test by this share of it before it counts, however many labels there are.
TOLERATED = 0.05
# Fewer labels than this say nothing.
LEAST_LABELS = 30
_RESAMPLES, _RESAMPLED = 200, 5000
# Metrics that need no probabilities, only which class was said.
_OF_CLASSES = ("accuracy", "f1", "precision", "recall")


def performance(
    label: np.ndarray,
    prediction: np.ndarray,
    *,
    task: str,
    model: str,
    window: tuple[int, int],
    metrics: Iterable[str] = (),
    classes: Sequence[Any] | None = None,
    reference: Mapping[str, float] | None = None,
    reference_n: int = 0,
    rows: int | None = None,
    version: int | None = None,
    segment: str | None = None,
    history: Sequence[Figure] = (),
    previous: Sequence[Figure] = (),
    alpha: float = 0.05,
) -> list[Figure]:
    """Each metric over the rows of a window whose label is known.

    Parameters
    ----------
    label, prediction
        As ``headway.train`` evaluates them: numbers for a regression; for a binary model labels and the probability of
        ``classes[1]``; for several classes labels, and probabilities [n, classes] or just the class that was said (then
        only accuracy, f1, precision and recall are given).
    metrics
        Their names; by default those of the task.
    reference, reference_n
        Metric → value in the version's test, and its rows.
    rows
        Predictions of the window, with or without label.
    history, previous
        Performance figures of past windows, oldest first, and those of the window just before.

    Returns
    -------
    One figure per metric. ``effect`` is how much worse it is than in the test (negative: better). It alarms when it is
    worse by more than 5 % of the test's value and sampling together, and with 12 past windows also by more than these
    ever varied. ``details["interval"]`` holds the 95 % interval.
    """
    there = _known(label, prediction)
    label, prediction = label[there], prediction[there]
    names, scores = _scores(tuple(metrics) or _metrics.DEFAULTS[task], task, classes, prediction)
    found = _metrics.evaluate(names, task, classes, label, scores)
    errors = standard_errors(lambda at: _metrics.evaluate(names, task, classes, label[at], scores[at]), len(label))
    size = float(np.mean(np.abs(label.astype(np.float64)))) if task == "regression" and len(label) else 0.0
    place = {"model": model, "version": version, "segment": segment, "window_start": window[0], "window_end": window[1]}
    figures = []
    for name in names:
        held = Held(name, found[name], errors[name], (reference or {}).get(name), reference_n, len(label), size)
        details = {"labelled": None if not rows else round(len(label) / rows, 6)}
        figures.append(judge(held, "performance", place, history, previous, alpha / len(names), details))
    return figures


def _known(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Rows with label and prediction."""
    there = np.array([value is not None and value == value for value in label.tolist()], dtype=bool)
    if prediction.dtype.kind == "f":
        flat = np.isnan(prediction)
        there &= ~(flat.any(axis=1) if flat.ndim == 2 else flat)
    elif prediction.dtype.kind == "O":
        there &= np.array([value is not None for value in prediction.tolist()], dtype=bool)
    return there


def _scores(
    names: tuple[str, ...], task: str, classes: Sequence[Any] | None, prediction: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """Metrics that can be told, and predictions as probabilities where only classes were said."""
    if task != "multiclass" or prediction.ndim == 2:
        return names, prediction.astype(np.float64)
    said = _metrics.codes_of(prediction, classes or ())
    scores = np.zeros((len(said), len(classes or ())))
    scores[np.flatnonzero(said >= 0), said[said >= 0]] = 1.0
    return tuple(name for name in names if name in _OF_CLASSES) or ("accuracy",), scores


def standard_errors(metrics: Callable[[np.ndarray], Mapping[str, float]], rows: int) -> dict[str, float]:
    """What sampling of rows makes of each metric: the bootstrap's standard deviation, with fixed seeds.

    ``metrics`` evaluates the rows at given positions. Of many rows some are resampled, and the error scaled.
    """
    random = np.random.default_rng(0)
    drawn = min(rows, _RESAMPLED)
    runs = [metrics(random.integers(0, rows, drawn)) for _ in range(_RESAMPLES if rows else 0)]
    scale = np.sqrt(drawn / rows) if rows else 0.0
    names = metrics(np.arange(0)).keys()
    return {name: _deviation([run[name] for run in runs]) * float(scale) for name in names}


def _deviation(values: Sequence[float]) -> float:
    there = np.array([value for value in values if np.isfinite(value)])
    return float(there.std(ddof=1)) if len(there) > 1 else float("nan")


class Held:
    """A metric and what it is held against. ``size`` is that of a typical label, for metrics around zero."""

    def __init__(
        self, name: str, value: float, error: float, reference: float | None, reference_n: int, n: int, size: float
    ) -> None:
        self.name, self.value, self.n, self.reference, self.reference_n = name, value, n, reference, reference_n
        tested = n / reference_n if reference_n else 0.0
        self.error, self.noise = error, error * float(np.sqrt(1 + tested))
        base = size if name == "bias" else abs(reference or 0.0)
        self.tolerated = TOLERATED * base

    @property
    def worse(self) -> float | None:
        """How much worse than the test; None where one of them is not defined."""
        if self.reference is None or not np.isfinite(self.value) or not np.isfinite(self.error):
            return None
        return _metrics.worse_by(self.name, self.value, self.reference)

    def interval(self) -> list[float] | None:
        if not (np.isfinite(self.value) and np.isfinite(self.error)):
            return None
        return [self.value - 1.96 * self.error, self.value + 1.96 * self.error]


def judge(
    held: Held,
    kind: FigureKind,
    place: Mapping[str, Any],
    history: Sequence[Figure],
    previous: Sequence[Figure],
    alpha: float,
    details: Mapping[str, Any],
) -> Figure:
    """The figure of a metric, realised or estimated."""
    from scipy.special import ndtr, ndtri

    worse, enough = held.worse, held.n >= LEAST_LABELS
    past = [f.effect for f in history if f.kind == kind and f.name == held.name and f.effect is not None]
    past = past[:-BEFORE] if len(past) >= ENOUGH + BEFORE else past
    limit = held.tolerated + float(ndtri(1 - alpha)) * held.noise
    if calibrated := len(past) >= ENOUGH:
        limit = max(limit, history_limit(np.array(past), held.noise))
    alarm = worse is not None and enough and bool(worse > limit)
    before = [f for f in previous if f.kind == kind and f.name == held.name and f.alarm]
    severity: Severity = ("critical" if before else "warning") if alarm else "info"
    sure = worse is not None and held.noise > 0
    return Figure(
        **place,
        kind=kind,
        name=held.name,
        n=held.n,
        reference_n=held.reference_n,
        statistic=held.value if np.isfinite(held.value) else None,
        effect=worse,
        threshold=limit if worse is not None else None,
        p=float(ndtr(-((worse or 0.0) - held.tolerated) / held.noise)) if sure else None,
        method=f"history of {len(past)} windows" if calibrated else "test, 5 % and sampling",
        alarm=alarm,
        severity=severity,
        said=_said(held, kind, alarm, enough),
        details={
            **details,
            "interval": held.interval(),
            "reference": held.reference,
            "windows": (int(before[0].details.get("windows", 1)) if before else 0) + 1 if alarm else 0,
        },
    )


def _said(held: Held, kind: FigureKind, alarm: bool, enough: bool) -> str:
    rows = "labels" if kind == "performance" else "rows without labels"
    if not np.isfinite(held.value):
        return f"{held.name} cannot be told from {held.n:,} {rows}"
    error = f" ± {number(1.96 * held.error)}" if np.isfinite(held.error) else ""
    what = f"{held.name} is {'' if kind == 'performance' else 'estimated at '}{number(held.value)}{error}"
    size = (
        f" on {rows_of(held.n).replace('rows', rows).replace('row', 'label')}"
        if held.n == 1
        else f" on {held.n:,} {rows}"
    )
    if held.reference is None:
        return what + size
    if not enough:
        return f"{what}{size}, which are too few to judge; in the test it was {number(held.reference)}"
    than = "worse than" if alarm else "beside"
    return f"{what}{size}, {than} the {number(held.reference)} of the test"
