"""How much a page asks of the metadata: as many queries for thousands of runs and versions as for a few."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import sqlalchemy as sa
from tests.console.browser import Browser
from tests.console.shop import opened
from tests.project import Shop, copy, finished

from headway.metadata import Metadata

MODEL = "delivery"
SEED = Path(__file__).resolve().parents[2] / "benchmarks" / "seed.py"


def seed() -> ModuleType:
    """The benchmark's way to fill a database."""
    if "seed" not in sys.modules:
        spec = importlib.util.spec_from_file_location("seed", SEED)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["seed"] = importlib.util.module_from_spec(spec)  # its dataclasses look for it there
        spec.loader.exec_module(sys.modules["seed"])
    return sys.modules["seed"]


def grow(metadata: Metadata, *, runs: int, versions: int) -> None:
    filler = seed()
    template = metadata.versions.get(MODEL, 1)
    assert template is not None
    figures = {f"city_{i}": dict(template.metrics) for i in range(20)}
    volume = filler.Volume(
        runs=runs, steps=4, versions=versions, models=versions // 20, segments=20, decisions=versions // 4,
        windows=4 if versions < 500 else 27, columns=3, alerts=versions, audit=runs,
    )  # fmt: skip
    filler.fill(metadata, volume, template=msgspec.structs.replace(template, segment_metrics=figures))


def pages(metadata: Metadata) -> list[str]:
    run = metadata.runs.list(limit=1)[0].id - 30
    last = metadata.versions.next_version(MODEL) - 1
    return [
        "/",
        "/?q=city_1&sort=-figure",
        "/models",
        f"/models/{MODEL}",
        f"/models/{MODEL}/versions/{last}",
        f"/models/{MODEL}/compare?a={last // 2}&b={last}",
        f"/models/{MODEL}/promote",
        f"/models/{MODEL}/rollback",
        "/features",
        "/features/sales",
        "/data",
        "/data/orders",
        "/runs",
        "/runs?status=failed",
        f"/runs/{run}",
        "/runs/new?target=delivery",
        "/schedules",
        "/monitoring",
        f"/monitoring/{MODEL}",
        f"/monitoring/{MODEL}/figure?kind=drift&name=column_2",
        "/alerts",
        "/alerts/1",
        "/decisions",
        "/search?q=deli",
    ]


def queries(metadata: Metadata, browser: Browser, path: str) -> int:
    """How many statements the second request of a page sends."""
    assert browser.get(path).status == 200, path
    engine, sent = metadata._database.engine, []

    def count(*arguments: object) -> None:
        if not str(arguments[2]).startswith("BEGIN"):
            sent.append(arguments[2])

    sa.event.listen(engine, "before_cursor_execute", count)
    try:
        browser.get(path)
    finally:
        sa.event.remove(engine, "before_cursor_execute", count)
    return len(sent)


def asked(shop: Shop, *, runs: int, versions: int) -> dict[str, int]:
    """Page → how many queries it takes over so much."""
    with contextlib.contextmanager(opened)(shop) as project:
        grow(project.metadata, runs=runs, versions=versions)
        paths = pages(project.metadata)
        return {re.sub(r"\d+", "N", path): queries(project.metadata, project.browser, path) for path in paths}


def test_no_page_asks_more_often_where_there_is_more(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, shop = tmp_path_factory.mktemp("queries"), finished(tmp_path_factory)
    few = asked(copy(shop, folder / "few"), runs=100, versions=100)
    many = asked(copy(shop, folder / "many"), runs=2_000, versions=1_000)
    assert few.keys() == many.keys()
    assert {path: (few[path], many[path]) for path in few if many[path] > few[path]} == {}
    assert max(many.values()) <= 16, many
