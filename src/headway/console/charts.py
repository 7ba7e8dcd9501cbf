"""Charts as SVG text, made on the server: no script draws them, and style sheets alone colour them.

Nothing here has a size of its own across: a chart is as wide as its box, and only its marks stretch, never its text.
So marks are placed in per cent, and lines are drawn in an inner picture that may be distorted. Looks are classes
(``chart.css``), which follow the page in light and in dark. What has links inside is a group for assistive technology,
the rest an image with a title and a description.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeGuard

from markupsafe import Markup, escape

from headway.console._format import number, seconds
from headway.console.layout import Node, Pair, Placed, layered, longest_label

__all__ = [
    "Bar",
    "Bin",
    "Line",
    "Node",
    "Point",
    "comparison",
    "gantt",
    "graph",
    "histogram",
    "moment",
    "series",
    "sparkline",
]

_MINUTE, _HOUR, _DAY = 60_000_000, 3_600_000_000, 86_400_000_000
_EMPTY = Markup('<p class="chart-empty muted">{}</p>')


def moment(at: int, span: int = 0) -> str:
    """An instant in UTC, as short as a span of that length allows; span 0 writes all of it.

    >>> moment(1_706_745_600_000_000), moment(1_706_745_600_000_000, 30 * 86_400_000_000)
    ('2024-02-01 00:00:00', '1 Feb')
    """
    when = datetime.fromtimestamp(at / 1e6, UTC)
    if not span:
        return when.strftime("%Y-%m-%d %H:%M:%S")
    if span <= 2 * _DAY:
        return when.strftime("%H:%M" if span > 10 * _MINUTE else "%H:%M:%S")
    if span <= 400 * _DAY:
        return f"{when.day} {when:%b}"
    return when.strftime("%b %Y")


# One chart ----------------------------------------------------------------------------------------------------------


def _svg(look: str, height: float, title: str, desc: str, marks: Iterable[str], *, width: str = "100%") -> Markup:
    """The frame of a chart that is an image."""
    about = f"<title>{escape(title)}</title>" + (f"<desc>{escape(desc)}</desc>" if desc else "")
    return Markup(
        f'<svg class="chart {look}" role="img" aria-label="{escape(title)}" width="{width}" height="{_n(height)}"'
        f' xmlns="http://www.w3.org/2000/svg">{about}{"".join(marks)}</svg>'
    )


def _stretched(height: float, paths: Iterable[str]) -> str:
    """An inner picture 100 wide that is stretched across its frame; its lines keep their width."""
    return (
        f'<svg x="0" y="0" width="100%" height="{_n(height)}" viewBox="0 0 100 {_n(height)}"'
        f' preserveAspectRatio="none">{"".join(paths)}</svg>'
    )


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(x: str, y: float, text: object, look: str = "", anchor: str = "start") -> str:
    return f'<text class="t {look}" x="{x}" y="{_n(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, look: str, title: str = "") -> str:
    """A rectangle with x and width in per cent."""
    told = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect class="{look}" x="{_n(x)}%" y="{_n(y)}" width="{_n(max(width, 0))}%" height="{_n(max(height, 0))}">'
        f"{told}</rect>"
    )


def _ticks(low: float, high: float, count: int = 3) -> list[float]:
    """A few round numbers between two bounds."""
    span = high - low
    rough = span / count
    if not rough > sys.float_info.min or not math.isfinite(span):  # nothing between them, or next to nothing
        return [low]
    size = 10 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def sparkline(values: Sequence[float | None], title: str, *, width: int = 96, height: int = 24) -> Markup:
    """A line without axes, for a cell of a table; gaps where there is no value, and a dot at the last one."""
    known = [v for v in values if _drawable(v)]
    if not known:
        return Markup('<span class="muted">–</span>')
    low, high = min(known), max(known)
    span, across = (high - low) or 1.0, max(len(values) - 1, 1)
    places = [
        None
        if not _drawable(v)
        else (2 + n / across * (width - 6), height - 3 - (0.5 if low == high else (v - low) / span) * (height - 6))
        for n, v in enumerate(values)
    ]
    last = next(p for p in reversed(places) if p is not None)
    desc = f"from {number(known[0])} to {number(known[-1])}, between {number(low)} and {number(high)}"
    path = f'<path class="line" d="{_path(places)}"/>'
    dot = f'<circle class="dot" cx="{_n(last[0])}" cy="{_n(last[1])}" r="2"/>'
    return _svg("spark", height, title, desc, [path, dot], width=str(width))


def _path(places: Iterable[tuple[float, float] | None]) -> str:
    """A line through places, with a gap for each that is None."""
    parts, pen = [], "M"
    for place in places:
        if place is None:
            pen = "M"
            continue
        parts.append(f"{pen}{_n(place[0])} {_n(place[1])}")
        pen = "L"
    return "".join(parts)


# Histograms ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin: its name, its share (or count) now and in the reference, and whether it is one that moved."""

    label: str
    share: float
    reference: float | None = None
    moved: bool = False


def histogram(bins: Sequence[Bin], title: str, *, height: int = 88, labels: tuple[str, str] | None = None) -> Markup:
    """Bars side by side. ``labels`` are the ends of the axis; without them every bin carries its own."""
    if not bins:
        return _EMPTY.format("No values yet.")
    top, room = max((b.share for b in bins), default=0) or 1.0, height - 18
    width = 100 / len(bins)
    marks = [
        _rect(n * width + width * 0.06, 2 + room * (1 - b.share / top), width * 0.88, room * b.share / top, "bar",
              f"{b.label}: {number(b.share)}")
        for n, b in enumerate(bins)
    ]  # fmt: skip
    marks.append(f'<line class="axis" x1="0" x2="100%" y1="{room + 2}" y2="{room + 2}"/>')
    marks += _bin_labels(bins, height - 3, labels)
    greatest = max(bins, key=lambda b: b.share)
    return _svg("histogram", height, title, f"{len(bins)} bins; the fullest is {greatest.label}", marks)


def comparison(bins: Sequence[Bin], title: str, *, height: int = 132) -> Markup:
    """Now before the reference, bin by bin; the bins that moved are coloured and carry a mark."""
    if not bins:
        return _EMPTY.format("No bins were recorded for this window.")
    top = max(max(b.share, b.reference or 0.0) for b in bins) or 1.0
    room, above, width = height - 32, 14, 100 / len(bins)
    marks: list[str] = []
    for n, b in enumerate(bins):
        x, look = n * width, " moved" if b.moved else ""
        told = f"{b.label}: {_percent(b.share)} now, {_percent(b.reference)} in the reference"
        if b.reference is not None:
            tall = room * b.reference / top
            marks.append(_rect(x + width * 0.06, above + room - tall, width * 0.88, tall, "reference", told))
        tall = room * b.share / top
        marks.append(_rect(x + width * 0.24, above + room - tall, width * 0.52, tall, f"bar{look}", told))
        if b.moved:
            high = room * max(b.share, b.reference or 0.0) / top
            sign = "▲" if b.share >= (b.reference or 0.0) else "▼"
            marks.append(_text(f"{_n(x + width / 2)}%", above + room - high - 3, sign, "told", "middle"))
    marks.append(f'<line class="axis" x1="0" x2="100%" y1="{above + room}" y2="{above + room}"/>')
    marks += _bin_labels(bins, height - 4, None)
    moved = [f"{b.label} from {_percent(b.reference)} to {_percent(b.share)}" for b in bins if b.moved]
    return _svg("comparison", height, title, f"moved: {'; '.join(moved)}" if moved else "no bin moved", marks)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def _bin_labels(bins: Sequence[Bin], y: float, ends: tuple[str, str] | None) -> list[str]:
    """Names below bins: all if there is room, else the outer ones, and those of bins that moved."""
    if ends is not None:
        return [_text("0", y, ends[0]), _text("100%", y, ends[1], anchor="end")]
    width = 100 / len(bins)
    shown = range(len(bins)) if len(bins) * max(len(b.label) for b in bins) <= 44 else _apart(bins)
    marks = []
    for n in shown:
        anchor, x = "middle", f"{_n((n + 0.5) * width)}%"
        if len(shown) < len(bins) and n in (0, len(bins) - 1):
            anchor, x = ("start", "0") if n == 0 else ("end", "100%")
        marks.append(_text(x, y, bins[n].label, "told" if bins[n].moved else "", anchor))
    return marks


def _apart(bins: Sequence[Bin]) -> list[int]:
    """Bins whose names do not touch: the outer ones, then those that moved, as far as there is room (about 50
    letters across the narrowest chart)."""
    letters = 50
    taken: list[tuple[float, float]] = []
    chosen: list[int] = []
    last = len(bins) - 1
    for n in (0, last, *(n for n, b in enumerate(bins) if b.moved)):
        size, middle = len(bins[n].label) + 1, (n + 0.5) * letters / len(bins)
        begin = 0.0 if n == 0 else letters - size if n == last else middle - size / 2
        if n not in chosen and all(begin >= high or begin + size <= low for low, high in taken):
            taken.append((begin, begin + size))
            chosen.append(n)
    return chosen


_LETTER_SHARE = 2.2  # per cent of the narrowest chart that a letter of the axis takes
_GREATEST = 1e300
_DOTS = 32  # points of a line up to which each has a dot to point at

# Time ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a moment; ``threshold`` is what it was held against, ``said`` what somebody pointing at it reads."""

    at: int
    value: float | None
    threshold: float | None = None
    alarm: bool = False
    said: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart over time."""

    name: str
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """From moments and values to per cent across and pixels down."""

    start: int
    end: int
    low: float
    high: float
    top: float
    bottom: float
    left: float = 0.0  # per cent that the axis takes
    ticks: list[float] = field(default_factory=list)

    def x(self, at: int) -> float:
        room = 97.5 - self.left
        return self.left + (room / 2 if self.end == self.start else room * (at - self.start) / (self.end - self.start))

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)


def series(
    lines: Sequence[Line],
    title: str,
    *,
    height: int = 132,
    zero: bool = True,
    text: Callable[[float], str] = number,
) -> Markup:
    """Lines over time, the region up to the threshold as a band, and a mark at every alarm.

    ``zero`` begins the axis at 0; ``text`` writes the values of the axis.
    """
    points = [p for line in lines for p in line.points]
    known = [v for p in points for v in (p.value, p.threshold) if _drawable(v)]
    if not known:
        return _EMPTY.format("No windows yet.")
    scale = _scale([p.at for p in points], known, zero, text, height)
    marks = []
    for tick in scale.ticks:
        y = scale.y(tick)
        marks.append(f'<line class="gridline" x1="{_n(scale.left)}%" x2="100%" y1="{_n(y)}" y2="{_n(y)}"/>')
        marks.append(_text("0", y + 4, text(tick)))
    marks.append(_stretched(height, _drawn(lines, scale)))
    dots = [(p, line.dashed) for line in lines for p in _told(line.points)]
    marks += [_dot(p, scale, dashed, text) for p, dashed in sorted(dots, key=lambda dot: dot[0].alarm)]
    marks += _time_labels(scale, height - 4)
    return _svg("series", height, title, _series_in_words(lines, text), marks)


def _told(points: Sequence[Point]) -> list[Point]:
    """The points that get a dot: all of a short line, else alarms and the last one."""
    shown = [p for p in points if _shown(p)]
    return [p for p in shown if p.alarm or p is shown[-1] or len(shown) <= _DOTS]


def _shown(point: Point) -> bool:
    return _drawable(point.value)


def _drawable(value: float | None) -> TypeGuard[float]:
    """Whether there is a place for a value: no nulls, NaN, infinities, nor what is nearly one."""
    return value is not None and math.isfinite(value) and abs(value) < _GREATEST


def _scale(
    moments: Sequence[int], values: Sequence[float], zero: bool, text: Callable[[float], str], height: float
) -> _Scale:
    low, high = min(values), max(values)
    low = min(low, 0.0) if zero else low
    high = max(high, 0.0) if zero else high
    if low == high:
        low, high = low - (0 if zero else abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
    pad = (high - low) * 0.06
    high += pad
    low -= 0 if zero and low == 0 else pad
    ticks = _ticks(low, high)
    left = min(24.0, 3 + _LETTER_SHARE * max(len(text(tick)) for tick in ticks))
    return _Scale(min(moments), max(moments), low, high, 10, height - 22, left, ticks)


def _drawn(lines: Sequence[Line], scale: _Scale) -> list[str]:
    paths: list[str] = []
    limits = next(([p for p in ln.points if _drawable(p.threshold)] for ln in lines if ln.points), [])
    if limits:
        edge = [(scale.x(p.at), scale.y(p.threshold or 0.0)) for p in limits]
        edge = [(scale.left, edge[0][1]), *edge, (100.0, edge[-1][1])]
        floor = scale.y(max(scale.low, 0.0))
        paths.append(f'<path class="band" d="{_path([(scale.left, floor), *edge, (100.0, floor)])}Z"/>')
        paths.append(f'<path class="threshold" d="{_path(edge)}"/>')
    for n, line in enumerate(lines):
        places = [(scale.x(p.at), scale.y(p.value or 0.0)) if _shown(p) else None for p in line.points]
        dashed = " dashed" if line.dashed else ""
        paths.append(f'<path class="line line{n}{dashed}" d="{_path(places)}"/>')
    return paths


def _dot(point: Point, scale: _Scale, dashed: bool, text: Callable[[float], str]) -> str:
    value = point.value or 0.0
    said = point.said or f"{moment(point.at)}: {text(value)}"
    look, radius = ("alarm", 4.0) if point.alarm else ("dot dashed" if dashed else "dot", 2.2)
    place = f'cx="{_n(scale.x(point.at))}%" cy="{_n(scale.y(value))}"'
    return f'<circle class="{look}" {place} r="{_n(radius)}"><title>{escape(said)}</title></circle>'


def _time_labels(scale: _Scale, y: float) -> list[str]:
    span = scale.end - scale.start
    if not span:
        return [_text("50%", y, moment(scale.start, _DAY * 30), anchor="middle")]
    middle = scale.start + span // 2
    wanted = [
        (scale.start, f"{_n(scale.left)}%", "start"),
        (middle, f"{_n(scale.x(middle))}%", "middle"),
        (scale.end, "100%", "end"),
    ]
    seen: set[str] = set()
    marks = []
    for at, x, anchor in wanted:
        told = moment(at, span)
        if told not in seen:
            marks.append(_text(x, y, told, anchor=anchor))
        seen.add(told)
    return marks


def _series_in_words(lines: Sequence[Line], text: Callable[[float], str]) -> str:
    told = []
    for line in lines:
        values = [p.value for p in line.points if _drawable(p.value)]
        if values:
            told.append(f"{line.name}: {len(values)} windows, last {text(values[-1])}, highest {text(max(values))}")
    alarms = [moment(p.at, 30 * _DAY) for line in lines for p in line.points if p.alarm]
    told.append(f"alarms at {', '.join(alarms[-12:])}" if alarms else "no alarm")
    return "; ".join(told)


# Steps of a run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bar:
    """A step on the time axis: microseconds of its start and end, a look (its status) and where it leads."""

    label: str
    start: int
    end: int
    look: str = ""
    href: str | None = None
    title: str = ""


_ROW = 24
_NAMES = 27.0  # per cent of the width that names take


def gantt(bars: Sequence[Bar], title: str) -> Markup:
    """Bars over the time since the first of them began, one row each."""
    if not bars:
        return _EMPTY.format("No step has begun yet.")
    start, end = min(b.start for b in bars), max(b.end for b in bars)
    span = max(end - start, 1)
    height = 22 + _ROW * len(bars)
    lane = 100 - _NAMES - 8  # room for the longest text after a bar that ends last

    def across(at: int) -> float:
        return _NAMES + lane * (at - start) / span

    marks = []
    for tick in _ticks(0, span / 1e6, 4):
        x = _n(across(start + int(tick * 1e6)))
        marks.append(f'<line class="gridline" x1="{x}%" x2="{x}%" y1="16" y2="{height}"/>')
        marks.append(_text(f"{x}%", 11, _tick(tick), anchor="middle" if tick else "start"))
    for n, bar in enumerate(bars):
        marks.append(_gantt_row(bar, 18 + n * _ROW, across))
    return Markup(
        f'<svg class="chart gantt" role="group" aria-label="{escape(title)}" width="100%" height="{height}"'
        f' xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{"".join(marks)}</svg>'
    )


def _tick(length: float) -> str:
    return seconds(length).replace(".0 s", " s") if length else "0"


def _gantt_row(bar: Bar, y: float, across: Callable[[int], float]) -> str:
    x, width = across(bar.start), max(across(bar.end) - across(bar.start), 0.35)
    told = bar.title or f"{bar.label}: {bar.look}, {seconds((bar.end - bar.start) / 1e6)}"
    name = (
        f'<svg x="0" y="{_n(y)}" width="{_n(_NAMES - 1.5)}%" height="{_ROW}">{_text("0", 16, bar.label, "name")}</svg>'
    )
    row = (
        f"<title>{escape(told)}</title>{name}"
        f'<rect class="step {escape(bar.look)}" x="{_n(x)}%" y="{_n(y + 4)}" width="{_n(width)}%" height="{_ROW - 8}"'
        f' rx="2"/><text class="t" x="{_n(x + width)}%" dx="5" y="{_n(y + 16)}">'
        f"{escape(seconds((bar.end - bar.start) / 1e6))}</text>"
    )
    return f'<a href="{escape(bar.href)}">{row}</a>' if bar.href else f"<g>{row}</g>"


# Graphs -------------------------------------------------------------------------------------------------------------


def graph(nodes: Sequence[Node], edges: Iterable[Pair], title: str) -> Markup:
    """A directed graph from left to right, in a box of its own that scrolls; nodes with ``href`` are links."""
    found = layered(nodes, edges)
    if not found.nodes:
        return _EMPTY.format("Nothing to draw yet.")
    lines = "".join(f'<path class="edge" d="{_curve(points)}"/>' for points in found.edges)
    drawn = "".join(_node(placed) for placed in found.nodes)
    width, height = _n(found.width), _n(found.height)
    about = f"<title>{escape(title)}</title><desc>{len(found.nodes)} nodes, {len(found.edges)} connections</desc>"
    return Markup(
        f'<div class="graph-box" role="region" aria-label="{escape(title)}" tabindex="0">'
        f'<svg class="chart graph" role="group" aria-label="{escape(title)}" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">{about}{_ARROW}{lines}{drawn}</svg></div>'
    )


_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    '<path class="arrow" d="M0 0L6 3L0 6Z"/></marker></defs>'
)


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line that leaves and enters every point on its way straight across."""
    (x, y), *rest = points
    parts = [f"M{_n(x)} {_n(y)}"]
    for to_x, to_y in rest:
        middle = (x + to_x) / 2
        parts.append(f"C{_n(middle)} {_n(y)} {_n(middle)} {_n(to_y)} {_n(to_x)} {_n(to_y)}")
        x, y = to_x, to_y
    return "".join(parts)


def _node(placed: Placed) -> str:
    node, x, y = placed.node, placed.x, placed.y
    longest = longest_label()
    label = node.label if len(node.label) <= longest else node.label[: longest - 1] + "…"
    sub = node.sub if len(node.sub) <= longest * 1.1 else node.sub[: int(longest * 1.1) - 1] + "…"
    told = node.title or " · ".join(filter(None, (node.label, node.sub)))
    inner = (
        f'<title>{escape(told)}</title><rect class="box" x="{_n(x)}" y="{_n(y)}" width="{_n(placed.width)}"'
        f' height="{_n(placed.height)}" rx="5"/><rect class="side" x="{_n(x)}" y="{_n(y + 8)}" width="3"'
        f' height="{_n(placed.height - 16)}" rx="1.5"/>'
        + _text(_n(x + 14), y + (19 if sub else 27), label, "label")
        + (_text(_n(x + 14), y + 34, sub, "sub") if sub else "")
    )
    body = f'<g class="node {escape(node.look)}">{inner}</g>'
    return f'<a href="{escape(node.href)}">{body}</a>' if node.href else body
