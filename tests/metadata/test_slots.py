"""What is remembered of schedules, and slots that are taken once."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headway.define.run_records import RunRecord, ScheduleState, Slot
from headway.metadata import Metadata, open_metadata

NAME = "model:m"


def slot(at: int, by: str = "me", why: str = "") -> Slot:
    return Slot(NAME, at, 1, by, None, why)


def test_a_schedule_begins_when_it_is_first_seen(metadata: Metadata) -> None:
    assert metadata.schedules.get(NAME) is None
    assert metadata.schedules.ensure(NAME, 10) == metadata.schedules.ensure(NAME, 20) == ScheduleState(NAME, 10)
    assert metadata.schedules.all() == {NAME: ScheduleState(NAME, 10)}


def test_pausing_and_going_on(metadata: Metadata) -> None:
    metadata.schedules.ensure(NAME, 10)

    assert metadata.schedules.pause(NAME, "ada", "tired", 20) == ScheduleState(NAME, 10, True, "ada", 20, "tired")
    assert metadata.schedules.pause(NAME, "eve", "too", 21) == ScheduleState(NAME, 10, True, "eve", 21, "too")
    assert metadata.schedules.resume(NAME, "ada", 30, since=25) == ScheduleState(NAME, 25, False, "ada", 30, "")
    assert metadata.schedules.ensure(NAME, 99).since == 25
    assert metadata.schedules.pause("new", "ada", "not yet", 20) == ScheduleState("new", 20, True, "ada", 20, "not yet")
    assert list(metadata.schedules.all()) == [NAME, "new"]


def test_a_slot_is_taken_once_with_its_run(metadata: Metadata) -> None:
    run = metadata.schedules.take(slot(5), RunRecord(targets=("m",), schedule=NAME, slot=5))

    assert isinstance(run, RunRecord)
    assert metadata.runs.get(run.id) == run
    assert metadata.schedules.take(slot(5, "other"), RunRecord()) is False
    assert metadata.schedules.take(slot(5, "other"), None) is False
    assert metadata.runs.list() == [run]
    assert metadata.schedules.last(NAME) == Slot(NAME, 5, 1, "me", run.id, "")


def test_a_slot_may_be_taken_without_a_run(metadata: Metadata) -> None:
    assert metadata.schedules.take(slot(5, why="missed"), None) is None
    assert metadata.schedules.take(slot(5), RunRecord()) is False

    assert metadata.runs.list() == []
    assert metadata.schedules.slots(NAME) == [Slot(NAME, 5, 1, "me", None, "missed")]


def test_slots_come_newest_first_whoever_took_them_when(metadata: Metadata, url: str) -> None:
    for at in (7, 9, 8):
        metadata.schedules.take(slot(at), None)
    with open_metadata(url, "trips", "prod") as other:
        assert other.schedules.take(slot(9), None) is None
        assert (other.schedules.all(), len(other.schedules.slots(NAME))) == ({}, 1)

    assert [s.slot for s in metadata.schedules.slots(NAME, limit=2)] == [9, 8]
    assert metadata.schedules.last(NAME) == slot(9)
    assert metadata.schedules.last("model:other") is None
    metadata.schedules.ensure(NAME, 0)
    metadata.schedules.ensure("model:other", 0)
    assert metadata.schedules.latest() == {NAME: slot(9)}


def test_of_many_threads_one_takes_a_slot(metadata: Metadata) -> None:
    together = threading.Barrier(4)

    def take(worker: int) -> list[int]:
        together.wait()
        slots = (slot(at, str(worker)) for at in range(12))
        return [s.slot for s in slots if metadata.schedules.take(s, RunRecord(slot=s.slot)) is not False]

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(take, range(4)))

    assert sorted(itertools.chain(*won)) == list(range(12))
    assert sorted(run.slot or 0 for run in metadata.runs.list()) == list(range(12))
    assert all(s.taken_by == str(worker) for worker, mine in enumerate(won) for s in _taken(metadata, mine))


def _taken(metadata: Metadata, moments: list[int]) -> list[Slot]:
    return [s for s in metadata.schedules.slots(NAME) if s.slot in moments]


def take_slots(url: str, moments: int) -> None:
    """Take whatever can be had, in a process of its own."""
    with open_metadata(url, "trips", "local") as metadata:
        for at in range(moments):
            metadata.schedules.take(slot(at, str(os.getpid())), RunRecord(slot=at))


def test_of_many_processes_one_takes_a_slot_even_if_some_are_killed(url: str, tmp_path: Path) -> None:
    open_metadata(url, "trips", "local").close()
    processes = multiprocessing.get_context("forkserver")
    workers = [processes.Process(target=take_slots, args=(url, 60)) for _ in range(3)]
    for worker in workers:
        worker.start()
    workers[0].join(0.05)
    workers[0].kill()
    for worker in workers:
        worker.join(60)

    with open_metadata(url, "trips", "local") as metadata:
        slots, runs = metadata.schedules.slots(NAME, 100), metadata.runs.list(limit=100)
    assert [s.slot for s in slots] == list(reversed(range(60)))
    assert {s.slot: s.run for s in slots} == {run.slot: run.id for run in runs}
