"""Arrow types from the text that records carry."""

from __future__ import annotations

import re

import pyarrow as pa

from headway.errors import DataError

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)?\((\d+), (-?\d+)\)")
_DECIMALS = {"32": pa.decimal32, "64": pa.decimal64, "128": pa.decimal128, "256": pa.decimal256}


def arrow_type(text: str, example: pa.DataType | None = None) -> pa.DataType:
    """The Arrow type that prints as ``text``; ``example`` is tried first, so that any type of a column is understood.

    >>> arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])
    """
    if example is not None and str(example) == text:
        return example
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
