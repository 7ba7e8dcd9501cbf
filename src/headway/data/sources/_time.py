"""Local times and instants, all int64 microseconds underneath.

Ambiguous local times (the clock was put back) take the earlier instant. Nonexistent ones (it was put forward) become
the first instant after the gap.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.sources._protocol import Counts
from headway.errors import DataError

INSTANT = pa.timestamp("us", "UTC")
_NAIVE = pa.timestamp("us")
_DAY = 86_400_000_000
_YEAR_1 = -62_135_596_800_000_000
_YEAR_10000 = 253_402_300_800_000_000
# Arrow follows the listed clock changes of the time zone database, which end in 2037, and not the rules after them.
_RULES_BEGIN = 2_114_380_800_000_000  # 2037-01-01

_ZONE = r"\s?(?:Z|z|[+-]\d{2}(?::?\d{2})?)"
_CLOCK = r"[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
ISO_DATE = r"^\d{4}-\d{2}-\d{2}$"
ISO_TIME = rf"^\d{{4}}-\d{{2}}-\d{{2}}(?:{_CLOCK}(?:{_ZONE})?)?$"
_ENDS_WITH_ZONE = rf"{_CLOCK}{_ZONE}$"


def localise(naive: pa.Array, zone: str, counts: Counts) -> pa.Array:
    """Local times (``timestamp[us]``) in ``zone`` as instants; clock changes are added to ``counts``."""
    check_range(naive)
    late = pc.fill_null(pc.greater_equal(naive.view(pa.int64()), _RULES_BEGIN), False)
    if not pc.any(late).as_py():
        return _by_arrow(naive, zone, counts)
    early = _by_arrow(pc.if_else(late, pa.scalar(None, _NAIVE), naive), zone, counts)
    return pc.coalesce(early, _by_rules(pc.if_else(late, naive, pa.scalar(None, _NAIVE)), zone, counts))


def check_range(times: pa.Array) -> None:
    """Raise ``DataError`` if a time lies outside the years 1 to 9999, with a day to spare for time zones."""
    bounds = pc.min_max(times.view(pa.int64())).as_py()
    if bounds["min"] is None:
        return
    if bounds["min"] < _YEAR_1 - _DAY or bounds["max"] >= _YEAR_10000 + _DAY:
        raise DataError("it holds times outside the years 1 to 9999; use null for 'no time'")


def midnight(dates: pa.Array, zone: str, counts: Counts) -> pa.Array:
    """The first instants of dates in ``zone``."""
    try:
        return localise(dates.cast(_NAIVE), zone, counts)
    except pa.ArrowInvalid:
        raise DataError("it holds dates outside the years 1 to 9999; use null for 'no date'") from None


def from_text(text: pa.Array, zone: str, counts: Counts) -> pa.Array:
    """ISO 8601 text as instants: with an offset as it says, without one local in ``zone``, a date is its midnight.

    Digits beyond microseconds are cut off. Raises ``DataError`` with the first value that is no time.
    """
    try:
        instants, naive = _parsed(text)
    except pa.ArrowInvalid:
        raise DataError(f"{_first_wrong(text)!r} is no time; write it as in 2024-01-31T12:00:00Z") from None
    check_range(instants)
    return pc.coalesce(instants, localise(naive, zone, counts))


def is_time(text: pa.Array) -> bool:
    """Whether all values are ISO dates or times that exist."""
    if not pc.all(pc.match_substring_regex(text, ISO_TIME)).as_py():
        return False
    try:
        _parsed(text)
    except pa.ArrowInvalid:
        return False
    return True


def _parsed(text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The values with an offset as instants, and the others as local times; each null where it is the other."""
    text = _tidy(text)
    zoned = pc.fill_null(pc.match_substring_regex(text, _ENDS_WITH_ZONE), False)
    nothing = pa.scalar(None, pa.string())
    return pc.if_else(zoned, text, nothing).cast(INSTANT), pc.if_else(zoned, nothing, text).cast(_NAIVE)


def _tidy(text: pa.Array) -> pa.Array:
    """The spelling Arrow reads: at most six digits of a second, nothing before the offset, a large Z."""
    text = pc.replace_substring_regex(text, r"[.,](\d{1,6})\d*", r".\1")
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"\s?[Zz]$", "Z"), r"\s([+-][\d:]+)$", r"\1")


def _first_wrong(text: pa.Array) -> str:
    for value in text.to_pylist():
        if value is not None and not is_time(pa.array([value])):
            return str(value)
    return ""


def _by_arrow(naive: pa.Array, zone: str, counts: Counts) -> pa.Array:
    try:
        found = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="latest").view(pa.int64())
        other = pc.assume_timezone(naive, zone, ambiguous="latest", nonexistent="earliest").view(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"the system's time zone database does not know {zone!r} ({error})") from None
    counts.ambiguous += pc.sum(pc.less(found, other)).as_py() or 0
    counts.nonexistent += pc.sum(pc.greater(found, other)).as_py() or 0
    return found.view(INSTANT)


def _by_rules(naive: pa.Array, zone: str, counts: Counts) -> pa.Array:
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
