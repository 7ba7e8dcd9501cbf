"""What the values that are online look like, from a bounded sample of the entities that are stored.

They are worked out by ``verify``, which sees the view's rows anyway, and when somebody asks (``features show --stats``,
the view's page); one result is kept per view, with the refresh it speaks of. ``materialize`` works nothing out.
"""

from __future__ import annotations

import msgspec
import numpy as np

from headway.data.online import STATES, OnlineReader, OnlineStore, StoredView, digests
from headway.define.records import ViewPlan
from headway.monitor.describe import Statistics, describe
from headway.orchestrate._parts import Parts

ENTITIES = 10_000  # whose values are looked at: those whose keys have the least digests
SCANNED = 1_000_000  # keys that they are chosen from
STAGE = "statistics"


class ViewStatistics(msgspec.Struct, frozen=True):
    """The statistics of a view's features as of a refresh, over ``entities`` of those that are stored; ``states``
    counts values by their state at ``at``. ``stored`` is how many are, or at least are: no more than ``SCANNED`` keys
    are looked at, or little more."""

    fingerprint: str
    as_of: int
    version: int
    at: int
    entities: int
    stored: int
    features: dict[str, Statistics]
    states: dict[str, int]


def kept_statistics(parts: Parts, fingerprint: str) -> ViewStatistics | None:
    """What was worked out last for a view; it may be of an older refresh than the one that is served."""
    found = parts.metadata.stages.get(STAGE, fingerprint)
    return None if found is None else msgspec.convert(found.output, ViewStatistics)


def keep_statistics(parts: Parts, plan: ViewPlan, store: OnlineStore) -> ViewStatistics | None:
    """Work out the statistics of a view and keep them; None if the view was never materialized."""
    found = view_statistics(parts, plan, store)
    if found is not None:
        parts.metadata.stages.put(STAGE, plan.fingerprint, "last", found, found.at)
    return found


def view_statistics(
    parts: Parts, plan: ViewPlan, store: OnlineStore, *, entities: int = ENTITIES, scanned: int = SCANNED
) -> ViewStatistics | None:
    """Work out the statistics of a view, without keeping them."""
    view = StoredView(store, plan)
    mark, now = view.mark(), parts.clock.now()
    if mark is None:
        return None
    names, stored = _sample(view, entities, scanned)
    # A key that the store had to shorten is not found by its name; it is left out, as few as there are of them.
    there = [name for name, row in zip(names, view.read_names(names).there.tolist(), strict=True) if row]
    reader = OnlineReader(store)
    columns = reader.lookup(reader.bind(plan), there, now)
    states, counts = np.unique(columns.state, return_counts=True)
    return ViewStatistics(
        fingerprint=plan.fingerprint,
        as_of=mark.as_of,
        version=mark.version,
        at=now,
        entities=len(there),
        stored=stored,
        features={name: describe(columns.array(name)) for name in columns.features} if there else {},
        states={STATES[int(state)]: int(count) for state, count in zip(states, counts, strict=True)},
    )


def _sample(view: StoredView, most: int, scanned: int) -> tuple[list[bytes], int]:
    """The keys with the least digests, and how many keys there are: chance decides, and always in the same way."""
    names: list[bytes] = []
    least, count = np.zeros(0, np.uint64), 0
    for some in view.names():
        count += len(some)
        names, least = [*names, *some], np.concatenate([least, digests(some)])
        if len(names) > most:
            order = np.argpartition(least, most)[:most]
            names, least = [names[at] for at in order.tolist()], least[order]
        if count >= scanned:
            break
    return list(dict.fromkeys(names)), count
