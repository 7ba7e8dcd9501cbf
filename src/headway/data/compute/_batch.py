"""The values of a view's features for some queries (key, r) at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from headway.data.compute import _aggregate as aggregate
from headway.data.compute._aggregate import Lists, Numbers, Rows
from headway.data.compute._column import Column
from headway.data.compute._ranges import Pieces, Visible
from headway.data.compute._timeline import Span, Timeline
from headway.define.records import Events, FeaturePlan

Result = Numbers | Rows | Lists
_RANGES: Mapping[str, Callable[[Column, Pieces], Result]] = {
    "sum": aggregate.total,
    "mean": aggregate.mean,
    "std": aggregate.std,
    "min": aggregate.least,
    "max": aggregate.greatest,
    "first": aggregate.first,
}
_LATEST = ("row", "last", "lag", "time_since_last")  # looked up from the end, without the ranges of visible rows
SWEPT = ("mode", "nunique")  # computed for all queries at once, not batch by batch


class Batch:
    """Some queries and what their features share: the visible rows per span, and those with a value per column."""

    def __init__(
        self,
        events: Events,
        timeline: Timeline,
        columns: Callable[[FeaturePlan], Column],
        code: np.ndarray,
        r: np.ndarray,
    ) -> None:
        self.plan, self.events, self.timeline, self.columns = timeline.plan, events, timeline, columns
        self.code, self.r = code, r
        self._latest: dict[Span, Rows] = {}
        self._spans: dict[Span, Visible] = {}
        self._seen: dict[tuple[Span, str | None], Pieces] = {}

    def value(self, feature: FeaturePlan) -> Result:
        span = Span.of(feature, self.plan)
        column = None if feature.column is None else self.columns(feature)
        if feature.kind == "count":
            return Numbers(aggregate.count_rows(self.seen(span, column)))
        if feature.kind == "time_since_last":
            found = self._recent(self.latest(span), span) if column is None else self._last(column, span)
            return aggregate.seconds_since(self.events.event, found, self.r)
        if column is None:
            column = self.columns(feature)  # which says what is missing
        if feature.kind == "row":
            return self._row(column, span)
        if feature.kind in ("last", "lag"):
            return self._last(column, span)
        pieces = self.seen(span, column)
        if feature.kind == "quantile":
            return aggregate.quantile(column, pieces, 0.5 if feature.q is None else feature.q)
        if feature.kind == "last_n":
            return aggregate.latest(column, pieces, feature.n or 1)
        return _RANGES[feature.kind](column, pieces)

    def seen(self, span: Span, column: Column | None) -> Pieces:
        """The visible rows in a span; with a column, those where it has a value, in its own positions."""
        key = (span, None if column is None else column.name)
        if key not in self._seen:
            visible = self._visible(span)
            if column is not None:
                visible = visible.through(column.counts)
            self._seen[key] = visible.pieces()
        return self._seen[key]

    def latest(self, span: Span) -> Rows:
        """The row of the events that is the latest visible one up to the span's end, -1 where there is none."""
        end = span.unbounded
        if end not in self._latest:
            position = self.timeline.latest(self.code, self.r, end)
            self._latest[end] = Rows(aggregate.rows_at(self.timeline.order, position))
        return self._latest[end]

    def _widest(self, span: Span) -> Span:
        """The longest span that a feature needs, of those that end as this one does."""
        spans = [Span.of(f, self.plan) for f in self.plan.features if f.kind not in (*_LATEST, *SWEPT, "expr")]
        windows = [s.window for s in spans if s.unbounded == span.unbounded]
        return span._replace(window=None if None in windows else max(w for w in windows if w is not None))

    def _visible(self, span: Span) -> Visible:
        if span not in self._spans:
            widest = self._widest(span)
            if span == widest:
                self._spans[span] = self.timeline.visible(self.code, self.r, span)
            else:
                self._spans[span] = self.timeline.since(self._visible(widest), self.code, self.r, span)
        return self._spans[span]

    def _row(self, column: Column, span: Span) -> Rows:
        found = self.latest(span)
        if column.present is not None and len(column.present):
            found = Rows(np.where(column.present.take(found.rows, mode="clip"), found.rows, -1))
        return self._recent(found, span)

    def _last(self, column: Column, span: Span) -> Rows:
        """The latest row if it has a value; only for the others all visible ones are searched for."""
        found = self.latest(span)
        if column.present is not None and len(column.present):
            rows = found.rows.copy()
            searched = np.flatnonzero((rows >= 0) & ~column.present.take(rows, mode="clip"))
            if len(searched):
                visible = self.timeline.visible(self.code[searched], self.r[searched], span)
                rows[searched] = aggregate.last(column, visible.through(column.counts).pieces()).rows
            found = Rows(rows)
        return self._recent(found, span)

    def _recent(self, found: Rows, span: Span) -> Rows:
        """Rows before the window do not count; an older one cannot be within it if the latest is not."""
        if span.window is None or self.plan.timeless or len(self.events) == 0:
            return found
        event = self.events.event.take(found.rows, mode="clip")
        return Rows(np.where(event >= span.begin(self.r), found.rows, -1))
