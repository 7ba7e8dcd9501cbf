"""Traps of materialization and of online reads (reference/feature_store.md §6, §3.5 and §3.6), each with its rule.

What is held elsewhere as well:

| trap | also |
|---|---|
| older never replaces newer, in every store; order within and across batches; two writers on one key | headway.testing.online_store, run by tests/conformance |
| a crash between writing rows and the watermark | tests/data/test_materialize.py::test_online_equals_offline_after_every_step, test_a_killed_run_is_finished_by_the_next |
| batch against stream: runs that overlap | tests/data/test_materialize.py::test_overlapping_runs |
| online == offline at "now", on random rows, refreshes and clocks | test_online.py; over HTTP test_http_equals_offline.py |
| pushed rows are appended, never rewritten as a whole | tests/data/test_pushes.py |
| which state when, to the microsecond | tests/data/online/test_read.py |
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import lmdb
import pyarrow as pa
import pytest
from tests.redis_server import any_running
from tests.semantics.conftest import Maker
from tests.semantics.http import served
from tests.semantics.lab import Lab, lab, t, table

import headway as hw
from headway.errors import HeadwayError, SettingsError

TICK = timedelta(microseconds=1)
HOURLY = """
    s = hw.Source("s", path="data/s.parquet", timestamp="ts")
    v = hw.FeatureView("v", source=s, entity=who, refresh="1h", features={"n": hw.count(window="2h"), "x": "x"})
"""
VERSIONS = HOURLY.replace('"ts")', '"ts", id="id", created="seen", deleted="gone")')
LAST = """
    s = hw.Source("s", path="data/s.parquet", timestamp="ts")
    v = hw.FeatureView("v", source=s, entity=who, features={"x": "x"})
"""
ROWS = table("k ts x", (1, t("10:30"), 1), (1, t("11:30"), 2), (2, t("09:30"), 3), (3, t("12:30"), 4))


def stored(made: Lab) -> dict[bytes, bytes]:
    """Every byte of the online store; read from a copy, for a process opens an LMDB directory once."""
    path = unquote(made.project.settings.online_url.removeprefix("lmdb://"))
    copied = shutil.copytree(path, made.root / "copied", dirs_exist_ok=True)
    with lmdb.open(str(copied), readonly=True, lock=False) as env, env.begin() as txn:
        return dict(txn.cursor())


def version(k: int, id: str, ts: str, seen: str | None, x: int | None, gone: bool = False) -> tuple[object, ...]:
    return (k, id, t(ts), None if seen is None else t(seen), x, gone)


def versions(*rows: tuple[object, ...]) -> pa.Table:
    return table("k id ts seen x gone", *rows, x=pa.int64())


def test_trap_the_same_range_again_gives_the_same_bytes(make: Maker) -> None:
    """§3.4: a refresh that is there already is not done again, and done again in full it writes the same."""
    made = make(HOURLY, now="12:10", s=ROWS)
    assert made.refresh("v") == ["full"]
    first = stored(made)
    assert made.refresh("v") == ["current"]
    assert stored(made) == first
    assert [done.outcome for done in made.project.features.materialize("v", full=True)] == ["full"]
    assert stored(made) == first


def test_trap_overlapping_ranges_end_where_one_run_would(make: Maker) -> None:
    """§3.4: the later as-of stands whatever the order of the runs, and rows on a boundary count once."""
    made = make(HOURLY, now="14:10", s=ROWS)
    outcomes = []
    for until in ("12:00", "11:00", "13:30", "12:30", "13:00", "13:59"):
        result = made.project.features.materialize("v", until=int(t(until).timestamp() * 1_000_000))
        outcomes += [done.outcome for done in result]
    assert outcomes == ["full", "superseded", "changed", "superseded", "current", "current"]
    assert made.as_of("v", 1, 2, 3) == [t("13:00")] * 3
    assert made.served("v", 1, 2, 3) == made.past("v", *((k, t("13:00")) for k in (1, 2, 3)))
    assert made.served("v", 1, 2, 3) == [(1, 2), (0, 3), (1, 4)]


def test_trap_rows_out_of_order_within_a_batch_leave_the_latest(make: Maker) -> None:
    """§3.2: event time decides, not the place: descending, ascending and mixed."""
    times = [("12:00:00", 10), ("12:00:05", 20), ("12:00:10", 30)]
    orders = [(2, 1, 0), (0, 1, 2), (1, 2, 0)]
    rows = [(k, t(times[n][0]), times[n][1]) for k, order in enumerate(orders) for n in order]
    made = make(LAST, now="13:00", s=table("k ts x", *rows))
    made.refresh("v")
    assert made.served("v", 0, 1, 2) == [30, 30, 30]


def test_trap_an_older_event_in_a_later_batch_does_not_replace_a_newer_one(make: Maker) -> None:
    """§3.4, across batches: what arrives later but happened earlier is not the latest value."""
    made = make(LAST, now="13:00", s=table("k ts x", (1, t("12:00"), "newer")))
    made.refresh("v")
    made.now("14:00")
    made.put(s=table("k ts x", (1, t("12:00"), "newer"), (1, t("11:00"), "older")))
    made.refresh("v")
    assert made.served("v", 1) == made.past("v", (1, t("14:00"))) == ["newer"]


def test_defect_3_5_a_correction_with_the_same_event_time_is_served(make: Maker) -> None:
    """§3.4: the write guard orders by as-of and version of the data, so a correction gets through; offline the same."""
    first = version(1, "a", "11:00", "11:00", 1)
    made = make(VERSIONS, now="12:10", s=versions(first))
    made.refresh("v")
    assert made.served("v", 1) == [(1, 1)]
    made.now("12:40")
    made.put(s=versions(first, version(1, "a", "11:00", "12:30", 2)))
    made.refresh("v")
    assert made.served("v", 1) == made.past("v", (1, t("12:40"))) == [(1, 1)]  # at 12:00 it was not known
    made.now("13:00")
    made.refresh("v")
    assert made.served("v", 1) == made.past("v", (1, t("13:00"))) == [(1, 2)]


def test_defect_3_5_a_correction_known_by_then_is_served_at_the_same_as_of(make: Maker) -> None:
    """§3.4: the same refresh over newer data rewrites what it wrote: equal as-of, greater version."""
    first = version(1, "a", "11:00", "11:00", 1)
    made = make(VERSIONS, now="12:10", s=versions(first))
    made.refresh("v")
    made.put(s=versions(first, version(1, "a", "11:00", "11:59", 2)))  # arrived late, says it was known in time
    assert made.refresh("v") == ["full"]
    assert made.as_of("v", 1) == [t("12:00")]
    assert made.served("v", 1) == made.past("v", (1, t("12:10"))) == [(1, 2)]


def test_defect_3_5_an_older_run_never_replaces_a_newer_one(make: Maker) -> None:
    """§3.4: a run until an earlier moment finds the later refresh and leaves it, also when it is told to write all."""
    made = make(HOURLY, now="12:10", s=ROWS)
    made.refresh("v")
    noon, at_noon = int(t("12:00").timestamp() * 1_000_000), stored(made)
    made.now("13:10")
    made.refresh("v")
    before = stored(made)
    for full in (False, True):
        assert [d.outcome for d in made.project.features.materialize("v", until=noon, full=full)] == ["superseded"]
    assert stored(made) == before
    store = made.project.parts.open_online(False)
    store.put_many(at_noon.items())  # what a run that was held up writes when the later one is done
    store.close()
    assert stored(made) == before | {key: row for key, row in at_noon.items() if before.get(key, row) == row}
    assert made.served("v", 1, 3) == [(1, 2), (1, 4)]
    assert made.as_of("v", 1, 3) == [t("13:00")] * 2


def test_trap_two_writers_at_once_end_in_the_later_refresh(make: Maker, tmp_path: Path) -> None:
    """§3.4: the guard is atomic: whichever comes last, the later as-of stands in every row."""
    rows = [(k, t("10:30") + timedelta(seconds=k), k) for k in range(400)]
    made = make(HOURLY, now="14:00", s=table("k ts x", *rows))
    others = [lab_again(made) for _ in range(2)]
    failures: list[HeadwayError] = []

    def write(other: Lab, hours: list[int]) -> None:
        try:
            for hour in hours:
                until = int(t(f"{hour:02}:00").timestamp() * 1_000_000)
                other.project.features.materialize("v", until=until, full=True)
        except HeadwayError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(others[n], [11 + n, 13 - n, 12, 13])) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for other in others:
        other.close()
    assert not failures
    made.now("13:00")
    assert made.served("v", *range(400)) == made.past("v", *((k, t("13:00")) for k in range(400)))
    assert set(made.as_of("v", *range(400))) == {t("13:00")}


def lab_again(made: Lab) -> Lab:
    """The same project, opened once more."""
    again = Lab(made.root, made.clock)
    again.project = hw.load(made.root, clock=made.clock)
    assert again.project.features.plans()
    return again


def test_defect_3_6_late_rows_are_materialized(make: Maker) -> None:
    """§3.4: every entity with newly known rows is rewritten: progress is measured by arrival, never by event time."""
    first = [version(1, "a", "11:00", "11:00", 1), version(2, "b", "11:30", "11:30", 2)]
    made = make(VERSIONS, now="12:10", s=versions(*first))
    made.refresh("v")
    made.now("15:10")
    made.put(s=versions(*first, version(3, "c", "2023-12-01T00:00", "14:00", 3), version(1, "d", "11:10", "14:30", 4)))
    made.refresh("v")
    assert made.served("v", 1, 2, 3) == [(0, 4), (0, 2), (0, 3)]
    assert made.served("v", 1, 2, 3) == made.past("v", *((k, t("15:10")) for k in (1, 2, 3)))


def test_defect_3_6_rows_become_known_without_any_arrival(make: Maker) -> None:
    """§3.4: a row that has been in the lake for hours and is known only now is written by the refresh after that."""
    made = make(
        VERSIONS, now="12:10", s=versions(version(1, "a", "05:00", "13:30", 1), version(1, "b", "04:00", "04:00", 9))
    )
    made.refresh("v")
    assert made.served("v", 1) == [(0, 9)]
    for now, expected in (("13:10", (0, 9)), ("14:10", (0, 1))):
        made.now(now)
        made.refresh("v")
        assert made.served("v", 1) == made.past("v", (1, t(now))) == [expected]


def test_defect_3_6_a_row_on_the_boundary_of_two_runs_counts_once(make: Maker) -> None:
    """§3.2: [r - window, r): consecutive windows of one refresh neither share a row nor leave one out."""
    rows = [(1, t(f"{hour:02}:00"), hour) for hour in range(9, 15)]
    made = make(HOURLY.replace('window="2h"', 'window="1h"'), now="09:00", s=table("k ts x", *rows))
    counted = []
    for hour in range(9, 16):
        made.now(f"{hour:02}:00")
        made.refresh("v")
        counted += made.served("v", 1)
    assert counted == [(0, None), (1, 9), (1, 10), (1, 11), (1, 12), (1, 13), (1, 14)]


def test_defect_3_6_a_ttl_holds_on_read(make: Maker) -> None:
    """§3.7: a latest value whose event is older than ttl at r is null and ``expired``: by the clock, without a write.
    In Python and over HTTP; and offline at the same moment."""
    declared = LAST.replace('"x": "x"', '"x": "x", "n": hw.count()').replace("})", '}, ttl="1h")')
    made = make(declared, now="12:10", s=table("k ts x", (1, t("12:00"), 7), (2, t("11:00"), 8)))
    made.refresh("v")
    with served(made) as http:
        for now, one, state in (("12:10", 7, "ok"), ("13:00", 7, "ok"), ("13:00:00.000001", None, "expired")):
            made.now(now)
            assert made.stated("v", 1, 2) == [((one, 1), (state, "ok")), ((None, 1), ("expired", "ok"))]
            assert made.past("v", (1, t(now)), (2, t(now))) == [(one, 1), (None, 1)]
            answer = http.post("/v1/features/v", {"entities": {"k": [1, 2]}})
            assert answer["features"] == {"x": [one, None], "n": [1, 1]}
            assert answer["state"] == {"x": [state, "expired"]}


def test_defect_3_6_values_of_a_refresh_that_is_overdue_are_late_then_expired(make: Maker) -> None:
    """§3.7: ``late`` until ttl (without one three refreshes) has passed, then null: a store nobody refreshes says so."""
    made = make(HOURLY, now="12:10", s=ROWS)
    made.refresh("v")
    with served(made) as http:
        for now, value, state in (("12:59:59", (2, 2), "ok"), ("13:00", (2, 2), "late"), ("15:59:59", (2, 2), "late"),
                                  ("16:00", (None, None), "expired")):  # fmt: skip
            made.now(now)
            assert made.stated("v", 1) == [(value, (state, state))]
            assert made.as_of("v", 1) == [t("12:00")]
            answer = http.post("/v1/features/v", {"entities": {"k": 1}})
            assert tuple(column[0] for column in answer["features"].values()) == value
            assert answer["state"] == ({} if state == "ok" else {"n": [state], "x": [state]})
            assert answer["as_of"] == "2024-01-10T12:00:00Z"


def test_defect_3_6_times_are_kept_to_the_microsecond(make: Maker) -> None:
    """§3.8: microseconds inside: order, as-of and values; nothing is cut to whole seconds."""
    rows = table(
        "k ts at", (1, t("12:00") + 2 * TICK, t("12:00") + 2 * TICK), (1, t("12:00") + TICK, t("12:00") + TICK)
    )
    made = make(LAST.replace('"x": "x"', '"at": "at"'), now="12:00", s=rows)
    made.clock.instant += 2
    made.refresh("v")
    assert made.served("v", 1) == [t("12:00") + TICK]
    made.clock.instant += 1
    made.refresh("v")
    assert made.served("v", 1) == [t("12:00") + 2 * TICK]
    assert made.as_of("v", 1) == [t("12:00") + 3 * TICK]


def test_trap_a_delete_takes_the_fact_away_everywhere_from_then_on(make: Maker) -> None:
    """§3.1: a delete is a version: from its known_at on the fact is gone, before that it was there."""
    rows = [
        version(1, "a", "11:00", "11:00", 1),
        version(1, "b", "11:30", "11:30", 2),
        version(2, "c", "11:00", "11:00", 3),
    ]
    made = make(VERSIONS, now="12:10", s=versions(*rows))
    made.refresh("v")
    assert made.served("v", 1, 2) == [(2, 2), (1, 3)]
    made.now("12:40")
    rows += [version(1, "b", "11:30", "12:30", None, True), version(2, "c", "11:00", "12:30", None, True)]
    made.put(s=versions(*rows))
    for now, expected in (("12:40", [(2, 2), (1, 3)]), ("13:10", [(1, 1), (0, None)])):
        made.now(now)
        made.refresh("v")
        assert made.served("v", 1, 2) == made.past("v", (1, t(now)), (2, t(now))) == expected


def test_trap_a_deleted_fact_can_come_back(make: Maker) -> None:
    """§3.1: versions of one id take turns: there, gone, there again."""
    turns = [("09:00", 1, False), ("10:30", None, True), ("11:30", 2, False)]
    made = make(VERSIONS, s=versions(*(version(1, "a", "09:00", seen, x, gone) for seen, x, gone in turns)))
    asked = ["10:00", "11:00", "11:59", "12:00"]
    assert made.past("v", *((1, t(at)) for at in asked)) == [(1, 1), (0, None), (0, None), (0, 2)]


def test_trap_a_file_that_is_changed_does_not_change_the_past(make: Maker) -> None:
    """§3.1: without ``created`` a changed row of an id is a version from its arrival on, and one that is gone is deleted
    from then on: what was trained on before stays as it was, and what is served follows."""
    declared = """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts", id="id")
        v = hw.FeatureView("v", source=s, entity=who, refresh="1h", features={
            "n": hw.count(), "a": hw.last("case when id = 'a' then x end"), "x": "x"})
    """
    made = make(declared, now="12:10", s=table("k id ts x", (1, "a", t("11:30"), 1)))
    made.refresh("v")
    assert made.served("v", 1) == [(1, 1, 1)]
    made.now("13:10")
    made.put(s=table("k id ts x", (1, "a", t("11:30"), 2), (1, "b", t("11:40"), 3)))
    made.now("15:10")
    made.put(s=table("k id ts x", (1, "b", t("11:40"), 3)))
    asked = ["12:00", "13:00", "14:00", "15:00", "16:00"]
    expected = [(2, 1, 3), (2, 1, 3), (2, 2, 3), (2, 2, 3), (1, None, 3)]  # b is new, and says when it happened
    assert made.past("v", *((1, t(at)) for at in asked)) == expected
    for now, right in (("15:10", expected[3]), ("16:10", expected[4])):
        made.now(now)
        made.refresh("v")
        assert made.served("v", 1) == [right]


def test_trap_a_new_column_changes_nothing_for_a_view_without_it(make: Maker) -> None:
    """§3.10: the fingerprint covers what decides a value; a column nobody asked for does not."""
    made = make(HOURLY, now="12:10", s=ROWS)
    made.refresh("v")
    fingerprint = made.project.features.plans()["v"].fingerprint
    made.put(s=ROWS.append_column("note", pa.array(["new"] * 4)))
    made.refresh("v")
    assert made.project.features.plans()["v"].fingerprint == fingerprint
    assert made.served("v", 1, 2) == [(2, 2), (0, 3)]


def test_trap_a_column_that_is_gone_stops_the_view_and_leaves_what_is_served(make: Maker) -> None:
    """A sentence that names the view and the column; what was materialized is served on, and becomes late."""
    made = make(HOURLY, now="12:10", s=ROWS)
    made.refresh("v")
    with served(made) as http:
        made.write(s=ROWS.drop_columns(["x"]))
        with pytest.raises(HeadwayError, match="'x'"):
            made.project.run()
        made.now("13:10")
        answer = http.post("/v1/features/v", {"entities": {"k": [1]}})
        assert (answer["features"], answer["state"]) == ({"n": [2], "x": [2]}, {"n": ["late"], "x": ["late"]})


def test_trap_a_changed_definition_never_shows_the_old_values(make: Maker) -> None:
    """§3.10: keys contain the fingerprint: another window is another view, missing until it is materialized; the old
    one is there as long as somebody needs it."""
    made = make(HOURLY, now="12:10", s=ROWS)
    made.refresh("v")
    old = stored(made)
    made.declare(HOURLY.replace('window="2h"', 'window="1h"'))
    assert made.stated("v", 1) == [((None, None), ("missing", "missing"))]
    made.refresh("v")
    assert made.served("v", 1) == [(1, 2)]
    assert old.items() <= stored(made).items()  # side by side
    made.declare(HOURLY)
    assert made.served("v", 1) == [(2, 2)]


def test_trap_a_changed_type_is_another_view(make: Maker) -> None:
    """§3.10: whole numbers that become fractions are not read as what they were."""
    made = make(HOURLY, now="12:10", s=ROWS)
    made.refresh("v")
    made.declare(HOURLY.replace('"x": "x"', '"x": "x + 0.5"'))
    assert made.stated("v", 1) == [((None, None), ("missing", "missing"))]
    made.refresh("v")
    assert made.served("v", 1, 3) == [(2, 2.5), (0, None)]


def test_trap_online_is_offline_at_now(make: Maker) -> None:
    """§3.4: right after a refresh, what is served is what training would have used at that moment, in every kind of
    feature, for known and unknown entities."""
    declared = """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts", id="id", created="seen", deleted="gone")
        v = hw.FeatureView("v", source=s, entity=who, refresh="15m", lag="2m", ttl="3h", features={
            "n": hw.count(window="1h"), "mean": hw.mean("x", window=["1h", "1d"]), "std": hw.std("x", window="1d"),
            "top": hw.max("x", window="1d"), "q": hw.quantile("x", 0.25, window="1d"), "ids": hw.nunique("id"),
            "x": "x", "last": hw.last("x"), "first": hw.first("id", window="1d")})
    """
    rows = [version(n % 3, f"{n % 17}", f"{8 + n % 5:02}:{n * 7 % 60:02}", f"{9 + n % 6:02}:{n * 11 % 60:02}",
                    None if n % 7 == 0 else n, n % 13 == 0) for n in range(60)]  # fmt: skip
    made = make(declared, now="12:00", s=versions(*rows))
    for now in ("12:00", "12:17", "13:01:59", "13:02", "16:30"):
        made.now(now)
        made.refresh("v")
        values = made.served("v", 0, 1, 2, 9, None)
        assert values == made.past("v", *((k, t(now)) for k in (0, 1, 2, 9, None)))
        assert len(set(values)) == 5
    assert all(not found.differences for found in made.project.features.verify("v"))


def test_trap_missing_null_late_and_expired_are_told_apart(make: Maker) -> None:
    """§3.7: a state per feature: a null that is right is ``ok``; in Python and over HTTP, where 0 is not null either."""
    made = make(
        HOURLY.replace("})", '}, ttl="90m")'),
        now="12:10",
        s=table("k ts x", (1, t("11:30"), None), (2, t("11:00"), 5), (3, t("10:00"), 6), x=pa.int64()),
    )
    with pytest.raises(AssertionError, match="no feature view"), served(made) as http:
        http.post("/v1/features/v", {"entities": {"k": 1}})
    made.refresh("v")
    expected = {
        1: ((1, None), ("ok", "ok")),
        2: ((1, 5), ("ok", "ok")),
        3: ((1, None), ("ok", "expired")),
        4: ((0, None), ("missing", "missing")),
        None: ((None, None), ("missing", "missing")),
    }
    assert made.stated("v", *expected) == list(expected.values())
    with served(made) as http:
        answer = http.post("/v1/features/v", {"entities": {"k": list(expected)}})
        assert answer["features"] == {"n": [1, 1, 1, 0, None], "x": [None, 5, None, None, None]}
        assert answer["state"] == {
            "n": ["ok", "ok", "ok", "missing", "missing"], "x": ["ok", "ok", "expired", "missing", "missing"],
        }  # fmt: skip
        made.now("13:10")
        assert made.stated("v", 2) == [((1, None), ("late", "expired"))]
        answer = http.post("/v1/features/v", {"entities": {"k": 2}})
        assert (answer["features"], answer["state"]) == ({"n": [1], "x": [None]}, {"n": ["late"], "x": ["expired"]})


def test_trap_cities_are_told_apart_by_a_key(make: Maker) -> None:
    """A city is part of the key: equal ids of several cities share nothing, and no view is needed per city."""
    declared = LAST.replace("entity=who", "entity=pair")
    rows = [("lisbon", "1", t("09:00"), 10), ("tallinn", "1", t("10:00"), 20), ("lis", "bon1", t("10:00"), 30)]
    made = make(declared, now="12:00", s=table("a b ts x", *rows))
    made.refresh("v")
    found = made.project.online.read("v", {"a": ["tallinn", "lisbon", "turin"], "b": ["1", "1", "1"]})
    assert found["v__x"].to_pylist() == [20, 10, None]


TWO = (
    "[env.one]\n{online}[env.one.sources]\ns = {{ path = 'data/one.parquet' }}\n[env.two]\n{online}[env.two.sources]\n"
)
TWO += "s = {{ path = 'data/two.parquet' }}\n"


@pytest.mark.parametrize("store", ["own", "redis"])
def test_trap_environments_share_nothing(tmp_path: Path, store: str) -> None:
    """DESIGN §2: in shared stores everything is addressed by project, environment and object: the same definition in
    two environments has its own values in each, and neither drops the other's."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(any_running()).url if store == "redis" else ""
        root = tmp_path / "project"
        (root / "data").mkdir(parents=True)
        toml = TWO.format(online=f"online = '{url}'\n" if url else "")
        a = stack.enter_context(lab(root, HOURLY, now="12:10", toml=toml, env="one"))
        a.write(**{name: table("k ts x", (1, t("11:30"), x)) for name, x in (("one", 1), ("two", 2))})
        a.project.run("s")
        a.refresh("v")
        b = stack.enter_context(lab(root, HOURLY, now="12:10", toml=toml, env="two"))
        b.project.run("s")
        assert b.stated("v", 1) == [((None, None), ("missing", "missing"))]
        b.project.run()
        assert b.served("v", 1) == [(1, 2)]
        assert a.served("v", 1) == [(1, 1)]
        b.declare(HOURLY.replace('"v"', '"other"').replace("2h", "3h"))
        b.project.run()  # drops what this environment needs no more
        assert a.served("v", 1) == [(1, 1)]


def test_trap_environments_do_not_share_a_directory(tmp_path: Path) -> None:
    """An LMDB directory belongs to the environment that wrote to it first; another one is refused, and changes
    nothing."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    toml = TWO.format(online=f"online = 'lmdb://{tmp_path}/both'\n")
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(lab(root, HOURLY, now="12:10", toml=toml, env="one"))
        a.write(**{name: table("k ts x", (1, t("11:30"), x)) for name, x in (("one", 1), ("two", 2))})
        a.project.run()
        b = stack.enter_context(lab(root, HOURLY, now="12:10", toml=toml, env="two"))
        with pytest.raises(SettingsError, match="both belongs to '.*:one', and this is '.*:two'"):
            b.project.run()
        with pytest.raises(SettingsError, match="belongs to"):
            b.served("v", 1)
        assert a.served("v", 1) == [(1, 1)]
