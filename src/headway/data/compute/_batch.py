"""The values of a view's features for some queries (key, r) at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from headway.data.compute import _aggregate as aggregate
from headway.data.compute._aggregate import Numbers, Rows
from headway.data.compute._column import Column
from headway.data.compute._ranges import Pieces, Visible
from headway.data.compute._timeline import Timeline, later
from headway.define.records import Events, FeaturePlan

Result = Numbers | Rows
_RANGES: Mapping[str, Callable[[Column, Pieces], Result]] = {
    "sum": aggregate.total,
    "mean": aggregate.mean,
    "std": aggregate.std,
    "min": aggregate.least,
    "max": aggregate.greatest,
    "first": aggregate.first,
}


class Batch:
    """Some queries and what their features share: the visible rows per window, and those with a value per column."""

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
        self._windows: dict[int | None, Visible] = {}
        self._seen: dict[tuple[int | None, str | None], tuple[Visible, Pieces]] = {}

    def value(self, feature: FeaturePlan) -> Result:
        if feature.kind == "count":
            return Numbers(aggregate.count_rows(self.seen(feature.window, None)[1]))
        column = self.columns(feature)
        if feature.kind == "row":
            return self._row(column, feature.window)
        if feature.kind == "last":
            return self._last(column, feature.window)
        seen, pieces = self.seen(feature.window, column)
        if feature.kind == "nunique":
            return aggregate.distinct(column, seen)
        if feature.kind == "quantile":
            return aggregate.quantile(column, pieces, 0.5 if feature.q is None else feature.q)
        return _RANGES[feature.kind](column, pieces)

    def seen(self, window: int | None, column: Column | None) -> tuple[Visible, Pieces]:
        """The visible rows in a window; with a column, those where it has a value, in its own positions."""
        key = (window, None if column is None else column.name)
        if key not in self._seen:
            visible = self._visible(window)
            if column is not None:
                visible = visible.through(column.counts)
            self._seen[key] = (visible, visible.pieces())
        return self._seen[key]

    @cached_property
    def latest(self) -> np.ndarray:
        """The position of the latest visible row, -1 where there is none."""
        return self.timeline.latest(self.code, self.r)

    @cached_property
    def latest_rows(self) -> Rows:
        """The same as rows of the events."""
        return Rows(aggregate.rows_at(self.timeline.order, self.latest))

    @cached_property
    def _widest(self) -> int | None:
        windows = [f.window for f in self.plan.features if f.kind not in ("row", "last")]
        return None if None in windows else max((w for w in windows if w is not None), default=None)

    def _visible(self, window: int | None) -> Visible:
        if window not in self._windows:
            if window == self._widest:
                self._windows[window] = self.timeline.visible(self.code, self.r, window)
            else:
                widest = self._visible(self._widest)
                self._windows[window] = self.timeline.since(widest, self.code, self.r, window)
        return self._windows[window]

    def _row(self, column: Column, window: int | None) -> Rows:
        found = self.latest_rows
        if column.present is not None and len(column.present):
            found = Rows(np.where(column.present.take(found.rows, mode="clip"), found.rows, -1))
        return self._recent(found, window)

    def _last(self, column: Column, window: int | None) -> Rows:
        """The latest row if it has a value; only for the others all visible ones are searched for."""
        found = self.latest_rows
        if column.present is not None and len(column.present):
            rows = found.rows.copy()
            searched = np.flatnonzero((rows >= 0) & ~column.present.take(rows, mode="clip"))
            if len(searched):
                visible = self.timeline.visible(self.code[searched], self.r[searched], window)
                rows[searched] = aggregate.last(column, visible.through(column.counts).pieces()).rows
            found = Rows(rows)
        return self._recent(found, window)

    def _recent(self, found: Rows, window: int | None) -> Rows:
        """Rows before the window do not count; an older one cannot be within it if the latest is not."""
        if window is None or self.plan.timeless or len(self.events) == 0:
            return found
        event = self.events.event.take(found.rows, mode="clip")
        return Rows(np.where(event >= later(self.r, -window), found.rows, -1))
