"""Small facts about Arrow types and arrays."""

from __future__ import annotations

import re

import pyarrow as pa

from headway.errors import DefinitionError

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
_DECIMAL = re.compile(r"decimal(?:128)?\((\d+), ?(-?\d+)\)")


def arrow_type(text: str) -> pa.DataType:
    """The type whose ``str`` is ``text``, for types that have one value per row.

    >>> arrow_type("timestamp[us, tz=UTC]"), arrow_type("date32[day]")
    (TimestampType(timestamp[us, tz=UTC]), DataType(date32[day]))
    """
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
