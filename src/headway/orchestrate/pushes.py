"""Rows that are pushed: checked against the source's declaration, and written down."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

import msgspec

from headway.clock import WallClock, monotonic, to_iso
from headway.data.pushes import PushLog
from headway.data.spine import as_table
from headway.define import Source
from headway.errors import DataError, NotFoundError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from headway.metadata import Metadata

STAGE = "pushed"  # records of metadata: what a server knows of the sources that take rows


class PushedSource(msgspec.Struct, frozen=True):
    """The declaration of a source that takes rows, as a server knows it."""

    name: str
    schema: dict[str, str]
    id: tuple[str, ...] = ()
    timestamp: str | None = None
    created: str | None = None
    delay: str | None = None
    deleted: str | None = None
    timezone: str | None = None

    def source(self) -> Source:
        """The declaration."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "name"}
        return Source(self.name, **fields)


def described(source: Source) -> PushedSource:
    """A declaration as a server knows it."""
    return msgspec.convert(
        {name: getattr(source, name) for name in PushedSource.__struct_fields__}, PushedSource, from_attributes=True
    )


def publish_pushed(metadata: Metadata, sources: Iterable[Source], at: int) -> None:
    """Tell servers what is pushed to sources, where that has changed."""
    for source in sources:
        output = described(source)
        digest = msgspec.json.encode(output).hex()[-64:]
        known = metadata.stages.get(STAGE, source.name)
        if known is None or known.output != msgspec.to_builtins(output):
            metadata.stages.put(STAGE, source.name, digest, output, at)


class PublishedSources:
    """The sources that take rows, by name, as they were declared at the last run; asked for at most once a second."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._found: dict[str, Source] = {}
        self._until = 0.0

    def __call__(self) -> Mapping[str, Source]:
        if monotonic() >= self._until:
            latest = self._metadata.stages.latest()
            found = [msgspec.convert(r.output, PushedSource) for (stage, _), r in latest.items() if stage == STAGE]
            self._found = {each.name: each.source() for each in found}
            self._until = monotonic() + 1
        return self._found


class Pushes:
    """Takes rows for sources. Any thread may push.

    ``now`` is the environment's clock. The log is begun with the first push.
    """

    def __init__(self, home: Path, sources: Callable[[], Mapping[str, Source]], now: Callable[[], int]) -> None:
        self._home, self._sources, self._now = home, sources, now
        self._log: PushLog | None = None
        self._beginning = threading.Lock()

    def push(self, name: str, rows: Any) -> int:
        """Have rows of a source on the disk, all of them or none; how many they are.

        ``rows`` is a table that speaks Arrow, or maps columns to Arrow arrays or to values as JSON has them.

        Raises
        ------
        NotFoundError
            There is no such source.
        UsageError
            The source is read from somewhere.
        DataError
            A column is missing or not expected, or a value does not fit: nothing is kept.
        StoreError
            The disk did not take them: nothing is kept.
        """
        sources = self._sources()
        if name not in sources:
            raise NotFoundError.among("source", name, sources)
        source = sources[name]
        if not source.pushed:
            raise UsageError(f"source {name!r} is read from somewhere; rows are pushed to one that has a schema only")
        table = table_of_columns(source, rows) if isinstance(rows, Mapping) else as_table(rows, "rows")
        check_rows(source, table)
        if table.num_rows:
            self._begun().push(name, table, self._now())
        return int(table.num_rows)

    def _begun(self) -> PushLog:
        with self._beginning:
            if self._log is None:
                self._log = PushLog(self._home, _new_name())
            return self._log

    def close(self) -> None:
        """Let go of files."""
        if self._log is not None:
            self._log.close()


def check_rows(source: Source, rows: pa.Table) -> None:
    """Refuse rows that ingest could not append: what is kept must fit."""
    from headway.data.sources._raw import RawReader

    assert source.schema is not None
    missing = [column for column in source.schema if column not in rows.column_names]
    if missing:
        raise DataError(
            f"source {source.name!r}: the pushed rows have no column {missing[0]!r}; its columns are"
            f" {', '.join(source.schema)}, and one that is not known is null"
        )
    for _ in RawReader(source, rows.to_batches(), "what was pushed").batches():
        pass


def table_of_columns(source: Source, columns: Mapping[str, Any]) -> pa.Table:
    """Columns of Arrow arrays, or of values as JSON has them, where times and dates are texts."""
    import pyarrow as pa

    from headway.data.sources._types import declared_schema

    declared = declared_schema(source)
    assert declared is not None
    arrays = {}
    for name, values in columns.items():
        if isinstance(values, pa.Array | pa.ChunkedArray):
            arrays[name] = values
            continue
        kind = declared.field(name).type if name in declared.names else None
        try:
            arrays[name] = _array(values, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            said = str(error).splitlines()[0]
            raise DataError(f"source {source.name!r}: column {name!r} is to be {kind}: {said}") from None
    return pa.table(arrays)


def _array(values: Sequence[Any], kind: pa.DataType | None) -> pa.Array:
    import pyarrow as pa

    if kind is None:
        return pa.array(values)  # a column that nobody expects, which is refused by its name
    if pa.types.is_temporal(kind):
        _each(values, str | date, "a time is a text such as 2024-01-31T12:00:00Z")
        return pa.array(values) if any(isinstance(value, date) for value in values) else pa.array(values, pa.string())
    if pa.types.is_integer(kind):
        _each(values, int, "give whole numbers")
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        _each(values, int | float | Decimal, "give numbers")
    return pa.array(values, kind)


def _each(values: Sequence[Any], kind: UnionType | type, wanted: str) -> None:
    for value in values:
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise TypeError(f"{wanted}, got {value!r}")


def _new_name() -> str:
    """Sorts by when it was made, and is nobody else's."""
    return f"{to_iso(WallClock().now())[:19].replace('-', '').replace(':', '')}-{os.urandom(6).hex()}"
