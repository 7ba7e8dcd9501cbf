"""Whether the online store holds what history says it should.

What is served is computed again the way training columns are: from the lake tables at the versions that the refresh
recorded, by ``compute.at``, and never from events that this process has read before. So whatever ``materialize``, the
store or a kept index did wrong shows as a difference.

Keys are looked at all of them, in two passes that hold eight bytes per entity. Values are compared for every entity
of a view with at most ``ENTITIES`` of them, else for a part of about that size that follows from the keys alone: the
same in every run. Events and rows are read a part of the entities at a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from headway.data.binding import Part, entities, part_events
from headway.data.compute import at
from headway.data.online import OnlineStore, StoredRows, StoredView, Watermark, digests
from headway.define.records import Events, ViewPlan
from headway.errors import DataError, UsageError
from headway.metadata import StageResult
from headway.monitor.verify import EXAMPLES, Tally, VerifyResult, key_of, late_share
from headway.orchestrate._parts import Parts, source_version
from headway.orchestrate.statistics import keep_statistics

ENTITIES = 1_000_000  # values are compared for so many entities of a view, if nobody asks for another number
STAGE = "verify"

Examples = tuple[dict[str, Any], ...]

_ROWS_PER_PART = 2_000_000  # events that are computed with at a time
_ENTITIES_PER_PART = 200_000
_ATTEMPTS = 3  # a refresh that ends meanwhile begins the verification again
_STAMPS = 8  # unfinished refreshes that are looked into
_GHOSTS = 10_000  # that are looked into, and told apart from rows of an unfinished refresh


def verify_plans(
    parts: Parts,
    plans: Sequence[ViewPlan],
    *,
    late_limit: float = 0.01,
    since: int | None = None,
    sample: int | None = None,
) -> list[VerifyResult]:
    """Compute again what is served of bound views, at the as-of served and from the versions of the data recorded then;
    those of an old version need no declaration any more. Lateness is that since an instant, if one is given.

    ``sample``: how many entities' values are compared; ``ENTITIES`` by default, 0 for all there are. The outcome of a
    view's last verification is kept, see ``last_verified``.
    """
    if sample is not None and sample < 0:
        raise UsageError(f"a sample is a number of entities, or 0 for all of them; got {sample}")
    store = parts.open_online(True)
    done = []
    try:
        for number, plan in enumerate(plans):
            parts.progress(f"verify {plan.name}", number, len(plans))
            result = _verify(parts, plan, store, ENTITIES if sample is None else sample)
            now = parts.clock.now()
            late = late_share(plan, _refreshes(parts, plan), now, since)
            result = msgspec.structs.replace(result, late=late, late_limit=late_limit, at=now)
            if result.as_of is not None:
                parts.metadata.stages.put(STAGE, plan.fingerprint, "last", result, now)
                keep_statistics(parts, plan, store)
            done.append(result)
    finally:
        store.close()
    parts.progress("verify", len(plans), len(plans))
    return done


def last_verified(parts: Parts, fingerprint: str) -> VerifyResult | None:
    """What the last verification of a view found."""
    found = parts.metadata.stages.get(STAGE, fingerprint)
    return None if found is None else msgspec.convert(found.output, VerifyResult)


def all_verified(parts: Parts) -> dict[str, VerifyResult]:
    """What the last verification of every view found, by fingerprint."""
    found = parts.metadata.stages.latest(STAGE)
    return {target: msgspec.convert(each.output, VerifyResult) for (_, target), each in found.items()}


def _refreshes(parts: Parts, plan: ViewPlan) -> list[tuple[int, int]]:
    return [(done.output["as_of"], done.at) for done in parts.metadata.stages.history("materialize", plan.fingerprint)]


def _verify(parts: Parts, plan: ViewPlan, store: OnlineStore, sample: int) -> VerifyResult:
    view = StoredView(store, plan)
    for attempt in range(_ATTEMPTS):
        mark = view.mark()
        if mark is None:
            return VerifyResult(view=plan.name, fingerprint=plan.fingerprint, as_of=None)
        result = _Verification(parts, view, mark).result(sample)
        if view.mark() == mark:
            break
        if attempt + 1 == _ATTEMPTS and not result.wrong:
            break
    else:
        raise DataError(
            f"view {plan.name!r} was refreshed {_ATTEMPTS} times while it was verified; verify it between two refreshes"
            " or with a smaller sample"
        )
    return result


class _Verification:
    """One look at a view as of one watermark."""

    def __init__(self, parts: Parts, view: StoredView, mark: Watermark) -> None:
        self._parts, self._view, self._mark, self._plan = parts, view, mark, view.plan
        self._history = parts.metadata.stages.history("materialize", self._plan.fingerprint)
        self._tally = Tally(self._plan)
        self._damaged = self._ahead = self._unfinished = 0

    def result(self, sample: int) -> VerifyResult:
        """What is wrong with the view's rows."""
        tables = self._pinned(self._mark.version)
        stored = np.sort(np.concatenate([np.zeros(0, np.uint64), *(digests(names) for names in self._view.names())]))
        known, lost, lost_examples = self._lost(tables, stored)
        for part in _parts_of(self._rows(tables), len(known), sample):
            self._compare(part, tables)
        ghosts, ghost_examples = self._ghosts(np.unique(stored[~_are_in(stored, np.sort(known))]))
        return VerifyResult(
            view=self._plan.name,
            fingerprint=self._plan.fingerprint,
            as_of=self._mark.as_of,
            entities=self._tally.entities,
            values=(self._tally.entities + self._tally.ghosts) * len(self._plan.features),
            differences=dict(self._tally.differences),
            examples=tuple(self._tally.examples),
            known=len(known),
            lost=lost,
            lost_examples=lost_examples,
            ghosts=ghosts,
            ghost_examples=ghost_examples,
            damaged=self._damaged,
            ahead=self._ahead,
            unfinished=self._unfinished,
        )

    def _lost(self, tables: dict[str, int], stored: np.ndarray) -> tuple[np.ndarray, int, Examples]:
        """The digests of all entities of the data, and who of them ought to be stored and is not."""
        known, count = [np.zeros(0, np.uint64)], 0
        examples: list[dict[str, Any]] = []
        for keys, seen in self._entities(tables, self._mark.as_of):
            digest = digests(self._view.named(keys))
            known.append(digest)
            missing = np.flatnonzero(seen & ~_are_in(digest, stored))
            count += len(missing)
            examples += [key_of(self._plan, keys, row) for row in missing[: EXAMPLES - len(examples)].tolist()]
        return np.concatenate(known), count, tuple(examples)

    def _ghosts(self, strange: np.ndarray) -> tuple[int, Examples]:
        """Who is stored and unknown to the data: neither as of the last refresh, nor to an unfinished one."""
        if not len(strange):
            return 0, ()
        names = list(dict.fromkeys(n for some in self._view.names() for n in _among(some, strange)))[:_GHOSTS]
        rows = self._view.read_names(names)
        honest = np.zeros(len(rows), bool)
        ahead = self._is_newer(rows)
        for version in np.unique(rows.version[ahead])[:_STAMPS].tolist():
            tables = self._recorded(version)
            if tables is None:
                continue
            of = ahead & (rows.version == version)
            digest = digests(names)
            everybody = self._entities(tables, self._mark.as_of)
            found = [np.isin(digest, digests(self._view.named(keys))) for keys, _ in everybody]
            honest |= of & np.any(found, axis=0)
        ghosts = np.flatnonzero(~honest)
        there = ghosts[rows.there[ghosts]]
        self._compare_ghosts([names[at] for at in there.tolist()], rows, there)
        count = len(strange) - int(honest.sum())
        return count, tuple(self._view.text_of(names[at]) for at in ghosts[:EXAMPLES].tolist())

    def _compare_ghosts(self, names: list[bytes], rows: StoredRows, there: np.ndarray) -> None:
        """What is served of ghosts against what is served of entities that are not stored. They are no entities."""
        if not names:
            return
        served = rows.values(there, self._mark, self._mark.as_of)
        blank = self._view.read_names([None] * len(names))
        right = blank.values(np.arange(len(names)), self._mark, self._mark.as_of)
        self._tally.add_ghosts([self._view.text_of(name) for name in names], served, right)

    def _compare(self, part: Part, tables: dict[str, int]) -> None:
        """Compare the values of a part of the entities."""
        events = self._events(part, tables)
        keys = _distinct(self._plan, events)
        rows = self._view.read(keys)
        self._damaged += int(rows.damaged.sum())
        newer = self._is_newer(rows)
        self._compare_at(events, keys, rows, np.flatnonzero(~newer), self._mark.as_of)
        if newer.any():
            self._compare_newer(part, keys, rows, newer)

    def _compare_newer(self, part: Part, keys: pa.Table, rows: StoredRows, newer: np.ndarray) -> None:
        """Rows of a refresh that has not been completed speak for themselves: right is what they claim to be."""
        horizon = max(self._mark.as_of, self._plan.r(self._parts.clock.now()))
        stamps = Counter(zip(rows.as_of[newer].tolist(), rows.version[newer].tolist(), strict=True))
        for number, ((as_of, version), count) in enumerate(stamps.most_common()):
            tables = self._recorded(version)
            if as_of > horizon or tables is None or number >= _STAMPS:
                self._ahead += count
                continue
            chosen = np.flatnonzero(newer & (rows.as_of == as_of) & (rows.version == version))
            self._unfinished += count
            self._compare_at(self._events(part, tables), keys, rows, chosen, as_of)

    def _compare_at(self, events: Events, keys: pa.Table, rows: StoredRows, chosen: np.ndarray, r: int) -> None:
        if not len(chosen):
            return
        asked = keys.take(pa.array(chosen))
        right = at(self._plan, events, asked, np.full(len(chosen), r + self._plan.lag, np.int64))
        self._tally.add(asked, rows.values(chosen, self._mark, r), right)

    def _is_newer(self, rows: StoredRows) -> np.ndarray:
        """Which rows do not speak for the last completed refresh, but for one that came after."""
        as_of, version = self._mark
        return np.asarray(rows.there & ((rows.version > version) | (rows.as_of > as_of)))

    def _events(self, part: Part, tables: dict[str, int]) -> Events:
        return part_events(self._plan, self._parts.lake, self._parts.engine, tables, part)

    def _entities(self, tables: dict[str, int], r: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
        return entities(self._plan, self._parts.lake, self._parts.engine, tables, r)

    def _rows(self, tables: dict[str, int]) -> int:
        """About how many events the view has: as many as the table that drives its source has rows."""
        return self._parts.lake.rows(next(iter(tables)))

    def _pinned(self, version: int) -> dict[str, int]:
        found = self._recorded(version)
        if found is None:
            raise DataError(
                f"nobody recorded the data that view {self._plan.name!r} was materialized from, so it cannot be"
                f" computed again; `headway features materialize {self._plan.name} --full` makes it anew"
            )
        return found

    def _recorded(self, version: int) -> dict[str, int] | None:
        """The versions of the lake tables that a version of the view's data stands for; None if nobody knows."""
        for done in reversed(self._history):
            if done.output["version"] == version:
                return _tables(self._plan, done)
        current = self._parts.table_versions(self._plan)
        if source_version(current) == version:
            return current
        if len(current) == 1:  # a refresh that was killed before it could record what it did
            ((table, newest),) = current.items()
            return {table: version - 1} if 0 < version <= newest else None
        return None


def _tables(plan: ViewPlan, done: StageResult) -> dict[str, int]:
    return {table: done.output["tables"][table] for table in plan.tables}


def _parts_of(rows: int, known: int, sample: int) -> list[Part]:
    """The parts of the entities to compare, each small enough to be held in memory."""
    every = max(1, math.ceil(known / sample)) if sample else 1
    parts = max(math.ceil(rows / every / _ROWS_PER_PART), math.ceil(known / every / _ENTITIES_PER_PART), 1)
    return [Part(every, number, parts) for number in range(parts)]


def _among(names: Sequence[bytes], wanted: np.ndarray) -> list[bytes]:
    return [names[at] for at in np.flatnonzero(np.isin(digests(names), wanted)).tolist()]


def _are_in(digest: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Which digests are among others that are in order."""
    if not len(ordered):
        return np.zeros(len(digest), bool)
    return np.asarray(ordered.take(np.searchsorted(ordered, digest), mode="clip") == digest)


def _distinct(plan: ViewPlan, events: Events) -> pa.Table:
    """The keys of events, each once."""
    names = [key.name for key in plan.keys]
    return events.keys.group_by(names).aggregate([]).select(names).combine_chunks()
