"""The moments of a schedule: cron lines in a time zone, as instants.

Local times are walked as they stand on a calendar, and each is turned into the instant at which a clock on the wall
shows it: one that is left out when clocks go forward stands for the end of the gap, one that comes twice when they go
back stands for its first time. So the instants never go back, and equal ones are one moment.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from headway.define import Schedule

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = 86_400_000_000
_LAST_YEAR = 9000  # calendars end in 9999


def moments(schedule: Schedule, after: int) -> Iterator[int]:
    """The moments later than ``after``, without end: instants in microseconds since 1970 in UTC, each greater than
    the one before."""
    from croniter import croniter  # loaded where a schedule is declared, and nowhere else

    zone = ZoneInfo(schedule.timezone)
    last = after
    # The walk begins at what the wall shows at `after`: instants never go back along the calendar, so no earlier local
    # time has a later instant. croniter is given times without a zone, and so adds no rule of its own.
    calendar = croniter(schedule.cron, (_EPOCH + after * _MICROSECOND).astimezone(zone).replace(tzinfo=None, fold=0))
    while True:
        local: datetime = calendar.get_next(datetime)
        if local.year > _LAST_YEAR:
            return
        moment = instant(local, zone)
        if moment > last:
            last = moment
            yield moment


def between(schedule: Schedule, after: int, until: int, limit: int) -> list[int]:
    """The first ``limit`` moments later than ``after`` and not later than ``until``."""
    due = itertools.takewhile(lambda moment: moment <= until, moments(schedule, after))
    return list(itertools.islice(due, limit))


def newest(schedule: Schedule, after: int, until: int, limit: int) -> list[int]:
    """The last ``limit`` moments later than ``after`` and not later than ``until``, in order.

    The stretch that is walked is widened until it holds enough, so that a minutely schedule is not walked for years.
    """
    length = _DAY // 24
    while True:
        begin = max(after, until - length)
        found = list(itertools.takewhile(lambda moment: moment <= until, moments(schedule, begin)))
        if begin == after or len(found) >= limit:
            return found[-limit:]
        length *= 8


def instant(local: datetime, zone: ZoneInfo) -> int:
    """When a clock on the wall shows ``local``: the first of two times, or the end of the gap if it never does."""
    placed = local.replace(tzinfo=zone, fold=0)
    utc = placed.astimezone(UTC)
    if utc.astimezone(zone).replace(tzinfo=None) != local:
        utc = _end_of_gap(local, zone)
    return (utc - _EPOCH) // _MICROSECOND


def jitter(schedule: Schedule, name: str, moment: int) -> int:
    """How long after ``moment`` the schedule called ``name`` starts: the same for every scheduler that asks."""
    longest = schedule.jitter_microseconds
    if not longest:
        return 0
    digest = hashlib.blake2b(f"{name}/{moment}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (longest + 1)


def _end_of_gap(local: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the clock jumps over ``local``."""
    # With the offset from after the jump, `local` lies before it; with the one from before the jump, not before it.
    before, after = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    offset = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle <= before:
            break
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
