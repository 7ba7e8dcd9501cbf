"""Fills a metadata database as years of work would: runs with their steps, versions, decisions, figures, alerts.

    python benchmarks/seed.py sqlite:///metadata.db --runs 100000

Rows go in by the fastest way the database has; what they say is made up, but is told apart by its numbers, so that the
same volume is the same database.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec
import sqlalchemy as sa

from headway.define.records import ServingPlan, VersionRecord
from headway.define.run_records import Artifact, AuditLine, RunRecord, RunStatus, StepRecord
from headway.define.watch_records import Alert, Figure, Severity
from headway.metadata import Metadata, _tables, open_metadata
from headway.metadata._alerts import alert_row
from headway.metadata._runs import run_row, step_row

MINUTE = 60_000_000
DAY = 1440 * MINUTE
NOW = 1_764_547_200_000_000  # 2025-12-01
STATUSES: tuple[RunStatus, ...] = ("done",) * 16 + ("failed", "refused", "cancelled", "crashed")
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Volume:
    """How much of everything. ``versions`` are of one model; a further hundred models have ten each."""

    runs: int = 100_000
    steps: int = 10  # of each run
    versions: int = 5_000
    models: int = 100
    segments: int = 300
    decisions: int = 600
    windows: int = 26
    columns: int = 20
    alerts: int = 2_000
    audit: int = 20_000


def fill(metadata: Metadata, volume: Volume | None = None, *, template: VersionRecord | None = None) -> None:
    """Add ``volume`` to an open database. Versions are like ``template``, which names the model that has most of them.

    Nobody else may write meanwhile: the ids of new rows are counted on from the last one.
    """
    volume = volume or Volume()
    template = template or _version("trip_duration", volume.segments)
    first = _fill_runs(metadata, volume)
    _bulk(metadata, _tables.steps, (step_row(step) for step in _steps(first, volume)))
    _bulk(metadata, _tables.slots, _slots(first, volume))
    _bulk(metadata, _tables.versions, _versions(metadata, template, volume))
    _decide(metadata, template, volume)
    _watch(metadata, template.model, volume)
    _bulk(metadata, _tables.audit, _audit(volume))
    # What PostgreSQL does by itself within a minute; SQLite has no statistics and needs none.
    database = metadata._database
    if database.engine.dialect.name == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _fill_runs(metadata: Metadata, volume: Volume) -> int:
    """The id of the first of the runs, whose ids follow one another."""
    records = [_run(number, volume) for number in range(volume.runs)]
    _bulk(metadata, _tables.runs, (run_row(run) for run in records))
    first = metadata.runs.list(limit=1)[0].id - volume.runs + 1
    names = (
        {"name": name, "status": run.status, "run": first + number}
        for number, run in enumerate(records)
        for name in run.targets
    )
    _bulk(metadata, _tables.run_names, names)
    return first


def _run(number: int, volume: Volume) -> RunRecord:
    began = NOW - (volume.runs - number) * 10 * MINUTE
    pipeline = number % 3 == 0
    name = f"publish_{number % 7}" if pipeline else "trip_duration"
    return RunRecord(
        kind="pipeline" if pipeline else "project",
        targets=(name,),
        params={"city": f"city_{number % 300}", "days": number % 14} if pipeline else {},
        status=STATUSES[number % len(STATUSES)],
        trigger="schedule" if number % 2 else "manual",
        by=f"user_{number % 20}",
        created_at=began,
        started_at=began + 1_000_000,
        ended_at=began + 5 * MINUTE,
        beat_at=began + 5 * MINUTE,
        host="worker",
        pid=1000 + number % 1000,
        schedule=f"model:{name}" if number % 2 else None,
        slot=began if number % 2 else None,
        commit=f"{number:040x}",
        error="" if number % len(STATUSES) < 16 else "a step did not end well",
    )


def _steps(first: int, volume: Volume) -> Iterator[StepRecord]:
    for run, number in itertools.product(range(volume.runs), range(volume.steps)):
        began = NOW - (volume.runs - run) * 10 * MINUTE + number * 20_000_000
        digest = f"{run // 5 * volume.steps + number:032x}"
        yield StepRecord(
            run=first + run,
            key=f"step_{number}[city=city_{run % 300}]",
            step=f"step_{number}",
            item={"city": f"city_{run % 300}"},
            needs=(f"step_{number - 1}[city=city_{run % 300}]",) if number else (),
            status="done" if run % 5 == 0 else "cached",
            why="its inputs changed" if run % 5 == 0 else "nothing it depends on has changed",
            digest=digest,
            attempt=1,
            started_at=began,
            ended_at=began + 15_000_000,
            seconds=15.0,
            inputs={"table": digest},
            output=Artifact(digest, "arrow", 10_000, f"artifacts/{digest[-2:]}/{digest}", "120 rows × 7 columns"),
        )


def _slots(first: int, volume: Volume) -> Iterator[dict[str, Any]]:
    for number in range(1, volume.runs, 2):
        run = _run(number, volume)
        slot = {"schedule": run.schedule, "slot": run.slot, "taken_at": run.created_at, "taken_by": "worker"}
        yield slot | {"run": first + number, "why": ""}


def _version(model: str, segments: int) -> VersionRecord:
    metrics = {"mae": 118.2, "rmse": 201.7}
    return VersionRecord(
        model=model,
        version=1,
        digest="",
        created_at=0,
        directory="",
        files={f"segment_{i}.txt": f"{i:064x}" for i in range(segments)},
        serving=ServingPlan(model, "regression", (), (), (), (), (), None),
        metrics=metrics,
        segment_metrics={f"city_{i}": {name: value + i for name, value in metrics.items()} for i in range(segments)},
        baseline={"mae": 240.0, "rmse": 390.0},
        params={"n_estimators": 200},
        seed=7,
        cut=None,
        train_rows=100_000,
        test_rows=20_000,
        data={"source/trips": 3},
        data_digest="",
        commit=f"{7:040x}",
        dirty=False,
        environment="",
        bundle="",
        metric="mae",
    )


def _versions(metadata: Metadata, template: VersionRecord, volume: Volume) -> Iterator[dict[str, Any]]:
    counts = {template.model: volume.versions} | {f"model_{i}": 10 for i in range(volume.models)}
    for model, count in counts.items():
        first = metadata.versions.next_version(model)
        for number in range(first, first + count):
            record = msgspec.structs.replace(
                template,
                model=model,
                version=number,
                digest=f"{model}-{number}",
                created_at=NOW - (count - number) * 60 * MINUTE,
                directory=f"models/{model}/{number}",
                segment_metrics=template.segment_metrics if model == template.model else {},
            )
            columns = {name: getattr(record, name) for name in ("model", "version", "digest", "created_at")}
            yield columns | {"record": msgspec.json.encode(record).decode()}


def _decide(metadata: Metadata, template: VersionRecord, volume: Volume) -> None:
    """Promotions of the one model, for all and for one segment after another, and one of each of the others."""
    newest = metadata.versions.next_version(template.model) - 1
    lines = [
        (template.model, None if number % 2 else f"city_{number % volume.segments}", newest - volume.decisions + number)
        for number in range(volume.decisions)
    ]
    lines += [(f"model_{i}", None, 10) for i in range(volume.models)]
    for at, (model, segment, version) in enumerate(lines):
        figures = {"automatic": True, "candidate": 118.2, "champion": 119.4}
        metadata.deployments.append(
            action="promote",
            model=model,
            segment=segment,
            version=max(version, 1),
            by=f"user_{at % 20}",
            at=NOW + at,
            why="the gate passed: mae 118.2 is not worse than 119.4",
            figures=figures,
        )


def _watch(metadata: Metadata, model: str, volume: Volume) -> None:
    segments = [None, *(f"city_{i}" for i in range(10))]
    for window in range(volume.windows):
        columns = itertools.product(range(volume.columns), segments)
        metadata.figures.put([_figure(model, window, column, segment) for column, segment in columns], NOW)
    _bulk(metadata, _tables.alerts, (alert_row(_alert(model, number)) for number in range(volume.alerts)))


def _figure(model: str, window: int, column: int, segment: str | None) -> Figure:
    alarm = (window * 7 + column) % 23 == 0
    return Figure(
        model=model,
        version=1,
        segment=segment,
        kind="drift",
        name=f"column_{column}",
        window_start=NOW - (26 - window) * 7 * DAY,
        window_end=NOW - (25 - window) * 7 * DAY,
        n=12_000,
        reference_n=100_000,
        statistic=0.02,
        effect=0.02,
        threshold=0.05,
        p=0.4,
        method="history",
        alarm=alarm,
        severity="warning" if alarm else "info",
        said=f"column_{column} moved up: bin 7 now holds 14 % of the rows, it was 9 %" if alarm else "",
        details={"bins": [0.1] * 10, "reference": [0.1] * 10},
    )


def _alert(model: str, number: int) -> Alert:
    return Alert(
        key=f"{model}/drift/column_{number}",
        model=model,
        kind="drift",
        severity=SEVERITIES[number % 3],
        title=f"column_{number}: twice as many nulls",
        text=f"the share of nulls in column_{number} rose from 2 % to 4 %",
        state="resolved" if number % 40 else "open",
        first_at=NOW + number,
        last_at=NOW + number,
    )


def _audit(volume: Volume) -> Iterator[dict[str, Any]]:
    for number in range(volume.audit):
        line = AuditLine(0, NOW + number, f"user_{number % 20}", "start run", f"run {number}", "a new month")
        values = msgspec.structs.asdict(line)
        del values["id"]
        yield values | {"details": "{}"}


def _bulk(metadata: Metadata, table: sa.Table, rows: Rows) -> None:
    """Insert many rows of the same columns, in order, in one transaction."""
    database = metadata._database
    place = {"project": database.project, "env": database.env}
    found = iter(rows)
    first = next(found, None)
    if first is None:
        return
    columns = [*place, *first]
    names = ", ".join(f'"{name}"' for name in columns)
    values = ((*place.values(), *row.values()) for row in itertools.chain([first], found))
    with database.write() as connection:
        driver: Any = connection.connection.driver_connection
        if connection.dialect.name == "postgresql":
            with driver.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in values:
                    copy.write_row(row)
        else:
            driver.execute("PRAGMA cache_size = -400000")  # 400 MB, so that no page of an index is written twice
            driver.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(columns))})", values)


def pages(metadata: Metadata) -> dict[str, Callable[[], object]]:
    """What the pages of the console ask, by name: the queries whose time must not grow with the database."""
    runs, versions, newest = metadata.runs, metadata.versions, metadata.runs.list(limit=1)[0].id
    live = [("trip_duration", number) for number in range(1, 301)]
    return {
        "runs: newest": runs.list,
        "runs: page 1000": lambda: runs.list(before=newest - 50_000),
        "runs: failed": lambda: runs.list(status=["failed"]),
        "runs: going": lambda: runs.list(status=["queued", "running"]),
        "runs: failed of one name": lambda: runs.list(name="trip_duration", status=["failed"], before=newest - 500),
        "runs: of one schedule": lambda: runs.list(schedule="model:trip_duration"),
        "runs: name and schedule": lambda: runs.list(name="publish_0", schedule="model:publish_0"),
        "runs: counts": runs.counts,
        "run: steps": lambda: runs.steps(newest - 50_000),
        "step: history": lambda: runs.history("step_3"),
        "step: cached": lambda: runs.cached("step_3", f"{3:032x}"),
        "step: not cached": lambda: runs.cached("step_3", "f" * 32),
        "schedules: newest slots": metadata.schedules.latest,
        "schedule: slots": lambda: metadata.schedules.slots("model:trip_duration"),
        "versions: page": lambda: versions.page("trip_duration", before=2_500),
        "versions: counts": versions.counts,
        "versions: latest": lambda: versions.latest("trip_duration"),
        "versions: 300 live ones": lambda: versions.brief(live),
        "deployments: recent": metadata.deployments.recent,
        "deployments: lines": metadata.deployments.lines,
        "figures: a year of a model": lambda: metadata.figures.windows("trip_duration", segment=None),
        "figures: newest window": lambda: metadata.figures.latest("trip_duration"),
        "figures: models": metadata.figures.models,
        "figures: alarms": metadata.figures.alarms,
        "alerts: open": metadata.alerts.list,
        "alerts: resolved": lambda: metadata.alerts.list(state=["resolved"]),
        "audit": metadata.audit.list,
    }


def main() -> None:
    """Fill a database and time the queries of the console."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--project", default="trips")
    parser.add_argument("--env", default="local")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--versions", type=int, default=5_000)
    given = parser.parse_args()
    with open_metadata(given.url, given.project, given.env) as metadata:
        begin = perf_counter()
        fill(metadata, Volume(runs=given.runs, versions=given.versions))
        print(f"filled in {perf_counter() - begin:.1f} s")
        for name, ask in pages(metadata).items():
            ask()
            begin = perf_counter()
            ask()
            print(f"{(perf_counter() - begin) * 1000:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
