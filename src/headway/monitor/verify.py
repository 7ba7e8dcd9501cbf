"""Does the online store hold what history says it should?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.define.records import ViewPlan

EXAMPLES = 3  # of each feature, and of each other kind of finding
MOST_EXAMPLES = 60
TOLERANCE = 1e-9  # relative, for floats: the same promise as between engines


class Difference(msgspec.Struct, frozen=True):
    """One value that is not what it should be."""

    keys: dict[str, Any]
    feature: str
    served: Any
    recomputed: Any


class VerifyResult(msgspec.Struct, frozen=True):
    """What a verification of one view found. ``as_of`` None: the view has never been materialized.

    ``entities`` were compared, of ``known`` that the data tells of; ``differences`` counts values that are not right,
    by feature, those of ghosts included. Whatever the sample, all keys are looked at: ``lost`` entities ought to be
    stored and are not, ``ghosts`` are stored and ought not to be. ``damaged`` rows cannot be read; ``ahead`` ones claim
    to speak for a moment that has not come, or for data that nobody has, so that no refresh replaces them.
    ``unfinished`` rows belong to a refresh that is under way, or was cut short; they are compared with what they claim
    to be. ``late`` is the share of the time since the first refresh in which the store was behind what training
    assumes.
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
    known: int = 0
    lost: int = 0
    lost_examples: tuple[dict[str, Any], ...] = ()
    ghosts: int = 0
    ghost_examples: tuple[dict[str, Any], ...] = ()
    damaged: int = 0
    ahead: int = 0
    unfinished: int = 0
    at: int = 0  # when it was verified, by the environment's clock

    @property
    def wrong(self) -> int:
        """How many values and rows are not what they should be."""
        return sum(self.differences.values()) + self.lost + self.ghosts + self.damaged + self.ahead

    @property
    def passed(self) -> bool:
        return self.as_of is not None and not self.wrong and self.late <= self.late_limit

    def findings(self) -> list[str]:
        """What is not right, in words; nothing if all is."""
        lost, ghosts = _keys(self.lost_examples), _keys(self.ghost_examples)
        return [
            words
            for count, words in (
                (len(self.differences), self._values()),
                (self.lost, f"{_entities(self.lost)} not stored, such as {lost}"),
                (self.ghosts, f"{_entities(self.ghosts)} stored that should not be, such as {ghosts}"),
                (self.damaged, f"{_rows(self.damaged)} cannot be read"),
                (self.ahead, f"{_rows(self.ahead)} under a stamp of the future"),
                (self.late > self.late_limit, f"behind for {self.late:.1%} of the time"),
            )
            if count
        ]  # fmt: skip

    def _values(self) -> str:
        wrong = sum(self.differences.values())
        return f"{wrong:,} of {self.values:,} values differ ({', '.join(self.differences)})"


def _entities(count: int) -> str:
    return f"{count:,} {'entity' if count == 1 else 'entities'}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _keys(examples: Sequence[dict[str, Any]]) -> str:
    return " or ".join(" ".join(f"{name}={value}" for name, value in keys.items()) for keys in examples)


class Tally:
    """Differences found so far, as more and more rows are compared."""

    def __init__(self, plan: ViewPlan) -> None:
        self.plan = plan
        self.entities = self.ghosts = 0
        self.differences: Counter[str] = Counter()
        self.examples: list[Difference] = []

    def add(self, keys: pa.Table, served: pa.Table, right: pa.Table) -> None:
        """Set served values beside recomputed ones, row by row; both tables have a column per feature of the plan."""
        self.entities += keys.num_rows
        self._add(lambda row: key_of(self.plan, keys, row), served, right)

    def add_ghosts(self, keys: Sequence[dict[str, Any]], served: pa.Table, right: pa.Table) -> None:
        """The same for what is stored of nobody: ``right`` is what would be served if it were not."""
        self.ghosts += len(keys)
        self._add(lambda row: keys[row], served, right)

    def _add(self, key: Callable[[int], dict[str, Any]], served: pa.Table, right: pa.Table) -> None:
        for feature in self.plan.features:
            a, b = (_flat(table.column(feature.name)) for table in (served, right))
            wrong = np.flatnonzero(unequal(a, b))
            for row in wrong[: self._room(feature.name)].tolist():
                self.examples.append(Difference(key(row), feature.name, a[row].as_py(), b[row].as_py()))
            if len(wrong):
                self.differences[feature.name] += len(wrong)

    def _room(self, feature: str) -> int:
        return max(0, min(EXAMPLES - min(self.differences[feature], EXAMPLES), MOST_EXAMPLES - len(self.examples)))


def key_of(plan: ViewPlan, keys: pa.Table, row: int) -> dict[str, Any]:
    """The key columns of one row."""
    return {key.name: keys.column(key.name)[row].as_py() for key in plan.keys}


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def unequal(a: pa.Array, b: pa.Array) -> np.ndarray:
    """Which values differ: exactly, but floats within 1e-9 relative; nulls are equal, and so are NaNs.

    >>> unequal(pa.array([1.0, None, 3.0]), pa.array([1.0 + 1e-12, 0.0, 3.1])).tolist()
    [False, True, True]
    """
    if a.type != b.type:
        a = a.cast(b.type)
    there_a, there_b = (np.asarray(array.is_valid()) for array in (a, b))
    both = there_a & there_b
    if not both.any():
        return np.asarray(there_a ^ there_b)
    if pa.types.is_fixed_size_list(a.type):
        size = a.type.list_size
        inner = (array.values.slice(array.offset * size, len(array) * size) for array in (a, b))
        return np.asarray((there_a ^ there_b) | (both & unequal(*inner).reshape(len(a), size).any(axis=1)))
    if pa.types.is_floating(a.type):
        x, y = (np.asarray(array.cast(pa.float64()).fill_null(0.0)) for array in (a, b))
        with np.errstate(invalid="ignore"):
            close = np.abs(x - y) <= TOLERANCE * np.maximum(np.abs(x), np.abs(y))
        same = (x == y) | (np.isnan(x) & np.isnan(y)) | (close & np.isfinite(x) & np.isfinite(y))
    else:
        same = np.asarray(pc.equal(a, b).fill_null(False))
    return np.asarray((there_a ^ there_b) | (both & ~same))


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
