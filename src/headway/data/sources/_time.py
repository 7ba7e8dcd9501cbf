"""Texts and dates as instants, all int64 microseconds underneath."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from headway.data.localtime import INSTANT, NAIVE, check_range, localise
from headway.data.sources._protocol import Counts
from headway.errors import DataError

_ZONE = r"\s?(?:Z|z|[+-]\d{2}(?::?\d{2})?)"
_CLOCK = r"[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
ISO_DATE = r"^\d{4}-\d{2}-\d{2}$"
ISO_TIME = rf"^\d{{4}}-\d{{2}}-\d{{2}}(?:{_CLOCK}(?:{_ZONE})?)?$"
_ENDS_WITH_ZONE = rf"{_CLOCK}{_ZONE}$"


def midnight(dates: pa.Array, zone: str, counts: Counts) -> pa.Array:
    """The first instants of dates in ``zone``."""
    try:
        return localise(dates.cast(NAIVE), zone, counts)
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
    return pc.if_else(zoned, text, nothing).cast(INSTANT), pc.if_else(zoned, nothing, text).cast(NAIVE)


def _tidy(text: pa.Array) -> pa.Array:
    """The spelling Arrow reads: at most six digits of a second, nothing before the offset, a large Z."""
    text = pc.replace_substring_regex(text, r"[.,](\d{1,6})\d*", r".\1")
    return pc.replace_substring_regex(pc.replace_substring_regex(text, r"\s?[Zz]$", "Z"), r"\s([+-][\d:]+)$", r"\1")


def _first_wrong(text: pa.Array) -> str:
    for value in text.to_pylist():
        if value is not None and not is_time(pa.array([value])):
            return str(value)
    return ""
