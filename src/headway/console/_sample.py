"""Statistics of what the online store serves, from a bounded sample, worked out once per refresh."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headway.console.views.features import Statistics
from headway.console.views.features import statistics as of_values
from headway.data.online import STATES, OnlineReader
from headway.define.records import ViewPlan
from headway.errors import HeadwayError
from headway.orchestrate._parts import Parts

ROWS = 20_000  # events that entities are looked for in
ENTITIES = 2_000
_KEPT = 256


@dataclass(frozen=True, slots=True)
class Sample:
    """The statistics of a view's features over some entities, and how many values were in which state."""

    rows: int
    features: dict[str, Statistics]
    states: dict[str, int]


_cache: OrderedDict[tuple[str, int, int], Future[Sample]] = OrderedDict()
_guard = threading.Lock()
_workers = ThreadPoolExecutor(2, "headway-sample")


def statistics(parts: Parts, plan: ViewPlan, as_of: int, version: int, patience: float) -> Sample | None:
    """The statistics of a view as of a refresh; None if they take longer than ``patience`` seconds: they are worked
    out all the same, and there the next time."""
    key = (plan.fingerprint, as_of, version)
    with _guard:
        found = _cache.get(key)
        if found is None or (found.done() and found.exception() is not None):
            found = _cache[key] = _workers.submit(_sample, parts, plan)
            while len(_cache) > _KEPT:
                _cache.popitem(last=False)
        _cache.move_to_end(key)
    try:
        return found.result(patience)
    except NotYet:
        return None
    except HeadwayError:
        return Sample(0, {}, {})


def _sample(parts: Parts, plan: ViewPlan) -> Sample:
    """Entities of some of the view's events, as they are stored."""
    keys = entities(parts, plan)
    if not keys.num_rows:
        return Sample(0, {}, {})
    store = parts.open_online(True)
    try:
        columns = OnlineReader(store).read(plan, keys, parts.clock.now())
        states, counts = np.unique(columns.state, return_counts=True)
        found = {name: of_values(columns.array(name)) for name in columns.features}
        told: dict[str, int] = {STATES[int(state)]: int(count) for state, count in zip(states, counts, strict=True)}
        return Sample(keys.num_rows, found, told)
    finally:
        store.close()


def entities(parts: Parts, plan: ViewPlan, limit: int = ENTITIES) -> pa.Table:
    """Some entities that a view has events of."""
    names = ", ".join('"' + key.name.replace('"', '""') + '"' for key in plan.keys)
    sql = f"select distinct {names} from (select {names} from ({plan.sql}) limit {ROWS}) limit {limit}"
    return parts.engine.query(sql, {table: parts.lake.files(table) for table in plan.tables})
