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
    if feature.kind == "expr":
        values = [value_at_r(plan, each, versions, key, r) for each in plan.features if each.name in feature.inputs]
        return "expired" if "expired" in values else sum_of(values)
    rows = sorted(
        (v for v in versions if v.key == key and _visible(plan, v, r) and _in_window(plan, feature, v, r)),
        key=lambda v: (v.event, v.known, v.rank),
    )
    if feature.column is None:
        return len(rows) if feature.kind == "count" else (r - rows[-1].event) / 1e6 if rows else None
    if feature.kind == "row":
        rows = rows[-1:]
    rows = [v for v in rows if not _missing(v.values[feature.column])]
    values = [v.values[feature.column] for v in rows]
    if feature.kind in ("count", "nunique"):
        return len(values if feature.kind == "count" else set(values))
    if not values:
        return None
    if feature.kind == "time_since_last":
        return (r - rows[-1].event) / 1e6
    if feature.kind == "last_n":
        assert feature.n is not None
        return (values[::-1] + [None] * feature.n)[: feature.n]
    if feature.kind == "mode":
        return max(values, key=lambda value: (values.count(value), max(i for i, v in enumerate(values) if v == value)))
    if feature.kind in ("row", "last", "first", "lag"):
        chosen = rows[0 if feature.kind == "first" else -1]
        ages = feature.kind in ("row", "last") and feature.window is None and not feature.offset
        old = plan.ttl is not None and ages and chosen.event != BEGINNING
        return "expired" if old and chosen.event < r - plan.ttl else chosen.values[feature.column]
    return _aggregate(feature, values)


def _visible(plan: ViewPlan, v: Version, r: int) -> bool:
    return v.known <= r < v.until


def _in_window(plan: ViewPlan, feature: FeaturePlan, v: Version, r: int) -> bool:
    end = r - feature.offset
    closed = plan.effective or feature.kind == "lag"
    before = plan.timeless or v.event < end or (closed and v.event == end)
    return before and (feature.window is None or plan.timeless or v.event >= end - feature.window)


def sum_of(values: list[Any]) -> Any:
    """What the exprs of the worlds compute: the inputs that are there, added up; -1 if none is."""
    return (
        sum((float(value) for value in values if value is not None), 0.0)
        if any(value is not None for value in values)
        else -1.0
    )


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
