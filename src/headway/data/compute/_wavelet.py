"""Order statistics over ranges of positions, without looking at every row.

A wavelet matrix keeps whole numbers bit by bit, from the highest bit down, each level's rows parted by the bit above.
Counting and selecting walk one level per bit, for all queries at once.
"""

from __future__ import annotations

import numpy as np

from headway.data.compute._ranges import Pieces


class _Bits:
    """A row of bits that can tell how many of those before a position are set."""

    def __init__(self, bits: np.ndarray) -> None:
        padded = np.zeros((len(bits) // 64 + 1) * 8, dtype=np.uint8)
        packed = np.packbits(bits, bitorder="little")
        padded[: len(packed)] = packed
        self._words = padded.view("<u8")
        self._before = np.zeros(len(self._words), dtype=np.int64)
        np.cumsum(np.bitwise_count(self._words[:-1]), out=self._before[1:])

    def ones(self, position: np.ndarray) -> np.ndarray:
        word = position >> 6
        below = (np.uint64(1) << (position & 63).astype(np.uint64)) - np.uint64(1)
        ones: np.ndarray = self._before.take(word) + np.bitwise_count(self._words.take(word) & below)
        return ones


class Wavelet:
    """``values`` are whole numbers from 0 to below ``limit``."""

    def __init__(self, values: np.ndarray, limit: int) -> None:
        self.size = len(values)
        self._levels: list[tuple[int, _Bits, int]] = []
        for bit in reversed(range((max(limit, 1) - 1).bit_length())):
            set_ = ((values >> bit) & 1).astype(bool)
            zeros = self.size - int(np.count_nonzero(set_))
            self._levels.append((bit, _Bits(set_), zeros))
            values = np.concatenate([values[~set_], values[set_]])

    def smallest(self, pieces: Pieces, k: np.ndarray) -> np.ndarray:
        """The value that comes ``k[i]``-th (from 0) in query i's ranges; any where there are not that many."""
        lo, hi = pieces.lo, pieces.hi
        k, found = k.copy(), np.zeros(len(k), dtype=np.int64)
        for bit, bits, zeros in self._levels:
            lo_ones, hi_ones = bits.ones(lo), bits.ones(hi)
            lo_zeros, hi_zeros = lo - lo_ones, hi - hi_ones
            below = pieces.total(hi_zeros - lo_zeros)
            right = k >= below
            k -= np.where(right, below, 0)
            found |= right.astype(np.int64) << bit
            go = pieces.spread(right)
            lo, hi = np.where(go, lo_ones + zeros, lo_zeros), np.where(go, hi_ones + zeros, hi_zeros)
        return found
