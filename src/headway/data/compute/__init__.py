"""Point-in-time feature computation: what was known of an entity at a moment.

``at`` answers for pairs of key and time, as training needs them; ``snapshot`` for many keys at one moment, as the
online store needs them; both give the same values. ``changed_keys`` says whom the next snapshot must rewrite. A
``PreparedView`` keeps the index of a view's events for several calls; a ``PartedView`` is one for events that do not
fit into memory, and ``SpineColumns`` answers for a spine that does not. ``grid_rows`` gives a view's history.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headway.data.compute._changes import changed_rows, distinct_keys
from headway.data.compute._engine import PreparedView
from headway.data.compute._grid import grid_rows
from headway.data.compute._parts import PartedView
from headway.data.compute._stream import SpineColumns
from headway.define.records import Events, Snapshot, ViewPlan

__all__ = ["PartedView", "PreparedView", "SpineColumns", "at", "changed_keys", "grid_rows", "snapshot"]


def at(plan: ViewPlan, events: Events, keys: pa.Table, t: np.ndarray, t_valid: np.ndarray | None = None) -> pa.Table:
    """The view's features as they were known for each row of ``keys`` at its time ``t``.

    ``t`` holds int64 microseconds since 1970 in UTC; ``t_valid`` is False where the time is null. The answer has one
    row per row asked for, in the same order, and one column per feature. A null key or time gives nulls; a key nobody
    has seen has empty windows. Raises DataError for columns that are missing or cannot be aggregated, and for integer
    sums beyond 64 bits.

    >>> from headway.define.records import FOREVER, FeaturePlan, Field
    >>> plan = ViewPlan(name="traffic", fingerprint="0" * 32, source="trips", tables=(), sql="",
    ...     keys=(Field("zone", "int64"),),
    ...     features=(FeaturePlan("trips", "count", "int64"), FeaturePlan("fare", "mean", "double", "fare", window=10)))
    >>> hour = np.array([1, 5, 9])
    >>> events = Events(keys=pa.table({"zone": [7, 7, 7]}), event=hour, known=hour, until=np.full(3, FOREVER),
    ...     rank=np.arange(3), values={"fare": pa.array([3.0, None, 8.0])})
    >>> at(plan, events, pa.table({"zone": [7, 7, 8]}), np.array([9, 15, 15])).to_pydict()
    {'trips': [2, 3, 0], 'fare': [3.0, 8.0, None]}
    """
    return PreparedView(plan, events).at(keys, t, t_valid)


def snapshot(plan: ViewPlan, events: Events, r: int, keys: pa.Table | None = None) -> Snapshot:
    """The view's features at exactly ``r`` (see ``ViewPlan.r``) for ``keys``, or for every key among the events.

    Without ``keys``, they come ordered by their values. The values are those that ``at`` gives at the same ``r``.
    """
    return PreparedView(plan, events).snapshot(r, keys)


def changed_keys(plan: ViewPlan, events: Events, previous_r: int, r: int) -> pa.Table:
    """The keys whose values at ``r`` may differ from those at ``previous_r``, each once, ordered by their values.

    These are the keys with an event in ``[previous_r - longest window, r)``, with a version that became known or was
    replaced in ``(previous_r, r]``, or with one that outlived the view's ttl in between. For every other key the two
    snapshots are the same. Both moments speak of the same ``events``: rows that arrived since the previous snapshot
    but were known before it are for the caller to find.
    """
    return distinct_keys(plan, events, changed_rows(plan, events, previous_r, r))
