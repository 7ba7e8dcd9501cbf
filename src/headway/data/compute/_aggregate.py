"""Values of features, for many queries at once.

An aggregate sees a column's present rows as plain ranges, ``pieces``. It gives an array of values and where they are
not null; or the event rows (-1: none) the values are found in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from headway.data.compute._column import Column
from headway.data.compute._digits import Digits, deviation, to_float, to_int
from headway.data.compute._ranges import Pieces
from headway.errors import DataError


@dataclass(frozen=True, slots=True)
class Numbers:
    """A feature's values; ``valid`` None where all are."""

    values: np.ndarray
    valid: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """A feature's values as rows of the events to take them from, -1 for null."""

    rows: np.ndarray


@dataclass(frozen=True, slots=True)
class Lists:
    """A feature's values as rows of the events, several per query (-1 from the first one that is missing on)."""

    rows: np.ndarray


@dataclass(frozen=True, slots=True)
class Age:
    """For a feature that ttl applies to: its value's event time (BEGINNING: no value), and whether that is too old."""

    event: np.ndarray
    expired: np.ndarray


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


def latest(column: Column, pieces: Pieces, n: int) -> Lists:
    """The ``n`` latest rows over all ranges, the latest first."""
    by_time = column.timeline.by_time
    hi = pieces.hi.copy()
    found = np.full((len(pieces.first), n), -1, dtype=np.int64)
    for at in range(n):
        place = _per_piece(replace(pieces, hi=hi), -1, lambda _, hi: column.places(hi - 1))
        best = pieces.greatest(place)
        if (best < 0).all():
            break
        found[:, at] = rows_at(by_time, best)
        hi -= (place == pieces.spread(best)) & (place >= 0)
    return Lists(found)


def seconds_since(event: np.ndarray, found: Rows, r: np.ndarray) -> Numbers:
    """From the events of rows to ``r``; these may be further apart than an int64 can say."""
    if len(event) == 0:
        return Numbers(np.zeros(len(r)), np.zeros(len(r), dtype=bool))
    since = r.view(np.uint64) - event.take(found.rows, mode="clip").view(np.uint64)
    return Numbers(since.astype(np.float64) / 1e6, found.rows >= 0)


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
