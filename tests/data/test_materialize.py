"""Online equals offline, through refreshes, new data, late runs, crashes and overlapping runs."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.data.compute.brute import Version, value_at_r
from tests.data.compute.strategies import as_events, key_table, worlds
from tests.data.compute.test_point_in_time import plain, same, shown

from headway.data.compute import at
from headway.data.materialize import materialize
from headway.data.online import OnlineReader, OnlineStore, Watermark, fingerprint_prefix, stored_rows
from headway.data.online.lmdb import LmdbStore
from headway.define.records import BEGINNING, FOREVER, Events, FeaturePlan, Field, ViewPlan
from headway.errors import UsageError
from headway.testing.online_store import MemoryStore

UNTIL = st.integers(-6, 30)
spawned = multiprocessing.get_context("spawn")


class Interrupted(Exception):
    """Stands for a death of the process."""


class Fragile(MemoryStore):
    """A store that calls ``meanwhile`` once, after ``after`` more rows have been written."""

    def __init__(self) -> None:
        super().__init__()
        self.after, self.meanwhile = -1, lambda: None

    def put_many(self, rows: Any) -> int:
        return super().put_many(self._counted(list(rows)))

    def _counted(self, rows: list[tuple[bytes, bytes]]) -> Any:
        for row in rows:
            if self.after == 0:
                self.after = -1
                self.meanwhile()
            self.after -= 1 if self.after > 0 else 0
            yield row

    def interrupt(self, after: int, meanwhile: Callable[[], Any]) -> None:
        self.after, self.meanwhile = after, meanwhile


def die() -> None:
    raise Interrupted


def run(plan: ViewPlan, rows: list[Version], store: OnlineStore, until: int, **more: Any) -> Any:
    """Materialize from the first rows of a world; how many they are is the version."""
    events = replace(as_events(plan, rows), version=len(rows))
    return materialize(plan, lambda: events, store, until, **more)


def assert_online_is_offline(plan: ViewPlan, rows: list[Version], store: OnlineStore) -> None:
    reader = OnlineReader(store)
    mark = reader.watermark(plan)
    assert mark is not None
    keys = sorted({row.key for row in rows})
    found = stored_rows(reader, plan, key_table(plan.keys, keys))
    for feature in plan.features:
        for key, value in zip(keys, plain(found[feature.name]), strict=True):
            expected = shown(value_at_r(plan, feature, rows, key, mark.as_of))
            assert same(value, expected), (feature, key, mark, value, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_online_equals_offline_after_every_step(data: st.DataObject) -> None:
    world = data.draw(worlds())
    plan = world.plan
    assume(plan.online)
    store, seen = Fragile(), 0
    for _ in range(data.draw(st.integers(1, 5))):
        seen = data.draw(st.integers(seen, len(world.rows)))
        until, rows = data.draw(UNTIL), world.rows[:seen]
        before = OnlineReader(store).watermark(plan)
        target = Watermark(plan.r(until), seen)
        if data.draw(st.booleans()):
            store.interrupt(data.draw(st.integers(0, 4)), die)
            try:
                run(plan, rows, store, until)
            except Interrupted:
                assert OnlineReader(store).watermark(plan) == before
            store.interrupt(-1, die)
        result = run(plan, rows, store, until)
        after = OnlineReader(store).watermark(plan)
        assert after == max(target, before or target)
        assert (result.as_of, result.version) == after
        if after == target:
            assert_online_is_offline(plan, rows, store)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_overlapping_runs(data: st.DataObject) -> None:
    world = data.draw(worlds())
    plan = world.plan
    assume(plan.online)
    store = Fragile()
    first = data.draw(st.integers(0, len(world.rows)))
    second, third = (data.draw(st.integers(first, len(world.rows))) for _ in range(2))
    run(plan, world.rows[:first], store, data.draw(UNTIL))
    until, other_until = data.draw(UNTIL), data.draw(UNTIL)
    store.interrupt(data.draw(st.integers(0, 4)), lambda: run(plan, world.rows[:third], store, other_until))
    run(plan, world.rows[:second], store, until)
    store.interrupt(-1, die)

    assert_every_row_speaks_the_truth(plan, world.rows, [first, second, third], store)
    settled = run(plan, world.rows, store, 31 + plan.lag)
    assert settled.outcome in ("full", "changed", "current")
    assert_online_is_offline(plan, world.rows, store)


def assert_every_row_speaks_the_truth(
    plan: ViewPlan, rows: list[Version], versions: list[int], store: OnlineStore
) -> None:
    """Each row holds what some version of the data says of it, at the row's own as-of."""
    reader = OnlineReader(store)
    keys = sorted({row.key for row in rows})
    found = reader.stored(plan, key_table(plan.keys, keys))
    for at_row, key in enumerate(keys):
        if found.state[at_row].max() == 3:
            continue
        r = int(found.as_of[at_row])
        if any(
            plain(found.array(f.name))[at_row] is None and found.state[at_row, i] for i, f in enumerate(plan.features)
        ):
            continue  # judged at the watermark, not at the row's as-of
        answers = [[shown(value_at_r(plan, f, rows[:n], key, r)) for f in plan.features] for n in versions]
        got = [plain(found.array(f.name))[at_row] for f in plan.features]
        assert any(all(map(same, got, answer)) for answer in answers), (key, r, got, answers)


@settings(max_examples=60, deadline=None)
@given(worlds(), UNTIL)
def test_a_read_just_after_a_refresh_gives_what_training_would_have_seen(world: Any, now: int) -> None:
    plan = world.plan
    assume(plan.online)
    assume(world.rows)
    store = MemoryStore()
    run(plan, world.rows, store, now)
    keys = key_table(plan.keys, [row.key for row in world.rows])
    found = OnlineReader(store).read(plan, keys, now)
    trained = at(plan, world.events, keys, np.full(keys.num_rows, now))
    for feature in plan.features:
        assert all(map(same, plain(found.array(feature.name)), plain(trained[feature.name])))
    assert not (found.state == 1).any()  # late


# -- a view of trips per zone, by hand ---------------------------------------------------------------------------------

PLAN = ViewPlan(
    "traffic", "ab" * 16, "trips", (), "", (Field("zone", "int64"),),
    (FeaturePlan("trips", "count", "int64", window=300), FeaturePlan("fare", "last", "double", "fare")),
    refresh=100,
)  # fmt: skip


def trips(rows: list[tuple[int, int, float]], version: int) -> Events:
    zone, event, fare = (list(column) for column in zip(*rows, strict=True))
    moments = np.array(event, np.int64)
    return Events(
        pa.table({"zone": zone}),
        moments,
        moments,
        np.full(len(rows), FOREVER),
        np.arange(len(rows)),
        {"fare": pa.array(fare, pa.float64())},
        version,
    )


TRIPS = [(1, 50, 5.0), (1, 450, 6.0), (2, 120, 7.0), (3, 20, 8.0), (3, 990, 9.0)]


def refresh(store: OnlineStore, until: int, *, rows: Any = TRIPS, version: int = 1, **more: Any) -> Any:
    return materialize(PLAN, lambda: trips(rows, version), store, until, version=version, **more)


def read(store: OnlineStore, zones: list[int], now: int) -> list[tuple[int, float]]:
    found = OnlineReader(store).read(PLAN, {"zone": zones}, now)
    return list(zip(found.array("trips").to_pylist(), found.array("fare").to_pylist(), strict=True))


def test_what_a_run_reports():
    store = MemoryStore()
    first = refresh(store, 510)
    assert (first.outcome, first.as_of, first.version, first.entities, first.written) == ("full", 500, 1, 3, 3)
    assert read(store, [1, 2, 3, 4], 510) == [(1, 6.0), (0, 7.0), (0, 8.0), (0, None)]
    assert refresh(store, 599).outcome == "current"
    second = refresh(store, 610)
    assert (second.outcome, second.as_of, second.entities, second.written) == ("changed", 600, 1, 1)
    assert OnlineReader(store).read(PLAN, {"zone": [1, 2]}, 610).as_of.tolist() == [600, 600]


def test_windows_empty_without_new_events():
    store = MemoryStore()
    refresh(store, 510)
    refresh(store, 810)
    assert read(store, [1], 810) == [(0, 6.0)]


def test_events_are_not_loaded_when_nothing_is_to_be_done():
    store = MemoryStore()
    refresh(store, 510)
    never = lambda: pytest.fail("loaded")
    assert materialize(PLAN, never, store, 520, version=1).outcome == "current"
    assert materialize(PLAN, never, store, 420, version=1).outcome == "superseded"


def test_an_older_moment_never_overwrites_a_newer_one():
    store = MemoryStore()
    refresh(store, 510)
    result = refresh(store, 250, version=7, full=True)
    assert (result.outcome, result.as_of, result.version, result.written) == ("superseded", 500, 1, 0)
    assert read(store, [1], 510) == [(1, 6.0)]


def test_a_correction_at_the_same_moment_does():
    store = MemoryStore()
    refresh(store, 510)
    result = refresh(store, 510, rows=[(1, 450, 60.0), (4, 460, 1.0)], version=2)
    assert (result.outcome, result.written, result.deleted) == ("full", 2, 2)
    assert read(store, [1, 2, 3, 4], 510) == [(1, 60.0), (0, None), (0, None), (1, 1.0)]
    assert refresh(store, 510, version=1).outcome == "superseded"


def test_full_rewrites_what_is_there():
    store = MemoryStore()
    refresh(store, 510)
    assert refresh(store, 510, full=True).written == 3
    assert refresh(store, 610, full=True).written == 3


def test_progress_counts_rows():
    told: list[tuple[int, int]] = []
    refresh(MemoryStore(), 510, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]


def test_windows_without_refresh_are_historical_only():
    plan = ViewPlan(**{f: getattr(PLAN, f) for f in PLAN.__struct_fields__} | {"refresh": None})
    with pytest.raises(UsageError, match="historical only"):
        materialize(plan, lambda: pytest.fail("loaded"), MemoryStore(), 510)


def test_no_events_at_all():
    store = MemoryStore()
    empty = Events(
        pa.table({"zone": pa.array([], pa.int64())}),
        *(np.array([], np.int64) for _ in range(4)),
        {"fare": pa.array([], pa.float64())},
        1,
    )
    result = materialize(PLAN, lambda: empty, store, 510)
    assert (result.outcome, result.entities, result.as_of) == ("full", 0, 500)
    assert read(store, [1], 510) == [(0, None)]


# -- SIGKILL -----------------------------------------------------------------------------------------------------------

MANY = [(zone, 100 + zone % 300, float(zone)) for zone in range(40_000)]


def materialize_many(path: Any, version: int, started: Any) -> None:
    store = LmdbStore(path)
    started.send(True)
    refresh(store, 510, rows=MANY, version=version)
    store.close()


def contents(store: OnlineStore) -> list[Any]:
    found = OnlineReader(store).read(PLAN, {"zone": list(range(40_000))}, 510)
    return [found.floats().tolist(), found.as_of.tolist(), found.state.tolist()]


def test_a_killed_run_is_finished_by_the_next(tmp_path):
    unbroken = LmdbStore(tmp_path / "unbroken")
    for version in (1, 2, 3):
        refresh(unbroken, 510, rows=MANY, version=version)
    broken = LmdbStore(tmp_path / "broken")
    pauses = random.Random(5)
    for version in (1, 2, 3):
        receiver, sender = spawned.Pipe(duplex=False)
        child = spawned.Process(target=materialize_many, args=(tmp_path / "broken", version, sender))
        child.start()
        receiver.recv()
        child.join(pauses.uniform(0, 0.3))
        if child.exitcode is None:
            os.kill(child.pid, signal.SIGKILL)
        child.join()
        refresh(broken, 510, rows=MANY, version=version)
    assert OnlineReader(broken).watermark(PLAN) == Watermark(500, 3)
    assert contents(broken) == contents(unbroken)
    assert BEGINNING not in OnlineReader(broken).read(PLAN, {"zone": [0, 39_999]}, 510).as_of
    assert broken.drop(fingerprint_prefix(PLAN)) == 40_001
    unbroken.close()
    broken.close()
