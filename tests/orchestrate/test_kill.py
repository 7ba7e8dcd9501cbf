"""SIGKILL at any moment, and again, and again: running it to the end gives what an unbroken run gives."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests import project
from tests.orchestrate.killed import Warm
from tests.project import SHOPS, Shop, forget_package

import headway as hw
from headway.data.lake import open_lake

KILLS = 10  # in each of three chains


def state(shop: Shop) -> dict[str, Any]:
    """What a project's environment comes to, moments and run ids aside."""
    forget_package()
    with hw.load(shop.root) as opened:
        versions = [
            (v.version, v.digest, v.data_digest, v.metrics, v.baseline, v.params, sorted(v.files))
            for v in opened.models.versions("delivery")
        ]
        log = [(d.action, d.version, d.segment, d.why, d.figures) for d in opened.models.log("delivery")]
        keys = {"shop_id": list(range(SHOPS + 1))}
        online = {view: opened.online.read(view, keys).to_pylist() for view in ("sales", "footfall")}
        tables = open_lake(opened.settings.lake_uri).tables()
        lake = {table: rows(shop, table) for table in tables if not table.startswith("checks/")}
        # Checks that were done, but not noted before the kill, are done and told of again.
        lake |= {table: sorted(set(rows(shop, table))) for table in tables if table.startswith("checks/")}
        verified = [(r.view, r.entities, r.differences) for r in opened.features.verify()]
        predicted = opened.predict("delivery", {"shop_id": [0, 4], "distance": [1.0, 9.0]})["prediction"].to_pylist()
        stale = [i for i in opened.plan() if i.stale]
        told = [opened.models.mlflow_run(v) is not None for v in opened.models.versions("delivery")]
    assert all(not differences for _, _, differences in verified)
    return {
        "versions": versions,
        "log": log,
        "online": online,
        "lake": lake,
        "verified": verified,
        "predicted": predicted,
        "stale": stale,
        "mlflow": told,
        "left": leftovers(shop),
    }


def rows(shop: Shop, table: str) -> list[str]:
    files = open_lake(str(shop.home / "lake")).files(table)
    return sorted(str(row) for file in files for row in pq.read_table(file, partitioning=None).to_pylist())


def leftovers(shop: Shop) -> list[str]:
    """What killed processes left behind and nobody took away."""
    staging = shop.home / "artifacts/.staging"
    found = [str(f.name) for f in staging.iterdir()] if staging.is_dir() else []
    return sorted(found + [str(f.relative_to(shop.home)) for f in shop.home.rglob("*.tmp")])


def kill_often(warm: Warm, shop: Shop, arguments: Sequence[str], longest: float, seed: int) -> None:
    """Run a command and kill it, over and over, each time going on from where it was killed.

    One that came to its end starts anew from where the chain began. The chain ends with a kill.
    """
    begun, chance, killed = shop.root.parent / "begun", random.Random(seed), 0
    shutil.copytree(shop.root, begun)
    while killed < KILLS:
        if warm.run(shop, arguments, longest * chance.random()):
            killed += 1
        else:
            shutil.rmtree(shop.root)
            shutil.copytree(begun, shop.root)


def duration(warm: Warm, shop: Shop, *arguments: str) -> float:
    begun = time.monotonic()
    warm.run(shop, arguments)
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return state(project.finished(tmp_path_factory))


def test_run_from_nothing(warm: Warm, empty: Shop, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    longest = duration(warm, project.copy(empty, tmp_path / "measured" / "shop"), "run")
    kill_often(warm, empty, ["run"], longest, 1)
    warm.run(empty, ["run"])
    assert state(empty) == unbroken


def test_train(warm: Warm, shop: Shop, tmp_path: Path) -> None:
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 1.0')
    whole = project.copy(shop, tmp_path / "whole" / "shop")
    longest = duration(warm, whole, "train", "delivery")
    warm.run(whole, ["run"])
    kill_often(warm, shop, ["train", "delivery"], longest, 2)
    warm.run(shop, ["train", "delivery"])
    warm.run(shop, ["run"])
    assert state(shop) == state(whole)


def test_materialize(warm: Warm, shop: Shop, tmp_path: Path) -> None:
    shop.edit("headway.toml", project.NOW, "2024-03-02T00:30:00Z")
    whole = project.copy(shop, tmp_path / "whole" / "shop")
    longest = duration(warm, whole, "features", "materialize", "--full")
    kill_often(warm, shop, ["features", "materialize", "--full"], longest, 3)
    warm.run(shop, ["features", "materialize", "--full"])
    assert state(shop) == state(whole)
