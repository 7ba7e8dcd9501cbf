"""The semantics of DESIGN §3 row by row, in plain Python, for tests."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from headway.define.records import BEGINNING, FeaturePlan, ViewPlan


@dataclass(frozen=True)
class Version:
    key: tuple[Any, ...]
    event: int
    known: int
    until: int
    rank: int
    values: dict[str, Any]


def value_at_r(plan: ViewPlan, feature: FeaturePlan, versions: list[Version], key: tuple[Any, ...], r: int) -> Any:
    """The feature's value at r; ``"expired"`` where it is null because it is too old."""
    rows = sorted(
        (v for v in versions if v.key == key and _visible(plan, v, r) and _in_window(plan, feature, v, r)),
        key=lambda v: (v.event, v.known, v.rank),
    )
    if feature.kind == "count":
        return len(rows)
    if feature.kind == "row":
        rows = rows[-1:]
    rows = [v for v in rows if not _missing(v.values[feature.column])]
    values = [v.values[feature.column] for v in rows]
    if feature.kind == "nunique":
        return len(set(values))
    if not values:
        return None
    if feature.kind in ("row", "last", "first"):
        chosen = rows[0 if feature.kind == "first" else -1]
        old = plan.ttl is not None and feature.window is None and feature.kind != "first" and chosen.event != BEGINNING
        return "expired" if old and chosen.event < r - plan.ttl else chosen.values[feature.column]
    return _aggregate(feature, values)


def _visible(plan: ViewPlan, v: Version, r: int) -> bool:
    before = plan.timeless or v.event < r or (plan.effective and v.event == r)
    return before and v.known <= r < v.until


def _in_window(plan: ViewPlan, feature: FeaturePlan, v: Version, r: int) -> bool:
    return feature.window is None or plan.timeless or v.event >= r - feature.window


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _aggregate(feature: FeaturePlan, values: list[Any]) -> Any:
    if feature.kind == "min":
        return min(values)
    if feature.kind == "max":
        return max(values)
    if feature.kind == "sum":
        return math.fsum(values) if isinstance(values[0], float) else sum(values)
    if feature.kind == "mean":
        return math.fsum(values) / len(values)
    if feature.kind == "std":
        return statistics.stdev(values) if len(values) > 1 else None
    assert feature.q is not None
    ordered, at = sorted(values), feature.q * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
