"""What is wrong now, worst first."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from headway.clock import WallClock, to_iso
from headway.data.online import OnlineReader
from headway.data.predictions import dropped_table
from headway.define._monitor import rank
from headway.define.records import VersionRecord, ViewPlan
from headway.define.run_records import RunRecord
from headway.define.watch_records import Severity
from headway.metadata import held, live
from headway.orchestrate._parts import Parts
from headway.orchestrate.catalog import keeps, late_by
from headway.orchestrate.monitoring.alerts import AlertDesk, about, ago
from headway.orchestrate.runs._alive import crashed
from headway.orchestrate.runs._slots import between
from headway.orchestrate.runs.schedules import scheduled

_DAY = 86_400_000_000
_MISSED = 10 * 60_000_000  # after which a moment that nobody took is missed; jitter comes on top
_RECENT = 7 * _DAY  # a failure nobody has repeated for so long is history


class Trouble(msgspec.Struct, frozen=True):
    """One thing that is wrong: how bad, of what kind, with what, since when, and the command that mends it."""

    severity: Severity
    kind: str
    what: str
    text: str
    mend: str = ""
    since: int | None = None


def troubles(parts: Parts, desk: AlertDesk) -> list[Trouble]:
    """Everything that is wrong in the environment, worst first."""
    now = WallClock().now()
    found = [
        *_alerts(desk, now),
        *_features(parts),
        *_runs(parts, now),
        *_dropped(parts, now),
        *_schedules(parts, now),
        *_holds(parts, now),
        *_channels(desk, now),
    ]
    return sorted(found, key=lambda t: rank(t.severity))


def _alerts(desk: AlertDesk, now: int) -> Iterator[Trouble]:
    for alert in desk.list(limit=1000):
        if alert.state == "acknowledged":
            text = f"{alert.title}; {alert.by} is looking into it: {alert.why}"
            yield Trouble("info", "alert", f"#{alert.id}", text, since=alert.first_at)
            continue
        quiet = alert.silenced_until is not None and alert.silenced_until > now
        text = f"{alert.title}, found {alert.count} times" if alert.count > 1 else alert.title
        text = f"{text} (silent until {to_iso(alert.silenced_until or 0)[:16]})" if quiet else text
        mend = alert.runbook or f'headway alerts ack {alert.id} --why "…"'
        yield Trouble("info" if quiet else alert.severity, "alert", f"#{alert.id}", text, mend, alert.first_at)


def _features(parts: Parts) -> Iterator[Trouble]:
    """Views that a live version needs and that are behind: late by a refresh, or so much that they are served as
    null."""
    plans: dict[str, tuple[ViewPlan, set[str]]] = {}
    for name in parts.declarations.models:
        for record in {r.version: r for r in _answering(parts, name)}.values():
            for use in record.serving.views:
                plans.setdefault(use.plan.fingerprint, (use.plan, set()))[1].add(name)
    if not plans:
        return
    now = parts.clock.now()
    store = parts.open_online(True)
    try:
        reader = OnlineReader(store)
        for plan, models in plans.values():
            trouble = _behind(plan, sorted(models), reader, now)
            if trouble is not None:
                yield trouble
    finally:
        store.close()


def _answering(parts: Parts, model: str) -> list[VersionRecord]:
    versions = set(live(parts.registry.log(model)).values()) - {None}
    return [parts.registry.show(model, version) for version in sorted(v for v in versions if v is not None)]


def _behind(plan: ViewPlan, models: list[str], reader: OnlineReader, now: int) -> Trouble | None:
    mend = f"headway features materialize {plan.name}"
    users = ", ".join(models)
    mark = reader.watermark(plan)
    if mark is None:
        text = f"it is not in the online store, and {users} answers without its features"
        return Trouble("critical", "features", plan.name, text, mend)
    if plan.refresh is None:
        return None
    late = now - (mark.as_of + plan.lag + plan.refresh)
    null = (late_by(plan, mark.as_of, now) or 0) > keeps(plan)
    if late < plan.refresh and not null:  # a refresh that is under way is no trouble
        return None
    text = f"its values are of {to_iso(mark.as_of)}, overdue for {about(max(late, 0))}; {users}"
    if null:
        return Trouble("critical", "features", plan.name, f"{text} gets null in their place", mend, mark.as_of)
    return Trouble("warning", "features", plan.name, f"{text} is served late values", mend, mark.as_of)


def _runs(parts: Parts, now: int) -> Iterator[Trouble]:
    """Runs whose newest attempt did not succeed, in the last week."""
    crashed(parts.metadata, parts.settings.home, now)
    newest: dict[str, RunRecord] = {}
    for run in parts.metadata.runs.list(status=("done", "failed", "refused", "crashed"), limit=500):
        newest.setdefault(f"{run.kind} {run.name} {sorted(run.params.items())}", run)
    for run in newest.values():
        at = run.ended_at or run.created_at
        if run.status == "done" or now - at > _RECENT:
            continue
        what = {"failed": "failed", "crashed": "crashed", "refused": "was refused"}[run.status]
        why = f": {run.error}" if run.error else ""
        severity: Severity = "warning" if run.status == "refused" else "critical"
        mend = f"headway runs show {run.id}"
        yield Trouble(severity, "run", run.name, f"run {run.id} {what} {ago(at, now)}{why}", mend, at)


def _dropped(parts: Parts, now: int) -> Iterator[Trouble]:
    """Predictions that the log had no room for, in the last day."""
    for model in parts.declarations.models:
        table = dropped_table(model)
        if parts.lake.version(table) is None:
            continue
        import pyarrow.dataset as ds  # which imports pandas, and there is hardly ever something to read

        rows = ds.dataset(parts.lake.files(table), format="parquet").to_table(columns=["rows", "reason", "logged_at"])
        recent = rows.filter(pc.greater_equal(rows["logged_at"].cast(pa.int64()), now - _DAY))
        if recent.num_rows:
            reasons = ", ".join(sorted(set(recent["reason"].to_pylist())))
            text = f"{pc.sum(recent['rows']).as_py():,} predictions were not logged in the last day: {reasons}"
            yield Trouble("warning", "log", model, text, 'give the log a faster disk, or set serve.log = "wait"')


def _schedules(parts: Parts, now: int) -> Iterator[Trouble]:
    """Schedules that are paused, and moments that have passed without anybody to start the run."""
    states = parts.metadata.schedules.all()
    if not states:
        return
    declared, clock = scheduled(parts.declarations), parts.clock.now()
    for name, state in states.items():
        if state.paused:
            why = f": {state.why}" if state.why else ""
            text = f"paused by {state.by} {ago(state.at, now)}{why}"
            yield Trouble("info", "schedule", name, text, f"headway schedule resume {name}", state.at)
            continue
        each = declared.get(name)
        if each is None:
            continue
        last = parts.metadata.schedules.last(name)
        since = state.since if last is None else max(state.since, last.slot)
        missed = between(each.schedule, since, clock - _MISSED - each.schedule.jitter_microseconds, 1)
        if missed:
            text = f"it was due at {to_iso(missed[0])[:16]} UTC and nobody started it; no scheduler is running"
            yield Trouble("warning", "schedule", name, text, "headway up", missed[0])


def _holds(parts: Parts, now: int) -> Iterator[Trouble]:
    for model in parts.declarations.models:
        log = parts.registry.log(model)
        for segment in sorted({line.segment for line in log} | {None}, key=lambda s: s or ""):
            line = held(log, segment)
            if line is None or line.segment != segment:
                continue
            of = f" for {segment}" if segment else ""
            option = f" --segment {segment}" if segment else ""
            text = f"automatic promotion{of} is held since {line.by} rolled back {ago(line.at, now)}: {line.why}"
            yield Trouble("info", "hold", model, text, f"headway models release {model}{option}", line.at)


def _channels(desk: AlertDesk, now: int) -> Iterator[Trouble]:
    for delivery, at in desk.failing():
        text = f"the last alert did not get through {ago(at, now)}: {delivery.error}"
        yield Trouble("warning", "channel", delivery.channel, text, "headway alerts test", at)
