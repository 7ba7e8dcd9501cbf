"""Lengths of time as text: ``"90s"``, ``"15m"``, ``"1h30m"``, ``"7d"``."""

from __future__ import annotations

import re
from datetime import timedelta

from headway.errors import DefinitionError

_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_UNITS["d"] = 24 * _UNITS["h"]
_UNITS["w"] = 7 * _UNITS["d"]
_PART = re.compile(r"(\d+)([a-zA-Zµ]+)")
_LONGEST = 1_000 * 366 * _UNITS["d"]


def microseconds(text: str | timedelta, what: str = "a duration") -> int:
    """Parse a length of time into microseconds.

    Units are us, ms, s, m (minutes), h, d (24 hours) and w; parts add up (``"1h30m"``). Months and years have no
    fixed length and are refused.

    >>> microseconds("15m")
    900000000
    """
    if isinstance(text, timedelta):
        total = (text.days * 86_400 + text.seconds) * 1_000_000 + text.microseconds
    elif isinstance(text, str):
        total = _parse(text, what)
    else:
        raise DefinitionError(f"{what} is text such as '15m' or '7d', got {text!r}")
    if not 0 <= total <= _LONGEST:
        raise DefinitionError(f"{what} must lie between 0 and a thousand years, got {text!r}")
    return total


def _parse(text: str, what: str) -> int:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise DefinitionError(f"{what} is a whole number and a unit, such as '15m' or '7d', got {text!r}")
    total = 0
    for number, unit in parts:
        if unit not in _UNITS:
            raise DefinitionError(f"{what} {text!r} has the unknown unit {unit!r}; units are {', '.join(_UNITS)}")
        total += int(number) * _UNITS[unit]
    return total


def as_text(length: int) -> str:
    """The shortest text for a length in microseconds; the reverse of ``microseconds``.

    >>> as_text(900_000_000)
    '15m'
    """
    for unit in ("d", "h", "m", "s", "ms"):
        if length and length % _UNITS[unit] == 0:
            return f"{length // _UNITS[unit]}{unit}"
    return f"{length}us"
