"""Features of a view whose events come in parts, one part after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from headway.data.binding import EventParts
from headway.data.compute._changes import changed_rows, distinct_keys
from headway.data.compute._engine import PreparedView
from headway.data.compute._types import from_numpy
from headway.data.engine import side_by_side
from headway.define.records import Snapshot, ViewPlan
from headway.errors import DataError

S = TypeVar("S")
T = TypeVar("T")


class PartedView:
    """``PreparedView`` for events of any size: gives the same values, and holds a part of the events at a time.

    A view whose events are one part keeps its index for the next question.
    """

    def __init__(self, plan: ViewPlan, events: EventParts) -> None:
        self.plan, self.events = plan, events
        self._only: PreparedView | None = None

    @property
    def version(self) -> int:
        return self.events.version

    def at(self, keys: pa.Table, t: np.ndarray, t_valid: np.ndarray | None = None) -> pa.Table:
        """See ``headway.data.compute.at``."""
        if len(self.events) == 1:
            return self._view(0).at(keys, t, t_valid)
        if len(t) != keys.num_rows:
            raise DataError(f"{keys.num_rows} keys came with {len(t)} times; each row needs one of both")
        part = self.events.numbers(keys)
        order = np.argsort(part, kind="stable")
        starts = np.searchsorted(part[order], np.arange(len(self.events) + 1))

        def answer(number: int) -> pa.Table:
            rows = order[starts[number] : starts[number + 1]]
            asked = None if t_valid is None else t_valid[rows]
            return self._view(number).at(keys.take(from_numpy(rows)), t[rows], asked)

        wanted = np.flatnonzero(starts[1:] > starts[:-1]).tolist() or [0]
        found = pa.concat_tables(self.each(answer, wanted))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        index = from_numpy(back)
        return pa.table([column.combine_chunks().take(index) for column in found.columns], names=found.column_names)

    def snapshots(self, r: int, since: int | None = None) -> Iterator[Snapshot]:
        """The features of every key at exactly ``r``, in one snapshot or several; with ``since``, of those keys whose
        values may differ from what they were then."""

        def answer(number: int) -> Snapshot:
            view = self._view(number)
            keys = None
            if since is not None:
                keys = distinct_keys(self.plan, view.events, changed_rows(self.plan, view.events, since, r))
            return view.snapshot(r, keys)

        return self.each(answer, range(len(self.events)))

    def views(self) -> Iterator[PreparedView]:
        """The parts, prepared one at a time."""
        return (self._view(number) for number in range(len(self.events)))

    def part(self, number: int) -> PreparedView:
        """One part, prepared."""
        return self._view(number)

    def close(self) -> None:
        """Forget the events."""
        self._only = None
        self.events.close()

    def _view(self, number: int) -> PreparedView:
        if len(self.events) > 1:
            return PreparedView(self.plan, self.events.part(number))
        if self._only is None:
            self._only = PreparedView(self.plan, self.events.part(0))
        return self._only

    def each(self, answer: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
        """The answers in order, some of them worked out side by side."""
        return side_by_side(answer, items, self.events.workspace.threads)
