"""One connection pool, bound to a project and an environment, whose failures are headway's errors."""

from __future__ import annotations

import functools
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from headway.errors import HeadwayError, MissingExtra, SettingsError, StoreBusy, StoreError

BUSY_SECONDS = 10
_SHORT = 200
_WRITE = {"headway_write": True}
_BUSY_STATES = ("55P03", "40001", "40P01")  # PostgreSQL: lock not available, serialization failure, deadlock
_FULL_STATES = ("53100",)
_READONLY_STATES = ("25006", "42501")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """A pool of connections and the project and environment that every row belongs to.

    Threads may share it; a forked child must open its own.
    """

    engine: sa.Engine
    project: str
    env: str

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database."""
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that is on disk when the block ends, or leaves nothing if the block fails."""
        with self._translated(), self.engine.connect().execution_options(**_WRITE) as connection, connection.begin():
            yield connection

    def write_again(self, change: Callable[[sa.Connection], T], tries: int = 25) -> T:
        """What ``change`` returns, run again as long as somebody else's row gets in its way."""
        for _ in range(tries):
            try:
                with self.write() as connection:
                    return change(connection)
            except sa.exc.IntegrityError:
                continue
        raise StoreBusy(f"the metadata {self.place} is written to by too many at once; try again")

    def replace(self, table: sa.Table, key: Mapping[str, Any], **values: Any) -> None:
        """Put a row in the place of the one of the same ``key``, or beside the others; it becomes the newest."""

        def change(connection: sa.Connection) -> None:
            connection.execute(sa.delete(table).where(self.here(table, **key)))
            connection.execute(self.insert(table, **key, **values))

        self.write_again(change)

    def put(self, connection: sa.Connection, table: sa.Table, key: Sequence[str], rows: Sequence[Any]) -> None:
        """Insert ``rows`` (of the same columns), each over the row of the same ``key``, which keeps its id.

        ``key`` is a unique rule of the table besides project and environment.
        """
        if not rows:
            return
        place = {"project": self.project, "env": self.env}
        statement = _upsert(connection.dialect.name, table, tuple(key), tuple(rows[0]))
        connection.execute(statement, [place | row for row in rows])

    def insert_new(self, connection: sa.Connection, table: sa.Table, **values: Any) -> int | None:
        """The id of a new row, or None if a unique rule is in its way; waits for whoever is inserting that row."""
        statement = _insert_or(connection.dialect.name, table).values(project=self.project, env=self.env, **values)
        found: int | None = connection.execute(statement.on_conflict_do_nothing().returning(table.c.id)).scalar()
        return found

    def here(self, table: sa.FromClause, **values: Any) -> sa.ColumnElement[bool]:
        """The condition for this project's and environment's rows of ``table`` that have these values."""
        wanted = {"project": self.project, "env": self.env, **values}
        return sa.and_(*(table.c[name] == value for name, value in wanted.items()))

    def insert(self, table: sa.Table, **values: Any) -> sa.Insert:
        """An insert into ``table`` for this project and environment."""
        return sa.insert(table).values(project=self.project, env=self.env, **values)

    @property
    def place(self) -> str:
        """The database as a message may name it: without a password."""
        return place(self.engine.url)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self.place):
            yield


def connect(url: str, project: str, env: str) -> Database:
    """A pool for ``url`` (``sqlite:///path`` or ``postgresql://…``); nothing is opened yet."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise SettingsError(
            f"{url.split(':')[0]!r}… is no database URL; metadata takes sqlite:///path/to/metadata.db or postgresql://…"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        engine = _sqlite(parsed)
    elif backend in ("postgresql", "postgres"):
        engine = _postgres(parsed)
    else:
        raise SettingsError(f"metadata cannot be kept in {backend!r}; it takes sqlite:///… or postgresql://…")
    return Database(engine, project, env)


def place(url: sa.URL) -> str:
    """A database as a message may name it."""
    return str(url.database) if url.get_backend_name() == "sqlite" else f"at {url.host or 'localhost'}/{url.database}"


def short(text: str) -> str:
    """``text`` as an indexed column can hold it: a long one is cut, and told from others by a digest at its end."""
    text = clean(text)
    return (
        text
        if len(text) <= _SHORT
        else f"{text[: _SHORT - 33]}#{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    )


def clean(text: str) -> str:
    """``text`` without what PostgreSQL and JSON cannot hold: NUL and halves of surrogate pairs become ``?``."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


def as_json(value: Any) -> str:
    """``value`` as JSON text, whatever odd characters its strings have."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(_cleaned(msgspec.to_builtins(value))).decode()


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value


@functools.lru_cache(maxsize=64)
def _upsert(dialect: str, table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...]) -> Any:
    """An insert of ``columns`` over the row of the same ``key``. Made once, as making it takes longer than running it:
    the steps of a run are noted by it."""
    values: dict[str, Any] = {name: sa.bindparam(name) for name in ("project", "env", *columns)}
    statement = _insert_or(dialect, table).values(**values)
    unique = [name for name in ("project", "env", *key) if name in _unique_columns(table, key)]
    changed = {name: statement.excluded[name] for name in columns if name not in key}
    return statement.on_conflict_do_update(index_elements=unique, set_=changed)


def _insert_or(dialect: str, table: sa.Table) -> Any:
    """An insert that can say what to do about a row that is there already."""
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)  # each takes 50 ms to import


def _unique_columns(table: sa.Table, key: Sequence[str]) -> set[str]:
    """The columns of the unique rule that ``key`` stands for."""
    rules = [rule for rule in table.constraints if isinstance(rule, sa.UniqueConstraint)]
    names = ({column.name for column in rule.columns} for rule in rules)
    return next(found for found in names if found - {"project", "env"} == set(key))


def _sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise SettingsError("metadata needs a file: sqlite:///path/to/metadata.db")
    with translated(url.database):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    patience = {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}
    engine = sa.create_engine(url, connect_args=patience)
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, so that DDL is part of a transaction too
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """The switch, made once in a file's life, does not wait for other openers by itself."""
    for pause in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(pause)
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the write lock before it reads: an upgrade half way through could only fail.
    writes = connection.get_execution_options().get("headway_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres(url: sa.URL) -> sa.Engine:
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername == "postgresql+psycopg" and find_spec("psycopg") is None:
        raise MissingExtra("metadata in PostgreSQL needs psycopg; pip install 'headway[postgres]'")
    options = f"-c lock_timeout={BUSY_SECONDS}s -c synchronous_commit=on"
    return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10, "options": options})


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Failures of the database and of its disk become ``StoreBusy`` and ``StoreError``; a broken unique rule passes."""
    try:
        yield
    except (HeadwayError, sa.exc.IntegrityError):
        raise
    except sa.exc.DBAPIError as error:
        raise _translation(error.orig, where) from error
    except (sqlite3.Error, sa.exc.TimeoutError) as error:
        raise _translation(error, where) from error
    except OSError as error:
        raise StoreError(f"the metadata {where} cannot be reached: {error.strerror or error}") from error


def _translation(error: BaseException | None, where: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", -1) & 0xFF
    state = getattr(error, "sqlstate", None)
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or state in _BUSY_STATES:
        return StoreBusy(f"the metadata {where} is locked by somebody else ({said}); try again")
    if code == sqlite3.SQLITE_FULL or state in _FULL_STATES:
        return StoreError(f"the disk of the metadata {where} is full; make room and run the command again")
    if code == sqlite3.SQLITE_READONLY or state in _READONLY_STATES:
        return StoreError(f"the metadata {where} cannot be written to ({said}); check who owns it and its permissions")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{where} is not a sound SQLite database ({said}); restore it from a backup or move it away")
    return StoreError(f"the metadata {where} failed: {said}")
