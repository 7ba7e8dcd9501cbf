"""The engine: names, types, limits and messages."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.data.engine import Engine
from headway.errors import BindingError, DataError, HeadwayError, StoreError, UsageError

ROWS = pa.table({"a": [1, 2], "s": ["x", "y"]})


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=2) as engine:
        yield engine


def test_reads_arrow_tables_and_files_under_any_name(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "it's [1] a*b %20é"
    folder.mkdir()
    pq.write_table(ROWS, folder / "f.parquet")
    found = engine.query(
        'select l.a, r.s from "source/x" l join "odd ""name" r using (a) order by a',
        {"source/x": ROWS, 'odd "name': [str(folder / "f.parquet")]},
    )
    assert found.to_pydict() == {"a": [1, 2], "s": ["x", "y"]}


def test_files_of_one_table_are_matched_by_column_name(engine: Engine, tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "1.parquet")
    pq.write_table(pa.table({"s": ["z"], "a": [3], "new": [0.5]}), tmp_path / "2.parquet")
    files = [str(tmp_path / "1.parquet"), str(tmp_path / "2.parquet")]
    found = engine.query("select a, s, new from t order by a", {"t": files})
    assert found.to_pydict() == {"a": [1, 2, 3], "s": ["x", "y", "z"], "new": [None, None, 0.5]}


def test_names_do_not_outlive_their_call(engine: Engine) -> None:
    engine.query("select * from mine", {"mine": ROWS})
    with pytest.raises(BindingError, match=r"there is no table 'mine'; did you mean 'mind'\?"):
        engine.query("select * from mine", {"mind": ROWS})


def test_python_variables_are_not_tables(engine: Engine) -> None:
    ROWS_HERE = ROWS  # noqa: F841, N806
    with pytest.raises(BindingError, match="there is no table 'ROWS_HERE'"):
        engine.query("select * from ROWS_HERE", {})


def test_a_tables_memory_is_free_after_the_call(engine: Engine) -> None:
    before = pa.total_allocated_bytes()
    engine.query("select sum(a) from t", {"t": pa.table({"a": pa.array(range(200_000))})})
    assert pa.total_allocated_bytes() - before < 100_000


def test_time_is_utc(engine: Engine) -> None:
    moment = datetime.datetime(2024, 3, 31, 1, 30, 0, 5, tzinfo=datetime.UTC)
    stored = pa.table({"t": pa.array([moment, None], pa.timestamp("us", "UTC"))})
    found = engine.query("select t, t + interval 1 hour as later, hour(t) as h from t", {"t": stored})
    assert found.schema.field("t").type == found.schema.field("later").type == pa.timestamp("us", "UTC")
    assert found["t"].to_pylist() == [moment, None]
    assert found["later"].to_pylist() == [moment + datetime.timedelta(hours=1), None]
    assert found["h"].to_pylist() == [1, None]


def test_describe_gives_arrow_types(engine: Engine) -> None:
    sql = "select a, a / 2 as half, s, now() as t, a > 1 as more from t order by a -- the end"
    assert [(field.name, field.type) for field in engine.describe(sql, {"t": ROWS})] == [
        ("a", "int64"),
        ("half", "double"),
        ("s", "string"),
        ("t", "timestamp[us, tz=UTC]"),
        ("more", "bool"),
    ]


def test_batches_come_piece_by_piece(engine: Engine) -> None:
    pieces = list(engine.batches("select range as n from range(10000)", {}, rows=2048))
    assert len(pieces) > 1
    assert pa.Table.from_batches(pieces)["n"].to_pylist() == list(range(10000))


def test_batches_may_be_left_early(engine: Engine) -> None:
    pieces = engine.batches("select range as n from range(1000000)", {}, rows=2048)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert engine.query("select 1 as one", {}).num_rows == 1


def test_threads_do_not_see_each_other(engine: Engine) -> None:
    wrong: list[object] = []

    def ask(number: int) -> None:
        for _ in range(10):
            found = engine.query("select a from t", {"t": pa.table({"a": [number]})})["a"].to_pylist()
            if found != [number]:
                wrong.append((number, found))

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("sql", "kind", "message"),
    [
        ("select b from t", BindingError, 'Referenced column "b" not found in FROM clause; candidates: "a"'),
        ("select sqr(a) from t", BindingError, 'Scalar Function with name sqr does not exist; did you mean "sqrt"?'),
        ("select sum(s) from t", BindingError, "No function matches the given name and argument types 'sum(VARCHAR)'"),
        ("selec a from t", BindingError, 'syntax error at or near "selec"'),
        ("select st_point(1, 2)", BindingError, "it exists in the spatial extension"),
        ("select cast(s as int) from t", DataError, "Could not convert string 'x' to INT32"),
        ("select 9223372036854775807 + a from t", DataError, "Overflow in addition of INT64"),
        ("copy (select 1) to 'x.csv'", BindingError, "the SQL must be a single SELECT, got COPY"),
        ("select 1; select 2", BindingError, "the SQL must be a single SELECT, got SELECT and SELECT"),
        ("set threads = 1", BindingError, "the SQL must be a single SELECT, got SET"),
        ("", BindingError, "the SQL must be a single SELECT, got nothing"),
    ],
)
def test_errors_are_one_line(engine: Engine, sql: str, kind: type[HeadwayError], message: str) -> None:
    with pytest.raises(kind) as caught:
        engine.query(sql, {"t": ROWS})
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "LINE" not in str(caught.value)


def test_errors_of_describe_and_batches_are_ours_too(engine: Engine) -> None:
    with pytest.raises(BindingError, match='"b" not found'):
        engine.describe("select b from t", {"t": ROWS})
    with pytest.raises(DataError, match="Could not convert"):
        list(engine.batches("select s::int from t", {"t": ROWS}))


def test_a_broken_or_missing_file_is_named(engine: Engine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 no footer")
    for path in (broken, tmp_path / "gone.parquet"):
        with pytest.raises(DataError, match=path.name):
            engine.query("select * from t", {"t": [str(path)]})


def test_a_table_is_files_or_arrow(engine: Engine) -> None:
    with pytest.raises(UsageError, match="at least one Parquet file or an Arrow table"):
        engine.query("select * from t", {"t": []})


def test_memory_limit_and_spilling(tmp_path: Path) -> None:
    sql = "select count(*) as n from (select distinct range * 7919 % 1000003 as k, range as v from range(2000000))"
    with Engine(memory_limit="30MB", threads=1, temp_directory=tmp_path / "spill") as small:
        assert small.query(sql, {})["n"].to_pylist() == [2_000_000]
        with pytest.raises(StoreError, match="more memory than it may have"):
            small.query("select len(list(range)) as n from range(20000000)", {})


def test_wrong_settings_are_refused() -> None:
    with Engine(memory_limit="lots") as engine, pytest.raises(UsageError, match="DuckDB does not start"):
        engine.query("select 1", {})


def test_a_closed_one_says_so() -> None:
    with Engine(threads=1) as engine:
        pass
    with pytest.raises(UsageError, match="the engine is closed"):
        engine.query("select 1", {})
