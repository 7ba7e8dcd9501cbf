"""Data checks: what must hold for the rows of a source, looked at in one pass."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from headway.data.binding import Binder
from headway.data.binding._sql import failing, literal, quoted
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.define import Check, Source
from headway.define._duration import as_text, microseconds
from headway.define.records import CheckResult
from headway.errors import CheckFailed


def run_checks(source: Source, binder: Binder, lake: Lake, engine: Engine, now: int) -> list[CheckResult]:
    """Run all checks of a source on its rows as they are in the lake; rows to set aside go to ``quarantine/<source>``.

    ``now`` is the moment freshness is measured at. Nothing is raised for a failed check: see ``raise_for``.

    Raises
    ------
    BindingError
        A check names a column that is not there, or a condition that does not fit it.
    """
    if not source.checks:
        return []
    binder.columns(source)
    rows = f"({binder.sql(source, checked=False)})"
    parts = ["count(*) as n", "max(epoch_us(__event)) as newest"]
    parts += [f"{_count(check)} as f{i}" for i, check in enumerate(source.checks)]
    found = engine.query(f"select {', '.join(parts)} from {rows}", binder.files(source)).to_pylist()[0]
    total, newest = found["n"], found["newest"]
    results = [_result(source, c, total, newest, found[f"f{i}"], now) for i, c in enumerate(source.checks)]
    _set_aside(source, rows, binder, lake, engine, results)
    return results


def _count(check: Check) -> str:
    """How many rows fail, as an aggregate; checks of the whole table are judged afterwards."""
    if check.kind in ("row_count", "freshness"):
        return "0"
    if check.kind == "unique":
        columns = ", ".join(quoted(c) for c in check.columns)
        there = " and ".join(f"{quoted(c)} is not null" for c in check.columns)
        return f"count(*) filter ({there}) - count(distinct case when {there} then row({columns}) end)"
    return f"count(*) filter ({failing(check)})"


def _result(source: Source, check: Check, total: int, newest: int | None, failed: int, now: int) -> CheckResult:
    detail = ""
    if check.kind == "row_count":
        low, high = check.args
        failed = int((low is not None and total < low) or (high is not None and total > high))
        detail = f"{total} rows"
    elif check.kind == "freshness":
        age = None if newest is None else max(0, now - newest)
        failed = int(age is None or age > microseconds(check.args[0]))
        detail = "no row has an event time" if age is None else f"the newest event is {as_text(age // 10**6 * 10**6)} old"
    elif failed:
        detail = f"{failed / total:.2%} of {total} rows"
    return CheckResult(source.name, str(check), check.on_fail, total, failed, detail)


def _set_aside(
    source: Source, rows: str, binder: Binder, lake: Lake, engine: Engine, results: list[CheckResult]
) -> None:
    """Keep the rows that checks set aside, with the check that did it, in place of those of the last time."""
    checks = [c for c in source.checks if c.on_fail == "quarantine"]
    if not checks:
        return
    names = [f.name for f in binder.columns(source)]
    columns = ", ".join(quoted(n) for n in names)
    selects = []
    for check in checks:
        condition = failing(check) if check.kind != "unique" else _later(check)
        filter_ = "qualify" if check.kind == "unique" else "where"
        selects.append(f"select {literal(str(check))} as \"__check\", {columns} from {rows} {filter_} {condition}")
    found = engine.query(" union all ".join(f"({s})" for s in selects), binder.files(source))
    table = f"quarantine/{source.name}"
    if found.num_rows or lake.version(table) is not None:
        lake.write(table, found if found.num_columns else pa.table({"__check": pa.array([], pa.string())}), "overwrite")


def _later(check: Check) -> str:
    columns = ", ".join(quoted(c) for c in check.columns)
    there = " and ".join(f"{quoted(c)} is not null" for c in check.columns)
    return f"({there} and row_number() over (partition by {columns} order by __seq) > 1)"


def raise_for(results: Iterable[CheckResult]) -> None:
    """Raise for checks that failed with ``on_fail="error"``.

    Raises
    ------
    CheckFailed
        Names each of them, with how many rows failed.
    """
    failed = [r for r in results if r.on_fail == "error" and not r.passed]
    if failed:
        told = "; ".join(f"{r.source}: {r.check} failed ({r.detail or r.failed})" for r in failed)
        raise CheckFailed(f"{told}; mend the data, or say on_fail='warn' or 'quarantine'")


__all__ = ["raise_for", "run_checks"]
