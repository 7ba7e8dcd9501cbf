"""What a model version is made of, and what tells two of them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headway.define import GREATER_IS_BETTER
from headway.define.records import VersionRecord
from headway.registry import Change, Comparison


@dataclass(frozen=True, slots=True)
class FeatureLine:
    """A column that the estimator sees: where it comes from, and what decides its values."""

    name: str
    type: str
    origin: Literal["view", "function", "request", "calendar"]
    source: str  # the view, function or request column
    fingerprint: str


def features(record: VersionRecord) -> list[FeatureLine]:
    """The estimator's columns in order."""
    plan = record.serving
    found: dict[str, tuple[Any, str, str]] = {}
    for use in plan.views:
        found |= dict.fromkeys(use.columns, ("view", use.plan.name, use.plan.fingerprint))
    for function in plan.functions:
        found |= dict.fromkeys(function.outputs, ("function", function.name, function.digest))
    for calendar in plan.calendars:
        found |= {f"{calendar.column}__{part}": ("calendar", calendar.column, "") for part in calendar.parts}
    return [
        FeatureLine(column.name, column.type, *found.get(column.name, ("request", column.name, "")))
        for column in plan.columns
    ]


def change(a: float | None, b: float | None) -> float | None:
    """From ``a`` to ``b``, as a share of ``a``."""
    return None if a is None or b is None or a == 0 or not math.isfinite(b - a) else (b - a) / abs(a)


def better(record: VersionRecord, metric: str, a: float | None, b: float | None) -> str:
    """The look of a change: good, bad, or muted where it is next to nothing or nobody knows what is better."""
    share = change(a, b)
    if share is None or abs(share) < 0.0005:
        return "muted"
    greater = record.greater_is_better if metric == record.metric else metric in GREATER_IS_BETTER
    return "good" if (share > 0) == greater else "bad"


_GROUPS = (("Parameters", "params"), ("Features", "features"), ("Data", "data"), ("Code and facts", "facts"))


def grouped(found: Comparison) -> list[tuple[str, Sequence[Change]]]:
    """What differs, by topic; topics without a difference too."""
    return [(title, getattr(found, name)) for title, name in _GROUPS]
