"""A view's row as bytes: one blob per entity, of one layout per view.

::

    as_of  version | 8-byte values, event times | 4, 2, 1-byte values | ends of texts | null bits | expired bits | texts
    └── stamp ───┘ └──────────────── little-endian, grouped by type ───────────────┘

Values of one type stand side by side, so that many rows are read as a few matrices, without an object per value.
Lists of a fixed size are matrices of their own, one per type and size; of those that may be shorter, ``counts`` says
how many items are there. Null floats are NaN, other nulls 0. The expired bits, and the event times behind latest values
(BEGINNING: none), are there for views with a ttl only. Texts (and bytes and decimals) follow the fixed part; ``ends``
says where each one ends, counted from the first one's beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from headway.data.online._arrow import arrow_type, flat, is_text, texts_of
from headway.data.online._keys import encode_keys
from headway.data.online._protocol import stamp
from headway.define.records import BEGINNING, FeaturePlan, Snapshot, ViewPlan
from headway.errors import DataError, DefinitionError, StoreError

ROWS_PER_CHUNK = 16_384
TEXT = "text"
TIMES = "times"
COUNTS = "counts"

_SIGN = np.uint64(1 << 63)
_NUMPY = {
    "double": "<f8",
    "float": "<f4",
    "halffloat": "<f2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "|u1",
    "bool": "|b1",
}


BULK = frozenset(_NUMPY.values()) - {"|b1"}
"""The matrices whose columns are, once they are contiguous, what an Arrow array of the feature's type consists of."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a feature's value stands: ``column`` of the matrix ``group``; for a text, its number among the texts.

    ``items`` is the size of a list (0: no list); the first ``counts[counted]`` of them are not null (-1: none is).
    """

    group: str
    column: int
    type: pa.DataType
    items: int = 0
    counted: int = -1


@dataclass(frozen=True, eq=False)
class Layout:
    """How the rows of a view are laid out. ``dtype`` is the fixed part; ``timed`` are the features with event times."""

    plan: ViewPlan
    slots: tuple[Slot, ...]
    dtype: np.dtype[Any]
    timed: tuple[int, ...]
    texts: int

    @property
    def size(self) -> int:
        return int(self.dtype.itemsize)

    def read(self, blobs: Sequence[bytes]) -> np.ndarray:
        """The fixed parts of rows as one structured array."""
        size = self.size
        data = b"".join([blob[:size] for blob in blobs] if self.texts else blobs)
        if len(data) != size * len(blobs):
            raise StoreError(f"rows of view {self.plan.name!r} in the online store are damaged; materialize it again")
        return np.frombuffer(data, self.dtype)

    def read_texts(self, blobs: Sequence[bytes], fixed: np.ndarray, column: int) -> list[bytes]:
        """The bytes of one text feature in every row; empty where it is null."""
        ends = fixed["ends"]
        starts = [self.size] * len(blobs) if column == 0 else (ends[:, column - 1] + self.size).tolist()
        stops = (ends[:, column] + self.size).tolist()
        return [blob[start:stop] for blob, start, stop in zip(blobs, starts, stops, strict=True)]

    def blank(self, *, empty: bool) -> bytes:
        """The row of an entity that is not stored, with BEGINNING for its as-of: empty windows, or nulls throughout."""
        row = np.zeros(1, self.dtype)
        values = [feature.empty if empty else None for feature in self.plan.features]
        row["null"] = np.packbits([value is None for value in values], bitorder="little")
        texts = [b""] * self.texts
        for value, slot in zip(values, self.slots, strict=True):
            if slot.group != TEXT:
                row[slot.group][:, slot.column] = _null_of(row[slot.group].dtype) if value is None else value
            elif value is not None:
                texts[slot.column] = str(value).encode()
        if self.texts:
            row["ends"] = np.cumsum([len(text) for text in texts])
        if self.timed:
            row[TIMES] = BEGINNING
        return b"".join((row.tobytes(), *texts))


@lru_cache(maxsize=1024)
def plan_layout(plan: ViewPlan) -> Layout:
    """How the view's rows are laid out. ``DefinitionError`` for a type that the online store has no room for."""
    slots = []
    groups: dict[str, int] = {}
    for feature in plan.features:
        kind = arrow_type(feature.type)
        items = kind.list_size if pa.types.is_fixed_size_list(kind) else 0
        group = _group(feature, kind.value_type if items else kind)
        wide = 1
        if items and group == TEXT:
            wide = items
        elif items:
            group = f"({items},){group}"
        counted = -1
        if feature.kind == "last_n":
            counted = groups.setdefault(COUNTS, 0)
            groups[COUNTS] += 1
        slots.append(Slot(group, groups.setdefault(group, 0), kind, items, counted))
        groups[group] += wide
    timed = tuple(i for i, feature in enumerate(plan.features) if plan.ttl is not None and feature.is_latest)
    texts = groups.pop(TEXT, 0)
    return Layout(plan, tuple(slots), _fixed_part(plan, groups, len(timed), texts), timed, texts)


def _fixed_part(plan: ViewPlan, groups: Mapping[str, int], timed: int, texts: int) -> np.dtype[Any]:
    """Wide values first and the whole a multiple of eight, so that every value is aligned in every row."""
    matrices: list[tuple[str, str, tuple[int, ...]]] = []
    for name, width in groups.items():
        kind = np.dtype("<u2" if name == COUNTS else name)
        matrices.append((name, kind.base.str, (width, *kind.shape)))
    if timed:
        matrices.append((TIMES, "<i8", (timed,)))
    matrices.sort(key=lambda matrix: -np.dtype(matrix[1]).itemsize)
    fields: list[Any] = [("as_of", ">u8"), ("version", ">u8"), *matrices]
    if texts:
        fields.append(("ends", "<u4", (texts,)))
    bits = ((len(plan.features) + 7) // 8,)
    fields.append(("null", "u1", bits))
    if plan.ttl is not None:
        fields.append(("expired", "u1", bits))
    if padding := -np.dtype(fields).itemsize % 8:
        fields.append(("padding", "u1", (padding,)))
    return np.dtype(fields)


def _group(feature: FeaturePlan, kind: pa.DataType) -> str:
    if found := _NUMPY.get(str(kind)):
        return found
    if pa.types.is_temporal(kind):
        return "<i4" if kind.bit_width == 32 else "<i8"
    if is_text(kind):
        return TEXT
    raise DefinitionError(
        f"feature {feature.name!r} is of type {feature.type}, for which the online store has no room; cast it to text"
    )


def _null_of(kind: np.dtype[Any]) -> float:
    return float("nan") if kind.kind == "f" else 0.0


def pack(plan: ViewPlan, snapshot: Snapshot) -> Iterator[list[tuple[bytes, bytes]]]:
    """The snapshot as rows for ``OnlineStore.put_many``, in chunks of some thousand; a null key has no row.

    The memory needed beside the snapshot is that of one chunk.
    """
    layout = plan_layout(plan)
    if snapshot.features.num_columns != len(plan.features):
        raise DataError(f"a snapshot of view {plan.name!r} has {snapshot.features.num_columns} feature columns")
    for start in range(0, snapshot.keys.num_rows, ROWS_PER_CHUNK):
        keys = encode_keys(plan, snapshot.keys.slice(start, ROWS_PER_CHUNK))
        blobs = _pack_chunk(layout, snapshot, start, len(keys))
        yield [(key, blob) for key, blob in zip(keys, blobs, strict=True) if key is not None]


def _pack_chunk(layout: Layout, snapshot: Snapshot, start: int, rows: int) -> list[bytes]:
    plan = layout.plan
    fixed = np.zeros(rows, layout.dtype)
    head = np.frombuffer(stamp(snapshot.as_of, snapshot.version), ">u8")
    fixed["as_of"], fixed["version"] = head[0], head[1]
    null = np.zeros((rows, len(plan.features)), bool)
    texts: list[list[bytes]] = []
    for i, slot in enumerate(layout.slots):
        array = flat(snapshot.features.column(i).slice(start, rows))
        if array.null_count:
            null[:, i] = array.is_null().to_numpy(zero_copy_only=False)
        if slot.items:
            array = _items(slot, array, null[:, i], fixed)
        if slot.group == TEXT:
            values = texts_of(array)
            texts += [values[at :: slot.items] for at in range(slot.items)] if slot.items else [values]
            continue
        numbers = _numbers(array, np.dtype(slot.group).base)
        fixed[slot.group][:, slot.column] = numbers.reshape(-1, slot.items) if slot.items else numbers
    fixed["null"] = np.packbits(null, axis=1, bitorder="little")
    if plan.ttl is not None:
        fixed["expired"] = np.packbits(_expired(plan, snapshot, start, rows), axis=1, bitorder="little")
    for column, i in enumerate(layout.timed):
        times = snapshot.event_times.get(plan.features[i].name)
        fixed[TIMES][:, column] = BEGINNING if times is None else times[start : start + rows]
    return _joined(layout, fixed, texts)


def _expired(plan: ViewPlan, snapshot: Snapshot, start: int, rows: int) -> np.ndarray:
    expired = np.zeros((rows, len(plan.features)), bool)
    for i, feature in enumerate(plan.features):
        if feature.name in snapshot.expired:
            expired[:, i] = snapshot.expired[feature.name][start : start + rows]
    return expired


def _items(slot: Slot, array: pa.Array, null: np.ndarray, fixed: np.ndarray) -> pa.Array:
    """The items of lists, those of null ones too, one after the other; their number is noted if it may differ."""
    items = array.flatten()
    if null.any():
        place = np.full((len(null), slot.items), -1, np.int64)
        place[~null] = np.arange(len(items)).reshape(-1, slot.items)
        items = items.take(pa.array(place.ravel(), mask=place.ravel() < 0))
    if slot.counted >= 0:
        there = np.asarray(items.is_valid()).reshape(-1, slot.items)
        fixed[COUNTS][:, slot.counted] = there.sum(axis=1)
    return items


def _numbers(array: pa.Array, kind: np.dtype[Any]) -> np.ndarray:
    """The values of a fixed-width array as numpy, with NaN or 0 for its nulls."""
    if pa.types.is_temporal(array.type):
        array = array.view(pa.int32() if kind.itemsize == 4 else pa.int64())
    if pa.types.is_boolean(array.type):
        return np.asarray(array.fill_null(False))
    data = np.frombuffer(array.buffers()[1], kind, len(array), array.offset * kind.itemsize)
    return np.where(np.asarray(array.is_null()), kind.type(_null_of(kind)), data) if array.null_count else data


def _joined(layout: Layout, fixed: np.ndarray, texts: list[list[bytes]]) -> list[bytes]:
    if texts:
        lengths = np.array([[len(value) for value in column] for column in texts], np.int64)
        fixed["ends"] = np.cumsum(lengths, axis=0).T
    heads: list[bytes] = fixed.view(f"V{layout.size}").tolist()
    return [b"".join(parts) for parts in zip(heads, *texts, strict=True)] if texts else heads


def stamped(fixed: np.ndarray) -> np.ndarray:
    """When each row's values are of, in int64 microseconds; BEGINNING for a blank."""
    as_of: np.ndarray = (fixed["as_of"].astype(np.uint64) ^ _SIGN).view(np.int64)
    return as_of
