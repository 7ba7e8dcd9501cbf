"""The Arrow types that headway keeps tables in, and the way there from every other type.

Plain types are those that Delta Lake, DuckDB and Spark agree on. From elsewhere:

    unsigned integer                   → the next wider signed one (uint64 → int64 if every value fits)
    float16                            → float32
    timestamp of any unit              → microseconds, rounded down; with a zone → in UTC
    date64                             → date32
    time                               → text, ``13:45:00.000000``
    duration                           → int64, microseconds
    dictionary, run-end encoded        → their values
    large and view strings and binary  → string and binary; fixed-size binary → binary
    uuid                               → text, ``12345678-…``
    large and fixed-size lists         → list
    null                               → string, all null
    decimal256                         → decimal128, if it has at most 38 digits

What has no place here (intervals, unions, wider decimals) is refused.
"""

from __future__ import annotations

import uuid

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from headway.errors import DataError

_EXACT: dict[pa.DataType, pa.DataType] = {
    pa.null(): pa.string(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
_KEPT = (
    *(types.is_boolean, types.is_signed_integer, types.is_float32, types.is_float64, types.is_date32),
    *(types.is_string, types.is_binary, types.is_decimal128),
)


def plain_type(given: pa.DataType) -> pa.DataType:
    """The plain type that stands for ``given``.

    Raises ``DataError`` if there is none; the message begins with the type, for the caller to say where it was met.

    >>> str(plain_type(pa.dictionary(pa.int8(), pa.large_string())))
    'string'
    """
    if given in _EXACT:
        return _EXACT[given]
    if any(is_kept(given) for is_kept in _KEPT):
        return given
    found = _in_place_of(given) or _inside(given)
    if found is None:
        raise DataError(f"the type {given} has no counterpart in a table; cast it, e.g. to text, where it is written")
    return found


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """``schema`` with plain types; every column may be null and metadata are left out."""
    fields = []
    for field in schema:
        try:
            fields.append(pa.field(field.name, plain_type(field.type)))
        except DataError as error:
            raise DataError(f"column {field.name!r}: {error}") from None
    return pa.schema(fields)


def plain(array: pa.Array) -> pa.Array:
    """The values of ``array`` in their plain type.

    Raises ``DataError`` for values that do not fit, such as a uint64 above 2**63 - 1.
    """
    target = plain_type(array.type)
    if array.type == target:
        return array
    try:
        return _convert(array, target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"a value of type {array.type} does not fit {target}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _convert(array: pa.Array, target: pa.DataType) -> pa.Array:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _uuid_text(array) if _is_uuid(kind) else plain(array.storage)
    if types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(array))
    if types.is_timestamp(kind):
        return _microseconds(array, target)
    if types.is_duration(kind):
        return pc.cast(array, pa.duration("us"), safe=False).view(pa.int64())
    return array.cast(target)


def _microseconds(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Rounded down, before 1970 too: a plain cast would round towards 1970, so an event could move past its cause."""
    instants = array.view(pa.timestamp(array.type.unit))
    if array.type.unit == "ns":
        instants = pc.floor_temporal(instants, unit="microsecond")
    return instants.cast(pa.timestamp("us")).view(target)


def _uuid_text(array: pa.ExtensionArray) -> pa.Array:
    values = array.storage.to_pylist()
    return pa.array([None if value is None else str(uuid.UUID(bytes=value)) for value in values], pa.string())


def _is_uuid(given: pa.DataType) -> bool:
    return getattr(given, "extension_name", None) == "arrow.uuid"


def _in_place_of(given: pa.DataType) -> pa.DataType | None:
    """The plain type for a type that has parameters."""
    if types.is_timestamp(given):
        return pa.timestamp("us", None if given.tz is None else "UTC")
    if _is_uuid(given) or types.is_time(given):
        return pa.string()
    if types.is_duration(given):
        return pa.int64()
    if types.is_fixed_size_binary(given):
        return pa.binary()
    if types.is_decimal(given) and given.precision <= 38:
        return pa.decimal128(given.precision, given.scale)
    return None


def _inside(given: pa.DataType) -> pa.DataType | None:
    """The plain type for a type that is made of others."""
    if isinstance(given, pa.BaseExtensionType):
        return plain_type(given.storage_type)
    if types.is_dictionary(given) or types.is_run_end_encoded(given):
        return plain_type(given.value_type)
    if types.is_struct(given):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in given])
    if types.is_map(given):
        return pa.map_(plain_type(given.key_type), plain_type(given.item_type))
    if types.is_list(given) or types.is_large_list(given) or types.is_fixed_size_list(given):
        return pa.list_(plain_type(given.value_type))
    return None
