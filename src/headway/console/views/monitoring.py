"""Figures of windows as charts: what moved when, against what, and in which bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from headway.console._format import number, percent
from headway.console.charts import Bin, Line, Point, comparison, series, sparkline
from headway.define.watch_records import Figure

OVER_TIME = ("drift", "prediction", "missing", "skew", "quality", "volume")
SHARES = ("missing", "quality", "skew")  # kinds whose figures are shares of the rows
MOST_WINDOWS, MOST_FIGURES = 60, 3_000
CARDS = 12  # charts with axes; the others get a line in the table
_RANK = {"critical": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class ColumnChart:
    """One figure over time, with its newest window."""

    kind: str
    name: str
    newest: Figure
    alarms: int  # windows with an alarm, of all that are shown
    windows: int
    picture: Markup
    spark: Markup

    @property
    def anchor(self) -> str:
        return f"{self.kind}-{self.name}"


def charts(figures: Sequence[Figure], kinds: Sequence[str] = OVER_TIME) -> list[ColumnChart]:
    """A chart per kind and name, those in alarm now first, then those that ever were, then by how far they moved.

    ``figures`` are of one model and one segment, oldest first.
    """
    found: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        if figure.kind in kinds:
            found.setdefault((figure.kind, figure.name), []).append(figure)
    made = [_chart(kind, name, inside) for (kind, name), inside in found.items()]
    return sorted(made, key=_urgency)


def _urgency(chart: ColumnChart) -> tuple[Any, ...]:
    newest = chart.newest
    return (not newest.alarm, _RANK[newest.severity], -chart.alarms, -abs(measure(newest) or 0.0), chart.name)


def _chart(kind: str, name: str, figures: Sequence[Figure]) -> ColumnChart:
    points = [_point(figure) for figure in figures]
    text = as_share if kind in SHARES else number
    title = f"{name}: {_measured(kind)} per window"
    picture = series([Line(name, points)], title, text=text, zero=kind != "volume")
    spark = sparkline([p.value for p in points], title)
    return ColumnChart(kind, name, figures[-1], sum(f.alarm for f in figures), len(figures), picture, spark)


def _measured(kind: str) -> str:
    words = {"missing": "share missing", "quality": "share of rows", "volume": "rows", "skew": "difference"}
    return words.get(kind, "distance from the reference")


def measure(figure: Figure) -> float | None:
    """What is drawn: the statistic that was held against the threshold, else the effect."""
    return figure.statistic if figure.statistic is not None else figure.effect


def limit(figure: Figure) -> float | None:
    """What ``measure`` was held against. A metric's ``threshold`` is how much worse than in the test it may be; this is
    the value that it may reach."""
    reference, value = figure.details.get("reference"), figure.statistic
    if figure.kind not in ("performance", "estimate") or not isinstance(reference, int | float) or value is None:
        return figure.threshold
    if figure.threshold is None or figure.effect is None:
        return None
    upwards = (value - reference) * figure.effect >= 0  # whether more is worse
    return reference + figure.threshold if upwards else reference - figure.threshold


def _told(figure: Figure) -> tuple[float | None, float | None]:
    """Value and limit of the comparison that ``said`` tells of: with the reference, or with the windows before."""
    value, most = measure(figure), limit(figure)
    for each in figure.details.get("compared") or ():
        if figure.alarm and each.get("alarm") and each.get("against") == figure.details.get("against"):
            value = each["distance"] ** 2 if figure.details.get("check") == "shape" else value
            most = each.get("threshold")
            break
    fell = figure.kind in SHARES and figure.alarm and value is not None and most is not None and value < most
    return value, None if fell else most  # the limit that is kept is the upper one


def _point(figure: Figure) -> Point:
    return Point(figure.window_end, measure(figure), limit(figure), figure.alarm, figure.said)


@dataclass(frozen=True, slots=True)
class Quality:
    """A metric as it was realised and as it was estimated before labels came."""

    name: str
    realised: Figure | None
    estimated: Figure | None
    picture: Markup


def performance(figures: Sequence[Figure]) -> list[Quality]:
    """One chart per metric: realised as a line, estimated dashed beside it."""
    names = list(dict.fromkeys(f.name for f in figures if f.kind in ("performance", "estimate")))
    found = []
    for name in names:
        real = [f for f in figures if f.kind == "performance" and f.name == name]
        guess = [f for f in figures if f.kind == "estimate" and f.name == name]
        lines = [Line("realised", [_point(f) for f in real])] if real else []
        lines += [Line("estimated", [_point(f) for f in guess], dashed=True)] if guess else []
        picture = series(lines, f"{name} per window, realised and estimated", zero=False)
        found.append(Quality(name, real[-1] if real else None, guess[-1] if guess else None, picture))
    return found


def bins(figure: Figure) -> list[Bin]:
    """The bins of a figure's window beside the reference's; ``details`` holds ``bins``, ``reference``, ``current`` and
    the ones that ``moved``, by place or by name. Without ``moved`` it is the one with the greatest change."""
    details = figure.details
    labels, now, before = (details.get(name) or [] for name in ("bins", "current", "reference"))
    if not labels or not (len(labels) == len(now) == len(before)):
        return []
    moved = _moved(details.get("moved"), labels)
    if not moved and figure.alarm:
        moved = {max(range(len(labels)), key=lambda n: abs(now[n] - before[n]))}
    return [
        Bin(str(label), float(share), float(other), n in moved)
        for n, (label, share, other) in enumerate(zip(labels, now, before, strict=True))
    ]


def _moved(given: Any, labels: Sequence[Any]) -> set[int]:
    items = given if isinstance(given, list | tuple) else [] if given is None else [given]
    places = {str(label): n for n, label in enumerate(labels)}
    return {n for item in items if (n := item if isinstance(item, int) else places.get(str(item), -1)) >= 0}


def bins_picture(figure: Figure) -> Markup | None:
    """The newest window of a column beside its reference; None where no bins were kept."""
    found = bins(figure)
    return comparison(found, f"{figure.name}: this window and the reference") if found else None


def by_segment(figures: Sequence[Figure]) -> dict[str | None, int]:
    """Segments that have figures, the whole model (None) first, with how many alarms their newest window has."""
    newest = max((f.window_end for f in figures), default=0)
    found: dict[str | None, int] = {}
    for figure in figures:
        found.setdefault(figure.segment, 0)
        if figure.window_end == newest:
            found[figure.segment] += figure.alarm
    return dict(sorted(found.items(), key=lambda item: (item[0] is not None, item[0] or "")))


def alarms(figures: Sequence[Figure]) -> list[Figure]:
    """What is wrong in these figures, worst first, and of one severity what moved furthest beyond its threshold."""
    found = [f for f in figures if f.alarm]
    return sorted(found, key=lambda f: (_RANK[f.severity], -_beyond(f), f.name))


def _beyond(figure: Figure) -> float:
    value, most = _told(figure)
    return abs(value) / abs(most) if value is not None and most else 0.0


def written(figure: Figure) -> str:
    """The measured value as text, in its unit."""
    return _in_unit(figure, _told(figure)[0])


def threshold(figure: Figure) -> str:
    """What it was held against, in the same unit; a dash where that was not kept."""
    return _in_unit(figure, _told(figure)[1])


def _in_unit(figure: Figure, value: float | None) -> str:
    return as_share(value) if figure.kind in SHARES else number(value)


def as_share(value: float | None) -> str:
    """A share as per cent, with a digit more where it is small."""
    return percent(value, 2 if value is not None and abs(value) < 0.1 else 1)


def uplot(figures: Sequence[Figure]) -> dict[str, Any]:
    """The data of an interactive chart of one figure: seconds, values, thresholds, and which windows are in alarm."""
    return {
        "share": bool(figures) and figures[0].kind in SHARES,
        "at": [figure.window_end // 1_000_000 for figure in figures],
        "value": [measure(figure) for figure in figures],
        "threshold": [limit(figure) for figure in figures],
        "alarm": [measure(figure) if figure.alarm else None for figure in figures],
    }


def window_count(per_window: int) -> int:
    """How many windows a page shows: fewer of a model with many columns, so that it stays quick."""
    return max(8, min(MOST_WINDOWS, MOST_FIGURES // max(per_window, 1)))
