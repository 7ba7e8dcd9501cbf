"""Runs as they are recorded: killed, cancelled, taken by two, started by a dispatcher, run again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from tests import project
from tests.project import Shop, environment, forget_package

import headway as hw
from headway.clock import WallClock
from headway.define.run_records import RunRecord, StepRecord
from headway.errors import NotFoundError, StoreBusy, UsageError
from headway.metadata import Metadata, open_metadata
from headway.orchestrate.runs.history import RunHistory
from headway.orchestrate.runs.stage import crashed, dispatch, recording
from headway.settings import load_settings

T = TypeVar("T")
SLOW = """
def ridge(alpha):
    import pathlib
    import time

    print("an estimator is made")
    while pathlib.Path("slow").exists():
        time.sleep(0.05)
"""


@pytest.fixture
def slow(shop: Shop) -> Shop:
    """A project whose training prints, and goes on as long as there is a file ``slow``."""
    shop.edit("shop/models.py", "\ndef ridge(alpha):\n", SLOW)
    (shop.root / "slow").touch()
    return shop


@contextmanager
def records(shop: Shop) -> Iterator[Metadata]:
    settings = load_settings(shop.root)
    with open_metadata(settings.metadata_url, settings.project, settings.env) as metadata:
        yield metadata


@contextmanager
def process(shop: Shop, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, while this one goes on."""
    child = subprocess.Popen(
        shop.command(*arguments),
        cwd=shop.root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def soon(look: Callable[[], T | None], seconds: float = 30) -> T:
    """What ``look`` finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def under_way(metadata: Metadata, key: str) -> Callable[[], RunRecord | None]:
    """Looks for a run whose step ``key`` is running."""

    def look() -> RunRecord | None:
        (run,) = metadata.runs.list(status=("running",), limit=1) or (None,)
        steps = metadata.runs.steps(run.id) if run else []
        return run if any(s.key == key and s.status == "running" for s in steps) else None

    return look


def outcomes(steps: list[StepRecord]) -> dict[str, str]:
    return {step.key: step.status for step in steps}


# What a run leaves behind


def test_the_golden_path_is_recorded(shop: Shop) -> None:
    with records(shop) as metadata:
        (run,) = metadata.runs.list()
        steps = {step.key: step for step in metadata.runs.steps(run.id)}
    assert (run.status, run.trigger, run.targets, run.error) == ("done", "manual", (), "")
    assert run.created_at <= run.started_at <= run.ended_at
    assert list(steps) == [
        *("ingest:raw_orders", "ingest:shops", "check:orders", "ingest:visits", "check:visits"),
        *("train:delivery", "promote:delivery", "materialize:sales", "materialize:footfall"),
    ]
    assert steps["check:orders"].needs == ("ingest:raw_orders", "ingest:shops")
    assert steps["promote:delivery"].needs == ("train:delivery",)
    assert set(steps["train:delivery"].inputs) == {"source/raw_orders", "source/shops"}
    assert steps["train:delivery"].seconds > 0
    assert steps["train:delivery"].detail.startswith("version 1, mae")
    assert {step.status for step in steps.values()} <= {"done", "cached"}
    assert not list((shop.home / "locks").glob("run-*.lock"))


def test_python_records_too_and_tells_what_differs(shop: Shop) -> None:
    forget_package()
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 1.0')
    with hw.load(shop.root) as opened:
        done = opened.run("delivery")
        assert {d.stage for d in done} == {"ingest", "check", "train", "promote", "materialize"}
        newest, first = opened.runs.list()
        found = opened.runs.diff(first.id, newest.id)
        lineage = {link.key: link for link in opened.runs.lineage(newest.id)}
        with pytest.raises(NotFoundError, match="the newest is run 2"):
            opened.runs.get(9)
    assert [c.name for c in found.facts] == ["targets"]
    differs = {s.key: s.differs for s in found.steps if s.differs}
    assert {"digest", "detail"} <= set(differs["train:delivery"])
    assert differs["check:visits"] == ("there",)
    assert "ingest:shops" not in differs
    assert lineage["train:delivery"].used_by == ("promote:delivery",)


def test_what_fails_is_told_and_stops_what_needs_it(empty: Shop) -> None:
    (empty.root / "data/visits.parquet").write_bytes(b"PAR1 and then nothing")
    found = empty.call("run", "--json", code=1)
    told = {(i["stage"], i["target"]): i["outcome"] for i in found.json()}
    assert told["ingest", "visits"] == "failed"
    assert told["check", "visits"] == told["materialize", "footfall"] == "skipped"
    assert told["promote", "delivery"] == "done"
    with records(empty) as metadata:
        (run,) = metadata.runs.list()
        steps = {step.key: step for step in metadata.runs.steps(run.id)}
        text, _ = RunHistory(load_settings(empty.root), metadata).logs(run.id, "ingest:visits")
    assert (run.status, "visits.parquet" in run.error) == ("failed", True)
    assert "visits.parquet" in steps["ingest:visits"].error
    assert steps["materialize:footfall"].why == "ingest visits failed"
    assert "Traceback" in text


def test_a_refused_run_is_refused(empty: Shop) -> None:
    empty.edit("shop/sources.py", 'hw.unique("order_id")', "hw.row_count(100_000)")
    empty.call("run", "orders", code=3)
    with records(empty) as metadata:
        (run,) = metadata.runs.list()
        assert run.status == "refused"
        assert outcomes(metadata.runs.steps(run.id))["check:orders"] == "refused"


# Other processes


def test_a_killed_run_is_noticed_and_goes_on_with_what_is_unfinished(slow: Shop) -> None:
    slow.edit("headway.toml", project.NOW, "2024-03-02T00:30:00Z")
    with records(slow) as metadata, process(slow, "run") as child:
        run = soon(under_way(metadata, "train:delivery"))
        assert slow.call("runs", "list", "--json").json()[0]["status"] == "running"  # and is visible from here
        soon(lambda: "an estimator is made" in slow.call("runs", "logs", str(run.id), "train:delivery").out)
        child.kill()
        child.wait()
        assert slow.call("runs", "list", "--json").json()[0]["status"] == "crashed"
        assert outcomes(metadata.runs.steps(run.id))["train:delivery"] == "failed"
        assert f"headway runs rerun {run.id}" in slow.call("runs", "show", str(run.id)).out
        (slow.root / "slow").unlink()
        slow.call("runs", "rerun", str(run.id), code=None)
        again = metadata.runs.list()[0]
        assert again.parent == run.id
        assert (again.trigger, again.status in ("done", "refused")) == ("rerun", True)
        found = outcomes(metadata.runs.steps(again.id))
        assert {found[key] for key in ("ingest:raw_orders", "check:orders")} == {"cached"}
        assert found["train:delivery"] == found["materialize:footfall"] == "done"
        assert metadata.audit.list()[0].action == "rerun"


@pytest.mark.parametrize("how", ["asked", "sigterm"])
def test_a_cancelled_run_ends_soon(slow: Shop, how: str) -> None:
    with records(slow) as metadata, process(slow, "run") as child:
        run = soon(under_way(metadata, "train:delivery"))
        if how == "asked":
            assert "asked to end" in slow.call("runs", "cancel", str(run.id), "--why", "a mistake").out
            assert (metadata.audit.list()[0].action, metadata.audit.list()[0].why) == ("cancel run", "a mistake")
        else:
            child.send_signal(signal.SIGTERM)
        told, _ = child.communicate(timeout=20)
        assert child.returncode == 1
        assert "cancelled by" in told.splitlines()[-1]
        assert "Traceback" not in told
        ended = metadata.runs.get(run.id)
        assert (ended.status, how == "sigterm") == ("cancelled", "SIGTERM" in ended.error)
        found = outcomes(metadata.runs.steps(run.id))
        assert found["train:delivery"] == found["promote:delivery"] == "cancelled"
        assert slow.call("runs", "cancel", str(run.id)).out == f"run {run.id} is cancelled\n"


def test_a_manual_run_does_not_wait_for_another(slow: Shop) -> None:
    with records(slow) as metadata, process(slow, "run"):
        soon(under_way(metadata, "train:delivery"))
        assert "under way already" in slow.call("run", code=1).err
        assert len(metadata.runs.list()) == 2  # the finished one and this


def test_of_two_takers_one_carries_it_out(shop: Shop) -> None:
    forget_package()
    with hw.load(shop.root) as opened:
        run = opened.runs.start("footfall", trigger="console", by="ana", why="to see")
        assert opened.parts.metadata.audit.list()[0].by == "ana"
    with process(shop, "runs", "execute", str(run.id)) as a, process(shop, "runs", "execute", str(run.id)) as b:
        ended = [child.communicate(timeout=60)[0] for child in (a, b)]
    assert sorted((a.returncode == 0, b.returncode == 0)) == [False, True], ended
    with records(shop) as metadata:
        assert metadata.runs.get(run.id).status == "done"
        assert {s.attempt for s in metadata.runs.steps(run.id)} == {0}  # all was up to date
    assert "is done already" in shop.call("runs", "execute", str(run.id), code=2).err


def test_a_dispatcher_starts_what_is_queued(shop: Shop) -> None:
    settings = load_settings(shop.root)
    with records(shop) as metadata:
        runs = [
            metadata.runs.create(RunRecord(targets=(name,), trigger="schedule", created_at=1))
            for name in ("footfall", "sales")
        ]
        assert dispatch(settings, metadata) == 1  # the second would only wait for the first
        assert dispatch(settings, metadata) == 0
        soon(lambda: dispatch(settings, metadata) == 1, 60)
        soon(lambda: all(metadata.runs.get(run.id).status == "done" for run in runs), 60)
        assert dispatch(settings, metadata) == 0
        history = RunHistory(settings, metadata)
        assert "footfall" in history.logs(runs[0].id)[0]
        assert metadata.runs.get(runs[1].id).pid != os.getpid()


def test_a_queued_run_of_a_broken_project_fails_with_a_sentence(shop: Shop) -> None:
    (shop.root / "shop/broken.py").write_text("import headway as hw\nhw.Source('a b', path='x.csv')\n")
    settings = load_settings(shop.root)
    with records(shop) as metadata:
        run = metadata.runs.create(RunRecord(created_at=1))
        dispatch(settings, metadata)
        ended = soon(lambda: next((r for r in metadata.runs.list(status=("failed",))), None), 60)
    assert ended.id == run.id
    assert "'a b'" in ended.error


def test_a_run_behind_another_is_not_started_before(shop: Shop) -> None:
    settings = load_settings(shop.root)
    with records(shop) as metadata:
        first = metadata.runs.create(RunRecord(status="running", host="elsewhere", beat_at=WallClock().now()))
        metadata.runs.create(RunRecord(kind="monitor", targets=("delivery",), behind=first.id))
        assert dispatch(settings, metadata) == 0


# Who is gone


def test_a_run_elsewhere_is_gone_after_a_minute_without_a_beat(shop: Shop) -> None:
    now = WallClock().now()
    with records(shop) as metadata:
        common = {"status": "running", "host": "elsewhere", "pid": 1, "created_at": 1, "started_at": 1}
        gone = metadata.runs.create(RunRecord(**common, beat_at=now - 61_000_000))
        metadata.runs.create(RunRecord(**common, beat_at=now - 59_000_000))
        metadata.runs.plan(gone.id, [StepRecord(run=gone.id, key=k, step=k, status=s) for k, s in [("a", "running"), ("b", "waiting")]])  # fmt: skip
        assert [run.id for run in crashed(metadata, shop.home, now)] == [gone.id]
        assert crashed(metadata, shop.home, now) == []
        assert outcomes(metadata.runs.steps(gone.id)) == {"a": "failed", "b": "skipped"}
        assert "rerun" in metadata.runs.get(gone.id).error


def test_a_forked_child_does_not_keep_its_parents_run_alive(shop: Shop) -> None:
    forget_package()
    with hw.load(shop.root) as opened:
        reader, writer = os.pipe()
        with recording(opened.parts, RunRecord(targets=("x",))) as recorder:
            child = os.fork()
            if child == 0:
                os.close(writer)
                os.read(reader, 1)  # until the parent closes its end
                os._exit(0)
            lock = Path(shop.home / "locks" / f"run-{recorder.run.id}.lock")
            assert crashed(opened.parts.metadata, shop.home, WallClock().now()) == []
            kept = lock.with_suffix(".kept")
            os.link(lock, kept)
        kept.rename(lock)
        metadata = opened.parts.metadata
        lost = metadata.runs.create(msgspec.structs.replace(recorder.run, id=0, status="running"))
        lock.rename(lock.with_name(f"run-{lost.id}.lock"))
        assert [run.id for run in crashed(metadata, shop.home, WallClock().now())] == [lost.id]
        os.close(writer)
        os.waitpid(child, 0)


def test_what_cannot_run_is_refused_before_it_is_recorded(shop: Shop) -> None:
    forget_package()
    with hw.load(shop.root) as opened:
        for call, told in (
            (lambda: opened.runs.start("delivry"), "did you mean 'delivery'"),
            (lambda: opened.runs.start("delivery", {"days": 3}), "takes no parameters, got --days"),
            (lambda: opened.runs.rerun(7), "there is no run 7"),
            (lambda: opened.runs.rerun(1, "train:delivry"), "did you mean 'train:delivery'"),
            (lambda: opened.runs.execute(1), "run 1 is done already"),
        ):
            with pytest.raises((UsageError, NotFoundError), match=told):
                call()
        queued = opened.runs.start()
        with pytest.raises(UsageError, match="is queued"):
            opened.runs.rerun(queued.id)
        assert opened.runs.cancel(queued.id, "ana") == "cancelled"
        assert len(opened.runs.list()) == 2


def test_a_step_is_run_again_with_what_needs_it(shop: Shop) -> None:
    forget_package()
    with hw.load(shop.root) as opened:
        run, done = opened.runs.carry_out(opened.runs.draft_again(1, "ingest:visits"))
        assert run.from_step == "ingest:visits"
        ran = {(d.stage, d.target) for d in done if d.outcome == "done"}
        assert ran == {("check", "visits"), ("materialize", "footfall"), ("ingest", "visits")}
        again = opened.runs.rerun(run.id, why="for the queue")
        with recording(opened.parts, again), pytest.raises(StoreBusy, match="under way already"):
            opened.runs.execute(again.id)


def test_a_training_is_a_run_and_can_be_run_again(shop: Shop) -> None:
    shop.call("train", "delivery")
    (last, *_) = shop.call("runs", "list", "--json").json()
    assert (last["kind"], last["targets"], last["status"]) == ("train", ["delivery"], "done")
    shown = shop.call("runs", "show", str(last["id"])).out
    assert "train:delivery" in shown
    shop.call("runs", "rerun", str(last["id"]))
    (again, *_) = shop.call("runs", "list", "--json").json()
    assert (again["kind"], again["parent"], again["status"]) == ("train", last["id"], "done")
