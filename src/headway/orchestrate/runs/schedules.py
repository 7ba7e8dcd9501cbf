"""Schedules: what is due, and putting it into the queue exactly once however many schedulers there are."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from headway.clock import Clock, DataClock, WallClock, monotonic
from headway.define import Schedule
from headway.define._collect import Declarations
from headway.define.run_records import RunRecord, ScheduleState, Slot, Trigger
from headway.errors import HeadwayError, NotFoundError
from headway.metadata import Metadata
from headway.orchestrate._parts import Parts
from headway.orchestrate.runs._slots import between, jitter, moments, newest

EVERY = 1.0
"""Seconds between two looks at the schedules."""

GRACE = 60_000_000
"""Microseconds after which a moment that nobody took counts as missed."""

MOST_AT_ONCE = 1000
"""Runs of one schedule that one look puts into the queue; the next look goes on from there."""

MOST_SKIPPED = 100
"""Skipped moments of one schedule that are written down; of earlier ones nothing is said."""

Draft = Callable[[str], RunRecord]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A declared schedule: its name (``model:trip_duration``) and the target it runs, as ``headway run`` takes it."""

    name: str
    target: str
    schedule: Schedule


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule as people see it: when it is next due, what became of its last moment, and who paused it."""

    name: str
    cron: str
    timezone: str
    missed: str
    overlap: str
    jitter: str | None
    next: tuple[int, ...]  # moments, without jitter; none while it is paused
    last: Slot | None
    run: RunRecord | None  # of the last moment
    state: ScheduleState | None  # None: no scheduler has seen it yet


def scheduled(declarations: Declarations) -> dict[str, Scheduled]:
    """Everything that runs by itself, by name."""
    targets = [
        *((f"model:{name}", name, model.schedule) for name, model in declarations.models.items()),
        *((f"batch:{name}", name, batch.schedule) for name, batch in declarations.batches.items()),
        *((f"pipeline:{name}", name, pipeline.schedule) for name, pipeline in declarations.pipelines.items()),
        *((f"monitor:{name}", f"monitor:{name}", monitor.schedule) for name, monitor in declarations.monitors.items()),
    ]
    return {name: Scheduled(name, target, schedule) for name, target, schedule in targets if schedule is not None}


def next_runs(
    declared: Mapping[str, Scheduled], metadata: Metadata, now: int | None, count: int = 3
) -> list[ScheduleView]:
    """Every schedule with its ``count`` next moments after ``now``, the soonest first.

    ``now`` is the environment's clock, or None while that cannot be told.
    """
    states, last = metadata.schedules.all(), metadata.schedules.latest()
    runs = metadata.runs.some([slot.run for slot in last.values() if slot.run is not None])
    upcoming: dict[tuple[str, str], tuple[int, ...]] = {}  # by cron line and zone, which many have in common
    found = []
    for each in declared.values():
        state, slot, line = states.get(each.name), last.get(each.name), (each.schedule.cron, each.schedule.timezone)
        if line not in upcoming:
            upcoming[line] = () if now is None else tuple(itertools.islice(moments(each.schedule, now), count))
        run = None if slot is None or slot.run is None else runs.get(slot.run)
        found.append(_view(each, () if state and state.paused else upcoming[line], slot, run, state))
    return sorted(found, key=lambda view: (not view.next, view.next[:1], view.name))


def pause(
    declared: Mapping[str, Scheduled], metadata: Metadata, name: str, by: str, why: str, wall: int
) -> ScheduleState:
    """Stop a schedule until it is resumed, and note it in the audit. Runs that are going, go on."""
    known = _named(declared, metadata, name)
    state = metadata.schedules.pause(known, by, why, wall)
    metadata.audit.append(by, "pause schedule", known, why, at=wall)
    return state


def resume(
    declared: Mapping[str, Scheduled], metadata: Metadata, name: str, by: str, why: str, wall: int, now: int
) -> ScheduleState:
    """Let a schedule go on from ``now`` (the environment's clock), and note it in the audit.

    What was due while it was paused is not owed. A schedule that is not paused stays as it is.
    """
    known = _named(declared, metadata, name)
    state = metadata.schedules.get(known)
    if state is None or not state.paused:
        return state or metadata.schedules.ensure(known, now)
    metadata.audit.append(by, "resume schedule", known, why, at=wall)
    return metadata.schedules.resume(known, by, wall, now)


class Drafts(Protocol):
    """The part of ``RunStage`` that a scheduler needs."""

    def draft(self, targets: str, *, trigger: Trigger, by: str) -> RunRecord:
        """The run of a target, not stored."""


class Scheduler:
    """Claims the moments of schedules as they come due. Any number of schedulers may work on one environment.

    Parameters
    ----------
    declared
        The schedules, see `scheduled`.
    draft
        Makes the run of a target, without storing it (``RunStage.draft``).
    clock
        The environment's clock, which decides what is due; read anew at every `tick`.
    wall
        The machine's clock, which stamps what is written down.
    """

    def __init__(
        self,
        metadata: Metadata,
        declared: Mapping[str, Scheduled],
        draft: Draft,
        clock: Clock,
        *,
        wall: Clock | None = None,
        owner: str | None = None,
    ) -> None:
        self._metadata, self._declared, self._draft = metadata, declared, draft
        self._clock, self._wall = clock, wall or WallClock()
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._seen: int | None = None  # what the clock said at the last tick,
        self._ticked = 0.0  # and when that was
        self._due: dict[str, tuple[int, int]] = {}  # schedule → since, and when to look at it next

    def tick(self) -> list[RunRecord]:
        """Put what is due into the queue; returns the new runs, in order. To be called about once a second.

        A moment is taken, and its run queued, in one transaction, and only after all earlier ones: wherever a scheduler
        is stopped, another one goes on.

        Raises
        ------
        HeadwayError
            The first thing that went wrong with a schedule; the others were dealt with all the same.
        """
        now = self._now()
        states = self._metadata.schedules.all()
        watched_from = self._watched_from(now)
        queued: list[RunRecord] = []
        wrong: list[HeadwayError] = []
        for each in self._declared.values():
            try:
                state = states.get(each.name) or self._metadata.schedules.ensure(each.name, now)
                since, next_look = self._due.get(each.name, (None, 0))
                if not state.paused and (since != state.since or now >= next_look):
                    queued += self._claim(each, state, now, watched_from)
            except HeadwayError as error:
                wrong.append(error)
        self._seen, self._ticked = now, monotonic()
        if wrong:
            raise wrong[0]
        return queued

    def _watched_from(self, now: int) -> int:
        """Moments after this one are not missed: a scheduler was there, or it is not long ago.

        A clock that follows the data leaps over hours between two ticks; what it leaps over was watched all the same.
        """
        continuous = self._seen is not None and (monotonic() - self._ticked) * 1e6 <= GRACE
        return min(self._seen, now - GRACE) if continuous and self._seen is not None else now - GRACE

    def _now(self) -> int:
        if isinstance(self._clock, DataClock):
            self._clock.reset()
        return self._clock.now()

    def _claim(self, each: Scheduled, state: ScheduleState, now: int, watched_from: int) -> list[RunRecord]:
        last = self._metadata.schedules.last(each.name)
        after = max(state.since - 1, last.slot if last is not None else state.since - 1)
        due, more = self._due_moments(each, after, now)
        queued = []
        for slot, why in _decided(each.schedule, due, lambda slot: self._starts(each, slot) > watched_from):
            run = self._take(each, slot, why, together=len(due) > 1)
            if run:
                queued.append(run)
        if not more:
            upcoming = next(moments(each.schedule, max(after, due[-1] if due else after)), None)
            if upcoming is not None:
                self._due[each.name] = (state.since, self._starts(each, upcoming))
        return queued

    def _due_moments(self, each: Scheduled, after: int, now: int) -> tuple[list[int], bool]:
        """The moments to deal with now, in order, and whether there are more of them.

        One that waits for its jitter holds up those after it, so that the last one taken is a mark: everything up to it
        is dealt with.
        """
        schedule = each.schedule
        jittered = moments(schedule, max(after, now - schedule.jitter_microseconds))
        waiting = next((slot for slot in jittered if slot > now or self._starts(each, slot) > now), now + 1)
        if schedule.missed == "all":
            due = between(schedule, after, waiting - 1, MOST_AT_ONCE)
            return due, len(due) == MOST_AT_ONCE
        return newest(schedule, after, waiting - 1, MOST_SKIPPED + 1), False

    def _starts(self, each: Scheduled, slot: int) -> int:
        place = f"{self._metadata.project}/{self._metadata.env}/{each.name}"
        return slot + jitter(each.schedule, place, slot)

    def _take(self, each: Scheduled, slot: int, why: str, together: bool) -> RunRecord | Literal[False] | None:
        wall = self._wall.now()
        run = None
        if not why:
            # The moment before has been dealt with, be it by somebody else, so its run is seen here.
            going = self._metadata.runs.list(status=("queued", "running"), schedule=each.name, limit=1)
            why, behind = _overlap(each.schedule, going, together)
            if not why:
                run = msgspec.structs.replace(
                    self._draft(each.target),
                    trigger="schedule",
                    created_at=wall,
                    schedule=each.name,
                    slot=slot,
                    behind=behind,
                )
        return self._metadata.schedules.take(Slot(each.name, slot, wall, self._owner, None, why), run)


def open_scheduler(parts: Parts, runs: Drafts) -> Scheduler:
    """A scheduler of everything that a project declares."""

    def draft(target: str) -> RunRecord:
        return runs.draft(target, trigger="schedule", by="schedule")

    return Scheduler(parts.metadata, scheduled(parts.declarations), draft, parts.clock)


def keep_going(
    scheduler: Scheduler,
    dispatch: Callable[[], int],
    stop: threading.Event,
    *,
    every: float = EVERY,
    queued: Callable[[RunRecord], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Look at the schedules and start what is queued until ``stop`` is set; ``queued`` is told of every new run.

    What goes wrong is told to ``tell``, once for as long as it stays the same, and tried again at the next look.
    """

    def look() -> None:
        for run in scheduler.tick():
            queued(run)

    told: set[str] = set()
    while not stop.is_set():
        said = set()
        for work in (look, dispatch):
            try:
                work()
            except HeadwayError as error:
                said.add(str(error))
        for message in said - told:
            tell(message)
        told = said
        stop.wait(every)


def _decided(schedule: Schedule, due: Sequence[int], in_time: Callable[[int], bool]) -> Iterator[tuple[int, str]]:
    """Each moment with the reason not to run it, which is empty where it runs."""
    for slot in due[:-1]:
        yield slot, "" if schedule.missed == "all" else "missed; the newest moment stands for it"
    for slot in due[-1:]:
        yield slot, "missed" if schedule.missed == "skip" and not in_time(slot) else ""


def _overlap(schedule: Schedule, going: Sequence[RunRecord], together: bool) -> tuple[str, int | None]:
    """Why a run must not start while these are going (empty: it may), and the run it has to wait for."""
    if schedule.overlap == "allow" or not going:
        return "", None
    # Missed moments that are to run all would stand in each other's way, so they queue.
    if schedule.overlap == "queue" or (together and schedule.missed == "all"):
        return "", going[0].id
    return f"run {going[0].id} was still {going[0].status}", None


def _view(
    each: Scheduled, upcoming: tuple[int, ...], last: Slot | None, run: RunRecord | None, state: ScheduleState | None
) -> ScheduleView:
    return ScheduleView(
        name=each.name,
        cron=each.schedule.cron,
        timezone=each.schedule.timezone,
        missed=each.schedule.missed,
        overlap=each.schedule.overlap,
        jitter=each.schedule.jitter,
        next=upcoming,
        last=last,
        run=run,
        state=state,
    )


def _named(declared: Mapping[str, Scheduled], metadata: Metadata, name: str) -> str:
    """The full name of a schedule, of which the kind may be left out where that is clear."""
    known = {**dict.fromkeys(declared), **dict.fromkeys(metadata.schedules.all())}
    if name in known:
        return name
    alike = [full for full in known if full.partition(":")[2] == name]
    if len(alike) == 1:
        return alike[0]
    raise NotFoundError.among("schedule", name, alike or known)
