"""What the values of a feature look like: how many are null, and how the rest is spread."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BINS, TOP = 20, 8
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LONGEST = 64  # letters of a value
_BLOCKS = "▁▂▃▄▅▆▇█"


class Share(msgspec.Struct, frozen=True):
    """A bin of numbers, or a value of text, and the share of the values that are in it. ``low`` and ``high`` are the
    ends of a bin of numbers."""

    share: float
    value: str | None = None
    low: float | None = None
    high: float | None = None


class Statistics(msgspec.Struct, frozen=True):
    """What a sample of a feature's values looks like. ``quantiles`` are those at 5, 25, 50, 75 and 95 per cent; of
    text there are none, and ``shares`` are of the most frequent values. Of lists only the nulls are counted."""

    rows: int
    nulls: int
    distinct: int
    least: float | None = None
    greatest: float | None = None
    mean: float | None = None
    quantiles: tuple[float, ...] = ()
    shares: tuple[Share, ...] = ()

    @property
    def null_share(self) -> float | None:
        return self.nulls / self.rows if self.rows else None

    @property
    def known(self) -> int:
        return self.rows - self.nulls

    def sparkline(self) -> str:
        """The shares as a row of blocks; nothing where there are none.

        >>> describe(pa.array([1, 1, 1, 2, 3, 3])).sparkline()
        '█▃▆'
        """
        most = max((s.share for s in self.shares), default=0.0)
        return "".join(_BLOCKS[round(s.share / most * (len(_BLOCKS) - 1))] for s in self.shares) if most else ""


def describe(values: pa.Array | pa.ChunkedArray) -> Statistics:
    """The statistics of a column. Bools, texts, dates and times are counted by value."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    rows, nulls = len(values), values.null_count
    if pa.types.is_nested(values.type):
        return Statistics(rows, nulls, 0)
    known = values.drop_null()
    if not len(known) or not _is_number(values.type):
        return Statistics(rows, nulls, len(known.unique()), shares=_most_frequent(known))
    numbers = np.asarray(known.cast(pa.float64(), safe=False))
    nan = int(np.isnan(numbers).sum())
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return Statistics(rows, nulls + nan, 0)
    numbers.sort()
    with np.errstate(over="ignore"):
        mean = float(numbers.mean())
    return Statistics(
        rows,
        nulls + nan,
        1 + int(np.count_nonzero(numbers[1:] != numbers[:-1])),
        float(numbers[0]),
        float(numbers[-1]),
        mean if np.isfinite(mean) else None,
        tuple(float(q) for q in np.quantile(numbers, QUANTILES)),
        _binned(numbers),
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _binned(values: np.ndarray) -> tuple[Share, ...]:
    """Shares in bins of one width; of whole numbers with few values, each has its own. What lies beyond the outer
    hundredths is counted into the outer bins: one wild value would leave nothing else to see."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= BINS and np.all(distinct == np.round(distinct)):
        each = zip(distinct.tolist(), (counts / len(values)).tolist(), strict=True)
        return tuple(Share(share, low=value, high=value) for value, share in each)
    low, high = np.quantile(values, (0.01, 0.99))
    if low == high:
        low, high = float(values[0]), float(values[-1])
    edges = np.linspace(low, high, BINS + 1)
    found, _ = np.histogram(np.clip(values, low, high), edges)
    return tuple(
        Share(float(count / len(values)), low=float(a), high=float(b))
        for a, b, count in zip(edges[:-1], edges[1:], found, strict=True)
    )


def _most_frequent(values: pa.Array) -> tuple[Share, ...]:
    if not len(values):
        return ()
    counted: Sequence[dict[str, object]] = pc.value_counts(values).to_pylist()
    counted = sorted(counted, key=lambda item: (-int(str(item["counts"])), str(item["values"])))
    shares = [(str(item["values"]), int(str(item["counts"])) / len(values)) for item in counted]
    top = [Share(share, _short(value)) for value, share in shares[:TOP]]
    rest = sum(share for _, share in shares[TOP:])
    return (*top, Share(rest, "others")) if rest else tuple(top)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
