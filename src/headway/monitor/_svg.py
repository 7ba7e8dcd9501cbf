"""The two charts of a report, as SVG text: shares per bin, and values over windows.

They take their colours from the page's style (classes ``ref``, ``now``, ``axis``, …), so that light and dark need no
second drawing; each says in its title what it shows, for whoever does not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 480
_LEFT, _RIGHT, _TOP = 52, 22, 12


class Bar(NamedTuple):
    """A bin: its label, and the share of the rows in it, in the reference and now."""

    label: str
    reference: float
    current: float


class Dot(NamedTuple):
    """A value of a window."""

    label: str
    value: float | None
    alarm: bool = False


class Line(NamedTuple):
    """A row of values under one name; ``dashed`` for what is estimated, ``level`` for what is drawn across."""

    name: str
    dots: Sequence[Dot]
    style: str = "now"


def histogram(bars: Sequence[Bar], title: str) -> str:
    """Reference and current shares side by side, one pair per bin."""
    if not bars:
        return ""
    height, foot = 210, 66
    plot = height - foot - _TOP
    top = max(max(b.reference, b.current) for b in bars) or 1.0
    step = (WIDTH - _LEFT - _RIGHT) / len(bars)
    wide = max(1.0, step * 0.38)
    parts = _levels(0.0, top, plot, percent=True)
    for number, bar in enumerate(bars):
        x = _LEFT + step * number + step / 2
        parts.append(_bar("ref", x - wide, wide, bar.reference / top * plot, plot, f"{bar.label}: {bar.reference:.1%}"))
        parts.append(_bar("now", x, wide, bar.current / top * plot, plot, f"{bar.label}: now {bar.current:.1%}"))
        if number % max(1, math.ceil(14 / step)) == 0:
            parts.append(_slanted(x, _TOP + plot + 12, _short(bar.label, 14)))
    return _frame(height, title, parts)


def series(lines: Sequence[Line], title: str, level: float | None = None, level_name: str = "") -> str:
    """Values over windows, oldest first; alarms are ringed. ``level`` is a value to hold them against."""
    values = [d.value for line in lines for d in line.dots if d.value is not None and math.isfinite(d.value)]
    values += [level] if level is not None and math.isfinite(level) else []
    labels = max((line.dots for line in lines), key=len, default=())
    if not values or not labels:
        return ""
    height, foot = 200, 36
    plot = height - foot - _TOP
    low, high = min(values), max(values)
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels) - 1)

    def place(number: int, value: float) -> tuple[float, float]:
        x = _LEFT + step * number if len(labels) > 1 else (WIDTH + _LEFT) / 2
        return x, _TOP + plot - (value - low) / (high - low) * plot

    parts = _levels(low, high, plot, percent=False)
    if level is not None and math.isfinite(level):
        y = place(0, level)[1]
        parts.append(f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_tick(WIDTH - _RIGHT, y - 4, level_name, "end"))
    for line in lines:
        parts += _drawn(line, place)
    every = max(1, math.ceil(len(labels) / 6))
    for number in range(0, len(labels), every):
        x = place(number, low)[0]
        parts.append(_tick(x, height - 12, labels[number].label, "middle"))
    return _frame(height, title, parts)


def _drawn(line: Line, place: Callable[[int, float], tuple[float, float]]) -> list[str]:
    runs: list[list[tuple[float, float]]] = [[]]
    dots: list[str] = []
    for number, dot in enumerate(line.dots):
        if dot.value is None or not math.isfinite(dot.value):
            runs.append([])
            continue
        x, y = place(number, dot.value)
        runs[-1].append((x, y))
        said = escape(f"{dot.label}: {line.name} {dot.value:.6g}{', alarm' if dot.alarm else ''}")
        kind = "dot alarm" if dot.alarm else f"dot {line.style}"
        place_and_size = f'cx="{x:.1f}" cy="{y:.1f}" r="{5 if dot.alarm else 3}"'
        dots.append(f'<circle class="{kind}" {place_and_size}><title>{said}</title></circle>')
    paths = [
        f'<polyline class="line {line.style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in run)}"/>'
        for run in runs
        if len(run) > 1
    ]
    return paths + dots


def _levels(low: float, high: float, plot: float, *, percent: bool) -> list[str]:
    parts = []
    for n in range(5):
        value = low + (high - low) * n / 4
        y = _TOP + plot - plot * n / 4
        text = f"{value:.0%}" if percent and high >= 0.08 else f"{value:.1%}" if percent else _number(value)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_tick(_LEFT - 6, y + 4, text, "end"))
    return parts


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.2e}"


def _bar(kind: str, x: float, wide: float, tall: float, plot: float, said: str) -> str:
    y = _TOP + plot - tall
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}">'
        f"<title>{escape(said)}</title></rect>"
    )


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _slanted(x: float, y: float, text: str) -> str:
    turned = f'transform="rotate(-35 {x:.1f} {y:.1f})"'
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="end" {turned}>{escape(text)}</text>'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _frame(height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
