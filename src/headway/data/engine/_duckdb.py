"""SQL over Parquet files and Arrow tables, by an embedded DuckDB."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from headway.data.engine._messages import translated
from headway.define.records import Field
from headway.errors import BindingError, UsageError
from headway.plugins import maturity

Tables = Mapping[str, Sequence[str] | pa.Table]


@maturity("stable")
class Engine:
    """One embedded database that holds nothing: each call names the tables it reads, and forgets them afterwards.

    Parameters
    ----------
    memory_limit
        What DuckDB may hold before it spills to disk, such as ``"4GB"``; half of the machine's memory by default.
    threads
        As many as there are cores by default.
    temp_directory
        Where it spills to; by default a directory of its own that goes with the engine.

    Safe to use from several threads: calls share memory and threads, but not names. The session is in UTC, so
    ``TIMESTAMPTZ`` comes out as ``timestamp[us, tz=UTC]``. No extension is ever downloaded, and Python variables are
    not visible as tables. Only a single SELECT is accepted.

    Errors are ``UsageError`` where DuckDB does not start with these settings, ``BindingError`` where the SQL does not
    fit the tables (an unknown column, function or type), ``DataError`` where values or files cannot be worked on,
    ``StoreError`` where memory or disk ran out.

    Examples
    --------
    >>> with Engine(threads=1) as engine:
    ...     engine.query('select sum(a) as s from "some/table"', {"some/table": pa.table({"a": [1, 2]})}).to_pylist()
    [{'s': Decimal('3')}]
    """

    def __init__(
        self, memory_limit: str | None = None, threads: int | None = None, temp_directory: Path | None = None
    ) -> None:
        self._own_directory = None if temp_directory else tempfile.mkdtemp(prefix="headway-spill-")
        self._settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit or "50%",
            "temp_directory": str(temp_directory or self._own_directory),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            "preserve_insertion_order": "true",
        }
        if threads is not None:
            self._settings["threads"] = str(threads)
        self._starting = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._closed = False

    def query(self, sql: str, tables: Tables) -> pa.Table:
        """The result of ``sql``; ``tables`` maps the names in it to Parquet files or Arrow tables."""
        with self._bound(sql, tables) as cursor:
            return cursor.sql(sql).to_arrow_table()

    def batches(self, sql: str, tables: Tables, rows: int = 65536) -> Iterator[pa.RecordBatch]:
        """The result of ``sql`` piece by piece, about ``rows`` at a time; it is never whole in memory."""
        with self._bound(sql, tables) as cursor:
            yield from cursor.sql(sql).to_arrow_reader(rows)

    def describe(self, sql: str, tables: Tables) -> tuple[Field, ...]:
        """The columns of the result and their Arrow types; reads the files' footers, no rows."""
        with self._bound(sql, tables) as cursor:
            schema = cursor.sql(sql).limit(0).to_arrow_table().schema
        return tuple(Field(field.name, str(field.type)) for field in schema)

    def close(self) -> None:
        """Free everything; calls after this one fail."""
        with self._starting:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
        if self._own_directory is not None:
            shutil.rmtree(self._own_directory, ignore_errors=True)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> duckdb.DuckDBPyConnection:
        """The database. It takes 20 ms to start, and most commands have no query for it."""
        with self._starting:
            if self._closed:
                raise UsageError("the engine is closed")
            if self._connection is None:
                try:
                    self._connection = duckdb.connect(":memory:", config=self._settings)
                except duckdb.Error as error:
                    said = str(error).splitlines()[0]
                    raise UsageError(f"DuckDB does not start with these settings: {said}") from None
                self._connection.execute("set global TimeZone = 'UTC'")
                self._connection.execute("set global lock_configuration = true")
            return self._connection

    @contextmanager
    def _bound(self, sql: str, tables: Tables) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor that sees ``tables`` as temporary views; they go with it."""
        database = self._started()
        with translated(tables):
            cursor = database.cursor()
            try:
                _check_single_select(cursor, sql)
                for name, data in tables.items():
                    _show(cursor, name, data)
                yield cursor
            finally:
                cursor.close()


def _check_single_select(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = cursor.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        got = " and ".join(kind.replace("_", " ") for kind in kinds) or "nothing"
        raise BindingError(f"the SQL must be a single SELECT, got {got}")


def _show(cursor: duckdb.DuckDBPyConnection, name: str, data: Sequence[str] | pa.Table) -> None:
    if isinstance(data, pa.Table):
        cursor.register(name, data)
        return
    if isinstance(data, str) or not data:
        raise UsageError(f"table {name!r} is a list of at least one Parquet file or an Arrow table, got {data!r}")
    files = ", ".join(_literal(os.fspath(path)) for path in data)
    by_name = ", union_by_name = true" if len(data) > 1 else ""
    quoted = '"' + name.replace('"', '""') + '"'
    cursor.execute(f"create temp view {quoted} as select * from read_parquet([{files}]{by_name})")


def _literal(path: str) -> str:
    """A path as an SQL string that stands for itself, not for a pattern."""
    escaped = "".join(f"[{char}]" if char in "*?[" else char for char in path)
    return "'" + escaped.replace("'", "''") + "'"
