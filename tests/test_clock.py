from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.clock import (
    DataClock,
    FixedClock,
    WallClock,
    from_iso,
    monotonic,
    open_clock,
    parse_clock,
    stopwatch,
    to_iso,
)
from headway.errors import DataError, SettingsError, UsageError

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=OFFSETS)


def no_rows() -> int | None:
    raise AssertionError("only a data clock asks for rows")


@given(MOMENTS)
def test_text_with_any_offset_is_the_same_instant(moment: datetime) -> None:
    instant = from_iso(moment.isoformat())
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant) == moment
    assert from_iso(to_iso(instant)) == instant


def test_iso_text_is_utc_and_short() -> None:
    assert to_iso(0) == "1970-01-01T00:00:00Z"
    assert to_iso(-1) == "1969-12-31T23:59:59.999999Z"


@pytest.mark.parametrize("instant", [2**63 - 1, -(2**63)])
def test_an_instant_outside_the_calendar_is_refused(instant: int) -> None:
    with pytest.raises(UsageError, match="years 1 to 9999"):
        to_iso(instant)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2024-02-01T00:00:00", "names no time zone"),
        ("2024-02-01", "names no time zone"),
        ("yesterday", "is not a time"),
        ("2024-02-30T00:00:00Z", "is not a time"),
        ("2024-02-01T00:00:00.0000001Z", "finer than a microsecond"),
    ],
)
def test_text_that_means_no_single_instant_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        from_iso(text)
    with pytest.raises(SettingsError, match=complaint):
        parse_clock(text)


def test_nanosecond_text_is_read_where_nothing_is_lost() -> None:
    assert from_iso("1970-01-01T00:00:00.000001000Z") == 1


def test_the_wall_clock_shows_the_machine_s_time() -> None:
    before = time.time_ns() // 1_000
    assert before <= open_clock("wall", no_rows).now() <= WallClock().now()


def test_a_fixed_clock_stands_still() -> None:
    assert open_clock("1970-01-01T02:00:00+02:00", no_rows) == FixedClock(0)
    assert FixedClock(7).now() == FixedClock(7).now() == 7


def test_the_data_clock_shows_just_after_the_newest_row_and_asks_once() -> None:
    rows = [10]
    asked: list[int] = []

    def newest() -> int:
        asked.append(1)
        return max(rows)

    clock = open_clock("data", newest)
    assert isinstance(clock, DataClock)
    assert not asked
    assert clock.now() == 11
    rows.append(20)
    assert clock.now() == 11
    assert len(asked) == 1
    clock.reset()
    assert clock.now() == 21


def test_the_data_clock_without_rows_says_what_to_do_and_asks_again() -> None:
    answers = iter([None, 5])
    clock = DataClock(lambda: next(answers))
    with pytest.raises(DataError, match="headway ingest"):
        clock.now()
    assert clock.now() == 6


def test_measuring_never_goes_back() -> None:
    elapsed, start = stopwatch(), monotonic()
    assert 0 <= elapsed() <= elapsed()
    assert monotonic() >= start
