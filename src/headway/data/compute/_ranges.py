"""Which rows each query sees, as ranges of positions in a timeline.

A query's visible rows are one range of rows nobody has corrected so far (the hull) without its holes (rows not known
yet), and extra ranges of rows that were corrected only later. Holes and extras are few or none as a rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from headway.data.compute._order import starts_of


@dataclass(frozen=True, slots=True)
class Ragged:
    """Ranges ``[lo, hi)``, each of the query with number ``query``; ascending by query, then by position."""

    query: np.ndarray
    lo: np.ndarray
    hi: np.ndarray

    @classmethod
    def none(cls) -> Ragged:
        empty = np.empty(0, dtype=np.int64)
        return cls(empty, empty, empty)

    def __len__(self) -> int:
        return len(self.query)

    def kept(self, lo: np.ndarray, hi: np.ndarray) -> Ragged:
        """The ranges with new bounds, without those that became empty."""
        some = lo < hi
        if some.all():
            return Ragged(self.query, lo, hi)
        return Ragged(self.query[some], lo[some], hi[some])


@dataclass(frozen=True, slots=True)
class Pieces:
    """At least one range per query, some of them empty; ``first[i]`` is the first range of query i."""

    query: np.ndarray
    first: np.ndarray
    lo: np.ndarray
    hi: np.ndarray

    @property
    def single(self) -> bool:
        return len(self.first) == len(self.lo)

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum over each query's ranges of ``values``, which has one row per range."""
        return values if self.single else np.add.reduceat(values, self.first, axis=0)

    def least(self, values: np.ndarray) -> np.ndarray:
        return values if self.single else np.minimum.reduceat(values, self.first)

    def greatest(self, values: np.ndarray) -> np.ndarray:
        return values if self.single else np.maximum.reduceat(values, self.first)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """``values`` of the queries, for each of their ranges."""
        return values if self.single else values[self.query]


@dataclass(frozen=True, slots=True)
class Visible:
    """The visible rows of every query; see the module."""

    lo: np.ndarray
    hi: np.ndarray
    holes: Ragged = field(default_factory=Ragged.none)
    extra: Ragged = field(default_factory=Ragged.none)

    def since(self, lo: np.ndarray, extra_lo: np.ndarray) -> Visible:
        """Only the rows from ``lo`` on in the hull, and from ``extra_lo`` on among the extras (one per query)."""
        holes, extra = self.holes, self.extra
        return Visible(
            np.maximum(self.lo, lo),
            self.hi,
            holes.kept(np.maximum(holes.lo, lo[holes.query]), holes.hi),
            extra.kept(np.maximum(extra.lo, extra_lo[extra.query]), extra.hi),
        )

    def through(self, counts: np.ndarray | None) -> Visible:
        """The same rows in a timeline that holds only some of them; ``counts[p]`` of those are before position p."""
        if counts is None:
            return self
        holes, extra = self.holes, self.extra
        return Visible(
            counts[self.lo],
            counts[self.hi],
            holes.kept(counts[holes.lo], counts[holes.hi]),
            extra.kept(counts[extra.lo], counts[extra.hi]),
        )

    def pieces(self) -> Pieces:
        """The visible rows as plain ranges."""
        queries, holes = len(self.lo), self.holes
        number = np.arange(queries)
        query, first, lo, hi = number, number, self.lo, self.hi
        if len(holes):
            first = number + starts_of(holes.query, queries)[:-1]
            after = np.arange(len(holes)) + holes.query + 1
            lo = np.empty(queries + len(holes), dtype=np.int64)
            hi = np.empty_like(lo)
            lo[first], lo[after] = self.lo, holes.hi
            hi[after - 1] = holes.lo
            hi[np.append(first[1:], len(lo)) - 1] = self.hi
            query = np.repeat(number, np.diff(np.append(first, len(lo))))
        if len(self.extra):
            query = np.concatenate([query, self.extra.query])
            order = np.argsort(query, kind="stable")
            query = query[order]
            lo = np.concatenate([lo, self.extra.lo])[order]
            hi = np.concatenate([hi, self.extra.hi])[order]
            first = starts_of(query, queries)[:-1]
        return Pieces(query, first, lo, hi)
