"""Pictures of a version's test: how predictions lie against what happened, and what the model relies on."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headway.train._files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS, _BARS, _CURVES = 3_000, 20, 8
_BLUE, _GREY = "#2563eb", "#9ca3af"


def plot_test(
    directory: Path, title: str, task: str, classes: Sequence[Any] | None, label: np.ndarray, scores: np.ndarray
) -> list[Path]:
    """``residuals.png`` for a regression, ``roc.png`` and ``calibration.png`` for classes. Returns what it wrote."""
    if task == "regression":
        return [_saved(_residuals(title, label, scores), directory / "residuals.png")]
    assert classes is not None
    matrix = scores if scores.ndim == 2 else np.column_stack([1 - scores, scores])
    shown = [1] if matrix.shape[1] == 2 else list(range(min(len(classes), _CURVES)))
    curves = {str(classes[c]): (label == classes[c], matrix[:, c]) for c in shown}
    return [
        _saved(_roc(title, curves), directory / "roc.png"),
        _saved(_calibration(title, curves), directory / "calibration.png"),
    ]


def plot_importance(directory: Path, title: str, importance: Mapping[str, float], metric: str) -> Path:
    """``importance.png``: the columns whose shuffling costs most."""
    top = list(importance.items())[:_BARS][::-1]
    longest = max((len(name) for name, _ in top), default=0)
    figure, (axes,) = _figure(1, height=1.5 + 0.28 * len(top), left=0.2 + 0.085 * longest)
    axes.barh([name for name, _ in top], [value for _, value in top], color=_BLUE)
    axes.set(title=f"{title}: what it relies on", xlabel=f"{metric} worse by, when the column is shuffled")
    return _saved(figure, directory / "importance.png")


def _figure(panels: int, height: float = 4.5, left: float = 1.0) -> tuple[Figure, list[Axes]]:
    """``height`` and ``left``, the margin, are inches. (A layout that matplotlib works out doubles the time.)"""
    # Without pyplot: no display, no global state, safe in threads.
    from matplotlib.figure import Figure

    width = 5.5 * panels if panels > 1 else max(7, left + 5)
    figure = Figure(figsize=(width, height), dpi=110)
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    gap = left / ((width - left * panels) / panels)
    figure.subplots_adjust(left / width, 0.6 / height, 1 - 0.2 / width, 1 - 0.4 / height, wspace=gap)
    for each in axes:
        each.grid(visible=True, color="#e5e7eb", linewidth=0.6)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _saved(figure: Figure, path: Path) -> Path:
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    write_bytes(path, data.getvalue())
    return path


def _residuals(title: str, label: np.ndarray, scores: np.ndarray) -> Figure:
    figure, (left, right) = _figure(2)
    shown = np.linspace(0, len(label) - 1, min(len(label), _POINTS)).astype(np.int64)
    low, high = float(min(label.min(), scores.min())), float(max(label.max(), scores.max()))
    left.plot([low, high], [low, high], color=_GREY, linewidth=1)
    left.scatter(label[shown], scores[shown], s=6, alpha=0.35, color=_BLUE, linewidths=0)
    left.set(title=f"{title}: predicted against actual", xlabel="actual", ylabel="predicted")
    errors = scores - label
    right.hist(np.clip(errors, *np.quantile(errors, [0.005, 0.995])), bins=60, color=_BLUE)
    right.axvline(0, color=_GREY, linewidth=1)
    right.set(title="errors (outer 1 % clipped)", xlabel="predicted - actual", ylabel="rows")
    return figure


def _roc(title: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    figure, (axes,) = _figure(1)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    for name, (truth, scores) in curves.items():
        order = np.argsort(-scores, kind="stable")
        ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
        hits, misses = np.cumsum(truth[order])[ends], np.cumsum(~truth[order])[ends]
        axes.plot(np.r_[0, misses / max(1, misses[-1])], np.r_[0, hits / max(1, hits[-1])], label=name, linewidth=1.5)
    axes.set(title=f"{title}: ROC", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(frameon=False)
    return figure


def _calibration(title: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    figure, (axes,) = _figure(1)
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    for name, (truth, scores) in curves.items():
        parts = np.array_split(np.argsort(scores, kind="stable"), min(10, len(scores)))
        axes.plot([scores[p].mean() for p in parts], [truth[p].mean() for p in parts], marker="o", ms=4, label=name)
    axes.set(
        title=f"{title}: calibration", xlabel="predicted probability (tenths of the rows)", ylabel="share observed"
    )
    axes.legend(frameon=False)
    return figure
