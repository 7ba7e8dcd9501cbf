"""How good predictions are likely to be before their labels are known, and what that assumes.

A classifier: its scores are calibrated once on rows with labels; the calibrated chance that a row is positive then
says how often each decision is right (confidence-based performance estimation). A regression: a model of the size of
the errors, learned on rows with labels, is asked about the rows of the window (direct loss estimation). Neither can
see that the relation between features and label has changed; only labels show that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.define.watch_records import Figure
from headway.errors import UsageError
from headway.monitor._performance import Held, judge
from headway.train import _metrics

ASSUMES_CALIBRATION = "assumes that calibration holds and that the relation of features to label has not changed"
ASSUMES_ERRORS = (
    "assumes that errors depend on the features as they did, and that their relation to the label has not changed"
)
CLASSIFICATION = ("accuracy", "f1", "precision", "recall", "log_loss", "brier", "auc")
REGRESSION = ("mae", "rmse")
_SIMULATED, _SIMULATIONS = 5000, 100
_FIT_ROWS = 20_000
_MOST_KNOTS = 500


class Calibration(msgspec.Struct, frozen=True):
    """Score → chance of the positive class, linear between knots; isotonic on ``rows`` rows with labels."""

    scores: tuple[float, ...]
    chances: tuple[float, ...]
    rows: int

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(scores, self.scores, self.chances))


def calibrate(scores: np.ndarray, positive: np.ndarray) -> Calibration:
    """Calibrate the scores of a classifier on rows whose label is known, which the model has not been fitted on.

    Errors: ``UsageError`` unless both classes occur.
    """
    from scipy.optimize import isotonic_regression

    there = np.isfinite(scores)
    scores, truth = scores[there].astype(np.float64), positive[there].astype(np.float64)
    if not 0 < truth.sum() < len(truth):
        raise UsageError("a calibration needs rows of both classes; take a longer time with labels")
    found, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, truth) / counts
    fitted = isotonic_regression(means, weights=counts.astype(np.float64)).x
    turns = np.flatnonzero(np.r_[True, np.diff(fitted) > 0] | np.r_[np.diff(fitted) > 0, True])
    if len(turns) > _MOST_KNOTS:
        turns = turns[np.unique(np.linspace(0, len(turns) - 1, _MOST_KNOTS).round().astype(np.int64))]
    return Calibration(tuple(found[turns].tolist()), tuple(fitted[turns].tolist()), len(truth))


def expected(metrics: Iterable[str], scores: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    """Metrics of a binary classifier as they are expected where row i is positive with chance ``chances[i]``.

    >>> expected(["accuracy", "auc"], np.array([0.2, 0.9]), np.array([0.0, 1.0]))
    {'accuracy': 1.0, 'auc': 1.0}
    """
    if not len(scores):
        return dict.fromkeys(metrics, float("nan"))
    said = scores > 0.5
    hits, positives = float(chances[said].sum()), float(chances.sum())
    precision = hits / said.sum() if said.any() else float("nan")
    recall = hits / positives if positives else float("nan")
    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    known: dict[str, Any] = {
        "accuracy": lambda: np.where(said, chances, 1 - chances).mean(),
        "precision": lambda: precision,
        "recall": lambda: recall,
        "f1": lambda: 2 * hits / (said.sum() + positives) if said.sum() + positives else float("nan"),
        "log_loss": lambda: -(chances * np.log(clipped) + (1 - chances) * np.log1p(-clipped)).mean(),
        "brier": lambda: (chances * (1 - scores) ** 2 + (1 - chances) * scores**2).mean(),
        "auc": lambda: _expected_auc(scores, chances),
    }
    return {name: float(known[name]()) for name in metrics}


def _expected_auc(scores: np.ndarray, chances: np.ndarray) -> float:
    _, inverse = np.unique(scores, return_inverse=True)
    positive, negative = np.bincount(inverse, chances), np.bincount(inverse, 1 - chances)
    below = np.cumsum(negative) - negative / 2
    whole = positive.sum() * negative.sum()
    return float((positive * below).sum() / whole) if whole else float("nan")


def estimate_classification(
    calibration: Calibration,
    scores: np.ndarray,
    *,
    model: str,
    window: tuple[int, int],
    metrics: Iterable[str] = ("log_loss", "auc"),
    reference: Mapping[str, float] | None = None,
    reference_n: int = 0,
    version: int | None = None,
    segment: str | None = None,
    history: Sequence[Figure] = (),
    previous: Sequence[Figure] = (),
    alpha: float = 0.05,
) -> list[Figure]:
    """What the metrics of a binary classifier are likely to be on rows without labels: figures of kind ``estimate``.

    ``reference`` and the rest are as for ``performance``. Metrics that cannot be estimated are left out.
    """
    names = [name for name in metrics if name in CLASSIFICATION]
    scores = scores[np.isfinite(scores)].astype(np.float64)
    chances = calibration(scores)
    found = expected(names, scores, chances)
    errors = _sampling(names, scores, chances)
    place = {"model": model, "version": version, "segment": segment, "window_start": window[0], "window_end": window[1]}
    return [
        _estimated(Held(name, found[name], errors[name], (reference or {}).get(name), reference_n, len(scores), 0.0),
                   place, history, previous, alpha / len(names), ASSUMES_CALIBRATION)
        for name in names
    ]  # fmt: skip


def _sampling(names: Sequence[str], scores: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    """How far the metrics of one draw of labels are from what is expected."""
    if not len(scores):
        return dict.fromkeys(names, float("nan"))
    random = np.random.default_rng(0)
    drawn = min(len(scores), _SIMULATED)
    runs = []
    for _ in range(_SIMULATIONS):
        rows = random.integers(0, len(scores), drawn)
        truth = (random.random(drawn) < chances[rows]).astype(np.float64)
        runs.append(_metrics.evaluate(names, "binary", (0.0, 1.0), truth, scores[rows]))
    scale = float(np.sqrt(drawn / len(scores)))
    found = {}
    for name in names:
        values = np.array([run[name] for run in runs])
        values = values[np.isfinite(values)]
        found[name] = float(values.std(ddof=1)) * scale if len(values) > 1 else float("nan")
    return found


def estimate_regression(
    known: pa.Table,
    error: np.ndarray,
    features: pa.Table,
    *,
    model: str,
    window: tuple[int, int],
    metrics: Iterable[str] = ("mae",),
    reference: Mapping[str, float] | None = None,
    reference_n: int = 0,
    version: int | None = None,
    segment: str | None = None,
    history: Sequence[Figure] = (),
    previous: Sequence[Figure] = (),
    alpha: float = 0.05,
) -> list[Figure]:
    """What mae and rmse of a regression are likely to be on rows without labels: figures of kind ``estimate``.

    Parameters
    ----------
    known, error
        Features of rows with labels which the model has not been fitted on, and its errors there.
    features
        Those of the window's rows; columns that ``known`` has not got are not used.

    The rest is as for ``performance``.
    """
    names = [name for name in metrics if name in REGRESSION]
    rows = np.flatnonzero(np.isfinite(error))
    if len(rows) > _FIT_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _FIT_ROWS, replace=False))
    columns = [name for name in known.column_names if name in features.column_names]
    fitted, asked = matrices(known.select(columns).take(pa.array(rows)), features.select(columns))
    sizes = np.abs(error[rows]).astype(np.float64)
    place = {"model": model, "version": version, "segment": segment, "window_start": window[0], "window_end": window[1]}
    figures = []
    for name in names:
        value, deviation = _loss(fitted, sizes if name == "mae" else sizes**2, asked)
        if name == "rmse":
            value = float(np.sqrt(max(value, 0.0)))
            deviation = deviation / (2 * value) if value else float("nan")
        held = Held(name, value, deviation, (reference or {}).get(name), reference_n, features.num_rows, 0.0)
        figures.append(_estimated(held, place, history, previous, alpha / len(names), ASSUMES_ERRORS))
    return figures


def _loss(fitted: np.ndarray, loss: np.ndarray, asked: np.ndarray) -> tuple[float, float]:
    """The mean loss to be expected of the rows asked about, and its standard error.

    The learner of the second half corrects the first's mean by its own residuals there, and the other way round, so
    that rows like those known give the loss that was known.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    if len(loss) < 100 or not len(asked) or not fitted.shape[1]:
        return (float("nan"), float("nan"))
    half = np.arange(len(loss)) % 2 == 0
    means, errors = [], []
    for learn in (half, ~half):
        learner = HistGradientBoostingRegressor(max_iter=60, min_samples_leaf=50, random_state=0)
        learner.fit(fitted[learn], loss[learn])
        rest = loss[~learn] - learner.predict(fitted[~learn])
        means.append(float(learner.predict(asked).mean() + rest.mean()))
        errors.append(float(rest.std(ddof=1)))
    deviation = float(np.mean(errors)) * float(np.sqrt(1 / len(asked) + 1 / len(loss)))
    return max(float(np.mean(means)), 0.0), deviation


def _estimated(
    held: Held,
    place: Mapping[str, Any],
    history: Sequence[Figure],
    previous: Sequence[Figure],
    alpha: float,
    assumes: str,
) -> Figure:
    figure = judge(held, "estimate", place, history, previous, alpha, {"assumes": assumes})
    return msgspec.structs.replace(figure, said=f"{figure.said}; {assumes}")


def matrices(first: pa.Table, second: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Two tables of the same columns as matrices for a tree learner: numbers as they are, texts as their rank in the
    first, NaN for null and for what the first has not got."""
    pairs = [_codes(first.column(name), second.column(name)) for name in first.column_names]
    kept = [pair for pair in pairs if pair is not None]
    shapes = ((first.num_rows, 0), (second.num_rows, 0))
    if not kept:
        return np.empty(shapes[0]), np.empty(shapes[1])
    return np.column_stack([a for a, _ in kept]), np.column_stack([b for _, b in kept])


def _codes(first: pa.ChunkedArray, second: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray] | None:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    if all(any(is_kind(column.type) for is_kind in kinds) for column in (first, second)):
        one, two = (np.asarray(pc.cast(column, pa.float64()).to_numpy()) for column in (first, second))
        return np.where(np.isinf(one), np.nan, one), np.where(np.isinf(two), np.nan, two)
    try:
        texts = [pc.cast(column, pa.string()) for column in (first, second)]
    except pa.ArrowException:
        return None
    values = pc.unique(texts[0].drop_null().combine_chunks())
    values = values.take(pc.sort_indices(values))
    one, two = (
        np.asarray(pc.cast(pc.index_in(text, value_set=values), pa.float64()).to_numpy(zero_copy_only=False))
        for text in texts
    )
    return one, two
