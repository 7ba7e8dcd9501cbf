"""Figures of merit, in numpy. Where one is not defined for the rows at hand it is NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import numpy as np

from headway.define._model import GREATER_IS_BETTER, ClassificationMetric, RegressionMetric
from headway.errors import UsageError

REGRESSION = get_args(RegressionMetric)
CLASSIFICATION = get_args(ClassificationMetric)
DEFAULTS = {"regression": ("mae", "rmse"), "binary": ("log_loss", "auc"), "multiclass": ("log_loss", "accuracy")}

# A probability of exactly 0 for what then happened costs this much instead of infinity.
_EPSILON = 1e-15


def for_task(task: str) -> tuple[str, ...]:
    """The metrics that make sense for a task."""
    return REGRESSION if task == "regression" else CLASSIFICATION


def evaluate(
    metrics: Iterable[str], task: str, classes: Sequence[Any] | None, label: np.ndarray, scores: np.ndarray
) -> dict[str, float]:
    """Every metric of ``scores`` against ``label``; NaN where it is not defined.

    Parameters
    ----------
    label
        Values as they are: float64 for a regression, else members of ``classes`` (others are never right).
    scores
        regression: float64 [n]; binary: probability of ``classes[1]`` [n]; multiclass: probabilities [n, classes].

    Notes
    -----
    ``mape`` leaves out rows whose label is 0. ``f1``, ``precision`` and ``recall`` are of the positive class, for
    several classes the plain mean over the classes that occur; so are ``auc`` (one against the rest) and
    ``average_precision``. ``brier`` over several classes is the sum over them.

    >>> evaluate(["mae", "bias"], "regression", None, np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    {'mae': 1.0, 'bias': 1.0}
    """
    names = tuple(metrics)
    for name in names:
        if name not in for_task(task):
            raise UsageError(f"{name!r} is no metric of a {task}; there are {', '.join(for_task(task))}")
    if not len(label):
        return dict.fromkeys(names, float("nan"))
    if task == "regression":
        return {name: float(_REGRESSION[name](label.astype(np.float64), scores)) for name in names}
    assert classes is not None
    truth = codes_of(label, classes)
    if task == "binary":
        return {name: float(_BINARY[name](truth == 1, scores)) for name in names}
    return {name: float(_multiclass(name, truth, scores)) for name in names}


def worse_by(metric: str, value: float, reference: float) -> float:
    """How much ``value`` is worse than ``reference``; negative where it is better."""
    if metric == "bias":
        return abs(value) - abs(reference)
    return reference - value if metric in GREATER_IS_BETTER else value - reference


def codes_of(label: np.ndarray, classes: Sequence[Any]) -> np.ndarray:
    """The position of every label in ``classes``; -1 for what is none of them."""
    found, inverse = np.unique(label, return_inverse=True)
    positions = {value: i for i, value in enumerate(classes)}
    return np.array([positions.get(value, -1) for value in found.tolist()], dtype=np.int64)[inverse]


def _mape(y: np.ndarray, p: np.ndarray) -> float:
    some = y != 0
    return float(np.mean(np.abs((p[some] - y[some]) / y[some]))) if some.any() else float("nan")


def _r2(y: np.ndarray, p: np.ndarray) -> float:
    total = float(np.sum((y - y.mean()) ** 2))
    return 1 - float(np.sum((y - p) ** 2)) / total if total > 0 else float("nan")


_Metric = Callable[[np.ndarray, np.ndarray], Any]
_REGRESSION: dict[str, _Metric] = {
    "mae": lambda y, p: np.mean(np.abs(p - y)),
    "rmse": lambda y, p: np.sqrt(np.mean((p - y) ** 2)),
    "mape": _mape,
    "medae": lambda y, p: np.median(np.abs(p - y)),
    "r2": _r2,
    "bias": lambda y, p: np.mean(p - y),
}


def _log_loss(y: np.ndarray, p: np.ndarray) -> float:
    clipped = np.clip(p, _EPSILON, 1 - _EPSILON)
    return float(-np.mean(np.where(y, np.log(clipped), np.log1p(-clipped))))


def _auc(y: np.ndarray, p: np.ndarray) -> float:
    """The chance that a positive scores above a negative; ties count half."""
    positives = int(y.sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[y].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _average_precision(y: np.ndarray, p: np.ndarray) -> float:
    positives = int(y.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-p, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(p[order]) != 0, True])  # equal scores are one threshold
    hits = np.cumsum(y[order])[ends]
    return float(np.sum(np.diff(np.r_[0, hits]) / positives * (hits / (ends + 1))))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _decided(name: str, y: np.ndarray, said: np.ndarray) -> float:
    """precision, recall or f1 of a yes-or-no decision; not defined where nothing is positive and nothing said so."""
    if not y.any() and (name != "precision" or not said.any()):
        return float("nan")
    hit = int((y & said).sum())
    precision, recall = _ratio(hit, int(said.sum())), _ratio(hit, int(y.sum()))
    if name == "f1":
        return _ratio(2 * hit, int(said.sum()) + int(y.sum()))
    return precision if name == "precision" else recall


_BINARY: dict[str, _Metric] = {
    "log_loss": _log_loss,
    "auc": _auc,
    "accuracy": lambda y, p: np.mean((p > 0.5) == y),
    "f1": lambda y, p: _decided("f1", y, p > 0.5),
    "precision": lambda y, p: _decided("precision", y, p > 0.5),
    "recall": lambda y, p: _decided("recall", y, p > 0.5),
    "brier": lambda y, p: np.mean((p - y) ** 2),
    "average_precision": _average_precision,
}


def _multiclass(name: str, truth: np.ndarray, scores: np.ndarray) -> float:
    rows, known = np.arange(len(truth)), truth >= 0
    right = np.where(known, scores[rows, np.maximum(truth, 0)], 0.0)
    if name == "log_loss":
        return float(-np.mean(np.log(np.clip(right, _EPSILON, 1))))
    said = np.argmax(scores, axis=1)
    if name == "accuracy":
        return float(np.mean(said == truth))
    if name == "brier":
        return float(np.mean(np.sum(scores**2, axis=1) - 2 * right + 1))
    if name in ("auc", "average_precision"):
        metric = _auc if name == "auc" else _average_precision
        each = [metric(truth == c, scores[:, c]) for c in np.unique(truth[known])]
    else:
        each = [_decided(name, truth == c, said == c) for c in np.union1d(truth[known], said)]
        each = [0.0 if np.isnan(value) else value for value in each]
    return float(np.mean(each)) if each else float("nan")
