"""SIGKILL at any moment, and again, and again: running it to the end gives what an unbroken run gives."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import project
from tests.project import SHOPS, Shop, forget_package, kill_group

import headway as hw
from headway.data.lake import open_lake

KILLS = 14  # in each of three chains


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
        lake = {table: rows(shop, table) for table in open_lake(opened.settings.lake_uri).tables()}
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
    import pyarrow.parquet as pq

    files = open_lake(str(shop.home / "lake")).files(table)
    return sorted(str(row) for file in files for row in pq.read_table(file, partitioning=None).to_pylist())


def leftovers(shop: Shop) -> list[str]:
    """What killed processes left behind and nobody took away."""
    staging = shop.home / "artifacts/.staging"
    found = [str(f.name) for f in staging.iterdir()] if staging.is_dir() else []
    return sorted(found + [str(f.relative_to(shop.home)) for f in shop.home.rglob("*.tmp")])


def kill_often(shop: Shop, arguments: tuple[str, ...], moments: Iterator[float]) -> int:
    """Start a command and kill it, over and over; returns how often it was killed before it came to its end."""
    killed = 0
    for moment in moments:
        process = shop.start(*arguments)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            killed += 1
        finally:
            kill_group(process)
    return killed


def spread(longest: float, seed: int) -> Iterator[float]:
    """Moments from early to late, so that a chain gets further each time; and never the same distance apart."""
    chance = random.Random(seed)
    return (longest * (0.15 + 0.85 * (n + chance.random()) / KILLS) for n in range(KILLS))


def duration(shop: Shop, *arguments: str) -> float:
    begun = time.monotonic()
    shop.run(*arguments)
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return state(project.finished(tmp_path_factory))


def test_run_from_nothing(empty: Shop, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    longest = duration(project.copy(empty, tmp_path / "measured" / "shop"), "run")
    killed = kill_often(empty, ("run",), spread(longest, 1))
    assert killed >= KILLS // 2
    empty.run("run")
    assert state(empty) == unbroken


def test_train(shop: Shop, tmp_path: Path) -> None:
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 1.0')
    whole = project.copy(shop, tmp_path / "whole" / "shop")
    longest = duration(whole, "train", "delivery")
    whole.run("run")
    killed = kill_often(shop, ("train", "delivery"), spread(longest, 2))
    assert killed >= KILLS // 2
    shop.run("train", "delivery")
    shop.run("run")
    assert state(shop) == state(whole)


def test_materialize(shop: Shop, tmp_path: Path) -> None:
    shop.edit("headway.toml", project.NOW, "2024-03-02T00:30:00Z")
    whole = project.copy(shop, tmp_path / "whole" / "shop")
    longest = duration(whole, "features", "materialize", "--full")
    killed = kill_often(shop, ("features", "materialize", "--full"), spread(longest, 3))
    assert killed >= KILLS // 2
    shop.run("features", "materialize", "--full")
    assert state(shop) == state(whole)
