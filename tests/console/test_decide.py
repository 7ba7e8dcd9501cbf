"""What an operator does from the console: promote, roll back, release, answer alerts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.console.shop import Opened, opened
from tests.project import Shop, copy, finished

from headway.define.watch_records import Alert
from headway.metadata import live_version

_TWICE: dict[str, Shop] = {}


def trained_twice(factory: pytest.TempPathFactory) -> Shop:
    """The shop with two versions, the second one live."""
    if "shop" not in _TWICE:
        shop = copy(finished(factory), factory.mktemp("twice") / "shop")
        shop.edit("shop/models.py", "1000.0", "10.0")
        shop.call("run", "delivery")
        _TWICE["shop"] = shop
    return _TWICE["shop"]


@pytest.fixture
def two(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    yield from opened(copy(trained_twice(tmp_path_factory), tmp_path / "shop"))


@pytest.fixture(autouse=True)
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """MLflow is told by a process that these tests do not wait for."""
    told: list[object] = []
    monkeypatch.setattr("headway.console._decide.tell_mlflow", told.append)
    return told


def live(project: Opened) -> int | None:
    return live_version(project.metadata.deployments.list("delivery"))


def test_rollback_release_and_back_again(two: Opened, mlflow: list[object]) -> None:
    page = two.browser.get("/models/delivery/rollback").check()
    assert "Version 1 answered before it" in page.text
    assert 'headway rollback delivery --why "…"' in page.text

    done = two.browser.follow(two.browser.post("/models/delivery/rollback", why="complaints <b>from</b> Turin"))
    assert "Version 1 of delivery answers again." in done.text
    assert "held since the rollback" in done.text
    assert "complaints <b>from</b> Turin" in done.text
    assert live(two) == 1
    assert len(mlflow) == 1
    assert "Version 1 of delivery answers again." not in two.browser.get("/models/delivery").text  # said once

    line = two.metadata.deployments.list("delivery")[-1]
    assert (line.action, line.why) == ("rollback", "complaints <b>from</b> Turin")
    assert line.by

    done = two.browser.follow(two.browser.post("/models/delivery/release"))
    assert "Promotion of delivery is automatic again." in done.text
    assert "held since" not in done.text


def test_a_rollback_that_is_not_possible_says_so(two: Opened) -> None:
    two.browser.post("/models/delivery/rollback", why="once")
    page = two.browser.get("/models/delivery/rollback").check()
    assert "No other version was live before this one" in page.text
    answer = two.browser.post("/models/delivery/rollback", on="/models/delivery/promote", why="twice")
    assert answer.status == 409
    assert "No version was live for" in answer.text


def test_nothing_is_decided_without_a_reason(two: Opened) -> None:
    answer = two.browser.post("/models/delivery/rollback", why="   ").check()
    assert answer.status == 409
    assert "Say why in a few words" in answer.text
    assert live(two) == 2


def test_promote_in_a_process_of_its_own(two: Opened) -> None:
    page = two.browser.get("/models/delivery/promote").check()
    assert '<option value="1" selected>' in page.html  # 2 is live
    answer = two.browser.post("/models/delivery/promote", version="1", why="it was the weather")
    assert "Version 1 of delivery answers now." in two.browser.follow(answer).text
    assert live(two) == 1
    line = two.metadata.deployments.list("delivery")[-1]
    assert (line.action, line.why, line.by) == (
        "promote",
        "it was the weather",
        two.metadata.deployments.list("delivery")[-1].by,
    )


def test_what_the_process_refuses_is_told(two: Opened) -> None:
    answer = two.browser.post("/models/delivery/promote", version="9", why="hope").check()
    assert answer.status == 409
    assert "has no version 9" in answer.text
    assert "hope" in answer.text  # what was typed is still there
    wrong = two.browser.post("/models/delivery/promote", version="nine", why="hope")
    assert "a version is a number" in wrong.text.lower()


def test_a_process_that_dies_is_told(two: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.console._decide.sys.executable", "/bin/false")
    answer = two.browser.post("/models/delivery/promote", version="1", why="hope")
    assert answer.status == 409
    assert "ended before it was decided" in answer.text


def test_alerts_are_answered(two: Opened) -> None:
    for key in ("delivery/drift/pace", "delivery/drift/distance"):
        two.metadata.alerts.found(Alert(key=key, model="delivery", kind="drift", title=f"{key} moved"), 1)
    listed = two.browser.get("/alerts")
    assert "delivery/drift/pace moved" in listed.text

    page = two.browser.get("/alerts/1").check()
    assert "headway alerts ack 1" in page.text
    refused = two.browser.post("/alerts/1/acknowledge", on="/alerts/1", why="")
    assert "Say why in a few words" in refused.text
    done = two.browser.follow(two.browser.post("/alerts/1/acknowledge", on="/alerts/1", why="asking the courier"))
    assert "Acknowledged" in done.text
    assert "asking the courier" in done.text
    done = two.browser.follow(two.browser.post("/alerts/1/resolve", on="/alerts/1", why="it was rain"))
    assert "Resolved" in done.text
    again = two.browser.post("/alerts/1/resolve", on="/alerts/2", why="again")
    assert again.status == 409
    assert "resolved already" in again.text

    quiet = two.browser.post(
        "/alerts/2/silence", on="/alerts/2", prefix="delivery/drift", length="1d", why="until the courier is back"
    )
    assert "for a day" in two.browser.follow(quiet).text
    listed = two.browser.get("/alerts").check()
    assert "silenced" in listed.text
    assert "until the courier is back" in listed.text
    loud = two.browser.post("/alerts/unsilence", on="/alerts", prefix="delivery/drift")
    assert "are told again" in two.browser.follow(loud).text
    assert two.metadata.alerts.silenced("delivery/drift/distance", 2) is None

    audit = two.browser.get("/decisions").text
    for said in ("acknowledge alert", "resolve alert", "silence alerts", "end silence"):
        assert said in audit
    odd = two.browser.post("/alerts/2/silence", on="/alerts/2", prefix="other", length="1d", why="x")
    assert odd.status == 409


def test_the_child_needs_no_declarations(two: Opened) -> None:
    """A project that no longer imports can still be mended by promoting another version."""
    (two.shop.root / "shop/models.py").write_text("import nothing_of_the_kind\n")
    answer = two.browser.post("/models/delivery/promote", version="1", why="everything is broken")
    assert answer.status == 303, answer.text
    assert live(two) == 1


def test_telling_mlflow_waits_for_nobody(two: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from headway.console import _decide

    started: list[list[str]] = []
    true = subprocess.Popen

    def popen(command: list[str], **more: object) -> subprocess.Popen[str]:
        started.append(command)
        return true(["/bin/cat"], **more)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", popen)
    _decide.tell_mlflow(two.workspace.settings)
    assert started[0][1:] == ["-m", "headway.console._decide"]
