"""Copying tables of databases, and what functions return, into the lake."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.databases import empty_database

import headway as hw
from headway import plugins
from headway.data.engine import Engine
from headway.data.ingest import Into, ingest_function, ingest_table
from headway.data.lake import Lake, open_lake
from headway.define import FunctionSource, Source
from headway.define.records import IngestResult
from headway.errors import DataError, NotFoundError, ProjectCodeError, StoreError

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


class Database:
    """A database of one of two kinds; ``url`` is what a source's connection says."""

    def __init__(self, url: str, execute: Callable[[str], Any]) -> None:
        self.url, self.execute = url, execute

    @property
    def postgresql(self) -> bool:
        return self.url.startswith("postgresql")


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        file = tmp_path / "shop.db"
        with sqlite3.connect(file, isolation_level=None) as connection:
            yield Database(f"sqlite:///{file}", connection.execute)
        connection.close()
        return
    import psycopg

    place = empty_database(request.getfixturevalue("postgres"))
    with psycopg.connect(place, autocommit=True) as opened:
        yield Database(place, opened.execute)  # type: ignore[arg-type]


@pytest.fixture
def read(lake: Lake, engine: Engine, database: Database) -> Callable[..., IngestResult]:
    def read(source: Source, hour: int = 1000, *, full: bool = False) -> IngestResult:
        reader = plugins.load("sources", plugins.scheme(database.url), least="stable").open(database.url)
        arrived = int((START + hour * HOUR).timestamp()) * 1_000_000
        try:
            return ingest_table(source, source.table or "", reader, Into(lake, engine, arrived, full))
        finally:
            reader.close()

    return read


def rows(lake: Lake, name: str = "orders") -> list[dict[str, Any]]:
    found = [pq.read_table(path) for path in lake.files(f"source/{name}")]
    return list(pa.concat_tables(found, promote_options="default").sort_by("__seq").to_pylist())


def orders(database: Database, count: int = 3) -> None:
    database.execute(
        "create table orders (id bigint, state text, amount numeric(12, 2), placed timestamp, changed bigint)"
    )
    for n in range(count):
        database.execute(f"insert into orders values ({n}, 'new', {n}.25, '2024-01-01 0{n}:00:00', {n})")


ORDERS: dict[str, Any] = {"table": "orders", "connection": "sqlite:///x.db", "timestamp": "placed"}


def test_a_cursor_reads_what_is_new_and_ties_are_neither_lost_nor_doubled(
    database: Database, read: Callable[..., IngestResult], lake: Lake
) -> None:
    orders(database)
    source = Source("orders", cursor="changed", id="id", **ORDERS)
    assert read(source).new == 3
    database.execute("insert into orders values (7, 'new', 1, '2024-01-01 05:00:00', 2)")  # at the cursor's last value
    database.execute("update orders set state = 'sent', changed = 3 where id = 1")
    again = read(source, 50)
    assert (again.read, again.new, again.versions, again.gone) == (3, 1, 1, 0)
    before = lake.version("source/orders")
    assert not read(source).changed
    assert lake.version("source/orders") == before  # nothing new, nothing written
    found = rows(lake)
    assert [(r["id"], r["state"]) for r in found] == [(0, "new"), (1, "new"), (2, "new"), (7, "new"), (1, "sent")]
    assert [(r["__known"] - START) // HOUR for r in found] == [0, 1, 2, 5, 50]
    assert str(found[0]["amount"]) in ("0.25",)


def test_rows_without_an_id_are_told_apart_at_the_boundary(
    database: Database, read: Callable[..., IngestResult], lake: Lake
) -> None:
    orders(database)
    source = Source("orders", cursor="changed", **ORDERS)
    read(source)
    for _ in range(2):  # twice the same row, and once one that the lake has already
        database.execute("insert into orders values (2, 'new', 2.25, '2024-01-01 02:00:00', 2)")
    assert read(source).new == 2
    assert not read(source).changed
    database.execute("insert into orders values (2, 'new', 2.25, '2024-01-01 02:00:00', 2)")
    assert read(source).new == 1
    assert len(rows(lake)) == 6


def test_lookback_finds_what_was_committed_late(
    database: Database, read: Callable[..., IngestResult], lake: Lake
) -> None:
    database.execute("create table orders (id bigint, at timestamp)")
    database.execute("insert into orders values (1, '2024-01-01 10:00:00')")
    source = Source("orders", table="orders", connection="sqlite:///x.db", cursor="at", timestamp="at", lookback="2h")
    plain = Source("plain", table="orders", connection="sqlite:///x.db", cursor="at", timestamp="at")
    read(source)
    read(plain)
    database.execute("insert into orders values (2, '2024-01-01 09:00:00')")
    assert (read(source).new, read(plain).new) == (1, 0)


def test_a_whole_table_is_compared(database: Database, read: Callable[..., IngestResult], lake: Lake) -> None:
    orders(database)
    source = Source("orders", id="id", **ORDERS)
    read(source)
    database.execute("delete from orders where id = 0")
    database.execute("update orders set state = 'sent' where id = 2")
    found = read(source, 30)
    assert (found.new, found.versions, found.gone, found.rows) == (0, 1, 1, 5)
    assert not read(source).changed
    assert [(r["id"], r["__deleted"], (r["__known"] - START) // HOUR) for r in rows(lake)[3:]] in (
        [(2, False, 30), (0, True, 30)],
        [(0, True, 30), (2, False, 30)],
    )


def test_a_whole_table_without_an_id_is_replaced_if_it_differs(
    database: Database, read: Callable[..., IngestResult], lake: Lake
) -> None:
    orders(database)
    source = Source("orders", **ORDERS)
    assert read(source).version == 0
    assert read(source).version == 0
    database.execute("delete from orders where id = 0")
    found = read(source)
    assert (found.version, found.rows, [r["id"] for r in rows(lake)]) == (1, 2, [1, 2])


def test_a_changed_schema(database: Database, read: Callable[..., IngestResult], lake: Lake) -> None:
    orders(database)
    source = Source("orders", cursor="changed", id="id", **ORDERS)
    read(source)
    database.execute("alter table orders add column note text")
    database.execute("update orders set note = 'x', changed = 9 where id = 0")
    assert read(source).versions == 1
    database.execute("alter table orders drop column state")
    with pytest.raises(DataError, match="column 'state' .* is in the lake, but does not come any more.* --full"):
        read(source)
    assert read(source, full=True).rows == 3
    assert "state" not in rows(lake)[0]


def test_what_a_cursor_cannot_see_is_refused(database: Database, read: Callable[..., IngestResult]) -> None:
    orders(database)
    source = Source("orders", cursor="changed", **ORDERS)
    read(source)
    database.execute("insert into orders (id) values (5)")
    with pytest.raises(DataError, match="1 rows have no value in its cursor 'changed'"):
        read(source)


def test_what_is_not_there(database: Database, read: Callable[..., IngestResult]) -> None:
    orders(database)
    with pytest.raises(DataError, match=r"(?i)nope"):
        read(Source("nope", table="nope", connection="sqlite:///x.db"))
    with pytest.raises(DataError, match="has no column 'nope', which is to be its cursor"):
        read(Source("orders", cursor="nope", **ORDERS))


def test_types_of_postgresql(postgres: str, lake: Lake, engine: Engine) -> None:
    import psycopg

    from headway.data.sources.postgresql import open_reader

    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as db:
        db.execute("create type mood as enum ('sad', 'ok')")
        db.execute(
            """create table kinds (a smallint, f numeric, g numeric(12, 2), j char(3), l date, m timestamp,
               n timestamptz, o time, p interval, q uuid, r jsonb, v mood, w inet, x text[], y numeric(40, 2))"""
        )
        db.execute(
            """insert into kinds values (1, 1.5, 12.34, 'ab', '2024-01-01', '2024-11-03 01:30', '2024-01-01 02:00+02',
               '01:02:03', '1 day', '6f1c0a3e-0000-4000-8000-000000000000', '{"a": 1}', 'ok', '127.0.0.1', array['x'],
               1.5)"""
        )
        source = Source("kinds", table="public.kinds", connection="postgresql://h", timezone="America/New_York")
        reader = open_reader(f"{postgres}/postgres")
        ingest_table(source, "public.kinds", reader, Into(lake, engine, 0))
        reader.close()
        db.execute("drop table kinds")
        db.execute("drop type mood")
    found = {name: value for name, value in rows(lake, "kinds")[0].items() if not name.startswith("__")}
    assert found == {
        "a": 1, "f": 1.5, "g": Decimal("12.34"), "j": "ab ", "l": START.date(),
        "m": datetime(2024, 11, 3, 5, 30, tzinfo=UTC), "n": START, "o": "01:02:03.000000", "p": "1 day",
        "q": "6f1c0a3e-0000-4000-8000-000000000000", "r": '{"a": 1}', "v": "ok", "w": "127.0.0.1/32", "x": ["x"],
        "y": 1.5,
    }  # fmt: skip


def test_types_of_sqlite(tmp_path: Path, lake: Lake, engine: Engine) -> None:
    from headway.data.sources.sqlite import open_reader

    file = tmp_path / "a.db"
    with sqlite3.connect(file) as db:
        db.execute("create table kinds (a int, b double, c varchar(9), d blob, e boolean, f datetime, g date)")
        db.executemany("insert into kinds (a) values (?)", [(n,) for n in range(1500)])  # more than the driver looks at
        db.execute("insert into kinds values (7, 2, 'x', x'00', 1, '2024-01-01 01:00:00', '2024-01-01')")
    db.close()
    source = Source("kinds", table="kinds", connection="sqlite:///a.db", timezone="Europe/Lisbon")
    reader = open_reader(f"sqlite:///{file}")
    ingest_table(source, "kinds", reader, Into(lake, engine, 0))
    reader.close()
    found = rows(lake, "kinds")
    assert len(found) == 1501
    assert {name: value for name, value in found[-1].items() if not name.startswith("__")} == {
        "a": 7, "b": 2.0, "c": "x", "d": b"\0", "e": True, "f": START + HOUR, "g": START.date(),
    }  # fmt: skip
    with sqlite3.connect(file) as db:
        db.execute("insert into kinds (a) values ('seven')")
    db.close()
    reader = open_reader(f"sqlite:///{file}")
    with pytest.raises(StoreError, match="SQLite: Type mismatch in column 0"):
        ingest_table(source, "kinds", reader, Into(lake, engine, 0))
    reader.close()


def test_databases_nobody_reads() -> None:
    with pytest.raises(NotFoundError, match="no installed package offers the source reader 'mysql'; there are: postg"):
        plugins.load("sources", "mysql")


KILLED = """
import sys
from pathlib import Path
from headway.data.engine import Engine
from headway.data.ingest import Into, ingest_table
from headway.data.lake import open_lake
from headway.data.sources.sqlite import open_reader
from headway.define import Source
import deltalake, pyarrow.parquet
root = Path(sys.argv[1])
source = Source("s", table="t", connection="sqlite:///t.db", cursor="at", id="id" if sys.argv[2] == "id" else None)
with Engine(threads=1) as engine:
    print("ready", flush=True)
    into = Into(open_lake(str(root / "lake")), engine, 0, scratch=root / "scratch")
    ingest_table(source, "t", open_reader(f"sqlite:///{root / 't.db'}"), into)
"""


@pytest.mark.parametrize("id", ["id", "none"])
def test_killed_while_a_table_grows(tmp_path: Path, lake: Lake, engine: Engine, id: str) -> None:
    from headway.data.sources.sqlite import open_reader

    chance, total = random.Random(id), 0
    with sqlite3.connect(tmp_path / "t.db", isolation_level=None) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("create table t (id integer, at integer, v text)")
        for _ in range(3):
            more = [(total + n, (total + n) // 7, "x" * 20) for n in range(chance.randrange(1, 30_000))]
            total += len(more)
            db.execute("begin")
            db.executemany("insert into t values (?, ?, ?)", more)
            db.execute("commit")
            with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), id], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(chance.uniform(0, 0.25))
                process.kill()
    db.close()
    reader = open_reader(f"sqlite:///{tmp_path / 't.db'}")
    source = Source("s", table="t", connection="sqlite:///t.db", cursor="at", id="id" if id == "id" else None)
    ingest_table(source, "t", reader, Into(lake, engine, 0, scratch=tmp_path / "scratch"))
    reader.close()
    found = rows(lake, "s")
    assert sorted(r["id"] for r in found) == list(range(total))
    assert len({r["__seq"] for r in found}) == total
    assert not list((tmp_path / "scratch").glob("*.parquet"))


def call(source: FunctionSource, lake: Lake, engine: Engine, hour: int = 1000) -> IngestResult:
    return ingest_function(source, Into(lake, engine, int((START + hour * HOUR).timestamp()) * 1_000_000))


def test_a_function_is_told_how_far_it_was_seen(lake: Lake, engine: Engine) -> None:
    told: list[Any] = []
    there = [{"station": "a", "at": START, "degrees": 1.5}, {"station": "b", "at": START + HOUR, "degrees": 2.5}]

    @hw.source(timestamp="at", schema={"station": "string", "at": "timestamp", "degrees": "double"}, every="1h")
    def weather(since: Any) -> Iterator[Any]:
        told.append(since)
        yield [row for row in there if since is None or row["at"] >= since]
        yield pa.table({"station": ["late"], "at": pa.array([START], pa.timestamp("us", "UTC"))}) if since else []

    assert call(weather, lake, engine).new == 2
    there.append({"station": "b", "at": START + HOUR, "degrees": 3.5})
    assert call(weather, lake, engine).new == 2  # the row at the same moment, and the one that came late
    assert not call(weather, lake, engine).changed
    assert told == [None, START + HOUR, START + HOUR]
    assert [(r["station"], r["degrees"]) for r in rows(lake, "weather")] == [
        ("a", 1.5), ("b", 2.5), ("b", 3.5), ("late", None),
    ]  # fmt: skip
    assert weather(None) is not None


def test_a_function_without_arguments_returns_all_there_is(lake: Lake, engine: Engine) -> None:
    there = {"a": 1, "b": 2}

    @hw.source(id="k")
    def table() -> Any:
        return {"k": list(there), "v": list(there.values())}

    call(table, lake, engine)
    del there["a"]
    there["b"] = 3
    found = call(table, lake, engine)
    assert (found.versions, found.gone) == (1, 1)


def test_what_goes_wrong_in_a_function_is_told(lake: Lake, engine: Engine) -> None:
    @hw.source(timestamp="at")
    def broken(since: Any) -> Any:
        raise ValueError("the API said 503")

    with pytest.raises(ProjectCodeError, match=r"source 'broken' .*its function raised ValueError: the API said 503"):
        call(broken, lake, engine)

    @hw.source(timestamp="at")
    def nothing(since: Any) -> Any:
        return []

    with pytest.raises(DataError, match="gave no rows and no columns.*declare them with schema="):
        call(nothing, lake, engine)
    with pytest.raises(hw.HeadwayError, match="its function takes one argument, since, or none"):
        hw.source(lambda a, b: None, name="two")
    assert lake.tables() == []
