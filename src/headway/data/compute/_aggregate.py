"""Values of features, for many queries at once.

An aggregate sees a column's present rows: ``seen`` as hull, holes and extras, ``pieces`` as plain ranges. It gives an
array of values and where they are not null; or the event rows (-1: none) the values are found in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headway.data.compute._column import Column
from headway.data.compute._digits import Digits, deviation, to_float, to_int
from headway.data.compute._order import expand, search
from headway.data.compute._ranges import Pieces, Ragged, Visible
from headway.data.compute._tree import TooManyRangesError
from headway.errors import DataError

_MOST = 1 << 23  # rows looked at one by one at a time


@dataclass(frozen=True, slots=True)
class Numbers:
    """A feature's values; ``valid`` None where all are."""

    values: np.ndarray
    valid: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """A feature's values as rows of the events to take them from, -1 for null."""

    rows: np.ndarray


def count_rows(pieces: Pieces) -> np.ndarray:
    return pieces.total(pieces.hi - pieces.lo)


def total(column: Column, pieces: Pieces) -> Numbers:
    """The sum: exact for integers, correctly rounded but for one unit in the last place for floats."""
    valid = count_rows(pieces) > 0
    digits = _digits(column, pieces)
    if not column.integral:
        return Numbers(_with_infinities(column, pieces, to_float(digits, column.sums.place)), valid)
    values, wrong = to_int(digits)
    if wrong.any():
        raise DataError(f"a sum of column {column.name!r} does not fit 64 bits; cast the column to double")
    return Numbers(values, valid)


def mean(column: Column, pieces: Pieces) -> Numbers:
    count = count_rows(pieces)
    sums = _with_infinities(column, pieces, to_float(_digits(column, pieces), column.sums.place))
    return Numbers(sums / np.maximum(count, 1), count > 0)


def std(column: Column, pieces: Pieces) -> Numbers:
    count = count_rows(pieces)
    some = np.maximum(count, 2)
    squared = pieces.total(column.sums_of_squares.between(pieces.lo, pieces.hi))
    values = deviation(some, _digits(column, pieces), column.sums.place, squared)
    if (infinite := _infinities(column, pieces)) is not None:
        values[(infinite[0] > 0) | (infinite[1] > 0)] = np.nan
    return Numbers(values, count > 1)


def least(column: Column, pieces: Pieces) -> Rows:
    return _extreme(column, pieces, len(column.example), lambda lo, hi: column.least.of(lo, hi), pieces.least)


def greatest(column: Column, pieces: Pieces) -> Rows:
    return _extreme(column, pieces, -1, lambda lo, hi: column.greatest.of(lo, hi), pieces.greatest)


def first(column: Column, pieces: Pieces) -> Rows:
    """The earliest row over all ranges."""
    by_time = column.timeline.by_time
    found = _per_piece(pieces, len(by_time), lambda lo, _: column.places(lo))
    return Rows(rows_at(by_time, pieces.least(found)))


def last(column: Column, pieces: Pieces) -> Rows:
    """The latest row over all ranges."""
    found = _per_piece(pieces, -1, lambda _, hi: column.places(hi - 1))
    return Rows(rows_at(column.timeline.by_time, pieces.greatest(found)))


def quantile(column: Column, pieces: Pieces, q: float) -> Numbers:
    """Linear interpolation between the two nearest values, as numpy's default."""
    count = count_rows(pieces)
    levels = column.values_by_rank
    if len(levels) == 0:
        return Numbers(np.zeros(len(count)), count > 0)
    at = q * np.maximum(count - 1, 0)
    below = np.floor(at).astype(np.int64)
    share = at - below
    low = levels[np.minimum(column.order_statistics.smallest(pieces, below), len(levels) - 1)]
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    high = levels[np.minimum(column.order_statistics.smallest(pieces, above), len(levels) - 1)]
    return Numbers(_between(low, high, share), count > 0)


def distinct(column: Column, seen: Visible) -> Numbers:
    """How many values: those of the hull, put right for holes and extras."""
    count = column.previous.count_below(seen.lo, seen.hi, seen.lo + 1)
    if len(seen.holes) or len(seen.extra):
        count += _correction(column, seen)
    return Numbers(count)


def _correction(column: Column, seen: Visible) -> np.ndarray:
    """By how much the distinct values of the visible rows differ from those of the hull.

    Only values found in holes and extras matter: one is lost if the holes have all its rows in the hull, one is won
    if the extras have it and no visible row of the hull does.
    """
    holes, hole_owner = _rows_of(seen.holes, len(seen.lo))
    extra, extra_owner = _rows_of(seen.extra, len(seen.lo))
    query = np.concatenate([hole_owner, extra_owner])
    pair = column.pairs[np.concatenate([holes, extra])]
    sign = np.repeat([-1, 1], [len(holes), len(extra)])
    order = np.lexsort((pair, query))
    query, pair, sign = query[order], pair[order], sign[order]
    new = np.append(True, (query[1:] != query[:-1]) | (pair[1:] != pair[:-1]))[: len(query)]
    begins = np.flatnonzero(new)
    query, pair = query[begins], pair[begins]
    pairs, positions = column.occurrences
    lo, hi = np.searchsorted(pairs, pair, side="left"), np.searchsorted(pairs, pair, side="right")
    in_hull = search(positions, lo, hi, seen.hi[query]) - search(positions, lo, hi, seen.lo[query])
    visible = in_hull + (np.add.reduceat(sign, begins) if len(begins) else 0)
    change = (visible > 0).astype(np.int64) - (in_hull > 0)
    return np.bincount(query, weights=change, minlength=len(seen.lo)).astype(np.int64)


def _rows_of(ranges: Ragged, queries: int) -> tuple[np.ndarray, np.ndarray]:
    if queries > 1 and int((ranges.hi - ranges.lo).sum()) > _MOST:
        raise TooManyRangesError
    positions, owner = expand(ranges.lo, ranges.hi)
    return positions, ranges.query[owner]


def _digits(column: Column, pieces: Pieces) -> Digits:
    return pieces.total(column.sums.between(pieces.lo, pieces.hi))


def _infinities(column: Column, pieces: Pieces) -> tuple[np.ndarray, np.ndarray] | None:
    """How often each query sees +inf and -inf; None if the column has none."""
    if column.infinite is None:
        return None
    plus, minus = column.infinite
    return pieces.total(plus[pieces.hi] - plus[pieces.lo]), pieces.total(minus[pieces.hi] - minus[pieces.lo])


def _with_infinities(column: Column, pieces: Pieces, values: np.ndarray) -> np.ndarray:
    """``values``, which count infinities as zero, as IEEE would have them."""
    infinite = _infinities(column, pieces)
    if infinite is None:
        return values
    plus, minus = infinite
    values = np.where(plus > 0, np.inf, values)
    return np.where(minus > 0, np.where(plus > 0, np.nan, -np.inf), values)


def _between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        step = high - low
        value = np.where(share < 0.5, low + step * share, high - step * (1 - share))
        weighed = low * (1 - share) + high * share  # where the step is infinite, or too large for a double
    value = np.where(np.isfinite(step), value, weighed)
    return np.where((share == 0) | (low == high), low, value)


def _per_piece(pieces: Pieces, nothing: int, found: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """What ``found`` gives for each range that has rows, and ``nothing`` for the others."""
    some = pieces.hi > pieces.lo
    if some.all():
        return found(pieces.lo, pieces.hi)
    result = np.full(len(pieces.lo), nothing, dtype=np.int64)
    result[some] = found(pieces.lo[some], pieces.hi[some])
    return result


def _extreme(
    column: Column,
    pieces: Pieces,
    nothing: int,
    found: Callable[[np.ndarray, np.ndarray], np.ndarray],
    best: Callable[[np.ndarray], np.ndarray],
) -> Rows:
    rank = best(_per_piece(pieces, nothing, found))
    return Rows(rows_at(column.rows[column.example], rank))


def rows_at(rows: np.ndarray, index: np.ndarray) -> np.ndarray:
    """``rows[index]``, and -1 where the index lies outside."""
    if len(rows) == 0:
        return np.full(len(index), -1, dtype=np.int64)
    inside = (index >= 0) & (index < len(rows))
    return np.where(inside, rows.take(index, mode="clip"), -1)
