"""From history to the online store: bring a view's rows up to a refresh, and say so once it is done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from typing import Literal

import msgspec
import pyarrow as pa

from headway.data.compute import PartedView, changed_keys, snapshot
from headway.data.engine import Piles
from headway.data.online import (
    Counting,
    OnlineStore,
    Watermark,
    encode_keys,
    fingerprint_prefix,
    pack,
    read_watermark,
    row_prefix,
    stamp,
    write_watermark,
)
from headway.define.records import Events, Snapshot, ViewPlan
from headway.errors import UsageError

Rows = list[tuple[bytes, bytes]]
Progress = Callable[[int, int], None]
_ORDERED = 1 << 18  # rows that are put in order at a time
_CHUNK = 1 << 14  # rows that are written at a time
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
    load_events: Callable[[], Events | PartedView],
    store: OnlineStore,
    until: int,
    *,
    version: int | None = None,
    full: bool = False,
    since: int | None = None,
    progress: Progress | None = None,
) -> MaterializeResult:
    """Bring a view's rows in the store up to its last refresh before ``until``.

    Only entities that may have changed since the previous refresh are written, unless the data has another version
    than then (rows may have come, changed or gone anywhere) or ``full`` is set. The watermark is written last, so a
    run that was cut short claims nothing; running it again ends in the same state. Runs may overlap: the store's guard
    lets the later as-of win, and of equal ones the newer data. That needs versions that grow with the data.

    Parameters
    ----------
    load_events
        Reads the view's events, whole or in parts; called only if there is something to do.
    until
        Microseconds since 1970 in UTC; the values are computed at ``plan.r(until)``.
    version
        The data's version, if it is known without loading it.
    since
        Whoever gives a moment says that rows known before it are as they were at the previous refresh, although the
        data may have another version: entities are written that may have changed since then, or since that refresh
        if it was earlier. Without a previous refresh every entity is.
    progress
        Told how many rows of how many (0: not known yet) are written.

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
    again = full or since is not None
    if version is not None and (settled := _settled(plan, previous, Watermark(r, version), again)):
        return settled
    events = load_events()
    mark = Watermark(r, events.version)
    if settled := _settled(plan, previous, mark, again):
        return settled
    begin = None if full or previous is None else _begin(previous, mark, since)
    rows = _in_parts(plan, events, r, begin) if isinstance(events, PartedView) else _whole(plan, events, r, begin)
    return _write(plan, store, "full" if begin is None else "changed", mark, rows, progress)


def _settled(plan: ViewPlan, previous: Watermark | None, mark: Watermark, again: bool) -> MaterializeResult | None:
    """The result of a run that the watermark has already decided; None if there is something to do."""
    if previous is None or previous < mark or (previous == mark and again):
        return None
    return _result(plan, "current" if previous == mark else "superseded", previous)


def _begin(previous: Watermark, mark: Watermark, since: int | None) -> int | None:
    """The moment since which values may have changed; None if any may have."""
    if since is not None:
        return min(since, previous.as_of)
    return previous.as_of if previous.version == mark.version else None


def _whole(plan: ViewPlan, events: Events, r: int, begin: int | None) -> Iterator[tuple[Rows, int]]:
    """The rows to write in chunks, each with how many there are in all (0: not known)."""
    keys = None if begin is None else changed_keys(plan, events, begin, r)
    return _counted(plan, snapshot(plan, events, r, keys))


def _counted(plan: ViewPlan, found: Snapshot) -> Iterator[tuple[Rows, int]]:
    return ((chunk, found.keys.num_rows) for chunk in pack(plan, found))


def _in_parts(plan: ViewPlan, view: PartedView, r: int, begin: int | None) -> Iterator[tuple[Rows, int]]:
    """The same for events in parts: put in the order of the store's keys, because a store that keeps its rows in order
    would otherwise touch all of its pages for every part."""
    parts = len(view.events)
    snapshots = view.snapshots(r, begin)
    first = next(snapshots)
    if parts == 1:
        yield from _counted(plan, first)
        return
    sample = sorted(key for key in encode_keys(plan, first.keys) if key is not None)
    ranges = max(1, len(sample) * parts // _ORDERED)
    bounds = [sample[len(sample) * n // ranges] for n in range(1, ranges)]
    piles = view.events.workspace.piles()
    try:
        for found in chain([first], snapshots):
            for chunk in pack(plan, found):
                _put_on_piles(piles, chunk, bounds)
        total = sum(piles.rows(number) for number in piles.numbers())
        for number in piles.numbers():
            rows = _from_pile(piles, number)
            for start in range(0, len(rows), _CHUNK):
                yield rows[start : start + _CHUNK], total
    finally:
        piles.close()


def _put_on_piles(piles: Piles, chunk: Rows, bounds: list[bytes]) -> None:
    chunk.sort()
    keys, values = (list(column) for column in zip(*chunk, strict=True)) if chunk else ([], [])
    cuts = [0, *(bisect_left(keys, bound) for bound in bounds), len(keys)]
    batch = pa.record_batch([pa.array(keys, pa.binary()), pa.array(values, pa.binary())], names=["key", "value"])
    for number, (begin, end) in enumerate(pairwise(cuts)):
        piles.add(number, batch.slice(begin, end - begin))


def _from_pile(piles: Piles, number: int) -> Rows:
    rows: Rows = []
    for batch in piles.read(number):
        rows.extend(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
    piles.drop(number)
    rows.sort()
    return rows


def _write(
    plan: ViewPlan,
    store: OnlineStore,
    outcome: Outcome,
    mark: Watermark,
    rows: Iterator[tuple[Rows, int]],
    progress: Progress | None,
) -> MaterializeResult:
    sent = 0

    def told() -> Iterator[tuple[bytes, bytes]]:
        """The rows one by one, so that a store may take them while it is still writing those before."""
        nonlocal sent
        for chunk, total in rows:
            yield from chunk
            sent += len(chunk)
            if progress is not None:
                progress(sent, total)

    written = store.put_many(told())
    deleted = 0
    if outcome == "full" and not (written == sent and _holds_only(store, plan, written)):
        deleted = store.delete_older(row_prefix(plan), stamp(*mark))
    if not write_watermark(store, plan, mark):
        overtaken = read_watermark(store, plan)
        return _result(plan, "superseded", overtaken or mark, sent, written, deleted)
    return _result(plan, outcome, mark, sent, written, deleted)


def _holds_only(store: OnlineStore, plan: ViewPlan, rows: int) -> bool:
    """Whether the store can tell without reading them that there are no rows of the view beside those just written."""
    if not isinstance(store, Counting):
        return False
    marks = read_watermark(store, plan) is not None
    return store.count(fingerprint_prefix(plan)) - marks <= rows


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
