"""A contract read off the data: checks that hold for the rows there are, with room for those to come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headway.data.binding import Binder
from headway.data.binding._columns import is_number, is_text
from headway.data.binding._relation import Relation
from headway.data.binding._sql import EVENT, UNTIL, instant, name
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.data.quality._volume import counts, place
from headway.define import Check, Source, between, freshness, has_type, not_null, null_share, one_of, unique, volume
from headway.define._duration import as_text
from headway.define.records import Field
from headway.errors import DataError

CATEGORIES = 50  # a text column with at most so many values, each often, has categories
CODES = 12  # the same for whole numbers
_OFTEN = 20  # rows for each category
_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_WEEKS, _DAYS, _BUCKETS = 4, 7, 8  # of which bounds by weekday, by hour, and for all alike are told


class Proposal(msgspec.Struct, frozen=True):
    """A check that the rows of a source pass, as it would be declared, and what it was read off."""

    source: str
    check: str
    code: str
    on_fail: str
    why: str


def infer_checks(source: Source, binder: Binder, lake: Lake, engine: Engine, now: int) -> list[tuple[Check, str]]:
    """Checks for a source, each with the fact it was read off: ids, types, nulls, ranges, categories, freshness and
    rows per hour or day.

    They hold for the rows that happened before ``now`` and that no check sets aside. What the data cannot tell is not
    proposed: no range of ids, no categories of a column with many values, no volume of less than eight hours or days.

    Raises
    ------
    DataError
        There are no rows.
    """
    fields = [f for f in binder.columns(source) if is_number(f.type) or is_text(f.type) or f.type == "bool"]
    rows = binder.relation(source)
    files = {table: lake.files(table) for table in rows.tables}
    (facts,) = engine.query(_facts(source, rows, fields, now), files).to_pylist()
    if not facts["rows"]:
        raise DataError(f"source {source.name!r} has no rows yet, so there is nothing to read a contract off")
    found = [(unique(*source.id), "its id")] if source.id else []
    found += [(has_type(f.name, f.type), "as it is now") for f in binder.columns(source)]
    found += _nulls(source, binder.columns(source), facts)
    for n, field in enumerate(fields):
        if field.name not in source.id:
            found += _values(rows, field, n, facts, engine, files)
    if rows.changes:
        found += _freshness(rows, engine, files, now)
        found += _volume(rows, engine, files, now)
    return found


def proposals(source: Source, found: Sequence[tuple[Check, str]]) -> list[Proposal]:
    """Checks as they are written down."""
    return [Proposal(source.name, str(check), in_code(check), check.on_fail, why) for check, why in found]


def in_code(check: Check) -> str:
    """A check as a line of Python.

    >>> in_code(between("fare", 0, 250, on_fail="warn"))
    'hw.between("fare", 0, 250, on_fail="warn")'
    """
    text = f"hw.{check}"
    if check.kind == "one_of":
        text = f'hw.one_of("{check.columns[0]}", {list(check.args)!r})'
    return text if check.on_fail == "error" else f'{text[:-1]}, on_fail="{check.on_fail}")'


def _facts(source: Source, rows: Relation, fields: Sequence[Field], now: int) -> str:
    """One row about all columns."""
    wanted = ["count(*) as rows"]
    for n, column in enumerate(_nullable(source, fields)):
        wanted.append(f"count(*) filter (where {name(column)} is null) as nulls{n}")
    for n, field in enumerate(fields):
        column = name(field.name)
        wanted.append(f"approx_count_distinct({column}) as distinct{n}")
        if is_number(field.type):
            finite = f"filter (where isfinite({column}::double))"
            wanted += [f"min({column}) {finite} as least{n}", f"max({column}) {finite} as greatest{n}"]
            wanted.append(f"count(*) filter (where not isfinite({column}::double)) as strange{n}")
    return f"select {', '.join(wanted)} from ({_known(rows, now)})"


def _known(rows: Relation, now: int) -> str:
    """The rows as they are known now."""
    if not rows.changes:
        return rows.sql
    standing = f" and {name(UNTIL)} is null" if rows.versioned else ""
    return f"select * from ({rows.sql}) where {name(EVENT)} < {instant(now)}{standing}"


def _nullable(source: Source, fields: Sequence[Field]) -> list[str]:
    """Columns of which nulls are counted; an id and an event time are never null in a row that counts."""
    return [f.name for f in fields if f.name not in source.id]


def _nulls(source: Source, columns: Sequence[Field], facts: Mapping[str, Any]) -> list[tuple[Check, str]]:
    fields = [f for f in columns if is_number(f.type) or is_text(f.type) or f.type == "bool"]
    names = _nullable(source, fields)
    never = [column for n, column in enumerate(names) if not facts[f"nulls{n}"]]
    found: list[tuple[Check, str]] = []
    if source.id or never:
        found.append((not_null(*source.id, *never), f"no null in {facts['rows']} rows"))
    for n, column in enumerate(names):
        share = facts[f"nulls{n}"] / facts["rows"]
        limit = math.ceil(round((share * 1.5 + 0.01) * 100, 6)) / 100
        if share and limit < 1:
            found.append((null_share(column, limit, on_fail="warn"), f"{share:.2%} are null now"))
    return found


def _values(
    rows: Relation, field: Field, n: int, facts: Mapping[str, Any], engine: Engine, files: Mapping[str, Sequence[str]]
) -> list[tuple[Check, str]]:
    """Categories, or a range, of one column."""
    distinct = facts[f"distinct{n}"]
    most = CATEGORIES if is_text(field.type) else CODES if field.type.lstrip("u").startswith("int") else 0
    if 0 < distinct <= most and facts["rows"] >= _OFTEN * distinct:
        column = name(field.name)
        sql = f"select distinct {column} as value from ({rows.sql}) where {column} is not null order by 1"
        values = engine.query(sql, files).column("value").to_pylist()
        return [(one_of(field.name, values, on_fail="warn"), f"{len(values)} different values")]
    if not is_number(field.type) or facts[f"least{n}"] is None or facts[f"strange{n}"]:
        return []
    low, high = facts[f"least{n}"], facts[f"greatest{n}"]
    whole = isinstance(low, int)
    low, high = (low, high) if whole else (float(low), float(high))
    room = (high - low) / 10 or abs(high) / 10 or 1
    bounds = (_rounded(low - room, whole, down=True), _rounded(high + room, whole, down=False))
    if low >= 0:
        bounds = (0 if whole else 0.0, bounds[1])  # counts and amounts do not become negative
    return [(between(field.name, *bounds, on_fail="warn"), f"{low:.6g} to {high:.6g} now")]


def _rounded(value: float, whole: bool, *, down: bool) -> float:
    """To two significant digits, away from the data."""
    if value == 0:
        return 0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    rounded = (math.floor(value / step) if down else math.ceil(value / step)) * step
    return round(rounded) if whole else float(f"{rounded:.12g}")


def _freshness(rows: Relation, engine: Engine, files: Mapping[str, Sequence[str]], now: int) -> list[tuple[Check, str]]:
    """Twice the longest time between two events that follow each other, but for one in a thousand."""
    sql = (
        f"select quantile_disc(gap, 0.999) as gap, max(moment) as newest from"
        f" (select moment, moment - lag(moment) over (order by moment) as gap from"
        f" (select distinct epoch_us({name(EVENT)}) as moment from ({_known(rows, now)})))"
    )
    (found,) = engine.query(sql, files).to_pylist()
    gap = found["gap"]
    if not gap:
        return []
    limit = max(_up(2 * gap), 60_000_000)
    if now - found["newest"] > limit:
        return []  # it would fail at once: the data ends long before now
    return [(freshness(as_text(limit), on_fail="warn"), f"events are at most {as_text(_up(gap))} apart, nearly always")]


def _up(length: int) -> int:
    """Rounded up to a whole minute, hour or day."""
    unit = _DAY if length > _DAY else _HOUR if length > _HOUR else 60_000_000
    return -(-length // unit) * unit


def _volume(rows: Relation, engine: Engine, files: Mapping[str, Sequence[str]], now: int) -> list[tuple[Check, str]]:
    """Rows per hour where an hour has many, else per day; by hour or weekday where there are enough of each."""
    for per, enough in (("1h", 100), ("1d", 10)):
        counted = counts(rows, engine, files, per, "UTC", now)
        buckets = sorted(counted)[1:-1]  # the first and the last may be cut short
        step = _HOUR if per == "1h" else _DAY
        length = 0 if not buckets else round((buckets[-1] - buckets[0]).total_seconds() * 1e6) // step + 1
        typical = sorted(counted[b] for b in buckets)[len(buckets) // 2] if buckets else 0
        if length < _BUCKETS or typical < enough or length > 2 * len(buckets):
            continue
        groups = (24 if per == "1h" else 7) if length >= (24 * _DAYS if per == "1h" else 7 * _WEEKS) else 1
        seen: list[list[int]] = [[] for _ in range(groups)]
        for bucket in buckets:
            seen[place(bucket, per, "UTC") if groups > 1 else 0].append(counted[bucket])
        bounds = [(math.floor(min(s, default=0) / 2), math.ceil(max(s, default=0) * 1.5)) for s in seen]
        kinds = {24: "by hour of the day, ", 7: "by weekday, ", 1: ""}
        why = f"{kinds[groups]}half the least to one and a half times the most of {len(buckets)} {_NAMES[per]}"
        return [(volume(bounds, per, on_fail="warn"), why)]
    return []


_NAMES = {"1h": "hours", "1d": "days"}
