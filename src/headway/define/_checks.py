"""Data checks: what must hold for the rows of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from headway.define._base import Place, caller_place
from headway.define._duration import microseconds
from headway.errors import DefinitionError

OnFail = Literal["error", "warn", "quarantine"]
CheckKind = Literal[
    "not_null", "unique", "between", "one_of", "matches", "row_count", "freshness", "expr",
    "null_share", "has_type", "volume",
]  # fmt: skip
TIMED_KINDS: frozenset[CheckKind] = frozenset({"freshness", "volume"})  # may fail because time has passed
PERIODS = {"1h": 24, "1d": 7}  # length of a bucket of ``volume`` → how many of them repeat: hours of a day, weekdays
ROW_KINDS: frozenset[CheckKind] = frozenset({"not_null", "between", "one_of", "matches", "expr", "unique"})


@dataclass(frozen=True, slots=True)
class Check:
    """One check; made by the functions below. ``args`` are its bounds, values or pattern."""

    kind: CheckKind
    columns: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    on_fail: OnFail = "error"
    place: Place = field(default_factory=caller_place, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.on_fail not in get_args(OnFail):
            raise DefinitionError(
                f"check {self.kind} ({self.place}): on_fail is one of {', '.join(get_args(OnFail))},"
                f" got {self.on_fail!r}"
            )
        if self.on_fail == "quarantine" and self.kind not in ROW_KINDS:
            raise DefinitionError(
                f"check {self.kind} ({self.place}): it speaks of the whole table, so no row can be quarantined;"
                " use on_fail='error' or 'warn'"
            )
        for column in self.columns:
            if not isinstance(column, str) or not column:
                raise DefinitionError(f"check {self.kind} ({self.place}): a column is a name, got {column!r}")

    def __str__(self) -> str:
        parts = [*(f'"{c}"' for c in self.columns), *(repr(a) for a in self.args)]
        return f"{self.kind}({', '.join(parts)})"


def not_null(*columns: str, on_fail: OnFail = "error") -> Check:
    """No null in any of ``columns``."""
    if not columns:
        raise DefinitionError("check not_null: name at least one column")
    return Check("not_null", columns, on_fail=on_fail)


def unique(*columns: str, on_fail: OnFail = "error") -> Check:
    """No two rows agree on ``columns`` (nulls agree with nothing). Quarantine keeps the first to arrive."""
    if not columns:
        raise DefinitionError("check unique: name at least one column")
    return Check("unique", columns, on_fail=on_fail)


def between(column: str, low: Any = None, high: Any = None, *, on_fail: OnFail = "error") -> Check:
    """``low <= column <= high``; either bound may be None; a null passes (say ``not_null`` as well), NaN fails."""
    if low is None and high is None:
        raise DefinitionError(f"check between({column!r}): give a lower bound, an upper bound, or both")
    if low is not None and high is not None and low > high:
        raise DefinitionError(f"check between({column!r}): the lower bound {low!r} is above the upper bound {high!r}")
    return Check("between", (column,), (low, high), on_fail)


def one_of(column: str, values: Sequence[Any], *, on_fail: OnFail = "error") -> Check:
    """Every value of ``column`` is one of ``values``; a null passes."""
    if isinstance(values, str) or not list(values):
        raise DefinitionError(f"check one_of({column!r}): give a list of values, got {values!r}")
    return Check("one_of", (column,), tuple(values), on_fail)


def matches(column: str, pattern: str, *, on_fail: OnFail = "error") -> Check:
    """Every value of the text column matches the whole regular expression (RE2); a null passes."""
    return Check("matches", (column,), (pattern,), on_fail)


def row_count(low: int | None = None, high: int | None = None, *, on_fail: OnFail = "error") -> Check:
    """The source has at least ``low`` and at most ``high`` rows."""
    if low is None and high is None:
        raise DefinitionError("check row_count: give a lower bound, an upper bound, or both")
    return Check("row_count", (), (low, high), on_fail)


def freshness(limit: str, *, on_fail: OnFail = "error") -> Check:
    """The newest event is at most ``limit`` (such as ``"2h"``) old on the environment's clock."""
    microseconds(limit, "check freshness: its limit")
    return Check("freshness", (), (limit,), on_fail)


def null_share(column: str, at_most: float, *, on_fail: OnFail = "error") -> Check:
    """At most this share (0 to 1) of the values of ``column`` is null."""
    if isinstance(at_most, bool) or not isinstance(at_most, int | float) or not 0 <= at_most <= 1:
        raise DefinitionError(f"check null_share({column!r}): a share lies between 0 and 1, got {at_most!r}")
    return Check("null_share", (column,), (float(at_most),), on_fail)


def has_type(column: str, type: str, *, on_fail: OnFail = "error") -> Check:
    """The source has the column, of this Arrow type: ``int64``, ``double``, ``string``, ``timestamp[us, tz=UTC]`` …"""
    if not isinstance(type, str) or not type.strip():
        raise DefinitionError(f"check has_type({column!r}): give the name of an Arrow type, got {type!r}")
    return Check("has_type", (column,), (type.strip(),), on_fail)


def volume(
    bounds: Sequence[tuple[int, int]],
    per: str = "1d",
    timezone: str = "UTC",
    last: int | None = None,
    *,
    on_fail: OnFail = "error",
) -> Check:
    """The rows of each hour or day of event time are as many as usual.

    Parameters
    ----------
    bounds
        The least and most rows of a bucket: one pair for all buckets, or one for each weekday (Monday first; ``per``
        is ``"1d"``), or one for each hour of the day (midnight first; ``per`` is ``"1h"``).
    timezone
        Whose days and hours.
    last
        How many of the newest buckets that are over are looked at: a week's or a day's by default. A bucket without
        rows counts, also after the last row.

    Examples
    --------
    >>> str(volume([(100, 300)]))
    "volume(((100, 300),), '1d', 'UTC', 7)"
    """
    if per not in PERIODS:
        raise DefinitionError(f"check volume: per is one of {', '.join(PERIODS)}, got {per!r}")
    pairs = tuple(tuple(pair) for pair in bounds)
    if len(pairs) not in (1, PERIODS[per]):
        raise DefinitionError(f"check volume: with per={per!r} bounds has 1 pair or {PERIODS[per]}, got {len(pairs)}")
    for pair in pairs:
        if len(pair) != 2 or not all(type(b) is int for b in pair) or not 0 <= pair[0] <= pair[1]:
            raise DefinitionError(f"check volume: bounds are pairs of whole numbers (least, most), got {pair!r}")
    if last is not None and (type(last) is not int or last < 1):
        raise DefinitionError(f"check volume: last is a number of buckets, got {last!r}")
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError, TypeError):
        raise DefinitionError(
            f"check volume: {timezone!r} is not a time zone; use one such as 'Europe/Lisbon'"
        ) from None
    return Check("volume", (), (pairs, per, timezone, last or PERIODS[per]), on_fail)


def expr(condition: str, *, on_fail: OnFail = "error") -> Check:
    """As a check: the SQL ``condition`` is true for every row; null counts as passed.

    As a feature: an SQL expression over other features of the same view, computed after them, for training and for
    the online store alike: ``"share": hw.expr("trips_1h / nullif(trips_1d, 0)")``.
    """
    if not isinstance(condition, str) or not condition.strip():
        raise DefinitionError(f"check expr: give an SQL condition, got {condition!r}")
    return Check("expr", (), (condition,), on_fail)
