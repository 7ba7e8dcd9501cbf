"""Statistics of what the online store serves: those that were kept, else worked out beside the page."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

from headway.define.records import ViewPlan
from headway.errors import HeadwayError
from headway.orchestrate._parts import Parts
from headway.orchestrate.statistics import ViewStatistics, kept_statistics, view_statistics

ENTITIES = 2_000
SCANNED = 200_000
_KEPT = 256

_cache: OrderedDict[tuple[str, int, int], Future[ViewStatistics | None]] = OrderedDict()
_guard = threading.Lock()
_workers = ThreadPoolExecutor(2, "headway-sample")


def statistics(
    parts: Parts, plan: ViewPlan, as_of: int, version: int, patience: float
) -> tuple[ViewStatistics | None, bool]:
    """The statistics of a view, and whether better ones are being worked out.

    Those of the refresh that is served are given if they were kept, or take no longer than ``patience`` seconds; else
    those of an older one, if there are any, while the others are worked out for the next time. Nothing is kept in the
    records because somebody looks at a page.
    """
    kept = kept_statistics(parts, plan.fingerprint)
    if kept is not None and (kept.as_of, kept.version) == (as_of, version):
        return kept, False
    try:
        return _working(parts, plan, (plan.fingerprint, as_of, version)).result(patience), False
    except NotYet:
        return kept, True
    except HeadwayError:
        return kept, False


def _working(parts: Parts, plan: ViewPlan, key: tuple[str, int, int]) -> Future[ViewStatistics | None]:
    with _guard:
        found = _cache.get(key)
        if found is None or (found.done() and found.exception() is not None):
            found = _cache[key] = _workers.submit(_work, parts, plan)
            while len(_cache) > _KEPT:
                _cache.popitem(last=False)
        _cache.move_to_end(key)
        return found


def _work(parts: Parts, plan: ViewPlan) -> ViewStatistics | None:
    store = parts.open_online(True)
    try:
        return view_statistics(parts, plan, store, entities=ENTITIES, scanned=SCANNED)
    finally:
        store.close()
