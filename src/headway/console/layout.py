"""Where the nodes of a directed graph go, in columns from left to right.

A node stands one column after the last of those it follows (the longest path), columns are ordered by the barycenters
of their neighbours, and heights are the least-squares fit to the neighbours' that keeps the gaps. Edges against the
flow, of a graph with a cycle, are drawn but do not push anything.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

HEIGHT = 44
GAP, COLUMN_GAP, MARGIN = 14, 44, 8
_BEND = 12  # height of the place an edge takes in a column it only passes
_LETTER, _PADDING, _NARROWEST, _WIDEST = 7.1, 36, 96, 250
_SWEEPS = 6

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """A node to draw: a line of text and a smaller one below it, a class of look, and where it leads."""

    id: str
    label: str
    sub: str = ""
    look: str = ""  # a status or a kind: the class that colours it
    href: str | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A node with the place of its upper left corner and its size, in pixels."""

    node: Node
    x: float
    y: float
    width: float
    height: float = HEIGHT


@dataclass(frozen=True, slots=True)
class Layout:
    """Nodes in their places, edges as the points they pass, and the size of the whole."""

    nodes: tuple[Placed, ...]
    edges: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    height: float


def layered(nodes: Sequence[Node], edges: Iterable[Pair]) -> Layout:
    """Lay out a graph. Edges to nodes that are not there, from a node to itself, and repeated ones are left out.

    >>> [placed.x for placed in layered([Node("a", "a"), Node("b", "b")], [("a", "b")]).nodes]
    [8, 148]
    """
    by_id = {node.id: node for node in nodes}
    if not by_id:
        return Layout((), (), 0, 0)
    drawn = list(dict.fromkeys((a, b) for a, b in edges if a in by_id and b in by_id and a != b))
    forward = _without_cycles(list(by_id), drawn)
    column = _columns(list(by_id), forward)
    chains = {pair: _chain(pair, column) for pair in forward}
    steps = [(a, b) for chain in chains.values() for a, b in pairwise(chain)]
    columns = _ordered(_stacks(list(by_id), column, chains.values()), steps)
    centre = _heights(columns, steps, by_id)
    left, widths, right = _across(columns, by_id)
    bottom = max(centre[name] + HEIGHT / 2 for name in by_id) + MARGIN
    placed = tuple(
        Placed(node, left[column[name]], centre[name] - HEIGHT / 2, widths[column[name]])
        for name, node in by_id.items()
    )
    at = {p.node.id: p for p in placed}
    lines = [_line(chains.get(pair), pair, at, centre, left, widths) for pair in drawn]
    return Layout(placed, tuple(lines), right, bottom)


def _without_cycles(names: Sequence[str], edges: Sequence[Pair]) -> list[Pair]:
    """The edges that do not lead back to a node on the way to them, by a depth-first walk without recursion."""
    after: dict[str, list[str]] = defaultdict(list)
    for a, b in edges:
        after[a].append(b)
    state: dict[str, int] = {}  # 1: on the way, 2: done
    back: set[Pair] = set()
    for start in names:
        if start in state:
            continue
        state[start] = 1
        way = [(start, iter(after[start]))]
        while way:
            name, rest = way[-1]
            following = next(rest, None)
            if following is None:
                state[name] = 2
                way.pop()
            elif state.get(following) == 1:
                back.add((name, following))
            elif following not in state:
                state[following] = 1
                way.append((following, iter(after[following])))
    return [pair for pair in edges if pair not in back]


def _columns(names: Sequence[str], edges: Sequence[Pair]) -> dict[str, int]:
    """Longest path from the left; a node that follows nothing stands just before the first that follows it."""
    after: dict[str, list[str]] = defaultdict(list)
    waiting = dict.fromkeys(names, 0)
    for a, b in edges:
        after[a].append(b)
        waiting[b] += 1
    column = dict.fromkeys(names, 0)
    ready = [name for name in names if not waiting[name]]
    roots = list(ready)
    for name in ready:  # grows while it is read
        for following in after[name]:
            column[following] = max(column[following], column[name] + 1)
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)
    for name in roots:
        if after[name]:
            column[name] = min(column[following] for following in after[name]) - 1
    return column


def _chain(pair: Pair, column: Mapping[str, int]) -> list[str]:
    """The places an edge passes, one a column: its ends and, between them, names of its own."""
    a, b = pair
    return [a, *(f"{a}\0{b}\0{n}" for n in range(column[a] + 1, column[b])), b]


def _stacks(names: Sequence[str], column: Mapping[str, int], chains: Iterable[Sequence[str]]) -> list[list[str]]:
    columns: list[list[str]] = [[] for _ in range(max(column.values()) + 1)]
    for name in names:
        columns[column[name]].append(name)
    for chain in chains:
        for number, name in enumerate(chain[1:-1], start=column[chain[0]] + 1):
            columns[number].append(name)
    return columns


def _neighbours(steps: Iterable[Pair]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for a, b in steps:
        after[a].append(b)
        before[b].append(a)
    return before, after


def _ordered(columns: list[list[str]], steps: Sequence[Pair]) -> list[list[str]]:
    """Columns ordered so that edges cross little: barycenters, swept from left to right and back, the best kept."""
    before, after = _neighbours(steps)
    best, fewest = columns, _crossings(columns, after)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        towards = before if sweep % 2 == 0 else after
        order = range(1, len(columns)) if sweep % 2 == 0 else range(len(columns) - 2, -1, -1)
        columns = [list(column) for column in columns]
        for number in order:
            beside = columns[number - 1 if sweep % 2 == 0 else number + 1]
            rank = {name: n for n, name in enumerate(beside)}
            own = {name: n for n, name in enumerate(columns[number])}
            columns[number].sort(key=lambda name: (_mean([rank[o] for o in towards[name]], own[name]), own[name]))
        found = _crossings(columns, after)
        if found < fewest:
            best, fewest = columns, found
    return best


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(columns: Sequence[Sequence[str]], after: Mapping[str, Sequence[str]]) -> int:
    crossings = 0
    for left, right in pairwise(columns):
        rank = {name: n for n, name in enumerate(right)}
        seen: list[int] = []
        for name in left:
            ends = sorted(rank[other] for other in after.get(name, ()))
            crossings += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return crossings


def _heights(columns: Sequence[Sequence[str]], steps: Sequence[Pair], real: Mapping[str, Node]) -> dict[str, float]:
    """The middle of every place, near to those of its neighbours and with its gap to the ones above and below."""
    before, after = _neighbours(steps)

    def tall(name: str) -> float:
        return HEIGHT if name in real else _BEND

    centre: dict[str, float] = {}
    for column in columns:
        centre |= _spread(column, [0.0] * len(column), tall)
    for sweep in range(_SWEEPS):
        towards = before if sweep % 2 == 0 else after
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = [_mean([centre[other] for other in towards[name]], centre[name]) for name in column]
            centre |= _spread(column, wanted, tall)
    top = min(centre[name] - tall(name) / 2 for column in columns for name in column)
    return {name: middle - top + MARGIN for name, middle in centre.items()}


def _spread(column: Sequence[str], wanted: Sequence[float], tall: Callable[[str], float]) -> dict[str, float]:
    """Middles as near as can be to the wanted ones, in squares, that keep order and gaps: neighbours that would come
    too close are moved together as one block (pool adjacent violators)."""
    offset, total = [], 0.0
    for number, name in enumerate(column):
        height = tall(name)
        total += 0 if number == 0 else height / 2 + GAP
        offset.append(total)
        total += height / 2
    blocks: list[tuple[float, int]] = []  # mean of what its members want, and how many they are
    for want, shift in zip(wanted, offset, strict=True):
        mean, size = want - shift, 1
        while blocks and blocks[-1][0] > mean:
            other, others = blocks.pop()
            mean, size = (mean * size + other * others) / (size + others), size + others
        blocks.append((mean, size))
    start = [mean for mean, size in blocks for _ in range(size)]
    return {name: begin + shift for name, begin, shift in zip(column, start, offset, strict=True)}


def _across(columns: Sequence[Sequence[str]], real: Mapping[str, Node]) -> tuple[list[float], list[float], float]:
    """Where each column begins, how wide it is, and where the last one ends."""
    left: list[float] = []
    widths: list[float] = []
    x: float = MARGIN
    for column in columns:
        longest = max((max(len(real[n].label), len(real[n].sub) * 0.9) for n in column if n in real), default=0)
        width = min(max(longest * _LETTER + _PADDING, _NARROWEST), _WIDEST)
        left.append(x)
        widths.append(width)
        x += width + COLUMN_GAP
    return left, widths, x - COLUMN_GAP + MARGIN


def _line(
    chain: Sequence[str] | None,
    pair: Pair,
    at: Mapping[str, Placed],
    centre: Mapping[str, float],
    left: Sequence[float],
    widths: Sequence[float],
) -> tuple[tuple[float, float], ...]:
    a, b = at[pair[0]], at[pair[1]]
    begin, end = (a.x + a.width, a.y + HEIGHT / 2), (b.x, b.y + HEIGHT / 2)
    points = [begin]
    for name in (chain or [])[1:-1]:
        number = int(name.rsplit("\0", 1)[1])
        points += [(left[number], centre[name]), (left[number] + widths[number], centre[name])]
    return (*points, end)


def longest_label() -> int:
    """How many letters of a label fit into the widest node."""
    return int((_WIDEST - _PADDING) / _LETTER)
