"""Watching models in production: windows of predictions → figures, alerts, reports and, where asked for, a reaction."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headway.clock import WallClock, to_iso
from headway.data.predictions import compact
from headway.define import Monitor
from headway.define._monitor import KINDS
from headway.define.records import VersionRecord
from headway.define.watch_records import Alert, AlertState, Figure, Silence
from headway.errors import HeadwayError, NotFoundError
from headway.locks import exclusive
from headway.monitor import WindowReport, to_html, to_json
from headway.orchestrate._parts import Parts
from headway.orchestrate.models import ModelStage
from headway.orchestrate.monitoring._counting import WindowCounts, first_moment, look
from headway.orchestrate.monitoring._reactions import Starts, alerts_of, key_of, react
from headway.orchestrate.monitoring._sources import source_figures
from headway.orchestrate.monitoring._status import Trouble, troubles
from headway.orchestrate.monitoring._watching import Watch, in_part, skew
from headway.orchestrate.monitoring._windows import MOST, Window, ended
from headway.orchestrate.monitoring.alerts import AlertDesk, Told
from headway.train._files import write_bytes

_FOLLOWED = ("performance", "estimate", "prediction", "volume")  # kinds whose history a report draws
_HISTORY = 2_000  # figures of each of these kinds that a report looks back on
_COMPLETE = 0.99  # share of rows with a label from which on nothing more is waited for
_LOOK_BACK = 12  # windows whose labels may still come


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What one monitoring of a model came to.

    ``windows`` are those looked at for the first time; ``alerts`` those that stand, at or above the monitor's
    threshold; ``actions`` what was started because of them; ``reports`` the pages that were written.
    """

    model: str
    said: str
    windows: tuple[WindowReport, ...] = ()
    alerts: tuple[Alert, ...] = ()
    resolved: tuple[Alert, ...] = ()
    actions: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(eq=False)
class _Work:
    """One monitoring of one model under way."""

    monitor: Monitor
    now: int
    first: int = 0
    windows: list[WindowReport] = field(default_factory=list)
    watches: dict[int, Watch] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class MonitorStage:
    """``project.monitoring``: look at what models predicted, say what is wrong, answer alerts."""

    def __init__(self, parts: Parts, models: ModelStage, runs: Starts | None = None) -> None:
        self._parts, self._models, self._runs = parts, models, runs
        self.desk = AlertDesk(parts)

    def run(self, model: str | None = None, *, until: int | None = None, reports: Path | None = None) -> list[Watched]:
        """Look at every window that has ended since the last time, up to ``until`` (the clock's now), of one model or
        of all; raise and resolve alerts, tell of them, and write a report for each window.

        ``reports`` is a folder that gets a copy of the reports.

        Raises
        ------
        NotFoundError
            There is no such model.
        StoreBusy
            Somebody else is monitoring the model this very moment.
        """
        monitors = self._parts.declarations.monitors
        if model is not None and model not in monitors:
            raise NotFoundError.among("model", model, monitors)
        home = self._parts.settings.home
        compact(self._parts.lake, home)
        found = []
        for monitor in [monitors[model]] if model is not None else list(monitors.values()):
            lock = self._parts.settings.locks_dir / f"monitor-{monitor.name}.lock"
            with exclusive(lock, f"the monitoring of {monitor.name}", patience=60.0):
                now = self._parts.clock.now() if until is None else until
                found.append(self._one(_Work(monitor, now), reports))
        return found

    def status(self) -> list[Trouble]:
        """What is wrong now, worst first: alerts, stale features, runs that failed, paused schedules, holds."""
        return troubles(self._parts, self.desk)

    def alerts(
        self, model: str | None = None, *, state: Collection[AlertState] = ("open", "acknowledged"), limit: int = 100
    ) -> Sequence[Alert]:
        """Alerts, worst first."""
        return self.desk.list(state=state, model=model, limit=limit)

    def acknowledge(self, id: int, *, why: str, by: str | None = None) -> Alert:
        """Say that somebody is looking into an alert."""
        return self.desk.acknowledge(id, why=why, by=by)

    def resolve(self, id: int, *, why: str, by: str | None = None) -> Alert:
        """Say that an alert is over."""
        return self.desk.resolve(id, why=why, by=by)

    def silence(self, key: str, *, length: str, why: str, by: str | None = None) -> Silence:
        """Tell nobody of the alerts whose key begins with ``key``, for a while."""
        return self.desk.silence(key, length=length, why=why, by=by)

    def _one(self, work: _Work, reports: Path | None) -> Watched:
        monitor, parts = work.monitor, self._parts
        champion = parts.registry.champion(monitor.name)
        if champion is None:
            return Watched(model=monitor.name, said="no version is live, so there is nothing to watch")
        first = first_moment(parts, monitor.name)
        if first is None:
            return Watched(model=monitor.name, said="no prediction is logged yet")
        work.first = first
        told: list[Told] = []
        due = self._due(work)
        for number, window in enumerate(due):
            parts.progress(f"monitor {monitor.name}", number, len(due))
            told.append(self._window(work, window, last=number == len(due) - 1))
        if not due:
            told.append(self._again(work, champion))
        alerts = [a for a in told[-1].alerts if a.state != "resolved"] if told else []
        last = next((r for r in reversed(work.windows) if r.version is not None), None)
        version = champion if last is None else parts.registry.show(monitor.name, last.version or champion.version)
        actions = react(parts, self._models, self._runs, monitor, version, alerts)
        written = self._write(work, alerts, reports)
        return Watched(
            model=monitor.name,
            said=_said(work, due, len([a for a in alerts if a.state == "open"])),
            windows=tuple(work.windows),
            alerts=tuple(a for a in alerts if a.state == "open" and not _silent(a)),
            resolved=tuple(a for each in told for a in each.resolved),
            actions=tuple(actions),
            reports=tuple(written),
            warnings=tuple(dict.fromkeys(work.warnings)),
        )

    def _due(self, work: _Work) -> list[Window]:
        """Windows that have ended and were not looked at yet."""
        done = self._parts.metadata.figures.models().get(work.monitor.name)
        since = max(done[0], work.first) if done else work.first
        return list(ended(since, work.now, work.monitor.length))[:MOST]

    def _watch(self, work: _Work, window: Window) -> Watch:
        """The watch of the version that answered most of a window; of the live one if nothing was predicted."""
        versions = look(self._parts, work.monitor.name, window).versions
        return self._watch_of(work, self._record(work.monitor.name, versions))

    def _watch_of(self, work: _Work, record: VersionRecord) -> Watch:
        if record.version not in work.watches:
            work.watches[record.version] = Watch(self._parts, work.monitor, record, work.first)
        return work.watches[record.version]

    def _record(self, model: str, versions: Sequence[int] | dict[int, int]) -> VersionRecord:
        for version in versions:
            try:
                return self._parts.registry.show(model, version)
            except HeadwayError:  # a version of another checkout: the next one, or the live one
                continue
        champion = self._parts.registry.champion(model)
        assert champion is not None
        return champion

    def _window(self, work: _Work, window: Window, *, last: bool) -> Told:
        """Look at one window for the first time."""
        parts, monitor = self._parts, work.monitor
        watch = self._watch(work, window)
        before = [
            f
            for f in parts.metadata.figures.windows(monitor.name, since=window.start - 1)
            if f.window_end == window.start
        ]
        counts, figures = watch.figures(window, before)
        judged, notes = watch.judge.figures(window, work.now)
        figures += judged
        if in_part(window, counts):
            notes = [*notes, "There are predictions in a part of this window only, so its columns were not judged."]
        if last:
            figures += watch.judge.together(window)
            more, said = self._present(watch.record, window, work.now)
            figures += more
            notes += said
        self._put(figures)
        later = self._later(work, window) if last else []
        self._put(later)
        work.windows.append(self._report(work, watch, window, counts, figures, notes))
        return self._raise(work, [*figures, *later], [], tell=last)

    def _again(self, work: _Work, champion: VersionRecord) -> Told:
        """No window has ended since the last time: look at the newest one's labels, and at sources and online
        features as they are now."""
        stored = self._parts.metadata.figures.latest(work.monitor.name)
        if not stored:
            return Told()
        window = Window(stored[0].window_start, stored[0].window_end)
        now, _ = self._present(champion, window, work.now)
        later = self._later(work, Window(window.end, window.end + work.monitor.length))
        names = {(f.kind, f.name, f.segment) for f in (*now, *later)}
        gone = [
            msgspec.structs.replace(f, alarm=False, said=f"no longer found: {f.said}")
            for f in stored
            if f.alarm and "source" in f.details and (f.kind, f.name, f.segment) not in names
        ]
        self._put([*now, *later, *gone])
        names |= {(f.kind, f.name, f.segment) for f in gone}
        still = [f for f in stored if (f.kind, f.name, f.segment) not in names]
        return self._raise(work, [*now, *later], still, tell=True)

    def _present(self, record: VersionRecord, window: Window, now: int) -> tuple[list[Figure], list[str]]:
        """Sources and online features as they are now; they are filed under the newest window."""
        model = self._parts.declarations.models[record.model]
        found, notes = skew(self._parts, record, window, now)
        return [*source_figures(self._parts, model, record, window), *found], notes

    def _later(self, work: _Work, window: Window) -> list[Figure]:
        """Figures of earlier windows whose labels have come since they were looked at."""
        figures = self._parts.metadata.figures
        since = window.start - _LOOK_BACK * work.monitor.length
        volumes = figures.windows(work.monitor.name, kind="volume", name="rows", segment=None, since=since)
        found: list[Figure] = []
        for each in volumes:
            if each.window_end > window.start or not each.n:
                continue
            place = Window(each.window_start, each.window_end)
            known = [
                f for f in figures.windows(work.monitor.name, segment=None, since=place.start) if _is_judged(f, place)
            ]
            if any(f.kind == "performance" and (f.details.get("labelled") or 0) >= _COMPLETE for f in known):
                continue
            watch = self._watch_of(
                work, self._record(work.monitor.name, [] if each.version is None else [each.version])
            )
            judged, _ = watch.judge.figures(place, work.now, estimated=any(f.kind == "estimate" for f in known))
            found += judged
        return found

    def _put(self, figures: Sequence[Figure]) -> None:
        if figures:
            self._parts.metadata.figures.put(figures, WallClock().now())

    def _raise(self, work: _Work, found: Sequence[Figure], still: Sequence[Figure], *, tell: bool) -> Told:
        monitor = work.monitor
        newest: dict[tuple[str, str, str | None], Figure] = {}
        for figure in sorted(found, key=lambda f: f.window_end):
            newest[figure.kind, figure.name, figure.segment] = (
                figure  # of a metric, the newest window that has its labels
            )
        told = self.desk.round(
            alerts_of(monitor, list(newest.values())),
            _looked_at(monitor.name, newest.values()),
            still=[a.key for a in alerts_of(monitor, still)],
            tell=tell,
        )
        work.warnings += [f"{d.channel} was not told: {d.error}" for d in told.deliveries if not d.ok]
        return told

    def _report(
        self,
        work: _Work,
        watch: Watch,
        window: Window,
        counts: WindowCounts,
        figures: Sequence[Figure],
        notes: Sequence[str],
    ) -> WindowReport:
        parts, monitor = self._parts, work.monitor
        reference = watch.reference.note
        if monitor.reference == "previous":
            reference = f"the windows before, on the bins of {reference}"
        return WindowReport(
            project=parts.settings.project,
            env=parts.settings.env,
            model=monitor.name,
            version=watch.record.version,
            window_start=window.start,
            window_end=window.end,
            rows=counts.rows,
            reference=f"version {watch.record.version}: {reference}",
            made_at=WallClock().now(),
            figures=tuple(figures),
            notes=tuple(notes),
            blind=_blind(watch, figures),
            runbook=monitor.runbook,
        )

    def _write(self, work: _Work, alerts: Sequence[Alert], copies: Path | None) -> list[str]:
        """Write the reports of the windows just looked at: HTML and JSON, complete or not at all."""
        figures = self._parts.metadata.figures
        history: list[Figure] = []
        for kind in _FOLLOWED if work.windows else ():
            history += figures.windows(work.monitor.name, kind=kind, segment=None, limit=_HISTORY)  # type: ignore[arg-type]
        written = []
        folder = self._parts.settings.home / "reports" / work.monitor.name
        for report in work.windows:
            whole = msgspec.structs.replace(
                report,
                history=tuple(f for f in history if f.window_end <= report.window_end),
                alerts=tuple(alerts) if report is work.windows[-1] else (),
            )
            for suffix, content in (("json", to_json(whole)), ("html", to_html(whole).encode())):
                path = folder / f"{report.name}.{suffix}"
                fresh = path.with_suffix(".new")
                write_bytes(fresh, content)
                fresh.replace(path)
                if copies is not None:
                    copies.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copies / f"{work.monitor.name}_{path.name}")
            written.append(str(folder / f"{report.name}.html"))
        return written


def _looked_at(model: str, figures: Iterable[Figure]) -> list[str]:
    """Beginnings of the keys of alerts that would have been found again if they still stood. Performance is only
    looked at where there are labels; where there are, what was estimated is over."""
    found = [f"{model}/{kind}" for kind in KINDS if kind not in ("performance", "estimate")]
    for figure in figures:
        if figure.kind in ("performance", "estimate"):
            found.append(key_of(figure))
        if figure.kind == "performance":
            found.append(key_of(msgspec.structs.replace(figure, kind="estimate")))
    return found


def _is_judged(figure: Figure, window: Window) -> bool:
    return figure.kind in ("performance", "estimate") and figure.window_end == window.end


def _silent(alert: Alert) -> bool:
    return alert.silenced_until is not None and alert.silenced_until > WallClock().now()


def _said(work: _Work, due: Sequence[Window], alerts: int) -> str:
    length = work.monitor.window
    stand = f"; {alerts} alert{'s stand' if alerts > 1 else ' stands'}" if alerts else ""
    if not due:
        return f"no window of {length} has ended since the last one that was looked at{stand}"
    rows = sum(report.rows for report in work.windows)
    of = f"{len(due)} windows of {length}" if len(due) > 1 else f"a window of {length}"
    more = "; there are more, run it again" if len(due) == MOST else ""
    return f"{of} until {to_iso(due[-1].end)}, {rows:,} predictions{more}{stand}"


def _blind(watch: Watch, figures: Sequence[Figure]) -> tuple[str, ...]:
    """What the figures of a window cannot show, in sentences."""
    found = ["A figure alarms only beyond what is tolerated and beyond what earlier windows did: less does not show."]
    kinds = {f.kind for f in figures}
    if not any(f.details.get("check") == "together" and f.method.startswith("history") for f in figures):
        found.append("Drift is looked for in each column by itself: a change of how columns go together does not show.")
    if "performance" not in kinds:
        found.append("There are no labels for this window yet, so nothing here says how right the predictions were.")
    found += [f"What is estimated without labels {f.details['assumes']}." for f in figures if "assumes" in f.details]
    if watch.reference.whole.columns is None:
        found.append(f"Columns were not compared: {watch.reference.note}.")
    if not watch.reference.segments and watch.record.serving.segment and watch.monitor.segments:
        found.append("No segment has enough rows in the reference to be compared on its own.")
    return tuple(dict.fromkeys(found))
