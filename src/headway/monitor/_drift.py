"""Is a window different from the reference, and from the windows before it? One figure per column and question."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from headway.define.watch_records import Figure, FigureKind, Severity
from headway.errors import UsageError
from headway.monitor import _words
from headway.monitor._bins import SPIKE
from headway.monitor._compare import SHAPE, Comparison, Distance, change, compare, growth
from headway.monitor._profile import ColumnCounts, ColumnProfile, Counts, Profile
from headway.monitor._statistics import BEFORE, ENOUGH, benjamini_hochberg, history_limit

Check = Literal["shape", "missing", "unseen", "range", "stuck"]
# An alarm of a window whose figure is so many times its threshold is critical at once.
_FAR = 4.0
# The number of rows may change by this much (as a logarithm): with a history, and without.
_LEAST_CHANGE, _FEW_WINDOWS = float(np.log(1.25)), float(np.log(2.0))


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a column: which counts tell (a vector), how they are compared, and what figure it makes."""

    check: Check
    kind: FigureKind
    distance: Distance
    vector: Callable[[ColumnProfile, ColumnCounts], tuple[float, ...]]


def _stuck(profile: ColumnProfile, counts: ColumnCounts) -> tuple[float, ...]:
    """Rows at exactly the window's greatest (or least) value, beyond those the reference has in the whole bin around
    it: many where a column is clipped. The reference's own ends and spikes are where values pile up by nature."""
    natural = {*profile.spikes, profile.counts.low, profile.counts.high}
    excess = 0.0
    for value, rows in ((counts.low, counts.at_low), (counts.high, counts.at_high)):
        if value is not None and value not in natural:
            usual = _around(profile, value)
            if profile.values is None or usual <= SPIKE:
                excess = max(excess, rows - usual * counts.there)
    return (excess, counts.there - excess)


def _around(profile: ColumnProfile, value: float) -> float:
    """The share of the reference in the bin that a number falls into."""
    bins = profile.counts.bins
    if profile.values is None:
        inside = bins[bisect_left(profile.cuts, value)]
    else:
        inside = bins[profile.values.index(value)] if value in profile.values else 0
    return inside / max(profile.counts.there, 1)


# The shares that may come without an alarm are given as angles: from none, 0.025 is 0.06 % of the rows, 0.05 is 0.25 %,
# 0.1 is 1 %, 0.15 is 2.2 %; from 6 %, 0.025 is another 1.3 %.
QUESTIONS = (
    Question("shape", "drift", SHAPE, lambda _, c: (*c.bins, c.unseen, c.infinite)),
    Question("missing", "missing", change(0.025), lambda _, c: (c.missing, c.there)),
    Question("unseen", "quality", growth(0.05), lambda _, c: (c.unseen, c.there - c.unseen)),
    Question("range", "quality", growth(0.1), lambda _, c: (c.below + c.above, c.there - c.below - c.above)),
    Question("stuck", "quality", growth(0.15), _stuck),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question put to a column of this window."""

    name: str
    profile: ColumnProfile
    counts: ColumnCounts
    question: Question
    vector: np.ndarray
    found: tuple[Comparison, ...]

    @property
    def p(self) -> float:
        """That either comparison is chance."""
        return min(1.0, min(each.p for each in self.found) * len(self.found))


def drift(
    profile: Profile,
    counts: Counts,
    *,
    model: str,
    window: tuple[int, int],
    version: int | None = None,
    segment: str | None = None,
    history: Sequence[Counts | None] = (),
    cycle: int = 1,
    predictions: Collection[str] = ("prediction",),
    previous: Sequence[Figure] = (),
    alpha: float = 0.05,
    segments: int = 1,
) -> list[Figure]:
    """What differs in a window from the reference and from the windows before it.

    Parameters
    ----------
    profile, counts
        The reference, and the window's rows counted on it.
    window
        Its start and end.
    history
        Counts of the windows just before it, oldest first, without gaps: None for a window without rows. Those of the
        reference's own time may come first. With 12 of them (and 4 before those) the thresholds are those of the
        column's own history; before that, those of sampling.
    cycle
        After how many windows things repeat themselves: 7 where windows are days, 168 where they are hours.
    predictions
        Columns that are the model's answers: their figures are of the kind ``prediction``.
    previous
        The figures of the window before: what alarms twice in a row is critical.
    segments
        How many segments are judged beside this one; ``alpha`` is divided by it.

    Returns
    -------
    For each column its ``drift`` (or ``prediction``) and ``missing`` figure, ``quality`` figures where there is
    something to say, and one ``volume`` figure. ``p`` is adjusted for the number of columns, ``effect`` is the PSI or
    the change of the share against the base that is named in ``details["against"]``.
    """
    for each in (counts, *history):
        if each is not None and each.profile != profile.digest:
            raise UsageError("these counts are of another profile; count the rows again with this one")
    place = {"model": model, "version": version, "segment": segment, "window_start": window[0], "window_end": window[1]}
    level = alpha / max(1, segments)
    alarmed = {(figure.kind, figure.name): _windows(figure) for figure in previous if figure.alarm}
    shown = []
    for question in QUESTIONS:
        asked = list(_ask(question, profile, counts, history, cycle))
        adjusted = benjamini_hochberg([each.p for each in asked]) if asked else []
        shown += [_figure(each, p, level, place) for each, p in zip(asked, adjusted, strict=True)]
    shown += [*_columns(profile, counts, history, place), _volume(counts, history, cycle, place)]
    named = (_of_prediction(each) if each.name in predictions and each.kind == "drift" else each for each in shown)
    return [_judged(each, alarmed.get((each.kind, each.name), 0)) for each in named if _worth(each)]


def _windows(figure: Figure) -> int:
    """How many windows in a row have alarmed."""
    return int(figure.details.get("windows", 1))


def _of_prediction(figure: Figure) -> Figure:
    return msgspec.structs.replace(figure, kind="prediction")


def _worth(figure: Figure) -> bool:
    """Every column has figures of drift and of missing values; of quality only where there is something to see."""
    return figure.kind != "quality" or figure.alarm or bool(figure.statistic)


def _judged(figure: Figure, before: int) -> Figure:
    """With its severity: an alarm is critical if it is the second in a row, or far beyond its threshold."""
    if not figure.alarm:
        return figure
    far = bool(figure.kind != "quality" and figure.threshold and (figure.statistic or 0) > _FAR * figure.threshold)
    severity: Severity = "critical" if before or far or figure.severity == "critical" else "warning"
    return msgspec.structs.replace(figure, severity=severity, details={**figure.details, "windows": before + 1})


def _ask(
    question: Question, profile: Profile, counts: Counts, history: Sequence[Counts | None], cycle: int
) -> Iterator[Asked]:
    phase = -np.arange(len(history), 0, -1) % max(1, cycle)
    for name, column in profile.columns.items():
        now = counts.columns[name]
        if not _applies(question.check, column, now):
            continue
        reference = np.array(question.vector(column, column.counts), dtype=np.float64)
        nothing = (0.0,) * len(reference)
        past = [nothing if c is None else _same(question.vector(column, c.columns[name]), nothing) for c in history]
        matrix = np.array(past, dtype=np.float64).reshape(len(history), len(reference))
        vector = np.array(question.vector(column, now), dtype=np.float64)
        found = tuple(compare(question.distance, reference, vector, matrix, phase))
        yield Asked(name, column, now, question, vector, found)


def _same(vector: tuple[float, ...], nothing: tuple[float, ...]) -> tuple[float, ...]:
    """A window that had no such column counts as one without rows."""
    return vector if len(vector) == len(nothing) else nothing


def _applies(check: Check, column: ColumnProfile, now: ColumnCounts) -> bool:
    if not now.type or sort_of(now.type) != sort_of(column.type):
        return False  # a finding of its own
    if check == "missing":
        return column.kind != "empty"
    if column.kind not in ("number", "category"):
        return False
    asked: dict[str, bool] = {
        "shape": True,
        "unseen": column.knows_unseen,
        "range": column.kind == "number" and column.values is None,
        "stuck": column.kind == "number",
    }
    return asked[check]


def sort_of(type_: str) -> str:
    """Of an Arrow type, by its text: ``number``, ``text`` or its own name. A column may change within its sort.

    >>> sort_of("int32"), sort_of("double"), sort_of("large_string"), sort_of("timestamp[us, tz=UTC]")
    ('number', 'number', 'text', 'timestamp')
    """
    if type_.startswith("dictionary"):
        return sort_of(type_.partition("values=")[2].partition(",")[0])
    bare = type_.partition("[")[0].partition("(")[0]
    if bare.rstrip("0123456789") in ("int", "uint", "float", "halffloat", "double", "decimal", "duration"):
        return "number"
    return "text" if "string" in bare else bare


def _figure(asked: Asked, p: float, level: float, place: Mapping[str, Any]) -> Figure:
    """The figure of one question. What it holds is against the reference; an alarm may also come from the windows
    before, and then ``said`` is about these."""
    question = asked.question
    rows = round(asked.vector.sum())
    alarms = [each for each in asked.found if p <= level and each.p <= level and each.extraordinary]
    first = asked.found[0]
    told = alarms[0] if alarms else first
    details = _details(asked, level, alarms, told)
    threshold = _threshold(question, first, level, rows)
    shape = question.check == "shape"
    statistic = first.distance**2 if shape else _share(asked.vector)
    return Figure(
        **place,
        kind=question.kind,
        name=asked.name if question.kind != "quality" else f"{asked.name}/{question.check}",
        n=rows,
        reference_n=int(first.base.sum()),
        statistic=statistic,
        effect=statistic if shape else statistic - _share(first.base),
        threshold=threshold if np.isfinite(threshold) else None,
        p=p,
        method=_method(first, shape),
        alarm=bool(alarms),
        said=_said(asked, told, bool(alarms)),
        details=details,
    )


def _share(vector: Sequence[float] | np.ndarray) -> float:
    whole = float(sum(vector))
    return float(vector[0]) / whole if whole else 0.0


def _method(found: Comparison, shape: bool) -> str:
    if found.limit is not None:
        return f"history of {found.past} windows"
    return "noncentral χ²" if shape else "tolerated change"


def _threshold(question: Question, found: Comparison, level: float, rows: int) -> float:
    """What the statistic is held against, in its own unit: a PSI or a share."""
    n = float(found.base.sum())
    if not n or not rows:
        return float("inf")
    least = max(question.distance.least(level, n, rows, len(found.base)), found.limit or 0.0)
    if question.check == "shape":
        return least**2
    return float(np.sin(min(np.arcsin(np.sqrt(_share(found.base))) + least, np.pi / 2)) ** 2)


def _details(asked: Asked, level: float, alarms: Sequence[Comparison], told: Comparison) -> dict[str, Any]:
    rows = round(asked.vector.sum())
    compared = [
        {
            "against": each.against,
            "distance": round(each.distance, 6),
            "limit": None if each.limit is None else round(each.limit, 6),
            "threshold": _finite(_threshold(asked.question, each, level, rows)),
            "alarm": any(each is alarm for alarm in alarms),
        }
        for each in asked.found
    ]
    details: dict[str, Any] = {
        "column": asked.name,
        "check": asked.question.check,
        "against": told.against,
        "compared": compared,
    }
    if asked.question.check == "shape":
        details |= _bins(asked, told)
    return details


def _finite(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _bins(asked: Asked, told: Comparison) -> dict[str, Any]:
    """The shares of the bins before and after, for a chart, and the bin that moved most."""
    before = told.base / max(told.base.sum(), 1)
    now = asked.vector / max(asked.vector.sum(), 1)
    labels = [*asked.profile.labels, "unseen", "infinite"]
    shown = [i for i in range(len(labels)) if i < len(labels) - 2 or before[i] or now[i]]
    return {
        "bins": [labels[i] for i in shown],
        "reference": [round(float(before[i]), 6) for i in shown],
        "current": [round(float(now[i]), 6) for i in shown],
        "moved": labels[int(np.argmax(np.abs(now - before)))] if len(labels) else None,
        "mean": [asked.profile.counts.mean, asked.counts.mean],
    }


def _said(asked: Asked, told: Comparison, alarm: bool) -> str:
    name, now, check = asked.name, asked.counts, asked.question.check
    if check == "shape":
        return _words.shape(name, asked.profile, told, now, alarm)
    if check == "stuck":
        return _words.stuck(name, now)
    share = _share(asked.vector)
    return _words.share_of(check, name, asked.profile, now, _share(told.base), share)


def _columns(
    profile: Profile, counts: Counts, history: Sequence[Counts | None], place: Mapping[str, Any]
) -> Iterator[Figure]:
    """Columns that came, went, or are of another sort than in the reference."""
    past = [each for each in history if each is not None and each.rows]

    def figure(name: str, check: str, said: str, share: float, known: int, severity: Severity) -> Figure:
        """``known`` windows of the past were like this; enough of them, and it is no news."""
        return Figure(
            **place,
            kind="quality",
            name=f"{name}/{check}",
            n=counts.rows,
            reference_n=profile.rows,
            statistic=share,
            effect=share,
            method="columns",
            alarm=known < ENOUGH,
            severity=severity,
            said=said,
            details={"column": name, "check": check},
        )

    for name, type_ in counts.new.items():
        known = sum(name in each.new for each in past)
        yield figure(name, "appeared", f"a new column appeared: {name} ({type_})", 1.0, known, "warning")
    for name, column in profile.columns.items():
        now = counts.columns[name]
        if not now.type:
            if counts.rows:
                said = f"column {name} vanished; the reference has it"
                yield figure(name, "vanished", said, 1.0, sum(not c.columns[name].type for c in past), "critical")
        elif column.kind == "empty":
            if now.there:
                share = now.there / now.rows
                said = f"{name} has values now, in {_words.share(share)} of the rows; the reference has none"
                yield figure(name, "appeared", said, share, sum(c.columns[name].there > 0 for c in past), "warning")
        elif sort_of(now.type) != sort_of(column.type) and now.there:
            said = f"{name} is of type {now.type} now; in the reference it was {column.type}"
            like = sum(sort_of(c.columns[name].type) == sort_of(now.type) for c in past)
            yield figure(name, "type", said, 1.0, like, "critical")


def _volume(counts: Counts, history: Sequence[Counts | None], cycle: int, place: Mapping[str, Any]) -> Figure:
    """How many rows there are, against the like windows before."""
    rows = np.array([0 if each is None else each.rows for each in history], dtype=np.float64)
    like = rows[-np.arange(len(rows), 0, -1) % max(1, cycle) == 0]
    usual = float(np.median(like[-BEFORE:])) if len(like) >= BEFORE else None
    limit = _FEW_WINDOWS
    if usual and len(like) >= BEFORE + ENOUGH:
        around = np.array([np.median(like[i - BEFORE : i]) for i in range(BEFORE, len(like))])
        past = np.abs(np.log((like[BEFORE:] + 0.5) / (around + 0.5)))
        limit = max(history_limit(past, float(np.sqrt(1.25 / usual))), _LEAST_CHANGE)
    apart = abs(np.log((counts.rows + 0.5) / (usual + 0.5))) if usual else 0.0
    alarm = bool(usual and (apart > limit or not counts.rows))
    return Figure(
        **place,
        kind="volume",
        name="rows",
        n=counts.rows,
        reference_n=round(usual or 0),
        statistic=float(counts.rows),
        effect=counts.rows / usual - 1 if usual else None,
        method=f"history of {len(like)} windows" if len(like) >= BEFORE + ENOUGH else "halved or doubled",
        alarm=alarm,
        severity="critical" if alarm and not counts.rows else "info",
        said=_words.volume(counts.rows, usual, alarm),
        details={"check": "rows", "usual": usual, "factor": float(np.exp(limit))},
    )
