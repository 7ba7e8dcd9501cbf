"""Rows that are handed over, and what becomes of rows that come again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.engine import Engine
from headway.data.ingest import append_rows, ingest
from headway.data.lake import Lake, open_lake
from headway.define import Source
from headway.define.records import IngestResult
from headway.errors import DataError, StoreBusy, UsageError

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEMA = {"id": "string", "at": "timestamp", "n": "int64"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def rows(lake: Lake, table: str = "source/s") -> list[dict[str, Any]]:
    found = pa.concat_tables([pq.read_table(path) for path in lake.files(table)], promote_options="default")
    return list(found.sort_by("__seq").to_pylist())


def put(lake: Lake, engine: Engine, source: Source, *given: dict[str, Any], hour: int = 0, **more: Any) -> IngestResult:
    batches = pa.Table.from_pylist(list(given)).to_batches() if given else []
    return append_rows(source, batches, lake, engine, arrived=us(START + hour * HOUR), **more)


def row(id: str, hour: float, n: int | None) -> dict[str, Any]:
    return {"id": id, "at": START + hour * HOUR, "n": n}


def test_nothing_pushed_is_an_empty_table(lake: Lake, engine: Engine) -> None:
    source = Source("s", schema=SCHEMA, timestamp="at", id="id")
    assert put(lake, engine, source).rows == 0
    names = ["id", "at", "n", "__event", "__known", "__seq", "__arrived", "__deleted"]
    assert lake.schema("source/s").names == names
    assert not put(lake, engine, source).changed
    assert lake.version("source/s") == 0


def test_rows_without_an_id_are_all_kept(lake: Lake, engine: Engine) -> None:
    source = Source("s", schema=SCHEMA, timestamp="at", delay="1h")
    put(lake, engine, source, row("a", 0, 1), row("a", 0, 1), hour=5)
    put(lake, engine, source, row("a", 0, 1), hour=6)
    found = rows(lake)
    assert [r["__seq"] for r in found] == [0, 1, 2]
    assert [(r["__arrived"] - START) // HOUR for r in found] == [5, 5, 6]
    assert {r["__known"] for r in found} == {START + HOUR}  # events: known when the source says


def test_versions_are_known_no_earlier_than_they_came(lake: Lake, engine: Engine) -> None:
    source = Source("s", schema=SCHEMA, timestamp="at", id="id")
    put(lake, engine, source, row("a", 1, 1), row("b", 1, 1), hour=2)
    again = put(lake, engine, source, row("a", 1, 1), row("b", 1, 2), row("c", 1, 1), hour=9)
    assert (again.read, again.new, again.versions, again.rows) == (3, 1, 1, 4)
    found = {(r["id"], r["n"]): (r["__known"] - START) // HOUR for r in rows(lake)}
    assert found == {("a", 1): 1, ("b", 1): 1, ("b", 2): 9, ("c", 1): 1}
    put(lake, engine, source, row("b", 1, 1), hour=12)  # back to what it was is a change too
    assert [(r["n"], (r["__known"] - START) // HOUR) for r in rows(lake) if r["id"] == "b"] == [(1, 1), (2, 9), (1, 12)]


def test_created_decides_where_it_is_declared(lake: Lake, engine: Engine) -> None:
    source = Source("s", schema={**SCHEMA, "seen": "timestamp"}, timestamp="at", id="id", created="seen")
    put(lake, engine, source, {**row("a", 1, 1), "seen": START + 2 * HOUR}, hour=9)
    put(lake, engine, source, {**row("a", 1, 2), "seen": START + 3 * HOUR}, hour=10)
    assert [(r["__known"] - START) // HOUR for r in rows(lake)] == [2, 3]


def test_deletes_are_versions(lake: Lake, engine: Engine) -> None:
    source = Source("s", schema={**SCHEMA, "gone": "bool"}, timestamp="at", id="id", deleted="gone")
    put(lake, engine, source, {**row("a", 1, 1), "gone": False}, hour=2)
    put(lake, engine, source, {**row("a", 1, 1), "gone": True}, hour=3)
    assert [(r["__deleted"], (r["__known"] - START) // HOUR) for r in rows(lake)] == [(False, 1), (True, 3)]
    assert not put(lake, engine, source, {**row("a", 1, 1), "gone": True}, hour=4).changed


def test_marks_move_with_the_rows(lake: Lake, engine: Engine) -> None:
    source = Source("s", schema=SCHEMA, timestamp="at")
    put(lake, engine, source, row("a", 0, 1), mark={"w": (None, 10)})
    with pytest.raises(StoreBusy):
        put(lake, engine, source, row("b", 0, 1), mark={"w": (None, 10)})
    put(lake, engine, source, mark={"w": (10, 20)}, note={"of": "mine"})  # nothing to append, and far all the same
    assert (lake.mark("source/s", "w"), lake.note("source/s")["of"], len(rows(lake))) == (20, "mine", 1)


@pytest.mark.parametrize("id", [None, "id"])
def test_columns_are_added_and_widened(lake: Lake, engine: Engine, id: str | None) -> None:
    source = Source("s", schema={"id": "string", "n": "int32"}, id=id)
    put(lake, engine, source, {"id": "a", "n": 1}, {"id": "b", "n": 2})
    wider = Source("s", schema={"id": "string", "n": "double", "m": "string"}, id=id)
    put(lake, engine, wider, {"id": "c", "n": 0.5, "m": "x"})
    assert [(r["id"], r["n"], r["m"], r["__seq"]) for r in rows(lake)] == [
        ("a", 1.0, None, 0), ("b", 2.0, None, 1), ("c", 0.5, "x", 2),
    ]  # fmt: skip
    assert str(lake.schema("source/s").field("n").type) == "double"
    assert put(lake, engine, wider, {"id": "a", "n": 1.0, "m": None}).changed == (id is None)


def test_other_changes_of_a_type_stop_with_a_sentence(lake: Lake, engine: Engine) -> None:
    put(lake, engine, Source("s", schema=SCHEMA), row("a", 0, 1))
    with pytest.raises(DataError, match=r"source 's' .*column 'n' is string in what was pushed, but int64 in the lake"):
        put(lake, engine, Source("s", schema={**SCHEMA, "n": "string"}), {"id": "b", "n": "x"})
    with pytest.raises(DataError, match="has a column 'other' that was not expected; add it to schema="):
        put(lake, engine, Source("s", schema=SCHEMA), {"id": "b", "other": 1})
    with pytest.raises(DataError, match="1 of 1 rows have no id"):
        put(lake, engine, Source("t", schema=SCHEMA, id="id"), {"id": None, "n": 1})
    with pytest.raises(DataError, match="under another declaration"):
        put(lake, engine, Source("s", schema=SCHEMA, id="id"), row("a", 0, 1))
    with pytest.raises(UsageError, match="its rows are read from where it says"):
        put(lake, engine, Source("f", path="a.csv"), row("a", 0, 1))
    assert len(rows(lake)) == 1


def test_an_id_that_does_not_come_any_more_is_deleted(lake: Lake, engine: Engine, tmp_path: Path) -> None:
    source = Source("s", path="s.parquet", id="id", timestamp="at")

    def read(hour: int, *given: dict[str, Any]) -> IngestResult:
        pq.write_table(pa.Table.from_pylist(list(given)), tmp_path / "s.parquet")
        return ingest(source, tmp_path, lake, engine, cache=tmp_path / "c.json", arrived=us(START + hour * HOUR))

    read(2, row("a", 1, 1), row("b", 1, 1))
    assert read(5, row("b", 1, 1)).gone == 1
    assert read(6, row("b", 1, 1), row("d", 1, 1)).gone == 0  # once is enough
    read(7, row("b", 1, 1), row("a", 1, 1), row("d", 1, 1))
    found = [(r["__deleted"], (r["__known"] - START) // HOUR) for r in rows(lake) if r["id"] == "a"]
    assert found == [(False, 1), (True, 5), (False, 7)]
    assert len({r["__seq"] for r in rows(lake)}) == len(rows(lake)) == 5


Files = st.lists(  # what a folder's one file holds, time after time
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=7), min_size=1, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(files=Files)
def test_whatever_a_file_held_last_is_what_the_lake_ends_with(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[str, int]]]
) -> None:
    root = tmp_path_factory.mktemp("files")
    lake = open_lake(str(root / "lake"))
    source = Source("s", path="s.parquet", id="id")
    seen: dict[str, list[tuple[int | None, bool]]] = {}
    for held in files:
        pq.write_table(pa.table({"id": [i for i, _ in held], "n": [n for _, n in held]}), root / "s.parquet")
        ingest(source, root, lake, engine, cache=root / "c.json", arrived=0)
        found: dict[str, list[tuple[int | None, bool]]] = {}
        for r in rows(lake):
            found.setdefault(r["id"], []).append((r["n"], r["__deleted"]))
        now = {i: [(n, False) for j, n in held if j == i] for i, _ in held}
        for i, versions in found.items():
            before = seen.get(i, [])
            assert versions[: len(before)] == before  # what was there stays as it was
            if i in now:
                assert versions[-len(now[i]) :] == now[i]
                most = max(k for k in range(len(now[i]) + 1) if before[len(before) - k :] == now[i][:k])
                assert len(versions) == len(before) + len(now[i]) - most  # and nothing comes twice
            else:
                assert versions[-1][1]
                assert len(versions) == len(before) + (not before[-1][1])
        assert set(now) <= set(found)
        seen = found
