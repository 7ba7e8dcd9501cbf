"""Every page of the console over years of records, on SQLite and on PostgreSQL; what the first page weighs, and how
soon a browser has painted the production table.

The project is small and has really run once; the records are those of `seed.py`: 100 000 runs with a million steps,
5 000 versions of one model, which answers in 300 segments.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import seed
from harness import CLIENT, SERVER, Section, answer, figure, median, p99, rounds, server

ROOT = Path(__file__).resolve().parent.parent
MODEL, SEGMENTS, TIMES, PAINTS = "trip_duration", 300, 40, 15
PAINTED, EMPTY = f"/?q={MODEL}", "/login"  # the model's own row and those of its segments; next to nothing
LIMIT_MS, LIMIT_KB, LIMIT_PAINT_MS = 150, 100, 300
_DAY = 86_400_000_000
_NOW = seed.NOW

FILES = {
    "headway.toml": """
[project]
name = "trips"
definitions = "flow"

[env.local]
clock = "2025-12-01T00:00:00Z"

[env.postgresql]
clock = "2025-12-01T00:00:00Z"
""",
    "flow/__init__.py": """
import headway as hw

trips = hw.Source("trips", path="trips.parquet", id="trip_id", timestamp="at", checks=[hw.not_null("zone_id")])
zone = hw.Entity("zone", key="zone_id")
traffic = hw.FeatureView(
    "traffic", source=trips, entity=zone, refresh="1h",
    features={"trips_7d": hw.count(window="7d"), "minutes_7d": hw.mean("minutes", window="7d")},
)


def ridge():
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    return make_pipeline(SimpleImputer(), Ridge())


trip_duration = hw.Model(
    "trip_duration", label=hw.Label(trips, "minutes"), features=[traffic, hw.Request("miles", "double")],
    estimator=ridge, metrics=["mae", "rmse"], split=hw.TimeSplit(test="7d"), schedule="0 3 * * *",
)


@hw.step
def export(city: str, days: int) -> str:
    return city * days


@hw.pipeline(schedule="0 5 * * *")
def publish_0(city: str = "lisbon", days: int = 7):
    export(city, days)
""",
}


@dataclass(frozen=True)
class Measured:
    """Seconds of every request, by page."""

    taken: dict[str, list[float]]

    def slowest(self) -> tuple[str, float]:
        """The page with the greatest median, in milliseconds."""
        return max(((page, 1e3 * median(found)) for page, found in self.taken.items()), key=lambda each: each[1])

    def worst(self) -> tuple[str, float]:
        """The page with the greatest 99th percentile, in milliseconds."""
        return max(((page, 1e3 * p99(found)) for page, found in self.taken.items()), key=lambda each: each[1])


# The project ---------------------------------------------------------------------------------------------------------


def build(root: Path) -> None:
    """Write the project with some trips of the last month."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.lstrip("\n"))
    random, rows = np.random.default_rng(3), 2_000
    at = pa.array(np.sort(_NOW - random.integers(0, 30 * _DAY, rows))).cast(pa.timestamp("us", "UTC"))
    miles = random.uniform(0.5, 9, rows)
    trips = {"trip_id": range(rows), "at": at, "zone_id": random.integers(0, 200, rows), "miles": miles}
    pq.write_table(pa.table({**trips, "minutes": 4 + 3 * miles + random.normal(0, 1, rows)}), root / "trips.parquet")


def fill(root: Path, env: str, url: str, volume: seed.Volume) -> int:
    """Run the project once, then add years of records; the id of the newest run."""
    from headway.metadata import open_metadata
    from headway.settings import load_settings

    _headway(root, env, url, "run")
    settings = load_settings(root, env)
    with open_metadata(url, settings.project, settings.env) as metadata:
        record = metadata.versions.get(MODEL, 1)
        assert record is not None
        figures = {f"city_{i}": {"mae": 1.0 + i / 100, "rmse": 2.0 + i / 100} for i in range(volume.segments)}
        seed.fill(metadata, volume, template=msgspec.structs.replace(record, segment_metrics=figures))
        return metadata.runs.list(limit=1)[0].id


def _headway(root: Path, env: str, url: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headway", *arguments, "-e", env],
        cwd=root, env={**os.environ, "HEADWAY_METADATA": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"headway {' '.join(arguments)} failed:\n{done.stderr}")


def serve(root: str, env: str, url: str) -> None:
    """The console as `headway up` has it, without the predictions beside it."""
    import socket

    import uvicorn

    os.environ["HEADWAY_METADATA"] = url
    from headway.console import create_app
    from headway.settings import load_settings

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    app = create_app(load_settings(root, env))
    print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)).run([listener])


def pages(newest: int, volume: seed.Volume) -> dict[str, str]:
    """The pages by what they are called in the table. ``newest`` is the id of the newest run."""
    middle, last = newest - volume.runs // 2, volume.versions
    return {
        "production": "/",
        "production, filtered and sorted": "/?q=city_1&sort=-figure",
        "models": "/models",
        "model": f"/models/{MODEL}",
        "model, older versions": f"/models/{MODEL}?before={last // 2}",
        "version": f"/models/{MODEL}/versions/{last}",
        "two versions": f"/models/{MODEL}/compare?a={last // 2}&b={last}",
        "promote": f"/models/{MODEL}/promote",
        "roll back": f"/models/{MODEL}/rollback?segment=city_2",
        "features": "/features",
        "feature view": "/features/traffic",
        "data": "/data",
        "source": "/data/trips",
        "runs": "/runs",
        "runs, failed": "/runs?status=failed",
        "runs of one name, older": f"/runs?name={MODEL}&before={middle}",
        "run": f"/runs/{middle}",
        "start a run": "/runs/new?target=publish_0",
        "schedules": "/schedules",
        "schedule": f"/schedules/model:{MODEL}",
        "monitoring": "/monitoring",
        "monitoring of a model": f"/monitoring/{MODEL}",
        "a figure over time": f"/monitoring/{MODEL}/figure?kind=drift&name=column_2",
        "alerts": "/alerts",
        "alerts, resolved": "/alerts?state=resolved",
        "alert": "/alerts/1",
        "decisions": "/decisions",
        "decisions, filtered": "/decisions?q=user_7+promote",
        "search": "/search?q=trip",
    }


# What is measured ----------------------------------------------------------------------------------------------------


class Asking:
    """A connection that stays open, as a browser's does."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str) -> bytes:
        """The body as it came over the wire, compressed."""
        self._connection.request("GET", path, headers={"accept-encoding": "gzip", "accept": "text/html"})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"{path} answers {response.status}")
        return body


def timed(port: int, wanted: dict[str, str], times: int) -> Measured:
    """Every page some times, in turns; the first round is not counted."""
    asking = Asking(port)
    taken: dict[str, list[float]] = {name: [] for name in wanted}
    for number in range(times + 1):
        for name, path in wanted.items():
            begin = perf_counter()
            asking.get(path)
            if number:
                taken[name].append(perf_counter() - begin)
    return Measured(taken)


def weight(port: int) -> tuple[float, float]:
    """kB (10³ bytes) over the wire of a browser's first visit to the first page: of the page, and of its files."""
    asking = Asking(port)
    page = asking.get("/")
    html = gzip.decompress(page).decode()
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', html)
    return len(page) / 1e3, sum(len(asking.get(file)) for file in dict.fromkeys(files)) / 1e3


def paints(port: int, most: int) -> dict[str, list[float]]:
    """Path → milliseconds from the request to the first contentful paint, each in a browser that has nothing cached.
    Nothing, with the reason on stderr, where there is no browser."""
    try:
        from playwright.sync_api import sync_playwright

        _find_tests()
        from tests.console.chromium import launch
    except ImportError as error:
        print(f"paints are left out: {error}", file=sys.stderr)
        return {}
    found: dict[str, list[float]] = {PAINTED: [], EMPTY: []}
    with sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            print("paints are left out: no Chromium is installed, and HEADWAY_CHROMIUM names none", file=sys.stderr)
            return {}
        for number in rounds(most + 1, 60):
            for path, taken in found.items():
                context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
                page = context.new_page()
                page.goto(f"http://127.0.0.1:{port}{path}", wait_until="load")
                page.wait_for_function(f"{_PAINT}.length > 0")
                assert path == EMPTY or page.locator("#production tbody tr").count() > SEGMENTS
                if number:  # the first one starts the browser's own processes
                    taken.append(float(page.evaluate(f"{_PAINT}[0].startTime")))
                context.close()
        browser.close()
    return found


_PAINT = "performance.getEntriesByName('first-contentful-paint')"


def _find_tests() -> None:
    """Tests start browsers and databases already."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


@contextmanager
def postgresql() -> Iterator[str | None]:
    """The URL of an empty database of a server of our own; None, with the reason on stderr, where there is none."""
    _find_tests()
    from tests.databases import running

    with running() as found:
        if found.url is None:
            print(f"PostgreSQL is left out: {found.reason}", file=sys.stderr)
        yield f"{found.url}/postgres" if found.url else None


def measure(directory: Path, quick: bool) -> Section:
    volume = seed.Volume(runs=2_000, versions=200) if quick else seed.Volume()
    section = Section(
        f"Pages of the console over {figure(volume.runs)} runs and {figure(volume.versions)} versions of one model",
        ("", "SQLite, median ms", "p99 ms", "PostgreSQL, median ms", "p99 ms"),
        note=(
            f"{figure(volume.runs * volume.steps)} steps, {volume.models} further models, {SEGMENTS} segments in the "
            f"production table. Each page over HTTP on an open connection, compressed, {5 if quick else TIMES} times "
            "in turns; one core for the console, the other for the client and PostgreSQL. Paints are those of a "
            "Chromium that has nothing cached, counted from its request; floor: the page to log in, almost empty."
        ),
    )
    build(directory)
    with postgresql() as url:
        databases = {"local": f"sqlite:///{directory}/metadata.db"} | ({"postgresql": url} if url else {})
        found = {}
        for env, place in databases.items():
            newest = fill(directory, env, place, volume)
            with server(__file__, "serve", str(directory), env, place, cores=SERVER) as port:
                with _on(CLIENT):
                    found[env] = timed(port, pages(newest, volume), 5 if quick else TIMES)
                if env == "local":
                    weighs, painted = weight(port), paints(port, 3 if quick else PAINTS)
    for name in found["local"].taken:
        section.rows.append((name, *(text for env in ("local", "postgresql") for text in _cells(found.get(env), name))))
    for env, label in (("local", "SQLite"), ("postgresql", "PostgreSQL")):
        if env in found:
            page, slowest = found[env].worst()
            section.judge(f"slowest p99, ms, {label} ({page})", slowest, f"≤ {LIMIT_MS}", slowest <= LIMIT_MS)
    total = sum(weighs)
    section.judge(f"kB of the first page, {figure(weighs[0])} of it HTML", total, f"≤ {LIMIT_KB}", total <= LIMIT_KB)
    if painted:
        paint, floor = median(painted[PAINTED]), median(painted[EMPTY])
        section.judge(
            f"ms to the first contentful paint of {SEGMENTS} segments (floor: {figure(floor)})", paint,
            f"≤ {LIMIT_PAINT_MS}", paint <= LIMIT_PAINT_MS,
        )  # fmt: skip
    return section


def _cells(found: Measured | None, page: str) -> Sequence[str]:
    if found is None:
        return ("–", "–")
    return figure(1e3 * median(found.taken[page])), figure(1e3 * p99(found.taken[page]))


@contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """Keep this process to some cores meanwhile."""
    before = os.sched_getaffinity(0) if cores else set()
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, before)


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"serve": serve})
