"""One column of the events, with the indexes its aggregates need, each built when first asked for.

Rows whose value is null (or NaN) are left out: positions here count only the present ones, in the timeline's order.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.compute._digits import Scaled, Totals, squares
from headway.data.compute._extremes import Extremes
from headway.data.compute._timeline import Timeline
from headway.data.compute._types import from_numpy, to_numpy
from headway.data.compute._wavelet import Wavelet
from headway.errors import DataError


class Column:
    """Values ``array`` (one per event row) along ``timeline``; ``name`` is for messages."""

    def __init__(self, name: str, array: pa.Array, timeline: Timeline) -> None:
        self.name, self.timeline = name, timeline
        self.array = _plain(array)
        self.present = _present(self.array)
        self.counts: np.ndarray | None = None  # present rows before each of the timeline's positions
        self.positions: np.ndarray | None = None  # where in the timeline the present rows are; None: everywhere
        if self.present is not None:
            kept = self.present[timeline.order]
            self.counts = np.zeros(len(kept) + 1, dtype=np.int64)
            np.cumsum(kept, out=self.counts[1:])
            self.positions = np.flatnonzero(kept)

    @cached_property
    def rows(self) -> np.ndarray:
        """The event row at each position."""
        order = self.timeline.order
        kept: np.ndarray = order if self.positions is None else order[self.positions]
        return kept

    def places(self, position: np.ndarray) -> np.ndarray:
        """The place of each position in the timeline's order of time."""
        whole = position if self.positions is None else self.positions[position]
        return whole if self.timeline.when is None else self.timeline.when[whole]

    @cached_property
    def codes(self) -> np.ndarray:
        """The key's code at each position."""
        code = self.timeline.code
        kept: np.ndarray = code if self.positions is None else code[self.positions]
        return kept

    @cached_property
    def _ordered(self) -> pa.Array:
        return self.array.take(from_numpy(self.rows))

    @cached_property
    def integral(self) -> bool:
        """Whether sums are integers."""
        return bool(pa.types.is_integer(self.array.type) or pa.types.is_boolean(self.array.type))

    @cached_property
    def numbers(self) -> np.ndarray:
        """The values at each position as numpy integers or doubles; decimals become doubles."""
        type_, ordered = self.array.type, self._ordered
        if pa.types.is_boolean(type_):
            return to_numpy(ordered.cast(pa.int8()))
        if pa.types.is_integer(type_):
            return to_numpy(ordered)
        if pa.types.is_floating(type_):
            return to_numpy(ordered).astype(np.float64)
        if pa.types.is_decimal(type_):
            return to_numpy(ordered.cast(pa.float64()))
        raise DataError(f"column {self.name!r} is {type_}, which cannot be added up; aggregate a number or a bool")

    @cached_property
    def scaled(self) -> Scaled:
        return Scaled.of(self.numbers)

    @cached_property
    def sums(self) -> Totals:
        return Totals([self.scaled], self.scaled.low_place())

    @cached_property
    def sums_of_squares(self) -> Totals:
        return Totals(squares(self.scaled), 2 * self.scaled.low_place())

    @cached_property
    def infinite(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Running counts of +inf and -inf, if there are any."""
        if self.numbers.dtype.kind != "f" or not np.isinf(self.numbers).any():
            return None
        zero = np.zeros(1, dtype=np.int64)
        plus, minus = np.cumsum(self.numbers == np.inf), np.cumsum(self.numbers == -np.inf)
        return np.concatenate([zero, plus]), np.concatenate([zero, minus])

    @cached_property
    def _ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """The dense rank of the value at each position, and for each rank a position that has it."""
        ranks = _dense_ranks(self._ordered, self.name)
        example = np.zeros(int(ranks.max(initial=-1)) + 1, dtype=np.int64)
        example[ranks] = np.arange(len(ranks))
        return ranks, example

    @property
    def ranks(self) -> np.ndarray:
        return self._ranked[0]

    @property
    def example(self) -> np.ndarray:
        return self._ranked[1]

    @cached_property
    def least(self) -> Extremes:
        return Extremes(self.ranks, np.minimum)

    @cached_property
    def greatest(self) -> Extremes:
        return Extremes(self.ranks, np.maximum)

    @cached_property
    def order_statistics(self) -> Wavelet:
        """A wavelet matrix over the ranks."""
        return Wavelet(self.ranks, len(self.example))

    @cached_property
    def values_by_rank(self) -> np.ndarray:
        """The value of each rank, as a double."""
        return np.asarray(self.numbers[self.example], dtype=np.float64)


def _plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    type_ = array.type
    if pa.types.is_dictionary(type_):
        array = array.cast(type_.value_type)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    if pa.types.is_binary_view(array.type):
        array = array.cast(pa.large_binary())
    return array


def _present(array: pa.Array) -> np.ndarray | None:
    """Which values count; None if all do."""
    missing = pc.is_null(array, nan_is_null=pa.types.is_floating(array.type))
    mask = ~to_numpy(missing)
    return None if mask.all() else mask


def _dense_ranks(values: pa.Array, name: str) -> np.ndarray:
    type_ = values.type
    if pa.types.is_boolean(type_):
        values = values.cast(pa.int8())
    elif pa.types.is_temporal(type_):
        values = values.view(pa.int32() if type_.bit_width == 32 else pa.int64())
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return np.unique(to_numpy(values), return_inverse=True)[1].astype(np.int64)
    try:
        encoded = values.dictionary_encode()
        order = to_numpy(pc.sort_indices(encoded.dictionary))  # strings by their bytes, which is by code points
    except pa.ArrowException:
        raise DataError(f"column {name!r} is {type_}, whose values cannot be compared; use a plain column") from None
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    ranks: np.ndarray = rank[to_numpy(encoded.indices)]
    return ranks
