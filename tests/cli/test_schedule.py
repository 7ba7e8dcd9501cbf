"""schedule and schedules: listing, pausing, and a real run that nobody started by hand."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import Any

import pytest
from tests.project import Shop, environment

SCHEDULED = 'split=hw.TimeSplit(test="7d"),\n    schedule="30 0 * * *",'  # due at the very moment the clock stands at


@pytest.fixture
def timed(shop: Shop) -> Shop:
    """The project with a schedule for its model, and without a pause between monitoring and training."""
    shop.edit("shop/models.py", 'split=hw.TimeSplit(test="7d"),', SCHEDULED)
    return shop


def listed(shop: Shop, name: str = "model:delivery") -> dict[str, Any]:
    views = shop.call("schedules", "list", "--count", "2", "--json").json()
    return next(view for view in views if view["name"] == name)


def test_schedules_are_listed_paused_and_resumed(timed: Shop) -> None:
    view = listed(timed)
    assert (view["cron"], view["timezone"], view["missed"], view["overlap"]) == ("30 0 * * *", "UTC", "once", "skip")
    assert [moment - view["next"][0] for moment in view["next"]] == [0, 86_400_000_000]
    assert (view["last"], view["run"], view["state"]) == (None, None, None)
    assert "2024-03-02T00:30:00Z" in timed.call("schedules", "list").out

    paused = timed.call("schedules", "pause", "delivery", "--why", "holidays", code=2)
    assert "model:delivery" in paused.err  # a monitor has this name too
    told = timed.call("schedules", "pause", "model:delivery", "--why", "holidays").out
    assert told == "model:delivery is paused; `headway schedules resume model:delivery` lets it go on\n"
    assert listed(timed)["next"] == []
    assert "holidays" in timed.call("schedules", "list").out

    assert timed.call("schedules", "resume", "model:delivery", "--json").json()["paused"] is False
    assert len(listed(timed)["next"]) == 2


def test_a_schedule_nobody_declared_is_refused(timed: Shop) -> None:
    refused = timed.call("schedules", "pause", "model:deliverys", code=2)

    assert "no schedule is called 'model:deliverys'; did you mean 'model:delivery'?" in refused.err


def test_a_wrong_cron_line_is_refused_with_its_place(shop: Shop) -> None:
    shop.edit("shop/models.py", 'split=hw.TimeSplit(test="7d"),', SCHEDULED.replace("30 0", "99 0"))

    refused = shop.call("schedules", "list", code=1)

    assert "model 'delivery'" in refused.err
    assert "shop/models.py:" in refused.err
    assert "out of range" in refused.err


def test_a_scheduler_runs_what_is_due_until_it_is_stopped(timed: Shop) -> None:
    scheduler = subprocess.Popen(
        timed.command("schedule"),
        cwd=timed.root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 90
        while not _ended(listed(timed)) and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        scheduler.send_signal(signal.SIGTERM)
        out, err = scheduler.communicate(timeout=30)

    assert scheduler.returncode == 0, err
    view = listed(timed)
    assert view["run"]["status"] == "done", (out, err, view)
    assert (view["run"]["trigger"], view["run"]["targets"]) == ("schedule", ["delivery"])
    assert view["run"]["slot"] == view["last"]["slot"]
    assert f"run {view['run']['id']}: model:delivery, due 2024-03-01T00:30:00Z" in out
    assert "done" in timed.call("schedules", "list").out


def _ended(view: dict[str, Any]) -> bool:
    return view["run"] is not None and view["run"]["ended_at"] is not None
