"""Figures, alerts, silences and the audit."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from headway.define.watch_records import Alert, AlertState, Figure
from headway.errors import NotFoundError
from headway.metadata import Metadata, open_metadata


def figure(name: str = "fare", end: int = 20, **changes: Any) -> Figure:
    values = {"model": "m", "kind": "drift", "name": name, "window_start": end - 10, "window_end": end, "n": 5}
    return Figure(**values | changes)


def alert(key: str = "m/drift/fare", **changes: Any) -> Alert:
    return Alert(**{"key": key, "model": "m", "kind": "drift", "title": "fare moved", **changes})


def test_a_figure_comes_back_as_it_went_in(metadata: Metadata) -> None:
    full = figure(
        version=3,
        segment="Queens",
        reference_n=7,
        statistic=0.5,
        effect=-1.0,
        threshold=0.1,
        p=1e-300,
        method="history",
        alarm=True,
        severity="critical",
        said="bin 3 holds 9 %",
        details={"bins": [0.1, 0.9]},
    )
    metadata.figures.put([full], at=1)

    assert metadata.figures.windows("m") == metadata.figures.latest("m") == [full]
    assert metadata.figures.windows("other") == metadata.figures.latest("other") == []


def test_monitoring_a_window_again_replaces_its_figures(metadata: Metadata) -> None:
    """What tells figures apart are model, version, segment, kind, name and window, None being a value like others."""
    different = [
        figure(),
        figure("tip"),
        figure(kind="missing"),
        figure(segment="Queens"),
        figure(segment=""),
        figure(version=1),
        figure(end=30),
        figure(window_start=0),
        figure(model="other"),
    ]
    metadata.figures.put(different, at=1)
    again = [msgspec.structs.replace(one, n=6, alarm=True) for one in different]

    metadata.figures.put([*different, *again], at=2)

    found = [*metadata.figures.windows("m"), *metadata.figures.windows("other")]
    assert sorted(found, key=repr) == sorted(again, key=repr)
    assert metadata.figures.models() == {"m": (30, 1), "other": (20, 1)}
    metadata.figures.put([figure(end=30)], at=3)
    assert metadata.figures.models()["m"] == (30, 0)


def test_windows_are_chosen_and_come_oldest_first(metadata: Metadata) -> None:
    made = [
        figure(name, end, segment=segment)
        for end in (40, 20, 30)
        for name in ("fare", "tip")
        for segment in (None, "Queens")
    ]
    metadata.figures.put([*made, figure("mae", 30, kind="performance")], at=1)
    windows = metadata.figures.windows

    assert [f.window_end for f in windows("m", name="fare", segment=None)] == [20, 30, 40]
    assert len(windows("m", segment=None)) == 7
    assert len(windows("m", segment="Queens")) == 6
    assert [f.name for f in windows("m", kind="performance")] == ["mae"]
    assert {f.window_end for f in windows("m", since=20)} == {30, 40}
    assert [f.window_end for f in windows("m", name="tip", segment="Queens", limit=2)] == [30, 40]


def test_the_newest_window_is_summed_up(metadata: Metadata) -> None:
    metadata.figures.put([figure(end=20, alarm=True), figure(end=30), figure("a", 30, alarm=True)], at=1)
    metadata.figures.put([figure("a", 30, alarm=True, segment=s) for s in ("Queens", "Bronx")], at=1)
    metadata.figures.put([figure("b", 30, alarm=True, segment="Bronx"), figure(model="calm")], at=1)
    metadata.figures.put([], at=1)

    assert metadata.figures.models() == {"calm": (20, 0), "m": (30, 4)}
    assert metadata.figures.alarms() == {"m": {None: 1, "Queens": 1, "Bronx": 2}}
    assert {f.window_end for f in metadata.figures.latest("m")} == {30}


def test_what_is_found_again_is_counted(metadata: Metadata) -> None:
    first, new = metadata.alerts.found(alert(severity="warning", text="9 %", runbook="wiki/fare"), at=10)
    assert new
    assert first == alert(id=first.id, text="9 %", runbook="wiki/fare", first_at=10, last_at=10)

    second, new = metadata.alerts.found(alert(severity="critical", text="12 %", details={"bin": 3}), at=20)
    third, _ = metadata.alerts.found(alert(severity="info", text="11 %"), at=15)

    assert not new
    assert (second.id, second.count, second.severity, second.details) == (first.id, 2, "critical", {"bin": 3})
    assert (third.count, third.severity, third.text, third.runbook) == (3, "critical", "11 %", "wiki/fare")
    assert (third.first_at, third.last_at) == (10, 20)
    assert metadata.alerts.get(first.id) == third
    assert metadata.alerts.list() == [third]


def test_an_answer_is_kept_while_the_alert_goes_on(metadata: Metadata) -> None:
    found, _ = metadata.alerts.found(alert(), at=1)

    answered = metadata.alerts.acknowledge(found.id, "ada", "looking", at=2)

    assert (answered.state, answered.by, answered.why, answered.answered_at) == ("acknowledged", "ada", "looking", 2)
    again, new = metadata.alerts.found(alert(), at=3)
    assert (again.state, again.by, again.count, new) == ("acknowledged", "ada", 2, False)


def test_the_same_thing_after_an_alert_was_resolved_is_new(metadata: Metadata) -> None:
    found, _ = metadata.alerts.found(alert(), at=1)
    resolved = metadata.alerts.resolve(found.id, "ada", "fixed", at=2)
    assert (resolved.state, resolved.by, resolved.answered_at) == ("resolved", "ada", 2)

    assert metadata.alerts.acknowledge(found.id, "eve", "late", at=3) == resolved
    other, new = metadata.alerts.found(alert(), at=4)
    assert new
    assert other.id > found.id
    metadata.alerts.resolve_key("m/drift/fare", at=5)
    metadata.alerts.resolve_key("m/drift/nothing", at=5)
    gone = metadata.alerts.get(other.id)
    assert gone is not None
    assert (gone.state, gone.by, gone.answered_at) == ("resolved", "headway", 5)
    assert metadata.alerts.list() == []
    assert [a.id for a in metadata.alerts.list(state=["resolved"])] == [other.id, found.id]


def test_alerts_come_worst_first_then_newest_and_page(metadata: Metadata) -> None:
    severities = ("info", "critical", "warning", "critical", "info", "warning", "warning")
    made = [metadata.alerts.found(alert(f"m/{n}", severity=s), at=n)[0] for n, s in enumerate(severities)]
    metadata.alerts.acknowledge(made[1].id, "ada", "", at=9)
    metadata.alerts.found(alert("other/x", model="other"), at=9)
    expected = [made[n].key for n in (3, 1, 6, 5, 2, 4, 0)]

    pages: list[str] = []
    before: int | None = None
    while page := metadata.alerts.list(model="m", before=before, limit=2):
        pages += [a.key for a in page]
        before = page[-1].id

    assert pages == expected
    states: list[AlertState] = ["acknowledged"]
    assert [a.key for a in metadata.alerts.list(state=states)] == ["m/1"]
    assert metadata.alerts.list(state=()) == []


def test_a_silence_covers_whole_parts_of_a_key(metadata: Metadata) -> None:
    found, _ = metadata.alerts.found(alert(), at=1)
    metadata.alerts.silence("m/drift", until=100, by="ada", why="known", at=2)
    metadata.alerts.silence("m/drift/fare/", until=50, by="ada", why="known", at=2)

    assert metadata.alerts.silenced("m/drift/fare", 99) == 100
    assert metadata.alerts.silenced("m/drift", 99) == 100
    assert metadata.alerts.silenced("m/drift/fare", 100) is None
    assert metadata.alerts.silenced("m/drifting", 1) is None
    assert metadata.alerts.silenced("m", 1) is None
    assert [a.silenced_until for a in metadata.alerts.list()] == [100]
    assert [(s.key_prefix, s.until) for s in metadata.alerts.silences()] == [("m/drift", 100), ("m/drift/fare", 50)]

    metadata.alerts.silence("m/drift", until=60, by="eve", why="longer", at=3)
    metadata.alerts.unsilence("m/drift/fare")
    assert [(s.key_prefix, s.until, s.by) for s in metadata.alerts.silences()] == [("m/drift", 60, "eve")]
    metadata.alerts.silence("", until=70, by="eve", why="all", at=3)
    assert metadata.alerts.silenced("anything", 1) == 70
    assert metadata.alerts.get(found.id).silenced_until == 70  # type: ignore[union-attr]


def test_who_was_told_is_remembered(metadata: Metadata) -> None:
    found, _ = metadata.alerts.found(alert(), at=1)

    metadata.alerts.told(found.id, at=5)

    assert metadata.alerts.found(alert(), at=6)[0].told_at == 5


def test_an_alert_nobody_knows_is_refused(metadata: Metadata) -> None:
    with pytest.raises(NotFoundError, match="there is no alert 7; `headway alerts list`"):
        metadata.alerts.acknowledge(7, "me", "", at=1)
    assert metadata.alerts.get(7) is None


def test_many_finders_make_one_alert_and_lose_no_count(metadata: Metadata) -> None:
    together = threading.Barrier(4)

    def find(worker: int) -> int:
        together.wait()
        return sum(metadata.alerts.found(alert(), at=worker)[1] for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        new = sum(pool.map(find, range(4)))

    assert new == 1
    assert [a.count for a in metadata.alerts.list()] == [40]


def test_the_audit_is_read_backwards_in_pages(metadata: Metadata, url: str) -> None:
    lines = [metadata.audit.append("ada", "start run", f"run {n}", "why", {"n": [n]}, at=n) for n in range(5)]
    with open_metadata(url, "trips", "prod") as other:
        other.audit.append("eve", "pause schedule", "model:m", at=9)

    assert metadata.audit.list() == lines[::-1]
    assert metadata.audit.list(before=lines[3].id, limit=2) == [lines[2], lines[1]]
