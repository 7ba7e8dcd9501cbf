"""Rows over HTTP: kept when they are answered, or refused with one sentence and nothing kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from headway.data.engine import Engine
from headway.data.lake import open_lake
from headway.data.pushes import FOLDER, move
from headway.define import Source
from headway.orchestrate.pushes import Pushes

NOW = 1_706_788_800_000_000
ARROW = "application/vnd.apache.arrow.stream"
CLICKS = Source(
    "clicks",
    schema={"user": "int64", "at": "timestamp", "price": "double", "kind": "string", "new": "bool"},
    timestamp="at",
)
ROW = {"user": 1, "at": "2024-02-01T10:00:00Z", "price": 2.5, "kind": "view", "new": True}
WHOLE = [ROW, ROW | {"user": 2, "at": "2024-02-01T12:30:00+02:00", "price": None, "kind": None}]


@pytest.fixture
def send(world, serving) -> Iterator[Callable[..., tuple[int, Any]]]:
    sources = {"clicks": CLICKS, "orders": Source("orders", path="orders.csv")}
    with serving(sink=Pushes(world.root, lambda: sources, lambda: NOW)) as running:
        client = running.client()

        def post(content: Any, name: str = "clicks", media: str = "application/json") -> tuple[int, Any]:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            status, answer = client.send("POST", f"/v1/sources/{name}/rows", body, {"Content-Type": media})[:2]
            return status, answer

        yield post


def kept(world) -> list[dict[str, Any]]:
    lake = open_lake(str(world.root / "pushed-lake"))
    with Engine(threads=1) as engine:
        move(CLICKS, lake, engine, world.root)
        if lake.version("source/clicks") is None:
            return []
        sql = 'select "user", epoch_us("at") as "at", price, kind, new, epoch_us(__arrived) as arrived from t order by __seq'
        return engine.query(sql, {"t": lake.files("source/clicks")}).to_pylist()


AT = 1_706_781_600_000_000
WANTED = [
    {"user": 1, "at": AT, "price": 2.5, "kind": "view", "new": True, "arrived": NOW},
    {"user": 2, "at": AT + 1_800_000_000, "price": None, "kind": None, "new": True, "arrived": NOW},
]


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("shape", ["rows", "object", "columns", "arrow"])
def test_rows_are_kept_in_every_shape(world, send, shape) -> None:
    columns = {name: [row[name] for row in WHOLE] for name in ROW}
    if shape == "arrow":
        status, answer = send(stream(pa.table(columns)), media=ARROW)
    else:
        status, answer = send({"rows": WHOLE, "object": {"rows": WHOLE}, "columns": columns}[shape])
    assert (status, answer["source"], answer["rows"]) == (200, "clicks", 2)
    assert kept(world) == WANTED


def test_a_value_that_a_row_object_lacks_is_null(world, send) -> None:
    short = {name: value for name, value in ROW.items() if name != "price"}
    assert send([ROW, short])[0] == 200
    assert [row["price"] for row in kept(world)] == [2.5, None]


def test_no_rows_are_fine(world, send) -> None:
    status, answer = send({name: [] for name in ROW})
    assert (status, answer["rows"]) == (200, 0)
    assert not (world.root / FOLDER).exists()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ([ROW | {"user": "1"}], 422, "column 'user' is to be int64"),
        ([ROW | {"user": 1.5}], 422, "column 'user' is to be int64"),
        ([ROW | {"user": True}], 422, "column 'user' is to be int64"),
        ([ROW | {"user": 2**70}], 422, "column 'user' is to be int64"),
        ([ROW | {"at": 5}], 422, "a time is a text such as"),
        ([ROW | {"at": "yesterday"}], 422, "'yesterday'"),
        ([ROW | {"price": "dear"}], 422, "column 'price' is to be double"),
        ([ROW | {"kind": ["view"]}], 422, "column 'kind' is to be string"),
        ([ROW | {"size": 1}], 422, "'size' that was not expected"),
        ([{"user": 1}], 422, "have no column 'at'"),
        ([5], 422, "row 0 is not an object"),
        ("rows", 422, "the body is"),
        (b"{", 400, "not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_whole(world, send, content, status, said) -> None:
    found = send(content)
    assert found[0] == status
    assert said in found[1]["detail"]
    assert "\n" not in found[1]["detail"]
    if isinstance(content, list) and content != [{"user": 1}]:  # beside a whole row, what a row lacks is null
        assert send([ROW, *content])[0] == 422
    assert kept(world) == []


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("click", 404, "did you mean 'clicks'"), ("orders", 409, "is read from somewhere")],
)
def test_other_sources_take_no_rows(send, name, status, said) -> None:
    found = send([ROW], name)
    assert found[0] == status
    assert said in found[1]["detail"]


def test_nonsense_as_arrow(world, send) -> None:
    table = pa.table({name: [value] for name, value in ROW.items()})
    assert send(b"nonsense", media=ARROW)[0] == 400
    assert send(stream(table)[:-30], media=ARROW)[0] == 400
    assert send(stream(table.drop_columns("at")), media=ARROW)[0] == 422
    assert send(stream(table.set_column(0, "user", pa.array(["x"]))), media=ARROW)[0] == 422
    assert send(b"a,b", media="text/csv")[0] == 415
    assert kept(world) == []


def test_a_disk_that_does_not_take_it(world, send, monkeypatch) -> None:
    assert send([ROW])[0] == 200

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headway.data.segments.SegmentWriter.write", full)
    status, answer = send([ROW])
    assert status == 503
    assert "No space left on device" in answer["detail"]
    monkeypatch.undo()
    assert send([WHOLE[1]])[0] == 200
    assert kept(world) == WANTED
