"""The figures of one window of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from headway.define import Monitor
from headway.define.records import VersionRecord
from headway.define.watch_records import Figure
from headway.errors import BindingError, HeadwayError, suggest
from headway.monitor import Counts, Profile, count, drift
from headway.orchestrate._parts import Parts
from headway.orchestrate.monitoring._counting import GroupCounts, WindowCounter, WindowCounts
from headway.orchestrate.monitoring._judging import Judge
from headway.orchestrate.monitoring._label_source import label_source_figures
from headway.orchestrate.monitoring._windows import Window, before
from headway.orchestrate.monitoring.reference import Reference, SegmentReference, read_reference
from headway.orchestrate.verification import verify_plans
from headway.train._metrics import for_task

_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_LATE = 0.01  # share of rows that may be served late values before somebody is told
_PREVIOUS = 4  # windows that are the reference of reference="previous"
_HELD_AGAINST_HISTORY = frozenset({"drift", "missing", "prediction"})
LEAST_SEGMENT = 50  # rows of a segment below which its window says nothing


def cycle_of(length: int) -> int:
    """After how many windows things repeat themselves: a week of days or of hours, else at once."""
    return {_DAY: 7, _HOUR: 168}.get(length, 1)


def history_of(length: int) -> int:
    """How many windows before one are looked at: enough of the same weekday or hour, and not without end."""
    return min(400, max(56, 17 * cycle_of(length)))


@dataclass(eq=False)
class Watch:
    """One version of a model, watched by its monitor: counts windows and compares them with the reference."""

    parts: Parts
    monitor: Monitor
    record: VersionRecord
    first: int  # the earliest moment of the log
    reference: Reference = field(init=False)
    counter: WindowCounter = field(init=False)
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        model = self.parts.declarations.models.get(self.record.model)
        whole = read_reference(self.parts, model, self.record, self.monitor.length)
        known = [c.name for c in self.record.serving.columns]
        for name in self.monitor.columns:
            if name not in known:
                raise BindingError(
                    f"monitor {self.monitor.name!r} ({self.monitor.place}): version {self.record.version} has no column"
                    f" {name!r}; {suggest(name, known)}"
                )
        _check_metrics(self.monitor, self.record)
        self.reference = whole.only(self.monitor.columns)
        self.counter = WindowCounter(self.parts, self.record, self.reference, self.monitor.segments)
        self.judge = Judge(self.parts, self.monitor, self.record, self.reference)

    def figures(self, window: Window, previous: Sequence[Figure]) -> tuple[WindowCounts, list[Figure]]:
        """The counts of a window and its figures of drift, missing values, predictions and volume, overall and by
        segment; ``previous`` are those of the window before.

        Of a window that rows cover only in part there is the volume alone: two days of a week are no week.
        """
        counts = self.counter.counts(window)
        length = self.monitor.length
        volumes = self.parts.metadata.figures.windows(
            self.record.model, kind="volume", name="rows", since=window.start - 4 * history_of(length) * length
        )
        if in_part(window, counts):
            volume = self._volume(window, None, counts.whole, volumes, previous)
            return counts, [self._with_versions(volume, counts), *self._states(window, counts)]
        past = [self._past(each) for each in self._before(window, volumes)]
        found = self._group(window, None, self.reference.whole, counts.whole, past, previous, volumes, 1)
        found = [self._with_versions(f, counts) if f.kind == "volume" else f for f in found]
        big = {n: g for n, g in counts.segments.items() if g.rows >= LEAST_SEGMENT}
        for name, group in big.items():
            own = [None if p is None else _only_group(p, name) for p in past]
            figures = self._group(window, name, self.reference.segments[name], group, own, previous, volumes, len(big))
            found += [_without_history(f) for f in figures]
        found += self._source(window, previous) if counts.rows else []
        found = [_not_critical(f) for f in found]
        return counts, [*found, *self._states(window, counts)]

    def _source(self, window: Window, previous: Sequence[Figure]) -> list[Figure]:
        """The rows that labels come from, those of the window against those of the training. Those of a day or an hour
        would have to be held against the same weekday or hour, which the training's own windows are too few for."""
        model, profile = self.parts.declarations.models.get(self.record.model), self.reference.source
        if model is None or cycle_of(self.monitor.length) > 1:
            return []
        past = [p.counts for p in self.reference.source_past if p.end <= window.start]
        return label_source_figures(self.parts, model, self.record, profile, past, window, previous)

    def _before(self, window: Window, volumes: Sequence[Figure]) -> list[Window]:
        """The windows before one that it is held against. Where nothing repeats itself, those without rows are left
        out, so that a model that rested for months is compared with how it was before; else each keeps its place in
        the cycle."""
        length = self.monitor.length
        if cycle_of(length) > 1:
            return before(window, history_of(length))
        found = {Window(f.window_start, f.window_end) for f in volumes if f.n and f.segment is None}
        found |= {Window(each.start, each.end) for each in self.reference.past}
        return sorted(w for w in found if w.end <= window.start and w.end - w.start == length)[-history_of(length) :]

    def _past(self, window: Window) -> WindowCounts | None:
        """An earlier window: as it was logged, or, from before the log began, as the training set has it."""
        if window.end > self.first:
            counts = self.counter.counts(window, again=False)
            if counts.rows:
                return counts
        for each in self.reference.past:
            if (each.start, each.end) == window:
                return WindowCounts(each.counts.rows, {}, GroupCounts(each.counts.rows, each.counts))
        return None

    def _group(
        self,
        window: Window,
        segment: str | None,
        reference: SegmentReference,
        counts: GroupCounts,
        past: Sequence[WindowCounts | None],
        previous: Sequence[Figure],
        volumes: Sequence[Figure],
        segments: int,
    ) -> list[Figure]:
        before_it = [f for f in previous if f.segment == segment]
        found: list[Figure] = []
        for profile, now, history in (
            (reference.columns, counts.columns, [None if p is None else p.whole.columns for p in past]),
            (reference.predictions, counts.predictions, [None if p is None else p.whole.predictions for p in past]),
        ):
            if profile is None:
                continue
            # Drift counts are of a sample of the log where the profile was made anew; on other bins they say nothing.
            same = [h if h is not None and h.profile == profile.digest else None for h in history]
            figures = drift(
                self._base(profile, same),
                now or nothing(profile),
                model=self.record.model,
                window=window,
                version=self.record.version,
                segment=segment,
                history=same,
                cycle=cycle_of(self.monitor.length),
                previous=before_it,
                segments=segments,
            )
            found += [f for f in figures if f.kind != "volume"]
        return [*found, self._volume(window, segment, counts, volumes, before_it)]

    def _volume(
        self,
        window: Window,
        segment: str | None,
        counts: GroupCounts,
        volumes: Sequence[Figure],
        previous: Sequence[Figure],
    ) -> Figure:
        """How many predictions there were, against the windows that were logged: the training set's rows are no
        predictions."""
        known = {f.window_start: f.n for f in volumes if f.segment == segment}
        past = [known.get(each.start) for each in before(window, history_of(self.monitor.length))]
        rows = [None if n is None else Counts("", n, {}) for n in past]
        since = next((n for n, each in enumerate(rows) if each is not None), len(rows))
        (figure,) = drift(
            Profile(0, {}, ""),
            Counts("", counts.rows, {}),
            model=self.record.model,
            window=window,
            version=self.record.version,
            segment=segment,
            history=rows[since:],
            cycle=cycle_of(self.monitor.length),
            previous=previous,
        )
        return figure

    def _base(self, profile: Profile, history: Sequence[Counts | None]) -> Profile:
        """The profile to compare with: the version's own, or, with ``reference="previous"``, the windows before on its
        bins, as soon as there are some."""
        known = [h for h in history[-_PREVIOUS:] if h is not None and h.rows]
        if self.monitor.reference != "previous" or not known:
            return profile
        rows = known[0]
        for each in known[1:]:
            rows = rows + each
        columns = {
            name: msgspec.structs.replace(column, counts=rows.columns[name])
            for name, column in profile.columns.items()
            if rows.columns[name].type
        }
        return msgspec.structs.replace(profile, rows=rows.rows, columns={**profile.columns, **columns})

    def _with_versions(self, figure: Figure, counts: WindowCounts) -> Figure:
        """A volume figure that also says which versions answered."""
        others = {v: n for v, n in counts.versions.items() if v != self.record.version}
        said = figure.said
        if others:
            told = ", ".join(f"version {v}: {n:,}" for v, n in others.items())
            said = f"{said}; {sum(others.values()):,} of them answered by another version ({told})"
        versions = {str(v): n for v, n in counts.versions.items()}
        return msgspec.structs.replace(figure, said=said, details={**figure.details, "versions": versions})

    def _states(self, window: Window, counts: WindowCounts) -> list[Figure]:
        """Features that were served late, or as null because they had expired: not what training assumed."""
        found = []
        for feature, states in counts.states.items():
            rows = states.get("late", 0) + states.get("expired", 0)
            if not rows:
                continue
            share = rows / max(counts.rows, 1)
            alarm = share > _LATE
            said = (
                f"{feature} was served late or expired in {share:.1%} of the rows, more than training assumes"
                if alarm
                else f"{feature} was served late or expired in {share:.2%} of the rows"
            )
            found.append(
                Figure(
                    model=self.record.model,
                    version=self.record.version,
                    kind="skew",
                    name=f"{feature}/late",
                    window_start=window.start,
                    window_end=window.end,
                    n=counts.rows,
                    statistic=share,
                    effect=share,
                    threshold=_LATE,
                    method="share of rows served late",
                    alarm=alarm,
                    severity="warning" if alarm else "info",
                    said=said,
                    details={"column": feature, **states},
                )
            )
        return found


def in_part(window: Window, counts: WindowCounts) -> bool:
    """Whether a fifth of a window or more lies before its first row or after its last one."""
    if counts.span is None:
        return False
    slack = (window.end - window.start) // 5
    return counts.span[0] - window.start > slack or window.end - counts.span[1] > slack


def _by_history(figure: Figure) -> bool:
    return figure.kind not in _HELD_AGAINST_HISTORY or figure.method.startswith("history")


def _without_history(figure: Figure) -> Figure:
    """A segment's rows are few and move together: what it does is told, but alarms only against its own history."""
    if not figure.alarm or _by_history(figure):
        return figure
    return msgspec.structs.replace(figure, alarm=False, severity="info")


def _not_critical(figure: Figure) -> Figure:
    """What has no history to be held against may be how things are."""
    if figure.severity != "critical" or _by_history(figure):
        return figure
    return msgspec.structs.replace(figure, severity="warning")


def _check_metrics(monitor: Monitor, record: VersionRecord) -> None:
    possible = for_task(record.serving.task)
    for name in monitor.metrics:
        if name not in possible:
            raise BindingError(
                f"monitor {monitor.name!r} ({monitor.place}): {name!r} is no metric of a {record.serving.task} model;"
                f" there are {', '.join(possible)}"
            )


def nothing(profile: Profile) -> Counts:
    """The counts of no rows."""
    return count(profile, pa.table({}))


def skew(parts: Parts, record: VersionRecord, window: Window, now: int) -> tuple[list[Figure], list[str]]:
    """What the online store serves against what history says it should, for the views of a version; and, in
    sentences, what could not be verified."""
    plans = {use.plan.fingerprint: use.plan for use in record.serving.views if use.plan.online}
    found, notes = [], []
    for plan in plans.values():
        try:
            (result,) = verify_plans(parts, [plan], since=now - (window.end - window.start))
        except HeadwayError as error:
            notes.append(f"{plan.name} could not be verified: {error}")
            continue
        if result.as_of is None:
            notes.append(f"{plan.name} is not in the online store, so there was nothing to verify")
            continue
        differ, wrong = sum(result.differences.values()), result.wrong
        share = min(wrong / max(result.values, 1), 1.0)
        late = result.late > result.late_limit
        words = [
            f"{differ:,} of {result.values:,} served values differ from what history says" if differ else "",
            f"{wrong - differ:,} rows are lost, of nobody, damaged or of the future" if wrong > differ else "",
            f"the store was behind for {result.late:.1%} of the time" if late else "",
        ]
        said = f"{plan.name}: " + (" and ".join(w for w in words if w) or "served values are those of history")
        found.append(
            Figure(
                model=record.model,
                version=record.version,
                kind="skew",
                name=plan.name,
                window_start=window.start,
                window_end=window.end,
                n=result.values,
                statistic=share,
                effect=share,
                threshold=0.0,
                method="features verify",
                alarm=not result.passed,
                severity="critical" if wrong else "warning" if late else "info",
                said=said,
                details={"differences": result.differences, "late": result.late, "as_of": result.as_of},
            )
        )
    return found, notes


def _only_group(counts: WindowCounts, segment: str) -> WindowCounts | None:
    """A past window with one segment in the place of the whole."""
    group = counts.segments.get(segment)
    return None if group is None else WindowCounts(group.rows, counts.versions, group)
