"""How many rows each hour or day of event time has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from headway.data.binding._relation import Relation
from headway.data.binding._sql import EVENT, UNTIL, instant, literal, name
from headway.data.engine import Engine
from headway.define import Check

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def volumes(
    check: Check, rows: Relation, engine: Engine, files: Mapping[str, Sequence[str]], now: int
) -> tuple[int, str]:
    """How many of the newest buckets have other than the usual number of rows, and the newest such bucket in words.

    Looked at are buckets that are over at ``now`` and not before the first row's.
    """
    bounds, per, zone, last = check.args
    counted = counts(rows, engine, files, per, zone, now)
    wrong = []
    for bucket in newest(per, zone, now, last, min(counted, default=None)):
        low, high = bounds[place(bucket, per, zone) if len(bounds) > 1 else 0]
        if not low <= counted.get(bucket, 0) <= high:
            wrong.append(f"{told(bucket, per, zone)} has {counted.get(bucket, 0)} rows, usual are {low} to {high}")
    return len(wrong), wrong[0] if wrong else ""


def counts(
    rows: Relation, engine: Engine, files: Mapping[str, Sequence[str]], per: str, zone: str, now: int
) -> dict[dt.datetime, int]:
    """Rows by bucket, in order; a bucket is known by its beginning, an instant for hours and a local day for days."""
    event = name(EVENT)
    local = f"timezone({literal(zone)}, {event})"
    bucket = f"date_trunc('hour', {event})" if per == "1h" else f"date_trunc('day', {local})"
    standing = f" and {name(UNTIL)} is null" if rows.versioned else ""
    sql = (
        f"select epoch_us({bucket}) as bucket, count(*) as rows from ({rows.sql})"
        f" where {event} < {instant(now)}{standing} group by 1 order by 1"
    )
    found = engine.query(sql, files).to_pydict()
    return {
        _EPOCH + dt.timedelta(microseconds=at): number
        for at, number in zip(found["bucket"], found["rows"], strict=True)
    }


def newest(per: str, zone: str, now: int, last: int, first: dt.datetime | None) -> list[dt.datetime]:
    """The last buckets that are over at ``now``, the newest first; none before ``first``."""
    step = dt.timedelta(hours=1) if per == "1h" else dt.timedelta(days=1)
    at = _EPOCH + dt.timedelta(microseconds=now)
    if per == "1h":
        begun = at.replace(minute=0, second=0, microsecond=0)
    else:
        local = at.astimezone(ZoneInfo(zone))
        begun = dt.datetime(local.year, local.month, local.day, tzinfo=dt.UTC)
    buckets = [begun - n * step for n in range(1, last + 1)]
    return [bucket for bucket in buckets if first is not None and bucket >= first]


def place(bucket: dt.datetime, per: str, zone: str) -> int:
    """Which hour of the day, or weekday (Monday 0), a bucket is."""
    return bucket.astimezone(ZoneInfo(zone)).hour if per == "1h" else bucket.weekday()


def told(bucket: dt.datetime, per: str, zone: str) -> str:
    """A bucket as people call it."""
    return f"{bucket.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:00}" if per == "1h" else f"{bucket:%A, %Y-%m-%d}"
