"""Runs: the list, a run with its graph and log, and the form that starts one."""

from __future__ import annotations

import re

import msgspec
import pytest
from tests.console.shop import Opened, ran
from tests.console.test_views import fan_out

from headway.define.run_records import RunRecord, StepRecord
from headway.orchestrate.runs._step_log import file_name
from headway.orchestrate.runs.recorder import run_directory

__all__ = ["ran"]

NOW = 1_709_253_000_000_000


def record(ran: Opened, steps: list[StepRecord], status: str = "failed", **more: object) -> int:
    """A run of the past, with its steps."""
    runs = ran.metadata.runs
    made = runs.create(RunRecord(status="running", created_at=NOW, started_at=NOW, by="ana", **more))  # type: ignore[arg-type]
    runs.plan(made.id, [msgspec.structs.replace(step, run=made.id) for step in steps])
    if status != "running":
        runs.finish(made.id, status, NOW + 90_000_000, "step export[item=0] failed: <bang>")  # type: ignore[arg-type]
    return made.id


def write_log(ran: Opened, run: int, key: str, text: str, mode: str = "w") -> None:
    file = run_directory(ran.workspace.settings.home, run) / file_name(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open(mode) as stream:
        stream.write(text)


@pytest.fixture(scope="module")
def failed(ran: Opened) -> int:
    run = record(
        ran, fan_out(100, failed=1), kind="pipeline", targets=("publish",), params={"city": "turin", "days": 7}
    )
    write_log(ran, run, "export[item=0]", "row <1>\nValueError: <bang>\n")
    return run


def test_the_list_is_filtered_by_status_and_name_in_the_url(ran: Opened, failed: int) -> None:
    page = ran.browser.get("/runs?status=failed&name=publish").check()
    assert f"/runs/{failed}" in page.links
    assert "1 min 30 s" in page.text
    assert "/runs?name=publish" in page.links  # without the status
    assert f"/runs/{failed}" not in ran.browser.get("/runs?name=delivery").links
    assert "No run matches" in ran.browser.get("/runs?status=queued&name=visits").text


def test_the_list_goes_on_with_older_runs(ran: Opened) -> None:
    made = [record(ran, [], targets=("shops",)) for _ in range(51)]
    newest = ran.browser.get("/runs?name=shops")
    older = next(link for link in newest.links if "before=" in link)
    assert f"/runs/{made[0]}" not in newest.links
    page = ran.browser.get(older)
    assert f"/runs/{made[0]}" in page.links
    assert "/runs?name=shops" in page.links


def test_a_failed_run_shows_what_failed_and_its_log(ran: Opened, failed: int) -> None:
    page = ran.browser.get(f"/runs/{failed}").check()
    assert "export × 100" in page.text
    assert "99 done, 1 failed" in page.text
    assert "ValueError: &lt;bang&gt;" in page.html
    assert "headway run publish --param city=turin" in page.text
    assert "days=7" not in page.text  # as it would be anyway
    assert "Resume" in page.text
    assert "hx-trigger" not in page.html.partition('id="live"')[2]
    whole = ran.browser.get(f"/runs/{failed}/log?step=export%5Bitem%3D0%5D")
    assert whole.headers["content-type"].startswith("text/plain")
    assert whole.html == "row <1>\nValueError: <bang>\n"
    assert "printed nothing" in ran.browser.get(f"/runs/{failed}/log?step=start").html
    assert ran.browser.get(f"/runs/{failed}/log?step=..%2F..%2Fx").status == 404


def test_the_steps_of_a_fan_out_can_be_reached(ran: Opened, failed: int) -> None:
    page = ran.browser.get(f"/runs/{failed}?of=export&status=done").check()
    assert "export[item=99]" in page.text
    assert "export[item=98]" in page.text
    step = ran.browser.get(f"/runs/{failed}?step=export%5Bitem%3D7%5D").check()
    assert "Step export[item=7]" in step.text
    assert "Re-run from this step" in step.text


def test_a_run_that_goes_on_refreshes_itself_and_its_log(ran: Opened) -> None:
    steps = fan_out(5, running=1)
    run = record(ran, steps, "running", kind="pipeline", targets=("publish",))
    try:
        ran.metadata.runs.beat(run, ran.workspace.project.parts.clock.now())
        write_log(ran, run, "export[item=0]", "first\n")
        page = ran.browser.get(f"/runs/{run}?step=export%5Bitem%3D0%5D")
        # its process does not exist, so it is found to have crashed; the log is still read to its end
        assert "crashed" in page.text
        tail = f"/runs/{run}/tail?step=export%5Bitem%3D0%5D&offset=3"
        piece = ran.browser.get(tail)
        assert "st\n" in piece.html
        assert "hx-get" not in piece.html
    finally:
        ran.metadata.runs.finish(run, "failed", NOW)


def test_a_queued_run_polls_and_can_be_cancelled(ran: Opened) -> None:
    started = ran.browser.post(
        "/runs", "/runs/new?target=publish", target="publish", **{"p.city": "turin", "p.days": "3"}
    )
    page = ran.browser.follow(started).check()
    run = int(started.headers["location"].rsplit("/", 1)[1])
    stored = ran.metadata.runs.get(run)
    assert stored is not None
    assert (stored.kind, stored.targets, stored.trigger, stored.status) == (
        "pipeline",
        ("publish",),
        "console",
        "queued",
    )
    assert (stored.params["city"], stored.params["days"]) == ("turin", 3)
    assert "is queued" in page.text
    assert re.search(rf'hx-get="/runs/{run}/live[^"]*" hx-trigger="every 1s"', page.html)
    assert ran.browser.get(f"/runs/{run}/live").check().html.lstrip().startswith('<div id="live"')
    cancelled = ran.browser.post(f"/runs/{run}/cancel", f"/runs/{run}")
    assert f"Run {run} is cancelled." in ran.browser.follow(cancelled).text
    again = ran.browser.post(f"/runs/{run}/rerun", f"/runs/{run}")
    repeated = ran.metadata.runs.get(int(again.headers["location"].rsplit("/", 1)[1]))
    assert repeated is not None
    assert (repeated.parent, repeated.params["days"]) == (run, 3)
    assert any(line.action == "start run" for line in ran.metadata.audit.list())


def test_the_form_asks_for_parameters_and_says_what_is_wrong_beside_them(ran: Opened) -> None:
    form = ran.browser.get("/runs/new?target=publish&p.days=9").check()
    assert "how many days to publish" in form.text
    assert 'value="9"' in form.html
    assert "headway run publish --param days=9" in form.text
    wrong = ran.browser.post("/runs", "/runs/new?target=publish", target="publish", **{"p.city": "", "p.days": "soon"})
    assert wrong.status == 422
    assert "It needs a value." in wrong.text
    assert "It takes a whole number, got 'soon'." in wrong.text
    assert 'value="soon"' in wrong.check().html


def test_the_command_line_follows_the_form(ran: Opened) -> None:
    page = ran.browser.get("/runs/new/command?target=publish&p.city=turin&p.days=7&p.since=2024-01-31")
    assert "headway run publish --param city=turin --param since=2024-01-31" in page.text


def test_a_run_can_be_repeated_with_edits(ran: Opened, failed: int) -> None:
    links = [link for link in ran.browser.get(f"/runs/{failed}").links if f"from={failed}" in link]
    form = ran.browser.get(links[0]).check()
    assert '<option value="turin" selected>' in form.html


def test_the_plan_of_a_target_tells_what_would_run(ran: Opened) -> None:
    page = ran.browser.get("/runs/new/plan?target=visits").check()
    assert "ingest visits up to date its files are as they were" in page.text
    assert "headway plan visits" in page.text


def test_several_targets_and_everything_can_be_started(ran: Opened) -> None:
    form = ran.browser.get("/runs/new?target=shops&target=visits").check()
    assert "headway run shops visits" in form.text
    everything = ran.browser.post("/runs", "/runs/new?target=", target="")
    run = ran.metadata.runs.get(int(everything.headers["location"].rsplit("/", 1)[1]))
    assert run is not None
    assert run.targets == ()
    ran.metadata.runs.cancel(run.id, "test", NOW)


def test_monitoring_a_model_is_a_run_too(ran: Opened) -> None:
    done = ran.browser.post("/monitoring/delivery/run", "/schedules/monitor:delivery")
    run = ran.metadata.runs.get(int(done.headers["location"].rsplit("/", 1)[1]))
    assert run is not None
    assert (run.kind, run.targets) == ("monitor", ("delivery",))
    page = ran.browser.get(f"/runs/{run.id}").check()
    assert "headway monitor delivery" in page.text
    ran.metadata.runs.cancel(run.id, "test", NOW)
    assert "Re-run with edits" not in ran.browser.get(f"/runs/{run.id}").text
