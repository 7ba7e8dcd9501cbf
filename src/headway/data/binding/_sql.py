"""The SQL of a source over lake tables.

Every relation carries four hidden columns: ``__event`` and ``__known`` (null for a timeless source), ``__until`` (when
the version stops being visible, null for never) and ``__seq`` (arrival). A version ends when the next one of its id
becomes known, whatever a query's filter later makes of that next one: so versions are resolved where the id is,
before any filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.define import Check, Source
from headway.define._query import inputs

HIDDEN = ("__event", "__known", "__until", "__seq")


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def table_of(source: Source) -> str:
    """The lake table of a file source."""
    return f"source/{source.name}"


def source_sql(source: Source, known: Mapping[str, Source], *, checked: bool = True) -> str:
    """A SELECT of a source's columns and the hidden ones. ``checked``: without rows its checks set aside."""
    sql = file_sql(source) if source.query is None else query_sql(source, known)
    if checked and (condition := quarantine_condition(source)):
        sql = f"select * from ({sql}) where not ({condition})"
    unique = [c for c in source.checks if c.kind == "unique" and c.on_fail == "quarantine"] if checked else []
    for check in unique:
        sql = f"select * from ({sql}) qualify {first_of(check)}"
    return sql


def file_sql(source: Source) -> str:
    """A lake table with versions resolved; deleted versions and rows never known are left out."""
    table = quoted(table_of(source))
    if source.timestamp is None:
        hidden = "null::timestamptz as __event, null::timestamptz as __known, null::timestamptz as __until"
        sql = f"select * exclude (__seq), {hidden}, __seq from {table}"
        if source.id:
            latest = f"row_number() over (partition by {_list(source.id)} order by __seq desc) = 1"
            sql = f"select * from ({sql}) qualify {latest}"
    elif source.id:
        until = f"lead(__known) over (partition by {_list(source.id)} order by __known, __event, __seq) as __until"
        sql = f"select *, {until} from {table} where __known is not null"
    else:
        sql = f"select *, null::timestamptz as __until from {table} where __known is not null"
    if source.deleted:
        sql = f"select * from ({sql}) where {quoted(source.deleted)} is not true"
    return sql


def _list(columns: tuple[str, ...]) -> str:
    return ", ".join(quoted(c) for c in columns)


def query_sql(source: Source, known: Mapping[str, Source]) -> str:
    """A query with its inputs put in, its own times worked out, and versions of its own id resolved."""
    import sqlglot

    select: Any = sqlglot.parse_one(source.query or "", dialect="duckdb")
    from_ = select.args.get("from_") or select.args.get("from")
    assert from_ is not None
    joins = select.args.get("joins") or []
    refs = [(from_.this, None), *((join.this, join) for join in joins)]
    driver = next((ref for ref, join in refs if not known[ref.name].timeless and not _is_asof(join)), from_.this)
    names = [(ref.alias_or_name, known[ref.name]) for ref, _ in refs]
    lead = driver.alias_or_name
    moving = [name for name, inner in names if not inner.timeless]
    _hide_stars(select)
    for ref, join in refs:
        _inline(ref, join, known)
    outputs = {
        "__k": _combined("greatest", moving, "__known"),
        "__u": _combined("least", moving, "__until"),
        "__seq": f"{quoted(lead)}.__seq",
    }
    select = select.select(*(f"{text} as {name}" for name, text in outputs.items()), dialect="duckdb")
    return _with_times(source, select.sql(dialect="duckdb"), known)


def _is_asof(join: Any) -> bool:
    return join is not None and str(join.args.get("method") or "").upper() == "ASOF"


def _hide_stars(select: Any) -> None:
    from sqlglot import exp

    for node in select.expressions:
        star = node if isinstance(node, exp.Star) else node.this if isinstance(node, exp.Column) else None
        if isinstance(star, exp.Star):
            star.set("except_", [*(star.args.get("except_") or []), *(exp.to_identifier(h) for h in HIDDEN)])


def _combined(function: str, names: list[str], column: str) -> str:
    """Over the joined rows that are there: DuckDB's greatest and least pass nulls over."""
    parts = [f"{quoted(name)}.{column}" for name in names]
    if not parts:
        return "null::timestamptz"
    return parts[0] if len(parts) == 1 else f"{function}({', '.join(parts)})"


def _inline(ref: Any, join: Any, known: Mapping[str, Source]) -> None:
    import sqlglot
    from sqlglot import exp

    inner = known[ref.name]
    sql = source_sql(inner, known)
    if _is_asof(join):
        sql = _one_row_a_moment(sql, inner, join, ref.alias_or_name)
    alias = exp.TableAlias(this=exp.to_identifier(ref.alias_or_name, quoted=True))
    ref.replace(exp.Subquery(this=sqlglot.parse_one(sql, dialect="duckdb"), alias=alias))


def _one_row_a_moment(sql: str, inner: Source, join: Any, alias: str) -> str:
    """Rows of one key and one moment reduced to the greatest (known, arrival): ASOF picks any of several."""
    from sqlglot import exp

    on = join.args.get("on")
    keys = {c.name for c in on.find_all(exp.Column) if c.table == alias and c.name != inner.timestamp}
    by = ", ".join([*(quoted(k) for k in sorted(keys)), quoted(inner.timestamp or "")])
    return f"select * from ({sql}) qualify row_number() over (partition by {by} order by __known desc, __seq desc) = 1"


def _with_times(source: Source, inner: str, known: Mapping[str, Source]) -> str:
    if source.timestamp is None:
        hidden = "null::timestamptz as __event, null::timestamptz as __known, null::timestamptz as __until"
        return f"select * exclude (__k, __u, __seq), {hidden}, __seq from ({inner})"
    event = f"{quoted(source.timestamp)}::timestamptz"
    late = f"{event} + to_microseconds({source.delay_us})" if source.delay_us else event
    conditions = [f"{quoted(source.timestamp)} is not null"]
    if source.created:
        conditions.append(f"{quoted(source.created)} is not null")
        late = f"greatest({late}, {quoted(source.created)}::timestamptz)"
    sql = (
        f"select * exclude (__k, __u, __seq), {event} as __event, greatest({late}, __k) as __known, __u as __until,"
        f" __seq from ({inner}) where {' and '.join(conditions)}"
    )
    if source.id and source.id != _driver_id(source, known):
        until = f"lead(__known) over (partition by {_list(source.id)} order by __known, __event, __seq)"
        sql = f"select * replace (least(__until, {until}) as __until) from ({sql})"
    if source.deleted:
        sql = f"select * from ({sql}) where {quoted(source.deleted)} is not true"
    return sql


def _driver_id(source: Source, known: Mapping[str, Source]) -> tuple[str, ...]:
    """The id of the source that drives a query: its versions are resolved there already."""
    for name in inputs(source):
        if not known[name].timeless:
            return known[name].id
    return ()


def quarantine_condition(source: Source) -> str:
    """The rows that the source's checks set aside, as an SQL condition; empty if there are none."""
    parts = [
        f"coalesce({failing(c)}, false)" for c in source.checks if c.on_fail == "quarantine" and c.kind != "unique"
    ]
    return " or ".join(parts)


def failing(check: Check) -> str:
    """The SQL condition that is true for a row that fails a check of single rows."""
    columns = [quoted(c) for c in check.columns]
    if check.kind == "not_null":
        return "(" + " or ".join(f"{c} is null" for c in columns) + ")"
    if check.kind == "between":
        low, high = check.args
        bounds = [f"{columns[0]} < {literal(low)}"] if low is not None else []
        bounds += [f"{columns[0]} > {literal(high)}"] if high is not None else []
        return "(" + " or ".join(bounds) + ")"
    if check.kind == "one_of":
        return f"({columns[0]} not in ({', '.join(literal(v) for v in check.args)}))"
    if check.kind == "matches":
        return f"(not regexp_full_match({columns[0]}, {literal(check.args[0])}))"
    return f"(not ({check.args[0]}))"


def first_of(check: Check) -> str:
    """The condition that keeps the first row to arrive of those that agree; rows with a null agree with nothing."""
    columns = _list(check.columns)
    null = " or ".join(f"{quoted(c)} is null" for c in check.columns)
    return f"({null} or row_number() over (partition by {columns} order by __seq) = 1)"


def literal(value: Any) -> str:
    """A Python value as an SQL literal."""
    import datetime

    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value) if value == value and abs(value) != float("inf") else f"'{value}'::double"
    if isinstance(value, datetime.datetime):
        return f"'{value.isoformat()}'::{'timestamptz' if value.tzinfo else 'timestamp'}"
    if isinstance(value, datetime.date):
        return f"'{value.isoformat()}'::date"
    return "'" + str(value).replace("'", "''") + "'"
