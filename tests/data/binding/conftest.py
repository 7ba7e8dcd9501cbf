"""A lake with source tables written as ingest writes them, without files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from headway.data.binding import Binder, load_events
from headway.data.engine import Engine
from headway.define import FeatureView, Source
from headway.define.records import Events

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000


def at(hour: float | None) -> datetime | None:
    """The moment ``hour`` hours after the start."""
    return None if hour is None else START + timedelta(hours=hour)


def us(hour: float) -> int:
    """``at`` as microseconds."""
    return int(START.timestamp()) * 1_000_000 + int(hour * HOUR)


class MemoryLake:
    """As much of a lake as reading takes, in memory; an Arrow table stands for its files."""

    def __init__(self) -> None:
        self._versions: dict[str, list[pa.Table]] = {}

    def write(self, table: str, data: pa.Table, mode: str = "overwrite", note: Any = None) -> int:
        self._versions.setdefault(table, []).append(data)
        return len(self._versions[table]) - 1

    def version(self, table: str) -> int | None:
        return len(self._versions[table]) - 1 if table in self._versions else None

    def files(self, table: str, version: int | None = None) -> pa.Table:
        return self._versions[table][-1 if version is None else version]

    def schema(self, table: str, version: int | None = None) -> pa.Schema:
        return self.files(table, version).schema

    def rows(self, table: str) -> int:
        return int(self.files(table).num_rows)


class World:
    """Sources with their rows. Columns of datetimes are moments; rows are dicts of columns."""

    def __init__(self, engine: Engine, lake: Any = None) -> None:
        self.lake, self.engine = lake or MemoryLake(), engine
        self.sources: dict[str, Source] = {}
        self.binder = Binder(self.sources, self.lake, self.engine)

    def add(self, source: Source, rows: Sequence[Mapping[str, Any]] = (), schema: pa.Schema | None = None) -> Source:
        """Declare a source, and put the rows of one of files into the lake."""
        self.sources[source.name] = source
        if source.path is not None:
            table = pa.Table.from_pylist(list(rows), schema=schema)
            self.lake.write(f"source/{source.name}", with_times(source, table), "overwrite", {})
        return source

    def rows(self, source: Source, hour: float = 1e6, *columns: str) -> list[Any]:
        """What is known of a source at an hour, in the order of arrival: tuples of columns, or single values."""
        table = self.binder.current_rows(source, us(hour)).sort_by("__seq")
        found = [tuple(row[c] for c in columns) for row in table.to_pylist()]
        return [row[0] for row in found] if len(columns) == 1 else found

    def events(self, view: FeatureView) -> Events:
        return load_events(self.binder.view(view), self.lake, self.engine)


def with_times(source: Source, table: pa.Table) -> pa.Table:
    """``__event``, ``__known``, ``__seq`` and, where there are ids, ``__deleted``, by DESIGN §3.1."""
    kind = pa.timestamp("us", tz="UTC")
    if source.timestamp is not None:
        events = table.column(source.timestamp).to_pylist()
        created = table.column(source.created).to_pylist() if source.created else events
        delay = timedelta(microseconds=source.delay_us)
        known = [None if e is None or c is None else max(e + delay, c) for e, c in zip(events, created, strict=True)]
        table = table.append_column("__event", pa.array(events, kind)).append_column("__known", pa.array(known, kind))
    if source.id:
        gone = table.column(source.deleted).to_pylist() if source.deleted else [False] * table.num_rows
        table = table.append_column("__deleted", pa.array(list(map(bool, gone)), pa.bool_()))
    return table.append_column("__seq", pa.array(np.arange(table.num_rows), pa.int64()))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)
