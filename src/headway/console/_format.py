"""How values look on a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from headway.clock import to_iso

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0))


def number(value: Any, digits: int = 4) -> str:
    """A figure with as many digits as tell something: 1234567 → 1,234,567; 0.123456 → 0.1235.

    >>> number(1234567), number(0.123456), number(97.54321), number(None)
    ('1,234,567', '0.1235', '97.54', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value))) if math.isfinite(value) else 0
    if size >= 15 or size < -6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:,.{max(0, digits - 1 - size)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """A share as per cent.

    >>> percent(0.0213), percent(-0.5, 0, sign=True)
    ('2.1 %', '−50 %')
    """
    if share is None or not math.isfinite(share):
        return "–"
    return f"{share * 100:{'+' if sign else ''}.{digits}f} %".replace("-", "−")


def size(count: float | None) -> str:
    """Bytes.

    >>> size(0), size(1536), size(5_000_000)
    ('0 B', '1.5 kB', '4.8 MB')
    """
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1024 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def seconds(value: float | None) -> str:
    """How long something took.

    >>> seconds(0.0042), seconds(3.21), seconds(95), seconds(7300), seconds(90000)
    ('4 ms', '3.2 s', '1 min 35 s', '2 h 1 min', '1 d 1 h')
    """
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    parts: list[str] = []
    for unit, length in _UNITS:
        count, value = divmod(value, length)
        if count or parts:
            parts.append(f"{count:.0f} {unit}")
        if len(parts) == 2:
            break
    return " ".join(part for n, part in enumerate(parts) if n == 0 or not part.startswith("0 "))


def span(microseconds: int | None) -> str:
    """A length of time given in microseconds; see ``seconds``."""
    return "–" if microseconds is None else seconds(microseconds / 1e6)


def ago(at: int | None, now: int) -> str:
    """How long before ``now``, roughly.

    >>> ago(0, 30_000_000), ago(0, 7_200_000_000), ago(0, 200_000_000_000)
    ('30 s ago', '2 h ago', '2 d ago')
    """
    if at is None:
        return "never"
    passed = (now - at) / 1e6
    length = abs(passed)
    if length < 1:
        return "now"
    unit, one = next((u, n) for u, n in _UNITS if length >= n)
    return f"{length / one:.0f} {unit} ago" if passed >= 0 else f"in {length / one:.0f} {unit}"


def iso(at: int) -> str:
    """For the ``datetime`` attribute of a time element."""
    return to_iso(at // 1_000_000 * 1_000_000)


def short_time(at: int) -> str:
    """An instant for people, in UTC: a script turns it into local time.

    >>> short_time(1_709_253_000_000_000)
    '2024-03-01 00:30'
    """
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%d %H:%M")


def brief(value: Any) -> str:
    """Any value in one line."""
    if value is None:
        return "–"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return number(value, 6)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={brief(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(brief(v) for v in value) or "none"
    return str(value)


FILTERS = {f.__name__: f for f in (number, percent, size, seconds, span, ago, iso, short_time, brief)}
