"""The project behind the console changes on disk, breaks, and is mended, while the console is up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.console.shop import Opened, opened
from tests.project import build, copy, finished


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.console._workspace._LOOK_EVERY", 0.0)


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    yield from opened(copy(finished(tmp_path_factory), tmp_path / "shop"))


def test_a_new_declaration_appears(project: Opened) -> None:
    assert "What a shop sold" in project.browser.get("/features").text
    first = project.workspace.project
    project.shop.edit("shop/features.py", "What a shop sold", "What every shop sold")
    assert "What every shop sold" in project.browser.get("/features").text
    assert project.workspace.project is not first
    assert project.workspace.project is project.workspace.project


def test_a_project_that_breaks_stays_as_it_was(project: Opened) -> None:
    assert project.browser.get("/models").status == 200
    first = project.workspace.project
    project.shop.edit("shop/models.py", "import headway as hw", "import headway as hw\nimport no_such_module")
    page = project.browser.get("/models").check()
    assert page.status == 200
    assert "need a hand" in page.text
    assert "No module named 'no_such_module'" in page.text
    assert project.workspace.project is first
    assert "delivery" in page.text
    project.shop.edit("shop/models.py", "\nimport no_such_module", "")
    assert "need a hand" not in project.browser.get("/models").text


def test_a_project_that_never_imported_shows_what_was_recorded(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shop = copy(finished(tmp_path_factory), tmp_path / "shop")
    (shop.root / "shop/models.py").write_text("this is no Python")
    for found in opened(shop):
        for path in ("/", "/models", "/models/delivery", "/models/delivery/versions/1", "/features", "/data", "/runs",
                     "/schedules", "/monitoring", "/alerts", "/decisions", "/search?q=deliv"):  # fmt: skip
            page = found.browser.get(path).check()
            assert page.status == 200, path
            assert "models.py:1" in page.text, path
        assert "mae" in found.browser.get("/").text
        done = found.browser.post("/models/delivery/rollback", on="/models/delivery/promote", why="x")
        assert "No version was live" in done.text


def test_changed_settings_ask_for_a_restart(project: Opened) -> None:
    assert "headway.toml has changed" not in project.browser.get("/").text
    with (project.shop.root / "headway.toml").open("a") as file:
        file.write("memory_limit = '1GB'\n")
    assert "headway.toml has changed" in project.browser.get("/").text


def test_a_project_without_rows_has_a_console(tmp_path: Path) -> None:
    shop = build(tmp_path / "shop")
    shop.edit("headway.toml", 'clock = "2024-03-01T00:30:00Z"', 'clock = "data"')
    for found in opened(shop):
        for path in ("/", "/models", "/features", "/data", "/runs", "/schedules", "/monitoring", "/alerts"):
            assert found.browser.get(path).check().status == 200, path


def test_another_environment_is_named_in_commands(tmp_path: Path) -> None:
    from tests.console.browser import Browser

    from headway.console import create_app
    from headway.settings import load_settings

    shop = build(tmp_path / "shop")
    with (shop.root / "headway.toml").open("a") as file:
        file.write("[env.prod]\n")
    page = Browser(create_app(load_settings(shop.root, "prod"))).get("/models")
    assert "headway models list -e prod" in page.text
