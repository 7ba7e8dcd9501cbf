"""Sorting by key and time, and searching in what is sorted."""

from __future__ import annotations

import numpy as np

_LONG = 1 << 21  # rows from which on two sorts of plain numbers are faster than one that finds their order


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
    low = int(time.min())
    time_bits = (int(time.max()) - low).bit_length()
    since = time.view(np.uint64) - np.array(low).view(np.uint64)
    slot = (code + 1).astype(np.uint64)
    code_bits = int(slot.max()).bit_length()
    if time_bits + code_bits <= 64 and len(code) < _LONG:
        return np.argsort((slot << np.uint64(time_bits)) | since)
    room = 64 - len(code).bit_length()
    above = max(time_bits - room, 0)
    if above:
        slot = (slot << np.uint64(above)) | (since >> np.uint64(room))
    order = _sort_by(None, since, time_bits - above, room)
    return _sort_by(order, slot, code_bits + above, room)


def _sort_by(order: np.ndarray | None, key: np.ndarray, bits: int, room: int) -> np.ndarray:
    """``order`` (None: as is) sorted further by the low ``bits`` of ``key``; equal ones keep their order.

    Key and position go into one number, ``room`` bits of the key at a time: numpy sorts numbers several times faster
    than it finds the order they sort in, which tells when there are many.
    """
    index_bits = np.uint64(64 - room)
    position = np.arange(len(key), dtype=np.uint64)
    for shift in range(0, max(bits, 1), room):
        packed = key.copy() if order is None else key.take(order)
        packed >>= np.uint64(shift)
        packed <<= index_bits  # drops what is above the room
        packed |= position
        packed.sort()
        packed &= np.uint64(2 ** (64 - room) - 1)
        place = packed.view(np.int64)
        order = place if order is None else order.take(place)
    assert order is not None
    return order


def sort_versions(
    code: np.ndarray, event: np.ndarray, known: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices that sort by (code, event, known, rank); and the sorted codes and events."""
    order = sort_pairs(code, event)
    code, event = code.take(order), event.take(order)
    _break_ties(order, (code[1:] == code[:-1]) & (event[1:] == event[:-1]), known, rank)
    return order, code, event


def _break_ties(order: np.ndarray, same: np.ndarray, first: np.ndarray, *others: np.ndarray) -> None:
    """Sort the rows of ``order`` further where they are the ``same`` as the one before: by ``first``, then the others.

    ``first`` is a value for each row.
    """
    if not same.any():
        return
    tied = np.zeros(len(order), dtype=bool)
    tied[1:] = same
    group = np.cumsum(~tied)
    tied[:-1] |= same
    rows, group = order[tied], group[tied]
    within = sort_pairs(group, first[rows])
    rows = rows[within]
    if others:
        again, value = group[within], first[rows]
        _break_ties(rows, (again[1:] == again[:-1]) & (value[1:] == value[:-1]), *others)
    order[tied] = rows


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
