"""What the databases that are read through ADBC have in common."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pyarrow as pa

from headway.errors import DataError, StoreError

_NOT_THERE = re.compile(r"does not exist|no such (?:table|column)|NOT_FOUND|42P01|42703", re.IGNORECASE)


class Cursor:
    """One statement at a time on a connection of a driver; every error is one sentence of ours."""

    def __init__(self, connection: Any, what: str) -> None:
        self._connection, self._what = connection, what
        self._open: list[Any] = []

    def query(self, sql: str) -> pa.RecordBatchReader:
        """The result of ``sql``, fetched as it is read."""
        with self._named():
            cursor = self._connection.cursor()
            self._open.append(cursor)
            cursor.execute(sql)
            reader: pa.RecordBatchReader = cursor.fetch_record_batch()
            return reader

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """A small result, whole."""
        with self._named():
            found: list[dict[str, Any]] = self.query(sql).read_all().to_pylist()
            return found

    def batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The batches of a result, with errors of the database as ours."""
        with self._named():
            yield from reader

    def close(self) -> None:
        for cursor in self._open:
            cursor.close()
        self._connection.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        with named(self._what):
            yield


@contextmanager
def named(what: str) -> Iterator[None]:
    """Raise what a driver raises inside as one sentence that begins with ``what``. It tells the first line of the
    database's own message only: others repeat the statement."""
    from adbc_driver_manager import Error

    try:
        yield
    except (Error, OSError, pa.ArrowException) as error:
        if isinstance(error, DataError | StoreError):
            raise
        text = _first(str(error))
        kind = DataError if _NOT_THERE.search(str(error)) else StoreError
        raise kind(f"{what}: {text}") from None


def _first(text: str) -> str:
    line = (text.strip().splitlines() or ["it failed"])[0]
    line = re.sub(r"^[A-Z_]+: ", "", line)
    line = re.sub(r"^\[(?:libpq|SQLite)\] ", "", line)
    return re.sub(r"^Failed to [a-z ]+: (?:ERROR:\s*)?", "", line).rstrip(".: ")


def identifier(table: str) -> str:
    """A name with its parts quoted: ``public.orders`` is ``"public"."orders"``; a part may be quoted already.

    >>> identifier('public.orders'), identifier('"my.table"')
    ('"public"."orders"', '"my.table"')
    """
    parts = re.findall(r'"(?:[^"]|"")*"|[^."]+', table)
    if not parts or ".".join(parts) != table:
        raise DataError(f"{table!r} is not the name of a table; write it as in orders or public.orders")
    return ".".join(part if part.startswith('"') else quoted(part) for part in parts)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A value of a cursor as SQL that PostgreSQL and SQLite both read."""
    if isinstance(value, bool) or value is None:
        raise DataError(f"a cursor is a number, a text or a time, got {value!r}")
    if isinstance(value, int | float | Decimal):
        return repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, dt.datetime | dt.date):
        value = value.isoformat(sep=" ") if isinstance(value, dt.datetime) else value.isoformat()
    return "'" + str(value).replace("'", "''") + "'"
