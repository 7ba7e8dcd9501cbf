"""Views and sets over HTTP, as JSON and as Arrow: what is answered, what is refused, what is seen without a restart."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from headway.clock import from_iso
from headway.data.online import OnlineReader, Watermark, pack, write_watermark
from headway.define.records import FeaturePlan, Field, Snapshot, ViewPlan, ViewUse
from headway.serve import Limits

ARROW = "application/vnd.apache.arrow.stream"
AS_OF = from_iso("2024-02-01T12:00:00Z")
STATES = ("ok", "late", "expired", "missing")


def ranking(zones: ViewPlan, routes: ViewPlan) -> list[ViewUse]:
    return [
        ViewUse("pickup", zones, {"zone_id": "pickup_zone_id"}, ("duration_avg", "trips_1h")),
        ViewUse("dropoff", zones, {"zone_id": "dropoff_zone_id"}, ("busiest",)),
        ViewUse("route_history", routes, {}, ("duration_avg",)),
    ]


@pytest.fixture
def routes(plan_of) -> ViewPlan:
    return next(use.plan for use in plan_of().views if use.plan.name == "route_history")


@pytest.fixture
def ranked(world, serving, zones, routes) -> Iterator[Any]:
    """A client of a server with two views and a set of them."""
    world.metadata.published.put_view(zones, 0)
    world.metadata.published.put_view(routes, 0)
    world.metadata.published.put_set("ranking", ranking(zones, routes), 0)
    with serving() as running:
        yield running.client()


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def ask(client, name: str, body: bytes, *, sent: str = ARROW, accept: str = ARROW) -> tuple[int, Any]:
    """The status, and the table or the problem that came back."""
    headers = {"content-type": sent, "accept": accept}
    client.connection.request("POST", f"/v1/features/{name}", body, headers)
    response = client.connection.getresponse()
    content = response.read()
    if response.headers["content-type"] != ARROW:
        return response.status, json.loads(content)
    table = pa.ipc.open_stream(content).read_all()
    table.validate(full=True)
    return response.status, table


KEYS = {"pickup_zone_id": [74, 10, None, 999], "dropoff_zone_id": [42, 42, 42, 1]}
RANKED = {
    "pickup__duration_avg": [7400.0, None, None, None],
    "pickup__trips_1h": [74, 10, None, 0],
    "dropoff__busiest": ["kind 42", "kind 42", "kind 42", "kind 1"],
    "route_history__duration_avg": [200.0 * 74, 2000.0, None, None],
}


def test_a_set_as_json(ranked) -> None:
    status, answer = ranked.post("/v1/features/ranking", {"entities": KEYS})
    assert status == 200, answer
    assert answer["features"] == RANKED
    assert list(answer["features"]) == list(RANKED)
    assert answer["as_of"] == dict.fromkeys(("pickup", "dropoff", "route_history"), "2024-02-01T12:00:00Z")
    assert answer["state"] == {
        "pickup__duration_avg": ["ok", "ok", "missing", "missing"],
        "pickup__trips_1h": ["ok", "ok", "missing", "missing"],
        "route_history__duration_avg": ["ok", "ok", "missing", "missing"],
    }
    assert answer["fingerprint"] == {"pickup": "aa" * 16, "dropoff": "aa" * 16, "route_history": "bb" * 16}
    assert answer["set"] == "ranking"


def test_columns_rows_and_scalars_ask_the_same(ranked) -> None:
    rows = [dict(zip(KEYS, row, strict=True)) for row in zip(*KEYS.values(), strict=True)]
    for body in (rows, {"rows": rows}):
        assert ranked.post("/v1/features/ranking", body)[1]["features"] == RANKED
    scalar = {"entities": {"pickup_zone_id": [74, 10], "dropoff_zone_id": 42}}
    assert ranked.post("/v1/features/ranking", scalar)[1]["features"]["pickup__trips_1h"] == [74, 10]
    one = {"entities": {"pickup_zone_id": 74, "dropoff_zone_id": 42}}
    status, answer = ranked.post("/v1/features/ranking", one)
    assert (status, answer["state"]) == (200, {})
    assert answer["features"] == {name: values[:1] for name, values in RANKED.items()}
    status, answer = ranked.post("/v1/features/ranking", {"entities": {name: [] for name in KEYS}})
    assert (status, answer["features"]) == (200, {name: [] for name in RANKED})


def test_a_set_as_arrow(ranked) -> None:
    status, table = ask(ranked, "ranking", stream(pa.table(KEYS)))
    assert status == 200, table
    assert table.select(list(RANKED)).to_pydict() == RANKED
    assert table.schema.names[len(RANKED) :] == [
        f"{view}_{what}" for view in ("pickup", "dropoff", "route_history") for what in ("as_of", "state")
    ]
    moment = dt.datetime(2024, 2, 1, 12, tzinfo=dt.UTC)
    assert table.column("pickup_as_of").to_pylist() == [moment] * 4
    state = table.schema.field("pickup_state")
    assert state.metadata == {
        b"features": b"pickup__duration_avg,pickup__trips_1h",
        b"codes": ",".join(STATES).encode(),
    }
    assert table.column("pickup_state").to_pylist() == [[0, 0], [0, 0], [3, 3], [3, 3]]
    assert table.schema.metadata == {b"set": b"ranking", b"fingerprint": b",".join([b"aa" * 16] * 2 + [b"bb" * 16])}


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 64, 100])
def test_json_and_arrow_say_the_same(ranked, rows) -> None:
    keys = {"zone_id": [(7 * i) % 120 for i in range(rows)]}
    body = json.dumps({"entities": keys}).encode()
    status, table = ask(ranked, "zone_traffic", body, sent="application/json")
    again = ask(ranked, "zone_traffic", stream(pa.table(keys)))
    assert (status, again[0]) == (200, 200)
    assert table.equals(again[1])
    answer = ranked.post("/v1/features/zone_traffic", {"entities": keys})[1]
    for name, values in answer["features"].items():
        if name != "seen_at":
            assert table.column(name).to_pylist() == values
    assert [None if m is None else m.isoformat() for m in table.column("seen_at").to_pylist()] == [
        None if m is None else dt.datetime.fromisoformat(m).isoformat() for m in answer["features"]["seen_at"]
    ]
    codes = np.array(table.column("_state").to_pylist())
    for i, name in enumerate(answer["features"]):
        assert answer["state"].get(name, ["ok"] * rows) == [STATES[code] for code in codes[:, i]]
    assert set(table.column("_as_of").to_pylist()) == {dt.datetime(2024, 2, 1, 12, tzinfo=dt.UTC)}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([74, 10], pa.int8()),
        pa.array([74, 10], pa.uint64()),
        pa.array([74.0, 10.0]),  # a DataFrame's whole numbers, once there was a null among them
        pa.array([74, 10]).dictionary_encode(),
        pa.chunked_array([[74], [], [10]]),
    ],
    ids=str,
)
def test_whole_numbers_come_as_they_like(ranked, column) -> None:
    status, table = ask(ranked, "zone_traffic", stream(pa.table({"zone_id": column})))
    assert status == 200, table
    assert table.column("trips_1h").to_pylist() == [74, 10]


def test_no_rows(ranked) -> None:
    empty = pa.table({"zone_id": pa.array([], pa.int64())})
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, empty.schema).close()  # not even a batch
    for body in (stream(empty), sink.getvalue().to_pybytes()):
        status, table = ask(ranked, "zone_traffic", body)
        assert (status, table.num_rows) == (200, 0)
        assert table.schema.field("seen_at").type == pa.timestamp("us", "UTC")


WIDE = ViewPlan(
    name="wide",
    fingerprint="cc" * 16,
    source="s",
    tables=(),
    sql="",
    keys=(Field("name", "string"), Field("day", "date32[day]")),
    features=tuple(
        FeaturePlan(name, "last_n" if name in ("recent", "words", "prices") else "last", kind, name)
        for name, kind in {
            "f8": "double", "f4": "float", "i8": "int64", "i1": "int8", "u8": "uint64", "truth": "bool",
            "text": "string", "large": "large_string", "raw": "binary", "day": "date32[day]",
            "at": "timestamp[us, tz=UTC]", "price": "decimal128(9, 2)",
            "vector": "fixed_size_list<item: float>[3]", "recent": "fixed_size_list<item: int64>[2]",
            "words": "fixed_size_list<item: string>[2]", "prices": "fixed_size_list<item: decimal128(9, 2)>[1]",
        }.items()
    ),
    refresh=3_600_000_000,
)  # fmt: skip
VALUES = {
    "f8": [1.5, None, float("nan"), -0.0],
    "f4": [0.5, None, 2.0, 3.0],
    "i8": [2**62, None, -1, 0],
    "i1": [-128, 127, None, 0],
    "u8": [2**63 + 1, None, 0, 1],
    "truth": [True, False, None, True],
    "text": ["a", "", None, "äö" * 9],
    "large": [None, "x", "y", ""],
    "raw": [b"\xff", b"", None, b"x"],
    "day": [dt.date(1969, 1, 1), None, dt.date(2024, 2, 29), dt.date(9999, 1, 1)],
    "at": [None, dt.datetime(1900, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None],
    "price": [Decimal("1.25"), None, Decimal("-9999999.99"), Decimal("0.00")],
    "vector": [[0.5, 1.0, -2.0], None, [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]],
    "recent": [[2**62, None], [1, 2], [None, None], [3, None]],
    "words": [["a", "b"], ["äö", None], None, ["", "x"]],
    "prices": [[Decimal("1.25")], None, [None], [Decimal("0.50")]],
}
NAMES, DAYS = ["a", "b", "c", "d"], [dt.date(2024, 1, i) for i in range(1, 5)]


def test_every_type(world, serving) -> None:
    keys = pa.table({"name": NAMES, "day": pa.array(DAYS, pa.date32())})
    plan = OnlineReader(world.store).bind(WIDE)
    table = pa.table({field.name: pa.array(VALUES[field.name], field.type) for field in plan.schema})
    for rows in pack(WIDE, Snapshot(keys, table, AS_OF, 1)):
        world.store.put_many(rows)
    write_watermark(world.store, WIDE, Watermark(AS_OF, 1))
    with serving(views=[WIDE]) as running:
        client = running.client()
        asked = pa.table({"day": keys["day"], "name": keys["name"].cast(pa.string_view())})
        status, found = ask(client, "wide", stream(asked))
        assert status == 200, found
        for name in VALUES:
            assert found.column(name).combine_chunks().equals(table.column(name).combine_chunks()) or name == "f8"
        assert str(found.column("f8").to_pylist()) == str(VALUES["f8"])
        one = ask(client, "wide", stream(asked.slice(3, 1)))[1]
        assert one.select(list(VALUES)).equals(found.slice(3, 1).select(list(VALUES)))
        assert pl.read_ipc_stream(stream(found)).height == 4
        body = {"entities": {"name": NAMES, "day": [str(day) for day in DAYS]}}
        features = client.post("/v1/features/wide", body)[1]["features"]
        assert features["f8"] == [1.5, None, None, 0.0]
        assert features["u8"] == [2**63 + 1, None, 0, 1]
        assert features["raw"] == ["/w==", "", None, "eA=="]
        assert features["price"] == [1.25, None, -9999999.99, 0.0]
        assert features["day"] == ["1969-01-01", None, "2024-02-29", "9999-01-01"]
        for name in ("text", "vector", "recent", "words"):
            assert features[name] == VALUES[name]
        assert features["prices"] == [[1.25], None, [None], [0.5]]
        whole = client.post("/v1/features/wide", {"rows": [{"name": "c", "day": "2024-01-03"}]})[1]["features"]
        assert whole["vector"] == [[1.0, 2.0, 3.0]]


def test_an_answer_is_read_by_others(ranked) -> None:
    headers = {"content-type": "application/json", "accept": f"text/html, {ARROW.upper()};q=0.9"}
    ranked.connection.request("POST", "/v1/features/ranking", json.dumps({"entities": KEYS}), headers)
    frame = pl.read_ipc_stream(ranked.connection.getresponse().read())
    assert frame.select(list(RANKED)).to_dict(as_series=False) == RANKED
    assert frame["pickup_state"].dtype == pl.Array(pl.UInt8, 2)


WRITTEN, CLAIMED = (9_999).to_bytes(8, "little"), (2**40).to_bytes(8, "little")


def huge_dictionary() -> pa.Table:
    words = pa.array(["x" * 20_000])
    return pa.table({"zone_id": pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int8()), words)})


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not a whole Arrow IPC stream"),
        (b'{"entities": {"zone_id": 1}}', 400, "not a whole Arrow IPC stream"),
        (stream(pa.table({"zone_id": [1]}))[:-100], 400, "not a whole Arrow IPC stream"),
        (stream(pa.table({"zone_id": ["1"]})), 422, "key 'zone_id' of view 'zone_traffic' is of type int64"),
        (stream(pa.table({"zone_id": [1.5]})), 422, "is of type int64"),
        (stream(pa.table({"zone_id": [[1]]})), 422, "is of type int64"),
        (stream(pa.table({"zone_id": [True]})), 422, "is of type int64"),
        (stream(pa.table({"zone": [1]})), 422, "view 'zone_traffic' has no key 'zone'; its keys are zone_id"),
        (stream(pa.table({"zone_id": [1], "x": [1]})), 422, "has no key 'x'"),
        (stream(pa.table({})), 422, "lacks 'zone_id'"),
        (stream(pa.table([[1], [2]], ["zone_id", "zone_id"])), 422, "two columns are called 'zone_id'"),
        (stream(pa.table({"zone_id": [1] * 1_000}), compression="zstd"), 422, "compressed buffers"),
        (stream(pa.table({"zone_id": pa.array(["x"] * 99).dictionary_encode()}), compression="lz4"), 422, "compressed"),
        (stream(pa.table({"zone_id": pa.nulls(10_001)})), 413, "at most 10000 are allowed"),
        (stream(pa.table({"zone_id": pa.nulls(9_999)})).replace(WRITTEN, CLAIMED), 413, "at most 10000 are allowed"),
        (stream(huge_dictionary()), 413, "the texts of column 'zone_id' have more than"),
    ],
)
def test_arrow_that_is_refused(ranked, body, status, says) -> None:
    got, problem = ask(ranked, "zone_traffic", body)
    assert (got, problem["status"]) == (status, status)
    assert says in problem["detail"]


def test_content_types(ranked) -> None:
    body = b'{"entities": {"zone_id": 74}}'
    plain = ("application/json; charset=utf-8", "application/x-www-form-urlencoded", "application/problem+json", "")
    for sent in plain:
        assert ask(ranked, "zone_traffic", body, sent=sent, accept="*/*")[1]["features"]["trips_1h"] == [74]
    for sent in ("text/csv", "application/vnd.apache.arrow.file", "application/x-parquet", "nonsense"):
        status, problem = ask(ranked, "zone_traffic", body, sent=sent)
        assert (status, problem["type"]) == (415, "urn:headway:problem:unsupported-media-type")
        assert "as JSON or as application/vnd.apache.arrow.stream" in problem["detail"]
    assert ask(ranked, "zone_traffic", stream(pa.table({"zone_id": [74]})), accept="*/*")[1]["features"]["open"] == [
        True
    ]


def test_a_long_text_does_not_stand_for_many_rows(world, serving) -> None:
    with serving(views=[WIDE], limits=Limits(rows=100_000)) as running:
        body = {"entities": {"name": "x" * 20_000, "day": ["2024-01-01"] * 1_000}}
        status, problem = running.client().post("/v1/features/wide", body)
        assert (status, problem["detail"]) == (413, "the text of 'name' is too long to stand for 1000 rows")


class Counting:
    """A reader that counts its questions."""

    def __init__(self, reader: OnlineReader) -> None:
        self.bind, self._reader, self.questions = reader.bind, reader, 0

    def lookup_many(self, asked: Any, now: int) -> Any:
        self.questions += 1
        return self._reader.lookup_many(asked, now)


def test_one_question_whatever_the_number_of_views(world, serving, zones, routes) -> None:
    world.metadata.published.put_set("ranking", ranking(zones, routes), 0)
    world.reader = Counting(world.reader)
    with serving() as running:
        client = running.client()
        for body in ({"entities": KEYS}, {"entities": {"pickup_zone_id": 74, "dropoff_zone_id": 42}}):
            before = world.reader.questions
            assert client.post("/v1/features/ranking", body)[0] == 200
            assert world.reader.questions == before + 1


def test_what_is_published_is_seen_without_a_restart(world, serving, zones, routes) -> None:
    published = world.metadata.published
    with serving() as running:
        client = running.client()
        body = {"entities": KEYS}
        assert client.post("/v1/features/ranking", body)[0] == 404
        published.put_set("ranking", ranking(zones, routes), 0)
        running.wait(lambda: client.post("/v1/features/ranking", body)[0] == 200)
        published.put_set("ranking", ranking(zones, routes)[:1], 0)
        one = {"entities": {"pickup_zone_id": KEYS["pickup_zone_id"]}}
        running.wait(lambda: client.post("/v1/features/ranking", one)[0] == 200)
        assert list(client.post("/v1/features/ranking", one)[1]["features"]) == list(RANKED)[:2]
        published.put_view(routes, 0)
        other = {"entities": {"pickup_zone_id": 7, "dropoff_zone_id": 42}}
        running.wait(lambda: client.post("/v1/features/route_history", other)[0] == 200)
        published.withdraw("set", "ranking", 0)
        running.wait(lambda: client.post("/v1/features/ranking", one)[0] == 404)
        assert client.post("/v1/features/route_history", other)[0] == 200


def test_a_view_that_a_live_version_reads_is_the_versions(world, serving, zones) -> None:
    changed = msgspec.structs.replace(zones, fingerprint="dd" * 16)
    world.metadata.published.put_view(changed, 0)
    with serving() as running:
        client = running.client()
        asked = {"entities": {"zone_id": 74}}
        assert client.post("/v1/features/zone_traffic", asked)[1]["fingerprint"] == "dd" * 16
        world.promote(world.register(1))
        running.wait(lambda: client.post("/v1/features/zone_traffic", asked)[1]["fingerprint"] == "aa" * 16)


def test_a_view_that_cannot_be_served_leaves_the_others(world, serving, zones) -> None:
    odd = msgspec.structs.replace(zones, name="odd", fingerprint="ee" * 16, keys=(Field("k", "time64[us]"),))
    world.metadata.published.put_view(odd, 0)
    world.metadata.published.put_view(zones, 0)
    with serving() as running:
        client = running.client()
        assert client.post("/v1/features/zone_traffic", {"entities": {"zone_id": 1}})[0] == 200
        assert client.post("/v1/features/odd", {"entities": {"k": 1}})[0] == 404


def test_a_record_of_another_headway_stops_nothing_else(world, serving, zones, one) -> None:
    world.metadata.published.put_view(zones, 0)
    world.metadata.stages.put("set", "later", "digest", {"of": "another kind"}, 0)
    with serving() as running:
        world.promote(world.register(1))
        running.wait(lambda: running.client().predict(one)[0] == 200)


def test_the_api_is_described(ranked) -> None:
    document = ranked.get("/openapi.json")[1]
    described = document["paths"]["/v1/features/ranking"]["post"]
    columns, rows, _ = described["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert columns["properties"]["entities"]["required"] == list(KEYS)
    assert list(rows["items"]["properties"]) == list(KEYS)
    content = described["responses"]["200"]["content"]
    assert list(content["application/json"]["schema"]["properties"]["features"]["properties"]) == list(RANKED)
    assert set(content["application/json"]["schema"]["properties"]["as_of"]["properties"]) == {
        "pickup",
        "dropoff",
        "route_history",
    }
    assert "pickup__trips_1h: int64" in content[ARROW]["schema"]["description"]
    assert ARROW in described["requestBody"]["content"]
    assert "415" in described["responses"]
