"""A real browser, and a shop whose `headway up` it looks at: two versions, a pipeline, alerts and figures."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, expect, sync_playwright
from tests.console.test_up import up
from tests.console.test_views import BINS, figure
from tests.project import Shop, copy, finished

from headway.define.watch_records import Alert
from headway.metadata import open_metadata
from headway.settings import load_settings

OPERATOR, READER = "the-operator-token", "the-reader-token"
PATIENCE = 30_000  # milliseconds that anything may take to appear; machines that test are busy
CHROMIUM = os.environ.get("HEADWAY_CHROMIUM")  # before a fixture takes our settings out of the environment
GO = "go.txt"  # a step waits for this file: a run goes on for as long as a test wants to watch it

FLOWS = f'''
import time
from pathlib import Path
from typing import Literal

import headway as hw

ROOT = Path(__file__).parent.parent


@hw.step
def days_of(days: int) -> list[int]:
    """The days to publish."""
    return list(range(days))


@hw.step(retries=2, backoff="10ms")
def export(day: int, city: str) -> str:
    """One day; the first attempt of the first one finds the line busy."""
    busy = ROOT / f"busy-{{city}}"
    if day == 0 and not busy.exists():
        busy.touch()
        raise ConnectionError("the line was busy")
    return f"{{city}}-{{day}}"


@hw.step(cache=False)
def hand_over(parts: list[str], city: str) -> int:
    """Tell the city; waits until somebody has opened the door."""
    print(f"at the door of {{city}} with {{len(parts)}} parts", flush=True)
    while not (ROOT / "{GO}").exists():
        time.sleep(0.01)
    print("the door is open", flush=True)
    return len(parts)


@hw.pipeline(schedule="0 5 * * *", timezone="Europe/Lisbon")
def publish(city: Literal["lisbon", "turin"] = "lisbon", days: int = 2):
    """Hand the orders to the city.

    days: how many days to publish
    """
    hand_over(export(each={{"day": days_of(days)}}, city=city), city)
'''


@dataclass
class Site:
    """The console of a running `headway up`, with the project behind it."""

    shop: Shop
    url: str
    client: Any

    def version(self) -> str:
        """The version that answers, asked over the prediction API on the same port."""
        body = {"entities": {"shop_id": 1}, "features": {"distance": 2.5}}
        answer = self.client.post("/v1/models/delivery/predict", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["rows"]["version"][0])

    def pages(self) -> list[str]:
        """One address of every page that there is."""
        run = self.runs("publish")[0]
        return [
            "/",
            "/models",
            "/models/delivery",
            "/models/delivery/versions/2",
            "/models/delivery/versions/1/files/train.log",
            "/models/delivery/compare?a=1&b=2",
            "/models/delivery/promote?version=2",
            "/models/delivery/rollback",
            "/features",
            "/features/sales",
            "/data",
            "/data/orders",
            "/runs",
            "/runs?status=failed",
            f"/runs/{run}",
            f"/runs/{run}?of=export&step=hand_over",
            "/runs/new",
            "/runs/new?target=publish",
            "/runs/new?target=delivery",
            "/runs/new/plan?target=delivery",
            "/schedules",
            "/schedules/pipeline:publish",
            "/monitoring",
            "/monitoring/delivery",
            "/monitoring/delivery?segment=turin",
            "/monitoring/delivery/figure?kind=drift&name=distance",
            "/alerts",
            "/alerts?state=resolved",
            "/alerts/1",
            "/decisions",
            "/search?q=del",
            "/login",
            "/no-such-page",
        ]

    def runs(self, name: str) -> list[int]:
        """The runs of something, newest first."""
        settings = load_settings(self.shop.root)
        with open_metadata(settings.metadata_url, settings.project, settings.env) as metadata:
            return [run.id for run in metadata.runs.list(name=name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A shop with a history, and its `headway up` with an operator's and a reader's token."""
    shop = copy(finished(tmp_path_factory), tmp_path_factory.mktemp("browser") / "shop")
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 10.0')
    (shop.root / "shop/flows.py").write_text(FLOWS)
    shop.call("train", "delivery")
    (shop.root / GO).touch()
    shop.call("run", "publish")
    settings = load_settings(shop.root)
    with open_metadata(settings.metadata_url, settings.project, settings.env) as metadata:
        for number, column in enumerate(("distance", "minutes", "city")):
            metadata.alerts.found(_alert(column), at=1_709_000_000_000_000 + number)
        metadata.figures.put(list(_figures()), at=0)
    tokens = {"HEADWAY_CONSOLE_OPERATOR_TOKEN": OPERATOR, "HEADWAY_CONSOLE_READER_TOKEN": READER}
    with up(shop, **tokens) as running:
        running.wait_for("/readyz")
        yield Site(shop, str(running.client.base_url), running.client)


def _alert(column: str) -> Alert:
    return Alert(
        key=f"delivery/drift/{column}",
        model="delivery",
        kind="drift",
        title=f"{column} has drifted",
        text=f"{column}: values above 7 make up 28 % of the rows instead of 8 %",
        runbook="https://example.org/runbooks/drift",
        details={"effect": 0.31, "rows": 900},
    )


def _figures() -> Iterator[Any]:
    """Twenty weeks, the last of them with an alarm for all and one for a segment."""
    for week in range(2800, 2820):
        last = week == 2819
        found = [
            figure(week, "distance", alarm=last, details={**BINS, "moved": "high"}),
            figure(week, "distance", "missing", statistic=0.01),
            figure(week, "mae", "performance", statistic=160.0 + week - 2800),
            figure(week, "mae", "estimate", statistic=161.0),
            figure(week, "rows", "volume", statistic=900.0, threshold=None),
        ]
        yield from (msgspec.structs.replace(f, model="delivery", version=1) for f in found)
        of_turin = figure(week, "shop_id", alarm=last)
        yield msgspec.structs.replace(of_turin, model="delivery", version=1, segment="turin")


# The browser ---------------------------------------------------------------------------------------------------------


def executable(playwright: Playwright) -> str | None:
    """A Chromium of this machine: the one that is asked for, an installed one, or Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = CHROMIUM or next(filter(None, map(shutil.which, names)), None) or playwright.chromium.executable_path
    return found if Path(found).exists() else None


def launch(playwright: Playwright) -> Browser | None:
    """The browser without a window; None where there is none."""
    path = executable(playwright)
    arguments = ["--disable-background-networking", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return playwright.chromium.launch(executable_path=path, args=arguments) if path else None


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Alive for one module only: beside it, asyncio would find an event loop that runs."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            pytest.skip("no Chromium: none is installed, and HEADWAY_CHROMIUM names none")
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a browser complained of, and where it went."""

    host: str
    expected: set[int] = field(default_factory=set)  # statuses of answers that a test asks for on purpose
    wrong: list[str] = field(default_factory=list)

    def on(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.wrong.append(f"script: {error.error}"))
        context.on("requestfailed", self._failed)
        context.on("request", self._asked)

    def _console(self, message: Any) -> None:
        if message.type not in ("error", "warning"):
            return
        status = re.search(r"the server responded with a status of (\d+)", message.text)
        if status is None or int(status[1]) not in self.expected:
            self.wrong.append(f"console: {message.text} ({message.location.get('url')})")

    def _failed(self, request: Any) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # what a page still waited for when the reader went on
            self.wrong.append(f"failed: {request.url} {request.failure}")

    def _asked(self, request: Any) -> None:
        where = urlsplit(request.url)
        if where.scheme not in ("data", "blob") and where.netloc != self.host:
            self.wrong.append(f"left the host: {request.url}")


Visit = Callable[..., Page]


@pytest.fixture
def visit(chromium: Browser, site: Site) -> Iterator[Visit]:
    """Opens a page in a browser of its own, logged in with a token; at the end nothing may have gone wrong in it."""
    opened: list[tuple[BrowserContext, Watch]] = []

    def visit(token: str = OPERATOR, *, expected: tuple[int, ...] = (), **options: Any) -> Page:
        context = chromium.new_context(base_url=site.url, locale="en-GB", **options)
        context.set_default_timeout(PATIENCE)
        watch = Watch(urlsplit(site.url).netloc, set(expected))
        watch.on(context)
        opened.append((context, watch))
        page = context.new_page()
        page.goto("/login")
        page.get_by_label("Token").fill(token)
        page.get_by_label("Your name").fill("ana")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Production")
        return page

    yield visit
    for context, watch in opened:
        context.close()
        assert not watch.wrong, watch.wrong


def tab_to(target: Locator) -> None:
    """Press Tab until something is focused."""
    for _ in range(120):
        target.page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab never reaches {target}")
