"""The moments of a schedule against a walk through every minute of its time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.clock import from_iso, to_iso
from headway.define import Schedule
from headway.orchestrate.runs._slots import between, jitter, newest

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

# Around changes of clocks: by an hour, by half an hour, at midnight, over a whole day (Apia), and none at all.
CHANGES = [
    ("Europe/Lisbon", "2025-03-30T01:00:00Z"),
    ("Europe/Lisbon", "2025-10-26T01:00:00Z"),
    ("America/New_York", "2025-03-09T07:00:00Z"),
    ("America/New_York", "2025-11-02T06:00:00Z"),
    ("Australia/Lord_Howe", "2025-10-04T15:30:00Z"),
    ("Australia/Lord_Howe", "2025-04-05T15:00:00Z"),
    ("America/Santiago", "2025-09-07T04:00:00Z"),
    ("America/Santiago", "2025-04-06T03:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Asia/Kathmandu", "2025-06-01T00:00:00Z"),
    ("UTC", "2025-02-28T23:59:00Z"),
]


def field(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    span = st.tuples(one, one).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: f"{ends[0]}-{ends[1]}")
    stepped = st.tuples(st.just("*") | span, st.integers(1, high)).map(lambda parts: f"{parts[0]}/{parts[1]}")
    return st.just("*") | one.map(str) | st.lists(one.map(str) | span, min_size=1, max_size=3).map(",".join) | stepped


def values(text: str, low: int, high: int) -> set[int]:
    """What a cron field stands for, spelled out."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or (high if step else first)) + 1, int(step or 1)))
    return found


def oracle(cron: str, zone: ZoneInfo, begin: int, end: int) -> list[int]:
    """The moments in (begin, end]: every local minute of the days around them, one after the other."""
    minute, hour, day, month, weekday = cron.split()
    minutes, hours, months = values(minute, 0, 59), values(hour, 0, 23), values(month, 1, 12)
    days, weekdays = values(day, 1, 31), {value % 7 for value in values(weekday, 0, 7)}
    any_day = day != "*" and weekday != "*"
    starts = datetime.fromtimestamp(begin // 1_000_000, UTC).replace(tzinfo=None, second=0) - timedelta(days=2)
    seen: set[int] = set()
    for number in range((end - begin) // MINUTE + 4 * 24 * 60):
        local = starts + timedelta(minutes=number)
        on = (local.day in days, local.isoweekday() % 7 in weekdays)
        right_day = any(on) if any_day else all(on)
        if local.minute in minutes and local.hour in hours and local.month in months and right_day:
            seen.add(shown(local, zone))
    return sorted(moment for moment in seen if begin < moment <= end)


def shown(local: datetime, zone: ZoneInfo) -> int:
    """The instant of a local time, found by trying the following minutes until one of them exists."""
    for ahead in range(2 * 24 * 60):
        tried = (local + timedelta(minutes=ahead)).replace(tzinfo=zone)
        if tried.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == tried.replace(tzinfo=None):
            return int(tried.timestamp()) * 1_000_000
    raise AssertionError("two days without a minute")


@settings(max_examples=120, deadline=None)
@given(
    cron=st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
    | st.tuples(field(0, 59), field(0, 3)).map(lambda two: " ".join([*two, "* * *"])),
    change=st.sampled_from(CHANGES),
    offset=st.integers(-26 * HOUR, 26 * HOUR),
    length=st.integers(0, 30 * HOUR),
    limit=st.integers(1, 50),
)
def test_moments_are_those_of_the_calendar(
    cron: str, change: tuple[str, str], offset: int, length: int, limit: int
) -> None:
    zone, near = change
    begin = from_iso(near) + offset
    schedule = Schedule(cron, timezone=zone)
    expected = oracle(cron, ZoneInfo(zone), begin, begin + length)

    assert between(schedule, begin, begin + length, 10_000) == expected
    assert between(schedule, begin, begin + length, limit) == expected[:limit]
    assert newest(schedule, begin, begin + length, limit) == expected[-limit:]


@pytest.mark.parametrize(
    ("cron", "zone", "begin", "expected"),
    [
        # Lisbon leaves out 01:00 to 02:00 on 30 March, and has 01:00 to 02:00 twice on 26 October.
        ("30 1 * * *", "Europe/Lisbon", "2025-03-29", ["2025-03-29T01:30:00Z", "2025-03-30T01:00:00Z"]),
        ("*/30 1 * * *", "Europe/Lisbon", "2025-03-30", ["2025-03-30T01:00:00Z", "2025-03-31T00:00:00Z"]),
        ("0 1,2 * * *", "Europe/Lisbon", "2025-03-30", ["2025-03-30T01:00:00Z", "2025-03-31T00:00:00Z"]),
        ("30 1 * * *", "Europe/Lisbon", "2025-10-26", ["2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"]),
        # Santiago leaves out midnight, Apia the whole of 30 December 2011.
        ("0 0 * * *", "America/Santiago", "2025-09-06T12", ["2025-09-07T04:00:00Z", "2025-09-08T03:00:00Z"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12", ["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"]),
    ],
)
def test_changes_of_clocks(cron: str, zone: str, begin: str, expected: list[str]) -> None:
    after = from_iso(f"{begin if 'T' in begin else begin + 'T00'}:00:00Z") - 1

    found = between(Schedule(cron, timezone=zone), after, after + 1000 * DAY, 2)

    assert [to_iso(moment) for moment in found] == expected


def test_the_newest_of_many_years_come_at_once() -> None:
    now = from_iso("2025-06-01T00:00:00Z")

    assert newest(Schedule("* * * * *"), 0, now, 3) == [now - 2 * MINUTE, now - MINUTE, now]
    assert newest(Schedule("0 0 29 2 *"), 0, now, 2) == [
        from_iso("2020-02-29T00:00:00Z"),
        from_iso("2024-02-29T00:00:00Z"),
    ]


def test_jitter_is_the_same_for_everybody_and_spread() -> None:
    schedule = Schedule("* * * * *", jitter="30s")
    waits = [jitter(schedule, "trips/local/model:m", moment * MINUTE) for moment in range(200)]

    assert waits == [jitter(schedule, "trips/local/model:m", moment * MINUTE) for moment in range(200)]
    assert all(0 <= wait <= 30_000_000 for wait in waits)
    assert max(waits) - min(waits) > 25_000_000
    assert jitter(Schedule("* * * * *"), "m", 0) == 0
    assert waits != [jitter(schedule, "trips/local/model:other", moment * MINUTE) for moment in range(200)]
