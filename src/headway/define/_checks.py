"""Data checks: what must hold for the rows of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from headway.define._base import Place, caller_place
from headway.define._duration import microseconds
from headway.errors import DefinitionError

OnFail = Literal["error", "warn", "quarantine"]
CheckKind = Literal["not_null", "unique", "between", "one_of", "matches", "row_count", "freshness", "expr"]
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


def expr(condition: str, *, on_fail: OnFail = "error") -> Check:
    """The SQL ``condition`` is true for every row; null counts as passed."""
    if not isinstance(condition, str) or not condition.strip():
        raise DefinitionError(f"check expr: give an SQL condition, got {condition!r}")
    return Check("expr", (), (condition,), on_fail)
