"""The windows in which a model is watched: pieces of time on a fixed grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_DAY = 86_400_000_000
_WEEK = 7 * _DAY
_MONDAY = 4 * _DAY  # 1970-01-05
MOST = 400  # windows looked at in one run: a first run over years of predictions goes on in the next


class Window(NamedTuple):
    """From ``start`` on, until before ``end``."""

    start: int
    end: int


def origin(length: int) -> int:
    """Where the grid begins: windows of whole weeks begin on Mondays.

    >>> origin(7 * 86_400_000_000) // 86_400_000_000
    4
    """
    return _MONDAY if length % _WEEK == 0 else 0


def window_at(at: int, length: int) -> Window:
    """The window a moment lies in."""
    start = (at - origin(length)) // length * length + origin(length)
    return Window(start, start + length)


def ended(since: int, until: int, length: int) -> Iterator[Window]:
    """The windows that end after ``since`` and not after ``until``, oldest first.

    >>> list(ended(5, 35, 10))
    [Window(start=0, end=10), Window(start=10, end=20), Window(start=20, end=30)]
    """
    window = window_at(since, length)
    while window.end <= until:
        yield window
        window = Window(window.end, window.end + length)


def before(window: Window, number: int) -> list[Window]:
    """The windows right before one, oldest first."""
    length = window.end - window.start
    return [Window(window.start - n * length, window.end - n * length) for n in range(number, 0, -1)]
