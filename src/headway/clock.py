"""The only reader of time.

Everything else takes an instant, or a `Clock`, as an argument; the linter refuses ``time.time`` and its kin anywhere
else. Instants are integers, microseconds since 1970 in UTC. The stopwatch is for figures in reports, never for data.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from headway.errors import DataError, SettingsError, UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FINER_THAN_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]")


class Clock(Protocol):
    """What time it is for one environment. Threads may share a clock."""

    def now(self) -> int:
        """The present instant, in microseconds since 1970 in UTC."""


@dataclass(frozen=True, slots=True)
class WallClock:
    """The machine's time."""

    def now(self) -> int:
        return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class FixedClock:
    """One instant, for ever.

    >>> FixedClock(from_iso("2024-02-01T00:00:00Z")).now()
    1706745600000000
    """

    instant: int

    def now(self) -> int:
        return self.instant


class DataClock:
    """Just after the newest row: the first instant at which every row is visible.

    A row is visible at ``r`` when ``event < r`` and ``known <= r``, and ``known >= event`` always holds; so the clock
    shows one microsecond more than the newest instant at which a row became known. ``newest`` gives that instant, or
    None while there are no rows. It is asked once, when the time is first read, so that one command sees one moment;
    `reset` makes the clock ask again.
    """

    def __init__(self, newest: Callable[[], int | None]) -> None:
        self._newest = newest
        self._now: int | None = None
        self._asking = threading.Lock()

    def now(self) -> int:
        """The instant. Raises `DataError` while there are no rows."""
        with self._asking:
            if self._now is None:
                newest = self._newest()
                if newest is None:
                    raise DataError(
                        'clock = "data" shows the moment just after the newest row, and no source with a timestamp '
                        "has a row yet; run `headway ingest` first, or set the clock to an instant"
                    )
                self._now = newest + 1
            return self._now

    def reset(self) -> None:
        """Forget the instant, because rows have come."""
        with self._asking:
            self._now = None


def parse_clock(text: str) -> Literal["wall", "data"] | int:
    """What the setting ``clock`` says: one of two words, or an instant in microseconds. Raises `SettingsError`.

    >>> parse_clock("data")
    'data'
    >>> parse_clock("1970-01-01T00:00:01Z")
    1000000
    """
    if text == "wall":
        return "wall"
    if text == "data":
        return "data"
    try:
        return from_iso(text)
    except UsageError as error:
        raise SettingsError(
            f'clock is "wall", "data" or an instant such as "2024-02-01T00:00:00Z", got {text!r}: {error}'
        ) from None


def open_clock(text: str, newest: Callable[[], int | None]) -> WallClock | DataClock | FixedClock:
    """The clock the setting asks for. ``newest`` is for a `DataClock`, and called by no other."""
    setting = parse_clock(text)
    if setting == "wall":
        return WallClock()
    if setting == "data":
        return DataClock(newest)
    return FixedClock(setting)


def to_iso(instant: int) -> str:
    """An instant as ISO 8601 text in UTC, with a fraction only where there is one. Raises `UsageError`.

    >>> to_iso(0), to_iso(1_500_000)
    ('1970-01-01T00:00:00Z', '1970-01-01T00:00:01.500000Z')
    """
    try:
        moment = _EPOCH + timedelta(microseconds=instant)
    except OverflowError:
        raise UsageError(f"{instant} microseconds since 1970 lie outside the years 1 to 9999") from None
    return moment.replace(tzinfo=None).isoformat() + "Z"


def from_iso(text: str) -> int:
    """ISO 8601 text with an offset as an instant. Text without one is refused: it means a different moment in every
    place. Raises `UsageError`.

    >>> from_iso("2024-01-05T13:00:00-05:00") == from_iso("2024-01-05T18:00:00Z")
    True
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"{text!r} is not a time; write it like 2024-01-05T13:00:00Z") from None
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} names no time zone; add Z for UTC, or an offset such as +02:00")
    if _FINER_THAN_MICROSECONDS.search(text):
        raise UsageError(f"{text!r} is finer than a microsecond; leave out the digits after the sixth")
    return (moment - _EPOCH) // _MICROSECOND


def monotonic() -> float:
    """Seconds on a clock that is never set back, for deadlines; its zero means nothing."""
    return time.monotonic()


def stopwatch() -> Callable[[], float]:
    """A function that tells the seconds since this call.

    >>> elapsed = stopwatch()
    >>> elapsed() >= 0
    True
    """
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
