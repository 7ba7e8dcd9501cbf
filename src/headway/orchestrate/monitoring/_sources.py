"""What became of the sources behind a model: data checks over time, columns that appeared or vanished, nulls.

Nothing here reads rows: checks were run by ``headway run``, columns come from the lake's schemas and nulls from the
statistics in its files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pyarrow.parquet as pq

from headway.define import Model
from headway.define.records import CheckResult, VersionRecord
from headway.define.watch_records import Figure, Severity
from headway.errors import HeadwayError
from headway.metadata import StageResult
from headway.orchestrate._parts import Parts

_RECENT = 20  # earlier results a check is held against
_CHANGE = 0.005  # a change of the share of failing rows below half a percent alarms nobody
_NULLS, _TIMES = 0.02, 1.5  # nulls of new rows: two points more, and half as many again
_Z = 5.0


def source_figures(parts: Parts, model: Model, record: VersionRecord, window: tuple[int, int]) -> list[Figure]:
    """Figures of kind ``quality`` for every source the model reads, as they are now."""
    empty = Figure(
        model=model.name,
        version=record.version,
        kind="quality",
        name="",
        window_start=window[0],
        window_end=window[1],
        n=0,
    )
    found: list[Figure] = []
    for source in _sources(parts, model):
        history = parts.metadata.stages.history("check", source)
        found += _checks(source, [h for h in history if h.at <= max(window[1], parts.clock.now())], empty)
        table, version = f"source/{source}", record.data.get(f"source/{source}")
        if version is not None and parts.lake.version(table) not in (None, version):
            try:
                found += [
                    *_columns(parts, source, table, version, empty),
                    *_nulls(parts, source, table, version, empty),
                ]
            except HeadwayError as error:
                said = f"{source} cannot be compared with what version {record.version} was trained on: {error}"
                found.append(msgspec.structs.replace(empty, name=f"{source}: columns", said=said))
    return found


def _sources(parts: Parts, model: Model) -> list[str]:
    """The sources a model reads, and those that they read."""
    direct = [model.label.source, *(s.view.source for s in model.selections)]
    names = [base for source in direct for base in (*sorted(parts.binder.base_sources(source)), source.name)]
    return [name for name in dict.fromkeys(names) if name in parts.declarations.sources]


def _checks(source: str, history: Sequence[StageResult], empty: Figure) -> Iterator[Figure]:
    """One figure for each check of the newest result, held against the results before."""
    if not history:
        return
    results = [msgspec.convert(h.output, list[CheckResult]) for h in history[-_RECENT - 1 :]]
    before: dict[str, list[CheckResult]] = {}
    for result in (r for each in results[:-1] for r in each):
        before.setdefault(result.check, []).append(result)
    for result in results[-1]:
        yield _check(source, result, before.get(result.check, []), empty)


def _check(source: str, now: CheckResult, before: Sequence[CheckResult], empty: Figure) -> Figure:
    share = now.failed / now.rows if now.rows else float(bool(now.failed))
    shares = [b.failed / b.rows if b.rows else float(bool(b.failed)) for b in before]
    usual = float(np.median(shares)) if shares else None
    whole = now.check.startswith(("row_count", "freshness"))
    severity: Severity = "info"
    alarm = False
    if now.failed and (now.on_fail == "error" or (whole and not (before and before[-1].failed))):
        alarm, severity = True, "critical" if now.on_fail == "error" else "warning"
    elif now.failed and usual is not None and share - usual >= _CHANGE:
        rows = max((b.rows for b in before), default=0)
        alarm, severity = _z(usual, rows, share, now.rows) > _Z, "warning"
    said = f"{source}: {now.check} failed for {now.failed:,} of {now.rows:,} rows ({share:.2%}"
    said += f"; usually {usual:.2%})" if usual is not None else ")"
    if whole:
        said = f"{source}: {now.check} {'failed' if now.failed else 'passed'}{f', {now.detail}' if now.detail else ''}"
    return msgspec.structs.replace(
        empty,
        name=f"{source}: {now.check}",
        n=now.rows,
        reference_n=max((b.rows for b in before), default=0),
        statistic=share,
        effect=None if usual is None else share - usual,
        method="share of failing rows against earlier runs",
        alarm=alarm,
        severity=severity if alarm else "info",
        said=said,
        details={"source": source, "on_fail": now.on_fail, "detail": now.detail},
    )


def _columns(parts: Parts, source: str, table: str, version: int, empty: Figure) -> Iterator[Figure]:
    """Columns that a source has now and had not when the version was trained, or the other way round."""
    then = {f.name: str(f.type) for f in parts.lake.schema(table, version) if not f.name.startswith("__")}
    now = {f.name: str(f.type) for f in parts.lake.schema(table) if not f.name.startswith("__")}
    rows = parts.lake.rows(table)
    for name in [*(n for n in now if n not in then), *(n for n in then if n not in now)]:
        appeared = name in now
        said = (
            f"{source} has a new column {name} ({now[name]}) that it did not have when the version was trained"
            if appeared
            else f"{source} has lost its column {name} ({then[name]}) since the version was trained"
        )
        yield _about(empty, source, name, rows, said, "warning" if appeared else "critical", "columns of the source")
    for name in (n for n in now if n in then and now[n] != then[n]):
        said = f"{source}: column {name} was of type {then[name]} when the version was trained and is {now[name]} now"
        yield _about(empty, source, name, rows, said, "warning", "columns of the source")


def _about(empty: Figure, source: str, column: str, n: int, said: str, severity: Severity, method: str) -> Figure:
    return msgspec.structs.replace(
        empty,
        name=f"{source}.{column}",
        n=n,
        method=method,
        alarm=True,
        severity=severity,
        said=said,
        details={"source": source, "column": column},
    )


def _nulls(parts: Parts, source: str, table: str, version: int, empty: Figure) -> Iterator[Figure]:
    """Nulls among the rows that were added since the version was trained, against those before."""
    then_rows, then = _null_counts(parts.lake.files(table, version))
    now_rows, now = _null_counts(parts.lake.files(table))
    added = now_rows - then_rows
    if not then_rows or added <= 0 or any(now[name] < then[name] for name in now if name in then):
        return  # rows were not only added
    for name in (n for n in now if n in then and not n.startswith("__")):
        usual, share = then[name] / then_rows, (now[name] - then[name]) / added
        moved = abs(share - usual) >= _NULLS and max(share, usual) >= _TIMES * min(share, usual)
        alarm = moved and _z(usual, then_rows, share, added) > _Z
        if not (alarm or now[name] or then[name]):
            continue
        said = f"{source}.{name} is null in {share:.1%} of the {added:,} rows since the training, {usual:.1%} before"
        yield msgspec.structs.replace(
            empty,
            name=f"{source}.{name} nulls",
            n=added,
            reference_n=then_rows,
            statistic=share,
            effect=share - usual,
            threshold=_NULLS,
            method="share of nulls in rows added since the training",
            alarm=alarm,
            severity="warning" if alarm else "info",
            said=said,
            details={"source": source, "column": name},
        )


def _null_counts(files: Sequence[str]) -> tuple[int, dict[str, int]]:
    """Rows and nulls per column, from the statistics of Parquet files; columns without statistics are left out."""
    rows, nulls, unknown = 0, dict[str, int](), set[str]()
    for file in files:
        about = pq.read_metadata(file)
        rows += about.num_rows
        for group in (about.row_group(n) for n in range(about.num_row_groups)):
            for column in (group.column(n) for n in range(group.num_columns)):
                counted = column.statistics
                if counted is None or not counted.has_null_count:
                    unknown.add(column.path_in_schema)
                else:
                    nulls[column.path_in_schema] = nulls.get(column.path_in_schema, 0) + counted.null_count
    return rows, {name: count for name, count in nulls.items() if name not in unknown}


def _z(p: float, n: int, q: float, m: int) -> float:
    """How many standard errors two shares are apart."""
    if not n or not m:
        return 0.0
    pooled = (p * n + q * m) / (n + m)
    error = math.sqrt(max(pooled * (1 - pooled), 1 / (n + m)) * (1 / n + 1 / m))
    return abs(q - p) / error
