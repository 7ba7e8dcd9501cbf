"""Projects for the console's tests: one with a history, and one where nothing has happened yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.console.browser import Browser
from tests.project import Shop, build, copy, finished, forget_package

from headway.console import create_app
from headway.console._workspace import Workspace
from headway.metadata import Metadata
from headway.settings import load_settings

FLOWS = """
from datetime import date
from typing import Literal

import headway as hw

from shop.models import delivery


@hw.step
def work(city: str, days: int) -> list[int]:
    return [1, 2, 3]


@hw.pipeline(schedule="0 5 * * *", timezone="Europe/Lisbon")
def publish(city: Literal["lisbon", "turin"], days: int = 7, since: date | None = None):
    '''Hand the orders to the city.

    days: how many days to publish
    '''
    return work(city, days)


nightly = hw.BatchPrediction("nightly", model=delivery, input=delivery.label.source, output="lake:n", schedule="0 4 * * *")
"""


@dataclass(frozen=True)
class Opened:
    """A project on disk with its console."""

    shop: Shop
    workspace: Workspace
    browser: Browser

    @property
    def metadata(self) -> Metadata:
        return self.workspace.project.parts.metadata


def opened(shop: Shop) -> Iterator[Opened]:
    forget_package()
    workspace = Workspace(load_settings(shop.root))
    yield Opened(shop, workspace, Browser(create_app(workspace)))
    workspace.close()
    forget_package()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The shop after a run, with a pipeline, schedules and a check that sets rows aside."""
    shop = copy(finished(tmp_path_factory), tmp_path_factory.mktemp("console") / "shop")
    (shop.root / "shop/flows.py").write_text(FLOWS)
    shop.edit("shop/sources.py", 'hw.between("minutes", 0, 36000', 'hw.between("minutes", 900, 36000')
    shop.call("run", "sales")
    yield from opened(shop)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The shop as somebody has just written it: nothing was run."""
    yield from opened(build(tmp_path_factory.mktemp("console") / "empty"))
