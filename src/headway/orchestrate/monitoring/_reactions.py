"""What follows from figures that alarm: alerts, and what the monitor starts because of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from headway.clock import WallClock, to_iso
from headway.define import Monitor
from headway.define._monitor import rank
from headway.define.records import VersionRecord
from headway.define.run_records import RunRecord
from headway.define.watch_records import Alert, Figure
from headway.errors import HeadwayError
from headway.metadata import held
from headway.monitor import KIND_NAMES, evidence
from headway.orchestrate._parts import Parts
from headway.orchestrate.models import ModelStage

BY = "headway monitor"
_STAGE = "alert action"
TOGETHER = frozenset({"drift", "missing"})  # kinds of which one alert names all columns
_SHOWN = 8  # findings an alert tells in full
# Training anew helps against a world that has changed, going back against a version that is worse than the one before;
# neither helps against wrong data.
REASONS = {
    "retrain": frozenset({"drift", "prediction", "performance", "estimate"}),
    "rollback": frozenset({"prediction", "performance", "estimate"}),
}


class Starts(Protocol):
    """Whoever starts runs: ``project.runs``."""

    def start(self, targets: str, *, trigger: Any, by: str, why: str) -> RunRecord:
        """Put a run into the queue."""


def alerts_of(monitor: Monitor, figures: Sequence[Figure]) -> list[Alert]:
    """The alerts that figures of one window are worth: one for what belongs together, however many columns and
    segments show it."""
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.alarm and monitor.raises(figure.kind, figure.severity):
            groups.setdefault(key_of(figure), []).append(figure)
    return [_alert(monitor, key, _ordered(group)) for key, group in groups.items()]


def key_of(figure: Figure) -> str:
    """The alert a figure belongs to: of columns that drift, or are missing more often, all together
    (``trip_duration/drift``), of what became of a source too (``trip_duration/quality/raw_trips``), of the rest each by
    its name (``trip_duration/performance/mae``)."""
    kind = f"{figure.model}/{figure.kind}"
    return kind if figure.kind in TOGETHER else f"{kind}/{figure.details.get('source', figure.name)}"


def _ordered(figures: Sequence[Figure]) -> list[Figure]:
    """What concerns all rows first, then by how bad and how big it is."""
    return sorted(figures, key=lambda f: (f.segment is not None, rank(f.severity), -abs(f.effect or 0.0)))


def _alert(monitor: Monitor, key: str, group: Sequence[Figure]) -> Alert:
    first = group[0]
    names = list(dict.fromkeys(f.name for f in group))
    segments = sorted({f.segment for f in group if f.segment is not None})
    everywhere = [f for f in group if f.segment is None]
    window = f"{to_iso(first.window_start)[:16]} to {to_iso(first.window_end)[:16]} UTC"
    version = f", version {first.version}" if first.version is not None else ""
    shown = (everywhere or group)[:_SHOWN]
    lines = [f"{_of(f)}{f.said or f.name}. {evidence(f)}." for f in shown]
    rest = len({f.name for f in everywhere or group} - {f.name for f in shown})
    lines += [f"And {rest} more."] if rest else []
    lines += [f"Segments that show it: {', '.join(segments)}."] if segments else []
    return Alert(
        key=key,
        model=first.model,
        segment=None if everywhere or len(segments) != 1 else segments[0],
        kind=first.kind,
        severity=min((f.severity for f in group), key=rank),
        title=_title(first, names, segments if not everywhere else []),
        text="\n".join([f"{KIND_NAMES[first.kind]}, window {window}{version}.", *lines]),
        runbook=monitor.runbook,
        details={
            "names": names,
            "segments": segments,
            "version": first.version,
            "window_start": first.window_start,
            "window_end": first.window_end,
            "effect": first.effect,
            "n": first.n,
            "threshold": first.threshold,
            "p": first.p,
            "method": first.method,
        },
    )


def _of(figure: Figure) -> str:
    return f"{figure.segment}: " if figure.segment is not None else ""


def _title(first: Figure, names: Sequence[str], segments: Sequence[str]) -> str:
    where = f" ({', '.join(segments[:3])}{'…' if len(segments) > 3 else ''})" if segments else ""
    if len(names) == 1:
        return f"{first.model}{where}: {first.said or names[0]}"
    if first.kind not in TOGETHER:
        return f"{first.model}{where}: {first.said}, and {len(names) - 1} more"
    what = "are missing more or less often" if first.kind == "missing" else "have moved"
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{first.model}{where}: {len(names)} columns {what}: {listed}"


def react(
    parts: Parts,
    models: ModelStage,
    runs: Starts | None,
    monitor: Monitor,
    record: VersionRecord,
    alerts: Sequence[Alert],
) -> list[str]:
    """Start what the monitor asks for, once for each alert; returns what was done, in sentences.

    An alert is marked before anything is started, so that whatever happens in between, nothing is done twice.
    """
    if monitor.on_alert == "notify":
        return []
    stages, now = parts.metadata.stages, WallClock().now()
    causes = [
        alert
        for alert in alerts
        if alert.kind in REASONS[monitor.on_alert]
        and alert.state == "open"
        and not (alert.silenced_until is not None and alert.silenced_until > now)
        and stages.find(_STAGE, alert.key, str(alert.id)) is None
    ]
    if not causes:
        return []
    for alert in causes:
        stages.put(_STAGE, alert.key, str(alert.id), monitor.on_alert, now)
    why = f"{causes[0].title}{f' and {len(causes) - 1} more' if len(causes) > 1 else ''}"
    numbers = [alert.id for alert in causes]
    try:
        if monitor.on_alert == "retrain":
            said, details = _retrain(parts, runs, monitor.name, why)
        else:
            said, details = _rollback(parts, models, record, why)
    except HeadwayError as error:
        said, details = f"{monitor.on_alert} was not possible: {error}", {"error": str(error)}
    parts.metadata.audit.append(
        BY,
        f"{monitor.on_alert} after alert",
        monitor.name,
        why,
        {"alerts": numbers, "outcome": said, **details},
        at=now,
    )
    return [said]


def _retrain(parts: Parts, runs: Starts | None, model: str, why: str) -> tuple[str, dict[str, Any]]:
    waiting = parts.metadata.runs.list(status=("queued", "running"), name=model, limit=20)
    going = [run for run in waiting if run.trigger == "alert"]
    if going:
        return f"run {going[0].id} of {model} is under way already", {"run": going[0].id}
    if runs is None:
        raise HeadwayError("there is nobody to start a run")
    run = runs.start(model, trigger="alert", by=BY, why=why)
    return f"run {run.id} of {model} is queued, to train it anew", {"run": run.id}


def _rollback(parts: Parts, models: ModelStage, record: VersionRecord, why: str) -> tuple[str, dict[str, Any]]:
    model = record.model
    live = models.champion(model)
    if live is None or live.version != record.version:
        other = "nothing" if live is None else f"version {live.version}"
        return f"{other} answers by now, not version {record.version}: nothing was rolled back", {}
    hold = held(parts.registry.log(model))
    if hold is not None:
        told = f"version {record.version} answers since a rollback ({hold.why}): monitoring does not go back further"
        return told, {}
    line = models.rollback(model, why=why, by=BY)
    return f"{model} was rolled back from version {record.version} to {line.version}", {"deployment": line.id}
