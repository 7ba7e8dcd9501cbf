"""Monitoring: the models, one model with its charts, one figure over all windows."""

from __future__ import annotations

import pytest
from tests.console.shop import Opened, ran
from tests.console.test_views import BINS, figure

from headway.define.watch_records import Alert, Figure

__all__ = ["ran"]


def of_delivery(week: int, *place: str, segment: str | None = None, **more: object) -> Figure:
    import msgspec

    return msgspec.structs.replace(figure(week, *place, **more), model="delivery", version=1, segment=segment)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def watched(ran: Opened) -> Opened:
    figures = []
    for week in range(2800, 2820):
        last = week == 2819
        said = "distance: values above 7 make up 28 % of the rows instead of 8 %"
        figures += [
            of_delivery(week, "distance", alarm=last, said=said if last else "", details={**BINS, "moved": "high"}),
            of_delivery(week, "shop_id", segment="turin", alarm=last),
            of_delivery(week, "distance", "missing", statistic=0.01),
            of_delivery(week, "mae", "performance", statistic=160.0 + week - 2800),
            of_delivery(week, "mae", "estimate", statistic=161.0),
            of_delivery(week, "rows", "volume", statistic=900.0, threshold=None),
        ]
    ran.metadata.figures.put(figures, at=0)
    alert = Alert(key="delivery/drift/distance", model="delivery", severity="warning", title="distance has drifted")
    ran.metadata.alerts.found(alert, at=0)
    return ran


def test_the_overview_names_what_is_wrong(watched: Opened) -> None:
    page = watched.browser.get("/monitoring").check()
    assert "delivery 2 alarms 1 segment distance has drifted" in page.text
    assert "1 of 1 models is in alarm" in page.text


def test_a_model_shows_alarms_in_words_and_the_bin_that_moved(watched: Opened) -> None:
    page = watched.browser.get("/monitoring/delivery").check()
    assert "warning distance: values above 7 make up 28 % of the rows instead of 8 %" in page.text
    assert page.html.count('class="chart comparison"') == 1
    assert "high from 40 % to 70 %" in page.text
    assert "realised 179, estimated 161" in page.text
    assert "The blind spot of an estimate" in page.text
    assert "headway monitor delivery" in page.text
    assert "Predictions in it 900" in page.text
    assert len(page.html) < 100_000


def test_a_segment_has_its_own_figures(watched: Opened) -> None:
    page = watched.browser.get("/monitoring/delivery?segment=turin").check()
    assert "shop_id moved" in page.text
    assert "values above 7" not in page.text
    assert "/monitoring/delivery" in page.links


def test_a_figure_over_all_its_windows_works_without_script(watched: Opened) -> None:
    page = watched.browser.get("/monitoring/delivery/figure?kind=drift&name=distance").check()
    assert page.html.count('class="chart series"') == 1
    assert page.html.count("window=") == 20
    assert "high moved 40.0 % 70.0 % +30.0 %" in page.text
    earlier = next(link for link in page.links if "window=" in link and link.endswith("#window"))
    assert watched.browser.get(earlier.partition("#")[0]).check().status == 200
    assert watched.browser.get("/monitoring/delivery/figure?kind=drift&name=nope").status == 404


def test_reports_are_shown_with_their_own_style_and_nothing_else(watched: Opened) -> None:
    folder = watched.workspace.settings.home / "reports" / "delivery"
    folder.mkdir(parents=True)
    (folder / "2024-02-19_2024-02-26.html").write_text("<!doctype html><title>report</title>")
    assert "/monitoring/delivery/report" in watched.browser.get("/monitoring/delivery").links
    report = watched.browser.get("/monitoring/delivery/report")
    assert "<title>report</title>" in report.html
    assert "script" not in report.headers["content-security-policy"]
    assert watched.browser.get("/monitoring/delivery/report?window=..%2F..%2Fx").status == 404
