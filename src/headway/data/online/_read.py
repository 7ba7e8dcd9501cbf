"""Reading views from an online store, and what their values are worth at a moment.

``now`` is the moment of the request; ``r = plan.r(now)`` is the one that training would have used. A row speaks for
its own as-of or, if that is later, for the view's watermark: a refresh leaves alone what has not changed. If that is
before ``r``, the view's refresh is overdue and the values are ``late``, until more than ``ttl`` (without one, three
refreshes) has passed: then they are null, and ``expired``. A view without refresh is never late. A latest value of a
view with a ttl is also null and ``expired`` once its event is older than ``ttl`` at ``r``.

An entity that is not stored has empty windows (count 0, the rest null), and is ``missing``; its values are null
throughout where its key is null, or where the view was never materialized, or so long ago that a stored row would have
expired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from headway.data.online._arrow import bytes_array, is_text, number_array, validity
from headway.data.online._keys import (
    Key,
    Watermark,
    decode_watermark,
    encode_keys,
    read_watermark,
    watermark_key,
)
from headway.data.online._one import OkRow, RowUnpacker
from headway.data.online._packing import BULK, COUNTS, TEXT, TIMES, Slot, plan_layout, stamped
from headway.data.online._protocol import OnlineStore
from headway.define.records import BEGINNING, State, ViewPlan
from headway.errors import NotFoundError

STATES: tuple[State, ...] = ("ok", "late", "expired", "missing")
OK, LATE, EXPIRED, MISSING = range(4)

_HEADS = 256
_KEPT = 1024  # rows; requests are seldom for more

_ALL = slice(None)
_Columns = slice | np.ndarray


class OnlineReader:
    """Reads views from a store. It may be used by any number of threads, and does not close the store."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._bound: dict[tuple[str, tuple[str, ...] | None], PlanReader] = {}

    def bind(self, plan: ViewPlan, features: Sequence[str] | None = None) -> PlanReader:
        """All that a request for these features (None: all) needs to know, worked out once and kept."""
        names = None if features is None else tuple(features)
        found = self._bound.get((plan.fingerprint, names))
        if found is None:
            found = self._bound[plan.fingerprint, names] = PlanReader(plan, names)
        return found

    def watermark(self, plan: ViewPlan) -> Watermark | None:
        """The view's last completed refresh; None if there was none."""
        return read_watermark(self._store, plan)

    def read(self, plan: ViewPlan, keys: pa.Table | Mapping[str, Sequence[Any]], now: int) -> OnlineColumns:
        """All features for entities given by their key columns, in the order given."""
        reader = self.bind(plan)
        return self.lookup(reader, reader.encode(keys), now)

    def lookup(self, reader: PlanReader, keys: Sequence[Key], now: int) -> OnlineColumns:
        """The features of a bound view for encoded keys, in their order."""
        if None in keys:
            return self.lookup_many([(reader, keys)], now)[0]
        mark, *rows = self._store.get_many([reader.mark_key, *keys])  # type: ignore[list-item]
        return reader.decode(reader.watermark(mark), rows, reader.plan.r(now))

    def lookup_many(self, asked: Sequence[tuple[PlanReader, Sequence[Key]]], now: int) -> list[OnlineColumns]:
        """Several views in one question to the store."""
        return [reader.decode(*found, reader.plan.r(now)) for (reader, _), found in self._fetch(asked)]

    def stored(self, plan: ViewPlan, keys: pa.Table) -> OnlineColumns:
        """What is stored, at the moment it speaks for: neither late nor expired since."""
        reader = self.bind(plan)
        (_, found), *_ = self._fetch([(reader, reader.encode(keys))])
        mark = found[0]
        return reader.decode(*found, BEGINNING // 2 if mark is None else mark.as_of)

    def _fetch(
        self, asked: Sequence[tuple[PlanReader, Sequence[Key]]]
    ) -> list[tuple[tuple[PlanReader, Sequence[Key]], tuple[Watermark | None, list[bytes | None]]]]:
        """Watermarks come before their rows: it may then be older than a row, which is true of the row all the same."""
        wanted: list[bytes] = []
        for reader, keys in asked:
            wanted.append(reader.mark_key)
            wanted += [reader.mark_key if key is None else key for key in keys] if None in keys else keys  # type: ignore[arg-type]
        blobs = self._store.get_many(wanted)
        answers, at = [], 0
        for reader, keys in asked:
            rows = blobs[at + 1 : at + 1 + len(keys)]
            if None in keys:
                rows = [reader.nothing if key is None else row for key, row in zip(keys, rows, strict=True)]
            answers.append(((reader, keys), (reader.watermark(blobs[at]), rows)))
            at += 1 + len(keys)
        return answers


class PlanReader:
    """A view bound for reading some of its features: where they are, and when they are too old.

    It holds no connection; ``OnlineReader.bind`` keeps one per view and set of features.
    """

    def __init__(self, plan: ViewPlan, features: Sequence[str] | None = None) -> None:
        names = [feature.name for feature in plan.features]
        self.plan = plan
        self.features = tuple(names if features is None else features)
        for name in self.features:
            if name not in names:
                raise NotFoundError.among(f"feature of view {plan.name!r}", name, names)
        self.layout = layout = plan_layout(plan)
        self.mark_key = watermark_key(plan)
        self.nothing = layout.blank(empty=False)
        self._empty = layout.blank(empty=True)
        chosen = [names.index(name) for name in self.features]
        self.slots = tuple(layout.slots[i] for i in chosen)
        self._chosen = _indices(chosen, len(names))
        self.blocks = tuple(self._blocks())
        timed = [(at, layout.timed.index(i)) for at, i in enumerate(chosen) if i in layout.timed]
        self._timed_to = np.array([at for at, _ in timed], np.intp)
        self._timed_from = np.array([column for _, column in timed], np.intp)
        self.schema = pa.schema([(name, slot.type) for name, slot in zip(self.features, self.slots, strict=True)])
        self.states = pa.struct([(name, pa.string()) for name in self.features])
        self.width = sum(slot.items or 1 for slot in self.slots)
        self.not_numbers = tuple(n for n, slot in zip(self.features, self.slots, strict=True) if not _is_number(slot))
        self.bulk, self.single = self._arrow_columns()
        self.uniform = len(self.bulk) == 1 and not self.single and np.dtype(self.bulk[0][0]).itemsize == 8
        self._heads: dict[int, bytes] = {}
        self._limit = plan.ttl if plan.ttl is not None else 3 * (plan.refresh or 0)
        self._one = RowUnpacker(layout, chosen)
        self._all_ok = np.zeros((1, len(chosen)), np.uint8)
        self._all_ok.flags.writeable = False
        self._seen: tuple[bytes | None, Watermark | None] = (None, None)

    def encode(self, keys: pa.Table | Mapping[str, Sequence[Any]]) -> list[Key]:
        """The store's key of each entity, in order; None where a key column is null.

        Raises
        ------
        DataError
            A key column is missing, or of another kind than the view's key.
        """
        return encode_keys(self.plan, keys)

    def head(self, rows: int) -> bytes:
        """What stands before the values of so many rows in an Arrow message, if all are of one type of eight bytes and
        none is null: the columns follow each other, so that they need not be handed over one by one."""
        head = self._heads.get(rows)
        if head is None:
            nothing = pa.array(np.zeros(rows, np.int64))
            sample = pa.RecordBatch.from_arrays([nothing.view(kind) for kind in self.schema.types], schema=self.schema)
            message = sample.serialize().to_pybytes()
            head = message[: len(message) - 8 * rows * len(self.features)]
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[rows] = head
        return head

    def watermark(self, blob: bytes | None) -> Watermark | None:
        """The view's watermark from its row; it is the same one for as long as a refresh lasts."""
        seen, mark = self._seen
        if blob != seen:
            mark = decode_watermark(blob)
            self._seen = blob, mark
        return mark

    def decode(self, mark: Watermark | None, blobs: Sequence[bytes | None], r: int) -> OnlineColumns:
        """Rows as they were stored (None: not there) as what they are worth at ``r``."""
        if len(blobs) == 1 and (row := self._one.ok_row(mark, blobs[0], r)) is not None:
            return OneRow(self, blobs, self._all_ok, row)  # type: ignore[arg-type]
        rows = [self._blank(mark, r) if blob is None else blob for blob in blobs] if None in blobs else blobs
        fixed = self.layout.read(rows)  # type: ignore[arg-type]
        own = stamped(fixed)
        as_of = own
        if mark is not None:
            # A row of newer data than the watermark's belongs to a refresh that is not complete: its own as-of holds.
            as_of = np.maximum(own, mark.as_of)
            newer = fixed["version"] > mark.version
            if np.count_nonzero(newer):
                as_of[newer] = own[newer]
        null = self.null_bits(fixed)
        state = np.zeros(null.shape, np.uint8)
        if self.plan.refresh is not None:
            self._judge_age(as_of, r, state, null)
        if self.plan.ttl is not None:
            self._judge_events(fixed, r - self.plan.ttl, state, null)
        missing = own == BEGINNING
        if np.count_nonzero(missing):
            state[missing] = MISSING
        return OnlineColumns(self, rows, fixed, as_of, state, null)  # type: ignore[arg-type]

    def null_bits(self, fixed: np.ndarray) -> np.ndarray:
        """Which values were stored as null: bool (rows, features)."""
        return self._bits(fixed["null"])

    def _blank(self, mark: Watermark | None, r: int) -> bytes:
        hopeless = mark is None or (self.plan.refresh is not None and mark.as_of < r - self._limit)
        return self.nothing if hopeless else self._empty

    def _bits(self, packed: np.ndarray) -> np.ndarray:
        bits = np.unpackbits(packed, axis=1, count=len(self.plan.features), bitorder="little").view(np.bool_)
        return bits if isinstance(self._chosen, slice) else bits[:, self._chosen]

    def _judge_age(self, as_of: np.ndarray, r: int, state: np.ndarray, null: np.ndarray) -> None:
        late = as_of < r
        if np.count_nonzero(late):
            state[late] = LATE
            expired = as_of < r - self._limit
            state[expired] = EXPIRED
            null[expired] = True

    def _judge_events(self, fixed: np.ndarray, oldest: int, state: np.ndarray, null: np.ndarray) -> None:
        expired = self._bits(fixed["expired"])
        if len(self._timed_to):
            times = fixed[TIMES][:, self._timed_from]
            expired[:, self._timed_to] |= (times < oldest) & (times != BEGINNING)
        if expired.any():
            state[expired] = EXPIRED
            null |= expired

    def _blocks(self) -> list[tuple[str, _Columns, _Columns]]:
        """For each matrix of the layout that features are in: its name, which of its columns, and whose they are."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for at, slot in enumerate(self.slots):
            groups.setdefault(slot.group, []).append((slot.column, at))
        return [
            (group, _indices([source for source, _ in pairs]), _indices([target for _, target in pairs]))
            for group, pairs in groups.items()
        ]

    def _arrow_columns(self) -> tuple[list[tuple[str, _Columns, list[int]]], list[int]]:
        """Matrices whose columns are those of Arrow arrays already, with whose they are; and the features left over."""
        everything = range(len(self.features))
        bulk = [
            (group, source, list(everything[target] if isinstance(target, slice) else target.tolist()))
            for group, source, target in self.blocks
            if group in BULK
        ]
        done = {at for _, _, target in bulk for at in target}
        return bulk, [at for at in everything if at not in done]


class OnlineColumns:
    """Features of some entities, one row per entity asked for, in the order asked.

    ``as_of`` is int64 (rows,), the moment each row speaks for (``BEGINNING``: none); ``state`` is uint8 (rows,
    features), an index into ``STATES``; ``null`` is bool (rows, features). Values are decoded when they are asked for.
    """

    __slots__ = ("_blobs", "_fixed", "_reader", "as_of", "null", "state")

    def __init__(
        self,
        reader: PlanReader,
        blobs: Sequence[bytes],
        fixed: np.ndarray,
        as_of: np.ndarray,
        state: np.ndarray,
        null: np.ndarray,
    ) -> None:
        self._reader, self._blobs, self._fixed = reader, blobs, fixed
        self.as_of, self.state, self.null = as_of, state, null

    def __len__(self) -> int:
        return len(self.as_of)

    @property
    def features(self) -> tuple[str, ...]:
        return self._reader.features

    @property
    def ok_row(self) -> OkRow | None:
        """The row as plain numbers, if it is a single one with every value ok; None if not, or not plainly so."""
        return None

    def floats(self, out: np.ndarray | None = None) -> np.ndarray:
        """All features as float64 (rows, features), NaN where null; ``out`` is filled if given.

        Bools are 0 and 1, times the integers they are stored as, and texts and lists NaN: ``column`` has those.
        """
        if out is None:
            out = np.empty(self.state.shape)
        for group, source, target in self._reader.blocks:
            out[:, target] = np.nan if group == TEXT or group[0] == "(" else self._fixed[group][:, source]
        if np.count_nonzero(self.null):
            out[self.null] = np.nan
        return out

    def column(self, name: str) -> np.ndarray:
        """One feature as numpy: NaN where a float is null, 0 (False) for other nulls, objects with None for texts and
        lists."""
        at = self._at(name)
        slot = self._reader.slots[at]
        if slot.items:
            return _objects(self.array(name).to_pylist())
        if slot.group == TEXT:
            return _objects(self._texts(at, slot))
        values = self._fixed[slot.group][:, slot.column]
        nothing = np.nan if values.dtype.kind == "f" else 0
        return np.where(self.null[:, at], values.dtype.type(nothing), values)

    def _texts(self, at: int, slot: Slot) -> list[Any]:
        """The values of a text feature. Decoding them here costs less than Arrow does, for few rows."""
        if not (is_text(slot.type) and "string" in str(slot.type)):
            values: list[Any] = self.array(self.features[at]).to_pylist()
            return values
        parts = self._reader.layout.read_texts(self._blobs, self._fixed, slot.column)
        return [None if null else part.decode() for part, null in zip(parts, self.null[:, at].tolist(), strict=True)]

    def array(self, name: str) -> pa.Array:
        """One feature as Arrow, of the type that the plan says."""
        at = self._at(name)
        slot = self._reader.slots[at]
        null = np.ascontiguousarray(self.null[:, at])
        if slot.items:
            return self._lists(slot, null)
        if slot.group == TEXT:
            return _text_array(self._reader.layout.read_texts(self._blobs, self._fixed, slot.column), null, slot.type)
        return number_array(self._fixed[slot.group][:, slot.column], null, slot.type)

    def matrix(self, name: str) -> np.ndarray:
        """A list of numbers as float64 (rows, items), NaN where an item or the whole list is null."""
        at = self._at(name)
        slot = self._reader.slots[at]
        items = np.asarray(self._fixed[slot.group][:, slot.column], np.float64)
        return np.where(self._there(slot, self.null[:, at]), items, np.nan)

    def _there(self, slot: Slot, null: np.ndarray) -> np.ndarray:
        """Which items of lists are not null: bool (rows, items)."""
        counts = slot.items if slot.counted < 0 else self._fixed[COUNTS][:, slot.counted, None]
        there: np.ndarray = (np.arange(slot.items) < counts) & ~null[:, None]
        return there

    def _lists(self, slot: Slot, null: np.ndarray) -> pa.Array:
        absent = ~self._there(slot, null).ravel()
        if slot.group == TEXT:
            layout, columns = self._reader.layout, range(slot.column, slot.column + slot.items)
            parts = [layout.read_texts(self._blobs, self._fixed, column) for column in columns]
            texts = [text for row in zip(*parts, strict=True) for text in row]
            items = _text_array(texts, absent, slot.type.value_type)
        else:
            values = np.ascontiguousarray(self._fixed[slot.group][:, slot.column]).ravel()
            items = number_array(values, absent, slot.type.value_type)
        return pa.Array.from_buffers(slot.type, len(null), [validity(null)], children=[items])

    def matrices(self) -> Iterator[tuple[list[int], np.ndarray]]:
        """The values of fixed width, by type, as they are stored: which features they are of, and a row for each."""
        for group, source, target in self._reader.bulk:
            yield target, np.ascontiguousarray(self._fixed[group][:, source].T)

    def to_arrow(self) -> pa.RecordBatch:
        """All features as columns of the types that the plan says: what ``array`` gives for each of them, at once."""
        reader = self._reader
        if reader.uniform and not np.count_nonzero(self.null):
            ((_, matrix),) = self.matrices()
            return pa.ipc.read_record_batch(
                pa.py_buffer(b"".join((reader.head(len(self)), matrix.data))), reader.schema
            )
        arrays = [None] * len(self.features)
        for target, matrix in self.matrices():
            for at, array in zip(target, _column_arrays(matrix, self.null, target, reader.slots), strict=True):
                arrays[at] = array
        for at in reader.single:
            arrays[at] = self.array(self.features[at])
        return pa.RecordBatch.from_arrays(arrays, schema=reader.schema)

    def states_arrow(self) -> pa.StructArray:
        """The states as text, a struct with a field per feature."""
        state, kind = self.state, self._reader.states
        if state.size and not np.count_nonzero(state != state[0, 0]):
            children = [_same_words(int(state[0, 0]), len(state))] * len(self.features)
        else:
            known: dict[bytes, pa.Array] = {}  # features are often in the same states as others
            children = []
            for codes in state.T:
                told = codes.tobytes()
                if told not in known:
                    known[told] = _words().take(pa.array(codes))
                children.append(known[told])
        return pa.Array.from_buffers(kind, len(self), [None], children=children)

    def states(self, name: str) -> pa.Array:
        """One feature's states as text."""
        return _words().take(pa.array(self.state[:, self._at(name)]))

    def as_of_array(self) -> pa.Array:
        """``as_of`` as Arrow timestamps, null where no refresh has been."""
        return number_array(self.as_of, self.as_of == BEGINNING, pa.timestamp("us", tz="UTC"))

    def _at(self, name: str) -> int:
        try:
            return self.features.index(name)
        except ValueError:
            raise NotFoundError.among("feature", name, self.features) from None


@lru_cache(maxsize=1)
def _words() -> pa.Array:
    return pa.array(STATES)  # which imports pandas, so a server does without


def _same_words(code: int, rows: int) -> pa.Array:
    return _kept_words(code)[:rows] if rows <= _KEPT else pa.repeat(_words()[code], rows)


@lru_cache(maxsize=len(STATES))
def _kept_words(code: int) -> pa.Array:
    return pa.repeat(_words()[code], _KEPT)


class OneRow(OnlineColumns):
    """One row whose values are all ok. What numbers alone do not need is worked out when it is asked for."""

    __slots__ = ("_row",)

    def __init__(self, reader: PlanReader, blobs: Sequence[bytes], state: np.ndarray, row: OkRow) -> None:
        self._reader, self._blobs, self._row, self.state = reader, blobs, row, state

    def __getattr__(self, name: str) -> Any:
        if name == "as_of":
            self.as_of = np.array([self._row.as_of])
            return self.as_of
        if name == "_fixed":
            self._fixed = self._reader.layout.read(self._blobs)
            return self._fixed
        if name == "null":
            self.null = self._reader.null_bits(self._fixed)
            return self.null
        raise AttributeError(name)

    @property
    def ok_row(self) -> OkRow:
        return self._row

    def floats(self, out: np.ndarray | None = None) -> np.ndarray:
        if out is None:
            return np.array([self._row.values], np.float64)
        out[0] = self._row.values
        return out


def _column_arrays(
    matrix: np.ndarray, null: np.ndarray, target: Sequence[int], slots: Sequence[Slot]
) -> Iterator[pa.Array]:
    """The rows of a matrix as Arrow arrays that share its memory."""
    rows, width = matrix.shape[1], matrix.shape[1] * matrix.itemsize
    values = pa.py_buffer(matrix)
    if null.any():
        bits = np.packbits(~null[:, target].T, axis=1, bitorder="little")
        valid = pa.py_buffer(bits)
        step = bits.shape[1]
        masks = [valid.slice(i * step, step) for i in range(len(target))]
    else:
        masks = [None] * len(target)
    for i, at in enumerate(target):
        yield pa.Array.from_buffers(slots[at].type, rows, [masks[i], values.slice(i * width, width)])


def _is_number(slot: Slot) -> bool:
    kind = slot.type.value_type if slot.items else slot.type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _indices(positions: Sequence[int], of: int | None = None) -> _Columns:
    """Positions as a slice where they are a run of them (all ``of`` them, if given): numpy is faster with slices."""
    run = list(range(positions[0], positions[0] + len(positions))) if positions else []
    if positions and list(positions) == run and of in (None, len(run)):
        return slice(run[0], run[-1] + 1)
    return np.array(positions, np.intp)


def _objects(values: list[Any]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _text_array(values: Sequence[bytes], null: np.ndarray, kind: pa.DataType) -> pa.Array:
    array = bytes_array(values, null)
    if is_text(kind) and "binary" not in str(kind):
        array = array.cast(pa.large_string())
    return array.cast(kind)
