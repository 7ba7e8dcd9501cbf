"""Cases of other feature stores' public tests, with their data and what they expect, told again in our words.

Where our rules differ on purpose, the test says why and holds what we answer instead. The rules that differ:

- Events at the very moment of a label. Feast and Hopsworks see them, Chronon and headway do not (§3.2: an event never
  sees itself). ``effective=True`` sees them, for tables whose time means "valid from".
- When a row was created. Elsewhere it breaks ties, or is a filter that is off by default; here a row is never seen
  before it was known (§3.2), so a correction counts from the moment it was made.
- A deviation is that of a sample (§3.6), not of a population.
- Windows are exactly as long as they say (§3.2). Chronon's begin on a grid and end at the query, so that their length
  changes with the query; a grid of ours (``refresh``) moves both ends.

Feast: tests/unit/infra/offline_stores/test_ibis.py, test_filter_by_created_timestamp.py, test_dask_non_entity.py,
contrib/mongodb_offline_store/test_mongodb.py, tests/integration/offline_store/test_universal_historical_retrieval.py,
tests/utils/feature_records.py, tests/unit/infra/online_store/test_redis.py. Chronon: NaiveAggregator.scala,
SawtoothAggregatorTest.scala, api/py/test/sample/data. butterfree: tests/integration/butterfree/transform/conftest.py.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from tests.semantics.conftest import Maker
from tests.semantics.lab import INSTANT, Lab, t, table, us

DAYS, TICK = timedelta(days=1), timedelta(microseconds=1)
PLAIN = 's = hw.Source("s", path="data/s.parquet", timestamp="ts"{more})\n'
LATEST = 'v = hw.FeatureView("v", source=s, entity=who, features={{"x": "x"}}{more})\n'


def latest(source: str = "", view: str = "") -> str:
    """A view of the latest row of a source, with more arguments for either."""
    return PLAIN.format(more=source and f", {source}") + LATEST.format(more=view and f", {view}")


def day(text: str) -> datetime:
    """Midnight of a day in UTC."""
    return t(f"{text}T00:00")


# -- Feast: the latest row in the past -----------------------------------------------------------------------------------

IBIS = table(
    "k ts seen x",
    (1, day("2023-12-31"), day("2023-12-31"), 11),
    (1, day("2024-01-02"), day("2024-01-02"), 22),
    (1, day("2024-01-03"), day("2024-01-03"), 33),
    (2, day("2023-01-03"), day("2023-01-03"), 22),
    (3, day("2024-01-01"), day("2024-01-03"), 10),
    (3, day("2024-01-01"), day("2024-01-02"), 20),
)
ASKED = [(1, day("2024-01-01")), (1, day("2024-01-02")), (2, day("2024-01-01")), (3, day("2024-01-03"))]


@dataclass
class Twin:
    """A point-in-time join the slow way: for each label, every row. ``closed`` sees events at the label's very time,
    ``cutoff`` no row before it was created; of equal event times the row created last counts, then the last."""

    closed: bool
    cutoff: bool
    ttl: timedelta | None = None

    def value(self, rows: Sequence[tuple[Any, ...]], key: Any, at: datetime) -> Any:
        found = [row for row in rows if row[0] == key and self._seen(row[1], row[2], at)]
        if not found:
            return None
        newest = max(found, key=lambda row: (row[1], row[2], rows.index(row)))
        return None if self.ttl is not None and newest[1] < at - self.ttl else newest[3]

    def _seen(self, event: datetime, created: datetime | None, at: datetime) -> bool:
        if self.cutoff and (created is None or max(created, event) > at):
            return False
        return event <= at if self.closed else event < at


def rows_of(found: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in found.to_pylist()]


def test_feast_ibis_point_in_time_join(make: Maker) -> None:
    """Its data. It sees the event at 2 January at 2 January (22); we do not, and do where the source is effective."""
    theirs = [Twin(closed=True, cutoff=False, ttl=10 * DAYS).value(rows_of(IBIS), *asked) for asked in ASKED]
    assert theirs == [11, 22, None, 10]
    strict = make(latest('created="seen"', 'ttl="10d"'), s=IBIS)
    assert strict.past("v", *ASKED) == [11, 11, None, 10]
    effective = make(latest('created="seen", effective=True', 'ttl="10d"'), s=IBIS)
    assert effective.past("v", *ASKED) == theirs
    assert strict.past("v", *((k, at + TICK) for k, at in ASKED)) == theirs


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("ttl", [None, 3], ids=["for_ever", "ttl"])
def test_feast_brute_force_twin_agrees_on_random_tables(make: Maker, closed: bool, ttl: int | None) -> None:
    """``point_in_time_join_brute``, written again, against thousands of labels whose times tie and meet the bounds."""
    r = random.Random(f"{closed} {ttl}")
    rows: list[tuple[Any, ...]] = []
    for n in range(1_500):
        at = day("2024-01-01") + r.randrange(12) * DAYS
        rows.append((r.randrange(150), at, r.choice([None, at, at, at + r.randrange(4) * DAYS]), n))
    asked = [(r.randrange(160), day("2024-01-01") + r.randrange(15) * DAYS + r.choice([0, 0, 1, -1]) * TICK)
             for _ in range(3_000)]  # fmt: skip
    source = 'created="seen"' + (", effective=True" if closed else "")
    made = make(latest(source, f'ttl="{ttl}d"' if ttl else ""), s=table("k ts seen x", *rows))
    twin = Twin(closed, cutoff=True, ttl=None if ttl is None else ttl * DAYS)
    by_key: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_key.setdefault(row[0], []).append(row)
    expected = [twin.value(by_key.get(k, []), k, at) for k, at in asked]
    found = made.past("v", *asked)
    assert [(a, f, e) for a, f, e in zip(asked, found, expected, strict=True) if f != e] == []
    assert len({x for x in found if x is not None}) > 300


def driver(*rows: tuple[int, str, str | None, float]) -> pa.Table:
    return table("k ts seen x", *((k, t(at), seen and t(seen), x) for k, at, seen, x in rows), seen=INSTANT)


NEW_YEAR = [(1, t("2025-01-02T00:00"))]


@pytest.mark.parametrize(
    ("rows", "asked", "expected"),
    [
        # A version created after the label is not seen, though Feast's default serves it (0.6).
        ([(1, "2025-01-01T10:00", "2025-01-01T12:00", 0.4), (1, "2025-01-01T10:00", "2025-01-03T00:00", 0.6)],
         NEW_YEAR, [0.4]),
        # Nor is one whose created is null.
        ([(1, "2025-01-01T10:00", "2025-01-01T12:00", 0.4), (1, "2025-01-01T10:00", None, 0.6)], NEW_YEAR, [0.4]),
        # A label of which every row was created later stays, with a null.
        ([(1, "2025-01-01T10:00", "2025-01-03T00:00", 0.4), (1, "2025-01-01T11:00", "2025-01-04T00:00", 0.6)],
         NEW_YEAR, [None]),
        # And it borrows nothing from another driver.
        ([(1, "2025-01-01T10:00", "2025-01-01T12:00", 0.4), (2, "2025-01-01T10:00", "2025-01-03T00:00", 0.6)],
         [(1, t("2025-01-02T00:00")), (2, t("2025-01-02T00:00"))], [0.4, None]),
    ],
    ids=["created_later", "null_created", "all_created_later", "no_borrowing"],
)  # fmt: skip
def test_feast_filter_by_created_timestamp(make: Maker, rows: Any, asked: Any, expected: list[float | None]) -> None:
    """Their option ``filter_by_created_timestamp=True`` is how it always is here: without it training sees the
    future."""
    made = make(latest('created="seen"', 'ttl="7d"'), s=driver(*rows))
    assert made.past("v", *asked) == expected


def test_feast_universal_containing_backfills(make: Maker) -> None:
    """Two rows of one event time: the one created last (20). Two event times: the later event, however early it was
    created (40). By the day after tomorrow all of it was known, so there is no difference of rules here."""
    rows = driver((1001, "2024-01-10T08:00", "2024-01-10T08:00", 10), (1001, "2024-01-10T08:00", "2024-01-11T08:00", 20),
                  (1002, "2024-01-10T08:00", "2024-01-11T08:00", 30), (1002, "2024-01-11T08:00", "2024-01-10T08:00", 40))  # fmt: skip
    made = make(latest('created="seen"'), s=rows)
    later = t("2024-01-12T08:00")
    assert made.past("v", (1001, later), (1002, later)) == [20, 40]


def test_feast_universal_filter_by_created_timestamp(make: Maker) -> None:
    """Backfilled the day after tomorrow, asked for tomorrow: 10 and 30, which Feast gives with its filter (20 and 40
    without). From the backfill on, 20 and 40."""
    rows = [(k, "2024-01-10T08:00", seen, x) for k, seen, x in (
        (1001, "2024-01-10T08:00", 10), (1002, "2024-01-10T08:00", 30),
        (1001, "2024-01-12T08:00", 20), (1002, "2024-01-12T08:00", 40))]  # fmt: skip
    made = make(latest('created="seen"'), s=driver(*rows))
    assert made.past("v", *((k, t("2024-01-11T08:00")) for k in (1001, 1002))) == [10, 30]
    assert made.past("v", *((k, t("2024-01-12T08:00")) for k in (1001, 1002))) == [20, 40]


def test_feast_universal_field_mapping(make: Maker) -> None:
    """The key is called otherwise in the source: ``keys`` says so."""
    made = make(
        PLAIN.format(more=', created="created"')
        + 'v = hw.FeatureView("v", source=s, entity=hw.Entity("driver", key="driver_id"), keys={"driver_id": "id"},'
        ' features={"trips": "avg_daily_trips"})',
        s=table("id ts created avg_daily_trips", (1001, t("08:00"), t("2024-01-11T08:00"), 20),
                (1002, t("2024-01-11T08:00"), t("08:00"), 40)),
    )  # fmt: skip
    later = t("2024-01-12T08:00")
    assert made.past("v", (1001, later), (1002, later), keys="driver_id") == [20, 40]


def test_feast_universal_retrieval_without_entities(make: Maker) -> None:
    """Everybody's latest values at the end of a range: what a materialization until then serves (30 and 300)."""
    steps = [("2024-01-08T08:00", 10), ("2024-01-09T08:00", 20), ("2024-01-10T08:00", 30)]
    rows = [(k, at, at, x * factor) for k, factor in ((1001, 1), (1002, 10)) for at, x in steps]
    made = make(latest('created="seen"'), now="09:00", s=driver(*rows))
    made.refresh("v")
    assert made.served("v", 1001, 1002) == [30, 300]


def test_feast_universal_no_ttl(make: Maker) -> None:
    """Without ttl the last value counts, however old; theirs of nothing means 52 weeks when it materializes."""
    made = make(latest(), now="2026-01-01T00:00", s=driver((1, "2020-01-01T00:00", None, 1.5)))
    made.refresh("v")
    assert made.past("v", (1, t("2026-01-01T00:00"))) == made.served("v", 1) == [1.5]


def test_feast_universal_main_six_views_and_four_kinds_of_time(make: Maker) -> None:
    """Orders of customers and drivers from an origin to a destination, with facts about everything; the labels' times
    come naive (UTC), in UTC, an hour ahead and in US/Pacific. Held against a loop over records.

    Their loop looks from ``ts - ttl`` to ``ts``, both included, which here are effective sources. They join locations
    at the order's time; here everything is asked for at the label's, which is the same moment.
    """
    r = random.Random(6)
    begin = t("2024-01-01T00:00")
    hours = [begin + timedelta(hours=h) for h in range(0, 24 * 7, 6)]
    temperature = [(k, at, r.randrange(40)) for k in range(4) for at in hours]
    rides = [(at, n) for n, at in enumerate(hours)]
    profile = [(k, at, r.random()) for k in range(3) for at in hours if r.random() < 0.5]
    made = make(
        """
        location = hw.Source("location", path="data/location.parquet", timestamp="ts", effective=True)
        everything = hw.Source("everything", path="data/everything.parquet", timestamp="ts", effective=True)
        profile = hw.Source("profile", path="data/profile.parquet", timestamp="ts", effective=True)
        world = hw.Entity("world", key="world")
        place = hw.FeatureView("place", source=location, entity=who, features={"temperature": "x"}, ttl="2d")
        overall = hw.FeatureView("overall", source=everything, entity=world, keys={"world": "1"},
                                 features={"rides": "x"}, ttl="1d")
        customer = hw.FeatureView("customer", source=profile, entity=who, features={"balance": "x"}, ttl="12h")
        """,
        location=table("k ts x", *temperature),
        everything=table("ts x", *rides),
        profile=table("k ts x", *profile),
    )
    zones = [UTC, UTC, timezone(timedelta(hours=1)), ZoneInfo("America/Los_Angeles")]
    orders = [(r.randrange(4), r.randrange(4), r.randrange(4), begin + timedelta(hours=3 * n)) for n in range(60)]
    spine = {
        "origin_id": [o for o, *_ in orders], "destination_id": [d for _, d, *_ in orders],
        "k": [c for *_, c, _ in orders], "world": [1] * 60,
        "ts": [at.astimezone(zones[n % 4]) for n, (*_, at) in enumerate(orders)],
    }  # fmt: skip
    place = made.project.declarations.views["place"]
    uses: list[Any] = [place.alias("origin", keys={"k": "origin_id"}), place.alias("destination", keys={"k": "destination_id"}),
            "overall", "customer"]  # fmt: skip
    found = made.project.features.historical(spine, uses)

    def last(records: list[tuple[Any, ...]], key: Any, at: datetime, ttl: timedelta) -> Any:
        seen = [row for row in records if row[0] == key and at - ttl <= row[1] <= at]
        return max(seen, key=lambda row: row[1])[2] if seen else None

    world = [(1, at, x) for at, x in rides]
    for row, (origin, destination, customer, at) in zip(found.to_pylist(), orders, strict=True):
        assert row["origin__temperature"] == last(temperature, origin, at, 2 * DAYS)
        assert row["destination__temperature"] == last(temperature, destination, at, 2 * DAYS)
        assert row["overall__rides"] == last(world, 1, at, DAYS)
        assert row["customer__balance"] == last(profile, customer, at, DAYS / 2)
    assert None in found["customer__balance"].to_pylist()


def test_feast_dask_snapshot_ttl_and_duplicates(make: Maker) -> None:
    """Driver 1: of two rows of one event time the one created last (0.2), exactly as old as its ttl of a day and so
    still there; the row of December is not. Driver 2: what comes after the end does not count (0.3)."""
    rows = [(1, "2025-01-01T10:00", "2025-01-01T10:00:01", 0.1), (1, "2025-01-01T10:00", "2025-01-01T10:00:02", 0.2),
            (1, "2024-12-30T10:00", "2024-12-30T10:00", 0.05), (2, "2025-01-01T12:00", "2025-01-01T12:00", 0.3),
            (2, "2025-01-02T11:00", "2025-01-02T11:00", 0.4)]  # fmt: skip
    made = make(latest('created="seen"', 'ttl="1d"'), now="2025-01-02T10:00", s=driver(*rows))
    made.refresh("v")
    assert made.served("v", 1, 2) == [0.2, 0.3]
    made.clock.instant += 1
    assert made.stated("v", 1, 2) == [(None, "expired"), (0.3, "ok")]


def test_feast_dask_rows_in_a_range(make: Maker) -> None:
    """Before, within and after a range: at its end the latest within it (0.3); driver 2 came later."""
    rows = [
        (1, "2023-01-01T08:00", 0.1),
        (1, "2023-01-03T10:00", 0.2),
        (1, "2023-01-05T12:00", 0.3),
        (2, "2023-01-08T14:00", 0.4),
    ]
    made = make(latest(), s=driver(*((k, at, None, x) for k, at, x in rows)))
    assert made.past("v", (1, day("2023-01-07")), (2, day("2023-01-07"))) == [0.3, None]


@pytest.mark.parametrize(
    ("times", "ttl", "asked", "theirs", "ours"),
    [
        (["2025-01-01T08:00", "2025-01-01T09:30", "2025-01-01T10:00"], "1h", "2025-01-01T10:00", 0.3, 0.2),
        (["2023-01-05T08:00", "2023-01-06T10:00", "2023-01-07T12:00"], "1d", "2023-01-07T12:00", 0.3, None),
        (["2023-01-05T12:00", "2023-01-06T18:00", "2023-01-07T11:00"], "1d", "2023-01-07T12:00", 0.3, 0.3),
    ],
    ids=["row_at_the_end", "only_the_row_at_the_end_is_young", "before_now"],
)
def test_feast_dask_ttl(make: Maker, times: list[str], ttl: str, asked: str, theirs: float, ours: float | None) -> None:
    """They see the row at the end of the range itself, we do from just after it; the oldest never counts."""
    rows = driver(*((1, at, None, x) for at, x in zip(times, (0.1, 0.2, 0.3), strict=True)))
    made = make(latest(view=f'ttl="{ttl}"'), s=rows)
    assert made.past("v", (1, t(asked)), (1, t(asked) + TICK)) == [ours, theirs]


def test_feast_dask_two_views_with_a_ttl_each(make: Maker) -> None:
    """One table, an hour and a day: 26 is half an hour old, and 101 as well; an hour later only the day's is left."""
    made = make(
        PLAIN.format(more="")
        + 'a = hw.FeatureView("a", source=s, entity=who, features={"age": "age"}, ttl="1h")\n'
        + 'b = hw.FeatureView("b", source=s, entity=who, features={"trips": "trips"}, ttl="1d")\n',
        s=table("k ts age trips", (1, t("08:00"), 25, 100), (1, t("09:30"), 26, 101)),
    )
    asked = [(1, t("10:00")), (1, t("10:31")), (1, t("08:30")), (1, t("2024-01-11T10:00"))]
    assert made.past(["a", "b"], *asked) == [(26, 101), (None, 101), (25, 100), (None, None)]


# -- Feast on documents --------------------------------------------------------------------------------------------------


def test_feast_documents_created_breaks_ties_for_every_label(make: Maker) -> None:
    """The label twice: both get the row created last (0.9)."""
    rows = driver((1, "11:00", "11:30", 0.1), (1, "11:00", "11:50", 0.9))
    assert make(latest('created="seen"', 'ttl="1d"'), s=rows).past("v", (1, t("12:00")), (1, t("12:00"))) == [0.9, 0.9]


def test_feast_documents_ttl(make: Maker) -> None:
    """An hour old of a day, and two days old of a day."""
    rows = driver((1, "11:00", None, 0.9), (2, "2024-01-08T12:00", None, 0.5))
    assert make(latest(view='ttl="1d"'), s=rows).past("v", (1, t("12:00")), (2, t("12:00"))) == [0.9, None]


def test_feast_documents_labels_of_one_driver_at_several_times(make: Maker) -> None:
    """Each label has its own past, also with columns beside it that are nobody's business (a label)."""
    rows = driver((1, "10:00", None, 0.5), (1, "11:00", None, 0.6), (1, "12:00", None, 0.7), (2, "10:00", None, 0.3))
    made = make(latest(view='ttl="1d"'), s=rows)
    spine = table("k ts trip_success", (1, t("10:30"), 1), (1, t("11:30"), 0), (2, t("11:00"), 1))
    found = made.project.features.historical(spine, "v")
    assert found["v__x"].to_pylist() == [0.5, 0.6, 0.3]
    assert found["trip_success"].to_pylist() == [1, 0, 1]


def test_feast_documents_keys_of_different_width(make: Maker) -> None:
    """One view by user, one by user and device: a user twice among the labels, with other moments, loses nothing."""
    made = make(
        """
        prefs = hw.Source("prefs", path="data/prefs.parquet", timestamp="ts")
        devices = hw.Source("devices", path="data/devices.parquet", timestamp="ts")
        user, device = hw.Entity("user", key="user_id"), hw.Entity("device", key=("user_id", "device_id"))
        themes = hw.FeatureView("themes", source=prefs, entity=user, features={"theme": "theme"}, ttl="1d")
        power = hw.FeatureView("power", source=devices, entity=device, features={"battery": "battery"}, ttl="1d")
        """,
        prefs=table("user_id ts theme", (1, t("08:00"), "dark"), (1, t("09:30"), "light")),
        devices=table("user_id device_id ts battery", (1, "X", t("08:00"), 0.8), (1, "Y", t("08:00"), 0.6)),
    )
    asked = [(1, "X", t("09:00")), (1, "Y", t("10:00"))]
    assert made.past(["themes", "power"], *asked, keys="user_id device_id") == [("dark", 0.8), ("light", 0.6)]


def test_feast_documents_moments_that_differ_between_drivers(make: Maker) -> None:
    """What is past for one label is future for another: 0.9 of 09:30 does not hide 0.5 of 08:00 at nine o'clock."""
    rows = driver((1, "08:00", None, 0.5), (1, "09:30", None, 0.9), (2, "09:00", None, 0.7))
    assert make(latest(view='ttl="1d"'), s=rows).past("v", (1, t("09:00")), (2, t("10:00"))) == [0.5, 0.7]


def test_feast_documents_compound_keys(make: Maker) -> None:
    """Three devices of two users, one with two rows."""
    made = make(
        latest().replace("entity=who", 'entity=hw.Entity("device", key=("user_id", "device_id"))'),
        s=table("user_id device_id ts x", (1, "mobile", t("10:00"), 50), (1, "mobile", t("11:00"), 55),
                (1, "desktop", t("11:00"), 10), (2, "tablet", t("11:00"), 25)),
    )  # fmt: skip
    asked = [
        (1, "mobile", t("12:00")),
        (1, "desktop", t("12:00")),
        (2, "tablet", t("12:00")),
        (2, "mobile", t("12:00")),
    ]
    assert made.past("v", *asked, keys="user_id device_id") == [55, 10, 25, None]


def test_feast_documents_narrow_keys(make: Maker) -> None:
    """A key of 32 bits in the table is found by one of 64 bits, offline and online."""
    made = make(latest(), now="12:00", s=table("k ts x", (1, t("11:00"), 100.0), (2, t("11:00"), 200.0), k=pa.int32()))
    made.refresh("v")
    assert made.past("v", (1, t("12:00")), (2, t("12:00"))) == made.served("v", 1, 2) == [100.0, 200.0]


def test_feast_documents_one_in_the_future_is_null(make: Maker) -> None:
    """Three hours ago nothing was known of driver 1; driver 2 has a row."""
    rows = driver((1, "11:00", None, 0.9), (2, "10:00", None, 0.5))
    assert make(latest(view='ttl="7d"'), s=rows).past("v", (1, t("09:00")), (2, t("12:00"))) == [None, 0.5]


def test_feast_documents_features_of_one_name_in_three_views(make: Maker) -> None:
    """Columns are always called by view and feature, so nothing collides; theirs do, unless they are told."""
    three = [LATEST.format(more="").replace('"v"', f'"{n}"').replace("v =", f"{n} =").replace('"x": "x"', f'"x": "x + {i}"')
             for i, n in enumerate("abc")]  # fmt: skip
    made = make(PLAIN.format(more="") + "".join(three), s=driver((1, "11:00", None, 1.1), (2, "11:00", None, 1.2)))
    found = made.past(["a", "b", "c"], (1, t("12:00")), (2, t("12:00")))
    assert found == [pytest.approx((1.1, 2.1, 3.1)), pytest.approx((1.2, 2.2, 3.2))]


@pytest.mark.parametrize("order", [(30, 20, 10), (10, 20, 30), (20, 30, 10)], ids=["falling", "rising", "mixed"])
def test_feast_redis_the_latest_event_of_a_batch_is_served(make: Maker, order: tuple[int, ...]) -> None:
    """Rows of one entity five seconds apart, in any order: 30. A later batch that is older changes nothing."""
    rows = [(1, t("12:00") + timedelta(seconds=x), x) for x in order]
    made = make(latest(), now="12:01", s=table("k ts x", *rows))
    made.refresh("v")
    assert made.served("v", 1) == [30]
    made.now("12:02")
    made.put(s=table("k ts x", *rows, (1, t("11:00"), 99)))
    made.refresh("v")
    assert made.served("v", 1) == [30]


# -- Chronon: windows ----------------------------------------------------------------------------------------------------

MINUTES = 60_000_000
HOP = 5 * MINUTES
WINDOWS = {"1h": 60 * MINUTES, "1d": 1440 * MINUTES, "30d": 30 * 1440 * MINUTES}


def sawtooth(rows: Sequence[tuple[int, int]], query: int, window: int, tail: int, head: int) -> list[int]:
    """The values of a window as Chronon's naive aggregator delimits it: its beginning on a grid of ``tail``, its end on
    one of ``head``."""
    begin, end = query - window, query
    begin, end = begin - begin % tail, end - end % head
    return [x for at, x in rows if begin <= at < end]


def aggregated(values: list[int]) -> tuple[Any, ...]:
    if not values:
        return (0, None, None, 0, None)
    return (len(values), sum(values), sum(values) / len(values), len(set(values)), max(values))


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random events of one key over forty days, and views over them: exact, and on a grid of five minutes."""
    from tests.semantics.lab import lab

    r = random.Random(40)
    events = sorted((us("2024-01-01T00:00") + r.randrange(0, 40 * 1440 * 60) * 1_000_000, r.randrange(50))
                    for _ in range(4_000))  # fmt: skip
    events += [(us("2024-01-20T12:00") + n * HOP, 7) for n in range(20)]  # and some on the hops
    kinds = ('"n": hw.count(window={w})', '"sum": hw.sum("x", window={w})', '"mean": hw.mean("x", window={w})',
             '"different": hw.nunique("x", window={w})', '"max": hw.max("x", window={w})')  # fmt: skip
    view = '{name} = hw.FeatureView("{name}", source=s, entity=who, features={{{features}}}{more})\n'
    declared = PLAIN.format(more="")
    for window in WINDOWS:
        for name, more in ((f"exact_{window}", ""), (f"hops_{window}", ', refresh="5m"')):
            features = ", ".join(kind.format(w=repr(window)) for kind in kinds)
            declared += view.format(name=name, features=features, more=more)
    rows = pa.table({"k": [1] * len(events), "ts": pa.array([at for at, _ in events], pa.int64()).cast(INSTANT),
                     "x": [x for _, x in events]})  # fmt: skip
    with lab(tmp_path_factory.mktemp("stream"), declared, s=rows) as made:
        yield made, events


def asked_for(made: Lab, view: str, queries: list[int]) -> list[Any]:
    spine = pa.table({"k": [1] * len(queries), "ts": pa.array(queries, pa.int64()).cast(INSTANT)})
    found = made.project.features.historical(spine, view)
    return [tuple(row.values())[2:] for row in found.to_pylist()]


@pytest.mark.parametrize("window", WINDOWS)
def test_chronon_sawtooth_windows_on_the_grid(stream: Any, window: str) -> None:
    """At a query on the hops, a sawtooth's ragged beginning is the window's own: both answer alike, exact or not."""
    made, events = stream
    r = random.Random(window)
    queries = [us("2024-01-01T00:00") + r.randrange(0, 45 * 288) * HOP for _ in range(120)]
    queries += [us("2024-01-20T12:00") + n * HOP for n in range(20)]
    expected = [aggregated(sawtooth(events, q, WINDOWS[window], HOP, 1)) for q in queries]
    assert asked_for(made, f"exact_{window}", queries) == [pytest.approx(e) for e in expected]
    assert asked_for(made, f"hops_{window}", queries) == [pytest.approx(e) for e in expected]


@pytest.mark.parametrize("window", WINDOWS)
def test_chronon_sawtooth_windows_off_the_grid(stream: Any, window: str) -> None:
    """Between the hops theirs are up to a hop longer than they say. Ours are not: exactly the window without
    ``refresh``, and with it the same window at the last hop (tail and head rounded alike), as it is served online."""
    made, events = stream
    r = random.Random(window)
    queries = [us("2024-01-02T00:00") + r.randrange(0, 44 * 1440 * 60) * 1_000_000 + 1 for _ in range(150)]
    length = WINDOWS[window]
    assert asked_for(made, f"exact_{window}", queries) == [
        pytest.approx(aggregated(sawtooth(events, q, length, 1, 1))) for q in queries
    ]
    assert asked_for(made, f"hops_{window}", queries) == [
        pytest.approx(aggregated(sawtooth(events, q, length, HOP, HOP))) for q in queries
    ]
    theirs = [len(sawtooth(events, q, length, HOP, 1)) for q in queries]
    ours = [row[0] for row in asked_for(made, f"exact_{window}", queries)]
    assert all(a >= b for a, b in zip(theirs, ours, strict=True))
    assert theirs != ours


@pytest.mark.parametrize(("own", "expected"), [("", [(1, 10), (2, 20), (3, 30), (2, 20), (0, None)]),
                                               ('id="purchase_id"', [(1, 10), (1, 10), (1, 10), (1, 10), (0, None)])])  # fmt: skip
def test_chronon_sample_purchases(make: Maker, own: str, expected: list[Any]) -> None:
    """Their sample buys purchase 111 three times. As events that is three; with its id it is one fact, of which the
    newest version counts. Windows of three days, strictly before the query."""
    made = make(
        PLAIN.format(more=own and f", {own}")
        + 'v = hw.FeatureView("v", source=s, entity=who, features={"n": hw.count(window="3d"), '
        '"sum": hw.sum("price", window="3d")})',
        s=table("k ts purchase_id price", (123, t("2023-11-01T14:10:10"), 111, 10),
                (123, t("2023-11-02T01:10:10"), 111, 10), (123, t("2023-11-03T03:10:10"), 111, 10)),
    )  # fmt: skip
    asked = [day("2023-11-02"), day("2023-11-03"), day("2023-11-04"), t("2023-11-04T15:00"), day("2023-11-09")]
    assert made.past("v", *((123, at) for at in asked)) == expected


# -- butterfree: rolling and fixed windows -------------------------------------------------------------------------------

APRIL = table(
    "k ts x side",
    (1, t("2016-04-11T11:31:11"), 200, "N"),
    (1, t("2016-04-11T11:44:12"), 300, "N"),
    (1, t("2016-04-11T11:46:24"), 400, "S"),
    (1, t("2016-04-11T12:03:21"), 500, "S"),
)
SAMPLE = math.sqrt(4 / 3) * 111.80339887498948  # theirs is the deviation of a population of four


def windows(*lengths: str) -> str:
    listed = ", ".join(f'"mean{n}": hw.mean("x", window="{w}"), "std{n}": hw.std("x", window="{w}")'
                       for n, w in enumerate(lengths))  # fmt: skip
    return PLAIN.format(more="") + f'v = hw.FeatureView("v", source=s, entity=who, features={{{listed}}})'


def test_butterfree_rolling_windows(make: Maker) -> None:
    """A day and a week that end at midnight: 350 on the 12th, nothing of the day on the 13th, nothing at all on the
    19th; and nothing on the 11th, before it all. Their deviation is 111.8 of a population; a sample's is 129.1."""
    made = make(windows("1d", "1w"), s=APRIL)
    four = (350.0, pytest.approx(SAMPLE))
    days = ["2016-04-11", "2016-04-12", "2016-04-13", "2016-04-18", "2016-04-19"]
    assert made.past("v", *((1, day(at)) for at in days)) == [
        (None,) * 4, (*four, *four), (None, None, *four), (None, None, *four), (None,) * 4,
    ]  # fmt: skip


def test_butterfree_fixed_windows(make: Maker) -> None:
    """Theirs end at a row and include it, so a microsecond later they are ours: 200, 250, 350 and 500 of a quarter of
    an hour. At the row itself ours do not see it: what is to be predicted at that moment must not know."""
    made = make(windows("2m", "15m"), s=APRIL)
    at = APRIL["ts"].to_pylist()
    two = math.sqrt(2) * 50
    assert made.past("v", *((1, moment + TICK) for moment in at)) == [
        (200, None, 200, None), (300, None, 250, pytest.approx(two)), (400, None, 350, pytest.approx(two)),
        (500, None, 500, None),
    ]  # fmt: skip
    assert [row[2] for row in made.past("v", *((1, moment) for moment in at))] == [None, 200, 300, None]


def test_butterfree_without_a_window(make: Maker) -> None:
    """All of the past: 350 of four."""
    made = make(
        PLAIN.format(more="") + 'v = hw.FeatureView("v", source=s, entity=who, features={"mean": hw.mean("x"), '
        '"n": hw.count()})', s=APRIL,
    )  # fmt: skip
    assert made.past("v", (1, day("2016-04-12")), (1, t("2016-04-11T12:03:21"))) == [(350, 4), (300, 3)]


def test_butterfree_pivot(make: Maker) -> None:
    """By another column: 450 in the south, 250 in the north; a SQL expression says which rows have a value."""
    case = "case when side = '{p}' then x end"
    listed = ", ".join(f'"{p}_{kind}": hw.{kind}("{case.format(p=p)}")' for p in "SN" for kind in ("mean", "std"))
    made = make(
        PLAIN.format(more="") + f'v = hw.FeatureView("v", source=s, entity=who, features={{{listed}}})', s=APRIL
    )
    two = pytest.approx(math.sqrt(2) * 50)
    assert made.past("v", (1, t("2016-04-11T12:03:22"))) == [(450, two, 250, two)]


def test_butterfree_counts_by_cell(make: Maker) -> None:
    """Two houses seen on the 11th in one cell: nothing on the 11th, 2 on the 12th. On the 13th theirs is null; here a
    count over nothing is 0 (§3.6)."""
    made = make(
        PLAIN.format(more="") + 'v = hw.FeatureView("v", source=s, entity=who, features={"n": hw.count(window="1d")})',
        s=table("k ts house", ("8ba8100ea0d5fff", t("2016-04-11T11:31:11"), 8921),
                ("8ba8100ea0d5fff", t("2016-04-11T11:44:12"), 8921)),
    )  # fmt: skip
    assert made.past("v", *(("8ba8100ea0d5fff", day(f"2016-04-{n}")) for n in (11, 12, 13))) == [0, 2, 0]


def test_butterfree_rolling_windows_at_date_boundaries(make: Maker) -> None:
    """A row a day: each midnight sees the day before it, and the week all so far. One value has no deviation here, where
    theirs has 0."""
    rows = [(1, t("2016-04-11T11:31:11"), 200), (1, t("2016-04-12T11:44:12"), 300), (1, t("2016-04-13T11:46:24"), 400)]
    made = make(windows("1d", "1w"), s=table("k ts x", *rows))
    assert made.past("v", *((1, day(f"2016-04-{n}")) for n in (11, 12, 13))) == [
        (None,) * 4, (200, None, 200, None), (300, None, 250, pytest.approx(math.sqrt(2) * 50)),
    ]  # fmt: skip
