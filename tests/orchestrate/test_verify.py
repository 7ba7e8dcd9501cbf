"""`features verify` finds what is wrong with a store, whoever did it, and finds nothing where nothing is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.semantics.lab import Lab, lab, t, table, us

from headway.data.binding import entities, load_events
from headway.data.compute import snapshot
from headway.data.materialize import materialize
from headway.data.online import encode_keys, pack, row_prefix
from headway.define.records import Events, Snapshot, ViewPlan
from headway.errors import DataError, UsageError
from headway.monitor.verify import VerifyResult, late_share
from headway.orchestrate import verification
from headway.orchestrate.statistics import kept_statistics
from headway.orchestrate.verification import last_verified

SECOND, HOUR = 1_000_000, 3_600_000_000
DECLARED = """
trips = hw.Source("trips", path="data/trips.parquet", id="id", timestamp="at", created="seen", deleted="gone")
traffic = hw.FeatureView("traffic", source=trips, entity=who, refresh="1h", lag="10m", ttl="12h", features={
    "n_1h": hw.count(window="1h"), "sum_6h": hw.sum("x", window="6h"), "mean_6h": hw.mean("x", window="6h"),
    "last_x": hw.last("x"), "word": "w"})
"""
KEYS = 20


def trips() -> pa.Table:
    """A trip of everybody every hour; one just outside a window; corrections, a delete, what is known late or never."""
    rows: list[tuple[Any, ...]] = []
    for k in range(KEYS):
        for h in range(2, 12):
            at = t(f"{h:02d}:{(k * 7) % 60:02d}")
            rows.append((f"{k}-{h}", k, at, at, (k * 31 + h * 17) % 23 / 4, f"w{k + h}", False))
    rows += [
        ("edge", 3, t("10:59:59.500"), t("11:30"), 100.0, "edge", False),
        ("null", 90, t("11:10"), t("11:20"), None, None, False),
        ("old", 91, t("2024-01-09T20:00"), t("2024-01-09T20:00"), 5.0, "old", False),
        ("5-11", 5, t("11:35"), t("11:50"), 77.0, "corrected", False),
        ("6-11", 6, t("11:42"), t("11:55"), 0.0, "gone", True),
        ("7-11", 7, t("11:49"), t("13:30"), 66.0, "known later", False),
        ("never", 8, t("11:05"), None, 55.0, "never known", False),
    ]
    return table("id k at seen x w gone", *rows, seen=pa.timestamp("us", "UTC"))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path / "lab", DECLARED, now="2024-01-10T12:30", trips=trips()) as opened:
        yield opened


def honest(made: Lab) -> tuple[ViewPlan, Events]:
    """The view and its events as they are."""
    parts, plan = made.project.parts, made.project.features.plans()["traffic"]
    return plan, load_events(plan, parts.lake, parts.engine)


def write(made: Lab, shot: Snapshot) -> None:
    """Put rows into the store behind headway's back."""
    store = made.project.parts.open_online(False)
    for rows in pack(honest(made)[0], shot):
        store.put_many(rows)
    store.close()


def drop(made: Lab, keys: list[int] | None = None) -> None:
    """Take rows out of the store; all of them, or those of some keys."""
    plan, _ = honest(made)
    store = made.project.parts.open_online(False)
    for key in [row_prefix(plan)] if keys is None else encode_keys(plan, {"k": keys}):
        store.drop(key or b"")
    store.close()


def verified(made: Lab, **more: Any) -> VerifyResult:
    (found,) = made.project.features.verify(["traffic"], **more)
    return found


def materialized(made: Lab, plan: ViewPlan, events: Events) -> VerifyResult:
    """What verify says after a materialization that went by another plan or other events than it should have."""
    store = made.project.parts.open_online(False)
    materialize(plan, lambda: events, store, made.clock.now(), full=True)
    store.close()
    return verified(made)


def with_windows(plan: ViewPlan, more: int) -> ViewPlan:
    features = [msgspec.structs.replace(f, window=f.window and f.window + more) for f in plan.features]
    return msgspec.structs.replace(plan, features=tuple(features))


# Bugs in the computation --------------------------------------------------------------------------------------------


def test_what_is_right_has_no_differences(made: Lab) -> None:
    made.refresh("traffic")
    found = verified(made)
    assert found.passed
    assert (found.wrong, found.findings(), found.unfinished) == (0, [], 0)
    assert (found.entities, found.known, found.values) == (KEYS + 2, KEYS + 2, (KEYS + 2) * 5)


def test_a_window_that_is_a_second_too_long(made: Lab) -> None:
    plan, events = honest(made)
    found = materialized(made, with_windows(plan, SECOND), events)
    assert found.differences == {"n_1h": 1}
    (example,) = found.examples
    assert (example.keys, example.feature, example.served, example.recomputed) == ({"k": 3}, "n_1h", 2, 1)
    assert not found.passed


def test_a_window_that_ends_a_refresh_early(made: Lab) -> None:
    plan, events = honest(made)
    made.refresh("traffic")
    write(made, dataclasses.replace(snapshot(plan, events, us("11:00")), as_of=us("12:00")))
    found = verified(made)
    assert {"sum_6h", "last_x", "word"} <= set(found.differences)
    assert {e.feature for e in found.examples} == set(found.differences)


def test_events_an_hour_off(made: Lab) -> None:
    """As if local times had been read in the wrong zone."""
    plan, events = honest(made)
    shifted = dataclasses.replace(events, event=events.event + HOUR, known=events.known + HOUR)
    found = materialized(made, plan, shifted)
    assert {"sum_6h", "mean_6h", "last_x", "word"} <= set(found.differences)


def test_rows_seen_before_they_were_known(made: Lab) -> None:
    plan, events = honest(made)
    found = materialized(made, plan, dataclasses.replace(events, known=events.event))
    assert found.differences["sum_6h"] >= 1
    assert {"k": 7} in [e.keys for e in found.examples if e.feature == "last_x"]


def test_a_correction_that_was_lost(made: Lab) -> None:
    plan, events = honest(made)
    forever = np.full(len(events), 2**63 - 1)
    again = events.event != us("11:35")
    first = dataclasses.replace(
        events, keys=events.keys.filter(pa.array(again)), until=forever[again], event=events.event[again],
        known=events.known[again], rank=events.rank[again],
        values={name: values.filter(pa.array(again)) for name, values in events.values.items()},
    )  # fmt: skip
    found = materialized(made, plan, first)
    assert {"k": 5} in [e.keys for e in found.examples]


def test_a_null_that_became_0(made: Lab) -> None:
    plan, events = honest(made)
    made.refresh("traffic")
    shot = snapshot(plan, events, us("12:00"))
    zeros = shot.features.set_column(1, "sum_6h", pc.fill_null(shot.features["sum_6h"], 0.0))
    write(made, dataclasses.replace(shot, features=zeros))
    found = verified(made)
    assert found.differences == {"sum_6h": 2}
    assert {(e.keys["k"], e.served, e.recomputed) for e in found.examples} == {(90, 0.0, None), (91, 0.0, None)}


def test_a_value_served_beyond_its_ttl(made: Lab) -> None:
    plan, events = honest(made)
    forever = msgspec.structs.replace(plan, ttl=100 * HOUR)
    assert materialized(made, forever, events).passed  # reading knows better
    shot = snapshot(forever, events, us("12:00"))
    younger = {name: times + 50 * HOUR for name, times in shot.event_times.items()}
    write(made, dataclasses.replace(shot, event_times=younger))
    found = verified(made)
    assert {(e.keys["k"], e.feature, e.served) for e in found.examples} == {(91, "last_x", 5.0), (91, "word", "old")}


# Bugs in the store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("claimed", "version"), [("12:00", 0), ("13:00", 0), ("12:00", 1)])
def test_an_older_write_over_a_newer_one(made: Lab, claimed: str, version: int) -> None:
    """Rows computed three hours earlier, under the stamp of the last refresh, of one that is due, of newer data."""
    plan, events = honest(made)
    made.refresh("traffic")
    if version:
        made.put(trips=trips().slice(0, 150))
    made.now("13:20")
    older = snapshot(plan, events, us("09:00"), table("k", (2,), (4,)))
    write(made, dataclasses.replace(older, as_of=us(claimed), version=older.version + version))
    found = verified(made, late_limit=1.0)
    assert found.differences.keys() >= {"last_x", "word"}
    assert {e.keys["k"] for e in found.examples} <= {2, 4}


@pytest.mark.parametrize(("claimed", "version"), [("2030-01-01T00:00", 0), ("12:00", 40)])
def test_a_stamp_that_nothing_can_replace(made: Lab, claimed: str, version: int) -> None:
    plan, events = honest(made)
    made.refresh("traffic")
    shot = snapshot(plan, events, us("12:00"), table("k", (2,)))
    write(made, dataclasses.replace(shot, as_of=us(claimed), version=shot.version + version))
    found = verified(made)
    assert (found.ahead, found.passed) == (1, False)
    assert "1 row under a stamp of the future" in found.findings()


def test_a_refresh_that_was_cut_short_is_no_bug(made: Lab) -> None:
    """Its rows are right for what they say they are, in the store's own time and after new data came."""
    plan, events = honest(made)
    made.refresh("traffic")
    made.now("14:20")
    write(made, snapshot(plan, events, us("14:00"), table("k", (1,), (7,), (90,))))
    found = verified(made, late_limit=1.0)
    assert (found.unfinished, found.wrong) == (3, 0)
    rows = trips().to_pylist()
    rows.append(rows[0] | {"id": "new", "k": 500, "at": t("13:40"), "seen": t("13:45")})
    made.put(trips=pa.Table.from_pylist(rows, trips().schema))
    plan, events = honest(made)
    write(made, snapshot(plan, events, us("14:00"), table("k", (500,), (2,))))
    found = verified(made, late_limit=1.0)
    assert found.wrong == 0
    assert found.passed


def test_an_entity_that_was_lost(made: Lab) -> None:
    made.refresh("traffic")
    drop(made, [4, 11])
    found = verified(made)
    assert (found.lost, found.ghosts) == (2, 0)
    assert sorted(e["k"] for e in found.lost_examples) == [4, 11]
    assert found.differences["sum_6h"] == 2
    assert {e.keys["k"] for e in found.examples} == {4, 11}


def test_an_entity_that_should_not_be_there(made: Lab) -> None:
    plan, events = honest(made)
    made.refresh("traffic")
    somebody = snapshot(plan, events, us("12:00"), table("k", (2,)))
    write(made, dataclasses.replace(somebody, keys=table("k", (4242,))))
    found = verified(made)
    assert (found.ghosts, found.lost) == (1, 0)
    assert found.ghost_examples == ({"k": 4242},)
    assert {"n_1h", "sum_6h", "last_x", "word"} <= set(found.differences)
    assert not found.passed


def test_an_entity_whose_rows_were_all_deleted_is_no_ghost(made: Lab) -> None:
    made.refresh("traffic")
    made.put(trips=trips().filter(pc.not_equal(trips()["k"], 9)))
    found = verified(made)  # the data served is still the data recorded
    assert found.passed
    made.refresh("traffic")
    assert verified(made).passed


def test_keys_that_were_encoded_in_another_way(made: Lab) -> None:
    plan, events = honest(made)
    made.refresh("traffic")
    drop(made)
    texts = msgspec.structs.replace(plan, keys=(msgspec.structs.replace(plan.keys[0], type="string"),))
    shot = snapshot(plan, events, us("12:00"))
    store = made.project.parts.open_online(False)
    as_text = shot.keys.set_column(0, "k", shot.keys["k"].cast(pa.string()))
    for rows in pack(texts, dataclasses.replace(shot, keys=as_text)):
        store.put_many(rows)
    store.close()
    found = verified(made)
    assert (found.lost, found.ghosts) == (KEYS + 2, KEYS + 2)
    assert all("(not a key)" in e for e in found.ghost_examples)


def test_a_row_that_cannot_be_read(made: Lab) -> None:
    plan, events = honest(made)
    made.refresh("traffic")
    store = made.project.parts.open_online(False)
    for rows in pack(plan, snapshot(plan, events, us("12:00"), table("k", (2,)))):
        store.put_many([(key, value[:-3]) for key, value in rows])
    store.close()
    found = verified(made)
    assert found.damaged == 1
    assert not found.passed


# Time ---------------------------------------------------------------------------------------------------------------


def test_refreshes_that_were_skipped_show_as_lateness(made: Lab) -> None:
    made.refresh("traffic")
    made.now("13:05")  # the refresh of 13:00 is due from 13:10 on
    assert verified(made).late == 0.0
    made.now("14:30")
    made.refresh("traffic")
    found = verified(made)
    assert (found.wrong, found.passed) == (0, False)
    assert found.late == pytest.approx(80 / 120)
    assert found.findings() == ["behind for 66.7% of the time"]
    assert verified(made, late_limit=0.7).passed


def test_a_refresh_that_is_late_every_time(made: Lab) -> None:
    for hour in range(12, 18):
        made.now(f"{hour}:16")
        made.refresh("traffic")
    found = verified(made)
    assert found.late == pytest.approx(6 / 60, abs=0.005)
    made.now("17:25")
    (recent,) = verification.verify_plans(made.project.parts, [honest(made)[0]], since=us("17:17"))
    assert recent.late == 0.0


def test_lateness_begins_with_the_first_refresh_and_counts_no_moment_twice() -> None:
    plan = ViewPlan("v", "f" * 32, "s", (), "", (), (), refresh=HOUR, lag=0)
    assert late_share(plan, [], 9 * HOUR) == 0.0
    assert late_share(plan, [(0, HOUR // 2)], HOUR // 2) == 0.0
    assert late_share(plan, [(0, 0)], 4 * HOUR) == pytest.approx(3 / 4)
    assert late_share(plan, [(0, 0), (0, 2 * HOUR), (3 * HOUR, 3 * HOUR)], 4 * HOUR) == pytest.approx(2 / 4)
    assert late_share(plan, [(3 * HOUR, 3 * HOUR), (HOUR, 3 * HOUR + 1)], 4 * HOUR) == 0.0  # an older run after it


# Size, keys, and what is kept ---------------------------------------------------------------------------------------


def test_a_sample_follows_from_the_keys_and_all_keys_are_looked_at(made: Lab) -> None:
    plan, events = honest(made)
    made.refresh("traffic")
    shot = snapshot(plan, events, us("12:00"))
    write(
        made, dataclasses.replace(shot, features=shot.features.set_column(4, "word", pa.array(["x"] * len(shot.keys))))
    )
    first, second = verified(made, sample=8), verified(made, sample=8)
    assert 1 <= first.entities < first.known == KEYS + 2
    assert first == second
    assert first.entities - 1 <= first.differences["word"] <= first.entities
    assert verified(made, sample=0).differences["word"] == KEYS + 1  # of one the word is null, for it is too old
    drop(made, list(range(KEYS)))
    assert verified(made, sample=1).lost == KEYS
    with pytest.raises(UsageError, match="a sample is a number of entities"):
        verified(made, sample=-1)


def test_a_view_is_compared_a_part_at_a_time(made: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made.refresh("traffic")
    drop(made, [4])
    whole = verified(made)
    monkeypatch.setattr(verification, "_ROWS_PER_PART", 30)
    parted = verified(made)
    assert (parted.entities, parted.values, parted.differences) == (whole.entities, whole.values, whole.differences)
    monkeypatch.setattr(verification, "_ENTITIES_PER_PART", 3)
    assert verified(made).differences == whole.differences


def test_keys_of_every_kind(tmp_path: Path) -> None:
    """Long texts, of which a store keeps a digest; parts of a key that look like others; dates and truth values."""
    declared = """
    import datetime
    events = hw.Source("events", path="data/events.parquet", timestamp="at")
    thing = hw.Entity("thing", key=("s", "u", "d", "b", "m"))
    things = hw.FeatureView("things", source=events, entity=thing, refresh="1h", features={"n": hw.count(window="9h")})
    texts = hw.FeatureView("texts", source=events, entity=hw.Entity("text", key="s"), refresh="1h",
                           features={"n": hw.count(window="9h")})
    """
    texts = ["", "1", "12", "é", "x" * 400, "x" * 495, "x" * 600, "x" * 600 + "y"]
    rows = [(s, u, t("00:00").date(), b, t(f"10:{n:02d}"), t("11:00"))
            for n, s in enumerate(texts) for u, b in ((1, True), (2**62, False))]  # fmt: skip
    with lab(tmp_path / "lab", declared, now="2024-01-10T12:30", events=table("s u d b m at", *rows)) as made:
        made.refresh("things", "texts")
        for found in made.project.features.verify():
            assert (found.wrong, found.findings()) == (0, [])
        store = made.project.parts.open_online(False)
        for plan in made.project.features.plans().values():
            store.drop(row_prefix(plan))
            events = load_events(plan, made.project.parts.lake, made.project.parts.engine)
            shot = snapshot(plan, events, us("12:00"))
            strange = shot.keys.set_column(0, "s", pa.array([f"<{s}" for s in shot.keys["s"].to_pylist()]))
            for chunk in pack(plan, dataclasses.replace(shot, keys=strange)):
                store.put_many(chunk)
        store.close()
        for found in made.project.features.verify(late_limit=1.0):
            assert found.lost == found.ghosts == found.known
            assert {e["s"][:1] for e in found.ghost_examples if "s" in e} <= {"<"}


def test_the_outcome_and_statistics_are_kept(made: Lab) -> None:
    plan, _ = honest(made)
    parts = made.project.parts
    assert last_verified(parts, plan.fingerprint) is None
    made.refresh("traffic")
    found = verified(made)
    assert last_verified(parts, plan.fingerprint) == found
    kept = kept_statistics(parts, plan.fingerprint)
    assert kept is not None
    assert (kept.as_of, kept.entities, kept.stored) == (us("12:00"), KEYS + 2, KEYS + 2)
    assert (kept.features["sum_6h"].nulls, kept.features["n_1h"].rows) == (2, KEYS + 2)


def test_a_view_that_nobody_materialized(made: Lab) -> None:
    found = verified(made)
    assert (found.as_of, found.passed) == (None, False)


def test_data_that_nobody_recorded_is_said_in_a_sentence(tmp_path: Path) -> None:
    declared = """
    trips = hw.Source("trips", path="data/trips.parquet", timestamp="at")
    names = hw.Source("names", path="data/names.parquet")
    both = hw.Source("both", timestamp="at", query="select t.*, n.name from trips t join names n on n.k = t.k")
    traffic = hw.FeatureView("traffic", source=both, entity=who, refresh="1h", features={"n": hw.count(window="1h")})
    """
    rows, names = table("k at", (1, t("11:30"))), table("k name", (1, "one"))
    with lab(tmp_path / "lab", declared, now="2024-01-10T12:30", trips=rows, names=names) as made:
        plan, events = honest(made)
        store = made.project.parts.open_online(False)
        materialize(plan, lambda: dataclasses.replace(events, version=events.version + 7), store, made.clock.now())
        store.close()
        with pytest.raises(DataError, match="nobody recorded the data that view 'traffic' was materialized from"):
            verified(made)


@pytest.mark.parametrize("attempts", [1, 9])
def test_a_refresh_meanwhile_begins_the_verification_again(
    made: Lab, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    made.refresh("traffic")
    really: Callable[..., Any] = entities
    done = 0

    def refreshing(*arguments: Any) -> Any:
        nonlocal done
        if done < attempts:
            done += 1
            made.now(f"{12 + done}:20")
            made.refresh("traffic")
        return really(*arguments)

    monkeypatch.setattr(verification, "entities", refreshing)
    if attempts == 1:
        assert verified(made, late_limit=1.0).passed
    else:
        found = verified(made, late_limit=1.0)  # each refresh is whole, so the last look finds nothing either
        assert found.wrong == 0
