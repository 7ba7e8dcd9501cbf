"""One pass over a source's rows for all of its checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.data.binding import Binder
from headway.data.binding._conditions import any_failed, flagged, quarantined, row_checks, verify
from headway.data.binding._relation import Relation
from headway.data.binding._sql import EVENT, UNTIL, instant, literal, name, names
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.data.quality._history import keep, set_aside
from headway.data.quality._volume import volumes
from headway.define import Check, Source
from headway.define._checks import ROW_KINDS
from headway.define._duration import as_text, microseconds
from headway.define.records import CheckResult
from headway.errors import BindingError, CheckFailed, DataError, HeadwayError


@dataclass(frozen=True, slots=True)
class _Found:
    """What checks of the whole table look at: the columns' types, and rows per hour or day."""

    types: Mapping[str, str]
    volume: Callable[[Check], tuple[int, str]]


def run_checks(source: Source, binder: Binder, lake: Lake, engine: Engine, now: int) -> list[CheckResult]:
    """Run the checks of one source on the rows in the lake, in the order they are declared.

    Checks speak of every version of every row, whether or not it is known by ``now``, but not of deletes;
    ``unique`` and ``volume`` speak of the last version of each fact, and ``freshness`` of the events up to ``now``.

    What was found is added to the lake table ``checks/<source>``. Rows that a quarantining check sets aside are in
    ``quarantine/<source>``: the checks they failed in ``__check``, since when in ``__since``, until when in
    ``__aside_until`` (null: still), then their columns. ``Binder`` leaves the same rows out of everything else.

    Raises
    ------
    BindingError
        A check names a column that is not there, or compares it with what it cannot be compared with.
    """
    if not source.checks:
        return []
    fields = binder.columns(source)
    for check in source.checks:
        verify(source, check, fields)
    rows = binder.relation(source, checked=False)
    files = {table: lake.files(table) for table in rows.tables}
    checks = row_checks(source)
    try:
        (figures,) = engine.query(_pass(source, rows, checks, now), files).to_pylist()
    except (BindingError, DataError) as error:
        raise _blame(source, rows, checks, engine, files, now) or error from None
    found = _Found(
        {field.name: field.type for field in fields},
        lambda check: volumes(check, rows, engine, files, now),
    )
    results = [_result(source, check, checks, figures, now, found) for check in source.checks]
    failed = sum(r.failed for r in results if r.on_fail == "quarantine")
    set_aside(source, _failing(source, rows) if failed else None, lake, engine, files, now)
    keep(source, results, lake, now)
    return results


def raise_for(results: Iterable[CheckResult]) -> None:
    """Raise ``CheckFailed`` if a check with ``on_fail="error"`` failed, naming each with what it found."""
    failed = [result for result in results if result.on_fail == "error" and not result.passed]
    if not failed:
        return
    what = "; ".join(f"{r.source}: {r.check} {_in_words(r)}" for r in failed)
    raise CheckFailed(f"{what}. What depends on it is not done; mend the data, or set on_fail for the check.")


def _in_words(result: CheckResult) -> str:
    extra = f" ({result.detail})" if result.detail else ""
    if result.check.partition("(")[0] not in ROW_KINDS:
        return f"failed{extra}"
    return f"failed for {result.failed} of {result.rows} rows{extra}"


def _pass(source: Source, rows: Relation, checks: Sequence[Check], now: int) -> str:
    """The figures of all checks as one row: how many rows, how many failed each, an example, the newest event."""
    wanted = ["count(*) as rows"]
    for n, check in enumerate(checks):
        failed = name(f"__fail{n}")
        wanted.append(f"count(*) filter (where {failed}) as failed{n}")
        if check.columns and check.kind != "not_null":
            example = f"concat_ws(', ', {', '.join(f'{name(c)}::varchar' for c in check.columns)})"
            wanted.append(f"min({example}) filter (where {failed}) as example{n}")
    if rows.changes:
        wanted.append(f"epoch_us(max({name(EVENT)}) filter (where {name(EVENT)} <= {instant(now)})) as newest")
    shares = dict.fromkeys(c.columns[0] for c in source.checks if c.kind == "null_share")
    wanted += [f"count(*) filter (where {name(c)} is null) as {name(f'nulls_{c}')}" for c in shares]
    return f"select {', '.join(wanted)} from ({flagged(rows.sql, source.name, checks, rows.versioned)})"


def _result(
    source: Source, check: Check, checks: Sequence[Check], figures: Mapping[str, Any], now: int, found: _Found
) -> CheckResult:
    rows = figures["rows"]
    if check.kind in ROW_KINDS:
        n = next(n for n, each in enumerate(checks) if each is check)
        failed, example = figures[f"failed{n}"], figures.get(f"example{n}")
        detail = f"for example {example}" if failed and example is not None else ""
    elif check.kind == "volume":
        failed, detail = found.volume(check)
    else:
        passed, detail = _of_the_table(check, rows, figures, now, found)
        failed = int(not passed)
    return CheckResult(source.name, str(check), check.on_fail, rows, failed, detail)


def _of_the_table(check: Check, rows: int, figures: Mapping[str, Any], now: int, found: _Found) -> tuple[bool, str]:
    """Whether a check of the whole table passed, and what was found."""
    if check.kind == "row_count":
        low, high = check.args
        return (low or 0) <= rows <= (rows if high is None else high), f"{rows} rows"
    if check.kind == "freshness":
        newest = figures["newest"]
        told = "no event yet" if newest is None else f"the newest event is {_age(now - newest)} old"
        return newest is not None and now - newest <= microseconds(check.args[0]), told
    if check.kind == "null_share":
        nulls = figures[f"nulls_{check.columns[0]}"]
        return nulls <= check.args[0] * rows, f"{nulls} of {rows} are null ({nulls / max(rows, 1):.2%})"
    kind = found.types.get(check.columns[0])
    return kind == check.args[0], "there is no such column" if kind is None else f"it is {kind}"


def _age(length: int) -> str:
    """A length of time to the second, or shorter where it is shorter."""
    return as_text(length if length < 1_000_000 else length // 1_000_000 * 1_000_000)


def _failing(source: Source, rows: Relation) -> str:
    """The rows that a quarantining check sets aside, with the checks they fail in ``__check``."""
    checks = quarantined(source)
    marks = names(f"__fail{n}" for n in range(len(checks)))
    failures = ", ".join(f"case when {name(f'__fail{n}')} then {literal(str(c))} end" for n, c in enumerate(checks))
    hide = f"{marks}, {name(UNTIL)}" if rows.versioned else marks
    return (
        f"select concat_ws('; ', {failures}) as __check, * exclude ({hide})"
        f" from ({flagged(rows.sql, source.name, checks, rows.versioned)}) where {any_failed(checks)}"
    )


def _blame(
    source: Source,
    rows: Relation,
    checks: Sequence[Check],
    engine: Engine,
    files: Mapping[str, Sequence[str]],
    now: int,
) -> HeadwayError | None:
    """The error of the one check that cannot be worked out, naming it; None if it is not a check's."""
    for check in checks:
        try:
            engine.query(_pass(source, rows, [check], now), files)
        except (BindingError, DataError) as error:
            return type(error)(f"source {source.name!r}, check {check} ({check.place}): {error}")
    return None
