"""A view's values along a grid of moments: one row wherever they may have changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from headway.data.compute._engine import PreparedView
from headway.data.compute._timeline import later
from headway.data.compute._types import from_numpy
from headway.define.records import FOREVER, FeaturePlan, ViewPlan

AS_OF = "_as_of"
_CHUNK = 1 << 19  # rows at a time


def grid_rows(view: PreparedView, step: int, first: int, last: int) -> Iterator[pa.Table]:
    """Keys, ``_as_of`` and features at the moments ``step * k`` for ``first <= k <= last``.

    At the first moment every key has a row of which anything was known by then; afterwards a key has one at each moment
    at which its values may differ from those at the moment before. Keys come one after the other, in
    order of time. There is at least one table, also of no rows.
    """
    code, k = _changes(view, step, first, last)
    number, keys = view._keys.distinct()
    place = np.empty(len(number), np.int64)
    place[number] = np.arange(len(number))
    for start in range(0, max(len(code), 1), _CHUNK):
        some, r = code[start : start + _CHUNK], k[start : start + _CHUNK] * step
        found = view._answer(np.arange(len(some)), some, r)
        whole = keys.take(from_numpy(place[some]))
        whole = whole.append_column(AS_OF, from_numpy(r).view(pa.timestamp("us", "UTC")))
        for name in found.column_names:
            whole = whole.append_column(name, found.column(name))
        yield whole


def _changes(view: PreparedView, step: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The (code, k) at which a version comes into view or leaves it, each once, in order."""
    events, codes = view.events, view._keys.codes
    width = last - first + 1
    found: list[np.ndarray] = []

    def add(rows: np.ndarray | slice, k: np.ndarray) -> None:
        inside = (k >= first) & (k <= last)
        found.append(codes[rows][inside] * width + (k[inside] - first))

    seen = np.maximum(events.event, events.known)
    entered = np.maximum(-(-seen // step), first)  # what came before the grid is there at its first moment
    add(slice(None), entered)
    replaced = np.flatnonzero(events.until != FOREVER)
    add(replaced, -(-events.until[replaced] // step))
    for shift in _shifts(view.plan):
        moment = np.maximum(later(events.event, shift), events.known)
        k = np.where(moment == FOREVER, last + 1, moment // step)
        add(slice(None), k + 1)  # to be seen is strictly before, mostly …
        at_once = np.flatnonzero(moment == k * step)
        add(at_once, k[at_once])  # … but not for an effective source, nor at the end of what looks back
    found += [_ageing(view, f, step, first, last) for f in view.plan.features if f.kind == "time_since_last"]
    pairs = np.unique(np.concatenate(found))
    return pairs // width, pairs % width + first


def _ageing(view: PreparedView, feature: FeaturePlan, step: int, first: int, last: int) -> np.ndarray:
    """``code * width + k - first`` for all moments at which the time since a row that may count goes on."""
    events, width = view.events, last - first + 1
    begin = np.maximum(-(-np.maximum(later(events.event, feature.offset), events.known) // step), first)
    end = np.full(len(begin), last)
    if feature.window is not None:
        end = np.minimum(later(events.event, feature.offset + feature.window) // step, last)
    some = np.flatnonzero(begin <= end)
    low, high = (view._keys.codes[some] * width + (k[some] - first) for k in (begin, end))
    order = np.argsort(low)
    low, high = low[order], high[order]
    before = np.maximum.accumulate(np.concatenate([np.array([-1]), high]))[:-1]
    low = np.maximum(low, before + 1)  # what no earlier stretch has
    size = np.maximum(high - low + 1, 0)
    found: np.ndarray = np.arange(int(size.sum())) + np.repeat(low - (np.cumsum(size) - size), size)
    return found


def _shifts(plan: ViewPlan) -> list[int]:
    """How long after its event a row's age changes values: as it comes into view, as it leaves a window, at the ttl."""
    found = {0}
    for feature in plan.features:
        found |= {feature.offset, feature.offset + (feature.window or 0)}
    if plan.ttl is not None:
        found.add(plan.ttl)
    return sorted(found)
