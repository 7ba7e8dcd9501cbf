"""The bins of a column, frozen when its reference is read, and how rows are counted into them.

A number column is cut at quantiles of its reference. A value that holds much of the reference by itself (a spike) has
a bin of its own; the outer bins are open. A number column of few different values, and text, has a bin for each value.
Missing values (null and NaN) and infinite ones are never in a bin, they are counted beside; so are values that the
reference has not got ("unseen"), where it is known which those are.

Counting is exact. It needs no sorting: for each cut one comparison over a piece of the column small enough for the
cache, which numpy does at more than a thousand million values a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A value with more than this share of the reference has a bin of its own.
SPIKE = 0.05
# Numbers of so few different values are counted value by value; of whole numbers there may be more.
FEW, FEW_WHOLE = 20, 50
# The most values of a text column with a bin of their own, and the least rows of the reference for one.
MOST_VALUES, LEAST_ROWS = 50, 5
# So many more values of a text column are remembered, to tell a rare one from one the reference has not got.
REMEMBERED = 1000
# What lies between spikes has at least so many bins, if each can hold this share of the reference.
_AT_LEAST, _SMALL = 4, 0.005
_GREATEST = float(np.finfo(np.float64).max)
_PIECE = 32_768  # values counted at a time: 256 kB, which a core's cache holds


def quantile_cuts(values: np.ndarray, bins: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where to cut a column of many values, and its spikes. Values are finite and sorted; at least one.

    A cut belongs to the bin below it; the bin of a spike lies between the next smaller float and itself. What lies
    between two spikes gets as many bins as its share of the values, yet a few where it holds some: of a column that is
    mostly zero, what is not zero tells most.

    >>> quantile_cuts(np.arange(1.0, 101.0), 4)
    ((25.0, 50.0, 75.0), ())
    """
    starts = np.flatnonzero(np.r_[True, np.diff(values) > 0])
    sizes = np.diff(np.r_[starts, len(values)])
    own = sizes > SPIKE * len(values)
    cuts: set[float] = set()
    begin = 0
    for start, size in zip(starts[own].tolist(), sizes[own].tolist(), strict=True):
        cuts |= {*_cuts_of(values[begin:start], bins, len(values)), values[start], np.nextafter(values[start], -np.inf)}
        begin = start + size
    cuts |= set(_cuts_of(values[begin:], bins, len(values)))
    return tuple(sorted(float(cut) for cut in cuts)), tuple(values[starts[own]].tolist())


def _cuts_of(run: np.ndarray, bins: int, rows: int) -> list[float]:
    share = len(run) / rows
    few = min(_AT_LEAST, int(share / _SMALL), len(run) // LEAST_ROWS) if bins >= _AT_LEAST else 0
    parts = max(round(bins * share), few)
    if parts < 2:
        return []
    found = np.unique(np.quantile(run, np.arange(1, parts) / parts, method="inverted_cdf"))
    return [cut for cut in found.tolist() if cut < run[-1]]


def labels_of(cuts: Sequence[float], spikes: Sequence[float]) -> list[str]:
    """What to call the bins between cuts.

    >>> labels_of((1.0, 2.0, 5.0), ())
    ['≤ 1', '1 … 2', '2 … 5', '> 5']
    """
    if not cuts:
        return ["any"]
    alone, edges = set(spikes), (-np.inf, *cuts)
    labels = []
    for low, high in pairwise(edges):
        if high in alone and np.nextafter(high, -np.inf) == low:
            labels.append(f"= {number(high)}")
        else:
            above = np.nextafter(high, np.inf)  # the bin ends just below a spike
            end = f"< {number(above)}" if above in alone else f"≤ {number(high)}"
            labels.append(f"{number(low)} … {end.lstrip('≤ ')}" if labels else end)
    return [*labels, f"> {number(cuts[-1])}"]


def number(value: float) -> str:
    """A number for people: four significant digits, thousands in groups.

    >>> number(1234567.0), number(0.123456), number(12.0)
    ('1,235,000', '0.1235', '12')
    """
    if not np.isfinite(value):
        return str(value)
    value += 0.0  # no minus before a zero
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.4g}"
    if abs(value) >= 1000:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:.4g}"


def bounded(total: float) -> float:
    """A sum that stays a number of JSON when it overflows."""
    return max(-_GREATEST, min(_GREATEST, total))


class NumberTally:
    """Counts of a number column, piece by piece. ``cells`` are those between ``cuts``, or of the ``values``."""

    def __init__(self, cuts: Sequence[float], values: Sequence[float] | None, low: float, high: float) -> None:
        self._cuts = tuple(cuts) if values is None else tuple(values)
        self._each = values is not None
        self._range = (low, high)
        self._found = np.zeros(len(self._cuts), dtype=np.int64)
        self._buffer = np.empty(_PIECE, dtype=bool)
        self.finite = self.missing = self.infinite = self.below = self.above = 0
        self.at_low = self.at_high = 0
        self.low, self.high, self.total = np.inf, -np.inf, 0.0

    def add(self, piece: np.ndarray) -> None:
        """Count a piece of at most ``_PIECE`` float64 values, of which NaN is missing."""
        low, high = piece.min(), piece.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            nans = int(np.count_nonzero(np.isnan(piece)))
            kept = piece[np.isfinite(piece)]
            self.missing += nans
            self.infinite += len(piece) - nans - len(kept)
            if not len(kept):
                return
            piece, low, high = kept, kept.min(), kept.max()
        self.finite += len(piece)
        with np.errstate(over="ignore"):
            self.total = bounded(self.total + float(piece.sum()))
        self._ends(piece, float(low), float(high))
        buffer, compare = self._buffer[: len(piece)], np.equal if self._each else np.less_equal
        for at, cut in enumerate(self._cuts):
            compare(piece, cut, out=buffer)
            self._found[at] += np.count_nonzero(buffer)

    def _ends(self, piece: np.ndarray, low: float, high: float) -> None:
        if low <= self.low:
            self.at_low = (self.at_low if low == self.low else 0) + int(np.count_nonzero(piece == low))
            self.low = low
        if high >= self.high:
            self.at_high = (self.at_high if high == self.high else 0) + int(np.count_nonzero(piece == high))
            self.high = high
        if low < self._range[0]:
            self.below += int(np.count_nonzero(piece < self._range[0]))
        if high > self._range[1]:
            self.above += int(np.count_nonzero(piece > self._range[1]))

    def bins(self) -> tuple[int, ...]:
        if self._each:
            return tuple(self._found.tolist())
        return tuple(np.diff(np.r_[0, self._found, self.finite]).tolist())

    @property
    def unseen(self) -> int:
        return self.finite - int(self._found.sum()) if self._each else 0


def pieces(column: pa.ChunkedArray) -> Iterator[tuple[np.ndarray, int]]:
    """A number column as pieces of float64 values that are there, each with the number of nulls left out."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), _PIECE):
            piece = chunk.slice(start, _PIECE)
            nulls = piece.null_count
            present = piece.drop_null() if nulls else piece
            if len(present):
                values = present.to_numpy(zero_copy_only=False)
                yield values if values.dtype == np.float64 else values.astype(np.float64), nulls
            else:
                yield np.empty(0), nulls


def numbers_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of a number type as one numpy can hold: decimals become double, durations their count of units."""
    if pa.types.is_decimal(column.type):
        return pc.cast(column, pa.float64())
    return pc.cast(column, pa.int64()) if pa.types.is_duration(column.type) else column


def text_counts(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The different values of a column that are there, as text, and how often each occurs."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_string_view(column.type):
        column = pc.cast(column, pa.string())
    found = pc.value_counts(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
    values, counts = found.field("values"), np.asarray(found.field("counts"))
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    there = np.asarray(values.is_valid())
    return pc.cast(values.filter(pa.array(there)), pa.string()), counts[there]
