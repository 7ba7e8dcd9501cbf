"""Tables of a PostgreSQL database, through ADBC.

Columns come as what Arrow has for them. Numerics with digits come as decimals, those without as double (as do the
digits beyond 38); UUIDs, JSON, enumerations, intervals, addresses and whatever else Arrow has no type for, as text.
"""

from __future__ import annotations

from collections.abc import Iterator

import adbc_driver_postgresql.dbapi as driver
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from headway.data.sources._adbc import Cursor, identifier, literal, named, quoted
from headway.errors import DataError
from headway.plugins import maturity

_MOST_DIGITS = 38


@maturity("stable")
def open_reader(connection: str) -> PostgresReader:
    """A reader of the tables of the database at a URL such as ``postgresql://app@db:5432/shop``."""
    scheme, _, rest = connection.partition("://")
    url = f"{scheme.partition('+')[0]}://{rest}"
    with named("PostgreSQL"):
        opened = driver.connect(url, autocommit=True)
    return PostgresReader(Cursor(opened, "PostgreSQL"))


class PostgresReader:
    """See ``TableReader``."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def read(self, table: str, cursor: str | None = None, since: object = None) -> pa.RecordBatchReader:
        name = identifier(table)
        columns = self._cursor.query(f"select * from {name} where false").schema
        if cursor is not None and cursor not in columns.names:
            raise DataError(f"PostgreSQL: {table} has no column {cursor!r}, which is to be its cursor")
        sql = f"select {', '.join(map(_selected, columns))} from {name}"
        if cursor is not None:
            by = quoted(cursor) + (' collate "C"' if types.is_string(columns.field(cursor).type) else "")
            sql += "" if since is None else f" where {by} >= {literal(since)} or {by} is null"
            sql += f" order by {by}"
        found = self._cursor.query(sql)
        pairs = zip(columns, found.schema, strict=True)
        schema = pa.schema([(came.name, _decimal(declared) or came.type) for declared, came in pairs])
        return pa.RecordBatchReader.from_batches(schema, self._typed(found, schema))

    def close(self) -> None:
        self._cursor.close()

    def _typed(self, found: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in self._cursor.batches(found):
            columns = [_number(column, item) for column, item in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _number(column: pa.Array, item: pa.Field) -> pa.Array:
    if not types.is_decimal(item.type):
        return column
    texts = column.storage if isinstance(column, pa.ExtensionArray) else column
    try:
        return pc.cast(texts, item.type)
    except pa.ArrowInvalid:
        raise DataError(
            f"PostgreSQL: column {item.name!r} holds a numeric that is no number of {item.type.precision} digits, such"
            " as NaN; select it as double precision in a view, and name that"
        ) from None


def _selected(item: pa.Field) -> str:
    """A column as it is selected: what Arrow has no type for, in another type."""
    column = quoted(item.name)
    kind = (item.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    if kind == "numeric":
        return column if _decimal(item) is not None else f"{column}::double precision as {column}"
    if kind == "money":
        return f"{column}::numeric::double precision as {column}"
    if kind in ("uuid", "json", "jsonb", "interval") or getattr(item.type, "extension_name", "") == "arrow.opaque":
        return f"{column}::text as {column}"
    return column


def _decimal(item: pa.Field) -> pa.DataType | None:
    """The type of a numeric that is declared with its digits."""
    facts = item.metadata or {}
    modifier = int(facts.get(b"POSTGRESQL:typmod", b"-1"))
    if facts.get(b"POSTGRESQL:type") != b"numeric" or modifier < 4:
        return None
    digits, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    return pa.decimal128(digits, scale) if digits <= _MOST_DIGITS and scale <= digits else None
