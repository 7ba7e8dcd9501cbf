"""A view's events in order of time, key by key, and which of them a query sees.

Rows that nobody has corrected (``until`` is FOREVER) come first, the live part; then those that a later version
replaced, the late part. Each is sorted by (key, event, known, rank), and positions count through both. Were they not
kept apart, the replaced rows would break up every range of visible ones.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from headway.data.compute._order import pack, search, sort_versions, starts_of
from headway.data.compute._ranges import Ragged, Visible
from headway.data.compute._tree import Bounds
from headway.define.records import BEGINNING, FOREVER, Events, FeaturePlan, ViewPlan

Positions = np.ndarray


def later(time: np.ndarray, by: int) -> np.ndarray:
    """``time + by``, held at BEGINNING and FOREVER instead of running over."""
    result: np.ndarray
    if by >= 0:
        result = np.minimum(time, FOREVER - min(by, FOREVER)) + min(by, FOREVER)
    else:
        result = np.maximum(time, BEGINNING - max(by, BEGINNING)) + max(by, BEGINNING)
    return result


class Span(NamedTuple):
    """Which event times a feature looks at: those in ``[r - offset - window, r - offset)``."""

    window: int | None = None
    offset: int = 0
    closed: bool = False  # ``r - offset`` itself is in it

    @classmethod
    def of(cls, feature: FeaturePlan, plan: ViewPlan) -> Span:
        return cls(feature.window, feature.offset, plan.effective or feature.kind == "lag")

    @property
    def unbounded(self) -> Span:
        """The same end, and all of the past before it."""
        return self._replace(window=None)

    def begin(self, r: np.ndarray) -> np.ndarray:
        """The first event time in it; for one with a window."""
        return later(r, -(self.window or 0) - self.offset)


class Part:
    """Rows sorted by (key, event, known, rank); the positions of ``Part`` are its own, from 0.

    ``until`` is None where every row lasts forever.
    """

    def __init__(
        self, code: np.ndarray, count: int, event: np.ndarray, known: np.ndarray, until: np.ndarray | None
    ) -> None:
        self.code, self.event, self.known, self.until = code, event, known, until
        self._starts = np.append(starts_of(code, count), len(code))  # the last group stands for unknown keys
        # queries may lie one beyond either end, hence the margins
        self._low = max(int(event.min(initial=FOREVER)) - 1, BEGINNING)
        self._high = min(int(event.max(initial=self._low)) + 1, FOREVER)
        self._packed = pack(code, count + 1, event, self._low, self._high)
        self._packs = self._packed is not None and self._low != BEGINNING and self._high != FOREVER

    def slim(self) -> Part:
        """The same for ``start``, ``end`` and ``before`` alone, in less memory."""
        self.code = self.known = self.event[:0].copy()
        if self._packs:
            self.event = self.known
        return self

    def start(self, code: np.ndarray) -> Positions:
        starts: np.ndarray = self._starts[code]
        return starts

    def end(self, code: np.ndarray) -> Positions:
        ends: np.ndarray = self._starts[code + 1]
        return ends

    def before(self, code: np.ndarray, time: np.ndarray, inclusive: bool = False) -> Positions:
        """Where the key's rows with ``event < time`` (``<=`` if inclusive) end."""
        if self._packed is None or not self._packs:
            return search(self.event, self.start(code), self.end(code), time, right=inclusive)
        span = self._high - self._low + 1
        wanted = code * span + (np.clip(time, self._low, self._high) - self._low)
        found: np.ndarray = np.searchsorted(self._packed, wanted, side="right" if inclusive else "left")
        return found

    @cached_property
    def bounds(self) -> Bounds:
        return Bounds(self.known, self.until)

    @cached_property
    def settled(self) -> np.ndarray:
        """When the key's rows up to and including each one were all known."""
        reach, first = self.known, self._starts[self.code]
        step, position = 1, np.arange(len(self.code))
        while step < len(reach):
            grown = np.maximum(reach[step:], np.where(position[step:] - step >= first[step:], reach[:-step], BEGINNING))
            if (grown == reach[step:]).all():
                break  # nothing within this stride, so nothing within its multiples
            reach = np.concatenate([reach[:step], grown])
            step *= 2
        return reach


class Timeline:
    """All of a view's events, indexed for questions ``(code, r)``; ``code`` may be -1 for a key nobody has seen."""

    def __init__(self, plan: ViewPlan, events: Events, codes: np.ndarray, count: int) -> None:
        self.plan, self.count = plan, count
        self.by_time, code, event = sort_versions(codes, events.event, events.known, events.rank)
        known = events.known.take(self.by_time)
        self.order, self.code, self.split = self.by_time, code, len(code)
        self.when: np.ndarray | None = None  # a position's place in ``by_time``; None if that is the position
        until = None
        if (events.until != FOREVER).any():
            until = events.until.take(self.by_time)
            lasting = until == FOREVER
            self.split = int(np.count_nonzero(lasting))
            self.when = np.concatenate([np.flatnonzero(lasting), np.flatnonzero(~lasting)])
            self.order, self.code = self.by_time.take(self.when), code.take(self.when)
            event, known, until = event.take(self.when), known.take(self.when), until.take(self.when)[self.split :]
        live, late = slice(0, self.split), slice(self.split, None)
        self.live = Part(self.code[live], count, event[live], known[live], None)
        self.late = Part(self.code[late], count, event[late], known[late], until)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def corrected(self) -> bool:
        """Whether any row was ever replaced."""
        return self.when is not None

    def ends(self, part: Part, code: np.ndarray, r: np.ndarray, span: Span) -> Positions:
        """Where the rows old enough for the span end."""
        if self.plan.timeless:
            return part.end(code)
        return part.before(code, later(r, -span.offset) if span.offset else r, inclusive=span.closed)

    def begins(self, part: Part, code: np.ndarray, r: np.ndarray, span: Span) -> Positions:
        """Where the rows of the span begin."""
        if span.window is None or self.plan.timeless:
            return part.start(code)
        return part.before(code, span.begin(r))

    def latest(self, code: np.ndarray, r: np.ndarray, span: Span) -> Positions:
        """The latest visible row of each query up to the span's end, by (event, known, rank); -1 where there is none.

        It may lie before the span's window.
        """
        code = self._slots(code)
        found = self._latest_live(code, r, span)
        if not self.corrected:
            return found
        late = self.late.bounds.last_visible(*self._later_ones(found, code, r, span), r)
        return np.where(late >= 0, late + self.split, found)

    def replaced_since(self, code: np.ndarray, r: np.ndarray, span: Span) -> int:
        """How many replaced rows all queries together have to look at in ``latest``."""
        code = self._slots(code)
        lo, end = self._later_ones(self._latest_live(code, r, span), code, r, span)
        return int(np.maximum(end - lo, 0).sum())

    def _later_ones(self, found: Positions, code: np.ndarray, r: np.ndarray, span: Span) -> tuple[Positions, Positions]:
        """The replaced rows that are later than the lasting one that was found: no others matter."""
        assert self.when is not None
        place = np.where(found >= 0, self.when[np.maximum(found, 0)], -1)
        lo = np.maximum(np.searchsorted(self.when[self.split :], place), self.late.start(code))
        return lo, self.ends(self.late, code, r, span)

    def _latest_live(self, code: np.ndarray, r: np.ndarray, span: Span) -> Positions:
        part = self.live
        start, end = part.start(code), self.ends(part, code, r, span)
        found = np.where(end > start, end - 1, -1)
        if self.split == 0:
            return found
        unsure = np.flatnonzero((part.known.take(found, mode="clip") > r) & (found >= 0))
        if len(unsure):
            code, r, start, end = code[unsure], r[unsure], start[unsure], end[unsure]
            settled = search(part.settled, start, end, r, right=True)
            seen = part.bounds.last_visible(settled, end, r)
            found[unsure] = np.where(seen >= 0, seen, np.where(settled > start, settled - 1, -1))
        return found

    def visible(self, code: np.ndarray, r: np.ndarray, span: Span) -> Visible:
        """The visible rows of each query in a span."""
        code = self._slots(code)
        part = self.live
        lo, end = self.begins(part, code, r, span), self.ends(part, code, r, span)
        holes = extra = Ragged.none()
        if self.split:
            unsure = np.flatnonzero((part.settled.take(end - 1, mode="clip") > r) & (end > lo))
            if len(unsure):
                begin = search(part.settled, lo[unsure], end[unsure], r[unsure], right=True)
                found = part.bounds.hidden(begin, end[unsure], r[unsure])
                holes = Ragged(unsure[found.query], found.lo, found.hi)
        if self.corrected:
            late_lo, late_end = self.begins(self.late, code, r, span), self.ends(self.late, code, r, span)
            found = self.late.bounds.visible(late_lo, late_end, r)
            extra = Ragged(found.query, found.lo + self.split, found.hi + self.split)
        return Visible(lo, end, holes, extra)

    def since(self, visible: Visible, code: np.ndarray, r: np.ndarray, span: Span) -> Visible:
        """The visible rows of a span that begins no earlier than the one they were found for, and ends as it does."""
        code = self._slots(code)
        late = self.begins(self.late, code, r, span) + self.split
        return visible.since(self.begins(self.live, code, r, span), late)

    def _slots(self, code: np.ndarray) -> np.ndarray:
        return np.where(code < 0, self.count, code)
