"""Keys of the online store: whose row, of which view.

A key is the view's fingerprint (16 bytes), one byte that says what follows (``ROW`` or ``MARK``), and for a row the
entity's key columns, encoded so that no two entities of a view share a key: numbers and times take eight bytes each,
whatever their width in the source; text stands alone or, in a composite key, after its length.

The row under ``MARK`` is the view's watermark: the last refresh that was completed, as a stamp.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.online._arrow import arrow_type, flat, is_text, texts_of
from headway.data.online._protocol import OnlineStore, stamp, unstamp
from headway.define.records import Field, ViewPlan
from headway.errors import DataError, StoreError

Key = bytes | None  # None: a null in the entity's key

_MARK = b"\0"
_ROW = b"\1"
_FORMAT = b"\1"  # of the rows; a store of another format is refused rather than misread
_INT = struct.Struct(">q")
_ROW_OF_INT = struct.Struct(">17sq")
_ONLY_INT, _ONLY_TEXT = {int}, {str}
_INTS = frozenset(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
_FEW = 256


class Watermark(NamedTuple):
    """The last completed refresh of a view, and the version of the data it was computed from."""

    as_of: int
    version: int


def fingerprint_prefix(plan: ViewPlan) -> bytes:
    """The beginning of every key of the view: ``drop`` with it forgets the view."""
    return bytes.fromhex(plan.fingerprint)


def row_prefix(plan: ViewPlan) -> bytes:
    return _row_prefix(plan.fingerprint)


@cache
def _row_prefix(fingerprint: str) -> bytes:
    return bytes.fromhex(fingerprint) + _ROW


def watermark_key(plan: ViewPlan) -> bytes:
    return fingerprint_prefix(plan) + _MARK


def decode_watermark(value: bytes | None) -> Watermark | None:
    if value is None:
        return None
    if value[16:] != _FORMAT:
        raise StoreError("the online store was written by another version of headway; materialize the view again")
    return Watermark(*unstamp(value))


def read_watermark(store: OnlineStore, plan: ViewPlan) -> Watermark | None:
    """How far the view has been materialized; None if never to the end."""
    return decode_watermark(store.get_many([watermark_key(plan)])[0])


def write_watermark(store: OnlineStore, plan: ViewPlan, mark: Watermark) -> bool:
    """Record a refresh as complete, after all its rows; False if a later one has been recorded meanwhile."""
    return store.put_many([(watermark_key(plan), stamp(*mark) + _FORMAT)]) == 1


def encode_keys(plan: ViewPlan, keys: pa.Table | Mapping[str, Sequence[Any]]) -> list[Key]:
    """The store's key of each entity, in order; None where a key column is null.

    ``keys`` has the plan's key columns by name. ``DataError`` if one is missing or of a kind that cannot be meant,
    such as the text "1" for a number.
    """
    for field in plan.keys:
        if field.name not in (keys.column_names if isinstance(keys, pa.Table) else keys):
            raise DataError(f"view {plan.name!r} is keyed by {field.name!r}, and no such column was given")
    if isinstance(keys, pa.Table):
        arrays = [flat(keys.column(field.name)) for field in plan.keys]
        if arrays and keys.num_rows <= _FEW and all(map(_is_plain, arrays)):
            listed = [array.to_pylist() for array in arrays]
            if (few := _encode_few(plan, listed)) is not None:
                return few
        return _encode_arrays(plan, arrays, keys.num_rows)
    columns = [keys[field.name] for field in plan.keys]
    if len({len(column) for column in columns}) > 1:
        raise DataError(f"the key columns of view {plan.name!r} have different lengths")
    if columns and len(columns[0]) <= _FEW and (few := _encode_few(plan, columns)) is not None:
        return few
    arrays = [_as_array(plan, field, column) for field, column in zip(plan.keys, columns, strict=True)]
    return _encode_arrays(plan, arrays, len(arrays[0]) if arrays else 1)


def _is_plain(array: pa.Array) -> bool:
    """Whether the values are whole numbers or texts, all of them there."""
    return not array.null_count and (pa.types.is_integer(array.type) or pa.types.is_string(array.type))


def _encode_few(plan: ViewPlan, columns: Sequence[Sequence[Any]]) -> list[Key] | None:
    """The path of a request, without Arrow: plain ints and strings; None if anything else is among them."""
    prefix = row_prefix(plan)
    parts: list[Iterable[bytes]] = []
    try:
        for field, column in zip(plan.keys, columns, strict=True):
            kinds = set(map(type, column))
            if kinds == _ONLY_INT and field.type in _INTS:
                if len(columns) == 1:
                    return list(map(_ROW_OF_INT.pack, repeat(prefix), column))
                parts.append(map(_INT.pack, column))
            elif kinds == _ONLY_TEXT and field.type == "string":
                texts = [value.encode() for value in column]
                parts.append(texts if len(columns) == 1 else map(_with_length, texts))
            else:
                return None
        if len(parts) == 1:
            return [prefix + part for part in parts[0]]
        return [prefix + b"".join(row) for row in zip(*parts, strict=True)]
    except (struct.error, UnicodeEncodeError):
        return None


def _with_length(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def _as_array(plan: ViewPlan, field: Field, column: Sequence[Any]) -> pa.Array:
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return flat(column)
    try:
        if field.type == "uint64" and set(map(type, column)) <= {int, type(None)}:
            return pa.array(column, pa.uint64())
        return pa.array(column)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise _misfit(plan, field, "values of several kinds or sizes") from error


def _encode_arrays(plan: ViewPlan, arrays: Sequence[pa.Array], rows: int) -> list[Key]:
    arrays = [_fitted(plan, field, array) for field, array in zip(plan.keys, arrays, strict=True)]
    null = np.zeros(rows, bool)
    for array in arrays:
        if array.null_count:
            null |= array.is_null().to_numpy(zero_copy_only=False)
    encoded: list[Key]
    if any(is_text(array.type) for array in arrays):
        encoded = _join_parts(row_prefix(plan), arrays)
    else:
        encoded = _join_numbers(row_prefix(plan), arrays, rows)
    for at in np.flatnonzero(null):
        encoded[at] = None
    return encoded


def _fitted(plan: ViewPlan, field: Field, array: pa.Array) -> pa.Array:
    """``array`` in the plan's type, if it is of the same family: text is no number, and a number no time."""
    wanted = arrow_type(field.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), wanted)
    if pa.types.is_floating(array.type) and pa.types.is_integer(wanted):
        # A DataFrame makes floats of integers with nulls.
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    elif _family(array.type) != _family(wanted) and not (
        pa.types.is_integer(array.type) and pa.types.is_floating(wanted)
    ):
        raise _misfit(plan, field, str(array.type))
    if pa.types.is_integer(wanted) and not pa.types.is_uint64(wanted):
        wanted = pa.int64()  # an int32 key may be asked for with any number: it is not there
    try:
        return array.cast(wanted)
    except pa.ArrowInvalid as error:
        raise _misfit(plan, field, str(array.type)) from error


def _misfit(plan: ViewPlan, field: Field, got: str) -> DataError:
    return DataError(f"key {field.name!r} of view {plan.name!r} is of type {field.type}, and {got} was given")


_FAMILIES: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
    ("bool", pa.types.is_boolean),
    ("integer", pa.types.is_integer),
    ("float", pa.types.is_floating),
    ("date", pa.types.is_date),
    ("timestamp with time zone", lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None),
    ("timestamp", pa.types.is_timestamp),
    ("time", pa.types.is_time),
    ("duration", pa.types.is_duration),
    ("decimal", pa.types.is_decimal),
    ("text", lambda kind: is_text(kind) and "string" in str(kind)),
    ("bytes", is_text),
)


def _family(kind: pa.DataType) -> str:
    return next((name for name, belongs in _FAMILIES if belongs(kind)), str(kind))


def _numbers(array: pa.Array) -> np.ndarray:
    """(n, 8) bytes of a column of fixed width; what is null is anything."""
    kind = array.type
    if pa.types.is_floating(kind):
        values = _stored(array.cast(pa.float64()), "<f8") + 0.0  # makes -0.0 the same 0.0
        big = np.where(np.isnan(values), np.nan, values).astype(">f8")
    elif pa.types.is_uint64(kind):
        big = _stored(array, "<u8").astype(">u8")
    else:
        if pa.types.is_date32(kind) or pa.types.is_time32(kind):
            array = array.view(pa.int32())
        big = _stored(array.cast(pa.int64()), "<i8").astype(">i8")
    return big.view(np.uint8).reshape(len(array), 8)


def _stored(array: pa.Array, kind: str) -> np.ndarray:
    """The values of an array of eight bytes each. To fill its nulls first would import pandas, in a server too."""
    if not len(array):
        return np.empty(0, kind)
    return np.frombuffer(array.buffers()[1], kind, len(array), 8 * array.offset)


def _join_numbers(prefix: bytes, arrays: Sequence[pa.Array], rows: int) -> list[Key]:
    width = len(prefix) + 8 * len(arrays)
    keys = np.empty((rows, width), np.uint8)
    keys[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    for i, array in enumerate(arrays):
        start = len(prefix) + 8 * i
        keys[:, start : start + 8] = _numbers(array)
    listed: list[Key] = keys.view(f"V{width}").ravel().tolist()
    return listed


def _join_parts(prefix: bytes, arrays: Sequence[pa.Array]) -> list[Key]:
    if len(arrays) == 1:
        return [prefix + part for part in texts_of(arrays[0])]
    parts = []
    for array in arrays:
        if is_text(array.type):
            parts.append([_with_length(part) for part in texts_of(array)])
        else:
            parts.append(_numbers(array).view("V8").ravel().tolist())
    return [prefix + b"".join(row) for row in zip(*parts, strict=True)]
