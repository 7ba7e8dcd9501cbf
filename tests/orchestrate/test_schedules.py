"""What becomes due, with which policy; pausing; many schedulers, and schedulers that are killed."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.orchestrate import scheduling

from headway.clock import DataClock, from_iso
from headway.define import Schedule
from headway.define.run_records import RunRecord
from headway.errors import DataError, NotFoundError, UsageError
from headway.metadata import Metadata, open_metadata
from headway.orchestrate.runs import schedules
from headway.orchestrate.runs.schedules import Scheduled, Scheduler, next_runs, pause, resume

MINUTE = 60_000_000
HOUR = 60 * MINUTE
START = from_iso("2025-06-02T10:00:00Z")
NAME = "model:m"


@dataclass
class Hands:
    """A clock that is set by hand."""

    at: int = START

    def now(self) -> int:
        return self.at


@dataclass
class World:
    """One schedule, its database and a clock; ``look`` is a tick of its scheduler, ``slots`` what became of it."""

    metadata: Metadata
    clock: Hands = field(default_factory=Hands)
    declared: dict[str, Scheduled] = field(default_factory=dict)
    scheduler: Scheduler = None  # type: ignore[assignment]

    def declare(self, cron: str = "0 * * * *", **policies: Any) -> World:
        self.declared = {NAME: Scheduled(NAME, "m", Schedule(cron, **policies))}
        return self.restart()

    def restart(self) -> World:
        """A new process, as it were."""
        self.scheduler = Scheduler(self.metadata, self.declared, draft, self.clock, wall=Hands(7), owner="test")
        return self

    def look(self, after: int = 0) -> list[int]:
        """Let time pass, and look: in minutes after the start, the moments that were put into the queue."""
        self.clock.at += after
        return [_minutes(run.slot) for run in self.scheduler.tick()]

    def end(self) -> None:
        """All runs come to their end."""
        for run in self.metadata.runs.list(status=["queued", "running"], limit=1000):
            self.metadata.runs.finish(run.id, "done", 9)

    def slots(self) -> dict[int, str]:
        """Every moment that was dealt with, in minutes after the start, and why it did not run."""
        found = reversed(self.metadata.schedules.slots(NAME, 1000))
        return {_minutes(slot.slot): slot.why if slot.run is None else "" for slot in found}


def _minutes(moment: int | None) -> int:
    return ((moment or 0) - START) // MINUTE


def draft(target: str) -> RunRecord:
    return RunRecord(targets=(target,), by="schedule")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_metadata(f"sqlite:///{tmp_path}/metadata.db", "trips", "local") as metadata:
        yield World(metadata).declare()


def test_a_moment_runs_once_when_it_has_come(world: World) -> None:
    assert world.look() == [0]  # a schedule begins when it is first seen
    assert world.look(59 * MINUTE) == []
    world.end()
    assert world.look(MINUTE) == [60]
    assert world.look() == world.restart().look() == []

    [newest, first] = world.metadata.runs.list()
    assert (first.slot, newest.slot) == (START, START + HOUR)
    assert (newest.targets, newest.trigger, newest.status, newest.schedule) == (("m",), "schedule", "queued", NAME)
    assert (newest.created_at, newest.by) == (7, "schedule")
    [slot, _] = world.metadata.schedules.slots(NAME)
    assert (slot.run, slot.taken_by, slot.taken_at) == (newest.id, "test", 7)


@pytest.mark.parametrize(
    ("policy", "ran", "why"),
    [
        ("once", [180], "missed; the newest moment stands for it"),
        ("all", [60, 120, 180], ""),
        ("skip", [], "missed"),
    ],
)
def test_what_was_missed_is_dealt_with_by_policy(world: World, policy: str, ran: list[int], why: str) -> None:
    world.declare(missed=policy, overlap="allow").look()

    assert world.restart().look(3 * HOUR + 10 * MINUTE) == ran

    assert list(world.slots()) == [0, 60, 120, 180]
    assert world.slots()[60].startswith(why)
    assert world.look() == []


def test_a_moment_of_a_minute_ago_is_not_missed(world: World) -> None:
    world.declare(missed="skip").look()
    world.end()

    assert world.restart().look(HOUR + 30_000_000) == [60]


def test_a_clock_that_leaps_under_a_scheduler_misses_nothing(world: World) -> None:
    """A clock that follows the data stands still for a day and then goes on by one."""
    world.declare("0 3 * * *", missed="skip").look()

    assert world.look(24 * HOUR) == [17 * 60]


def test_many_years_of_missed_minutes_are_dealt_with_at_once(world: World) -> None:
    world.declare("* * * * *").look()
    world.end()

    assert world.look(10 * 365 * 24 * HOUR) == [10 * 365 * 24 * 60]
    assert len(world.slots()) == 1 + 1 + schedules.MOST_SKIPPED


def test_all_of_many_missed_moments_run_in_portions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "MOST_AT_ONCE", 4)
    world.declare("* * * * *", missed="all", overlap="allow").look()
    world.clock.at += 10 * MINUTE

    assert [world.look(), world.look(), world.look(), world.look()] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], []]


def test_a_run_that_goes_on_makes_the_next_one_skip(world: World) -> None:
    world.look()

    assert world.look(HOUR) == []
    assert world.slots()[60] == "run 1 was still queued"
    world.end()
    assert world.look(HOUR) == [120]


def test_a_run_may_queue_behind_the_one_before(world: World) -> None:
    world.declare(overlap="queue").look()
    world.look(HOUR)
    world.look(HOUR)
    third, second, first = world.metadata.runs.list()
    take = world.metadata.runs.take

    assert (second.behind, third.behind) == (first.id, second.id)
    assert take(second.id, "h", 1, 5) is None
    assert take(first.id, "h", 1, 5) is not None
    world.metadata.runs.cancel(second.id, "me", 6)
    assert take(third.id, "h", 1, 5) is None  # the one ahead of the cancelled one goes on
    world.metadata.runs.finish(first.id, "done", 6)
    assert take(third.id, "h", 1, 5) is not None


def test_runs_may_go_on_beside_each_other(world: World) -> None:
    world.declare(overlap="allow").look()

    assert world.look(HOUR) == [60]
    assert [run.behind for run in world.metadata.runs.list()] == [None, None]


def test_missed_moments_that_all_run_do_not_stand_in_each_others_way(world: World) -> None:
    world.declare(missed="all", overlap="skip").look()
    world.end()

    assert world.restart().look(3 * HOUR) == [60, 120, 180]
    third, second, first = world.metadata.runs.list(limit=3)
    assert (first.behind, second.behind, third.behind) == (None, first.id, second.id)


def test_jitter_puts_the_start_off_but_not_the_moment(world: World) -> None:
    world.declare("0 * * * *", jitter="20m", overlap="allow", missed="all")
    seen: dict[int, int] = {}
    for minute in range(6 * 60):
        seen |= dict.fromkeys(world.look(), minute)
        world.clock.at += MINUTE

    assert list(seen) == [0, 60, 120, 180, 240, 300]
    waits = [at - moment for moment, at in seen.items()]
    assert all(0 <= wait <= 20 for wait in waits)
    assert len(set(waits)) > 1


def test_jitter_longer_than_the_interval_keeps_the_order(world: World) -> None:
    world.declare("* * * * *", jitter="10m", overlap="allow", missed="all")
    found: list[int] = []
    for _ in range(60):
        found += world.look(MINUTE)

    assert found == list(range(1, 1 + len(found)))
    assert len(found) > 45


def test_a_paused_schedule_owes_nothing_when_it_goes_on(world: World) -> None:
    world.look()
    world.end()
    stopped = pause(world.declared, world.metadata, "m", "ada", "holidays", 3)
    assert (stopped.paused, stopped.by, stopped.why, stopped.at) == (True, "ada", "holidays", 3)
    assert world.look(5 * HOUR) == []
    [paused] = next_runs(world.declared, world.metadata, world.clock.at)
    assert (paused.next, paused.state) == ((), stopped)

    resume(world.declared, world.metadata, NAME, "eve", "back", 4, world.clock.at + MINUTE)

    assert world.look(10 * MINUTE) == []
    assert world.look(HOUR) == [360]
    lines = [(line.by, line.action, line.object, line.why) for line in world.metadata.audit.list()]
    assert lines == [("eve", "resume schedule", NAME, "back"), ("ada", "pause schedule", NAME, "holidays")]


def test_going_on_without_a_pause_changes_nothing(world: World) -> None:
    world.look()
    world.end()

    state = resume(world.declared, world.metadata, NAME, "eve", "", 4, START + 10 * HOUR)

    assert state.since == START
    assert world.look(HOUR) == [60]
    assert world.metadata.audit.list() == []


def test_a_schedule_nobody_declared_is_refused_with_the_nearest(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"no schedule is called 'model:n'; did you mean 'model:m'\?"):
        pause(world.declared, world.metadata, "model:n", "me", "", 0)


def test_schedules_are_listed_soonest_first(world: World) -> None:
    world.declared["batch:b"] = Scheduled("batch:b", "b", Schedule("30 * * * *", timezone="Asia/Kathmandu"))
    world.restart().look()

    soon, late = next_runs(world.declared, world.metadata, START, count=2)

    assert (soon.name, [_minutes(moment) for moment in soon.next], soon.last) == ("batch:b", [45, 105], None)
    assert (late.name, [_minutes(moment) for moment in late.next]) == (NAME, [60, 120])
    assert late.run is not None
    assert late.last is not None
    assert (late.run.slot, late.last.run) == (START, late.run.id)
    assert [view.next for view in next_runs(world.declared, world.metadata, None)] == [(), ()]


def test_a_schedule_that_cannot_run_does_not_stop_the_others(world: World) -> None:
    def picky(target: str) -> RunRecord:
        if target == "broken":
            raise UsageError("pipeline 'broken' needs city=")
        return draft(target)

    hourly = Schedule("0 * * * *")
    declared = {"pipeline:broken": Scheduled("pipeline:broken", "broken", hourly), NAME: Scheduled(NAME, "m", hourly)}
    scheduler = Scheduler(world.metadata, declared, picky, world.clock)

    with pytest.raises(UsageError, match="needs city="):
        scheduler.tick()

    assert [run.targets for run in world.metadata.runs.list()] == [("m",)]
    assert world.metadata.schedules.last("pipeline:broken") is None


def test_a_clock_that_follows_the_data_is_read_anew(world: World) -> None:
    newest: list[int | None] = [None]
    clock = DataClock(lambda: newest[0])
    scheduler = Scheduler(world.metadata, world.declared, draft, clock)

    with pytest.raises(DataError):
        scheduler.tick()
    newest[0] = START + MINUTE
    assert scheduler.tick() == []
    newest[0] = START + HOUR
    assert [run.slot for run in scheduler.tick()] == [START + HOUR]


def test_the_loop_tells_what_is_wrong_once(world: World) -> None:
    class Stop:
        """Set after five rounds."""

        rounds = 0

        def is_set(self) -> bool:
            return self.rounds == 5

        def wait(self, seconds: float) -> None:
            assert seconds == 0.5
            self.rounds += 1
            world.clock.at += HOUR

    said: list[str] = []
    queued: list[int] = []
    answers = iter([0, UsageError("odd"), UsageError("odd"), 0, UsageError("odd")])

    def dispatch() -> int:
        answer = next(answers)
        if isinstance(answer, UsageError):
            raise answer
        world.end()
        return answer

    schedules.keep_going(
        world.scheduler,
        dispatch,
        Stop(),  # type: ignore[arg-type]
        every=0.5,
        queued=lambda run: queued.append(_minutes(run.slot)),
        tell=said.append,
    )

    assert said == ["odd", "odd"]
    assert queued == [0, 60, 240]


def test_every_moment_runs_once_though_schedulers_are_killed(url: str, tmp_path: Path) -> None:
    """Two schedulers over 200 moments; one of them is killed at random and started again."""
    moments, seconds, output = 200, 4.0, tmp_path / "executed"
    with open_metadata(url, "trips", "local") as metadata:
        metadata.schedules.ensure(scheduling.NAME, 0)
        arguments = (url, output, time.monotonic(), moments * 60 / seconds, moments)
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(["tests.orchestrate.scheduling"])
        chance, kills = random.Random(4), 0

        def start() -> multiprocessing.process.BaseProcess:
            worker = processes.Process(target=scheduling.work, args=arguments, daemon=True)
            worker.start()
            return worker

        survivor, victim = start(), start()
        try:
            deadline = time.monotonic() + 60
            while not _all_taken(metadata, moments) and time.monotonic() < deadline:
                time.sleep(chance.uniform(0.05, 0.6))
                victim.kill()
                victim.join()
                kills += 1
                victim = start()
        finally:
            for worker in (survivor, victim):
                worker.kill()
                worker.join()
        taken = metadata.schedules.slots(scheduling.NAME, 1000)
        runs = {run.id: run for run in metadata.runs.list(limit=1000)}

    assert kills >= 5
    assert sorted(slot.slot for slot in taken) == [number * MINUTE for number in range(moments)]
    assert sorted(slot.run or 0 for slot in taken) == sorted(runs)
    assert all(runs[slot.run or 0].slot == slot.slot for slot in taken)
    executed = Counter(int(line) for line in output.read_text().split())
    assert max(executed.values()) == 1
    # A run whose process was killed between taking it and carrying it out is left as running, for `crashed` to find.
    lost = {run.slot for run in runs.values() if run.status == "running"}
    assert len(lost) <= kills + 2
    assert set(executed) | lost == {slot.slot for slot in taken}
    assert len(executed) > moments / 2


def _all_taken(metadata: Metadata, moments: int) -> bool:
    going = metadata.runs.list(status=["queued"], limit=1)
    return len(metadata.schedules.slots(scheduling.NAME, moments)) == moments and not going
