"""What each query sees of a column, value by value: the most frequent one, and how many there are.

How often a key's value is seen changes only when one of its rows comes into sight or goes out of it, so all there is to
know are those changes, in order of time. Nothing here depends on which rows hide which: late and corrected rows cost
no more than others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headway.data.compute._aggregate import Numbers, Rows, rows_at
from headway.data.compute._column import Column
from headway.data.compute._order import sort_pairs
from headway.data.compute._timeline import Part, Span, later
from headway.define.records import BEGINNING, FOREVER, Events, ViewPlan

_ROWS = 1 << 20  # rows whose changes are sorted at a time


class Changes:
    """Every (key, value)'s changes over ``span``, in order: when, and how often the value is seen from then on.

    They are those of the keys of some ``positions`` of ``column``.
    """

    def __init__(self, column: Column, span: Span, events: Events, positions: np.ndarray) -> None:
        plan, rows = column.timeline.plan, column.rows[positions]
        begin, end = in_sight(plan, span, events.known[rows], events.until[rows], events.event[rows])
        seen = begin < end
        positions, begin, end = positions[seen], begin[seen], end[seen]
        lasting = end == FOREVER
        newest = max(int(begin.max(initial=BEGINNING)), int(end[~lasting].max(initial=BEGINNING)))
        self.never = min(newest + 1, FOREVER)  # instead of FOREVER: times then take few bits to sort
        times = np.concatenate([begin, np.where(lasting, self.never, end)])
        code = column.codes[positions]
        pair = code * len(column.example) + column.ranks[positions]
        self.place = column.places(positions)
        self.order = sort_pairs(np.concatenate([pair, pair]), times)
        self.code = np.tile(code, 2).take(self.order)
        self.time = times.take(self.order)
        self.step = np.where(self.order < len(positions), 1, -1)
        self.count = np.cumsum(self.step)


def all_changes(column: Column, span: Span, events: Events) -> Iterator[Changes]:
    """The changes of all keys, in their order and some at a time: sorting takes several times what is kept of it."""
    sizes = np.cumsum(np.bincount(column.codes, minlength=column.timeline.count))
    if not len(sizes) or sizes[-1] <= _ROWS:
        yield Changes(column, span, events, np.arange(len(column.codes)))
        return
    group = (sizes - 1) // _ROWS
    of_row = group[column.codes]
    for each in np.unique(group):
        yield Changes(column, span, events, np.flatnonzero(of_row == each))


class Distinct:
    """How many values each query sees."""

    def __init__(self, column: Column, span: Span, events: Events) -> None:
        self._keys = column.timeline.count
        found = [self._of(changes) for changes in all_changes(column, span, events)]
        code, time, step = (np.concatenate(parts) for parts in zip(*found, strict=True))
        self._part = Part(code, self._keys, time, time, None).slim()
        self._seen = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(step)])

    def _of(self, changes: Changes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Key by key, when a value comes into sight or goes out of it for good."""
        before = changes.count - changes.step
        which = np.flatnonzero(((before == 0) | (changes.count == 0)) & (changes.time < changes.never))
        which = which[sort_pairs(changes.code[which], changes.time[which])]
        return changes.code[which], changes.time[which], changes.step[which]

    def of(self, code: np.ndarray, r: np.ndarray) -> Numbers:
        code = np.where(code < 0, self._keys, code)
        now = self._part.before(code, r, inclusive=True)
        return Numbers(self._seen[now] - self._seen[self._part.start(code)])


class Modes:
    """For each query the latest visible row with the value that is seen most often.

    Between two changes a value has one weight: its count, and among equal counts the place of its latest visible row.
    A query takes the heaviest of the values whose stretch of time it falls into.
    """

    def __init__(self, column: Column, span: Span, events: Events) -> None:
        self._keys, self._by_time = column.timeline.count, column.timeline.by_time
        found = [self._of(changes) for changes in all_changes(column, span, events)]
        self._code, self._begin, self._end, self._weight = (np.concatenate(parts) for parts in zip(*found, strict=True))

    def _of(self, changes: Changes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Every value's stretches of time in which it is seen: key, begin, end and weight."""
        size = len(changes.time)
        at = np.empty(size, dtype=np.int64)
        at[changes.order] = np.arange(size)
        latest = heaviest(size, at[: size // 2], at[size // 2 :], changes.place)
        end = np.append(changes.time, 0)[1:]  # the last change of a value leaves none of its rows in sight
        some = np.flatnonzero((changes.count > 0) & (changes.time < end))
        end = np.where(end[some] == changes.never, FOREVER, end[some])
        weight = changes.count[some] * len(self._by_time) + latest[some]
        return changes.code[some], changes.time[some], end, weight

    def of(self, code: np.ndarray, r: np.ndarray) -> Rows:
        slot = np.where(code < 0, self._keys, code)
        order = sort_pairs(slot, r)
        queries = Part(slot[order], self._keys + 1, r[order], r, None)
        lo, hi = queries.start(self._code), queries.end(self._code)
        asked = np.flatnonzero(lo < hi)
        key, end = self._code[asked], self._end[asked]
        lo = queries.before(key, self._begin[asked])
        hi = np.where(end == FOREVER, hi[asked], queries.before(key, end))
        weight = heaviest(len(code), lo, hi, self._weight[asked])
        found = np.empty(len(code), dtype=np.int64)
        found[order] = np.where(weight < 0, -1, weight % max(len(self._by_time), 1))
        return Rows(rows_at(self._by_time, found))


def heaviest(size: int, lo: np.ndarray, hi: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For each of ``size`` positions the greatest weight of the ranges ``[lo, hi)`` it lies in; -1 where it is in none.

    A range is noted where its first and its last power of two begin, and handed down from one power to the next.
    """
    level_of = np.frexp((hi - lo).astype(np.float64))[1] - 1
    level_of[hi <= lo] = -1
    found = np.full(size, -1, dtype=np.int64)
    for level in reversed(range(int(level_of.max(initial=-1)) + 1)):
        span = 1 << level
        wider, found = found, found.copy()
        np.maximum(found[span:], wider[:-span], out=found[span:])
        here = np.flatnonzero(level_of == level)
        np.maximum.at(found, lo[here], weight[here])
        np.maximum.at(found, hi[here] - span, weight[here])
    return found


def in_sight(
    plan: ViewPlan, span: Span, known: np.ndarray, until: np.ndarray, event: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From when and until when (FOREVER: no end) each row is seen."""
    if plan.timeless:
        return known, until
    wait = span.offset + (not span.closed)
    begin = np.where(event > FOREVER - wait, FOREVER, np.maximum(known, later(event, wait)))
    if span.window is None:
        return begin, until
    return begin, np.minimum(until, later(event, span.window + span.offset + 1))
