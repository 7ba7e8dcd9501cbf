"""Does the online store hold what history says it should?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from headway.define.records import FeaturePlan, Snapshot, ViewPlan

EXAMPLES = 5
TOLERANCE = 1e-9  # relative, for floats: the same promise as between engines


class Difference(msgspec.Struct, frozen=True):
    """One value that is not what it should be."""

    keys: dict[str, Any]
    feature: str
    served: Any
    recomputed: Any


class VerifyResult(msgspec.Struct, frozen=True):
    """What a verification of one view found. ``as_of`` None: the view has never been materialized.

    ``differences`` counts values by feature; ``late`` is the share of the time since the first refresh in which the
    store was behind what training assumes.
    """

    view: str
    fingerprint: str
    as_of: int | None
    entities: int = 0
    values: int = 0
    differences: dict[str, int] = {}
    examples: tuple[Difference, ...] = ()
    late: float = 0.0
    late_limit: float = 0.01

    @property
    def passed(self) -> bool:
        return self.as_of is not None and not self.differences and self.late <= self.late_limit


def compare(plan: ViewPlan, truth: Snapshot, stored: pa.Table, *, late: float, late_limit: float) -> VerifyResult:
    """Set recomputed values beside stored ones, row by row; ``stored`` has one column per feature of the plan."""
    differences: dict[str, int] = {}
    examples: list[Difference] = []
    for feature in plan.features:
        served, right = stored.column(feature.name).combine_chunks(), truth.features.column(feature.name)
        wrong = np.flatnonzero(unequal(feature, served, right.combine_chunks()))
        if len(wrong):
            differences[feature.name] = len(wrong)
        for row in wrong[: max(0, EXAMPLES - len(examples))]:
            keys = {k.name: truth.keys.column(k.name)[int(row)].as_py() for k in plan.keys}
            examples.append(Difference(keys, feature.name, served[int(row)].as_py(), right[int(row)].as_py()))
    return VerifyResult(
        view=plan.name,
        fingerprint=plan.fingerprint,
        as_of=truth.as_of,
        entities=truth.keys.num_rows,
        values=truth.keys.num_rows * len(plan.features),
        differences=differences,
        examples=tuple(examples),
        late=late,
        late_limit=late_limit,
    )


def unequal(feature: FeaturePlan, a: pa.Array, b: pa.Array) -> np.ndarray:
    """Which values differ: exactly, but floats within 1e-9 relative; nulls are equal, and so are NaNs."""
    there_a, there_b = np.asarray(a.is_valid()), np.asarray(b.is_valid())
    both, either = there_a & there_b, there_a ^ there_b
    if feature.type == "double":
        x, y = np.asarray(a.fill_null(0.0)), np.asarray(b.fill_null(0.0))
        with np.errstate(invalid="ignore"):
            close = np.abs(x - y) <= TOLERANCE * np.maximum(np.abs(x), np.abs(y))
        near = (x == y) | (np.isnan(x) & np.isnan(y)) | (close & np.isfinite(x) & np.isfinite(y))
        return np.asarray(either | (both & ~near))
    same = np.fromiter((x == y for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True)), bool, len(a))
    return np.asarray(either | (both & ~same))


def late_share(plan: ViewPlan, refreshes: Sequence[tuple[int, int]], now: int, since: int | None = None) -> float:
    """The share of the time from the first refresh (or ``since``, if that is later) until ``now`` in which a newer
    refresh was due but not there.

    ``refreshes`` holds (as_of, finished at). A value computed as of ``r`` is what training assumes from ``r + lag``
    until ``r + lag + refresh``.
    """
    if plan.refresh is None or not refreshes:
        return 0.0
    ordered = sorted(refreshes, key=lambda each: each[1])
    begin, late, best = max(ordered[0][1], since or ordered[0][1]), 0, ordered[0][0]
    if now <= begin:
        return 0.0
    for (as_of, at), until in zip(ordered, [*(at for _, at in ordered[1:]), now], strict=True):
        best = max(best, as_of)
        due = best + plan.lag + plan.refresh
        late += max(0, min(until, now) - max(at, due, begin))
    return late / (now - begin)
