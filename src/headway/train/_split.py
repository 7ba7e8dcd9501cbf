"""Which rows test and which rows the twin learns from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headway.clock import from_iso, to_iso
from headway.define import Model, RandomSplit, TimeSplit
from headway.define._duration import microseconds
from headway.define.records import TrainingSet
from headway.errors import DataError, UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Masks over the rows of a training set; ``cut`` is the moment the test begins (None for a random split)."""

    train: np.ndarray  # bool
    test: np.ndarray  # bool
    cut: int | None


def split_rows(model: Model, data: TrainingSet) -> Split:
    """Split the rows as ``model.split`` says.

    Errors: ``DefinitionError`` for an instant without offset, ``DataError`` where one side is empty.
    """
    if not len(data):
        raise DataError(f"model {model.name!r}: there are no labelled rows to train on")
    split = _by_time(model, model.split, data) if isinstance(model.split, TimeSplit) else _random(model, data)
    _check_sides(model, data, split)
    return split


def _by_time(model: Model, rule: TimeSplit, data: TrainingSet) -> Split:
    if rule.instant is not None:
        cut = _instant(model, rule.instant)
    else:
        cut = int(data.event.max()) + 1 - microseconds(rule.test, "TimeSplit: test")
    gap = microseconds(rule.gap, "TimeSplit: gap") if rule.gap else 0
    # A label that became known after the cut would not have been there to learn from.
    train = (data.event < cut - gap) & (data.known <= cut)
    return Split(train=train, test=data.event >= cut, cut=cut)


def _instant(model: Model, text: str) -> int:
    try:
        return from_iso(text)
    except UsageError as error:
        raise model.refuse(f"TimeSplit: test is a length such as '7d' or an instant: {error}") from None


def _random(model: Model, data: TrainingSet) -> Split:
    """Draw by a hash of what a row is, not of where it stands or which features it has.

    So a row keeps its side when rows are added, reordered or given other features, and a champion's twin is never
    asked about rows it has learned from. Rows that cannot be told apart are told apart by their order.
    """
    assert isinstance(model.split, RandomSplit)
    if model.split.group is not None:
        if data.group is None:
            raise model.refuse(f"RandomSplit: the training set has no column {model.split.group!r} to group by")
        unit = _hash_values(data.group)
    else:
        unit = _mix(_mix(_mix(data.event.view(np.uint64)) ^ data.known.view(np.uint64)) ^ _hash_values(data.label))
        unit = _mix(unit ^ _occurrence(unit))
    draw = _mix(unit ^ _mix(np.full(1, model.seed % 2**64, dtype=np.uint64)))
    test = draw < np.uint64(int(model.split.test * 2**64))
    # A handful of groups may all fall on one side: the nearest one changes it.
    if not test.any():
        test = draw == draw.min()
    elif test.all():
        test = draw != draw.max()
    return Split(train=~test, test=test, cut=None)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: spreads every bit of an input over all bits of the result."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def _hash_values(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    digests = [
        int.from_bytes(hashlib.blake2b(str(value).encode(), digest_size=8).digest(), "little")
        for value in [*encoded.dictionary.to_pylist(), None]
    ]
    codes = encoded.indices.fill_null(len(digests) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(np.array(digests, dtype=np.uint64)[codes])


def _occurrence(values: np.ndarray) -> np.ndarray:
    """For every element how many equal ones stand before it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(values)])
    found = np.empty(len(values), dtype=np.uint64)
    found[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return found


def _check_sides(model: Model, data: TrainingSet, split: Split) -> None:
    if split.test.any() and split.train.any():
        return
    missing = "test" if not split.test.any() else "training"
    if split.cut is None:
        raise DataError(
            f"model {model.name!r}: {model.split} leaves no {missing} rows of {len(data)}; it needs more rows,"
            " or more groups"
        )
    late = int(((data.event < split.cut) & (data.known > split.cut)).sum())
    raise DataError(
        f"model {model.name!r}: {model.split} leaves no {missing} rows: the cut is {_text(split.cut)}, the {len(data)}"
        f" labelled rows lie between {_text(int(data.event.min()))} and {_text(int(data.event.max()))}"
        + (f", and {late} of those before the cut had no known label by then" if late else "")
        + ("; choose a shorter test" if missing == "training" else "; choose an earlier instant")
    )


def _text(moment: int) -> str:
    try:
        return to_iso(moment)
    except UsageError:
        return str(moment)
