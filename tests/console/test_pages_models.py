"""Production, models, versions, decisions, alerts and search, on a project with a history and on one without."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest
import sqlalchemy as sa
from tests.console.shop import Opened, empty, opened
from tests.project import copy, finished

from headway.define.records import VersionRecord
from headway.define.watch_records import Alert, Figure

__all__ = ["empty"]

LISTS = ("/", "/models", "/decisions", "/alerts", "/search?q=deliv")
EVIL = "<script>alert('x')</script>"
NOW = 1_709_253_000_000_000
SEGMENTS = [f"zone_{n:03}" for n in range(300)]


def versions(base: VersionRecord, model: str, count: int) -> list[VersionRecord]:
    """Records without files: what the metadata of a long-lived project holds."""
    return [
        msgspec.structs.replace(
            base,
            model=model,
            version=n,
            digest=f"{model}{n}",
            metrics={"mae": 300.0 - n, "rmse": 400.0 - n},
            segment_metrics={s: {"mae": 200.0 + n + int(s[-3:])} for s in SEGMENTS} if n > count - 2 else {},
            params={"alpha": n},
            commit=f"{n:040x}",
        )
        for n in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The finished shop, besides it a model with 60 versions and 300 segments, alerts, figures, and a troubled log."""
    for found in opened(copy(finished(tmp_path_factory), tmp_path_factory.mktemp("busy") / "shop")):
        metadata = found.metadata
        for record in versions(metadata.versions.list("delivery")[-1], "trip_duration", 60):
            metadata.versions.add(record)
        decide = metadata.deployments.append
        for version in (59, 60):
            decide(action="promote", model="trip_duration", segment=None, version=version, by="run", at=NOW, why="")
        decide(action="rollback", model="trip_duration", segment="zone_007", version=59, by="ada", at=NOW, why=EVIL)
        for kind, severity in (("drift", "warning"), ("performance", "critical")):
            alert = Alert(
                key=f"trip_duration/{kind}", model="trip_duration", kind=kind, severity=severity, title=EVIL,
                text="PSI 0.3", runbook="javascript:alert(1)",
            )  # fmt: skip
            metadata.alerts.found(alert, NOW)
        figure = Figure(
            model="trip_duration", kind="drift", name="distance", window_start=0, window_end=NOW, n=5, alarm=True
        )
        metadata.figures.put([figure], NOW)
        metadata.audit.append("grace", "pause schedule", "model:delivery", EVIL, at=NOW)
        yield found


@pytest.mark.parametrize("path", LISTS)
def test_every_page_is_whole_and_has_one_heading(busy: Opened, path: str) -> None:
    page = busy.browser.get(path).check()
    assert page.status == 200
    assert len(re.findall(r"<h1[ >]", page.html)) == 1
    assert all(f"<{landmark}" in page.html for landmark in ("header", "nav", "main"))
    assert "On the command line headway " in page.text or path.startswith("/search")


@pytest.mark.parametrize("path", LISTS)
def test_before_anything_was_run_pages_say_what_to_do(empty: Opened, path: str) -> None:
    page = empty.browser.get(path).check()
    assert page.status == 200
    assert "headway " in page.text or "delivery" in page.text


def test_production_has_a_row_for_each_model_and_segment(busy: Opened) -> None:
    page = busy.browser.get("/")
    assert page.html.count("<tr>") == 1 + 1 + 1 + 300  # headings, delivery, trip_duration, its segments
    assert "trip_duration all 60 held" in page.text
    assert "2 alerts" in page.text
    assert "1 alarm" in page.text
    assert "zone_007 59 * held" in page.text
    assert "300 segments" in page.text
    assert "/models/trip_duration/versions/60/files/train.log" in page.links
    assert "/models/trip_duration/rollback?segment=zone_007" not in page.links  # nothing before 59
    assert "/models/trip_duration/rollback?segment=zone_008" in page.links


def test_order_filter_and_page_are_in_the_url(busy: Opened) -> None:
    page = busy.browser.get("/?q=zone_00&sort=-segment")
    shown = re.findall(r"zone_\d{3}(?=</td>)", page.html)
    assert shown == [f"zone_00{n}" for n in range(9, -1, -1)]
    assert 'aria-sort="descending"' in page.html
    assert "/?q=zone_00&sort=segment" in page.links
    assert "Nothing matches" in busy.browser.get("/?q=nothing-like-it").text
    assert busy.browser.get("/?page=99&sort=nonsense&q=%00").status == 200


def test_a_page_asks_the_database_few_questions(busy: Opened) -> None:
    engine = busy.metadata._database.engine
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *said: asked.append(said[2]) if said[2] != "BEGIN" else 0)
    for path, most in (("/", 10), ("/models", 10), ("/models/trip_duration", 16), ("/decisions", 3), ("/alerts", 6)):
        asked.clear()
        assert busy.browser.get(path).status == 200
        assert len(asked) <= most, (path, asked)


def test_the_first_page_weighs_under_100_kb(busy: Opened) -> None:
    page = busy.browser.get("/", **{"accept-encoding": "gzip"})
    needed = [link for link in page.links if link.startswith("/static/")]
    needed += re.findall(r'src="(/static/[^"]+)"', page.html)
    weight = int(page.headers["content-length"])
    for link in needed:
        found = busy.browser.get(link, **{"accept-encoding": "gzip"})
        assert found.status == 200
        assert "immutable" in found.headers["cache-control"]
        weight += int(found.headers["content-length"])
    assert len(needed) == 5
    assert weight < 100_000


@pytest.mark.parametrize(
    "path", ["/", "/models/trip_duration", "/models/trip_duration/rollback", "/decisions", "/alerts", "/alerts/1"]
)
def test_what_people_write_is_text(busy: Opened, path: str) -> None:
    page = busy.browser.get(path)
    assert "<script>" not in page.html
    assert "alert(&#39;x&#39;)" in page.html or "rollback" in path
    assert 'href="javascript' not in page.html


def test_a_filter_is_text_as_well(busy: Opened) -> None:
    for path in ("/", "/decisions", "/alerts", "/search", "/models/trip_duration"):
        page = busy.browser.get(f'{path}?q="><script>alert(1)</script>').check()
        assert "<script>" not in page.html


def test_a_model_lists_versions_page_by_page(busy: Opened) -> None:
    page = busy.browser.get("/models/trip_duration").check()
    assert "/models/trip_duration/versions/60" in page.links
    assert "/models/trip_duration/versions/10" not in page.links
    assert "/models/trip_duration?before=11" in page.links
    older = busy.browser.get("/models/trip_duration?before=11")
    assert "/models/trip_duration/versions/10" in older.links
    assert "Newest" in older.text
    assert "The project does not declare it any more" in page.text
    assert "held since the rollback of zone_007 by ada" in page.text


def test_a_version_says_what_it_is_made_of(busy: Opened) -> None:
    page = busy.browser.get("/models/delivery/versions/1").check()
    for said in ("mae", "baseline", "source/raw_orders@", "ridge__alpha=1,000", "at_request__pace", "headway train"):
        assert said in page.text, said
    assert "/features/sales" in page.links
    log = busy.browser.get("/models/delivery/versions/1/files/train.log").check()
    assert log.status == 200
    assert "<pre" in log.html
    picture = busy.browser.get("/models/delivery/versions/1/files/residuals.png")
    assert picture.headers["content-type"] == "image/png"
    data = busy.browser.get("/models/delivery/versions/1/files/pooled.skops")
    assert data.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("file", ["nope.txt", "..%2F..%2F..%2Fmetadata.db", "%2Fetc%2Fpasswd", "twin"])
def test_only_recorded_files_of_a_version_are_shown(busy: Opened, file: str) -> None:
    page = busy.browser.get(f"/models/delivery/versions/1/files/{file}")
    assert page.status == 404
    assert "has no file" in page.text


def test_versions_side_by_side(busy: Opened) -> None:
    page = busy.browser.get("/models/trip_duration/compare?a=1&b=60").check()
    assert "mae 299 240 −19.73 %" in page.text
    assert "alpha 1 60" in page.text
    assert "commit" in page.text
    assert "Promote 60" not in page.text  # it is live
    assert busy.browser.get("/models/trip_duration/compare").check().status == 200
    same = busy.browser.get("/models/trip_duration/compare?a=60&b=60")
    assert "These are the same version" in same.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nope", "no page at this address"),
        ("/models/nope", "No model is called 'nope'"),
        ("/models/nope/promote", "No model is called 'nope'"),
        ("/models/delivery/versions/99", "has no version 99"),
        ("/models/delivery/compare?a=1&b=99", "has no version 99"),
        ("/alerts/99", "There is no alert 99"),
        ("/alerts/99999999999999999999999", "There is no alert"),
    ],
)
def test_what_is_not_there_is_told_in_words(busy: Opened, path: str, said: str) -> None:
    page = busy.browser.get(path).check()
    assert page.status == 404
    assert said in page.text


def test_decisions_of_both_logs_are_in_one_list(busy: Opened) -> None:
    page = busy.browser.get("/decisions").check()
    assert "pause schedule" in page.text
    assert "rollback" in page.text
    only = busy.browser.get("/decisions?q=grace+pause")
    assert "pause schedule" in only.text
    assert "rollback trip_duration" not in only.text
    assert "Nothing matches" in busy.browser.get("/decisions?q=nobody-did-this").text


def test_decisions_are_paged_without_losing_one(busy: Opened) -> None:
    for n in range(120):
        busy.metadata.audit.append("loop", "start run", f"number {n}", at=NOW - n % 3)
    seen: list[str] = []
    path = "/decisions?q=loop"
    while path:
        page = busy.browser.get(path)
        seen += re.findall(r"number \d+", page.html)
        path = next((link for link in page.links if "before=" in link), "")
    assert sorted(seen) == sorted(f"number {n}" for n in range(120))


@pytest.mark.parametrize(
    ("q", "first"),
    [
        ("deliv", "/models/delivery"),
        ("trip_duration@3", "/models/trip_duration/versions/3"),
        ("trip_duration v59", "/models/trip_duration/versions/59"),
        ("minutes", "/features/sales#minutes_7d"),
        ("footfall", "/features/footfall"),
        ("raw_orders", "/data/raw_orders"),
        ("tdur", "/models/trip_duration"),
        ("what a shop sold", "/features/sales"),
        ("alerts", "/alerts"),
    ],
)
def test_search_finds(busy: Opened, q: str, first: str) -> None:
    part = busy.browser.get(f"/search?q={q}", **{"hx-request": "true"}).check()
    assert part.links[0] == first
    assert "<html" not in part.html
    whole = busy.browser.get(f"/search?q={q}").check()
    assert first in whole.links


def test_search_finds_nothing(busy: Opened) -> None:
    assert "Nothing is called that" in busy.browser.get("/search?q=zzzzzz", **{"hx-request": "true"}).text
    assert busy.browser.get("/search?q=", **{"hx-request": "true"}).text == ""


def test_every_link_leads_somewhere(busy: Opened) -> None:
    """From the first page on, without going through all the segments."""
    seen, waiting = {"/"}, ["/"]
    while waiting:
        path = waiting.pop()
        page = busy.browser.get(path)
        assert page.status == 200, path
        for link in page.links:
            link = link.partition("#")[0]
            like = re.sub(r"\d+|\?.*", "0", re.sub(r"zone_\d+", "zone", link))
            if link.startswith("/") and like not in seen and not link.startswith("/static/") and "/files/" not in link:
                seen.add(like)
                waiting.append(link)
    assert {"/runs", "/features/sales", "/monitoring/delivery", "/alerts/0"} <= seen
