"""One window's counts against two others: those of the reference and those of the windows just before it.

Counts are vectors: of bins, or of rows with something and rows without. How far two vectors are apart is a
``Distance``: the root of the PSI, or the change of a share as an angle. A window differs when the distance is more than
tolerated, beyond sampling (``p``), and, once there is a history, more than those of the past windows (``limit``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headway.monitor._statistics import (
    BEFORE,
    ENOUGH,
    TOLERATED_PSI,
    angle_p,
    angles,
    history_limit,
    psi,
    tolerant_p,
    tolerant_psi,
)


@dataclass(frozen=True, slots=True)
class Distance:
    """How far counts (last axis) are from a base, what sampling alone makes of it, and how likely that is."""

    between: Callable[[np.ndarray, np.ndarray], np.ndarray]
    noise: Callable[[float, float], float]
    p: Callable[[float, float, float, int], float]
    least: Callable[[float, float, float, int], float]  # the distance with a given p


def _share_change(base: np.ndarray, now: np.ndarray) -> np.ndarray:
    return np.asarray(angles(now) - angles(base))


SHAPE = Distance(
    between=lambda base, now: np.sqrt(np.maximum(psi(base, now), 0.0)),
    noise=lambda n, m: float(np.sqrt((1 / n + 1 / m) / 2)),
    p=lambda d, n, m, bins: tolerant_p(d * d, n, m, bins, TOLERATED_PSI),
    least=lambda alpha, n, m, bins: float(np.sqrt(tolerant_psi(alpha, n, m, bins, TOLERATED_PSI))),
)


def _change(tolerated: float, between: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Distance:
    return Distance(
        between=between,
        noise=lambda n, m: float(np.sqrt((1 / n + 1 / m) / 4)),
        p=lambda d, n, m, _: angle_p(d, n, m, tolerated),
        least=lambda alpha, n, m, _: tolerated + float(np.sqrt((1 / n + 1 / m) / 4)) * _normal(alpha),
    )


def change(tolerated: float) -> Distance:
    """Of a share, either way. ``tolerated`` is an angle: how much does not matter, however many rows there are."""
    return _change(tolerated, lambda base, now: np.abs(_share_change(base, now)))


def growth(tolerated: float) -> Distance:
    """Of a share that is bad news: less of it is no finding."""
    return _change(tolerated, lambda base, now: np.maximum(_share_change(base, now), 0.0))


def _normal(alpha: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - alpha))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A window against one base. ``limit`` None: there is no history to hold it against."""

    against: str
    base: np.ndarray
    distance: float
    p: float
    limit: float | None
    past: int  # how many past windows the limit rests on

    @property
    def extraordinary(self) -> bool:
        """Whether the window is farther from the base than the past ones were; yes while there are too few."""
        return self.limit is None or self.distance > self.limit


def compare(
    distance: Distance, reference: np.ndarray, now: np.ndarray, past: np.ndarray, phase: np.ndarray
) -> list[Comparison]:
    """The window against the reference and, with enough past windows, against those just before it.

    Parameters
    ----------
    past
        Counts of the past windows, oldest first [windows, bins]; rows without counts are windows without data.
    phase
        Where in its cycle each past window is, of the present one's phase being 0: only like is compared with like.
    """
    alike, full = phase == 0, past.sum(axis=1) > 0
    found = [_against(distance, "the reference", reference, now, _apart(distance, reference, past, alike, full))]
    rows, of = _predecessors(past, phase, full)
    same = past[alike & full]
    if len(same) >= BEFORE:
        history = distance.between(rows, past[of]) if len(of) else np.empty(0)
        matched = history[alike[of]]
        history = matched if len(matched) >= ENOUGH else history
        if len(history) >= ENOUGH:
            words = f"the {BEFORE} windows before" if alike.all() else f"the {BEFORE} like windows before"
            found.append(_against(distance, words, same[-BEFORE:].sum(axis=0), now, history))
    return found


def _apart(
    distance: Distance, reference: np.ndarray, past: np.ndarray, alike: np.ndarray, full: np.ndarray
) -> np.ndarray:
    """How far the past windows are from the reference; those of the same phase if they are enough."""
    chosen = past[alike & full] if (alike & full).sum() >= ENOUGH else past[full]
    return distance.between(reference, chosen) if len(chosen) else np.empty(0)


def _predecessors(past: np.ndarray, phase: np.ndarray, full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every past window with enough predecessors of its phase: their sum; and which windows these are."""
    sums, of = [], []
    for each in np.unique(phase):
        at = np.flatnonzero((phase == each) & full)
        running = np.cumsum(past[at], axis=0)
        if len(at) > BEFORE:
            before = running[BEFORE - 1 : -1].copy()
            before[1:] -= running[: -BEFORE - 1]
            sums.append(before)
            of.append(at[BEFORE:])
    if not of:
        return past[:0], np.empty(0, dtype=np.int64)
    order = np.argsort(np.concatenate(of))
    return np.concatenate(sums)[order], np.concatenate(of)[order]


def _against(distance: Distance, against: str, base: np.ndarray, now: np.ndarray, history: np.ndarray) -> Comparison:
    n, m = float(base.sum()), float(now.sum())
    if not n or not m:
        return Comparison(against, base, 0.0, 1.0, None, 0)
    apart = float(distance.between(base, now))
    if len(history) >= ENOUGH + BEFORE:
        history = history[:-BEFORE]  # what has been going on for some windows is no yardstick for itself
    enough = len(history) >= ENOUGH
    limit = history_limit(history, distance.noise(n, m)) if enough else None
    return Comparison(against, base, apart, distance.p(apart, n, m, len(base)), limit, len(history) if enough else 0)
