"""The types a declared ``schema`` names, as Arrow's."""

from __future__ import annotations

import pyarrow as pa

from headway.data.localtime import INSTANT
from headway.define import Source
from headway.define._schema import ColumnType, parse_type

_SIMPLE: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": INSTANT,
}


def declared_schema(source: Source) -> pa.Schema | None:
    """The columns a source declares; None if it declares none."""
    if source.schema is None:
        return None
    return pa.schema([(name, _arrow(parse_type(kind))) for name, kind in source.schema.items()])


def _arrow(kind: ColumnType) -> pa.DataType:
    if kind.name == "list":
        assert kind.of is not None
        return pa.list_(_arrow(kind.of))
    if kind.name == "decimal":
        return pa.decimal128(kind.digits, kind.scale)
    return _SIMPLE[kind.name]
