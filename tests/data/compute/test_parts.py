"""Events in parts give what events in one piece give, wherever the parts are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.data.compute.strategies import World, key_rows, key_table, worlds

from headway.data.binding import EventParts, load_events
from headway.data.compute import PartedView, SpineColumns, at, changed_keys, snapshot
from headway.data.engine import Engine, Memory, Workspace
from headway.data.lake import Lake
from headway.data.materialize import materialize
from headway.define.records import FeaturePlan, Field, Snapshot, ViewPlan
from headway.errors import DataError, SettingsError, StoreError
from headway.testing.online_store import MemoryStore

TIMES = st.integers(-6, 30)


class Files:
    """A lake of one version: a Parquet file per table."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def version(self, table: str) -> int:
        return 0

    def files(self, table: str, version: int | None = None) -> list[str]:
        return [str(self._place / f"{table}.parquet")]


class Bench:
    """An engine, a lake, and a workspace in which every few rows are a part; with ``room`` the parts are in memory."""

    def __init__(self, place: Path, most_rows: int = 3, room: int = 0) -> None:
        self.place, self.engine, self.lake = place, Engine(threads=1), cast("Lake", Files(place))
        self.workspace = Workspace(place / "spill", 1 << 30, most_rows)
        self.workspace.room.limit = room

    def keep(self, world: World) -> ViewPlan:
        """Put a world's rows into the lake; its plan, that reads them from there."""
        plan, events = world.plan, world.events
        columns = {name: events.keys.column(name) for name in events.keys.column_names}
        if not plan.timeless:
            columns |= {f"__{name}": pa.array(getattr(events, name)) for name in ("event", "known", "until")}
        columns |= {"__seq": pa.array(events.rank)} | {f"__c_{name}": array for name, array in events.values.items()}
        pq.write_table(pa.table(columns), self.place / "rows.parquet")
        features = tuple(
            f if f.column is None else msgspec.structs.replace(f, column=f"__c_{f.column}") for f in plan.features
        )
        return msgspec.structs.replace(plan, features=features, tables=("rows",), sql='select * from "rows"')

    def open(self, plan: ViewPlan) -> PartedView:
        return PartedView(plan, EventParts.open(plan, self.lake, self.engine, self.workspace))

    def files(self) -> list[Path]:
        """What is kept on the disk."""
        return [path for path in (self.place / "spill").rglob("*") if path.is_file()]

    def close(self) -> None:
        self.engine.close()
        self.workspace.close()


@pytest.fixture(scope="module", params=["files", "memory"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    found = Bench(tmp_path_factory.mktemp("bench"), room=0 if request.param == "files" else 1 << 28)
    yield found
    assert not found.files()
    found.close()
    assert not list((found.place / "spill").iterdir())


def opened(bench: Bench, world: World) -> tuple[ViewPlan, PartedView, Any]:
    plan = bench.keep(world)
    view = bench.open(plan)
    assert (len(view.events) > 1) == (len(world.rows) > 3)
    return plan, view, load_events(plan, bench.lake, bench.engine)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_history_in_parts(bench: Bench, data: st.DataObject) -> None:
    world = data.draw(worlds())
    plan, view, whole = opened(bench, world)
    rows = data.draw(st.lists(st.tuples(key_rows(plan.keys, nulls=True), TIMES | st.none()), max_size=20))
    t = np.array([0 if row[1] is None else row[1] for row in rows], dtype=np.int64)
    valid = np.array([row[1] is not None for row in rows], dtype=bool)
    keys = key_table(plan.keys, [row[0] for row in rows])
    expected = at(plan, whole, keys, t, valid)

    with closing(view), closing(SpineColumns(view, bench.workspace)) as columns:
        assert view.at(keys, t, valid).equals(expected)
        size = data.draw(st.integers(1, 7))
        cuts = [slice(start, start + size) for start in range(0, len(rows), size)]
        for cut in cuts:
            columns.ask(keys[cut], t[cut], valid[cut])
        columns.compute()
        assert pa.concat_tables([expected.slice(0, 0), *(columns.answer() for _ in cuts)]).equals(expected)


@settings(max_examples=25, deadline=None)
@given(worlds(), TIMES, st.integers(0, 8))
def test_snapshots_in_parts(bench: Bench, world: World, r: int, step: int) -> None:
    plan, view, whole = opened(bench, world)
    with closing(view):
        assert merged(view.snapshots(r)).equals(merged([snapshot(plan, whole, r)]))
        changed = changed_keys(plan, whole, r - step, r)
        assert merged(view.snapshots(r, r - step)).equals(merged([snapshot(plan, whole, r, changed)]))


def merged(found: Any) -> pa.Table:
    """Keys, features and ages of some snapshots, by key."""

    def table(snap: Snapshot) -> pa.Table:
        ages = {
            f"{what}.{n}": pa.array(a) for what in ("event_times", "expired") for n, a in getattr(snap, what).items()
        }
        return pa.table(
            {**dict(zip(snap.keys.column_names, snap.keys.columns, strict=True)), **ages}
            | {f"feature.{name}": snap.features.column(name) for name in snap.features.column_names}
        )

    whole = pa.concat_tables([table(snap) for snap in found])
    return whole.sort_by([(name, "ascending") for name in whole.column_names if "." not in name]).combine_chunks()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_materializing_in_parts(bench: Bench, data: st.DataObject) -> None:
    world = data.draw(worlds())
    plan, view, whole = opened(bench, world)
    assume(plan.online)
    parted, plain = MemoryStore(), MemoryStore()
    first, second = data.draw(TIMES), data.draw(TIMES)
    with closing(view):
        for until in (first, second):
            got, expected = (
                materialize(plan, lambda: view, parted, until),
                materialize(plan, lambda: whole, plain, until),
            )
            assert got == expected
            assert contents(parted) == contents(plain)


def contents(store: MemoryStore) -> Any:
    return dict(store._rows)


def test_a_key_is_always_in_one_part(bench: Bench) -> None:
    keys = pa.table({"a": ["1", "12", "1", None], "b": ["23", "3", "23", "3"]})
    pq.write_table(keys.slice(0, 3).append_column("__seq", pa.array([0, 1, 2])), bench.place / "rows.parquet")
    plan = ViewPlan(
        name="v",
        fingerprint="0" * 32,
        source="s",
        tables=("rows",),
        sql='select *, null::bigint as "__c0" from (from "rows" union all by name from "rows" where false)',
        keys=(Field("a", "string"), Field("b", "string")),
        features=(FeaturePlan("n", "count", "int64"),),
        timeless=True,
    )
    made = EventParts.open(plan, bench.lake, bench.engine, Workspace(bench.place / "other", 1 << 30, 1))
    number = made.numbers(keys)
    assert len(made) == 4
    assert number[0] == number[2]
    assert sum(len(made.part(n)) for n in range(4)) == 3
    made.close()


@settings(max_examples=5, deadline=None)
@given(worlds(most=8))
def test_rows_that_a_join_multiplies_are_refused(bench: Bench, world: World) -> None:
    assume(len(world.rows) > 3)
    plan = bench.keep(world)
    twice = 'select * from "rows" union all (select * from "rows" order by __seq limit 1)'
    with pytest.raises(DataError, match=r"finds several rows for one row of rows, 1 too many in all, for example"):
        bench.open(msgspec.structs.replace(plan, sql=twice))


def test_a_key_with_more_rows_than_fit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with closing(Bench(tmp_path, most_rows=10)) as bench:
        world = World(crowded(), [])
        plan = bench.keep(world)
        rows = pa.table({"k": np.zeros(1000, np.int64), "__seq": np.arange(1000)})
        pq.write_table(rows, tmp_path / "rows.parquet")
        bench.workspace.memory = 1000
        view = bench.open(plan)
        with pytest.raises(StoreError, match=r"some key has so many rows that 1000 of them .* raise memory_limit"):
            list(view.snapshots(0))
        view.close()


def crowded() -> ViewPlan:
    return ViewPlan(
        name="v",
        fingerprint="0" * 32,
        source="s",
        tables=("rows",),
        sql="",
        keys=(Field("k", "int64"),),
        features=(FeaturePlan("n", "count", "int64"),),
        timeless=True,
    )


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    script = (
        "import sys, time, pyarrow as pa\nfrom pathlib import Path\nfrom headway.data.engine import Workspace\n"
        "w = Workspace(Path(sys.argv[1]), 0)\nw.piles().add(1, pa.record_batch({'a': [1, 2]}))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        living = Workspace(tmp_path, 0)
        assert len(list(tmp_path.iterdir())) == 2
        os.kill(process.pid, signal.SIGKILL)
    after = Workspace(tmp_path, 0)
    assert sorted(tmp_path.iterdir()) == sorted([living.scratch.path, after.scratch.path])
    living.close()
    after.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "limit"), [("4GB", 4 * 10**9), ("1.5 GiB", 3 << 29), ("900mb", 9 * 10**8), ("2000000KB", 2 * 10**9)]
)
def test_sizes_of_memory(setting: str, limit: int) -> None:
    found = Memory.of(setting)
    assert found.limit == limit
    assert 0 < found.sql + found.rows < limit


@pytest.mark.parametrize(
    ("setting", "what"), [("100MB", "is too little: headway needs at least 750MB"), ("lots", "is a size such as")]
)
def test_memory_that_will_not_do(setting: str, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        Memory.of(setting)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, 0)
    piles = workspace.piles()
    piles.add(1, pa.record_batch({"a": [1, 2]}))
    folder = next(tmp_path.rglob("*.arrows"))
    folder.unlink()
    folder.symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"do not fit memory_limit .* No space left on device; make room"):
        piles.add(1, pa.record_batch({"a": np.zeros(7 << 20, np.int64)}))
    workspace.close()
