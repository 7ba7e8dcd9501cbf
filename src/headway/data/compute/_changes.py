"""Which keys' values may differ between two moments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headway.data.compute._codes import KeyCodes
from headway.data.compute._timeline import later
from headway.data.compute._types import from_numpy
from headway.define.records import BEGINNING, FOREVER, Events, ViewPlan


def changed_rows(plan: ViewPlan, events: Events, previous_r: int, r: int) -> np.ndarray:
    """Which versions may make the value at ``r`` another than at ``previous_r``.

    Those that come into view or leave it: by their event (a window's whole reach counts), by becoming known or being
    replaced, or by outliving the ttl.
    """
    begin, end = (np.array([min(max(moment, BEGINNING), FOREVER)]) for moment in sorted((previous_r, r)))
    if begin == end:
        return np.zeros(len(events), dtype=bool)
    changed = (events.known > begin) & (events.known <= end)
    changed |= (events.until > begin) & (events.until <= end)
    if plan.timeless:
        return changed
    event = events.event
    for low, high in _stretches(plan, begin, end):
        changed |= (event >= low) & (event <= high)
    if plan.ttl is not None and any(feature.is_latest for feature in plan.features):
        changed |= (event >= later(begin, -plan.ttl)) & (event < later(end, -plan.ttl))
    return changed


def _stretches(plan: ViewPlan, begin: np.ndarray, end: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The event times, both ends included, that grow old enough between two moments to be seen, or too old.

    What looks back from an offset sees nothing of the time between.
    """
    last = end if plan.effective else later(end, -1)
    farthest: dict[int, int] = {0: 0}
    for feature in plan.features:
        if (reach := feature.reach) is not None:
            offset = feature.offset
            farthest[offset] = max(farthest.get(offset, 0), reach)
    return [(later(begin, -reach), later(end, -offset) if offset else last) for offset, reach in farthest.items()]


def distinct_keys(plan: ViewPlan, events: Events, chosen: np.ndarray) -> pa.Table:
    """The keys of the chosen rows, each once, in the order of their values."""
    keys = KeyCodes(events.keys.take(from_numpy(np.flatnonzero(chosen))), plan.keys)
    return keys.distinct()[1]
