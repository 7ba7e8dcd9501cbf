"""Arrow types from the text that records carry, and arrays across the border between Arrow and numpy."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.define.records import list_type
from headway.errors import DataError

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)?\((\d+), (-?\d+)\)")
_DECIMALS = {"32": pa.decimal32, "64": pa.decimal64, "128": pa.decimal128, "256": pa.decimal256}
_DTYPES = {"halffloat": "float16", "float": "float32", "double": "float64"}  # integers are called the same


def arrow_type(text: str, example: pa.DataType | None = None) -> pa.DataType:
    """The Arrow type that prints as ``text``; ``example`` is tried first, so that any type of a column is understood.

    >>> arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])
    """
    if example is not None and str(example) == text:
        return example
    if items := list_type(text):
        return pa.list_(arrow_type(items[0]), items[1])
    if match := _TIMESTAMP.fullmatch(text):
        return pa.timestamp(match[1], tz=match[2])
    if match := _DECIMAL.fullmatch(text):
        return _DECIMALS[match[1] or "128"](int(match[2]), int(match[3]))
    try:
        return pa.type_for_alias(text)
    except ValueError:
        raise DataError(f"{text!r} is not an Arrow type that can be computed; use a plain column type") from None


def as_array(column: pa.Array | pa.ChunkedArray, type_: pa.DataType, what: str) -> pa.Array:
    """One contiguous array of ``type_``; a value that does not fit is a DataError that names ``what``."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.type == type_:
        return array
    try:
        return array.cast(type_)
    except pa.ArrowException as error:
        raise DataError(f"{what} is {array.type} and does not fit {type_}: {error}") from None


def to_numpy(array: pa.Array) -> np.ndarray:
    """Numbers or bools as numpy, with anything in place of nulls; numbers without a copy.

    Arrow's own ``to_numpy`` imports pandas, see ``from_numpy``.
    """
    if pa.types.is_boolean(array.type):
        return to_numpy(array.cast(pa.uint8())).view(bool)
    dtype = np.dtype(_DTYPES.get(str(array.type), str(array.type)))
    if len(array) == 0:
        return np.empty(0, dtype=dtype)
    return np.frombuffer(array.buffers()[1], dtype=dtype, count=array.offset + len(array))[array.offset :]


def from_numpy(values: np.ndarray, absent: np.ndarray | None = None) -> pa.Array:
    """Numbers as an Arrow array, null where ``absent``.

    ``pa.array`` does the same, but its first call imports pandas where that is installed, which takes a second.
    """
    valid = None if absent is None else pa.py_buffer(np.packbits(~absent, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, data])


def fixed_lists(array: pa.Array, dim: int, what: str) -> pa.Array:
    """Lists as an array of a fixed size; DataError for one of another length, or with a null in it."""
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    lengths = pc.list_value_length(array)
    wrong = pc.indices_nonzero(pc.fill_null(pc.not_equal(lengths, dim), False))
    if len(wrong):
        got = lengths[wrong[0].as_py()].as_py()
        raise DataError(
            f"{what} has {dim} dimensions, and {len(wrong)} rows have lists of another length, such as {got};"
            " declare the length they have, or leave those rows out with a check"
        )
    items = array.flatten()
    if items.null_count:
        raise DataError(
            f"{what} has {items.null_count} nulls inside its lists; fill them in the source, or make the list null"
        )
    return fixed_list(items, dim, None if not array.null_count else to_numpy(array.is_valid()))


def fixed_list(items: pa.Array, n: int, valid: np.ndarray | None = None, *, spread: bool = True) -> pa.Array:
    """``n`` items each as a list; null where not ``valid``. ``spread``: ``items`` has those of the valid lists only."""
    if valid is None or valid.all():
        return pa.FixedSizeListArray.from_arrays(items, n)
    if spread:
        index = np.full(len(valid) * n, -1, dtype=np.int64)
        index[np.repeat(valid, n)] = np.arange(len(items))
        items = items.take(from_numpy(index, index < 0))
    mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.list_(items.type, n), len(valid), [mask], children=[items])
