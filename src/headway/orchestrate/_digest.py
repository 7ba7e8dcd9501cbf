"""Digests: what a stage's inputs are, in 32 hex digits."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def digest(*parts: Any) -> str:
    """A digest of JSON-like values; dicts count by content, not by order."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | set | frozenset):
        return sorted(map(str, value)) if isinstance(value, set | frozenset) else list(value)
    if isinstance(value, np.generic):
        return value.item()
    return f"{type(value).__module__}.{type(value).__qualname__}:{value!r}"


def table_digest(table: pa.Table) -> str:
    """A digest of a table's names, types and values; what lies beneath a null does not count."""
    total = hashlib.blake2b(digest_size=16)
    for field, column in zip(table.schema, table.columns, strict=True):
        total.update(f"{field.name}:{field.type}:{len(column)};".encode())
        array = column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        total.update(np.packbits(np.asarray(array.is_valid())).tobytes())
        for buffer in _values(array):
            total.update(buffer)
    return total.hexdigest()


def _values(array: pa.Array) -> list[bytes]:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        filled = pc.fill_null(array, "")
        lengths = np.asarray(pc.binary_length(filled), dtype=np.int64)
        return [lengths.tobytes(), "".join(filled.to_pylist()).encode()]
    if pa.types.is_timestamp(array.type) or pa.types.is_date64(array.type):
        array = array.cast(pa.int64())
    elif pa.types.is_date32(array.type):
        array = array.cast(pa.int32())
    if pa.types.is_boolean(array.type) or pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return [np.ascontiguousarray(pc.fill_null(array, False if pa.types.is_boolean(array.type) else 0)).tobytes()]
    return [repr(array.to_pylist()).encode()]
