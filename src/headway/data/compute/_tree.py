"""Finding the rows of a range that are (not) visible without looking at each of them.

A tree over the sorted rows holds, for every node, the least and greatest ``known`` and ``until`` below it. A node all
of whose rows are visible is taken whole, one with none is left out, and only mixed ones are opened: one level at a
time, for all queries together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headway.data.compute._ranges import Ragged

_BITS = 2  # four children per node: half the levels of a binary tree for hardly more nodes
_CROWD = 1 << 23  # open nodes at a time


class TooManyRangesError(Exception):
    """So many ranges that the queries are better taken in smaller groups."""


class Bounds:
    """The tree over rows sorted by key and event; ``until`` is None where every row lasts forever."""

    def __init__(self, known: np.ndarray, until: np.ndarray | None) -> None:
        self.size = len(known)
        self._known = _levels(known)
        self._until = None if until is None else _levels(until)

    def visible(self, lo: np.ndarray, hi: np.ndarray, r: np.ndarray) -> Ragged:
        """The visible rows of ``[lo[i], hi[i])`` at ``r[i]``, as maximal ranges."""
        return self._find(lo, hi, r, wanted=True)

    def hidden(self, lo: np.ndarray, hi: np.ndarray, r: np.ndarray) -> Ragged:
        """The rows of ``[lo[i], hi[i])`` that are not visible at ``r[i]``, as maximal ranges."""
        return self._find(lo, hi, r, wanted=False)

    def last_visible(self, lo: np.ndarray, hi: np.ndarray, r: np.ndarray) -> np.ndarray:
        """The last visible row of each ``[lo[i], hi[i])``, or -1; looks at the end first and goes back in strides."""
        if self._until is None:
            return self._last_known(lo, hi, r)
        found = np.full(len(lo), -1, dtype=np.int64)
        pending = np.flatnonzero(lo < hi)
        end, stride = hi[pending], 16
        while len(pending):
            begin = np.maximum(lo[pending], end - stride)
            ranges = self.visible(begin, end, r[pending])
            last = np.append(ranges.query[1:] != ranges.query[:-1], True)[: len(ranges)]
            found[pending[ranges.query[last]]] = ranges.hi[last] - 1
            more = (found[pending] < 0) & (begin > lo[pending])
            pending, end = pending[more], begin[more]
            stride *= 16
        return found

    def _last_known(self, lo: np.ndarray, hi: np.ndarray, r: np.ndarray) -> np.ndarray:
        """``last_visible`` where rows last forever: the last one known by ``r``, found by one way through the tree.

        Back from the end, up while nodes begin and end together and none below them was known, then down.
        """
        found = np.full(len(lo), -1, dtype=np.int64)
        sizes = [len(least) for least, _ in self._known]
        offset = np.concatenate([[0], np.cumsum(sizes)])
        least = np.concatenate([level for level, _ in self._known]) if len(sizes) > 1 else self._known[0][0]
        pending, end = np.flatnonzero(lo < hi), hi[lo < hi]
        level, down = np.zeros(len(pending), dtype=np.int64), np.zeros(len(pending), dtype=bool)
        while len(pending):
            shift = level * _BITS
            node = (end >> shift) - 1
            seen = least.take(offset[level] + node) <= r[pending]
            done = seen & (level == 0)
            found[pending[done]] = end[done] - 1
            end = np.where(seen, end, end - (1 << shift))
            down |= seen
            up = ~down & (end & ((1 << (shift + _BITS)) - 1) == 0) & (level < len(sizes) - 1)
            level = np.where(seen, level - 1, level + up)
            going = ~done & (end > lo[pending])
            pending, end, level, down = pending[going], end[going], level[going], down[going]
        return np.where(found >= lo, found, -1)

    def _find(self, lo: np.ndarray, hi: np.ndarray, r: np.ndarray, wanted: bool) -> Ragged:
        found = list(self._nodes(lo, hi, r, wanted))
        if not found:
            return Ragged.none()
        query, begin, end = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(query * (self.size + 1) + begin)
        return _joined(query[order], begin[order], end[order])

    def _nodes(
        self, lo: np.ndarray, hi: np.ndarray, r: np.ndarray, wanted: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        some = np.flatnonzero(lo < hi)
        # the level at which at most two nodes cover the range
        level_of = -(-np.frexp((hi - lo - 1)[some].astype(np.float64))[1] // _BITS)
        query = node = np.empty(0, dtype=np.int64)
        for level in reversed(range(int(level_of.max(initial=-1)) + 1)):
            shift = level * _BITS
            begun = some[level_of == level]
            if len(begun):
                left, right = lo[begun] >> shift, (hi[begun] - 1) >> shift
                two = right > left
                query = np.concatenate([query, begun, begun[two]])
                node = np.concatenate([node, left, right[two]])
            if len(query) > _CROWD and len(lo) > 1:
                raise TooManyRangesError
            seen, unseen = self._classify(level, node, r[query])
            taken = seen if wanted else unseen
            if taken.any():
                owner, begin = query[taken], node[taken] << shift
                yield owner, np.maximum(begin, lo[owner]), np.minimum(begin + (1 << shift), hi[owner])
            mixed = ~(seen | unseen)
            query, node = _children(query[mixed], node[mixed], shift - _BITS, lo, hi)

    def _classify(self, level: int, node: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which nodes are visible as a whole, and which not at all."""
        least, greatest = self._known[level]
        seen, unseen = greatest[node] <= r, least[node] > r
        if self._until is not None:
            least, greatest = self._until[level]
            seen &= least[node] > r
            unseen |= greatest[node] <= r
        return seen, unseen


def _levels(values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    levels = [(values, values)]
    while len(levels[-1][0]) > 1:
        least, greatest = levels[-1]
        cuts = np.arange(0, len(least), 1 << _BITS)
        levels.append((np.minimum.reduceat(least, cuts), np.maximum.reduceat(greatest, cuts)))
    return levels


def _children(
    query: np.ndarray, node: np.ndarray, shift: int, lo: np.ndarray, hi: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The children of mixed nodes that touch their query's range; a row is never mixed, so ``shift`` fits."""
    if len(query) == 0:
        return query, node
    child = ((node << _BITS)[:, None] + np.arange(1 << _BITS)).ravel()
    query = np.repeat(query, 1 << _BITS)
    begin = child << shift
    touches = (begin < hi[query]) & (begin + (1 << shift) > lo[query])
    return query[touches], child[touches]


def _joined(query: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> Ragged:
    """Sorted ranges, with adjacent ones of a query joined."""
    new = np.ones(len(query), dtype=bool)
    new[1:] = (query[1:] != query[:-1]) | (lo[1:] != hi[:-1])
    if new.all():
        return Ragged(query, lo, hi)
    begins = np.flatnonzero(new)
    ends = np.append(begins[1:], len(query)) - 1
    return Ragged(query[begins], lo[begins], hi[ends])
