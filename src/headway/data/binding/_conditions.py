"""Checks as SQL conditions that are true for the rows that fail, and never null."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from headway.data.binding._columns import find_unknown, is_number, is_temporal, is_text
from headway.data.binding._sql import SEQ, UNTIL, any_null, literal, name, names
from headway.define import Check, Source
from headway.define._checks import ROW_KINDS
from headway.define._query import expression_columns
from headway.define.records import Field
from headway.errors import BindingError


def row_checks(source: Source) -> list[Check]:
    """The checks that speak of single rows."""
    return [check for check in source.checks if check.kind in ROW_KINDS]


def quarantined(source: Source) -> list[Check]:
    return [check for check in source.checks if check.on_fail == "quarantine"]


def fails(check: Check, versioned: bool) -> str:
    """The condition. Of a versioned source only the last version of each fact counts for ``unique``; of rows that
    agree, the first to arrive passes."""
    if check.kind == "not_null":
        return f"({any_null(check.columns)})"
    if check.kind == "unique":
        last = f"{name(UNTIL)} is null and " if versioned else ""
        groups = names(check.columns) + (f", {name(UNTIL)} is null" if versioned else "")
        nth = f"row_number() over (partition by {groups} order by {name(SEQ)})"
        return f"({last}not ({any_null(check.columns)}) and {nth} > 1)"
    if check.kind == "expr":
        return f"coalesce(not (\n{check.args[0]}\n), false)"
    return f"coalesce(not ({_holds(check)}), false)"


def _holds(check: Check) -> str:
    """What a check of one column asks of a value."""
    column = name(check.columns[0])
    if check.kind == "matches":
        return f"regexp_full_match({column}, {literal(check.args[0])})"
    if check.kind == "one_of":
        return f"{column} in ({', '.join(str(literal(v)) for v in check.args if v is not None) or 'null'})"
    bounds = [(sign, b) for sign, b in zip((">=", "<="), check.args, strict=True) if b is not None]
    holds = [f"{column} {sign} {literal(bound)}" for sign, bound in bounds]
    if all(isinstance(bound, int | float | Decimal) for _, bound in bounds):
        # NaN lies between nothing. Comparing it is not enough: Parquet's statistics, which decide comparisons without
        # a look at the values, leave NaN out.
        holds.append(f"not isnan({column}::double)")
    return " and ".join(holds)


def flagged(sql: str, alias: str, checks: Sequence[Check], versioned: bool) -> str:
    """``sql`` with a boolean column ``__fail0``, ``__fail1``, … for each check."""
    marks = "".join(f", {fails(check, versioned)} as {name(f'__fail{n}')}" for n, check in enumerate(checks))
    return f"select *{marks} from ({sql}) as {name(alias)}"


def any_failed(checks: Sequence[Check]) -> str:
    return " or ".join(name(f"__fail{n}") for n in range(len(checks)))


def passing(sql: str, source: Source, versioned: bool) -> str:
    """``sql`` without the rows that a quarantining check of ``source`` sets aside."""
    checks = quarantined(source)
    if not checks:
        return sql
    marks = names(f"__fail{n}" for n in range(len(checks)))
    return (
        f"select * exclude ({marks}) from ({flagged(sql, source.name, checks, versioned)}) where not"
        f" ({any_failed(checks)})"
    )


def verify(source: Source, check: Check, fields: Sequence[Field]) -> None:
    """Refuse a check that does not fit the columns of its source.

    Raises
    ------
    BindingError
        Names the source, the check and where it was written.
    """
    types = {field.name: field.type for field in fields}

    def refuse(message: str) -> BindingError:
        return BindingError(f"source {source.name!r}, check {check} ({check.place}): {message}")

    if check.kind in ("freshness", "volume") and source.timeless:
        raise refuse("the source has no timestamp, so its rows have no age")
    if check.kind == "has_type":
        return  # that the column is not there is what the check is to find
    columns: Iterable[str] = check.columns
    if check.kind == "expr":
        columns = expression_columns(check.args[0], refuse)
    missing = find_unknown(columns, source.name, types, exact=check.kind != "expr")
    if missing is not None:
        raise refuse(missing)
    if check.kind == "matches" and not is_text(types[check.columns[0]]):
        raise refuse(f"{check.columns[0]!r} is {types[check.columns[0]]}, and patterns are for text")
    if check.kind in ("between", "one_of"):
        for value in check.args:
            _verify_value(value, check.columns[0], types[check.columns[0]], refuse)


def _verify_value(value: object, column: str, kind: str, refuse: Callable[[str], BindingError]) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        fits = kind == "bool"
    elif isinstance(value, str):
        fits = is_text(kind) or is_temporal(kind)
    elif isinstance(value, dt.date):
        fits = is_temporal(kind)
    else:
        fits = literal(value) is not None and is_number(kind)
    if not fits:
        raise refuse(f"{column!r} is {kind}, which cannot be compared with {value!r}")
