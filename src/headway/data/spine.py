"""Tables that come in: anything that speaks Arrow becomes keys of a plan's types and instants in UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.localtime import NAIVE, localise
from headway.define.records import Field
from headway.errors import DataError, UsageError, suggest


def as_table(data: Any, what: str = "the spine") -> pa.Table:
    """Any object with the Arrow PyCapsule interface (pandas, Polars, DuckDB, Arrow), or a dict of columns, as a table.

    >>> as_table({"zone_id": [1, 2]}).num_rows
    2
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    try:
        if hasattr(data, "__arrow_c_stream__"):
            return pa.table(data)
        if isinstance(data, Mapping):
            return pa.table({name: _as_column(values) for name, values in data.items()})
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{what} cannot be read as a table: {_first_line(error)}") from error
    raise UsageError(
        f"{what} is a {type(data).__name__}; give a pandas, Polars, DuckDB or Arrow table, or a dict of columns"
    )


def _as_column(values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    return pa.array(values if isinstance(values, np.ndarray | Sequence) else list(values))


def column(table: pa.Table, name: str, what: str = "the spine") -> pa.Array:
    """One column as a contiguous array, or a sentence that names the columns there are."""
    at = table.schema.get_all_field_indices(name)
    if not at:
        raise DataError(f"{what} has no column {name!r}; {suggest(name, table.column_names)}")
    if len(at) > 1:
        raise DataError(f"{what} has {len(at)} columns called {name!r}; keep one")
    found = table.column(at[0]).combine_chunks()
    if isinstance(found, pa.ChunkedArray):  # zero chunks
        found = pa.array([], found.type)
    return found.dictionary_decode() if pa.types.is_dictionary(found.type) else found


def key_columns(table: pa.Table, keys: Sequence[Field], names: Mapping[str, str], what: str = "the spine") -> pa.Table:
    """The entity's keys, cast to their types without loss; ``names`` says which column holds which key."""
    columns = {}
    for key in keys:
        name = names.get(key.name, key.name)
        columns[key.name] = cast_key(column(table, name, what), key, f"column {name!r} of {what}")
    return pa.table(columns)


def cast_key(values: pa.Array, key: Field, what: str) -> pa.Array:
    """``values`` as the key's type: whole numbers of any width or as floats, but never text as numbers or back."""
    target = arrow_type(key.type)
    if values.type == target:
        return values
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), target)
    if pa.types.is_floating(values.type) and pa.types.is_integer(target):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if not _same_family(values.type, target):
        raise DataError(f"{what} is of type {values.type}, but the key {key.name!r} is {key.type}; convert it first")
    try:
        return values.cast(target)
    except pa.ArrowException as error:
        raise DataError(f"{what} does not fit the key {key.name!r} of type {key.type}: {_first_line(error)}") from None


def _same_family(got: pa.DataType, wanted: pa.DataType) -> bool:
    def number(t: pa.DataType) -> bool:
        return bool(pa.types.is_integer(t) or pa.types.is_floating(t))

    def text(t: pa.DataType) -> bool:
        return bool(pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t))

    return (
        (number(got) and number(wanted))
        or (text(got) and text(wanted))
        or (pa.types.is_timestamp(got) and pa.types.is_timestamp(wanted) and got.tz is not None)
        or (pa.types.is_date(got) and pa.types.is_date(wanted))
    )


def instants(values: pa.Array, timezone: str | None, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Timestamps as int64 microseconds in UTC, and which of them are not null.

    Naive timestamps and dates need ``timezone``: an ambiguous local time takes the earlier offset, one that a clock
    change skipped moves forward to the change. Finer units are floored.
    """
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("s"))
    if not pa.types.is_timestamp(values.type):
        raise DataError(f"{what} is of type {values.type}; it must be a timestamp")
    if values.type.tz is None and timezone is None:
        raise DataError(f"{what} has no time zone; pass timezone= (such as 'UTC' or 'Europe/Lisbon')")
    valid = np.asarray(values.is_valid())
    raw = np.asarray(values.cast(pa.timestamp(values.type.unit)).cast(pa.int64()).fill_null(0))
    per_unit = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}[values.type.unit]
    us = raw * per_unit[0] // per_unit[1]
    if values.type.tz is None:
        try:
            placed = localise(pa.array(us, pa.int64(), mask=~valid).view(NAIVE), str(timezone), _Uncounted())
        except DataError as error:
            raise DataError(f"{what}: {error}") from None
        us = np.asarray(placed.view(pa.int64()).fill_null(0))
    return us, valid


@dataclass
class _Uncounted:
    """Clock changes that nobody asks about: those of a spine are its owner's."""

    ambiguous: int = 0
    nonexistent: int = 0


def timestamps(us: np.ndarray, valid: np.ndarray | None = None) -> pa.Array:
    """Microseconds in UTC as an Arrow ``timestamp[us, tz=UTC]`` array."""
    return pa.array(us, pa.int64(), mask=None if valid is None else ~valid).cast(pa.timestamp("us", "UTC"))


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type a record's type text stands for.

    >>> arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])
    """
    if text.startswith("timestamp["):
        unit, _, zone = text[len("timestamp[") : -1].partition(", tz=")
        return pa.timestamp(unit, zone or None)
    named = {"date32[day]": pa.date32(), "double": pa.float64(), "float": pa.float32(), "bool": pa.bool_()}
    return named.get(text) or pa.type_for_alias(text)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
