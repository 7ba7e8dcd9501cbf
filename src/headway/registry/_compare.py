"""What changed between two versions of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headway.define.records import ServingPlan, VersionRecord

_FACTS = ("digest", "data_digest", "commit", "dirty", "environment", "bundle", "seed", "cut", "train_rows", "test_rows")


class MetricChange(msgspec.Struct, frozen=True):
    """A figure in both versions; None where a version has no such figure. ``segment`` None: over all rows."""

    metric: str
    segment: str | None
    a: float | None
    b: float | None


class Change(msgspec.Struct, frozen=True):
    """Something named that is not the same in both versions; None where a version has it not."""

    name: str
    a: Any
    b: Any


class Comparison(msgspec.Struct, frozen=True):
    """Version ``b`` beside version ``a``: all figures, and of everything else what differs.

    ``features`` are the columns the estimator sees, each with a text that says what decides its values;
    ``data`` the lake tables with their versions; ``facts`` the code, the environment, the seed, the cut, row counts.
    """

    model: str
    a: int
    b: int
    metrics: tuple[MetricChange, ...]
    params: tuple[Change, ...]
    features: tuple[Change, ...]
    data: tuple[Change, ...]
    facts: tuple[Change, ...]


def comparison(a: VersionRecord, b: VersionRecord) -> Comparison:
    """Everything that tells version ``b`` from version ``a``."""
    return Comparison(
        model=a.model,
        a=a.version,
        b=b.version,
        metrics=_metrics(a, b),
        params=_changes(a.params, b.params),
        features=_changes(_features(a.serving), _features(b.serving)),
        data=_changes(a.data, b.data),
        facts=_changes({f: getattr(a, f) for f in _FACTS}, {f: getattr(b, f) for f in _FACTS}),
    )


def _metrics(a: VersionRecord, b: VersionRecord) -> tuple[MetricChange, ...]:
    both = [{None: r.metrics, **r.segment_metrics} for r in (a, b)]
    segments = list(dict.fromkeys([*both[0], *both[1]]))
    return tuple(
        MetricChange(metric, segment, *(side.get(segment, {}).get(metric) for side in both))
        for segment in segments
        for metric in dict.fromkeys([*both[0].get(segment, {}), *both[1].get(segment, {})])
    )


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys([*a, *b])
    return tuple(Change(n, a.get(n), b.get(n)) for n in names if a.get(n) != b.get(n) or (n in a) != (n in b))


def _features(plan: ServingPlan) -> dict[str, str]:
    """Each column of the estimator with what decides its values."""
    origin = {column: f"view {u.plan.name} {u.plan.fingerprint[:12]}" for u in plan.views for column in u.columns}
    origin |= {column: f"function {f.name} {f.digest[:12]}" for f in plan.functions for column in f.outputs}
    return {c.name: f"{c.type}, {origin.get(c.name, 'request')}" for c in plan.columns}
