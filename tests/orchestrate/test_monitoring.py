"""Watching a model: what raises alerts, what does not, and what follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.project import Shop, forget_package

from headway import HeadwayError, Project, load
from headway.clock import from_iso
from headway.data.lake import Lake, open_lake
from headway.data.predictions import Batch, batch_table, layout_of, read
from headway.define.watch_records import Figure
from headway.errors import DataError
from headway.orchestrate.monitoring.stage import Watched
from headway.train import Predictor, columns_of
from headway.train._evaluate import read_plan

WEEK = 7 * 86_400_000_000
MONDAY = from_iso("2024-03-04T00:00:00Z")
ROWS = 500

Change = Callable[[dict[str, np.ndarray]], None]


@contextmanager
def opened(shop: Shop, weeks: int) -> Iterator[Project]:
    """The project so many weeks after the first Monday."""
    forget_package()
    with load(shop.root, clock=MONDAY + weeks * WEEK) as project:
        yield project


def predict(
    shop: Shop,
    week: int,
    change: Change = lambda _: None,
    rows: int = ROWS,
    version: int = 1,
    begin: int = 0,
) -> None:
    """A week of logged predictions, from ``begin`` after its start on: rows such as the version was trained on, some
    changed, and what it says of them."""
    directory = shop.home / f"artifacts/delivery/{version}"
    plan = read_plan(directory)
    random = np.random.default_rng(week)
    chosen = random.integers(0, len(features()["distance"]), rows)
    columns = {name: values[chosen] for name, values in features().items()}
    change(columns)
    predicted, segments = Predictor.load(directory, plan).predict(columns, rows, None)
    batch = Batch(
        layout=layout_of(plan, version, "champion"),
        request_id=f"week-{week}",
        first=0,
        logged_at=MONDAY + week * WEEK,
        seconds=0.001,
        moment=np.sort(MONDAY + week * WEEK + random.integers(begin, WEEK, rows)),
        valid=np.ones(rows, bool),
        predicted=predicted,
        segments=segments,
        columns=columns,
        inputs={"distance": pa.array(columns["distance"]), "shop_id": pa.array(random.integers(0, 5, rows))},
    )
    lake(shop).write("predictions/delivery", batch_table(batch), "append")


def lake(shop: Shop) -> Lake:
    return open_lake(str(shop.home / "lake"))


@cache
def features() -> dict[str, np.ndarray]:
    """The rows that the version was trained on."""
    return columns_of(*_LEARNED)


_LEARNED: list[Any] = []


@pytest.fixture(autouse=True)
def _learned(shop: Shop) -> None:
    """What the version was trained on, read once."""
    from headway.orchestrate.training_set import training_set

    if not _LEARNED:
        with opened(shop, 0) as project:
            model = project.declarations.models["delivery"]
            data, _, _ = training_set(project.parts, model, from_iso("2024-03-01T00:30:00Z"))
            _LEARNED.extend((data.table, data.columns))


def watch(shop: Shop, weeks: int) -> Watched:
    """Monitor at the end of a week."""
    with opened(shop, weeks) as project:
        (found,) = project.monitoring.run("delivery")
    return found


def keys(watched: Watched) -> set[str]:
    """Of the alerts about predictions; that the store was late, as time leaps here, is another matter."""
    return {alert.key for alert in watched.alerts if alert.kind != "skew"}


def longer(columns: dict[str, np.ndarray]) -> None:
    columns["distance"] = columns["distance"] + 4.0


def holes(columns: dict[str, np.ndarray]) -> None:
    columns["distance"] = np.where(np.arange(ROWS) % 5 == 0, np.nan, columns["distance"])


def declare(shop: Shop, monitor: str) -> None:
    file = shop.root / "shop/models.py"
    file.write_text(f"{file.read_text()}\nwatch = hw.Monitor(delivery, {monitor})\n")


def alerts(shop: Shop) -> list[dict]:
    return [a for a in shop.call("alerts", "list", "--all", "--json").json() if a["kind"] != "skew"]


def told_to(shop: Shop, file: Path, more: str = "") -> None:
    """Have a command append every message to a file, a line each."""
    toml = (shop.root / "headway.toml").read_text()
    command = f"alerts.command = \"sh -c 'cat >> {file}; echo >> {file}'\"\n"
    (shop.root / "headway.toml").write_text(toml + command + more)


def messages(file: Path) -> list[dict]:
    """What was told, without the store that was late."""
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for message in found:
        message["alerts"] = [a for a in message["alerts"] if a["kind"] != "skew"]
    return [message for message in found if message["alerts"]]


def test_a_version_knows_what_it_was_trained_on(shop: Shop) -> None:
    file = shop.home / "artifacts/delivery/1/profile.json"
    profile = json.loads(file.read_text())
    assert profile["whole"]["columns"]["rows"] == 400
    assert set(profile["whole"]["columns"]["columns"]) >= {"distance", "sales__orders_7d", "at_request__pace"}
    assert profile["whole"]["predictions"]["rows"] == 87
    assert len(profile["past"]) == 3  # whole weeks of February


def test_an_older_version_is_held_against_its_training_set_computed_again(shop: Shop) -> None:
    (shop.home / "artifacts/delivery/1/profile.json").unlink()
    predict(shop, 0, longer)
    found = watch(shop, 1)
    assert "delivery/drift" in keys(found)
    assert "computed again" in found.windows[0].reference
    shop.edit("shop/features.py", 'hw.count(window="7d"), "minutes_7d"', 'hw.count(window="8d"), "minutes_7d"')
    for kept in (shop.home / "references/delivery").iterdir():
        kept.unlink()
    predict(shop, 1, longer)
    found = watch(shop, 2)
    assert {a.kind for a in found.alerts if a.kind != "skew"} == {"prediction"}
    assert any("trained with other features" in line for line in found.windows[0].blind)


def test_nothing_is_said_before_there_are_predictions(shop: Shop, empty: Shop) -> None:
    assert "no prediction is logged" in watch(shop, 1).said
    with opened(empty, 1) as project:
        (found,) = project.monitoring.run()
        assert "no version is live" in found.said


def test_clean_weeks_raise_nothing_and_are_looked_at_once(shop: Shop) -> None:
    for week in range(4):
        predict(shop, week)
    found = watch(shop, 4)
    assert [report.rows for report in found.windows] == [ROWS] * 4
    assert keys(found) == set()
    assert not any(f.alarm for report in found.windows for f in report.figures if f.kind != "skew")
    assert watch(shop, 4).windows == ()
    with opened(shop, 4) as project:
        figures = project.parts.metadata.figures.windows("delivery")
    assert {f.kind for f in figures} >= {"drift", "missing", "prediction", "volume", "skew", "quality"}
    assert {f.name for f in figures if f.kind == "drift" and f.details["check"] != "together"} == {
        "sales__orders_7d",
        "sales__minutes_7d",
        "distance",
        "at_request__pace",
    }


def test_a_shift_is_named_and_over_when_it_is_over(shop: Shop) -> None:
    predict(shop, 0)
    assert keys(watch(shop, 1)) == set()
    predict(shop, 1, longer)
    found = watch(shop, 2)
    assert keys(found) == {"delivery/drift", "delivery/prediction/prediction"}
    (drift,) = [a for a in found.alerts if a.kind == "drift"]
    assert "distance is higher than in the reference" in drift.title
    assert "n = 500" in drift.text
    predict(shop, 2)
    after = watch(shop, 3)
    assert keys(after) == set()
    assert {a.key for a in after.resolved if a.kind != "skew"} == keys(found)
    assert {a["state"] for a in alerts(shop)} == {"resolved"}


def test_nulls_and_a_column_that_vanished_are_named(shop: Shop) -> None:
    predict(shop, 0, holes)
    assert "delivery/missing" in keys(watch(shop, 1))
    rows = read(lake(shop), "delivery")
    at = pa.compute.add(rows["at"], pa.scalar(WEEK, pa.duration("us")))
    moved = rows.set_column(rows.schema.get_field_index("at"), "at", at).drop_columns(["f__at_request__pace"])
    lake(shop).write("predictions/delivery", moved, "overwrite")
    assert "delivery/quality/at_request__pace/vanished" in keys(watch(shop, 2))


def test_a_week_without_predictions_is_named(shop: Shop) -> None:
    for week in range(4):
        predict(shop, week)
    watch(shop, 4)
    found = watch(shop, 5)
    assert keys(found) == {"delivery/volume/rows"}
    assert found.windows[0].verdict == "Nothing was predicted in this window."


def test_what_is_found_again_is_counted_and_told_once(shop: Shop, tmp_path: Path) -> None:
    told = tmp_path / "told"
    told_to(shop, told)
    for week in range(3):
        predict(shop, week, longer)
        watch(shop, week + 1)
    assert [a["count"] for a in alerts(shop)] == [3, 3]
    (message,) = messages(told)
    assert {a["key"] for a in message["alerts"]} == {"delivery/drift", "delivery/prediction/prediction"}
    assert "distance is higher" in message["text"]
    predict(shop, 3)
    watch(shop, 4)
    over = messages(told)[1]
    assert {a["state"] for a in over["alerts"]} == {"resolved"}


def test_nobody_is_told_of_what_is_acknowledged_or_silenced(shop: Shop, tmp_path: Path) -> None:
    told = tmp_path / "told"
    told_to(shop, told, "alerts.repeat = 1\n")
    shop.call("alerts", "silence", "delivery/drift", "--for", "2d", "--why", "we are moving")
    predict(shop, 0, longer)
    found = watch(shop, 1)
    assert keys(found) == {"delivery/prediction/prediction"}
    (message,) = messages(told)
    assert [a["key"] for a in message["alerts"]] == ["delivery/prediction/prediction"]
    (one,) = [a for a in alerts(shop) if a["kind"] == "prediction"]
    shop.call("alerts", "ack", str(one["id"]), "--why", "looking")
    predict(shop, 1, longer)
    assert keys(watch(shop, 2)) == set()
    assert len(messages(told)) == 1


def test_a_channel_that_fails_is_reported_and_shown(shop: Shop) -> None:
    toml = (shop.root / "headway.toml").read_text()
    (shop.root / "headway.toml").write_text(f'{toml}alerts.command = "no-such-command"\n')
    predict(shop, 0, longer)
    found = watch(shop, 1)
    assert "cannot be started" in found.warnings[0]
    assert {a["told_at"] for a in alerts(shop)} == {None}
    shown = shop.call("status", code=3).out
    assert "command: the last alert did not get through" in shown


def test_a_threshold_says_what_is_worth_an_alert(shop: Shop) -> None:
    declare(shop, 'alert={"drift": "off", "skew": "off", "prediction": "critical"}, runbook="https://example.com/r"')
    predict(shop, 0, longer)
    found = watch(shop, 1)
    assert {a.kind for a in found.alerts} <= {"prediction"}
    assert all(a.severity == "critical" and a.runbook == "https://example.com/r" for a in found.alerts)
    assert any(f.alarm and f.kind == "drift" for f in found.windows[0].figures)


def test_chosen_columns_and_another_window(shop: Shop) -> None:
    declare(shop, 'columns=["sales__orders_7d"], window="1d"')
    predict(shop, 0, longer)
    found = watch(shop, 1)
    assert len(found.windows) == 7
    assert {f.name for w in found.windows for f in w.figures if f.kind == "drift"} == {"sales__orders_7d"}


def test_a_column_the_version_does_not_have_is_refused(shop: Shop) -> None:
    declare(shop, 'columns=["distnace"]')
    predict(shop, 0)
    with pytest.raises(HeadwayError, match=r"no column 'distnace'; did you mean 'distance'\?"):
        watch(shop, 1)


def test_windows_before_can_be_the_reference(shop: Shop) -> None:
    declare(shop, 'reference="previous"')
    for week in range(5):
        predict(shop, week, longer)
    first, *_, last = watch(shop, 5).windows
    assert "distance" in {f.name for f in first.alarms}  # nothing was before but the training set
    assert "distance" not in {f.name for f in last.alarms}
    assert "the windows before" in last.reference


def test_an_alert_trains_anew_once(shop: Shop) -> None:
    declare(shop, 'on_alert="retrain"')
    predict(shop, 0, longer)
    found = watch(shop, 1)
    assert "is queued" in found.actions[0]
    predict(shop, 1, longer)
    assert watch(shop, 2).actions == ()
    with opened(shop, 2) as project:
        (run,) = project.parts.metadata.runs.list(status=("queued",))
        lines = [line for line in project.parts.metadata.audit.list() if line.action == "retrain after alert"]
    assert (run.targets, run.trigger) == (("delivery",), "alert")
    assert len(lines) == 1
    assert lines[0].by == "headway monitor"
    assert "distance" in lines[0].why or "prediction" in lines[0].why


def test_an_alert_rolls_back_once(shop: Shop) -> None:
    declare(shop, 'on_alert="rollback"')
    shop.edit("shop/models.py", '"alpha": 1000.0', '"alpha": 10.0')
    shop.call("run")
    with opened(shop, 0) as project:
        live = project.models.champion("delivery")
        assert live is not None
        assert live.version == 2
    predict(shop, 0, longer, version=2)
    assert "rolled back from version 2 to 1" in watch(shop, 1).actions[0]
    with opened(shop, 1) as project:
        back = project.models.champion("delivery")
        assert back is not None
        assert back.version == 1
        line = project.models.log("delivery")[-1]
        assert (line.by, "prediction" in line.why) == ("headway monitor", True)
    predict(shop, 1, longer, version=2)
    predict(shop, 2, longer)
    assert watch(shop, 3).actions == ()
    with opened(shop, 3) as project:
        assert len([d for d in project.models.log("delivery") if d.action == "rollback"]) == 1


def test_a_column_that_appears_in_the_raw_file_is_named(shop: Shop) -> None:
    predict(shop, 0)
    assert keys(watch(shop, 1)) == set()
    orders = shop.orders()
    shop.write_orders(orders.append_column("surcharge", pa.array([0.5] * len(orders))))
    with opened(shop, 1) as project:
        project.run("raw_orders")
    found = watch(shop, 1)
    assert found.windows == ()  # no window has ended since; the sources are as they are now all the same
    assert keys(found) == {"delivery/quality/raw_orders"}
    assert "raw_orders has a new column surcharge" in found.alerts[0].title
    shop.write_orders(orders)
    with opened(shop, 1) as project:
        with pytest.raises(DataError, match=r"'surcharge' \(double\) is in the lake, but does not come any more"):
            project.run("raw_orders")
        project.ingest("raw_orders", full=True)
    assert keys(watch(shop, 1)) == set()


def label(shop: Shop, week: int, weeks: int, wrong: float) -> None:
    """Labels for all predictions of a week, known at the end of another one; ``wrong`` by so many seconds."""
    logged = read(lake(shop), "delivery", MONDAY + week * WEEK, MONDAY + (week + 1) * WEEK)
    random = np.random.default_rng(week)
    right = np.asarray(logged["prediction"]) + random.normal(0, wrong, len(logged))
    known = pa.repeat(pa.scalar(MONDAY + weeks * WEEK - 1, pa.int64()), len(logged)).cast(pa.timestamp("us", "UTC"))
    labels = {"request_id": logged["request_id"], "row": logged["row"], "at": pa.nulls(len(logged), known.type)}
    labels |= {"label": pa.array([repr(x) for x in right.tolist()]), "known_at": known, "logged_at": known}
    lake(shop).write("labels/delivery", pa.table({**labels, "source": pa.repeat("http", len(logged))}), "append")


def kinds(shop: Shop, weeks: int, week: int) -> dict[str, Figure]:
    """What is known of the mae of a week."""
    with opened(shop, weeks) as project:
        figures = project.parts.metadata.figures.windows("delivery", name="mae", segment=None)
    return {f.kind: f for f in figures if f.window_start == MONDAY + week * WEEK}


def test_performance_is_estimated_until_labels_come_and_then_known(shop: Shop) -> None:
    shop.edit("shop/models.py", 'test="7d"', 'test="14d"')
    shop.call("run", code=None)
    with opened(shop, 0) as project:
        record = project.models.versions("delivery")[-1]
        project.models.promote("delivery", record.version, why="a longer test")
    predict(shop, 0, version=record.version)
    predict(shop, 1, version=record.version)
    first = watch(shop, 1)
    assert keys(first) == set()
    found = kinds(shop, 1, 0)
    assert set(found) == {"estimate"}
    assert found["estimate"].statistic == pytest.approx(record.metrics["mae"], rel=0.35)
    assert any("estimated without labels assumes" in line for line in first.windows[0].blind)
    assert any("no labels for this window yet" in line for line in first.windows[0].blind)

    label(shop, 0, weeks=2, wrong=record.metrics["mae"])
    assert keys(watch(shop, 2)) == set()
    realised = kinds(shop, 2, 0)["performance"]
    assert realised.n == ROWS
    assert realised.details["labelled"] == 1.0
    assert not realised.alarm
    assert set(kinds(shop, 2, 1)) == {"estimate"}

    label(shop, 1, weeks=3, wrong=10 * record.metrics["mae"])
    predict(shop, 2, version=record.version)
    late = watch(shop, 3)
    assert "delivery/performance/mae" in keys(late)
    assert kinds(shop, 3, 1)["performance"].alarm

    label(shop, 2, weeks=3, wrong=record.metrics["mae"])
    assert "delivery/performance/mae" not in keys(watch(shop, 3))


def test_performance_waits_for_the_label_delay(shop: Shop) -> None:
    declare(shop, 'label_delay="7d", metrics="mae"')
    predict(shop, 0)
    label(shop, 0, weeks=1, wrong=10.0)
    watch(shop, 1)
    assert set(kinds(shop, 1, 0)) == {"estimate"}
    predict(shop, 1)
    watch(shop, 2)
    assert kinds(shop, 2, 0)["performance"].n == ROWS


def test_a_report_is_written_for_every_window(shop: Shop, tmp_path: Path) -> None:
    predict(shop, 0, longer)
    with opened(shop, 1) as project:
        (found,) = project.monitoring.run("delivery", reports=tmp_path / "reports")
    folder = shop.home / "reports/delivery"
    assert {p.name for p in folder.iterdir()} == {"2024-03-04_2024-03-11.html", "2024-03-04_2024-03-11.json"}
    assert found.reports == (str(folder / "2024-03-04_2024-03-11.html"),)
    page = (folder / "2024-03-04_2024-03-11.html").read_text()
    assert "distance is higher than in the reference" in page
    assert "<svg" in page
    assert len(list((tmp_path / "reports").iterdir())) == 2


def test_two_days_are_no_week(shop: Shop) -> None:
    predict(shop, 0, longer, begin=WEEK * 5 // 7)
    found = watch(shop, 1)
    assert keys(found) == set()
    assert any("a part of this window" in note for note in found.windows[0].notes)
    predict(shop, 1, longer)
    assert "delivery/drift" in keys(watch(shop, 2))


def test_the_rows_that_labels_come_from_are_watched(shop: Shop) -> None:
    old = shop.orders().slice(0, 200)
    random = np.random.default_rng(5)
    placed = np.sort(MONDAY + random.integers(0, WEEK - 86_400_000_000, 200))
    took = np.asarray(old["delivered_at"].cast(pa.int64())) - np.asarray(old["placed_at"].cast(pa.int64()))

    def at(values: np.ndarray) -> pa.Array:
        return pa.array(values).cast(pa.timestamp("us", "UTC"))

    new = {"order_id": pa.array(range(10_000, 10_200)), "placed_at": at(placed), "delivered_at": at(placed + 3 * took)}
    shop.write_orders(pa.concat_tables([shop.orders(), pa.table({c: new.get(c, old[c]) for c in old.column_names})]))
    predict(shop, 0)
    with opened(shop, 1) as project:
        project.run("orders")
    found = watch(shop, 1)
    (drifted,) = (alert for alert in found.alerts if alert.key == "delivery/drift")
    assert drifted.details["names"] == ["orders.minutes"]  # the label: no feature, and none of the features moved
    assert "orders.minutes is higher" in drifted.title
