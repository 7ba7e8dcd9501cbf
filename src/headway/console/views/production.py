"""What is in production: one row per model and segment, from the deployment log, versions and monitoring."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headway.console.views.features import freshness
from headway.define.records import Deployment
from headway.define.watch_records import Alert
from headway.metadata import Answering, VersionBrief, answering

Decided = Mapping[str, Mapping[str | None, Answering]]
Pairs = Mapping[tuple[str, int], VersionBrief]


@dataclass(frozen=True, slots=True)
class Drift:
    """What monitoring said last. ``end`` is the end of the newest window; None: never looked."""

    end: int | None
    alarms: int

    @property
    def look(self) -> str:
        return "plain" if self.end is None else "warn" if self.alarms else "good"

    @property
    def said(self) -> str:
        if self.end is None:
            return "not watched"
        return f"{self.alarms} alarm{'s' if self.alarms != 1 else ''}" if self.alarms else "no drift"


@dataclass(frozen=True, slots=True)
class Row:
    """A model in one segment (None: all that have no row of their own)."""

    model: str
    segment: str | None
    own: bool  # decided for this segment alone
    record: VersionBrief | None
    previous: VersionBrief | None
    answering: Answering | None
    figure: float | None
    before: float | None  # the previous version's figure
    same_rows: bool  # measured on the rows that ``figure`` was
    baseline: float | None
    drift: Drift
    fresh: tuple[str, str] | None  # look and word, of the model's features together
    alerts: tuple[Alert, ...]
    versions: int

    @property
    def version(self) -> int | None:
        return self.answering.version if self.answering else None

    @property
    def line(self) -> Deployment | None:
        return self.answering.line if self.answering else None

    @property
    def metric(self) -> str:
        return self.record.metric if self.record else ""

    @property
    def change(self) -> float | None:
        """The figure against the previous version's, as a share of it; None where they are of different rows."""
        if self.figure is None or not self.before or not self.same_rows:
            return None
        return (self.figure - self.before) / abs(self.before)

    @property
    def change_look(self) -> str:
        """Whether the change is for the better; plain where it is next to nothing."""
        if self.change is None or self.record is None or abs(self.change) < 0.0005:
            return "muted"
        return "good" if (self.change > 0) == self.record.greater_is_better else "bad"

    @property
    def fine(self) -> bool:
        """Watched, and nothing wrong: no alert, no alarm, features not late."""
        late = self.fresh is not None and self.fresh[0] in ("warn", "bad")
        return self.drift.end is not None and not (self.alerts or self.drift.alarms or late)

    @property
    def worst(self) -> str:
        """The worst severity of the alerts."""
        return min((a.severity for a in self.alerts), key=("critical", "warning", "info").index, default="")

    @property
    def text(self) -> str:
        """What the filter looks into."""
        line, record = self.line, self.record
        words = [self.model, self.segment or "all segments", self.drift.said]
        words += [f"@{line.version}", line.by, line.why] if line else ["nothing live"]
        words += [record.commit or "", record.metric] if record else []
        words += [self.fresh[1] if self.fresh else "", "held" if self.answering and self.answering.hold else ""]
        return " ".join([*words, *("alert" for _ in self.alerts[:1])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was read from the metadata, once for all rows."""

    lines: Mapping[str, Sequence[Deployment]]
    counts: Mapping[str, int]
    windows: Mapping[str, tuple[int, int]]
    alarms: Mapping[str, Mapping[str | None, int]]
    alerts: Sequence[Alert]
    as_of: Mapping[str, int]  # fingerprint → the last refresh
    now: int  # of the environment's clock


def decided(facts: Facts) -> Decided:
    """Model → segment → what answers, as far as the log names segments."""
    return {model: answering(log) for model, log in facts.lines.items()}


def wanted(found: Decided) -> set[tuple[str, int]]:
    """The versions whose records the rows need."""
    return {
        (model, version)
        for model, segments in found.items()
        for each in segments.values()
        for version in (each.version, each.previous)
        if version is not None
    }


def rows(names: Iterable[str], facts: Facts, first: Decided, records: Pairs) -> list[Row]:
    """The rows of all models, each model's own first, then its segments by name. ``first`` is what ``decided``
    found, ``records`` those of the versions ``wanted``."""
    found: list[Row] = []
    for name in names:
        versions = {each.version for each in first.get(name, {}).values()}
        known = {s for v in versions if (r := records.get((name, v))) for s in r.segment_metrics}
        now = answering(facts.lines[name], known) if known else first.get(name, {})
        fresh = {v: _freshness(r, facts) for v in versions if (r := records.get((name, v)))}
        alerts = _by_segment([a for a in facts.alerts if a.model == name], {None, *now})
        segments: list[str | None] = sorted(now, key=lambda s: (s is not None, s or "")) or [None]
        found += [_row(name, each, now.get(each), facts, records, fresh, alerts.get(each, ())) for each in segments]
    return found


def _by_segment(alerts: Sequence[Alert], known: Collection[str | None]) -> dict[str | None, tuple[Alert, ...]]:
    """Alerts by segment; those of a segment without a row stand with the model."""
    found: dict[str | None, tuple[Alert, ...]] = {}
    for alert in alerts:
        segment = alert.segment if alert.segment in known else None
        found[segment] = (*found.get(segment, ()), alert)
    return found


def _row(
    model: str,
    segment: str | None,
    found: Answering | None,
    facts: Facts,
    records: Pairs,
    fresh: Mapping[int, tuple[str, str] | None],
    alerts: tuple[Alert, ...],
) -> Row:
    record = records.get((model, found.version)) if found else None
    previous = records.get((model, found.previous)) if found and found.previous is not None else None
    before, same_rows = _before(record, previous, found, segment)
    return Row(
        model=model,
        segment=segment,
        own=found is not None and segment is not None and found.line.segment == segment,
        record=record,
        previous=previous,
        answering=found,
        figure=_figure(record, segment),
        before=before,
        same_rows=same_rows,
        baseline=record.baseline.get(record.metric) if record and segment is None else None,
        drift=_drift(model, segment, facts),
        fresh=fresh.get(found.version) if found else None,
        alerts=alerts,
        versions=facts.counts.get(model, 0),
    )


def _before(
    record: VersionBrief | None, previous: VersionBrief | None, found: Answering | None, segment: str | None
) -> tuple[float | None, bool]:
    """The previous version's figure, and whether it is of the same rows: the gate's where it compared these two, else
    the one it was registered with."""
    if record is None or previous is None or found is None:
        return None, False
    figures = found.line.figures
    if (
        segment is None
        and figures.get("champion_version") == previous.version
        and figures.get("metric") == record.metric
    ):
        return figures.get("champion"), True
    same = (record.cut, record.test_rows) == (previous.cut, previous.test_rows)
    return _figure(previous, segment, record.metric), same


def _figure(record: VersionBrief | None, segment: str | None, metric: str = "") -> float | None:
    if record is None:
        return None
    return record.figures(segment).get(metric or record.metric)


def _drift(model: str, segment: str | None, facts: Facts) -> Drift:
    if model not in facts.windows:
        return Drift(None, 0)
    return Drift(facts.windows[model][0], facts.alarms.get(model, {}).get(segment, 0))


_WORST = ("bad", "warn", "good", "plain")


def _freshness(record: VersionBrief, facts: Facts) -> tuple[str, str] | None:
    """The stalest of the views a version reads online; None for a version that reads none."""
    states = [freshness(u.plan, facts.as_of.get(u.plan.fingerprint), facts.now) for u in record.views]
    return min(states, key=lambda state: _WORST.index(state[0]) if state[0] in _WORST else 9, default=None)


def with_freshness(facts: Facts, as_of: Mapping[str, int]) -> Facts:
    """The facts with the last refreshes of views."""
    return replace(facts, as_of=as_of)
