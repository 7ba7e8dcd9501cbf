"""Aggregates over rows that are late or corrected again and again.

With a fixed span, a row is seen during one stretch of time: from its begin to its end. What a query sees of its key is
then all rows that began up to ``r`` without those that ended up to ``r``: two ranges, whichever rows hide which. Rows
stand here twice, first in the order of their begins, then of their ends, and a query's second range counts against its
first. The ranges of ``Timeline.visible`` are fewer rows to sort and to add up, as long as few rows hide among others.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from headway.data.compute import _aggregate as aggregate
from headway.data.compute._aggregate import Numbers, Rows, rows_at
from headway.data.compute._column import Column
from headway.data.compute._order import sort_pairs
from headway.data.compute._ranges import Pieces
from headway.data.compute._sweep import heaviest, in_sight
from headway.data.compute._timeline import Part, Span, Timeline
from headway.data.compute._tree import TooManyRangesError
from headway.define.records import FOREVER, Events, FeaturePlan

LATEST = ("row", "last", "lag", "time_since_last")  # looked up from the end, unless that is far
LATE = ("count", "sum", "mean", "std", "quantile", "min", "max", "first", *LATEST)  # what can be computed here
_SAMPLE = 512  # queries that are looked at
_MANY = 6  # ranges per query from which on this costs less
_FAR = 8  # replaced rows that a query passes on its way to the latest one it sees


class _Difference(Pieces):
    """Two ranges per query, of which the second one counts against the first."""

    def total(self, values: np.ndarray) -> np.ndarray:
        difference: np.ndarray = values[0::2] - values[1::2]
        return difference

    def spread(self, values: np.ndarray) -> np.ndarray:
        return np.repeat(values, 2)


class Stretches:
    """When each row with a value (all of them, if ``column`` is None) is seen over a span, key by key."""

    def __init__(self, timeline: Timeline, column: Column | None, span: Span, events: Events) -> None:
        rows = timeline.order if column is None else column.rows
        begin, end = in_sight(timeline.plan, span, events.known[rows], events.until[rows], events.event[rows])
        seen = np.flatnonzero(begin < end)
        code = (timeline.code if column is None else column.codes)[seen]
        begin, end = begin[seen], end[seen]
        by_begin, ending = sort_pairs(code, begin), np.flatnonzero(end != FOREVER)
        by_end = ending[sort_pairs(code[ending], end[ending])]
        self.timeline, self._keys = timeline, timeline.count
        self._place = np.arange(len(timeline)) if column is None else np.arange(len(column.rows))
        self._place, self._code, self._begin, self._end = self._place[seen], code, begin, end
        self.positions = np.concatenate([self._place[by_begin], self._place[by_end]])
        self._begins = _part(code[by_begin], timeline.count, begin[by_begin])
        self._ends = _part(code[by_end], timeline.count, end[by_end])

    def pieces(self, code: np.ndarray, r: np.ndarray) -> Pieces:
        slot, number = np.where(code < 0, self._keys, code), np.arange(len(code))
        lo, hi = np.empty(2 * len(code), np.int64), np.empty(2 * len(code), np.int64)
        for at, (part, offset) in enumerate(((self._begins, 0), (self._ends, len(self._begins.code)))):
            lo[at::2] = part.start(slot) + offset
            hi[at::2] = part.before(slot, r, inclusive=True) + offset
        return _Difference(np.repeat(number, 2), number * 2, lo, hi)

    def heaviest(self, weight: np.ndarray, code: np.ndarray, r: np.ndarray) -> np.ndarray:
        """For each query the greatest weight of the rows it sees, or -1; ``weight`` has one for every position."""
        slot = np.where(code < 0, self._keys, code)
        order = sort_pairs(slot, r)
        queries = Part(slot[order], self._keys + 1, r[order], r, None)
        lo, hi = queries.start(self._code), queries.end(self._code)
        asked = np.flatnonzero(lo < hi)
        key, end = self._code[asked], self._end[asked]
        lo = queries.before(key, self._begin[asked])
        hi = np.where(end == FOREVER, hi[asked], queries.before(key, end))
        found = np.empty(len(code), np.int64)
        found[order] = heaviest(len(code), lo, hi, weight[self._place[asked]])
        return found


class LateRows:
    """Whole rows in the order of their stretches."""

    def __init__(self, stretches: Stretches, events: Events) -> None:
        self._stretches, self._events = stretches, events

    def of(self, feature: FeaturePlan, code: np.ndarray, r: np.ndarray) -> Numbers | Rows:
        """How many rows each query sees, or what the latest of them says."""
        if feature.kind == "count":
            return Numbers(aggregate.count_rows(self._stretches.pieces(code, r)))
        timeline = self._stretches.timeline
        place = np.arange(len(timeline)) if timeline.when is None else timeline.when
        found = Rows(rows_at(timeline.by_time, self._stretches.heaviest(place, code, r)))
        return aggregate.seconds_since(self._events.event, found, r) if feature.kind == "time_since_last" else found


class LateColumn(Column):
    """A column's values in the order of their stretches."""

    def __init__(self, column: Column, stretches: Stretches, events: Events) -> None:
        self._events = events
        self.name, self.timeline, self.array, self.present = column.name, column.timeline, column.array, column.present
        self.column, self.stretches = column, stretches

    @cached_property
    def rows(self) -> np.ndarray:
        rows: np.ndarray = self.column.rows[self.stretches.positions]
        return rows

    def of(self, feature: FeaturePlan, code: np.ndarray, r: np.ndarray) -> Numbers | Rows:
        """The feature's value for each query."""
        if feature.kind in ("min", "max"):
            return self._extreme(feature.kind, code, r)
        if feature.kind in ("first", *LATEST):
            found = self._first(code, r) if feature.kind == "first" else self._last(code, r)
            is_age = feature.kind == "time_since_last"
            return aggregate.seconds_since(self._events.event, found, r) if is_age else found
        pieces = self.stretches.pieces(code, r)
        if feature.kind == "quantile":
            return aggregate.quantile(self, pieces, 0.5 if feature.q is None else feature.q)
        if feature.kind == "count":
            return Numbers(aggregate.count_rows(pieces))
        return {"sum": aggregate.total, "mean": aggregate.mean, "std": aggregate.std}[feature.kind](self, pieces)

    def _extreme(self, kind: str, code: np.ndarray, r: np.ndarray) -> Rows:
        ranks, top = self.column.ranks, len(self.column.example)
        if kind == "max":
            found = self.stretches.heaviest(ranks, code, r)
        else:
            found = _lightest(self.stretches, ranks, top, code, r)
        return Rows(rows_at(self.column.rows[self.column.example], found))

    @cached_property
    def _places(self) -> np.ndarray:
        return self.column.places(np.arange(len(self.column.rows)))

    def _first(self, code: np.ndarray, r: np.ndarray) -> Rows:
        by_time = self.timeline.by_time
        return Rows(rows_at(by_time, _lightest(self.stretches, self._places, len(by_time), code, r)))

    def _last(self, code: np.ndarray, r: np.ndarray) -> Rows:
        return Rows(rows_at(self.timeline.by_time, self.stretches.heaviest(self._places, code, r)))


def _lightest(stretches: Stretches, weight: np.ndarray, top: int, code: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The least weight (below ``top``) of the rows each query sees, or -1."""
    found = stretches.heaviest(top - weight, code, r)
    return np.where(found < 0, -1, top - found)


def many_ranges(timeline: Timeline, span: Span, code: np.ndarray, r: np.ndarray) -> bool:
    """Whether queries such as these see their rows as many ranges, judged by some of them."""
    if len(code) == 0:
        return False
    some = np.unique(np.linspace(0, len(code) - 1, min(len(code), _SAMPLE)).astype(np.int64))
    try:
        visible = timeline.visible(code[some], r[some], span)
    except TooManyRangesError:
        return True
    return len(visible.holes) + len(visible.extra) > (_MANY - 1) * len(some)


def far_back(timeline: Timeline, span: Span, code: np.ndarray, r: np.ndarray) -> bool:
    """Whether queries such as these pass many replaced rows on their way to the latest one they see."""
    if len(code) == 0 or not timeline.corrected:
        return False
    some = np.unique(np.linspace(0, len(code) - 1, min(len(code), _SAMPLE)).astype(np.int64))
    return timeline.replaced_since(code[some], r[some], span) > _FAR * len(some)


def _part(code: np.ndarray, count: int, time: np.ndarray) -> Part:
    return Part(code, count, time, time, None)
