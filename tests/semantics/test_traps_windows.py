"""Traps of windows (reference/feature_store.md §6) and of window tiling (§3.2), each with its decided rule.

What is held elsewhere as well:

| trap | also |
|---|---|
| every aggregate against brute force on random times and windows | tests/data/compute/test_point_in_time.py, test_values.py::test_many_rows_agree_with_a_scan; test_historical.py |
| floats keep their digits | tests/data/compute/test_values.py::test_float_sums_do_not_lose_digits, test_deviations_are_right_whatever_the_mean |
| whole numbers that do not fit | tests/data/compute/test_values.py::test_integer_sums_are_exact_or_refused |
| online tail and batch are offline, after every step | tests/data/test_materialize.py, test_online.py |

headway's hop is ``refresh``: values are computed on its grid and hold until the next one.
"""

from __future__ import annotations

import itertools
import math
import statistics
from datetime import timedelta
from typing import Any

import pytest
from tests.semantics.conftest import Maker
from tests.semantics.lab import Lab, t, table

from headway.errors import DataError, DefinitionError

TICK = timedelta(microseconds=1)
NOON = t("12:00")
SOURCE = 's = hw.Source("s", path="data/s.parquet", timestamp="ts")\n'


def view(features: str, **more: str) -> str:
    """Declarations of one source and a view of these features."""
    rest = "".join(f", {name}={value!r}" for name, value in more.items())
    return SOURCE + f'v = hw.FeatureView("v", source=s, entity=who, features={{{features}}}{rest})\n'


ALL = """
"n": hw.count(window="10m"), "sum": hw.sum("x", window="10m"), "max": hw.max("x", window="10m"),
"min": hw.min("x", window="10m"), "mean": hw.mean("x", window="10m"), "std": hw.std("x", window="10m"),
"different": hw.nunique("x", window="10m"), "first": hw.first("x", window="10m"), "last": hw.last("x", window="10m"),
"half": hw.quantile("x", 0.5, window="10m")
"""
NOTHING = (0, None, None, None, None, None, 0, None, None, None)


@pytest.fixture
def tiles(make: Maker) -> Lab:
    """The rows of §3.2: 10, 20, 30, 50 within a quarter of an hour; window 10 minutes, hop 5 minutes."""
    rows = table("k ts x", *((1, t(f"00:{at:02}"), x) for at, x in ((1, 10), (6, 20), (11, 30), (16, 50))))
    return make(view(ALL, refresh="5m"), s=rows)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("00:05", (1, 10, 10, 10, 10.0, None, 1, 10, 10, 10.0)),
        ("00:10", (2, 30, 20, 10, 15.0, math.sqrt(50), 2, 10, 20, 15.0)),
        ("00:15", (2, 50, 30, 20, 25.0, math.sqrt(50), 2, 20, 30, 25.0)),
        ("00:20", (2, 80, 50, 30, 40.0, math.sqrt(200), 2, 30, 50, 40.0)),
        ("00:25", (1, 50, 50, 50, 50.0, None, 1, 50, 50, 50.0)),
        ("00:30", NOTHING),
    ],
)
def test_defect_3_2_every_aggregate_of_a_tiled_window_is_right(tiles: Lab, at: str, expected: tuple[Any, ...]) -> None:
    """§3.6: maxima, minima and deviations cannot be had by subtracting prefixes; std is the sample deviation."""
    assert tiles.past("v", (1, t(at)), (1, t(at) + timedelta(minutes=4, seconds=59))) == [pytest.approx(expected)] * 2


def test_defect_3_2_an_empty_window_has_no_mean_and_not_the_mean_0(tiles: Lab) -> None:
    """§3.6: count and nunique are 0 over nothing; sum, mean, min, max, std, quantile, first and last are null."""
    assert tiles.past("v", (1, t("00:00")), (1, NOON), (99, NOON)) == [NOTHING] * 3


def test_trap_a_window_of_nulls_alone_is_empty_but_for_its_count(make: Maker) -> None:
    """§3.6: nulls in a column are left out of its aggregate, NaN too; ``count`` counts rows."""
    rows = table(
        "k ts x", (1, t("11:55"), None), (1, t("11:56"), math.nan), (2, t("11:55"), None), (2, t("11:56"), 4.0)
    )
    lab = make(view(ALL), s=rows)
    only = (2, 4.0, 4.0, 4.0, 4.0, None, 1, 4.0, 4.0, 4.0)
    assert lab.past("v", (1, NOON), (2, NOON)) == [(2, *NOTHING[1:]), only]


def test_trap_a_window_begins_inclusive_and_ends_exclusive(make: Maker) -> None:
    """§3.2: a window covers event times in [r - window, r)."""
    rows = table("k ts x", (1, t("11:00"), 1), (1, NOON, 2))
    lab = make(view('"n": hw.count(window="1h"), "sum": hw.sum("x", window="1h")'), s=rows)
    asked = [NOON - TICK, NOON, NOON + TICK, t("13:00"), t("13:00") + TICK]
    assert lab.past("v", *((1, at) for at in asked)) == [(1, 1), (1, 1), (1, 2), (1, 2), (0, None)]


def test_trap_an_effective_window_ends_inclusive(make: Maker) -> None:
    """§3.2: where the timestamp means "valid from", the row at r itself counts as well."""
    rows = table("k ts x", (1, t("11:00"), 1), (1, NOON, 2))
    declared = view('"n": hw.count(window="1h"), "sum": hw.sum("x", window="1h")')
    lab = make(declared.replace('"ts")', '"ts", effective=True)'), s=rows)
    assert lab.past("v", *((1, at) for at in (NOON - TICK, NOON, NOON + TICK))) == [(1, 1), (2, 3), (1, 2)]


def test_trap_an_event_exactly_on_a_hop_boundary_belongs_to_the_next_hop(make: Maker) -> None:
    """§3.2: at r = 12:00 an event of 12:00 is not there yet; it is at r = 12:05, and for the window's whole length."""
    lab = make(view('"n": hw.count(window="10m")', refresh="5m"), s=table("k ts", (1, NOON)))
    asked = ["12:00", "12:04:59.999999", "12:05", "12:09", "12:10", "12:14:59", "12:15"]
    assert lab.past("v", *((1, t(at)) for at in asked)) == [0, 0, 1, 1, 1, 1, 0]


def test_trap_a_window_that_is_no_multiple_of_the_hop(make: Maker) -> None:
    """§3.2: a window is as long as it says, on any grid: 10 minutes every 7 minutes, on the grid of the UTC epoch."""
    rows = table("k ts", *((1, t(f"12:{minute:02}")) for minute in range(60)))
    lab = make(view('"n": hw.count(window="10m"), "m": hw.count(window="90s")', refresh="7m"), s=rows)
    grid = [t("12:00") + timedelta(minutes=n) for n in range(60)]
    epoch_minutes = [int(at.timestamp()) // 60 for at in grid]
    expected = []
    for minute in epoch_minutes:
        r, first = minute - minute % 7, epoch_minutes[0]
        ten = [m for m in range(max(first, r - 10), r) if m >= r - 10]
        expected.append((len(ten), len([m for m in ten if m >= r - 1.5])))
    assert lab.past("v", *((1, at) for at in grid)) == expected


def test_trap_a_large_value_that_left_the_window_takes_no_digits_with_it(make: Maker) -> None:
    """§3.6: floats within 1e-9 of brute force: a sum that adds 1e16 and takes it off again would have lost the rest."""
    values = [1e16, 0.1, 0.2, 0.3, -1e16, 0.4]
    lab = make(
        view('"sum": hw.sum("x", window="3m"), "mean": hw.mean("x", window="3m"), "std": hw.std("x", window="3m")'),
        s=table("k ts x", *((1, t(f"12:0{n}"), x) for n, x in enumerate(values))),
    )
    three = [0.1, 0.2, 0.3]
    expected = (math.fsum(three), math.fsum(three) / 3, statistics.stdev(three))
    assert lab.past("v", (1, t("12:04"))) == [pytest.approx(expected, rel=1e-12)]
    mixed = [0.3, -1e16, 0.4]
    expected = (math.fsum(mixed), math.fsum(mixed) / 3, statistics.stdev(mixed))
    assert lab.past("v", (1, t("12:06"))) == [pytest.approx(expected, rel=1e-12)]


def test_trap_whole_numbers_stay_exact_beyond_what_floats_hold(make: Maker) -> None:
    """§3.6: integers exact: 2**53 + 1 is no float."""
    rows = table(
        "k ts x", (1, t("11:10"), 2**53), (1, t("11:20"), 1), (1, t("11:30"), 2**62), (1, t("11:40"), -(2**62))
    )
    lab = make(view('"sum": hw.sum("x", window="1h"), "max": hw.max("x", window="1h"), "last": "x"'), s=rows)
    assert lab.past("v", (1, t("11:25")), (1, NOON)) == [(2**53 + 1, 2**53, 1), (2**53 + 1, 2**62, -(2**62))]


def test_trap_a_sum_that_does_not_fit_is_refused_and_never_wraps(make: Maker) -> None:
    """docs/concepts/features: an error in one sentence, not a wrong number; a mean of the same values is fine."""
    rows = table("k ts x", (1, t("11:10"), 2**62), (1, t("11:20"), 2**62))
    lab = make(view('"sum": hw.sum("x", window="1h")') + 'w = hw.FeatureView("w", source=s, entity=who, '
               'features={"mean": hw.mean("x", window="1h")})', s=rows)  # fmt: skip
    assert lab.past("v", (1, t("11:15"))) == [2**62]
    with pytest.raises(DataError, match="does not fit 64 bits"):
        lab.past("v", (1, NOON))
    assert lab.past("w", (1, NOON)) == [2.0**62]


def test_trap_a_late_event_changes_only_what_is_computed_after_it_was_known(make: Maker) -> None:
    """§3.2: a late event into a hop that is over counts for every window from its known_at on, for none before."""
    declared = view('"n": hw.count(window="1h"), "sum": hw.sum("x", window="1h")', refresh="5m")
    rows = table("k ts seen x", (1, t("11:32"), t("11:32"), 1), (1, t("11:31"), t("11:52"), 2))
    lab = make(declared.replace('"ts")', '"ts", created="seen")'), s=rows)
    asked = ["11:35", "11:50", "11:54:59", "11:55", "12:30", "12:35"]
    expected = [(1, 1), (1, 1), (1, 1), (2, 3), (2, 3), (0, None)]  # 11:31 leaves at 12:35 with 11:32: the grid
    assert lab.past("v", *((1, t(at)) for at in asked)) == expected


def test_trap_a_late_event_reaches_the_online_store_at_the_next_refresh(make: Maker) -> None:
    """The same online, through materialization that writes only what changed: online tail plus batch is offline."""
    declared = view('"n": hw.count(window="1h"), "sum": hw.sum("x", window="1h")', refresh="5m")
    early = [(1, t("11:32"), t("11:32"), 1), (2, t("11:00"), t("11:00"), 5)]
    lab = make(declared.replace('"ts")', '"ts", created="seen")'), now="11:36", s=table("k ts seen x", *early))
    lab.refresh("v")
    assert lab.served("v", 1, 2) == [(1, 1), (1, 5)]
    lab.now("11:53")
    lab.put(s=table("k ts seen x", *early, (1, t("11:31"), t("11:52"), 2)))
    for now, expected in (("11:53", [(1, 1), (1, 5)]), ("11:55", [(2, 3), (1, 5)]), ("12:01", [(2, 3), (1, 5)]),
                          ("12:05", [(2, 3), (0, None)]), ("12:40", [(0, None), (0, None)])):  # fmt: skip
        lab.now(now)
        lab.refresh("v")
        assert lab.served("v", 1, 2) == lab.past("v", (1, t(now)), (2, t(now))) == expected


def test_defect_3_7_there_is_one_definition_of_a_window(make: Maker) -> None:
    """§3.2: [r - window, r) with and without a grid: fixed and rolling windows are not two things. A row exactly as old
    as the window is in, on both."""
    rows = table("k ts", (1, t("2024-01-03T12:00")), (1, t("2024-01-10T11:59:59")))
    seven = 'w{n} = hw.FeatureView("w{n}", source=s, entity=who, features={{"n": hw.count(window="7d")}}{rest})\n'
    declared = SOURCE + "".join(seven.format(n=n, rest=rest) for n, rest in enumerate(("", ', refresh="1h"')))
    lab = make(declared, s=rows)
    asked = [(1, NOON), (1, t("13:00")), (1, t("2024-01-17T11:00")), (1, t("2024-01-17T12:00"))]
    assert lab.past(["w0", "w1"], *asked) == [(2, 2), (1, 1), (1, 1), (0, 0)]


@pytest.mark.parametrize("window", ["1y", "1 year", "12mo", "1 month", "P1Y", "", "7", "-1d", "0s", "1d ago"])
def test_defect_3_7_a_length_that_is_not_fixed_is_refused(make: Maker, window: str) -> None:
    """docs/concepts/sources-and-time: a day is 24 hours; months and years have no fixed length (336 days is none)."""
    with pytest.raises(DefinitionError, match="window"):
        make(view(f'"n": hw.count(window={window!r})')).project.declarations  # noqa: B018


def test_defect_3_7_a_week_is_seven_days_and_a_day_24_hours(make: Maker) -> None:
    """Also over a clock change: lengths are of time, not of calendars."""
    lab = make(
        view('"w": hw.count(window="1w"), "d": hw.count(window="7d"), "h": hw.count(window="168h"), '
             '"m": hw.count(window="6d23h60m")').replace('"ts")', '"ts", timezone="America/New_York")'),
        s=table("k ts", (1, t("2024-11-01T12:00"))),
    )  # fmt: skip
    asked = [(1, t("2024-11-08T12:00")), (1, t("2024-11-08T12:00") + TICK)]
    assert lab.past("v", *asked) == [(1,) * 4, (0,) * 4]


def test_defect_3_7_values_that_repeat_are_events_all_the_same(make: Maker) -> None:
    """Rows with an unchanged value are not dropped: freshness and counts come from them."""
    rows = table("k ts x", *((1, t(f"{hour:02}:00"), 7) for hour in range(6, 12)))
    lab = make(view('"x": "x", "n": hw.count(window="3h")', ttl="90m"), s=rows)
    assert lab.past("v", (1, t("11:30")), (1, t("12:30")), (1, t("12:31"))) == [(7, 3), (7, 2), (None, 2)]


def test_defect_3_7_a_window_needs_no_row_of_every_key_and_day(make: Maker) -> None:
    """Values exist at any moment that is asked for, also where a key has had no row for a year; nobody is invented."""
    rows = table("k ts x", (1, t("2023-01-01T00:00"), 1.0), (2, t("2024-01-10T00:00"), 2.0))
    lab = make(view('"n": hw.count(window="1d"), "mean": hw.mean("x", window="1d")', refresh="1d"), now="12:00", s=rows)
    assert lab.past("v", (1, t("2023-01-02T00:00")), (1, NOON), (2, t("2024-01-11T00:00"))) == [
        (1, 1.0), (0, None), (1, 2.0),
    ]  # fmt: skip
    lab.refresh("v")
    assert lab.stated("v", 1, 3) == [((0, None), ("ok", "ok")), ((0, None), ("missing", "missing"))]


# -- other looks at the past ---------------------------------------------------------------------------------------------

BACK = """
"n": hw.count(window="1h", offset="2h"), "sum": hw.sum("x", window="1h", offset="2h"), "then": hw.lag("x", "2h"),
"then_1h": hw.lag("x", "2h", within="1h"), "all": hw.count(offset="2h")
"""


def test_trap_top_k_is_the_mode_and_the_latest_n(make: Maker) -> None:
    """docs/concepts/features: ties of ``mode`` go to the value seen last; ``last_n`` is newest first, with nulls where
    there are fewer. Nulls are no values to either."""
    rows = [("09:00", "a"), ("09:10", "b"), ("09:20", "b"), ("09:30", None), ("09:40", "a"), ("09:50", "c")]
    lab = make(
        view('"mode": hw.mode("x", window="1h"), "last": hw.last_n("x", 3, window="1h")'),
        s=table("k ts x", *((1, t(at), x) for at, x in rows)),
    )
    asked = ["09:05", "09:25", "09:45", "10:00", "10:01", "10:30", "10:51"]
    assert lab.past("v", *((1, t(at)) for at in asked)) == [
        ("a", ["a", None, None]), ("b", ["b", "b", "a"]), ("a", ["a", "b", "b"]), ("a", ["c", "a", "b"]),
        ("b", ["c", "a", "b"]), ("c", ["c", "a", None]), (None, None),
    ]  # fmt: skip


def test_trap_an_offset_window_begins_inclusive_and_ends_exclusive(make: Maker) -> None:
    """[r - offset - window, r - offset): the same window, earlier. A lag sees the row at the very moment, which is in
    the past; it is a moment, not a number of rows."""
    lab = make(view(BACK), s=table("k ts x", (1, t("09:00"), 1), (1, t("09:30"), None), (1, t("10:00"), 2)))
    asked = [
        t("11:00") - TICK,
        t("11:00"),
        t("11:00") + TICK,
        NOON - TICK,
        NOON,
        NOON + TICK,
        t("13:00"),
        t("13:00") + TICK,
    ]
    assert lab.past("v", *((1, at) for at in asked)) == [
        (0, None, None, None, 0), (0, None, 1, 1, 0), (1, 1, 1, 1, 1), (2, 1, 1, 1, 2), (2, 1, 2, 2, 2), (2, 2, 2, 2, 3),
        (1, 2, 2, 2, 3), (0, None, 2, None, 3),
    ]  # fmt: skip


def test_trap_a_correction_counts_in_the_past_once_it_is_known(make: Maker) -> None:
    """Visibility stays at r: what was learned since about that time counts, what is not known yet does not."""
    declared = view(BACK).replace('"ts")', '"ts", id="id", created="seen")')
    rows = [
        (1, "a", t("09:30"), t("09:30"), 1),
        (1, "a", t("09:30"), t("11:45"), 5),
        (1, "b", t("09:40"), t("13:00"), 7),
    ]
    lab = make(declared, s=table("k id ts seen x", *rows))
    asked = ["11:44", "11:45", "12:29", "13:00"]
    assert [row[:3] for row in lab.past("v", *((1, t(at)) for at in asked))] == [
        (1, 1, 1), (1, 5, 5), (1, 5, 5), (0, None, 7),
    ]  # fmt: skip


def test_trap_rows_that_enter_an_offset_window_later_are_materialized_then(make: Maker) -> None:
    """§3.4: windows change without arrivals, also those that end in the past, at their own time: online is offline."""
    declared = view(BACK + ', "near": hw.count(window="10m")', refresh="30m")
    declared += (
        'w = hw.FeatureView("w", source=s, entity=who, refresh="30m", features={"since": hw.time_since_last()})\n'
    )
    rows = [(1, t("09:00"), 1), (1, t("10:10"), 2), (2, t("08:00"), 3), (3, t("10:00"), None)]
    lab = make(declared, now="08:00", s=table("k ts x", *rows))
    seen = []
    for minutes in range(0, 60 * 8, 30):
        now = (t("08:00") + timedelta(minutes=minutes)).isoformat()
        lab.now(now)
        lab.refresh("v", "w")
        asked = [(k, t(now)) for k in (1, 2, 3)]
        assert lab.served("v", 1, 2, 3) == lab.past("v", *asked), now
        assert lab.served("w", 1, 2, 3) == lab.past("w", *asked), now
        seen.append(lab.served("v", 1))
    assert sum(a != b for a, b in itertools.pairwise(seen)) == 4


def test_trap_a_condition_that_is_null_is_not_true(make: Maker) -> None:
    """``where`` keeps the rows for which it is true: of null and false neither counts, in ``count`` either."""
    rows = [("09:00", 5, True), ("09:10", 7, None), ("09:20", 9, False), ("09:30", None, True)]
    lab = make(
        view('"n": hw.count(where="ok"), "sum": hw.sum("x", where="ok"), "high": hw.count(where="x > 6", window="3h"), '
             '"last": hw.last("x", where="ok"), "since": hw.time_since_last(where="x > 6")'),
        s=table("k ts x ok", *((1, t(at), x, ok) for at, x, ok in rows)),
    )  # fmt: skip
    assert lab.past("v", (1, t("10:00")), (2, NOON)) == [(2, 5, 2, 5, 2400.0), (0, None, 0, None, None)]
