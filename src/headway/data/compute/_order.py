"""Sorting by key and time, and searching in what is sorted."""

from __future__ import annotations

import numpy as np


def pack(code: np.ndarray, codes: int, time: np.ndarray, low: int, high: int) -> np.ndarray | None:
    """``(code, time)`` as one int64 in the same order; None if that may not fit.

    ``0 <= code < codes`` and ``low <= time <= high`` must hold.
    """
    span = high - low + 1
    if codes * span >= 2**63:
        return None
    packed: np.ndarray = code * span + (time - low)
    return packed


def sort_pairs(code: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Indices that sort by (code, time); ties in any order. Codes are not below -1."""
    if len(code) == 0:
        return np.empty(0, dtype=np.int64)
    shifted = code + 1
    packed = pack(shifted, int(shifted.max()) + 1, time, int(time.min()), int(time.max()))
    if packed is not None:
        return np.argsort(packed)
    order = np.argsort(time)
    for shift in range(0, int(shifted.max()).bit_length(), 16):  # radix sort: numpy's for 16 bits is linear
        digit = ((shifted[order] >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order


def sort_versions(code: np.ndarray, event: np.ndarray, known: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Indices that sort by (code, event, known, rank)."""
    order = sort_pairs(code, event)
    same = (code[order[1:]] == code[order[:-1]]) & (event[order[1:]] == event[order[:-1]])
    if same.any():
        tied = np.zeros(len(order), dtype=bool)
        tied[1:] = same
        group = np.cumsum(~tied)
        tied[:-1] |= same
        rows = order[tied]
        order[tied] = rows[np.lexsort((rank[rows], known[rows], group[tied]))]
    return order


def search(values: np.ndarray, lo: np.ndarray, hi: np.ndarray, x: np.ndarray, right: bool = False) -> np.ndarray:
    """For each i, where ``x[i]`` belongs in the sorted ``values[lo[i]:hi[i]]`` (as an index into ``values``)."""
    found = lo.copy()
    longest = int((hi - lo).max(initial=0))
    for bit in reversed(range(longest.bit_length())):
        probe = found + (1 << bit)
        seen = values.take(probe - 1, mode="clip")
        below = seen <= x if right else seen < x
        below &= probe <= hi
        found += below.astype(np.int64) << bit
    return found


def starts_of(code: np.ndarray, count: int) -> np.ndarray:
    """Where each of ``count`` codes begins in the sorted ``code``, and the end: ``count + 1`` positions."""
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(code, minlength=count), out=starts[1:])
    return starts


def expand(lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All positions in the ranges ``[lo, hi)``, one after the other, and for each the index of its range."""
    length = hi - lo
    owner = np.repeat(np.arange(len(lo)), length)
    first = np.cumsum(length) - length
    return np.arange(len(owner)) + (lo - first)[owner], owner
