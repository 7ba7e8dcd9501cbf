"""Sources as SQL over lake tables.

A relation has the user's columns and some of headway's own, which no expression of the user can name:

    __event, __known    when the row happened and when it was known (null: not yet); not of a timeless source
    __until             when the next version of the fact was known (null: it stands); only where rows are versions
    __seq               the order of arrival; unique in a file source, and in a query unless a join multiplies rows

In the lake there are also ``__arrived``, when a row came, and, where rows have an id, ``__deleted``: the fact ceased to
exist, as the row says itself or because it did not come any more.

Versions are told apart where they arrive, before any query filters them: a correction that moves a row out of a
query's WHERE still ends the older version, because a query hands on its driver's ``__until``. Deletes are versions,
and rows that a check sets aside are too: both end their predecessor before they are left out.

A row of a query is known when everything it was made of is: the greatest of its own time, its driver's and those of
the rows it was joined with; it ends with the first of them. Of rows that an ASOF JOIN cannot tell apart (equal keys and
timestamp) the one known last counts, so the result does not depend on chance, nor on rows known later than it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headway.data.binding._conditions import passing
from headway.data.binding._sql import ARRIVED, DELETED, EVENT, KNOWN, SEQ, UNTIL, any_null, edited, name, names
from headway.define import Source
from headway.define._query import Input, Query, copies, read
from headway.errors import BindingError

_SEEN = f"* not similar to '{ARRIVED}|{DELETED}'"


@dataclass(frozen=True, slots=True)
class Relation:
    """A source as SQL. ``tables`` are the lake tables it reads, the driver's first; ``select`` gives its columns under
    the names the user gave them, before anything was put around it."""

    sql: str
    tables: tuple[str, ...]
    changes: bool
    versioned: bool
    select: str

    @property
    def hidden(self) -> tuple[str, ...]:
        """headway's own columns."""
        return (*((EVENT, KNOWN) if self.changes else ()), *((UNTIL,) if self.versioned else ()), SEQ)

    @property
    def standing(self) -> str:
        """The condition that a row was visible at some moment."""
        if not self.changes:
            return "true"
        ended = f" and ({name(UNTIL)} is null or {name(KNOWN)} < {name(UNTIL)})" if self.versioned else ""
        return f"{name(EVENT)} is not null and {name(KNOWN)} is not null{ended}"


def relation(source: Source, sources: Mapping[str, Source], *, checked: bool = True) -> Relation:
    """``source`` as SQL, ``sources`` being those its query may name. With ``checked``, rows that a check of its own
    sets aside are left out; those of the sources it reads always are."""
    if source.deleted is not None and not source.id and source.query is None:
        raise BindingError(str(source.refuse("deleted says that a fact ceased to exist, so it needs an id")))
    made = _file(source) if source.query is None else _query(source, sources)
    if not checked:
        return made
    return Relation(passing(made.sql, source, made.versioned), made.tables, made.changes, made.versioned, made.select)


def _file(source: Source) -> Relation:
    """A source that is copied into the lake: of its own columns none that only ingest needs."""
    table = f"source/{source.name}"
    select, versioned = f"select {_SEEN} from {name(table)}", False
    sql = select
    if source.id:
        every = f"select * from {name(table)}"
        versioned = not source.timeless
        every = _with_until(source, name(table)) if versioned else _latest(every, source)
        sql = f"select {_SEEN} from ({every}) where not {name(DELETED)}"
    return Relation(sql, (table,), not source.timeless, versioned, select)


def _with_until(source: Source, table: str) -> str:
    """A file source with ``__until``. Only ids that come more than once are put in order: they are few."""
    ids = names(source.id)
    again = f"select {ids} from {table} group by {ids} having count(*) > 1"
    ends = f"select {name(SEQ)}, {_next_known(source)} as {name(UNTIL)} from {table} semi join ({again}) using ({ids})"
    return f"select s.*, v.{name(UNTIL)} from {table} as s left join ({ends}) as v using ({name(SEQ)})"


def _next_known(source: Source) -> str:
    """When the next version of a row's fact is known. Versions never known end nothing; a null id is no fact."""
    order = f"order by {name(KNOWN)} nulls last, {name(EVENT)}, {name(SEQ)}"
    following = f"lead({name(KNOWN)}) over (partition by {names(source.id)} {order})"
    return f"case when {any_null(source.id)} then null else {following} end"


def _latest(sql: str, source: Source) -> str:
    """Of a timeless source's versions the last to arrive."""
    nth = f"row_number() over (partition by {names(source.id)} order by {name(SEQ)} desc)"
    return f"select * from ({sql}) qualify {any_null(source.id)} or {nth} = 1"


def _without_deleted(sql: str, source: Source) -> str:
    if source.deleted is None:
        return sql
    return f"select * from ({sql}) where not coalesce({name(source.deleted)}, false)"


def _query(source: Source, sources: Mapping[str, Source]) -> Relation:
    query = read(source)
    parts = {i.alias: relation(sources[i.source], sources) for i in query.inputs}
    driver = parts[query.driver.alias]
    tables = tuple(dict.fromkeys(t for i in query.inputs for t in parts[i.alias].tables))
    select = _select(query, parts, sources)
    inherited = driver.versioned and _same_id(source, sources[query.driver.source])
    if source.deleted is not None and not source.id and not driver.versioned:
        raise BindingError(str(source.refuse("deleted says that a fact ceased to exist, so it needs an id")))
    if source.timeless:
        sql = _latest(select, source) if source.id else select
        return Relation(_without_deleted(sql, source), tables, False, False, select)
    sql, versioned = _timed(source, query, parts, select)
    if source.id and not inherited:
        sql, versioned = _own_versions(source, sql, versioned), True
    return Relation(_without_deleted(sql, source), tables, True, versioned, select)


def _same_id(source: Source, driver: Source) -> bool:
    """Whether a query's rows are versions of the facts its driver's rows are versions of."""
    return bool(source.id) and set(source.id) == set(driver.id) and all(copies(source, c) for c in source.id)


def _select(query: Query, parts: Mapping[str, Relation], sources: Mapping[str, Source]) -> str:
    """The user's text with sources in place of their names, and headway's columns kept apart from the user's."""
    edits = []
    for each in query.inputs:
        sql = parts[each.alias].sql
        if each.kind == "asof":
            sql = _last_known(each, parts[each.alias], sources[each.source])
        edits.append((*each.span, f"({sql}) as {name(each.alias)}"))
    seen = {i.alias.lower(): parts[i.alias].hidden for i in query.inputs if i.kind != "filter"}
    for star in query.stars:
        hidden = [
            h for alias, own in seen.items() if star.alias in (None, "") or alias == star.alias.lower() for h in own
        ]
        if hidden:
            edits.append((star.at, star.at, f"{star.before}{names(dict.fromkeys(hidden))}{star.after}"))
            if star.close_at is not None:
                edits.append((star.close_at, star.close_at, ")"))
    edits.append((query.select_end, query.select_end, "".join(f", {own}" for own in _carried(query, parts)) + " "))
    return edited(query.text, edits)


def _carried(query: Query, parts: Mapping[str, Relation]) -> Iterator[str]:
    """headway's columns of the inputs, under names of their own."""
    driver = query.driver.alias
    yield f"{name(driver)}.{name(SEQ)} as {name(SEQ)}"
    for n, each in _changing(query, parts):
        yield f"{name(each.alias)}.{name(KNOWN)} as {name(f'{KNOWN}{n}')}"
        if parts[each.alias].versioned:
            yield f"{name(each.alias)}.{name(UNTIL)} as {name(f'{UNTIL}{n}')}"
        if each.kind == "asof":
            yield f"{name(each.alias)}.{name(SEQ)} as {name(f'{SEQ}{n}')}"


def _changing(query: Query, parts: Mapping[str, Relation]) -> list[tuple[int, Input]]:
    return [(n, i) for n, i in enumerate(query.inputs) if parts[i.alias].changes and i.kind in ("driver", "asof")]


def _last_known(joined: Input, part: Relation, source: Source) -> str:
    """The right side of an ASOF JOIN with one row for each key and timestamp: the one known last."""
    standing = f" where {part.standing}" if part.versioned else ""
    ties = "".join(f"{name(c)} desc nulls last, " for c in source.id)
    by = names((*joined.keys, joined.timestamp or ""))
    nth = f"row_number() over (partition by {by} order by {name(KNOWN)} desc nulls first, {ties}{name(SEQ)} desc)"
    return f"select * from ({part.sql}){standing} qualify {nth} = 1"


def _timed(source: Source, query: Query, parts: Mapping[str, Relation], select: str) -> tuple[str, bool]:
    """A query's rows with ``__event``, ``__known`` and, if any input has it, ``__until``."""
    event = f"cast({name(source.timestamp or '')} as timestamptz)"
    moments = [f"{event} + to_microseconds({source.delay_us})" if source.delay_us else event]
    unknown = [f"{event} is null"]
    if source.created is not None:
        moments.append(f"cast({name(source.created)} as timestamptz)")
        unknown.append(f"{name(source.created)} is null")
    carried, ends = [], []
    for n, each in _changing(query, parts):
        known, seq = name(f"{KNOWN}{n}"), name(f"{SEQ}{n}")
        moments.append(known)
        carried.append(known)
        unknown.append(f"{known} is null" if each.kind == "driver" else f"({seq} is not null and {known} is null)")
        if each.kind == "asof":
            carried.append(seq)
        if parts[each.alias].versioned:
            ends.append(name(f"{UNTIL}{n}"))
    known = f"case when {' or '.join(unknown)} then null else greatest({', '.join(moments)}) end as {name(KNOWN)}"
    until = f", {_least(ends)} as {name(UNTIL)}" if ends else ""
    hide = f" exclude ({', '.join([*carried, *ends])})" if carried or ends else ""
    return f"select *{hide}, {event} as {name(EVENT)}, {known}{until} from ({select})", bool(ends)


def _least(columns: list[str]) -> str:
    return columns[0] if len(columns) == 1 else f"least({', '.join(columns)})"


def _own_versions(source: Source, sql: str, versioned: bool) -> str:
    """``rows`` with ``__until`` by the query's own id, among the rows that its inputs leave visible at all."""
    if not versioned:
        return f"select *, {_next_known(source)} as {name(UNTIL)} from ({sql})"
    until = f"least({name(UNTIL)}, {_next_known(source)}) as {name(UNTIL)}"
    alive = f"{name(UNTIL)} is null or {name(KNOWN)} is null or {name(KNOWN)} < {name(UNTIL)}"
    return f"select * exclude ({name(UNTIL)}), {until} from (select * from ({sql}) where {alive})"
