"""Where data comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from headway.define._base import Declaration, strings
from headway.define._checks import Check
from headway.define._duration import microseconds
from headway.define._schema import parse_type

Format = Literal["parquet", "csv", "ndjson"]
_ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".ndjson.gz": "ndjson",
    ".jsonl.gz": "ndjson",
}
_PASSWORD = re.compile(r"://[^/?#\s@:]*:(?!\$\{)[^/?#\s@]+@|(?i:\bpassword=)(?!\$\{)")


@dataclass(frozen=True, eq=False, init=False)
class Source(Declaration):
    """Rows from files, from a table of a database, from a query over other sources, or pushed.

    Parameters
    ----------
    path
        A file or a glob, relative to the project: Parquet, CSV or NDJSON (``format`` if the ending does not tell).
    table
        A table or view of a database, such as ``public.orders``.
    connection
        Where that database is, such as ``postgresql://app:${PG_PASSWORD}@db/shop`` or ``sqlite:///data/shop.db``.
        ``${VAR}`` stands for a variable of the process environment; secrets belong there.
    cursor
        A column of ``table`` that grows with every new or changed row (a number, a time of change): only rows at or
        after its last value are read. Without it the whole table is read every time.
    lookback
        Read rows again from this much before the last value of the cursor, a time: rows may be committed later than
        their cursor says. What the lake has already is left out.
    query
        A SELECT over other sources of the project that filters, computes and joins row by row.
    schema
        The columns and their types, such as ``{"user_id": "int64", "at": "timestamp"}``. A source with neither path,
        table nor query gets its rows pushed, and needs it.
    every
        How old a copy of a table may be before ``ingest`` asks the database again; by default it always asks.
    id
        Column or columns that identify a fact: rows of one id are its versions. Without it rows are separate events.
    timestamp
        Event time. A source without it is timeless: always known, never changing.
    created
        When the row became known; null means not yet.
    delay
        A row is known no earlier than its event time plus this.
    deleted
        A boolean column; a true row says that the fact ceased to exist.
    timezone
        The zone of the naive timestamps of a file. A query has none: its inputs are in UTC already.
    effective
        The timestamp means "valid from": the row already holds at that very moment.
    checks
        What must hold, see ``not_null`` and its siblings.

    Examples
    --------
    >>> Source("zones", path="data/zones.parquet").timeless
    True
    """

    name: str = ""
    path: str | None = None
    table: str | None = None
    connection: str | None = field(default=None, repr=False)  # may hold a secret
    cursor: str | None = None
    lookback: str | None = None
    query: str | None = None
    schema: Mapping[str, str] | None = None
    function: Callable[..., Any] | None = None  # see ``source``
    every: str | None = None
    format: Format | None = None
    id: tuple[str, ...] = ()
    timestamp: str | None = None
    created: str | None = None
    delay: str | None = None
    deleted: str | None = None
    timezone: str | None = None
    effective: bool = False
    checks: tuple[Check, ...] = ()

    kind = "source"

    def __init__(
        self,
        name: str,
        *,
        path: str | Path | None = None,
        table: str | None = None,
        connection: str | None = None,
        cursor: str | None = None,
        lookback: str | None = None,
        query: str | None = None,
        schema: Mapping[str, Any] | None = None,
        every: str | None = None,
        format: Format | None = None,
        id: str | Sequence[str] | None = None,
        timestamp: str | None = None,
        created: str | None = None,
        delay: str | None = None,
        deleted: str | None = None,
        timezone: str | None = None,
        effective: bool = False,
        checks: Sequence[Check] = (),
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        function: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags))
        self._set(name=name, path=None if path is None else str(path), query=query, timestamp=timestamp)
        self._set(table=table, connection=connection, cursor=cursor, lookback=lookback)
        self._set(every=every, function=function)
        self._common()
        self._set(schema=self._schema(schema))
        self._set(created=created, delay=delay, deleted=deleted, timezone=timezone, effective=bool(effective))
        self._set(id=strings(self, "id", id), checks=tuple(checks))
        self._check_place()
        self._check_time()
        self._set(format=self._format(format))
        for check in self.checks:
            if not isinstance(check, Check):
                raise self.refuse(f"checks takes checks such as hw.not_null('a'), got {check!r}")

    def _check_place(self) -> None:
        given = [what for what in ("path", "table", "query", "function") if getattr(self, what) is not None]
        if len(given) > 1:
            raise self.refuse(f"a source has one of path, table and query, got {' and '.join(given)}")
        if not given and self.schema is None:
            raise self.refuse(
                "a source has a path, a table or a query, got none; one whose rows are pushed has a schema"
            )
        if self.query is not None and self.schema is not None:
            raise self.refuse("a query has the columns that it selects, so it takes no schema")
        if self.path is not None and self.schema is not None:
            raise self.refuse("a source of files has the columns of its files, so it takes no schema")
        if self.connection is not None and self.table is None:
            raise self.refuse("a connection needs a table")
        if self.connection is not None and _PASSWORD.search(self.connection):
            raise self.refuse("connection holds a password; write ${NAME} in its place, a variable of the environment")
        if self.query is not None and self.cursor is not None:
            raise self.refuse("cursor belongs to the table that a query reads, not to the query")
        if self.lookback is not None:
            if self.cursor is None and self.function is None:
                raise self.refuse("lookback needs a cursor")
            microseconds(self.lookback, f"source {self.name!r} ({self.place}): lookback")
        if self.every is not None:
            if self.table is None and self.function is None:
                raise self.refuse("every is about asking a database or a function again, and this source asks neither")
            microseconds(self.every, f"source {self.name!r} ({self.place}): every")

    def _schema(self, given: Mapping[str, Any] | None) -> Mapping[str, str] | None:
        if given is None:
            return None
        if not isinstance(given, Mapping) or not given:
            raise self.refuse(f"schema maps columns to types, such as {{'user_id': 'int64'}}, got {given!r}")
        for column, kind in given.items():
            if not isinstance(column, str) or not column or column.startswith("__"):
                raise self.refuse(f"schema: {column!r} is no name of a column; one has text and begins with no __")
            try:
                parse_type(str(kind))
            except ValueError as error:
                raise self.refuse(f"schema, {column!r}: {error}") from None
        for what, names in (("timestamp", self.timestamp), ("cursor", self.cursor)):
            if names is not None and names not in given:
                raise self.refuse(f"{what} names the column {names!r}, which is not in schema")
        return {column: str(kind) for column, kind in given.items()}

    def _check_time(self) -> None:
        if self.delay is not None:
            microseconds(self.delay, f"source {self.name!r} ({self.place}): delay")
        for what in ("created", "delay", "effective"):
            if getattr(self, what) and self.timestamp is None:
                raise self.refuse(f"{what} needs a timestamp")
        if self.timezone is None:
            return
        if self.query is not None:
            raise self.refuse("timezone belongs to the files and tables a query reads, not to the query")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise self.refuse(f"{self.timezone!r} is not a time zone; use a name such as 'Europe/Lisbon'") from None

    def _format(self, given: str | None) -> Format | None:
        if self.path is None:
            return None
        if given is not None:
            if given not in get_args(Format):
                raise self.refuse(f"format is one of {', '.join(get_args(Format))}, got {given!r}")
            return given  # type: ignore[return-value]
        name = Path(self.path).name.lower()
        for ending in sorted(_ENDINGS, key=len, reverse=True):
            if name.endswith(ending):
                return _ENDINGS[ending]
        raise self.refuse(
            f"the ending of {self.path!r} does not tell the format; give format= one of {', '.join(get_args(Format))}"
        )

    @property
    def timeless(self) -> bool:
        return self.timestamp is None

    @property
    def delay_us(self) -> int:
        return 0 if self.delay is None else microseconds(self.delay)

    @property
    def origin(self) -> str:
        """Where its rows come from, in a word: the format of its files, ``table``, ``query``, ``function`` or
        ``push``."""
        if self.path is not None:
            return self.format or "file"
        return next((what for what in ("table", "query", "function") if getattr(self, what) is not None), "push")

    @property
    def pushed(self) -> bool:
        """Whether all its rows are pushed: nothing is there to be read."""
        return self.path is None and self.table is None and self.query is None and self.function is None


class FunctionSource(Source):
    """A source whose rows a function returns, see ``source``. Called, it is that function."""

    @property
    def takes_since(self) -> bool:
        """Whether the function is told how far its rows have been seen; if not, it returns all there are."""
        assert self.function is not None
        return bool(signature(self.function).parameters)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        assert self.function is not None
        return self.function(*arguments, **named)


def source(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    id: str | Sequence[str] | None = None,
    timestamp: str | None = None,
    schema: Mapping[str, Any] | None = None,
    cursor: str | None = None,
    lookback: str | None = None,
    every: str | None = None,
    created: str | None = None,
    delay: str | None = None,
    deleted: str | None = None,
    timezone: str | None = None,
    effective: bool = False,
    checks: Sequence[Check] = (),
    owner: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> Any:
    """Make a source of a function that returns rows: of an API, say.

    The function is given ``since``, the greatest ``cursor`` (or, without one, ``timestamp``) that it has returned so
    far as a ``datetime`` in UTC or a value of the cursor's type, None at first. It returns anything Arrow can read (a
    pandas or Polars frame, an Arrow table) or an iterator of such; rows that were returned before are recognised. A
    function without parameters returns all rows there are.

    Parameters
    ----------
    name
        The function's own name by default.
    every
        How old the copy may be before ``ingest`` calls the function again; by default it always does.

    The others are those of ``Source``.

    Examples
    --------
    >>> @source(id="station", timestamp="at", every="1h", schema={"station": "string", "at": "timestamp"})
    ... def weather(since): return []
    >>> weather.name, weather.every, weather(None)
    ('weather', '1h', [])
    """

    def make(function: Callable[..., Any]) -> FunctionSource:
        called = name if name is not None else getattr(function, "__name__", "")
        made = FunctionSource(
            called,
            function=function,
            id=id,
            timestamp=timestamp,
            schema=schema,
            cursor=cursor,
            lookback=lookback,
            every=every,
            created=created,
            delay=delay,
            deleted=deleted,
            timezone=timezone,
            effective=effective,
            checks=checks,
            owner=owner,
            description=description if description is not None else _first_line(function),
            tags=tags,
        )
        needed = [p for p in signature(function).parameters.values() if p.default is Parameter.empty]
        if len([p for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]) > 1 or any(
            p.kind is p.KEYWORD_ONLY for p in needed
        ):
            raise made.refuse("its function takes one argument, since, or none")
        return made

    return make if function is None else make(function)


def _first_line(function: Callable[..., Any]) -> str | None:
    text = (function.__doc__ or "").strip()
    return text.splitlines()[0] if text else None
