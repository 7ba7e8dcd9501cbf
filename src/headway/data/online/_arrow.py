"""Small facts about Arrow types and arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headway.define.records import list_type
from headway.errors import DefinitionError

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
_DECIMAL = re.compile(r"decimal(?:128)?\((\d+), ?(-?\d+)\)")


def arrow_type(text: str) -> pa.DataType:
    """The type whose ``str`` is ``text``, for types that have one value per row, or as many in every row.

    >>> arrow_type("timestamp[us, tz=UTC]"), arrow_type("date32[day]")
    (TimestampType(timestamp[us, tz=UTC]), DataType(date32[day]))
    """
    if items := list_type(text):
        return pa.list_(arrow_type(items[0]), items[1])
    if match := _TIMESTAMP.fullmatch(text):
        return pa.timestamp(match[1], tz=match[2])
    if match := _DECIMAL.fullmatch(text):
        return pa.decimal128(int(match[1]), int(match[2]))
    try:
        return pa.type_for_alias(text)
    except ValueError:
        raise DefinitionError(f"the online store has no room for values of type {text}; cast them to text") from None


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def is_text(kind: pa.DataType) -> bool:
    """Whether values have no fixed width of their own here."""
    kinds = pa.types
    return bool(
        kinds.is_string(kind)
        or kinds.is_large_string(kind)
        or kinds.is_string_view(kind)
        or kinds.is_binary(kind)
        or kinds.is_large_binary(kind)
        or kinds.is_binary_view(kind)
        or kinds.is_fixed_size_binary(kind)
        or kinds.is_decimal(kind)
    )


def texts_of(array: pa.Array) -> list[bytes]:
    """The values of an ``is_text`` array as bytes; empty where one is null."""
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.string())
    return [value or b"" for value in array.cast(pa.large_binary()).to_pylist()]


# pyarrow's own way from numpy imports pandas, at the first array of a process: a server would stand still for that.


def validity(null: np.ndarray) -> pa.Buffer | None:
    """The buffer that says which values are there; none where all are."""
    return pa.py_buffer(np.packbits(~null, bitorder="little")) if np.count_nonzero(null) else None


def number_array(values: np.ndarray, null: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Values of fixed width, as they are stored, as an array of their type."""
    data = np.packbits(values, bitorder="little") if pa.types.is_boolean(kind) else np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [validity(null), pa.py_buffer(data)])


def bytes_array(values: Sequence[bytes], null: np.ndarray) -> pa.Array:
    """Values of any length as large binary."""
    ends = np.cumsum(np.array([0, *map(len, values)], np.int64))
    buffers = [validity(null), pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.large_binary(), len(values), buffers)
