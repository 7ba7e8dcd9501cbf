"""Calendars and request functions, held against zoneinfo and against each other: one row and many."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.define.records import CalendarUse, RequestFunctionUse
from headway.define.request_time import calendar_columns, run_function
from headway.errors import ProjectCodeError

PARTS = ("hour", "minute", "weekday", "weekend", "day", "week", "month", "dayofyear")
ZONES = (
    "UTC",
    "America/New_York",
    "Europe/Lisbon",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Africa/Casablanca",  # back to standard time for Ramadan
    "Pacific/Apia",  # left out a day
    "America/Sao_Paulo",
    "Asia/Gaza",
)


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)


EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def by_zoneinfo(moment: dt.datetime, zone: str) -> dict[str, float]:
    local = moment.astimezone(ZoneInfo(zone))
    return {
        "hour": local.hour,
        "minute": local.minute,
        "weekday": local.weekday(),
        "weekend": float(local.weekday() >= 5),
        "day": local.day,
        "week": local.isocalendar().week,
        "month": local.month,
        "dayofyear": local.timetuple().tm_yday,
    }


def micros(moment: dt.datetime) -> int:
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


def moment_of(us: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=us)


def check(moments: list[dt.datetime], zone: str) -> None:
    use = CalendarUse("at", zone, PARTS)
    array = np.array([micros(m) for m in moments], dtype="int64").view("datetime64[us]")
    together = calendar_columns(use, array)
    for i, moment in enumerate(moments):
        expected = {f"at__{part}": value for part, value in by_zoneinfo(moment, zone).items()}
        assert {name: values[i] for name, values in together.items()} == expected
        assert {name: values[0] for name, values in calendar_columns(use, array[i : i + 1]).items()} == expected


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.integers(micros(utc(1905, 1, 1)), micros(utc(2120, 1, 1))).map(moment_of),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(ZONES),
)
def test_parts_are_those_of_zoneinfo(moments: list[dt.datetime], zone: str) -> None:
    check(moments, zone)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [
            ("America/New_York", utc(2024, 3, 10, 7)),
            ("America/New_York", utc(2024, 11, 3, 6)),
            ("Europe/Lisbon", utc(2023, 10, 29, 1)),
            ("Australia/Lord_Howe", utc(2024, 4, 6, 15)),
            ("Pacific/Apia", utc(2011, 12, 30, 10)),
            ("Africa/Casablanca", utc(2024, 3, 10, 2)),
        ]
    ),
    st.lists(st.integers(-90 * 60 * 10**6, 90 * 60 * 10**6), min_size=1, max_size=8),
)
def test_around_clock_changes(change: tuple[str, dt.datetime], distances: list[int]) -> None:
    zone, moment = change
    check([moment + dt.timedelta(microseconds=d) for d in [-1, 0, 1, *distances]], zone)


@pytest.mark.parametrize("year", [2, 1700, 1850, 2499, 2500, 2501, 3000, 9998])
@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Lisbon"])
def test_years_far_away(zone: str, year: int) -> None:
    moments = [dt.datetime(year, month, 13, 12, tzinfo=dt.UTC) for month in range(1, 13)]
    check(moments, zone)


def test_nothing_is_known_of_no_moment() -> None:
    use = CalendarUse("at", "Europe/Lisbon", PARTS)
    for rows in (1, 3):
        found = calendar_columns(use, np.full(rows, np.datetime64("NaT", "us")))
        assert all(np.isnan(values).all() and len(values) == rows for values in found.values())
    mixed = calendar_columns(use, np.array(["NaT", "2024-07-01T12:00"], "datetime64[us]"))
    assert np.isnan(mixed["at__hour"][0])
    assert mixed["at__hour"][1] == 13
    assert all(len(v) == 0 for v in calendar_columns(use, np.array([], "datetime64[us]")).values())


def test_moments_beyond_the_calendar_of_python() -> None:
    use = CalendarUse("at", "America/New_York", PARTS)
    far = np.array([2**62, 2**62 + 1]).view("datetime64[us]")
    one, both = calendar_columns(use, far[:1]), calendar_columns(use, far)
    assert {n: v[0] for n, v in one.items()} == {n: v[0] for n, v in both.items()}


def use(*inputs: str, outputs: tuple[str, ...] = ()) -> RequestFunctionUse:
    return RequestFunctionUse("f", "trips.features", "f", inputs, outputs, "")


A = np.array([1.0, 2.0, np.nan])


def test_a_function_gets_arrays_and_gives_columns() -> None:
    def f(a, b, c, d):
        return {
            "sum": a + b,
            "flag": a > 1,
            "text": np.where(c == None, "none", c),  # noqa: E711
            "hours": (d - d.min()) / np.timedelta64(1, "h"),
            "one": 1,
            "word": "x",
            "listed": [1, None, 3],
            "objects": np.array(["a", None, float("nan")], object),
        }

    columns = {
        "a": A,
        "b": np.array([1, 2, 3]),
        "c": np.array(["x", None, "y"], object),
        "d": np.array(["2024-01-01T00", "2024-01-01T01", "2024-01-01T03"], "datetime64[us]"),
    }
    found = run_function(f, use("a", "b", "c", "d"), columns, 3)
    assert found["f__sum"].tolist()[:2] == [2.0, 4.0]
    assert found["f__flag"].tolist() == [0.0, 1.0, 0.0]
    assert found["f__text"].tolist() == ["x", "none", "y"]
    assert found["f__hours"].tolist() == [0.0, 1.0, 3.0]
    assert found["f__one"].tolist() == [1.0, 1.0, 1.0]
    assert found["f__word"].tolist() == ["x", "x", "x"]
    assert found["f__listed"].tolist()[::2] == [1.0, 3.0]
    assert found["f__objects"].tolist() == ["a", None, None]
    assert {v.dtype for v in found.values()} == {np.dtype(np.float64), np.dtype(object)}


def test_dividing_by_zero_is_quiet_and_stays_infinite() -> None:
    found = run_function(lambda a: {"r": a / 0.0, "l": np.log(a - 1)}, use("a"), {"a": A}, 3)
    assert found["f__r"].tolist()[:2] == [np.inf, np.inf]
    assert found["f__l"][0] == -np.inf


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda a: {"o": a[:2]}, "shape"),
        (lambda a: {"o": a.reshape(3, 1)}, "shape"),
        (lambda a: a, "returned an array of float64; it returns a dict"),
        (lambda a: None, "returned None"),
        (lambda a: {}, "no outputs"),
        (lambda a: {1: a}, "named an output 1"),
        (lambda a: {"o": [object()] * 3}, "mixed objects"),
        (lambda a: {"o": np.array(["a", 1, 2], object)}, "mixed objects"),
        (lambda a: {"o": [10**400] * 3}, "objects"),
        (lambda a: {"o": np.array(["2024-01-01"] * 3, "datetime64[us]")}, "datetime64"),
        (lambda a: {"o": a + 1j}, "complex"),
    ],
)
def test_wrong_results_are_named(function, says: str) -> None:
    with pytest.raises(ProjectCodeError, match="request function 'f'") as caught:
        run_function(function, use("a"), {"a": A}, 3)
    assert says in str(caught.value)
    assert "test_request_time.py:" in str(caught.value)


def helper(a):
    raise KeyError("Manhattan")


def test_an_exception_is_one_sentence_with_its_place() -> None:
    with pytest.raises(ProjectCodeError) as caught:
        run_function(lambda a: helper(a), use("a"), {"a": A}, 3)
    assert "raised KeyError: 'Manhattan' at" in str(caught.value)
    assert str(caught.value).endswith(f"test_request_time.py:{helper.__code__.co_firstlineno + 1}")
    assert isinstance(caught.value.__cause__, KeyError)


def test_inputs_cannot_be_changed() -> None:
    def f(a):
        a[0] = 7
        return {"o": a}

    with pytest.raises(ProjectCodeError, match="read-only"):
        run_function(f, use("a"), {"a": A.copy()}, 3)


def test_outputs_must_be_those_of_the_training() -> None:
    with pytest.raises(ProjectCodeError, match="returned f__b where it was trained with f__a"):
        run_function(lambda a: {"b": a}, use("a", outputs=("f__a",)), {"a": A}, 3)
