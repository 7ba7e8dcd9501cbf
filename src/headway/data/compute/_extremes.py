"""The least or greatest value of a range in a few steps, whatever its length."""

from __future__ import annotations

import numpy as np

_BITS = 5
_BLOCK = 1 << _BITS


class Extremes:
    """``best`` is np.minimum or np.maximum; ``values`` are ranks.

    Level l holds the best of the 2**l values from each position on. Two such spans cover any short range; a longer
    one takes one span at either end and, between, whole blocks, over which the same is built again.
    """

    def __init__(self, values: np.ndarray, best: np.ufunc) -> None:
        self._best = best
        self._short = _spans(values, best, _BITS)
        blocks = self._short[_BITS][::_BLOCK] if len(values) >= _BLOCK else values[:0]
        self._long = _spans(blocks, best, max(len(blocks), 1).bit_length() - 1)

    def of(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """The best value of each ``[lo, hi)``; none may be empty."""
        length = hi - lo
        found = self._cover(self._short, lo, hi, np.minimum(length, _BLOCK))
        far = np.flatnonzero(length > 2 * _BLOCK)
        if len(far):
            begin, end = -(-lo[far] >> _BITS), hi[far] >> _BITS
            inner = np.flatnonzero(end > begin)
            begin, end = begin[inner], end[inner]
            middle = self._cover(self._long, begin, end, end - begin)
            found[far[inner]] = self._best(found[far[inner]], middle)
        return found

    def _cover(self, levels: list[np.ndarray], lo: np.ndarray, hi: np.ndarray, span: np.ndarray) -> np.ndarray:
        """The best of the first and the last ``span`` values of each range, more or less overlapping."""
        level_of = np.frexp(span.astype(np.float64))[1] - 1
        found = np.empty(len(lo), dtype=levels[0].dtype)
        for level in range(int(level_of.min(initial=0)), int(level_of.max(initial=-1)) + 1):
            here = np.flatnonzero(level_of == level)
            values = levels[level]
            found[here] = self._best(values[lo[here]], values[hi[here] - (1 << level)])
        return found


def _spans(values: np.ndarray, best: np.ufunc, levels: int) -> list[np.ndarray]:
    spans = [values]
    for level in range(min(levels, max(len(values), 1).bit_length() - 1)):
        last, step = spans[-1], 1 << level
        spans.append(best(last[:-step], last[step:]))
    return spans
