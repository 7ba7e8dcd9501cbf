"""Local times as instants, int64 microseconds underneath.

Ambiguous local times (the clock was put back) take the earlier instant. Nonexistent ones (it was put forward) become
the first instant after the gap.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.errors import DataError

INSTANT = pa.timestamp("us", "UTC")
NAIVE = pa.timestamp("us")
_DAY = 86_400_000_000
_YEAR_1 = -62_135_596_800_000_000
_YEAR_10000 = 253_402_300_800_000_000
# Arrow follows the listed clock changes of the time zone database, which end in 2037, and not the rules after them.
_RULES_BEGIN = 2_114_380_800_000_000  # 2037-01-01


class ClockChanges(Protocol):
    """Where local times at clock changes are counted."""

    ambiguous: int
    nonexistent: int


def localise(naive: pa.Array, zone: str, counts: ClockChanges) -> pa.Array:
    """Local times (``timestamp[us]``) in ``zone`` as instants; clock changes are added to ``counts``."""
    check_range(naive)
    late = pc.fill_null(pc.greater_equal(naive.view(pa.int64()), _RULES_BEGIN), False)
    if not pc.any(late).as_py():
        return _by_arrow(naive, zone, counts)
    early = _by_arrow(pc.if_else(late, pa.scalar(None, NAIVE), naive), zone, counts)
    return pc.coalesce(early, _by_rules(pc.if_else(late, naive, pa.scalar(None, NAIVE)), zone, counts))


def check_range(times: pa.Array) -> None:
    """Raise ``DataError`` if a time lies outside the years 1 to 9999, with a day to spare for time zones."""
    bounds = pc.min_max(times.view(pa.int64())).as_py()
    if bounds["min"] is None:
        return
    if bounds["min"] < _YEAR_1 - _DAY or bounds["max"] >= _YEAR_10000 + _DAY:
        raise DataError("it holds times outside the years 1 to 9999; use null for 'no time'")


def _by_arrow(naive: pa.Array, zone: str, counts: ClockChanges) -> pa.Array:
    try:
        found = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="latest").view(pa.int64())
        other = pc.assume_timezone(naive, zone, ambiguous="latest", nonexistent="earliest").view(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"the system's time zone database does not know {zone!r} ({error})") from None
    counts.ambiguous += pc.sum(pc.less(found, other)).as_py() or 0
    counts.nonexistent += pc.sum(pc.greater(found, other)).as_py() or 0
    return found.view(INSTANT)


def _by_rules(naive: pa.Array, zone: str, counts: ClockChanges) -> pa.Array:
    """Value by value; sentinels such as 9999-12-31 make few different ones out of many."""
    encoded = naive.view(pa.int64()).dictionary_encode()
    found = [_instant(value, zone) for value in encoded.dictionary.to_pylist()]
    times = pc.value_counts(encoded.indices.drop_null())
    for entry in times.to_pylist():
        _, kind = found[entry["values"]]
        counts.ambiguous += entry["counts"] * (kind == "ambiguous")
        counts.nonexistent += entry["counts"] * (kind == "nonexistent")
    instants = pa.array(np.array([instant for instant, _ in found], np.int64))
    return instants.take(encoded.indices).view(INSTANT)


@lru_cache(maxsize=4096)
def _instant(local: int, zone: str) -> tuple[int, str]:
    """The instant of one local time, and what is special about it."""
    info = ZoneInfo(zone)
    wall = datetime(1, 1, 1, tzinfo=info) + timedelta(microseconds=min(local, _YEAR_10000 - 1) - _YEAR_1)
    first = _microseconds(wall.replace(fold=0).utcoffset())
    second = _microseconds(wall.replace(fold=1).utcoffset())
    if first == second:
        return local - first, ""
    if first > second:
        return local - first, "ambiguous"
    before, after = local - second, local - first  # instants on both sides of the gap's end
    while after - before > 1:
        middle = (before + after) // 2
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=middle)
        if _microseconds(moment.astimezone(info).utcoffset()) == first:
            before = middle
        else:
            after = middle
    return after, "nonexistent"


def _microseconds(offset: timedelta | None) -> int:
    assert offset is not None
    return (offset.days * 86_400 + offset.seconds) * 1_000_000 + offset.microseconds
