"""Features, data and schedules, on a project with a history and on one without."""

from __future__ import annotations

import pytest
from tests.console.browser import Browser
from tests.console.shop import Opened, empty, ran

from headway.console import create_app

__all__ = ["empty", "ran"]

LISTS = ("/features", "/data", "/schedules", "/runs", "/runs/new", "/monitoring")


@pytest.mark.parametrize("path", LISTS)
def test_every_list_is_whole_and_says_the_command(ran: Opened, path: str) -> None:
    page = ran.browser.get(path).check()
    assert page.status == 200
    assert "On the command line headway " in page.text


@pytest.mark.parametrize(
    "path", ["/features/sales", "/data/orders", "/data/shops", "/runs/new?target=delivery", "/monitoring/delivery"]
)
def test_nothing_has_run_yet_and_pages_say_what_to_do(empty: Opened, path: str) -> None:
    page = empty.browser.get(path).check()
    assert page.status == 200
    for other in LISTS:
        assert empty.browser.get(other).check().status == 200
    assert "headway " in page.text


@pytest.mark.parametrize(
    "path",
    ["/features/nope", "/data/nope", "/schedules/nope", "/runs/999", "/runs/new?target=nope", "/monitoring/nope"],
)
def test_what_is_not_there_is_told_in_words(ran: Opened, path: str) -> None:
    page = ran.browser.get(path).check()
    assert page.status == 404
    assert "Not found" in page.text


def test_the_catalog_shows_freshness_and_users(ran: Opened) -> None:
    page = ran.browser.get("/features")
    assert "sales What a shop sold shop orders 2 1h fresh" in page.text
    assert "delivery" in page.text
    assert "nobody yet" in page.text  # footfall
    only = ran.browser.get("/features?q=footfall")
    assert "footfall" in only.text
    assert "What a shop sold" not in only.text


def test_a_view_shows_statistics_lineage_and_definition(ran: Opened) -> None:
    ran.browser.get("/features/sales/statistics")  # waits for what the page does not wait for
    page = ran.browser.get("/features/sales").check()
    assert "From 5 entities of the online store: 10 values ok" in page.text
    assert "count() 7d int64 0.0 %" in page.text
    assert page.html.count('class="chart histogram"') == 2
    assert {"/data/raw_orders", "/data/shops", "/data/orders", "/models/delivery"} <= set(page.links)
    assert "from raw_orders o join shops s" in page.text
    assert "← raw_orders.delivered_at , raw_orders.placed_at" in page.text
    assert "minutes_7d delivery mean(minutes)" in page.text
    assert "Versions delivery@1 live" in page.text
    assert 'sales = hw.FeatureView( "sales", source=orders' in page.text
    assert "shop/features.py:" in page.text
    assert str(ran.shop.root) not in page.html


def test_a_view_shows_what_verification_found_and_the_statistics_it_kept(ran: Opened) -> None:
    assert "not verified" in ran.browser.get("/features").text
    assert "Nobody has compared them yet" in ran.browser.get("/features/footfall").check().text
    ran.shop.call("features", "verify", "footfall")
    page = ran.browser.get("/features/footfall").check()
    assert "All 5 served values of 5 entities were those that training would compute" in page.text
    assert page.html.count('class="chart histogram"') == 1  # without waiting: they were kept
    assert "equal" in ran.browser.get("/features?q=footfall").text


def test_a_console_beside_a_server_shows_how_much_was_served(ran: Opened) -> None:
    counted = {("sales", "ok"): 1234, ("sales", "late"): 5, ("footfall", "ok"): 7}
    page = Browser(create_app(ran.workspace, reads=lambda: counted)).get("/features/sales").check()
    assert "Values served 5 late, 1,234 ok" in page.text
    assert "Values served" not in ran.browser.get("/features/sales").text


def test_data_shows_rows_checks_and_what_was_set_aside(ran: Opened) -> None:
    page = ran.browser.get("/data")
    assert "raw_orders parquet 400" in page.text
    orders = ran.browser.get("/data/orders").check()
    assert "set rows aside" in orders.text
    assert 'between("minutes", 900, 36000)' in orders.text
    assert "Quarantine" in orders.text
    assert "order_id" in orders.text
    assert {"/data/raw_orders", "/features/sales", "/models/delivery"} <= set(orders.links)
    assert "It has no checks" in ran.browser.get("/data/shops").text


def test_schedules_say_what_is_next_and_can_be_paused(ran: Opened) -> None:
    page = ran.browser.get("/schedules")
    assert "pipeline:publish 0 5 * * * Europe/Lisbon 2024-03-01 05:00" in page.text
    assert "batch:nightly" in page.text
    refused = ran.browser.post("/schedules/pipeline:publish/pause", "/schedules/pipeline:publish")
    assert refused.status == 409
    assert "say why" in refused.text.lower()
    done = ran.browser.post("/schedules/pipeline:publish/pause", "/schedules/pipeline:publish", why="<holidays>")
    said = ran.browser.follow(done).check()
    assert "is paused until somebody resumes it" in said.text
    assert "&lt;holidays&gt;" in said.html
    assert "<holidays>" in ran.browser.get("/schedules").text
    assert ran.metadata.schedules.all()["pipeline:publish"].paused
    resumed = ran.browser.post("/schedules/pipeline:publish/resume", "/schedules/pipeline:publish")
    assert "goes on from 2024-03-01 00:30 UTC" in ran.browser.follow(resumed).text
    assert not ran.metadata.schedules.all()["pipeline:publish"].paused
