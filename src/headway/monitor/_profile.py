"""What columns looked like in the reference, and counts of later rows on the same bins."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.errors import UsageError
from headway.monitor._bins import (
    FEW,
    FEW_WHOLE,
    LEAST_ROWS,
    MOST_VALUES,
    REMEMBERED,
    NumberTally,
    bounded,
    labels_of,
    number,
    numbers_of,
    pieces,
    quantile_cuts,
    text_counts,
)

ColumnKind = Literal["number", "category", "empty", "ignored"]
# Ten bins need some rows each; with many rows, twenty show more.
_BINS, _MORE_BINS, _MANY_ROWS = 10, 20, 5000
_BEYOND = 0.5
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class ColumnCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows of one column, counted on the bins of its profile.

    ``rows`` = the sum of ``bins`` + ``missing`` + ``infinite`` + ``unseen``. ``low`` and ``high`` are the least and
    the greatest finite number and ``at_low``, ``at_high`` how many rows have exactly that; ``below`` and ``above`` how
    many lie well outside the reference's range. ``type`` is the column's Arrow type, empty where there was none.
    """

    bins: tuple[int, ...] = ()
    missing: int = 0
    infinite: int = 0
    unseen: int = 0
    low: float | None = None
    high: float | None = None
    at_low: int = 0
    at_high: int = 0
    below: int = 0
    above: int = 0
    total: float = 0.0
    type: str = ""

    @property
    def rows(self) -> int:
        return self.there + self.missing

    @property
    def there(self) -> int:
        """How many values are not missing."""
        return sum(self.bins) + self.infinite + self.unseen

    @property
    def mean(self) -> float | None:
        """The mean of a number column's finite values."""
        finite = self.there - self.infinite
        return self.total / finite if finite and self.low is not None else None

    def __add__(self, other: ColumnCounts) -> ColumnCounts:
        if not self.type or not other.type:
            return self if self.type else other
        low, at_low = _merged(self.low, self.at_low, other.low, other.at_low, sign=1)
        high, at_high = _merged(self.high, self.at_high, other.high, other.at_high, sign=-1)
        return ColumnCounts(
            bins=tuple(a + b for a, b in zip(self.bins, other.bins, strict=True)),
            missing=self.missing + other.missing,
            infinite=self.infinite + other.infinite,
            unseen=self.unseen + other.unseen,
            low=low,
            high=high,
            at_low=at_low,
            at_high=at_high,
            below=self.below + other.below,
            above=self.above + other.above,
            total=bounded(self.total + other.total),
            type=self.type if self.type == other.type else max(self.type, other.type),
        )


def _merged(a: float | None, at_a: int, b: float | None, at_b: int, *, sign: int) -> tuple[float | None, int]:
    """The lesser end (the greater with ``sign`` -1) and how many rows have it."""
    if a is None or b is None:
        return (b, at_b) if a is None else (a, at_a)
    if a == b:
        return a, at_a + at_b
    return (a, at_a) if sign * a < sign * b else (b, at_b)


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts of some rows on the bins of one profile. Exact, so that the counts of parts (days, segments, workers)
    add up with ``+`` to those of the whole. ``new`` holds columns that the reference has not got, with their types."""

    profile: str
    rows: int
    columns: dict[str, ColumnCounts]
    new: dict[str, str] = {}

    def __add__(self, other: Counts) -> Counts:
        if self.profile != other.profile:
            raise UsageError("counts on the bins of two profiles do not add up; count the rows of both on one profile")
        return Counts(
            profile=self.profile,
            rows=self.rows + other.rows,
            columns={name: column + other.columns[name] for name, column in self.columns.items()},
            new={**self.new, **other.new},
        )


class ColumnProfile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The frozen bins of one column, and the reference's own counts on them.

    ``number``: bins between ``cuts`` (a cut belongs to the bin below), of which those of ``spikes`` hold one value; or,
    where the reference has few different values, one bin for each of ``values``. ``category``: a bin for each of
    ``texts``, and a last one for the rarer values, of which ``rare`` are remembered; where they are not all there
    (``complete`` is false) unseen values cannot be told from rare ones. ``empty``: the reference has no value at all.
    ``ignored``: not compared, for the reason ``why``; missing values are still counted.
    """

    kind: ColumnKind
    type: str
    counts: ColumnCounts
    cuts: tuple[float, ...] = ()
    spikes: tuple[float, ...] = ()
    values: tuple[float, ...] | None = None
    texts: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()
    complete: bool = True
    quantiles: dict[str, float] = {}
    why: str = ""

    @property
    def labels(self) -> list[str]:
        """What to call each bin."""
        if self.kind == "category":
            return [*self.texts, "other"]
        if self.kind != "number":
            return []
        return [number(v) for v in self.values] if self.values is not None else labels_of(self.cuts, self.spikes)

    @property
    def range(self) -> tuple[float, float]:
        """Between which numbers all should be: the reference's ends, and half the width of its middle 90 % beyond."""
        if not self.quantiles:
            return -np.inf, np.inf
        beyond = _BEYOND * (self.quantiles["0.95"] - self.quantiles["0.05"])
        return self.quantiles["0"] - beyond, self.quantiles["1"] + beyond

    @property
    def knows_unseen(self) -> bool:
        return self.values is not None if self.kind == "number" else self.kind == "category" and self.complete


class Profile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reference: frozen bins of every column, how the reference's rows fall into them, and who they are.

    ``digest`` names the bins: counts made on other ones are refused.
    """

    rows: int
    columns: dict[str, ColumnProfile]
    digest: str

    @property
    def counts(self) -> Counts:
        """The reference's own counts."""
        return Counts(self.digest, self.rows, {name: column.counts for name, column in self.columns.items()})

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Profile:
        return msgspec.json.decode(text, type=cls)


def build_profile(
    table: pa.Table,
    *,
    categorical: Collection[str] = (),
    ignore: Mapping[str, str] | None = None,
    max_bins: int | None = None,
) -> Profile:
    """Freeze the bins of every column of a reference.

    Parameters
    ----------
    categorical
        Columns whose numbers are names (identifiers of zones, codes): counted value by value, like text.
    ignore
        Columns not to compare, with the reason: what moves with time by itself, such as keys and row numbers.
    max_bins
        Bins of a number column; by default 10, and 20 from 5,000 rows on.

    Errors: ``UsageError`` for names the table has not got.

    >>> profile = build_profile(pa.table({"x": [0.0, 1.5, None], "city": ["Lisbon", "Lisbon", "Tallinn"]}))
    >>> profile.columns["x"].counts.missing, profile.columns["city"].labels
    (1, ['other'])
    """
    wanted = {*categorical, *(ignore or {})}
    if unknown := sorted(wanted - set(table.column_names)):
        raise UsageError(f"the reference has no column {unknown[0]!r}; it has {', '.join(table.column_names)}")
    columns = {}
    for name in table.column_names:
        why = (ignore or {}).get(name)
        columns[name] = _column(table.column(name), name in set(categorical), max_bins, why)
    text = msgspec.json.encode({name: (c.kind, c.cuts, c.values, c.texts, c.rare) for name, c in columns.items()})
    return Profile(table.num_rows, columns, hashlib.sha256(text).hexdigest()[:16])


def count(profile: Profile, table: pa.Table) -> Counts:
    """The rows of a table on the bins of a profile. Columns the table has not got have counts without a type.

    >>> profile = build_profile(pa.table({"x": [0.0] * 60 + [1.0] * 40}))
    >>> counts = count(profile, pa.table({"x": [0.0, 1.0, 1.0, 7.0]}))
    >>> counts.columns["x"].bins, counts.columns["x"].unseen
    ((1, 2), 1)
    """
    there = set(table.column_names)
    found = {
        name: count_column(column, table.column(name)) if name in there else ColumnCounts()
        for name, column in profile.columns.items()
    }
    new = {name: str(table.schema.field(name).type) for name in table.column_names if name not in profile.columns}
    return Counts(profile.digest, table.num_rows, found, new)


def total(parts: Sequence[Counts]) -> Counts:
    """The sum of counts on one profile; at least one."""
    return reduce(add, parts)


def count_column(profile: ColumnProfile, column: pa.ChunkedArray) -> ColumnCounts:
    """One column on its bins. A column of another sort than the reference's is counted as all unseen."""
    type_ = str(column.type)
    if profile.kind == "number":
        return _count_numbers(profile, column) if _is_number(column.type) else _all_unseen(profile, column)
    if profile.kind == "category":
        return _count_texts(profile, column) if _is_plain(column.type) else _all_unseen(profile, column)
    missing = _missing(column)
    return ColumnCounts((len(column) - missing,), missing, type=type_)


def _all_unseen(profile: ColumnProfile, column: pa.ChunkedArray) -> ColumnCounts:
    missing = _missing(column)
    bins = (0,) * len(profile.labels)
    return ColumnCounts(bins, missing, unseen=len(column) - missing, type=str(column.type))


def _missing(column: pa.ChunkedArray) -> int:
    nans = pc.sum(pc.is_nan(column)).as_py() if pa.types.is_floating(column.type) else 0
    return int(column.null_count) + int(nans or 0)


def _count_numbers(profile: ColumnProfile, column: pa.ChunkedArray) -> ColumnCounts:
    tally = NumberTally(profile.cuts, profile.values, *profile.range)
    for piece, nulls in pieces(numbers_of(column)):
        tally.missing += nulls
        if len(piece):
            tally.add(piece)
    return ColumnCounts(
        bins=tally.bins(),
        missing=tally.missing,
        infinite=tally.infinite,
        unseen=tally.unseen,
        low=tally.low if tally.finite else None,
        high=tally.high if tally.finite else None,
        at_low=tally.at_low,
        at_high=tally.at_high,
        below=tally.below,
        above=tally.above,
        total=tally.total,
        type=str(column.type),
    )


def _count_texts(profile: ColumnProfile, column: pa.ChunkedArray) -> ColumnCounts:
    texts, counts = text_counts(column)
    known = pa.array([*profile.texts, *profile.rare], pa.string())
    at = np.asarray(pc.index_in(texts, value_set=known).fill_null(-1))
    named = len(profile.texts)
    other, unseen = (at >= named) if profile.complete else (at < 0) | (at >= named), at < 0
    bins = np.bincount(at[(at >= 0) & (at < named)], counts[(at >= 0) & (at < named)], named).astype(np.int64)
    there = int(counts.sum())
    return ColumnCounts(
        bins=(*bins.tolist(), int(counts[other].sum())),
        missing=len(column) - there,
        unseen=int(counts[unseen].sum()) if profile.complete else 0,
        type=str(column.type),
    )


def _column(column: pa.ChunkedArray, categorical: bool, max_bins: int | None, why: str | None) -> ColumnProfile:
    why = why or _reason_to_ignore(column)
    kind: ColumnKind = "ignored"
    if why is None:
        why = ""
        if _missing(column) == len(column):
            kind = "empty"
        elif categorical or not _is_number(column.type):
            return _with_counts(_of_texts(column), column)
        else:
            found = _of_numbers(column, max_bins)
            if found is not None:
                return _with_counts(found, column)
            why = "its values count up, each occurs once: an identifier"
    return _with_counts(ColumnProfile(kind, str(column.type), ColumnCounts(), why=why), column)


def _with_counts(profile: ColumnProfile, column: pa.ChunkedArray) -> ColumnProfile:
    return msgspec.structs.replace(profile, counts=count_column(profile, column))


def _reason_to_ignore(column: pa.ChunkedArray) -> str | None:
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return "moments move with time by themselves"
    if not (_is_plain(column.type) or pa.types.is_null(column.type)):
        return f"values of type {column.type} are not compared"
    return None


def _is_number(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration)
    return any(is_kind(type_) for is_kind in kinds)


def _is_plain(type_: pa.DataType) -> bool:
    """Number, text or truth value, perhaps as a dictionary."""
    inner = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(
        _is_number(inner) or pa.types.is_string(inner) or pa.types.is_large_string(inner)
        or pa.types.is_string_view(inner) or pa.types.is_boolean(inner)
    )  # fmt: skip


def _of_texts(column: pa.ChunkedArray) -> ColumnProfile:
    texts, counts = text_counts(column)
    order = np.lexsort((np.arange(len(counts)), -counts))
    ordered = pc.take(texts, pa.array(order[: MOST_VALUES + REMEMBERED])).to_pylist()
    own = min(MOST_VALUES, int(np.count_nonzero(counts >= LEAST_ROWS)))
    return ColumnProfile(
        "category",
        str(column.type),
        ColumnCounts(),
        texts=tuple(ordered[:own]),
        rare=tuple(ordered[own : own + REMEMBERED]),
        complete=len(counts) <= own + REMEMBERED,
    )


def _of_numbers(column: pa.ChunkedArray, max_bins: int | None) -> ColumnProfile | None:
    """Bins of a number column; None where it is a row number."""
    present = np.concatenate([np.empty(0), *(piece for piece, _ in pieces(numbers_of(column)))])
    values = np.sort(present[np.isfinite(present)])
    rows = len(values)
    if not rows:  # infinite ones only
        return ColumnProfile("number", str(column.type), ColumnCounts())
    if pa.types.is_integer(column.type) and _counts_up(values):
        return None
    marks = np.quantile(values, _QUANTILES, method="inverted_cdf").tolist()
    quantiles = {f"{q:g}": float(mark) for q, mark in zip(_QUANTILES, marks, strict=True)}
    type_, none_yet = str(column.type), ColumnCounts()
    few = FEW_WHOLE if (values == np.rint(values)).all() else FEW
    if np.count_nonzero(np.diff(values)) < min(few, rows / LEAST_ROWS):
        return ColumnProfile("number", type_, none_yet, values=tuple(np.unique(values).tolist()), quantiles=quantiles)
    bins = max_bins or (_MORE_BINS if rows >= _MANY_ROWS else _BINS)
    cuts, spikes = quantile_cuts(values, max(1, min(bins, rows // LEAST_ROWS)))
    return ColumnProfile("number", type_, none_yet, cuts=cuts, spikes=spikes, quantiles=quantiles)


def _counts_up(values: np.ndarray) -> bool:
    """Whether sorted integers are row numbers: many, all different and close together."""
    rows = len(values)
    return bool(rows >= 100 and (np.diff(values) > 0).all() and values[-1] - values[0] < 2 * rows)
