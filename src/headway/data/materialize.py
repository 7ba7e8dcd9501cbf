"""From history to the online store: bring a view's rows up to a refresh, and say so once it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from headway.data.compute import changed_keys, snapshot
from headway.data.online import (
    OnlineStore,
    Watermark,
    pack,
    read_watermark,
    row_prefix,
    stamp,
    write_watermark,
)
from headway.define.records import Events, Snapshot, ViewPlan
from headway.errors import UsageError

Outcome = Literal["full", "changed", "current", "superseded"]


class MaterializeResult(msgspec.Struct, frozen=True):
    """What one materialization did.

    ``full`` wrote every entity, ``changed`` those that may have changed since the previous refresh; ``current`` had
    nothing to do. ``superseded``: the store holds a later refresh, which stays; ``as_of`` and ``version`` are that
    one's. ``skipped`` rows were not written because the store has newer ones; ``deleted`` belonged to entities that
    are gone.
    """

    view: str
    fingerprint: str
    outcome: Outcome
    as_of: int
    version: int
    entities: int = 0
    written: int = 0
    skipped: int = 0
    deleted: int = 0


def materialize(
    plan: ViewPlan,
    load_events: Callable[[], Events],
    store: OnlineStore,
    until: int,
    *,
    version: int | None = None,
    full: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> MaterializeResult:
    """Bring a view's rows in the store up to its last refresh before ``until``.

    Only entities that may have changed since the previous refresh are written, unless the data has another version
    than then (rows may have come, changed or gone anywhere) or ``full`` is set. The watermark is written last, so a
    run that was cut short claims nothing; running it again ends in the same state. Runs may overlap: the store's guard
    lets the later as-of win, and of equal ones the newer data. That needs versions that grow with the data.

    Parameters
    ----------
    load_events
        Reads the view's events; called only if there is something to do.
    until
        Microseconds since 1970 in UTC; the values are computed at ``plan.r(until)``.
    version
        The data's version, if it is known without loading it.
    progress
        Told how many rows of how many are written.

    Raises
    ------
    UsageError
        The view has windows but no ``refresh``: it is historical only.
    StoreError
        The store failed.
    """
    if not plan.online:
        raise UsageError(
            f"view {plan.name!r} has windows but no refresh, so it is historical only; "
            'give it one (such as refresh="1h") to materialize it'
        )
    r = plan.r(until)
    previous = read_watermark(store, plan)
    if version is not None and (settled := _settled(plan, previous, Watermark(r, version), full)):
        return settled
    events = load_events()
    mark = Watermark(r, events.version)
    if settled := _settled(plan, previous, mark, full):
        return settled
    if full or previous is None or previous.version != mark.version:
        return _write(plan, store, "full", mark, snapshot(plan, events, r), progress)
    changed = changed_keys(plan, events, previous.as_of, r)
    return _write(plan, store, "changed", mark, snapshot(plan, events, r, changed), progress)


def _settled(plan: ViewPlan, previous: Watermark | None, mark: Watermark, full: bool) -> MaterializeResult | None:
    """The result of a run that the watermark has already decided; None if there is something to do."""
    if previous is None or previous < mark or (previous == mark and full):
        return None
    return _result(plan, "current" if previous == mark else "superseded", previous)


def _write(
    plan: ViewPlan,
    store: OnlineStore,
    outcome: Outcome,
    mark: Watermark,
    rows: Snapshot,
    progress: Callable[[int, int], None] | None,
) -> MaterializeResult:
    total = rows.keys.num_rows
    sent = written = 0
    for chunk in pack(plan, rows):
        written += store.put_many(chunk)
        sent += len(chunk)
        if progress is not None:
            progress(sent, total)
    deleted = store.delete_older(row_prefix(plan), stamp(*mark)) if outcome == "full" else 0
    if not write_watermark(store, plan, mark):
        overtaken = read_watermark(store, plan)
        return _result(plan, "superseded", overtaken or mark, sent, written, deleted)
    return _result(plan, outcome, mark, sent, written, deleted)


def _result(
    plan: ViewPlan, outcome: Outcome, mark: Watermark, entities: int = 0, written: int = 0, deleted: int = 0
) -> MaterializeResult:
    return MaterializeResult(
        view=plan.name,
        fingerprint=plan.fingerprint,
        outcome=outcome,
        as_of=mark.as_of,
        version=mark.version,
        entities=entities,
        written=written,
        skipped=entities - written,
        deleted=deleted,
    )
