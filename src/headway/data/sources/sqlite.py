"""Tables of a SQLite database, through ADBC.

SQLite has a type for each value and none for columns, so a column is what it was declared as: whole numbers, double,
text or bytes; BOOLEAN is a boolean, and the texts of DATE, DATETIME and TIMESTAMP columns are dates and times. A value
that is not what its column was declared as stops the reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import adbc_driver_sqlite.dbapi as driver
import pyarrow as pa

from headway.data.sources._adbc import Cursor, identifier, literal, named, quoted
from headway.data.sources._raw import STANDS_FOR
from headway.errors import DataError, StoreError
from headway.plugins import maturity

_EXAMPLES = {"integer": "1", "double": "1.5", "text": "'x'", "bytes": "x'00'", "": "null"}


@maturity("stable")
def open_reader(connection: str) -> SqliteReader:
    """A reader of the tables of the database at a URL such as ``sqlite:////srv/shop.db``."""
    file = Path(unquote(connection.partition("://")[2].partition("?")[0]).removeprefix("/"))
    if not file.is_file():
        raise StoreError(f"SQLite: there is no database at {file}; see to the connection of the source")
    with named("SQLite"):
        opened = driver.connect(f"file:{quote(str(file))}?mode=ro", autocommit=True)
    return SqliteReader(Cursor(opened, "SQLite"))


class SqliteReader:
    """See ``TableReader``."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def read(self, table: str, cursor: str | None = None, since: object = None) -> pa.RecordBatchReader:
        name = identifier(table)
        declared = self._declared(table)
        if cursor is not None and cursor not in declared:
            raise DataError(f"SQLite: {table} has no column {cursor!r}, which is to be its cursor")
        columns = ", ".join(quoted(column) for column in declared)
        sql = f"select {columns} from {name}"
        if cursor is not None:
            by = f"{quoted(cursor)} collate binary"
            sql += "" if since is None else f" where {by} >= {literal(since)} or {by} is null"
            sql = f"select * from ({sql} order by {by})"
        # The driver takes the types of the first rows for those of all: the first one is an example of each.
        examples = ", ".join(f"{_EXAMPLES[_kind(kind)[0]]} as {quoted(c)}" for c, kind in declared.items())
        found = self._cursor.query(f"select {examples} union all {sql}")
        schema = pa.schema([_field(item, declared[item.name]) for item in found.schema])
        return pa.RecordBatchReader.from_batches(schema, self._typed(found, schema))

    def close(self) -> None:
        self._cursor.close()

    def _declared(self, table: str) -> dict[str, str]:
        """The columns and what they were declared as."""
        parts = identifier(table).split(".")
        values = [f"'{part[1:-1].replace(chr(39), chr(39) * 2)}'" for part in reversed(parts)]
        found = self._cursor.rows(f"select name, type from pragma_table_info({', '.join(values[:2])})")
        if not found:
            raise DataError(f"SQLite: no such table: {table}")
        return {row["name"]: row["type"] or "" for row in found}

    def _typed(self, found: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        example = True
        for batch in self._cursor.batches(found):
            rows = batch.slice(1) if example else batch
            example = False
            columns = [column.cast(item.type) for column, item in zip(rows.columns, schema, strict=True)]
            if rows.num_rows:
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _field(item: pa.Field, declared: str) -> pa.Field:
    _, meaning = _kind(declared)
    if meaning == "boolean":
        return pa.field(item.name, pa.bool_())
    return pa.field(item.name, item.type, metadata={STANDS_FOR: meaning.encode()} if meaning else None)


def _kind(declared: str) -> tuple[str, str]:
    """What the values of a column are, by SQLite's own rules for what it was declared as, and what they stand for."""
    text = declared.upper()
    if not text:
        return "", ""
    if "BOOL" in text:
        return "integer", "boolean"
    if text.startswith(("DATETIME", "TIMESTAMP")):
        return "text", "time"
    if text == "DATE":
        return "text", "date"
    if "INT" in text:
        return "integer", ""
    if any(word in text for word in ("CHAR", "CLOB", "TEXT", "UUID", "JSON")):
        return "text", ""
    return ("bytes", "") if "BLOB" in text else ("double", "")
