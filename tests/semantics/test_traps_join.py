"""Traps of the point-in-time join (reference/feature_store.md §6, a to t), each with its decided rule.

What is held elsewhere as well:

| trap | also |
|---|---|
| a to g, k, l, m, s on random data | test_historical.py, against the oracle |
| k, ties by id and arrival | tests/data/binding/test_views.py::test_ties_go_by_id_then_arrival |
| m, every zone and kind of file | tests/data/sources/test_local_times.py, test_files.py |
| n, keys of every type, packed | tests/data/online/test_keys.py |
| t, several files and their columns | tests/data/sources/test_files.py |
"""

from __future__ import annotations

import itertools
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.semantics.conftest import Maker
from tests.semantics.lab import INSTANT, naive, t, table
from tests.semantics.lab import lab as open_lab

from headway.errors import DataError, DefinitionError, HeadwayError, UsageError

TICK = timedelta(microseconds=1)
EVENTS = """
    s = hw.Source("s", path="data/s.parquet", timestamp="ts")
    v = hw.FeatureView("v", source=s, entity=who, features={"x": "x", "n": hw.count()}, ttl="2d")
"""
LAST = """
    s = hw.Source("s", path="data/s.parquet", timestamp="ts")
    v = hw.FeatureView("v", source=s, entity=who, features={"x": "x"})
"""
VERSIONS = """
    s = hw.Source("s", path="data/s.parquet", id="id", timestamp="ts", created="seen")
    v = hw.FeatureView("v", source=s, entity=who, features={"x": "x"})
"""
ROWS = table(
    "k ts x",
    (1, t("2024-01-09T00:00"), 10),
    (2, t("2024-01-11T00:00"), 20),  # after every label
    (3, t("2024-01-01T00:00"), 30),  # longer ago than the ttl
    (4, t("2024-01-09T00:00"), 40),
)
NOON = t("12:00")


@pytest.fixture
def events(make: Maker) -> Any:
    return make(EVENTS, s=ROWS)


def test_trap_a_one_row_out_for_every_row_in_and_in_its_place(events: Any) -> None:
    """§3.5: one row out for every row in, in the same order, whatever becomes of each."""
    asked = [(4, NOON), (2, NOON), (None, NOON), (3, NOON), (9, NOON), (1, None), (4, NOON), (1, NOON)]
    spine = table("k ts", *asked, ts=INSTANT).append_column("row", pa.array(range(8)))
    found = events.project.features.historical(spine, "v")
    assert found.column_names == ["k", "ts", "row", "v__x", "v__n"]
    assert found.select(["k", "ts", "row"]).equals(spine)
    assert found["v__x"].to_pylist() == [40, None, None, None, None, None, 40, 10]
    assert found["v__n"].to_pylist() == [1, 0, None, 1, 0, None, 1, 1]


def test_trap_b_a_label_with_future_rows_only_is_kept(events: Any) -> None:
    """§3.2 and 3.5: what lies ahead is not seen; the label stays, its latest value null and its count 0."""
    assert events.past("v", (2, NOON)) == [(None, 0)]


def test_trap_c_a_label_with_stale_rows_only_is_kept(events: Any) -> None:
    """§3.7: a latest value older than ttl is null. A ttl ends values, not rows: the count without a window stays."""
    assert events.past("v", (3, NOON)) == [(None, 1)]


def test_trap_d_a_label_of_an_unknown_key_is_kept(events: Any) -> None:
    """§3.5: an entity nobody has seen has empty windows."""
    assert events.past("v", (99, NOON), (-1, NOON)) == [(None, 0)] * 2


def test_trap_e_duplicate_labels_are_all_kept(events: Any) -> None:
    """§3.5: duplicates included."""
    assert events.past("v", (1, NOON), (1, NOON), (4, NOON), (1, NOON)) == [(10, 1), (10, 1), (40, 1), (10, 1)]


def test_trap_f_a_null_key_gives_nulls_and_matches_nothing(make: Maker) -> None:
    """§3.5: a null key gives nulls everywhere, in counts too; a row of the source with a null key is nobody's."""
    lab = make(EVENTS, s=table("k ts x", (None, t("2024-01-09T00:00"), 1), (5, t("2024-01-09T00:00"), 2)))
    assert lab.past("v", (None, NOON), (5, NOON), (0, NOON)) == [(None, None), (2, 1), (None, 0)]


def test_trap_f_one_null_of_a_composite_key_is_a_null_key(make: Maker) -> None:
    """§3.5, also where the rest of the key is there, in the source and in the label."""
    lab = make(
        """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts")
        v = hw.FeatureView("v", source=s, entity=pair, features={"n": hw.count()})
        """,
        s=table("a b ts", ("p", None, t("09:00")), (None, "q", t("09:00")), ("p", "q", t("09:00"))),
    )
    asked = [("p", None, NOON), (None, "q", NOON), (None, None, NOON), ("p", "q", NOON)]
    assert lab.past("v", *asked, keys="a b") == [None, None, None, 1]


def test_trap_g_a_null_time_gives_nulls(events: Any) -> None:
    """§3.5: a label without a moment is kept, and has no features at all."""
    assert events.past("v", (1, None), (99, None)) == [(None, None)] * 2


def test_trap_g_a_row_without_an_event_time_is_never_seen(make: Maker) -> None:
    """§3.1 and docs/concepts/sources-and-time: it is counted as unplaced when it is read, and no feature sees it."""
    lab = make(EVENTS, s=table("k ts x", (1, None, 7), (1, t("09:00"), 8), ts=INSTANT))
    assert lab.past("v", (1, NOON), (1, t("2030-01-01T00:00"))) == [(8, 1), (None, 1)]


def test_trap_h_an_event_at_the_labels_time_is_not_seen(make: Maker) -> None:
    """§3.2: event time < r, strictly: an event never sees itself."""
    lab = make(LAST, s=table("k ts x", (1, t("09:00"), 1), (1, NOON, 2)))
    assert lab.past("v", (1, NOON), (1, NOON + TICK), (1, t("09:00"))) == [1, 2, None]


def test_trap_h_a_dimension_that_is_effective_holds_at_its_very_time(make: Maker) -> None:
    """§3.2: ``effective=True`` means "valid from": event time <= r."""
    lab = make(LAST.replace('"ts")', '"ts", effective=True)'), s=table("k ts x", (1, t("09:00"), 1), (1, NOON, 2)))
    assert lab.past("v", (1, NOON - TICK), (1, NOON), (1, t("09:00")), (1, t("09:00") - TICK)) == [1, 2, 1, None]


def test_trap_i_a_value_exactly_as_old_as_its_ttl_still_counts(make: Maker) -> None:
    """§3.7: older than ttl at r is null; exactly ttl is not older."""
    lab = make(LAST.replace("})", '}, ttl="3h")'), s=table("k ts x", (1, t("09:00"), 1)))
    assert lab.past("v", (1, NOON - TICK), (1, NOON), (1, NOON + TICK)) == [1, 1, None]


def test_trap_i_a_ttl_is_measured_from_the_refresh_not_from_the_label(make: Maker) -> None:
    """§3.2 and 3.7: r = floor(t - lag, refresh) is what everything is measured at."""
    declared = LAST.replace("})", '}, ttl="3h", refresh="1h", lag="5m")')
    lab = make(declared, s=table("k ts x", (1, t("09:00"), 1)))
    asked = [(1, t("10:04:59")), (1, t("10:05")), (1, t("13:04:59")), (1, t("13:05"))]
    assert lab.past("v", *asked) == [None, 1, 1, None]  # r = 9, 10, 12, 13 o'clock


def test_trap_j_no_ttl_is_for_ever_and_a_ttl_of_nothing_is_refused(make: Maker) -> None:
    """§3.7: without ttl a value never expires. 0 means neither "for ever" nor "52 weeks": it is refused."""
    lab = make(LAST, s=table("k ts x", (1, t("1990-01-01T00:00"), 1)))
    assert lab.past("v", (1, t("2024-01-01T00:00")), (1, t("2262-01-01T00:00"))) == [1, 1]
    with pytest.raises(DefinitionError, match="ttl is longer than nothing"):
        make(LAST.replace("})", '}, ttl="0s")')).project.declarations  # noqa: B018


TIED = [
    ("z", NOON, t("12:10"), 3),
    ("m", NOON, t("12:05"), 2),
    ("a", NOON, t("12:01"), 1),
    ("q", NOON, None, 9),
]


def test_trap_k_ties_of_event_time_go_to_what_was_known_last(make: Maker) -> None:
    """§3.2: greater event time, then greater known_at; a null created is not known, and so never wins. In whatever
    order the rows come: one key for each of them."""
    orders = list(itertools.permutations(TIED))
    rows = [(k, f"{k}{i}", *row) for k, order in enumerate(orders) for i, *row in order]
    lab = make(VERSIONS, s=table("k id ts seen x", *rows))
    for at, x in (("12:04", 1), ("12:05", 2), ("13:00", 3)):
        assert lab.past("v", *((k, t(at)) for k in range(len(orders)))) == [x] * len(orders)


def test_trap_k_ties_of_event_and_known_time_go_to_the_greater_id(make: Maker) -> None:
    """§3.2: then greater id; three facts that tie in everything else, in every order."""
    orders = list(itertools.permutations("abc"))
    rows = [(k, f"{i}{k}", t("09:00"), t("09:00"), i) for k, order in enumerate(orders) for i in order]
    lab = make(VERSIONS, s=table("k id ts seen x", *rows))
    assert lab.past("v", *((k, NOON) for k in range(6))) == ["c"] * 6


def test_trap_k_without_an_id_the_last_to_arrive_wins(make: Maker) -> None:
    """§3.2: without an id, later arrival: the order of the rows in the file."""
    orders = list(itertools.permutations([1, 2, 3]))
    rows = [(k, t("09:00"), x) for n in range(3) for k, order in enumerate(orders) for x in order[n : n + 1]]
    lab = make(LAST, s=table("k ts x", *rows))
    assert lab.past("v", *((k, NOON) for k in range(6))) == [order[-1] for order in orders]


def test_trap_l_only_what_was_known_at_the_label_counts(make: Maker) -> None:
    """§3.1 and 3.2: known_at <= r; a correction counts from the moment it was known, and never before."""
    lab = make(
        VERSIONS,
        s=table(
            "k id ts seen x",
            (1, "a", t("09:00"), t("09:30"), 1),
            (1, "a", t("09:00"), t("11:00"), 2),  # a correction
            (2, "b", t("09:00"), t("2024-01-20T00:00"), 5),  # known ten days later
            (3, "c", t("09:00"), None, 7),  # not known yet
        ),
    )
    asked = ["09:29:59", "09:30", "10:59:59", "11:00"]
    assert lab.past("v", *((1, t(at)) for at in asked)) == [None, 1, 1, 2]
    assert lab.past("v", (2, NOON), (2, t("2024-01-20T00:00")), (3, t("2030-01-01T00:00"))) == [None, 5, None]


def test_trap_l_a_row_is_known_no_earlier_than_its_event_and_delay(make: Maker) -> None:
    """§3.1: known_at = max(event time + delay, created): a created in advance does not bring it forward."""
    declared = VERSIONS.replace('created="seen"', 'created="seen", delay="1h"')
    lab = make(declared, s=table("k id ts seen x", (1, "a", t("09:00"), t("08:00"), 1)))
    assert lab.past("v", (1, t("09:59:59")), (1, t("10:00"))) == [None, 1]


# -- m: times ----------------------------------------------------------------------------------------------------------

NEW_YORK = ZoneInfo("America/New_York")


def test_trap_m_moments_of_several_zones_in_one_column_are_instants(make: Maker) -> None:
    """§3.8: UTC inside. One spine with an offset per row: each is the instant it names."""
    lab = make(LAST, s=table("k ts x", (1, t("12:00"), 1), (1, t("13:00"), 2)))
    plus = timezone(timedelta(minutes=60))
    moments = [
        datetime(2024, 1, 10, 13, 0, 1, tzinfo=plus),  # 12:00:01 in UTC
        datetime(2024, 1, 10, 8, 0, 1, tzinfo=NEW_YORK),  # 13:00:01
        datetime(2024, 1, 10, 13, 0, 0, tzinfo=UTC),
        datetime(2024, 1, 10, 7, 0, 0, tzinfo=NEW_YORK),  # 12:00 sharp
    ]
    found = lab.project.features.historical({"k": [1] * 4, "ts": moments}, "v")
    assert found["v__x"].to_pylist() == [1, 2, 1, None]


def test_trap_m_a_text_file_may_have_an_offset_on_each_row(make: Maker) -> None:
    """§3.8 for sources: offsets are honoured, and what has none is in the source's zone."""
    lab = make(LAST.replace('data/s.parquet", ', 'data/s.csv", timezone="America/New_York", '))
    (lab.root / "data").mkdir()
    rows = ["1,2024-01-10T12:00:00Z,1", "1,2024-01-10T15:00:00+02:00,2", "1,2024-01-10 09:00:00,3"]
    (lab.root / "data" / "s.csv").write_text("\n".join(["k,ts,x", *rows]) + "\n")
    lab.put()
    assert lab.past("v", *((1, t(at) + TICK) for at in ("12:00", "13:00", "14:00"))) == [1, 2, 3]


def test_trap_m_naive_moments_are_refused_without_a_zone(make: Maker) -> None:
    """§3.8: a naive spine needs ``timezone=``: guessing UTC would be wrong by hours, silently."""
    lab = make(LAST, s=table("k ts x", (1, t("17:00"), 1)))
    spine = table("k ts", (1, naive("12:30")))
    with pytest.raises(DataError, match="has no time zone; pass timezone="):
        lab.project.features.historical(spine, "v")
    for zone, value in (("UTC", None), ("America/New_York", 1)):
        assert lab.project.features.historical(spine, "v", timezone=zone)["v__x"].to_pylist() == [value]


WALLS = [  # local times of New York, and the instants they stand for
    ("2024-11-03T00:30", "2024-11-03T04:30"),
    ("2024-11-03T01:30", "2024-11-03T05:30"),  # twice; the first
    ("2024-11-03T02:30", "2024-11-03T07:30"),
    ("2024-03-10T01:30", "2024-03-10T06:30"),
    ("2024-03-10T02:00", "2024-03-10T07:00"),  # never
    ("2024-03-10T02:59", "2024-03-10T07:00"),
    ("2024-03-10T03:00", "2024-03-10T07:00"),
]
FAR_AWAY = [  # the lists of clock changes end in 2037, their rules go on
    ("2060-07-01T12:00", "2060-07-01T16:00"),
    ("2060-11-07T01:30", "2060-11-07T05:30"),
]


def test_trap_m_the_hour_of_a_clock_change_in_a_source(make: Maker) -> None:
    """§3.8: an ambiguous local time takes the earlier offset, one that does not exist moves to the end of the gap."""
    walls = WALLS + FAR_AWAY
    rows = [(n, naive(wall), n) for n, (wall, _) in enumerate(walls)]
    lab = make(LAST.replace('"ts")', '"ts", timezone="America/New_York")'), s=table("k ts x", *rows))
    for n, (_, instant) in enumerate(walls):
        assert lab.past("v", (n, t(instant)), (n, t(instant) + TICK)) == [None, n]


@pytest.mark.parametrize(
    "walls",
    [
        WALLS,
        FAR_AWAY,
    ],
    ids=["listed", "after_2037"],
)
def test_trap_m_the_hour_of_a_clock_change_in_a_spine(make: Maker, walls: list[tuple[str, str]]) -> None:
    """§3.8, for the moments that features are asked at: at the instant a row of it is seen, just before it is not."""
    rows = [(n, t(instant), n) for n, (_, instant) in enumerate(walls)]
    lab = make(LAST.replace('"ts")', '"ts", effective=True)'), s=table("k ts x", *rows))
    in_the_gap = {"2024-03-10T02:59", "2024-03-10T03:00"}  # a microsecond before these is in the gap, and means its end
    just_before = [n if wall in in_the_gap else None for n, (wall, _) in enumerate(walls)]
    for before, expected in ((timedelta(0), list(range(len(walls)))), (TICK, just_before)):
        spine = table("k ts", *((n, naive(wall) - before) for n, (wall, _) in enumerate(walls)))
        found = lab.project.features.historical(spine, "v", timezone="America/New_York")
        assert found["v__x"].to_pylist() == expected


UNITS = ["s", "ms", "us", "ns"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Key 1 has 1 from nine o'clock and 2 from noon; key 2 has 3."""
    rows = table("k ts x", (1, t("09:00"), 1), (1, NOON, 2), (2, t("09:00"), 3), k=pa.int32())
    with open_lab(tmp_path_factory.mktemp("two"), LAST, s=rows) as made:
        yield made


@pytest.mark.parametrize("unit", UNITS)
def test_trap_m_every_unit_of_a_spine_means_the_same_moment(two: Any, unit: str) -> None:
    """§3.8: microseconds inside, whatever came in; the spine's own column stays as it was."""
    asked = pa.array([t("11:59:59"), t("12:00"), t("12:00:01")], INSTANT).cast(pa.timestamp(unit, "UTC"))
    found = two.project.features.historical(pa.table({"k": [1] * 3, "ts": asked}), "v")
    assert found["v__x"].to_pylist() == [1, 1, 2]
    assert found["ts"].type == pa.timestamp(unit, "UTC")


def test_trap_m_every_unit_of_a_source_means_the_same_moment(make: Maker) -> None:
    """§3.8, for four sources that differ in nothing else."""
    declared = [LAST.replace("s = ", f"s{n} = ").replace("v = ", f"v{n} = ").replace('"v"', f'"v{n}"')
                .replace('"s"', f'"s{n}"').replace("data/s", f"data/s{n}").replace("source=s", f"source=s{n}")
                for n in range(4)]  # fmt: skip
    rows = table("k ts x", (1, t("09:00"), 1), (1, t("12:00"), 2))
    files = {
        f"s{n}": rows.set_column(1, "ts", rows["ts"].cast(pa.timestamp(unit, "UTC"))) for n, unit in enumerate(UNITS)
    }
    lab = make("".join(declared), **files)
    asked = [(1, t("11:59:59")), (1, t("12:00")), (1, t("12:00:01"))]
    assert lab.past(["v0", "v1", "v2", "v3"], *asked) == [(1,) * 4, (1,) * 4, (2,) * 4]


@pytest.mark.filterwarnings("ignore:Series.values returning:DeprecationWarning")  # pyarrow asks pandas so
@pytest.mark.parametrize("unit", UNITS)
def test_trap_m_a_pandas_spine_of_any_unit(two: Any, unit: Any) -> None:
    """pandas 3 has microseconds, pandas 2 nanoseconds: both mean what they say."""
    frame = pd.DataFrame({"k": [1, 1], "ts": pd.to_datetime([t("12:00:01"), t("08:00")])})
    frame["ts"] = frame["ts"].astype(pd.DatetimeTZDtype(unit, "UTC"))
    found = two.project.features.historical(frame, "v")
    assert found.column_names == ["k", "ts", "v__x"]
    assert found["v__x"].to_pylist() == [2, None]


def test_trap_m_nanoseconds_are_floored_not_rounded(make: Maker) -> None:
    """§3.8: microseconds inside: a label 999 ns after an event is at the event, and so does not see it."""
    lab = make(LAST, s=table("k ts x", (1, t("12:00"), 1)))
    noon = 1704888000_000_000_000
    spine = pa.table({"k": [1] * 3, "ts": pa.array([noon - 1, noon + 999, noon + 1000], pa.timestamp("ns", "UTC"))})
    assert lab.project.features.historical(spine, "v")["v__x"].to_pylist() == [None, None, 1]


def test_trap_m_before_1970_times_are_floored_downwards(make: Maker) -> None:
    """§3.2: floor on the UTC epoch grid: a microsecond before 1970 belongs to the hour before, not to hour 0."""
    lab = make(
        LAST.replace("})", '}, refresh="1h")'),
        s=table("k ts x", (1, t("1969-12-31T22:30"), 1), (1, t("1969-12-31T23:30"), 2)),
    )
    asked = ["1969-12-31T22:59:59", "1969-12-31T23:30", "1969-12-31T23:59:59.999999", "1970-01-01T00:00"]
    assert lab.past("v", *((1, t(at)) for at in asked)) == [None, 1, 1, 2]


def test_trap_m_dates_are_midnight_of_their_zone(make: Maker) -> None:
    """§3.8: dates are naive: in a source they mean midnight in its zone, in a spine they need ``timezone=``."""
    lab = make(
        LAST.replace('"ts")', '"ts", timezone="America/New_York")'),
        s=table("k ts x", (1, date(2024, 1, 9), 1), (1, date(2024, 1, 10), 2)),
    )
    asked = ["2024-01-09T05:00", "2024-01-09T05:00:01", "2024-01-10T05:00", "2024-01-10T05:00:01"]
    assert lab.past("v", *((1, t(at)) for at in asked)) == [None, 1, 1, 2]
    spine = table("k ts", (1, date(2024, 1, 10)), (1, date(2024, 1, 11)))
    with pytest.raises(DataError, match="timezone="):
        lab.project.features.historical(spine, "v")
    found = lab.project.features.historical(spine, "v", timezone="America/New_York")
    assert found["v__x"].to_pylist() == [1, 2]


# -- n: keys -----------------------------------------------------------------------------------------------------------

PAIRS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "no_separator": (("1", "23"), ("12", "3")),
    "comma": (("a,b", "c"), ("a", "b,c")),
    "bar": (("a|b", "c"), ("a", "b|c")),
    "nul": (("a\0b", "c"), ("a", "b\0c")),
    "unit_separator": (("a\x1fb", "c"), ("a", "b\x1fc")),
    "quote": (("a'", "b"), ("a", "'b")),
    "empty": (("", "ab"), ("ab", "")),
    "case": (("Ab", "c"), ("ab", "c")),
    "space": (("d ", "e"), ("d", "e")),
    "unicode": ((unicodedata.normalize("NFC", "é"), "b"), (unicodedata.normalize("NFD", "é"), "b")),
    "long": (("x" * 600 + "1", "b"), ("x" * 600 + "2", "b")),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    declared = """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts")
        v = hw.FeatureView("v", source=s, entity=pair, features={"x": "x"}, refresh="1h")
    """
    rows = [(*key, t("09:00"), f"{name} {n}") for name, both in PAIRS.items() for n, key in enumerate(both)]
    with open_lab(tmp_path_factory.mktemp("pairs"), declared, now="12:00", s=table("a b ts x", *rows)) as made:
        made.refresh("v")
        yield made


@pytest.mark.parametrize("name", PAIRS)
def test_trap_n_keys_that_look_alike_are_told_apart(pairs: Any, name: str) -> None:
    """Keys are compared by column and byte for byte: never joined to one text, folded or normalised. Online too."""
    both = PAIRS[name]
    assert pairs.past("v", *((*key, NOON) for key in both), keys="a b") == [f"{name} 0", f"{name} 1"]
    found = pairs.project.online.read("v", {"a": [a for a, _ in both], "b": [b for _, b in both]})
    assert found["v__x"].to_pylist() == [f"{name} 0", f"{name} 1"]


def test_trap_n_no_crossed_pair_exists(pairs: Any) -> None:
    """The halves of known keys do not make another one."""
    crossed = [("1", "3"), ("12", "23"), ("123", ""), ("", "123"), ("a", "c")]
    assert pairs.past("v", *((*key, NOON) for key in crossed), keys="a b") == [None] * 5
    found = pairs.project.online.read("v", {"a": [a for a, _ in crossed], "b": [b for _, b in crossed]})
    assert [row["x"] for row in found["_state"].to_pylist()] == ["missing"] * 5


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint16(), pa.int64(), pa.uint64(), pa.float64()], ids=str)
def test_trap_n_whole_numbers_of_any_width_are_one_key(two: Any, kind: pa.DataType) -> None:
    """Key types come from the source; a spine's whole numbers may be of another width, or floats without a fraction."""
    spine = pa.table({"k": pa.array([2, 1], kind), "ts": pa.array([NOON] * 2, INSTANT)})
    assert two.project.features.historical(spine, "v")["v__x"].to_pylist() == [3, 1]


def test_trap_n_a_float_key_with_nan_is_null_and_one_with_a_fraction_is_refused(make: Maker) -> None:
    """pandas turns whole numbers with gaps into floats: NaN is a missing key; 1.5 is no key at all."""
    lab = make(EVENTS, now="12:00", s=table("k ts x", (1, t("09:00"), 1)))
    spine = pa.table({"k": [1.0, float("nan")], "ts": pa.array([NOON] * 2, INSTANT)})
    assert lab.project.features.historical(spine, "v")["v__n"].to_pylist() == [1, None]
    with pytest.raises(DataError, match="does not fit the key 'k' of type int64"):
        lab.past("v", (1.5, NOON))
    lab.refresh("v")
    assert lab.stated("v", 1.0, float("nan")) == [((1, 1), ("ok", "ok")), ((None, None), ("missing", "missing"))]


@pytest.mark.parametrize(("source", "asked"), [(1, "1"), ("1", 1)], ids=["text_for_number", "number_for_text"])
def test_trap_n_the_number_1_and_the_text_1_are_different_keys(make: Maker, source: Any, asked: Any) -> None:
    """Nothing is converted between text and numbers, offline or online: it is refused with both types named."""
    lab = make(LAST, now="12:00", s=table("k ts x", (source, t("09:00"), 1)))
    lab.refresh("v")
    with pytest.raises(DataError, match="but the key 'k' is (int64|string); convert it first"):
        lab.past("v", (asked, NOON))
    with pytest.raises(HeadwayError, match="key 'k'"):
        lab.served("v", asked)


# -- o to t ------------------------------------------------------------------------------------------------------------


def test_trap_o_columns_called_alike_in_spine_source_and_views_stay_apart(make: Maker) -> None:
    """Features are always called view__feature; nothing of the spine is touched, and nothing of a source leaks in."""
    lab = make(
        """
        s = hw.Source("s", path="data/s.parquet", timestamp="event_timestamp")
        v = hw.FeatureView("v", source=s, entity=who, features={"label": "label", "k": "k", "ts": "event_timestamp"})
        w = hw.FeatureView("w", source=s, entity=who, features={"label": hw.count()})
        """,
        s=table("k event_timestamp label", (1, t("09:00"), "of the source")),
    )
    spine = pa.table(
        {"event_timestamp": pa.array([NOON], INSTANT), "k": [1], "label": ["mine"], "ts": ["text"], "v": [0.5]}
    )
    found = lab.project.features.historical(spine, ["v", "w"], timestamp="event_timestamp")
    assert found.to_pylist() == [
        {"event_timestamp": NOON, "k": 1, "label": "mine", "ts": "text", "v": 0.5,
         "v__label": "of the source", "v__k": 1, "v__ts": t("09:00"), "w__label": 1}
    ]  # fmt: skip


def test_trap_o_a_column_that_would_be_there_twice_is_refused(events: Any) -> None:
    """A clash is an error, not a suffix: in the spine, and of one view used twice without an alias."""
    spine = pa.table({"k": [1], "ts": pa.array([NOON], INSTANT), "v__x": [0]})
    with pytest.raises(DataError, match="already has a column 'v__x'"):
        events.project.features.historical(spine, "v")
    with pytest.raises((DataError, UsageError), match="'?v__x'?|v"):
        events.project.online.read(["v", "v"], {"k": [1]})
    twice = pa.table([pa.array([1]), pa.array([2]), pa.array([NOON], INSTANT)], names=["k", "k", "ts"])
    with pytest.raises(DataError, match="2 columns called 'k'"):
        events.project.features.historical(twice, "v")


KINDS = {
    "i": ("i", pa.int64()),
    "f": ("f", pa.float64()),
    "s": ("s", pa.string()),
    "b": ("b", pa.bool_()),
    "d": ("d", pa.date32()),
    "at": ("at", INSTANT),
    "mean": ('hw.mean("i", window="1h")', pa.float64()),
    "sum": ('hw.sum("i", window="1h")', pa.int64()),
    "n": ("hw.count()", pa.int64()),
    "different": ('hw.nunique("s")', pa.int64()),
}
TYPED = "features={" + ", ".join(f'"{k}": {w if w.startswith("hw.") else repr(w)}' for k, (w, _) in KINDS.items()) + "}"
COLUMNS = {"i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_(), "d": pa.date32(), "at": INSTANT}
NOTHING = [None] * 8 + [0, 0]


def typed(rows: int) -> pa.Table:
    columns = {"k": pa.array([1] * rows, pa.int64()), "ts": pa.array([t("09:00")] * rows, INSTANT)}
    return pa.table(columns | {name: pa.nulls(rows, kind) for name, kind in COLUMNS.items()})


@pytest.mark.parametrize("rows", [0, 3], ids=["empty_source", "all_null"])
@pytest.mark.parametrize("labels", [0, 2], ids=["no_labels", "two_labels"])
def test_trap_p_types_do_not_depend_on_what_is_found(make: Maker, rows: int, labels: int) -> None:
    """Types come from the schema: an empty source, a column of nulls and an empty spine change none of them."""
    lab = make(EVENTS.replace('features={"x": "x", "n": hw.count()}', TYPED), s=typed(rows))
    spine = pa.table({"k": pa.array([1, 2][:labels], pa.int64()), "ts": pa.array([NOON] * labels, INSTANT)})
    found = lab.project.features.historical(spine, "v")
    assert found.num_rows == labels
    assert {n: found.schema.field(f"v__{n}").type for n in KINDS} == {n: kind for n, (_, kind) in KINDS.items()}
    expected = [None] * 8 + [rows, 0]
    assert [tuple(row.values())[2:] for row in found.to_pylist()] == [tuple(expected), tuple(NOTHING)][:labels]


def test_trap_p_an_empty_source_is_materialized_and_read(make: Maker) -> None:
    """Online likewise: nothing is stored, everybody is missing, and the view has been refreshed all the same."""
    declared = EVENTS.replace('features={"x": "x", "n": hw.count()}', TYPED + ', refresh="1h"')
    lab = make(declared, now="12:30", s=typed(0))
    assert lab.refresh("v") == ["full"]
    assert lab.stated("v", 1, 2) == [(tuple(NOTHING), ("missing",) * 10)] * 2
    assert lab.as_of("v", 1) == [NOON]


def test_trap_q_one_view_twice_under_aliases(make: Maker) -> None:
    """An alias keys the view by another column, and names its columns; rows where both are one entity as well."""
    lab = make(
        LAST,
        now="12:00",
        s=table("k ts x", (1, t("09:00"), 10), (2, t("09:00"), 20), (2, t("11:00"), 21)),
    )
    view = lab.project.declarations.views["v"]
    uses = [view.alias("origin", keys={"k": "o"}), view.alias("destination", keys={"k": "d"})]
    asked = [(1, 2, t("10:00")), (2, 1, NOON), (2, 2, NOON), (None, 2, NOON), (1, 9, NOON)]
    assert lab.past(uses, *asked, keys="o d") == [(10, 20), (21, 10), (21, 21), (None, 21), (10, None)]
    lab.refresh("v")
    found = lab.project.online.read(uses, {"o": [1, 2, None], "d": [2, 2, 1]})
    assert found["origin__x"].to_pylist() == [10, 21, None]
    assert found["destination__x"].to_pylist() == [21, 21, 10]


def test_trap_r_a_global_view_has_a_constant_for_a_key(make: Maker) -> None:
    """An entity has a key; what describes everything has a constant one, which the spine brings: no cross join."""
    with pytest.raises(DefinitionError, match="key takes one or more different column names"):
        make("everything = hw.Entity('everything', key=())").project.declarations  # noqa: B018
    lab = make(
        """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts")
        all_of_it = hw.Entity("all_of_it", key="scope")
        g = hw.FeatureView("g", source=s, entity=all_of_it, keys={"scope": "'all'"},
                           features={"n": hw.count(window="3h"), "x": hw.sum("x")})
        """,
        s=table("k ts x", (1, t("09:00"), 1), (2, t("10:00"), 2), (3, t("11:00"), 4)),
    )
    asked = [("all", NOON), ("all", t("10:30")), ("none", NOON), (None, NOON), ("all", NOON)]
    assert lab.past("g", *asked, keys="scope") == [(3, 7), (2, 3), (0, None), (None, None), (3, 7)]


def test_trap_s_null_in_the_latest_row_is_null_and_last_is_the_latest_that_is_not(make: Maker) -> None:
    """§3.2: a bare column is the latest visible row's value, null if it is null there; ``last`` skips nulls. A NaN is
    a null."""
    lab = make(
        """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts")
        v = hw.FeatureView("v", source=s, entity=who, ttl="2h30m",
                           features={"row": "x", "last": hw.last("x"), "window": hw.last("x", window="1h")})
        """,
        s=table("k ts x", (1, t("09:00"), 1.5), (1, t("11:00"), None), (1, t("11:30"), float("nan"))),
    )
    assert lab.past("v", (1, t("10:00")), (1, t("11:10")), (1, t("11:29")), (1, NOON)) == [
        (1.5, 1.5, 1.5), (None, 1.5, None), (None, 1.5, None), (None, None, None),
    ]  # fmt: skip


def test_trap_t_the_order_of_rows_and_files_does_not_matter(make: Maker) -> None:
    """Times order rows, not places: unsorted rows in several files, whose times interleave."""
    rows = [(k, t(f"{hour:02}:{minute:02}"), 100 * hour + minute) for k in (1, 2) for hour in range(9, 12)
            for minute in (0, 20, 40)]  # fmt: skip
    lab = make(LAST.replace("data/s.parquet", "data/part*.parquet"))
    (lab.root / "data").mkdir()
    shuffled = [rows[n * 5 % len(rows)] for n in range(len(rows))] if len(rows) % 5 else rows[::-1]
    for n in range(3):
        pq.write_table(table("k ts x", *shuffled[n::3]), lab.root / "data" / f"part{n}.parquet")
    lab.put()
    asked = [(2, t("10:30")), (1, t("09:00")), (1, t("11:10")), (2, NOON), (1, t("09:20:01"))]
    assert lab.past("v", *asked) == [1020, None, 1100, 1140, 920]


def test_trap_t_a_row_in_two_files_counts_once_with_an_id_and_twice_without(make: Maker) -> None:
    """§3.1: with an id rows are versions of one fact; without one every row is an event of its own."""
    both = """
        s = hw.Source("s", path="data/part*.parquet", timestamp="ts"{id})
        v = hw.FeatureView("v", source=s, entity=who, features={{"n": hw.count(), "x": hw.sum("x")}})
    """
    for own, counted in ((', id="id"', (3, 7)), ("", (4, 9))):
        lab = make(both.format(id=own))
        (lab.root / "data").mkdir()
        one = table("k id ts x", (1, "a", t("09:00"), 1), (1, "b", t("09:30"), 2))
        two = table("k id ts x", (1, "b", t("09:30"), 2), (1, "c", t("10:00"), 4))
        pq.write_table(one, lab.root / "data" / "part1.parquet")
        pq.write_table(two, lab.root / "data" / "part2.parquet")
        lab.put()
        assert lab.past("v", (1, NOON)) == [counted]


# -- what peers get wrong (§3) -----------------------------------------------------------------------------------------


def test_defect_3_1_no_label_is_lost(make: Maker) -> None:
    """§3.5, with the labels of the reference: five in, five out, where a filter after a left join keeps two."""
    lab = make(
        LAST.replace("})", '}, ttl="2d")'),
        s=table(
            "k ts x",
            (1, t("2024-01-09T00:00"), 1),
            (2, t("2024-01-11T00:00"), 2),  # after the label
            (3, t("2024-01-01T00:00"), 3),  # older than ttl
            (4, t("2024-01-09T00:00"), 4),
        ),
    )
    midnight = t("2024-01-10T00:00")
    assert lab.past("v", *((k, midnight) for k in (1, 2, 3, 4, 4))) == [1, None, None, 4, 4]


def test_defect_3_3_composite_keys_do_not_collide(make: Maker) -> None:
    """Customer 1 with driver 23 is not customer 12 with driver 3, and a null in a key matches nothing at all."""
    lab = make(
        """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts")
        ride = hw.Entity("ride", key=("customer", "driver"))
        v = hw.FeatureView("v", source=s, entity=ride, features={"x": "x"})
        """,
        now="12:00",
        s=table(
            "customer driver ts x",
            (1, 23, t("09:00"), "1 and 23"),
            (12, 3, t("09:00"), "12 and 3"),
            (None, 123, t("09:00"), "nobody"),
            (123, None, t("09:00"), "nobody"),
        ),
    )
    keys, values = [(1, 23), (12, 3), (123, None), (None, 123), (1, 3)], ["1 and 23", "12 and 3", None, None, None]
    assert lab.past("v", *((*key, NOON) for key in keys), keys="customer driver") == values
    lab.refresh("v")
    asked = {"customer": [c for c, _ in keys], "driver": [d for _, d in keys]}
    assert lab.project.online.read("v", asked)["v__x"].to_pylist() == values


def test_defect_3_4_training_rows_do_not_multiply(make: Maker) -> None:
    """§3.5: rows of the source that are equal in everything, also in created, never make two of one label."""
    twice = [(1, "a", t("09:00"), t("09:00"), 5)] * 3
    for declared in (VERSIONS, LAST):
        lab = make(declared, s=table("k id ts seen x", *twice))
        assert lab.past("v", (1, NOON), (1, NOON), (2, NOON)) == [5, 5, None]


def test_defect_3_6_created_is_a_cutoff_and_not_only_a_tie_break(make: Maker) -> None:
    """§3.2: always; there is no option by which a value that was not known yet gets into training."""
    rows = table("k id ts seen x", (1, "a", t("08:00"), t("08:00"), 1), (1, "b", t("09:00"), t("13:00"), 2))
    assert make(VERSIONS, s=rows).past("v", (1, NOON), (1, t("13:00"))) == [1, 2]


def test_defect_3_6_a_global_view_is_no_cross_join(make: Maker) -> None:
    """See trap r: as many rows come out as go in, however many the source has."""
    lab = make(
        """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts")
        g = hw.FeatureView("g", source=s, entity=who, keys={"k": "1"}, features={"n": hw.count()})
        """,
        s=table("ts", *((t(f"09:{minute:02}"),) for minute in range(60))),
    )
    assert lab.past("g", (1, NOON), (1, t("09:30"))) == [60, 30]
