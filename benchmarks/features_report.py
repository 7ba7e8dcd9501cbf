"""What the measures come to: headway beside the best of Feast and beside its floor, as a table and as a picture."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from harness import Section, figure


@dataclass(frozen=True)
class Claim:
    """One work that headway, Feast and the floor have done; None where a contender is not here.

    ``slow`` says that figures are seconds; they are rates otherwise. ``wanted_of_feast`` is by how many times headway
    has to be faster than Feast, ``wanted_of_floor`` how many times slower than the floor it may be. Those that are
    ``drawn`` are in the picture too.
    """

    work: str
    headway: float
    feast: float | None
    floor: float | None
    slow: bool
    wanted_of_feast: float | None = None
    wanted_of_floor: float | None = None
    drawn: bool = True

    @property
    def of_feast(self) -> float | None:
        """How many times faster than Feast headway is."""
        return None if self.feast is None else _times(self.feast, self.headway, self.slow)

    @property
    def of_floor(self) -> float | None:
        """How many times slower than the floor headway is."""
        return None if self.floor is None else _times(self.headway, self.floor, self.slow)

    def cells(self) -> list[str]:
        values = [_shown(value, self.slow) for value in (self.headway, self.feast, self.floor)]
        return [
            self.work,
            *values,
            _judged(self.of_feast, self.wanted_of_feast, "≥", operator.ge),
            _judged(self.of_floor, self.wanted_of_floor, "≤", operator.le),
        ]


@dataclass
class Answer:
    """A measure's tables, and its claims."""

    sections: list[Section] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)


def _times(slower: float, faster: float, slow: bool) -> float:
    return slower / faster if slow else faster / slower


def _shown(value: float | None, slow: bool) -> str:
    if value is None:
        return "–"
    if not slow:
        return figure(value, "/s")
    for scale, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * scale >= 1 or unit == "µs":
            return figure(value * scale, unit)
    raise AssertionError


def _judged(got: float | None, wanted: float | None, sign: str, reached: Callable[[float, float], bool]) -> str:
    if got is None:
        return "–"
    if wanted is None:
        return figure(got)
    return f"**{figure(got)}** ({sign} {figure(wanted)}) {'✓' if reached(got, wanted) else '✗'}"


def overview(claims: Iterable[Claim], extra: Sequence[str]) -> Section:
    """All claims in one table."""
    section = Section(
        "At a glance",
        ("", "headway", "Feast, best", "floor", "× Feast", "÷ floor"),
        note=(
            "Times are medians. *Feast, best* is the faster of its set-ups on the same kind of store (embedded: "
            "SQLite) or of its engines, *floor* the same work by hand with nothing around it, *× Feast* how many times "
            "faster headway is, *÷ floor* how many times slower, *100 × 5 × 10* means 100 entities, 5 views "
            "and 10 floats of each; what the design asks for stands in brackets. "
            "The floor of HTTP is on LMDB."
        ),
    )
    section.rows = [claim.cells() for claim in claims]
    section.verdicts = list(extra)
    return section


# The picture: a row per claim, and how many times slower than the floor each contender is, on a logarithmic scale.

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP = 900, 300, 44, 84, 32
_STYLE = """
  .card { fill: #ffffff; stroke: #d7dbe0; }
  .text { fill: #1f2630; } .soft { fill: #5b6573; } .grid { stroke: #e3e7ec; } .row { stroke: #eef1f4; }
  .floor { fill: #5b6573; } .headway { fill: #0b7a5d; } .feast { fill: #c2410c; } .span { stroke: #c9cfd6; }
  .goal { stroke: #2563eb; }
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }
  .title { font-size: 16px; font-weight: 600; } .small { font-size: 11.5px; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #171b21; stroke: #323a45; }
    .text { fill: #e8ecf1; } .soft { fill: #a3adba; } .grid { stroke: #2c333d; } .row { stroke: #21272f; }
    .floor { fill: #a3adba; } .headway { fill: #34d399; } .feast { fill: #fb923c; } .span { stroke: #475160; }
    .goal { stroke: #7aa7ff; }
  }
"""


def plot(claims: Sequence[Claim], caption: str) -> str:
    """An SVG that is readable on light and on dark: how many times slower than its floor each contender is."""
    shown = [claim for claim in claims if claim.floor is not None and claim.drawn]
    slowest = [slower for claim in shown for slower in _points(claim).values()]
    decades = max(1, math.ceil(math.log10(max([10, *slowest]))))
    height = _TOP + _STEP * len(shown) + 74

    def x(times: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log10(max(times, 0.5)) + 0.3) / (decades + 0.3)

    bottom = _TOP + _STEP * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(caption)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="10"/>',
        '<text class="text title" x="20" y="30">Times slower than the same work by hand</text>',
        *_legend(),
    ]
    for decade in range(decades + 1):
        at = x(10**decade)
        label = f"{10**decade:,}".replace(",", " ")
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{bottom}"/>')
        parts.append(f'<text class="soft small" x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{label}×</text>')
    for number, claim in enumerate(shown):
        parts += _lane(claim, _TOP + _STEP * number + _STEP / 2, x)
    parts += [f'<text class="soft small" x="20" y="{height - 18}">{escape(caption)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _points(claim: Claim) -> dict[str, float]:
    """How many times slower than the floor: of each contender that is here."""
    found = {"headway": claim.of_floor or 1.0}
    if claim.feast is not None and claim.floor is not None:
        found["feast"] = _times(claim.feast, claim.floor, claim.slow)
    return found


def _lane(claim: Claim, y: float, x: Callable[[float], float]) -> list[str]:
    points = _points(claim)
    first, last = x(min([1.0, *points.values()])), x(max([1.0, *points.values()]))
    lines = [
        f'<line class="row" x1="20" x2="{_WIDTH - 20}" y1="{y + _STEP / 2:.1f}" y2="{y + _STEP / 2:.1f}"/>',
        f'<text class="text" x="{_LEFT - 18}" y="{y + 4.5:.1f}" text-anchor="end">{escape(claim.work)}</text>',
        f'<line class="span" x1="{first:.1f}" x2="{last:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="2"/>',
        f'<rect class="floor" x="{x(1) - 1.5:.1f}" y="{y - 8:.1f}" width="3" height="16"/>',
    ]
    lines += [f'<circle class="{name}" cx="{x(times):.1f}" cy="{y:.1f}" r="6"/>' for name, times in points.items()]
    goals = [] if claim.wanted_of_floor is None else [claim.wanted_of_floor]
    if claim.wanted_of_feast is not None and "feast" in points:
        goals.append(points["feast"] / claim.wanted_of_feast)
    if goals:
        lines.append(_goal(x(min(goals)), y))
    if claim.of_feast is not None:
        middle = x(math.sqrt(points["headway"] * points["feast"]))
        if abs(x(points["feast"]) - x(points["headway"])) > 60:
            at = f'x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle"'
            lines.append(f'<text class="soft small" {at}>{figure(claim.of_feast)}×</text>')
    return lines


def _goal(at: float, y: float) -> str:
    return f'<path class="goal" fill="none" stroke-width="2" d="M{at + 4:.1f} {y - 10:.1f}h-4v20h4"/>'


def _legend() -> list[str]:
    """What the marks stand for, in one line."""
    marks: list[str] = []
    at = 20
    for name, label, width in (
        ("floor", "by hand", 90),
        ("headway", "headway", 96),
        ("feast", "Feast, the best of its set-ups", 226),
    ):
        mark = (
            f'<rect class="floor" x="{at}" y="41" width="3" height="14"/>'
            if name == "floor"
            else f'<circle class="{name}" cx="{at + 4}" cy="48" r="5"/>'
        )
        marks += [mark, f'<text class="soft" x="{at + 15}" y="52.5">{label}</text>']
        at += width
    goal = "what the design asks for: headway left of it"
    marks += [_goal(at + 3, 48), f'<text class="soft" x="{at + 13}" y="52.5">{goal}</text>']
    return marks
