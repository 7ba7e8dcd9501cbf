"""Columns of one name from several files, made one."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

from headway.data.engine import plain_type
from headway.data.sources._text import Kinds
from headway.errors import DataError


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file: its name, its type there, and for texts what they may stand for."""

    name: str
    type: pa.DataType
    kinds: Kinds | None = None


def merge(one: Column, other: Column) -> Column:
    """The column that holds the values of both; raises ``DataError`` if their types do not go together."""
    common = common_type(one.type, other.type)
    if common is None:
        raise DataError(f"column {one.name!r} is {one.type} in one place and {other.type} in another")
    both = [column.kinds for column in (one, other) if column.kinds is not None]
    return Column(one.name, common, frozenset.intersection(*both) if both else None)


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both; None if there is none.

    Integers and floats widen, integers among floats become double, decimals gain digits, structs gain fields; null
    goes with everything.
    """
    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    try:
        one, other = plain_type(one), plain_type(other)
    except DataError:
        return None
    return one if one == other else _wider(one, other)


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if types.is_integer(one) and types.is_integer(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    if _is_number(one) and _is_number(other):
        return pa.float64()
    if types.is_decimal(one) and types.is_decimal(other):
        scale = max(one.scale, other.scale)
        digits = max(one.precision - one.scale, other.precision - other.scale)
        return pa.decimal128(digits + scale, scale) if digits + scale <= 38 else None
    if types.is_timestamp(one) and types.is_timestamp(other):
        return pa.timestamp("us", "UTC")  # one of them is naive, and will be placed in its zone
    if types.is_list(one) and types.is_list(other):
        inner = common_type(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_struct(one) and types.is_struct(other):
        return _wider_struct(one, other)
    return None


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _wider_struct(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    fields = {field.name: field.type for field in one}
    for field in other:
        common = common_type(fields.get(field.name, field.type), field.type)
        if common is None:
            return None
        fields[field.name] = common
    return pa.struct(list(fields.items()))
