"""monitor, status and alerts on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.project import Shop

from headway.clock import WallClock
from headway.define.run_records import RunRecord
from headway.define.watch_records import Alert
from headway.metadata import Metadata, open_metadata


def metadata(shop: Shop) -> Metadata:
    return open_metadata(f"sqlite:///{shop.home / 'metadata.db'}", "shop", "local")


def found(shop: Shop, *alerts: Alert) -> list[int]:
    with metadata(shop) as m:
        return [m.alerts.found(alert, WallClock().now())[0].id for alert in alerts]


DRIFT = Alert(key="delivery/drift/distance", model="delivery", kind="drift", title="delivery: distance has moved")
DOWN = Alert(
    key="delivery/volume/rows", model="delivery", kind="volume", title="delivery: no rows", severity="critical"
)


def test_all_is_well_after_a_run(shop: Shop) -> None:
    assert shop.call("status").out == "all is well\n"
    assert shop.call("status", "--json").json() == []
    assert "no alert is open" in shop.call("alerts", "list").out


def test_monitor_says_that_there_is_nothing_to_look_at(shop: Shop) -> None:
    assert "no prediction is logged yet" in shop.call("monitor", "delivery").out
    (told,) = shop.call("monitor", "--json").json()
    assert told["model"] == "delivery"
    assert told["alerts"] == []


def test_status_names_what_is_wrong_worst_first(shop: Shop) -> None:
    drift, down = found(shop, DRIFT, DOWN)
    with metadata(shop) as m:
        run = m.runs.create(RunRecord(targets=("delivery",), created_at=WallClock().now()))
        m.runs.take(run.id, "here", 1, WallClock().now())
        m.runs.finish(run.id, "failed", WallClock().now(), "the disk is full")
        m.schedules.ensure("model:delivery", 0)
        m.schedules.pause("model:delivery", "ada", "holidays", WallClock().now())
    told = shop.call("status", code=3).out
    assert told.index("no rows") < told.index("distance has moved") < told.index("holidays")
    assert f"run {run.id} failed" in told
    assert "the disk is full" in told
    items = shop.call("status", "--json", code=3).json()
    assert [i["severity"] for i in items] == ["critical", "critical", "warning", "info"]
    assert {i["what"] for i in items} >= {f"#{drift}", f"#{down}", "delivery", "model:delivery"}


def test_a_run_that_was_made_up_for_is_history(shop: Shop) -> None:
    with metadata(shop) as m:
        for status in ("failed", "done"):
            run = m.runs.create(RunRecord(targets=("delivery",), created_at=WallClock().now()))
            m.runs.take(run.id, "here", 1, WallClock().now())
            m.runs.finish(run.id, status, WallClock().now())  # type: ignore[arg-type]
    assert shop.call("status").out == "all is well\n"


@pytest.mark.parametrize(
    ("clock", "severity"), [("2024-03-01T02:30:00Z", "warning"), ("2024-03-02T00:30:00Z", "critical")]
)
def test_features_that_are_behind_are_shown(shop: Shop, clock: str, severity: str) -> None:
    shop.edit("headway.toml", "2024-03-01T00:30:00Z", clock)
    (trouble,) = shop.call("status", "--json", code=3).json()
    assert (trouble["kind"], trouble["what"], trouble["severity"]) == ("features", "sales", severity)
    assert trouble["mend"] == "headway features materialize sales"
    shop.call("features", "materialize")
    assert shop.call("status").out == "all is well\n"


def test_a_hold_is_shown_and_does_not_alarm(shop: Shop) -> None:
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 10.0')
    shop.call("run")
    shop.call("rollback", "delivery", "--why", "odd answers")
    told = shop.call("status").out
    assert "is held since" in told
    assert "headway models release delivery" in told


def test_alerts_are_acknowledged_and_resolved_with_a_reason(shop: Shop) -> None:
    drift, down = found(shop, DRIFT, DOWN)
    assert "reason" in shop.call("alerts", "ack", str(drift), code=2).err
    shop.call("alerts", "ack", str(drift), "--why", "a new courier")
    listed = shop.call("alerts", "list").out
    assert "acknowledged by" in listed
    assert listed.index("no rows") < listed.index("distance has moved")
    assert "is looking into it: a new courier" in shop.call("status", code=3).out
    shop.call("alerts", "resolve", str(down), "--why", "the feed is back")
    assert [a["id"] for a in shop.call("alerts", "list", "--json").json()] == [drift]
    assert len(shop.call("alerts", "list", "--all", "--json").json()) == 2
    assert shop.call("alerts", "list", "other").out == "no alert is open\n"
    assert "resolved already" in shop.call("alerts", "ack", str(down), "--why", "x", code=2).err
    assert "no alert 99" in shop.call("alerts", "resolve", "99", "--why", "x", code=2).err
    with metadata(shop) as m:
        assert [(line.action, line.why) for line in m.audit.list()] == [
            ("resolve alert", "the feed is back"),
            ("acknowledge alert", "a new courier"),
        ]


def test_a_silence_is_listed_and_quiets_status(shop: Shop) -> None:
    found(shop, DRIFT)
    assert "needs a reason" in shop.call("alerts", "silence", "delivery", code=2).err
    assert "3x" in shop.call("alerts", "silence", "delivery", "--for", "3x", "--why", "x", code=1).err
    shop.call("alerts", "silence", "delivery/drift", "--for", "2d", "--why", "we are moving")
    assert "delivery/drift" in shop.call("alerts", "list").out
    told = shop.call("status").out
    assert "silent until" in told


def test_a_test_alert_reaches_every_channel(shop: Shop, tmp_path: Path) -> None:
    assert "no channel is set" in shop.call("alerts", "test").out
    toml = shop.root / "headway.toml"
    settings = toml.read_text()
    toml.write_text(f"{settings}alerts.command = \"sh -c 'cat > {tmp_path / 'got'}'\"\n")
    assert "sent" in shop.call("alerts", "test").out
    assert json.loads((tmp_path / "got").read_text())["alerts"][0]["key"] == "test"
    toml.write_text(f'{settings}alerts.webhook = "http://127.0.0.1:9/hook"\n')
    failed = shop.call("alerts", "test", code=1)
    assert "webhook did not take the test alert" in failed.err
    assert "webhook: the last alert did not get through" in shop.call("status", code=3).out


def test_nonsense_is_refused_in_a_sentence(shop: Shop) -> None:
    assert "did you mean 'delivery'?" in shop.call("monitor", "delivry", code=2).err
    assert "time zone" in shop.call("monitor", "--until", "2024-03-01", code=2).err
    shop.call("alerts", "ack", "one", "--why", "x", code=2)
