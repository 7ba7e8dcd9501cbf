"""The console of a running `headway up` in a real browser: what people do there, and what they must never meet."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.console.chromium import GO, READER, Site, Visit, chromium, site, tab_to, visit

__all__ = ["chromium", "site", "visit"]

AXE = Axe().axe_script
COLOURS = ["color-contrast", "link-in-text-block"]
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


def heading(page: Page) -> Any:
    return expect(page.get_by_role("heading", level=1))


def find(page: Page, text: str, name: str) -> None:
    """Ctrl-K, some letters, and Enter once what is looked for comes first."""
    page.keyboard.press("Control+k")
    page.keyboard.type(text)
    expect(page.locator("#found a").first).to_contain_text(name)
    page.keyboard.press("Enter")


def decided(page: Page, *words: str) -> None:
    """The newest line of the decisions says who did what, and why."""
    page.goto("/decisions")
    line = page.get_by_role("table", name="Decisions").locator("tbody tr").first
    for word in ("ana", *words):
        expect(line).to_contain_text(word)


def test_a_version_is_found_promoted_and_taken_back(site: Site, visit: Visit) -> None:
    page = visit()
    assert site.version() == "1"
    find(page, "deliv", "delivery")
    heading(page).to_have_text("delivery")
    page.get_by_role("link", name="Promote", exact=True).first.click()
    page.get_by_label("Version").select_option("2")
    page.get_by_label("Why").fill("half the error on last week's orders")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status")).to_have_text("Version 2 of delivery answers now.")
    expect(page.get_by_text("version 2", exact=True)).to_be_visible()
    until_version(site, "2")
    decided(page, "promote", "delivery", "version 2", "half the error on last week's orders")

    page.goto("/")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="delivery"))
    expect(row).to_contain_text("half the error")
    row.get_by_role("link", name="Roll back").click()
    page.get_by_label("Why").fill("riders complain of late orders")
    page.get_by_role("button", name="Roll back to version 1").click()
    expect(page.get_by_role("status")).to_contain_text("Version 1 of delivery answers again.")
    until_version(site, "1")
    decided(page, "rollback", "delivery", "version 1", "in place of 2", "riders complain of late orders")


def until_version(site: Site, version: str) -> None:
    """Servers switch within a second; each answer on the way is one of the two."""
    for _ in range(5_000):
        if site.version() == version:
            return
    raise AssertionError(f"version {version} does not answer")


def test_a_run_with_another_parameter_is_started_and_watched(site: Site, visit: Visit) -> None:
    page = visit(viewport={"width": 1280, "height": 900})
    (site.shop.root / GO).unlink()
    find(page, "publish", "publish")
    heading(page).to_have_text("Start publish")
    expect(page.get_by_label("days")).to_have_value("2")
    expect(page.get_by_text("how many days to publish")).to_be_visible()
    page.get_by_label("days").fill("3")
    page.get_by_label("city").select_option("turin")
    expect(page.locator("#command")).to_contain_text("days=3")
    expect(page.locator("#command")).to_contain_text("city=turin")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("status")).to_contain_text("of publish is queued")

    status, steps = page.locator("h1 .badge"), page.get_by_role("table", name="Steps of run")
    expect(page.locator("#log")).to_contain_text("at the door of turin with 3 parts")
    expect(status).to_have_text("running")
    expect(steps.get_by_role("link", name="export × 3")).to_be_visible()
    (site.shop.root / GO).touch()
    expect(status).to_have_text("done")
    expect(page.locator("#log")).to_contain_text("the door is open")

    steps.get_by_role("link", name="export × 3").click()
    flaky = steps.get_by_role("row").filter(has_text="export[").first
    expect(flaky).to_contain_text("×2")
    flaky.get_by_role("link").click()
    page.get_by_role("link", name="Full log").click()
    expect(page.locator("body")).to_contain_text("the line was busy")
    run = site.runs("publish")[0]
    decided(page, f"run {run}")


def test_a_wrong_parameter_is_told_beside_its_field(visit: Visit) -> None:
    page = visit(expected=(422,))
    page.goto("/runs/new?target=publish")
    page.get_by_label("days").fill("many")
    page.get_by_role("button", name="Start").click()
    field = page.get_by_label("days")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("many")
    expect(field).to_have_accessible_description("It takes a whole number, got 'many'. how many days to publish")


def test_an_alert_is_acknowledged_from_the_keyboard_alone(visit: Visit) -> None:
    page = visit()
    page.goto("/alerts")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    tab_to(page.get_by_role("link", name="distance has drifted"))
    page.keyboard.press("Enter")
    heading(page).to_contain_text("distance has drifted")
    tab_to(page.get_by_label("Why").first)
    page.keyboard.type("a new district; the next model knows it")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Acknowledge")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Acknowledged")
    expect(page.get_by_text("acknowledged", exact=True)).to_be_visible()
    decided(page, "acknowledge", "a new district; the next model knows it")


def test_what_was_found_is_reached_with_arrows(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("sales")
    found = page.locator("#found a")
    expect(found.first).to_contain_text("sales")
    page.keyboard.press("ArrowDown")
    expect(found.first).to_be_focused()
    page.keyboard.press("Escape")
    expect(found).to_have_count(0)


def test_the_theme_is_kept(visit: Visit) -> None:
    page = visit(color_scheme="light")
    page.get_by_role("button", name="Use the dark theme").click()
    page.goto("/monitoring/delivery/figure?kind=drift&name=distance")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()
    expect(page.locator(".chart-long canvas")).to_be_visible()


def test_without_scripts_pages_read_and_forms_work(site: Site, visit: Visit) -> None:
    page = visit(java_script_enabled=False, expected=(404,))
    for path in site.pages():
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("main")).not_to_be_empty()
    page.goto("/monitoring/delivery/figure?kind=drift&name=distance")
    expect(page.locator("svg.chart").first).to_be_visible()
    page.goto("/schedules/pipeline:publish")
    page.locator("[name=why]").fill("the city is closed")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("is paused")
    decided(page, "pause", "the city is closed")


def test_a_reader_sees_no_forms_that_act(site: Site, visit: Visit) -> None:
    assert acts(visit(READER), site.pages()) == {}
    assert {"/alerts/1", "/models/delivery", "/runs/new?target=publish"} <= acts(visit(), site.pages()).keys()


def acts(page: Page, paths: list[str]) -> dict[str, list[str]]:
    """Path → the forms of the page that do something, but for logging in and out, and what leads to such forms."""
    wanted = re.compile(
        r"""<form [^>]*method="post"[^>]*action="(?!/log)[^"]+"|<a [^>]*href="[^"]+/(?:promote|rollback)"""
    )
    pages = {path: page.request.get(path).text() for path in paths}
    return {path: found for path, html in pages.items() if (found := wanted.findall(html))}


@pytest.mark.timeout(240)
def test_every_page_is_accessible_and_fits(site: Site, visit: Visit) -> None:
    """axe finds nothing against WCAG 2.1 A and AA: light and dark, wide and on a phone; no page scrolls sideways."""
    page = visit(bypass_csp=True, expected=(404,))
    problems = []
    for path in site.pages():
        page.goto(path)
        page.evaluate(AXE)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme="light")
            problems += [f"{path} {width}: {found}" for found in violations(page, {"type": "tag", "values": LEVELS})]
            page.emulate_media(color_scheme="dark")  # which changes colours, and nothing else
            problems += [
                f"{path} {width} dark: {found}" for found in violations(page, {"type": "rule", "values": COLOURS})
            ]
        page.set_viewport_size({"width": 360, "height": 800})
        root = "document.documentElement"
        if (over := page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")) > 0:
            problems.append(f"{path}: {over} px wider than a phone of 360 px")
    assert not problems, "\n".join(problems)


def violations(page: Page, rules: dict[str, Any]) -> list[str]:
    """What axe, which is in the page already, finds against the rules."""
    found = page.evaluate("rules => axe.run({runOnly: rules}).then(found => found.violations)", rules)
    return [f"{v['id']}: {[node['html'][:120] for node in v['nodes'][:3]]}" for v in found]
