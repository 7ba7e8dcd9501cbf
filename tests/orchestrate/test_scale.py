"""Materialize and backfill in parts, killed again and again, and by two processes at once."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.orchestrate.killed import Warm
from tests.project import Shop, environment

from headway.clock import to_iso

KILLS, EVENTS, USERS = 5, 20_000, 4_000
HOUR = 3_600_000_000
END = 1_709_251_200_000_000  # 2024-03-01T00:00:00Z

TOML = f'[project]\nname = "users"\ndefinitions = "users"\n\n[env.local]\nclock = "{to_iso(END)}"\n'
DECLARED = """
import headway as hw
from headway.data.engine import Workspace, _piles

Workspace.rows_at_once = lambda self, values: 2_000  # so that there are parts, and all of them in files
_piles.Room.take = lambda self, size: False

events = hw.Source("events", path="data/events.parquet", id="id", timestamp="at", created="seen")
user = hw.Entity("user", key="user_id")
activity = hw.FeatureView("activity", source=events, entity=user, refresh="1h", ttl="5d", features={
    "events_2d": hw.count(window="2d"), "mean_1d": hw.mean("x", window="1d"), "x": "x"})
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The project with its source in the lake."""
    root = tmp_path_factory.mktemp("ready") / "users"
    (root / "users").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "headway.toml").write_text(TOML)
    (root / "users/__init__.py").write_text(DECLARED)
    chance = np.random.default_rng(1)
    at = END - chance.integers(0, 20 * 24, EVENTS) * HOUR
    instant = pa.timestamp("us", "UTC")
    events = {
        "id": chance.integers(0, EVENTS * 4 // 5, EVENTS),
        "user_id": chance.integers(0, USERS, EVENTS),
        "at": pa.array(at).cast(instant),
        "seen": pa.array(at + chance.integers(0, 9, EVENTS) * HOUR).cast(instant),
        "x": chance.normal(size=EVENTS),
    }
    pq.write_table(pa.table(events), root / "data/events.parquet")
    shop = Shop(root)
    shop.run("run", "events")
    return shop


@pytest.fixture
def users(ready: Shop, tmp_path: Path) -> Shop:
    return copied(ready, tmp_path / "users")


def copied(shop: Shop, root: Path) -> Shop:
    shutil.copytree(shop.root, root)
    return Shop(root)


STATE = f"""
import hashlib, json, sys
import pyarrow as pa, pyarrow.parquet as pq
import headway as hw

def digest(table):
    return hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest()

with hw.load(sys.argv[1]) as p:
    rows = p.online.read("activity", {{"user_id": list(range({USERS}))}})
    checked = p.features.verify("activity", sample=0)[0]
    lake, tables = p.parts.lake, {{}}
    for name in lake.tables():
        if name.startswith("features/"):
            found = pa.concat_tables([pq.read_table(file, partitioning=None) for file in lake.files(name)])
            tables[name] = [len(found), digest(found.sort_by([("user_id", "ascending"), ("_as_of", "ascending")]))]
    left = [path.name for path in (p.settings.home / "spill").iterdir() if path != p.parts.workspace.scratch.path]
    print(json.dumps({{"online": digest(rows), "as_of": str(rows["_as_of"][0]), "entities": checked.entities,
        "differences": checked.differences, "tables": tables, "left": left}}))
"""


def state(shop: Shop) -> dict[str, Any]:
    """What is online and in the lake, and what somebody left. Told by a process of its own, as the project patches
    headway."""
    script = [sys.executable, "-c", STATE, str(shop.root)]
    told = subprocess.run(script, env=environment(), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout)
    assert (found["differences"], found["left"]) == ({}, [])
    return found


def killed_often(warm: Warm, shop: Shop, arguments: list[str], seed: int) -> None:
    """Run a command until it was killed so many times, each time going on from where it was killed."""
    begun, chance = shop.root.parent / "begun", random.Random(seed)
    shutil.copytree(shop.root, begun)
    start = time.monotonic()
    warm.run(copied(shop, shop.root.parent / "measured"), arguments)
    longest, killed = time.monotonic() - start, 0
    while killed < KILLS:
        if warm.run(shop, arguments, longest * (0.3 + 0.7 * chance.random())):
            killed += 1
        else:
            shutil.rmtree(shop.root)
            shutil.copytree(begun, shop.root)
    warm.run(shop, arguments)


@pytest.fixture(scope="module")
def whole(ready: Shop, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an unbroken run gives."""
    shop = copied(ready, tmp_path_factory.mktemp("whole") / "users")
    warm.run(shop, ["features", "materialize"])
    warm.run(shop, BACKFILL)
    return state(shop)


BACKFILL = ["features", "backfill", "activity", "--since", to_iso(END - 24 * HOUR), "--until", to_iso(END)]


def test_materialize_that_is_killed(users: Shop, warm: Warm, whole: dict[str, Any]) -> None:
    killed_often(warm, users, ["features", "materialize"], 1)
    found = state(users)
    assert found | {"tables": whole["tables"]} == whole
    assert found["entities"] > 0.9 * USERS


def test_backfill_that_is_killed(users: Shop, warm: Warm, whole: dict[str, Any]) -> None:
    warm.run(users, ["features", "materialize"])
    killed_often(warm, users, BACKFILL, 2)
    found = state(users)
    assert len(found["tables"]) == 1
    assert found == whole


def test_two_at_once(users: Shop, whole: dict[str, Any]) -> None:
    """An older and a newer refresh, and the same slices of a backfill; whoever comes last, the same is left."""
    commands = [
        ["features", "materialize"],
        ["features", "materialize", "--until", to_iso(END - HOUR)],
        ["features", "materialize", "--full"],
        BACKFILL,
        BACKFILL,
    ]
    under_way = [
        subprocess.Popen(users.command(*c), cwd=users.root, env=environment(), stderr=subprocess.PIPE) for c in commands
    ]
    for process in under_way:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert state(users) == whole


def test_rows_known_since_a_moment(users: Shop) -> None:
    before = users.run("features", "materialize", "--until", to_iso(END - 2 * HOUR), "--json").json()[0]
    assert before["outcome"] == "full"
    changed = users.run("features", "materialize", "--since", to_iso(END - 3 * HOUR), "--json").json()[0]
    assert changed["outcome"] == "changed"
    assert 0 < changed["written"] < before["written"]
    assert state(users)["as_of"].startswith("2024-03-01 00:00")
    refused = users.run("features", "materialize", "--since", to_iso(END), "--full", code=2)
    assert "--full writes every entity and --since some" in refused.err
    users.edit("headway.toml", "clock", 'memory_limit = "100MB"\nclock')
    assert "memory_limit = '100MB' is too little" in users.run("features", "materialize", code=1).err
