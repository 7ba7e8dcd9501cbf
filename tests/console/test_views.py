"""What templates show: folded runs, forms of parameters, logs read piece by piece, figures as charts."""

from __future__ import annotations

import shlex
from datetime import date
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headway as hw
from headway.console import _logs
from headway.console.views import data, features, monitoring, params, runs
from headway.define._parameters import parameters
from headway.define.records import CheckResult, FeaturePlan, Field, ViewPlan
from headway.define.run_records import RunRecord, StepRecord
from headway.define.watch_records import Figure
from headway.settings import load_settings

MINUTE = 60_000_000
WEEK = 7 * 86_400_000_000


def fan_out(count: int, **statuses: int) -> list[StepRecord]:
    """A step, a fan-out of ``count`` over it (the first ones of these statuses, the others done), and a join."""
    words = [word for word, times in statuses.items() for _ in range(times)]
    items = [
        StepRecord(
            run=1, key=f"export[item={n}]", step="export", item={"item": n}, needs=("start",), seconds=1.0,
            status=words[n] if n < len(words) else "done", started_at=MINUTE, ended_at=2 * MINUTE,
        )
        for n in range(count)
    ]  # fmt: skip
    start = StepRecord(run=1, key="start", step="start", status="done", started_at=0, ended_at=MINUTE, seconds=60.0)
    join = StepRecord(run=1, key="join", step="join", needs=tuple(item.key for item in items))
    return [start, *items, join]


def test_a_fan_out_is_one_node_that_says_how_far_it_is() -> None:
    groups = runs.fold(fan_out(100, failed=1, running=2))
    assert [group.label for group in groups] == ["start", "export × 100", "join"]
    assert groups[1].counts == "97 done, 2 running, 1 failed"
    assert groups[1].status == "running"
    assert groups[2].needs == ("export",)
    assert "97 done, 2 running, 1 failed" in runs.run_graph(groups, 1)


def test_a_few_items_keep_a_node_each() -> None:
    assert len(runs.fold(fan_out(3))) == 5


def test_the_items_of_a_fan_out_belong_to_the_step_that_gathers_them() -> None:
    def step(name: str, item: dict[str, object], *needs: str, status: str = "done") -> StepRecord:
        place = ",".join(f"{key}={value}" for key, value in item.items())
        key = f"{name}[{place}]" if item else name
        return StepRecord(run=1, key=key, step=name, item=item, needs=needs, status=status)  # type: ignore[arg-type]

    steps = [step("work", {}), step("export", {}, "work"), step("join", {}, "export", status="waiting")]
    steps += [step("export", {"item": n}, "work", status="failed" if n else "done") for n in range(2)]
    groups = runs.fold(steps)
    assert [(g.label, g.counts, g.needs) for g in groups] == [
        ("work", "1 done", ()), ("export × 2", "1 done, 1 failed", ("work",)), ("join", "1 waiting", ("export",)),
    ]  # fmt: skip

    cities = [step(name, {"city": city}) for city in ("lisbon", "turin") for name in ("export", "join")]
    cities += [step("export", {"city": city, "item": n}) for city in ("lisbon", "turin") for n in range(3)]
    assert [g.label for g in runs.fold(cities)] == [
        "export[city=lisbon] × 3", "join[city=lisbon]", "export[city=turin] × 3", "join[city=turin]",
    ]  # fmt: skip


def test_hundreds_of_models_are_one_node_a_stage() -> None:
    steps = [StepRecord(run=1, key=f"train:m{n}", step=f"train:m{n}") for n in range(150)]
    steps += [StepRecord(run=1, key=f"promote:m{n}", step=f"promote:m{n}", needs=(f"train:m{n}",)) for n in range(150)]
    groups = runs.fold(steps)
    assert [(group.label, group.needs) for group in groups] == [("train × 150", ()), ("promote × 150", ("train",))]


def test_the_table_folds_what_nobody_has_to_see() -> None:
    steps = fan_out(100, failed=1)
    groups = runs.fold(steps)
    rows, found = runs.table(steps, groups)
    assert [row.group.key if row.group else row.step.key for row in rows if row.step or row.group] == [
        "start", "export", "export[item=0]", "join",
    ]  # fmt: skip
    assert found == 4
    rows, found = runs.table(steps, groups, of="export", limit=10)
    assert (len(rows), found) == (10, 100)
    assert len(runs.table(steps, groups, status="failed")[0]) == 1


def test_the_command_of_a_run_can_be_pasted_into_a_shell() -> None:
    run = RunRecord(kind="pipeline", targets=("publish",), params={"city": "são paulo; rm", "days": 7, "tags": ["a b"]})
    words = shlex.split(runs.command(run))
    assert words == [
        "headway", "run", "publish", "--param", "city=são paulo; rm", "--param", "days=7", "--param", 'tags=["a b"]',
    ]  # fmt: skip
    assert runs.command(RunRecord(kind="monitor", targets=("delivery",))) == "headway monitor delivery"


def test_a_run_that_goes_on_takes_as_long_as_it_has_taken() -> None:
    run = RunRecord(started_at=0)
    assert runs.seconds(run, 5_000_000) == 5.0
    assert runs.seconds(RunRecord(started_at=0, ended_at=2_000_000), 5_000_000) == 2.0
    assert runs.seconds(RunRecord(), 5_000_000) is None


# Parameters


@hw.pipeline(each={"shop": [1, 2]})
def publish(
    shop: int,
    city: Literal["lisbon", "turin"],
    days: int = 7,
    since: date | None = None,
    dry: bool = False,
    note: str = "none",
    tags: list[str] = ["a"],  # noqa: B006
) -> None:
    """Publish.

    days: how many
    """


PARAMETERS = parameters(publish)


def test_every_type_has_its_control_and_a_hint() -> None:
    kinds = {field.parameter.name: field.kind for field in params.fields(PARAMETERS, {})}
    assert kinds == {
        "shop": "number", "city": "select", "days": "number", "since": "date", "dry": "checkbox", "note": "text",
        "tags": "text",
    }  # fmt: skip
    fields = {field.parameter.name: field for field in params.fields(PARAMETERS, {"days": 3})}
    assert fields["days"].value == "3"
    assert fields["days"].hint == "how many"
    assert "once for each of 1, 2" in fields["shop"].hint
    assert fields["tags"].value == "a"


def test_a_form_as_it_was_rendered_gives_the_defaults() -> None:
    form = {field.name: [field.value] for field in params.fields(PARAMETERS, {"city": "turin"})}
    values, problems = params.read(publish, PARAMETERS, params.sent(PARAMETERS, form))
    assert problems == {}
    assert values == {"city": "turin", "days": 7, "since": None, "dry": False, "note": "none", "tags": ["a"]}


def test_every_wrong_field_is_told_at_once_in_words() -> None:
    given = {"city": "porto", "days": "soon", "dry": "true"}
    values, problems = params.read(publish, PARAMETERS, given)
    assert values == {}
    assert problems == {
        "city": "It is one of lisbon, turin, got 'porto'.",
        "days": "It takes a whole number, got 'soon'.",
    }
    assert params.read(publish, PARAMETERS, {})[1] == {"city": "It needs a value."}


def test_a_text_may_be_emptied_and_a_number_left_out() -> None:
    sent = params.sent(PARAMETERS, {"p.note": [""], "p.days": [""], "p.since": [""], "p.dry": ["false", "true"]})
    assert sent == {"note": "", "since": "", "dry": "true"}


# Logs


@pytest.fixture
def settings(tmp_path: Path) -> hw.settings.Settings:  # type: ignore[name-defined]
    (tmp_path / "headway.toml").write_text('[project]\nname = "p"\ndefinitions = "p"\n')
    return load_settings(tmp_path)


@given(st.text(alphabet="añ€😀\n", max_size=60), st.integers(1, 7))
def test_a_log_read_in_pieces_is_the_whole_log(tmp_path_factory: pytest.TempPathFactory, text: str, size: int) -> None:
    root = tmp_path_factory.mktemp("log")
    (root / "headway.toml").write_text('[project]\nname = "p"\ndefinitions = "p"\n')
    settings = load_settings(root)
    file = _logs.path(settings, 1, "export[item=1]")
    file.parent.mkdir(parents=True)
    raw = text.encode()
    read, offset = "", 0
    for cut in range(0, len(raw) + size, size):  # the writer is cut off at any byte
        file.write_bytes(raw[:cut])
        piece = _logs.piece(settings, 1, "export[item=1]", offset)
        read, offset = read + piece.text, piece.end
    file.write_bytes(raw)
    assert read + _logs.piece(settings, 1, "export[item=1]", offset).text == text


def test_a_long_log_is_shown_from_its_end_on_a_whole_line(settings: hw.settings.Settings) -> None:  # type: ignore[name-defined]
    file = _logs.path(settings, 1, "a")
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"line {n}\n" for n in range(20_000)))
    piece = _logs.piece(settings, 1, "a", -1)
    assert piece.begin > 0
    assert piece.text.startswith("line ")
    assert piece.text.endswith("line 19999\n")
    assert piece.end == piece.size
    assert _logs.piece(settings, 1, "other", -1).text == ""


def test_the_log_that_matters_comes_first() -> None:
    assert _logs.chosen(fan_out(5, failed=1), None).key == "export[item=0]"  # type: ignore[union-attr]
    assert _logs.chosen(fan_out(5, running=1), None).key == "export[item=0]"  # type: ignore[union-attr]
    assert _logs.chosen([], None) is None
    assert _logs.chosen(fan_out(5), "join").key == "join"  # type: ignore[union-attr]
    following = _logs.next_step(fan_out(5), "start", RunRecord(status="running"))
    assert following is not None
    assert following.step == "export"


# Features


def plan(refresh: int | None = MINUTE, ttl: int | None = None) -> ViewPlan:
    count = FeaturePlan("n", "count", "int64", window=WEEK)
    return ViewPlan("v", "f" * 32, "s", ("source/s",), "", (Field("k", "int64"),), (count,), refresh, 0, ttl)


def test_a_view_is_fresh_late_or_expired() -> None:
    now = 1_000 * MINUTE
    assert features.freshness(plan(), now, now) == ("good", "fresh")
    assert features.freshness(plan(), now - 2 * MINUTE, now) == ("warn", "late")
    assert features.freshness(plan(), now - 9 * MINUTE, now) == ("bad", "expired")
    assert features.freshness(plan(), None, now) == ("bad", "never materialized")
    assert features.freshness(plan(refresh=None), None, now) == ("muted", "historical only")


def test_lineage_shows_what_a_source_reads_and_who_reads_it() -> None:
    sources = {n: hw.Source(n, path=f"{n}.csv") for n in ("raw", "zones", "other")}
    sources["trips"] = hw.Source("trips", query="select * from raw join zones using (z)")
    drawn = data.lineage(
        "raw", sources, {"trips": ("raw", "zones")}, {"traffic": "trips", "weather": "other"},
        {"duration": ("trips", ["traffic"])},
    )  # fmt: skip
    for name in ("raw", "zones", "trips", "traffic", "duration"):
        assert name in drawn
    assert "weather" not in drawn
    assert "other" not in drawn


def test_checks_say_what_became_of_them_over_time() -> None:
    source = hw.Source("s", path="s.csv", checks=[hw.not_null("a"), hw.between("b", 0, 1, on_fail="quarantine")])
    first, second = (str(check) for check in source.checks)
    done = [
        (n, [CheckResult("s", first, "error", 100, 0), CheckResult("s", second, "quarantine", 100, n)]) for n in (0, 4)
    ]
    rows = data.check_rows(source, done)
    assert [row.state for row in rows] == [("good", "passed"), ("warn", "set rows aside")]
    assert rows[1].share == 0.04
    assert data.state(rows) == ("warn", "1 of 2 not met")
    assert "<svg" in (data.failures(rows) or "")
    assert data.failures(data.check_rows(source, done[:1])) is None
    assert data.state(data.check_rows(source, [])) == ("plain", "not checked yet")


# Monitoring


def figure(week: int, name: str = "fare", kind: str = "drift", alarm: bool = False, **more: object) -> Figure:
    start = week * WEEK
    values: dict[str, object] = {"statistic": 0.3 if alarm else 0.02, "threshold": 0.1, "n": 1000}
    values |= {"severity": "warning" if alarm else "info", "said": f"{name} moved" if alarm else ""}
    return Figure(
        model="m", kind=kind, name=name, window_start=start, window_end=start + WEEK, alarm=alarm, **(values | more)
    )  # type: ignore[arg-type]


BINS = {"bins": ["low", "high", "missing"], "reference": [0.5, 0.4, 0.1], "current": [0.2, 0.7, 0.1]}


def test_what_alarms_now_comes_first_then_what_ever_did() -> None:
    weeks = [figure(n, "quiet") for n in range(3)] + [figure(n, "was", alarm=n == 0) for n in range(3)]
    weeks += [figure(n, "is", alarm=n == 2) for n in range(3)]
    assert [(c.name, c.alarms, c.windows) for c in monitoring.charts(weeks)] == [
        ("is", 1, 3),
        ("was", 1, 3),
        ("quiet", 0, 3),
    ]
    assert [f.name for f in monitoring.alarms([f for f in weeks if f.window_start == 2 * WEEK])] == ["is"]


def test_the_bin_that_moved_is_the_one_that_monitoring_names() -> None:
    named = monitoring.bins(figure(1, alarm=True, details={**BINS, "moved": "high"}))
    assert [b.label for b in named if b.moved] == ["high"]
    guessed = monitoring.bins(figure(1, alarm=True, details=BINS))
    assert [b.moved for b in guessed].count(True) == 1
    assert not any(b.moved for b in monitoring.bins(figure(1, details=BINS)))
    assert monitoring.bins_picture(figure(1)) is None


def test_realised_and_estimated_stand_side_by_side() -> None:
    found = monitoring.performance(
        [figure(1, "mae", "performance"), figure(1, "mae", "estimate"), figure(2, "mae", "estimate")]
    )
    assert [(q.name, q.realised is not None, q.estimated is not None) for q in found] == [("mae", True, True)]
    assert "estimated: 2 windows" in found[0].picture


def test_shares_are_per_cent_and_distances_numbers() -> None:
    assert monitoring.written(figure(1, kind="missing", statistic=0.0123)) == "1.23 %"
    assert monitoring.written(figure(1)) == "0.02"
    assert monitoring.threshold(figure(1, threshold=None)) == "–"


def test_segments_come_after_the_whole_with_their_alarms() -> None:
    found = monitoring.by_segment(
        [figure(1, segment="b", alarm=True), figure(1), figure(1, segment="a"), figure(0, segment="old")]
    )
    assert list(found.items()) == [(None, 0), ("a", 0), ("b", 1), ("old", 0)]


def test_fewer_windows_of_a_wide_model() -> None:
    assert monitoring.window_count(10) == monitoring.MOST_WINDOWS
    assert monitoring.window_count(200) * 200 <= monitoring.MOST_FIGURES
    assert monitoring.window_count(10_000) == 8


@pytest.mark.parametrize(
    ("reference", "value", "worse", "limit"),
    [(221.0, 298.0, 77.0, "241"), (221.0, 211.0, -10.0, "241"), (0.8, 0.7, 0.1, "-19.2"), (0.8, 0.9, -0.1, "-19.2")],
)
def test_a_metric_is_held_against_the_value_it_may_reach(
    reference: float, value: float, worse: float, limit: str
) -> None:
    """Its threshold is how much worse than in the test it may be: upwards of an error, downwards of an accuracy."""
    found = figure(
        1, "mae", "performance", statistic=value, effect=worse, threshold=20.0, details={"reference": reference}
    )
    assert monitoring.threshold(found).replace("−", "-") == limit


def test_an_alarm_tells_of_the_comparison_that_raised_it() -> None:
    compared = [
        {"against": "the reference", "distance": 0.08, "threshold": 0.06, "alarm": False},
        {"against": "the 4 windows before", "distance": 0.5, "threshold": 0.0625, "alarm": True},
    ]
    details = {"check": "shape", "against": "the 4 windows before", "compared": compared}
    found = figure(1, "hour", alarm=True, statistic=0.0064, threshold=0.06, details=details)
    assert (monitoring.written(found), monitoring.threshold(found)) == ("0.25", "0.0625")


def test_a_share_that_fell_is_not_held_against_the_upper_limit() -> None:
    found = figure(1, "fare", "missing", alarm=True, statistic=0.2, threshold=0.35)
    assert (monitoring.written(found), monitoring.threshold(found)) == ("20.0 %", "–")
