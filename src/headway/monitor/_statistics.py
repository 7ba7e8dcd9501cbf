"""The statistics of monitoring, on counts and shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# The PSI that a column may have without an alarm, however many rows there are.
TOLERATED_PSI = 0.05
# A figure alarms when it is above the median of its past by so many robust standard deviations, and above most of it.
DEVIATIONS, MOST = 3.5, 0.95
# So many past figures make a history, and no more than these, the newest, are used.
ENOUGH, LONGEST = 12, 52
# A window is compared with so many before it, together.
BEFORE = 4


def psi(reference: np.ndarray, current: np.ndarray) -> Any:
    """The population stability index of counts along the last axis, smoothed by half a row a bin (Jeffreys).

    >>> float(round(psi(np.array([50, 50]), np.array([60, 40])), 3))
    0.04
    """
    bins = reference.shape[-1]
    p = (reference + 0.5) / (reference.sum(-1, keepdims=True) + bins / 2)
    q = (current + 0.5) / (current.sum(-1, keepdims=True) + bins / 2)
    return ((p - q) * np.log(p / q)).sum(-1)


def tolerant_p(value: float, n: float, m: float, bins: int, tolerated: float) -> float:
    """The chance of a PSI at least this great where the true one is ``tolerated``, of n and m independent rows.

    PSI · nm/(n+m) is then noncentral χ² with bins-1 degrees of freedom and noncentrality ``tolerated`` · nm/(n+m).
    """
    from scipy.special import chndtr

    if bins < 2 or not n or not m:
        return 1.0
    rows = 1 / (1 / n + 1 / m)
    return max(0.0, 1 - float(chndtr(value * rows, bins - 1, tolerated * rows)))


def tolerant_psi(alpha: float, n: float, m: float, bins: int, tolerated: float) -> float:
    """The PSI whose ``tolerant_p`` is ``alpha``."""
    from scipy.special import chndtrix

    if bins < 2 or not n or not m:
        return float("inf")
    rows = 1 / (1 / n + 1 / m)
    return float(chndtrix(1 - alpha, bins - 1, tolerated * rows)) / rows


def history_limit(past: np.ndarray, noise: float) -> float:
    """Above which a figure is out of the ordinary, given its past ones (at least ``ENOUGH``, oldest first).

    The median and three and a half robust standard deviations (1.4826 · MAD), which are at least ``noise``: what
    sampling alone would give; and no less than nearly all of the past figures, because what comes back every few weeks
    (a holiday) is ordinary though the median does not show it.

    >>> round(history_limit(np.array([1.0, 2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2]), 0.1), 2)
    4.59
    """
    newest = np.sort(past[-LONGEST:])
    middle = _middle(newest)
    spread = max(1.4826 * _middle(np.sort(np.abs(newest - middle))), noise)
    return max(middle + DEVIATIONS * spread, float(newest[int(MOST * (len(newest) - 1))]))


def _middle(ordered: np.ndarray) -> float:
    """The median of sorted numbers."""
    half = len(ordered) // 2
    return float(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, so that of those below ``a`` a share of at most ``a`` is by chance.

    >>> benjamini_hochberg([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.03]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [round(float(x), 15) for x in adjusted]


def angles(counts: np.ndarray) -> np.ndarray:
    """asin √share of rows with something, from counts with and without (last axis, of two): a scale on which a share
    of n rows has the sampling variance 1/(4n), whatever the share. 0 where there are no rows.

    >>> angles(np.array([[6, 94], [12, 88]])).round(3).tolist()
    [0.247, 0.354]
    """
    whole = counts.sum(-1)
    return np.asarray(np.arcsin(np.sqrt(counts[..., 0] / np.maximum(whole, 1))))


def angle_p(difference: float, n: float, m: float, tolerated: float) -> float:
    """The chance of shares at least so different (as angles, either way) where the true difference is tolerated."""
    from scipy.special import ndtr

    if not n or not m:
        return 1.0
    noise = np.sqrt((1 / n + 1 / m) / 4)
    return float(min(1.0, ndtr(-(abs(difference) - tolerated) / noise) + ndtr(-(abs(difference) + tolerated) / noise)))


def superiority(reference: np.ndarray, current: np.ndarray) -> float:
    """The chance that a current row is in a higher bin than a reference row, ties counting half; ½ if neither is.

    >>> superiority(np.array([5, 5]), np.array([0, 10]))
    0.75
    """
    if not reference.sum() or not current.sum():
        return 0.5
    lower = np.cumsum(reference) - reference / 2
    return float((current * lower).sum() / (reference.sum() * current.sum()))
