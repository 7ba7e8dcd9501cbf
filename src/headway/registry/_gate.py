"""Whether a candidate may take the champion's place: figures in, an answer out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from headway.define.records import Deployment, GateResult
from headway.metadata import is_automatic, standing

_ROUNDING = 1e-12  # 1 % of a figure is itself rounded; a candidate exactly at the limit passes


def decide(
    metric: str,
    greater_is_better: bool,
    candidate: float | None,
    champion: float | None = None,
    best: float | None = None,
    max_regression: float = 0.0,
    *,
    baseline: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    champion_version: int | None = None,
    rows: int = 0,
) -> GateResult:
    """Compare a candidate's figure with all it must hold its own against, on the same rows.

    ``max_regression`` is a share: with 0.01 the candidate may be worse than the champion by 1 % of the champion's
    figure, and worse than ``best``, the best figure the model has held, by 1 % of that one, so that small steps back
    do not add up. It must beat the naive ``baseline``, and lie within ``minimum`` and ``maximum``. What is None is not
    compared with. A candidate without a finite figure never passes.

    >>> decide("mae", False, 101.0, champion=100.0, best=100.0, max_regression=0.01).passed
    True
    >>> decide("mae", False, 101.9, champion=101.0, best=100.0, max_regression=0.01).reason
    'mae 101.9 is worse than the best figure held, 100, by 1.9 %; 1 % is allowed'
    """
    sign = 1.0 if greater_is_better else -1.0
    champion, best, baseline = (_finite(figure) for figure in (champion, best, baseline))
    found = _finite(candidate)
    if found is None:
        reasons = [f"{metric} of the candidate is {candidate}, which is no figure to compare"]
    else:
        reasons = [
            *_bounds(metric, found, minimum, maximum),
            *_regression(metric, found, champion, "the champion's figure,", max_regression, sign),
            *_regression(metric, found, best, "the best figure held,", max_regression, sign),
            *_baseline(metric, found, baseline, sign),
        ]
    return GateResult(
        passed=not reasons,
        reason="; ".join(reasons) or _passed(metric, found, champion, baseline),
        metric=metric,
        candidate=candidate,
        champion=champion,
        champion_version=champion_version,
        best=best,
        rows=rows,
    )


def best_held(
    log: Iterable[Deployment], metric: str, greater_is_better: bool, segment: str | None = None
) -> float | None:
    """The best figure of ``metric`` that a champion has held since the last promotion by hand, that one included.

    Figures are those the log recorded as ``candidate`` at each promotion. A version that was rolled back no longer
    counts: what made it bad may be what made its figure good.
    """
    lines = standing(log, segment)
    by_hand = max((i for i, line in enumerate(lines) if not is_automatic(line)), default=0)
    figures = [
        figure
        for line in lines[by_hand:]
        if line.figures.get("metric") == metric and (figure := _finite(line.figures.get("candidate"))) is not None
    ]
    return (max if greater_is_better else min)(figures, default=None)


def _finite(figure: float | None) -> float | None:
    return float(figure) if isinstance(figure, int | float) and math.isfinite(figure) else None


def _bounds(metric: str, candidate: float, minimum: float | None, maximum: float | None) -> Iterator[str]:
    if minimum is not None and candidate < minimum:
        yield f"{metric} {candidate:.6g} is below the gate's minimum, {minimum:.6g}"
    if maximum is not None and candidate > maximum:
        yield f"{metric} {candidate:.6g} is above the gate's maximum, {maximum:.6g}"


def _regression(
    metric: str, candidate: float, other: float | None, whose: str, allowed: float, sign: float
) -> Iterator[str]:
    if other is None:
        return
    worse = sign * (other - candidate)  # > 0: the candidate is worse
    if worse > (allowed + _ROUNDING) * abs(other):
        share = _percent(worse / abs(other)) if other else f"{worse:.6g}"
        yield f"{metric} {candidate:.6g} is worse than {whose} {other:.6g}, by {share}; {_percent(allowed)} is allowed"


def _baseline(metric: str, candidate: float, baseline: float | None, sign: float) -> Iterator[str]:
    if baseline is not None and sign * (candidate - baseline) <= 0:
        yield f"{metric} {candidate:.6g} does not beat the naive baseline, {baseline:.6g}"


def _passed(metric: str, candidate: float | None, champion: float | None, baseline: float | None) -> str:
    against = [f"champion {champion:.6g}"] if champion is not None else ["no champion yet"]
    against += [f"baseline {baseline:.6g}"] if baseline is not None else []
    return f"{metric} {candidate:.6g} against {', '.join(against)}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
