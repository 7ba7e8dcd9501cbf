"""Runs and steps: who may take a run, how it ends, what lists find."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.define.run_records import Artifact, RunRecord, RunStatus, StepRecord
from headway.errors import NotFoundError
from headway.metadata import Metadata, open_metadata

FULL = RunRecord(
    kind="pipeline",
    targets=("publish",),
    params={"city": "São Paulo", "days": 7, "deep": [1, None, {"x": 1.5}]},
    trigger="console",
    by="ada",
    created_at=1,
    parent=3,
    from_step="train",
    schedule="pipeline:publish",
    slot=5,
    commit="c0ffee",
)


def step(key: str = "a", run: int = 1, **changes: Any) -> StepRecord:
    return StepRecord(**{"run": run, "key": key, "step": key.partition("[")[0], **changes})


def test_a_run_comes_back_as_it_went_in(metadata: Metadata) -> None:
    first, second = metadata.runs.create(FULL), metadata.runs.create(RunRecord())

    assert second.id > first.id
    assert metadata.runs.get(first.id) == first == msgspec.structs.replace(FULL, id=first.id)
    assert metadata.runs.get(second.id + 1) is None
    assert metadata.runs.some([first.id, second.id + 1]) == {first.id: first}
    assert metadata.runs.some([]) == {}


def test_a_run_is_taken_carried_out_and_finished(metadata: Metadata) -> None:
    run = metadata.runs.create(FULL)

    taken = metadata.runs.take(run.id, "worker", 42, 10)

    assert taken == msgspec.structs.replace(run, status="running", host="worker", pid=42, started_at=10, beat_at=10)
    assert metadata.runs.take(run.id, "other", 43, 11) is None
    assert metadata.runs.beat(run.id, 12) is None
    metadata.runs.finish(run.id, "failed", 13, "it broke")
    ended = metadata.runs.get(run.id)
    assert ended == msgspec.structs.replace(taken, status="failed", beat_at=12, ended_at=13, error="it broke")
    assert metadata.runs.counts() == {"failed": 1}


def test_a_run_that_has_ended_stays_as_it_is(metadata: Metadata) -> None:
    run = metadata.runs.create(FULL)
    metadata.runs.take(run.id, "worker", 42, 10)
    metadata.runs.finish(run.id, "crashed", 11, "its process is gone")
    ended = metadata.runs.get(run.id)

    metadata.runs.finish(run.id, "done", 12)

    assert metadata.runs.get(run.id) == ended
    assert metadata.runs.take(run.id, "worker", 42, 13) is None
    assert metadata.runs.cancel(run.id, "me", 14) == "crashed"
    assert metadata.runs.beat(run.id, 15) == "headway (the run is recorded as crashed)"
    assert metadata.runs.get(run.id) == ended


def test_a_queued_run_is_cancelled_at_once(metadata: Metadata) -> None:
    run = metadata.runs.create(FULL)

    assert metadata.runs.cancel(run.id, "ada", 5) == "cancelled"

    assert metadata.runs.take(run.id, "worker", 42, 6) is None
    ended = metadata.runs.get(run.id)
    assert ended is not None
    assert (ended.status, ended.ended_at, ended.cancel_by) == ("cancelled", 5, "ada")
    assert [r.id for r in metadata.runs.list(name="publish", status=["cancelled"])] == [run.id]


def test_a_running_one_is_told_with_its_next_sign_of_life(metadata: Metadata) -> None:
    run = metadata.runs.create(FULL)
    metadata.runs.take(run.id, "worker", 42, 5)

    assert metadata.runs.cancel(run.id, "ada", 6) == "running"
    assert metadata.runs.cancel(run.id, "eve", 7) == "running"

    assert metadata.runs.beat(run.id, 8) == "ada"
    metadata.runs.finish(run.id, "cancelled", 9)
    assert metadata.runs.counts() == {"cancelled": 1}


def test_a_run_nobody_knows_cannot_be_cancelled(metadata: Metadata) -> None:
    with pytest.raises(NotFoundError, match="there is no run 9; `headway runs list`"):
        metadata.runs.cancel(9, "me", 1)


def test_environments_do_not_see_each_other(metadata: Metadata, url: str) -> None:
    run = metadata.runs.create(FULL)
    metadata.runs.plan(run.id, [step(run=run.id, status="done", digest="d")])

    with open_metadata(url, "trips", "prod") as other:
        assert other.runs.get(run.id) is None
        assert other.runs.take(run.id, "worker", 42, 6) is None
        assert (other.runs.list(), other.runs.counts(), other.runs.steps(run.id)) == ([], {}, [])
        assert (other.runs.cached("a", "d"), other.runs.history("a")) == (None, [])
        other.runs.finish(run.id, "done", 1)
        with pytest.raises(NotFoundError):
            other.runs.cancel(run.id, "me", 1)
    assert metadata.runs.counts() == {"queued": 1}


def test_of_many_threads_one_takes_a_run(metadata: Metadata) -> None:
    ids = [metadata.runs.create(RunRecord()).id for _ in range(12)]
    together = threading.Barrier(4)

    def take_all(worker: int) -> list[int]:
        together.wait()
        return [id for id in ids if metadata.runs.take(id, "here", worker, 1) is not None]

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(take_all, range(4)))

    assert sorted(itertools.chain(*won)) == ids
    assert all(metadata.runs.get(id).pid == worker for worker, mine in enumerate(won) for id in mine)  # type: ignore[union-attr]


def take_all(url: str, ids: list[int], output: Path) -> None:
    """Take whatever can be had, in a process of its own."""
    with open_metadata(url, "trips", "local") as metadata:
        for id in ids:
            if metadata.runs.take(id, "here", os.getpid(), 1) is not None:
                with output.open("a") as lines:
                    lines.write(f"{id}\n")


def test_of_many_processes_one_takes_a_run(metadata: Metadata, url: str, tmp_path: Path) -> None:
    ids = [metadata.runs.create(RunRecord()).id for _ in range(30)]
    processes = multiprocessing.get_context("forkserver")
    workers = [processes.Process(target=take_all, args=(url, ids, tmp_path / "taken")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    taken = Counter(int(line) for line in (tmp_path / "taken").read_text().split())
    assert taken == dict.fromkeys(ids, 1)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Metadata]:
    """Opens an environment without runs."""
    folder, number = tmp_path_factory.mktemp("runs"), itertools.count()
    return lambda: open_metadata(f"sqlite:///{folder}/metadata.db", "trips", f"env{next(number)}")


STATUSES = get_args(RunStatus)
MADE = st.lists(
    st.tuples(
        st.sampled_from(STATUSES),
        st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        st.sampled_from(["project", "pipeline"]),
        st.sampled_from([None, "model:a", "model:b"]),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(
    made=MADE,
    status=st.lists(st.sampled_from(STATUSES), max_size=3),
    name=st.none() | st.sampled_from("abcd"),
    kind=st.none() | st.sampled_from(["project", "pipeline"]),
    schedule=st.none() | st.sampled_from(["model:a", "model:b"]),
    limit=st.integers(1, 5),
)
def test_a_list_is_a_filter_over_all_runs(
    database: Callable[[], Metadata],
    made: list[tuple[RunStatus, list[str], Any, str | None]],
    status: list[RunStatus],
    name: str | None,
    kind: str | None,
    schedule: str | None,
    limit: int,
) -> None:
    with database() as metadata:
        runs = [
            metadata.runs.create(RunRecord(status=s, targets=tuple(targets), kind=k, schedule=at))
            for s, targets, k, at in made
        ]
        wanted = [
            run
            for run in reversed(runs)
            if (not status or run.status in status)
            and (name is None or name in run.targets)
            and kind in (None, run.kind)
            and schedule in (None, run.schedule)
        ]

        page = metadata.runs.list(status=status, name=name, kind=kind, schedule=schedule, limit=limit)
        assert page == wanted[:limit]
        if page:
            rest = metadata.runs.list(status=status, name=name, kind=kind, schedule=schedule, before=page[-1].id)
            assert rest == wanted[limit:]
        assert metadata.runs.counts() == Counter(run.status for run in runs)


def test_steps_keep_the_order_in_which_they_were_first_put(metadata: Metadata) -> None:
    metadata.runs.plan(7, [step("b", 0), step("a", 0), step("c", 0)])
    metadata.runs.step(step("c", 7, status="done"))
    metadata.runs.plan(7, [step("d", 0), step("b", 0, status="running", attempt=2)])
    metadata.runs.plan(8, [step("a", 8)])
    metadata.runs.plan(8, [])

    found = metadata.runs.steps(7)

    assert [(s.run, s.key, s.status) for s in found] == [
        (7, "b", "running"),
        (7, "a", "waiting"),
        (7, "c", "done"),
        (7, "d", "waiting"),
    ]
    assert metadata.runs.steps(9) == []


def test_a_step_comes_back_as_it_went_in(metadata: Metadata) -> None:
    output = Artifact("0" * 32, "arrow", 12, "artifacts/00/0", "3 rows")
    record = step(
        "export[city=lisbon]",
        item={"city": "lisbon"},
        needs=("score", "join"),
        status="done",
        why="its inputs changed",
        digest="f" * 32,
        attempt=2,
        started_at=1,
        ended_at=2,
        seconds=0.5,
        inputs={"table": "a" * 32},
        output=output,
        detail="12 files",
    )
    metadata.runs.step(record)

    assert metadata.runs.steps(1) == [record]
    assert metadata.runs.cached("export", "f" * 32) == record


def test_the_cache_knows_only_what_was_carried_out(metadata: Metadata) -> None:
    for run, status in enumerate(("done", "done"), 1):
        metadata.runs.step(step("a[x=1]", run, status=status, digest="d", detail=str(run)))
    for run, status in enumerate(("cached", "failed", "running", "skipped", "waiting"), 3):
        metadata.runs.step(step("a[x=1]", run, status=status, digest="d"))  # type: ignore[arg-type]
    metadata.runs.step(step("other", 9, status="done", digest="d"))
    metadata.runs.step(step("a", 10, status="done"))

    newest = metadata.runs.cached("a", "d")

    assert newest is not None
    assert (newest.run, newest.detail) == (2, "2")
    assert metadata.runs.cached("a", "e") is None
    assert [s.run for s in metadata.runs.history("a", limit=3)] == [10, 7, 6]


def test_odd_characters_and_long_names_are_kept_as_far_as_a_database_can(metadata: Metadata) -> None:
    long = "x" * 5_000
    run = metadata.runs.create(RunRecord(targets=(f"{long}1", f"{long}2"), params={"a": "b\0c\ud800"}))
    metadata.runs.finish(run.id, "failed", 1, "NUL \0 and half a pair \ud800")
    metadata.runs.plan(run.id, [step(f"{long}[{n}]", run.id, status="done", digest="d\0\udfff") for n in (1, 2)])

    stored = metadata.runs.get(run.id)

    assert stored is not None
    assert stored.error == "NUL ? and half a pair ?"
    assert stored.params == {"a": "b?c?"}
    assert [len(metadata.runs.list(name=f"{long}{n}")) for n in (1, 2, 3)] == [1, 1, 0]
    assert [s.key for s in metadata.runs.steps(run.id)] == [f"{long}[1]", f"{long}[2]"]
    assert metadata.runs.cached(long, "d??") is not None
