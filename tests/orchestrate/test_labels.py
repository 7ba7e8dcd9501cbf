"""What predictions turned out to be: attached labels, labels from their source, and never another's."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.project import NOW, Shop, forget_package

import headway as hw
from headway.clock import from_iso
from headway.data import predictions
from headway.data.lake import open_lake
from headway.errors import DataError, UsageError
from headway.orchestrate.predictions.attach import attach_labels
from headway.orchestrate.predictions.labels import attached
from headway.orchestrate.serving import open_service
from headway.project import Project
from headway.serve import Server, bind


@contextlib.contextmanager
def opened(shop: Shop, clock: str | None = None) -> Iterator[Project]:
    forget_package()
    with hw.load(shop.root, clock=clock) as project:
        yield project


def predict(shop: Shop, table: pa.Table, *arguments: str, name: str = "in.parquet") -> None:
    pq.write_table(table, shop.root / name)
    shop.call("predict", "delivery", "--input", name, "--output", "out.parquet", *arguments)


def labels(shop: Shop, clock: str | None = None, **span: int) -> pa.Table:
    with opened(shop, clock) as project:
        return attached(project.parts, "delivery", **span)


def minutes(orders: pa.Table) -> list[float]:
    taken = np.asarray(pc.subtract(orders["delivered_at"], orders["placed_at"]).cast(pa.int64()))
    return (taken / 1e6).tolist()


def states(table: pa.Table) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in table["label_state"].value_counts().to_pylist()}


def by_request(table: pa.Table) -> dict[tuple[str, int], Any]:
    return {(row["request_id"], row["row"]): row["label"] for row in table.to_pylist()}


def log(shop: Shop) -> pa.Table:
    return predictions.read(open_lake(str(shop.home / "lake")), "delivery")


def test_rows_with_an_id_get_the_label_of_that_very_row(shop: Shop) -> None:
    orders = shop.orders()
    predict(shop, orders.drop_columns(["delivered_at"]))
    found = labels(shop).sort_by("row")
    assert found["label"].to_pylist() == minutes(orders)
    assert found["label_known_at"].to_pylist() == orders["delivered_at"].to_pylist()
    assert states(found) == {"known": 400}
    # An id that nobody knows is not made up for by keys and time.
    changed = orders.set_column(0, "order_id", pa.array(np.arange(400) + 1000)).slice(0, 10)
    predict(shop, changed.drop_columns(["delivered_at"]))
    assert states(labels(shop)) == {"known": 400, "unknown": 10}


def test_only_what_is_known_now_counts(shop: Shop) -> None:
    orders = shop.orders()
    predict(shop, orders.drop_columns(["delivered_at"]))
    moment = orders["placed_at"][200].as_py()
    found = labels(shop, clock=moment.isoformat()).sort_by("row")
    known = [delivered <= moment for delivered in orders["delivered_at"].to_pylist()]
    assert (np.array(found["label_state"].to_pylist()) == "known").tolist() == known
    assert [label is not None for label in found["label"].to_pylist()] == known
    shop.edit("shop/models.py", 'hw.Label(orders, "minutes")', 'hw.Label(orders, "minutes", matures="7d")')
    now, week = from_iso(NOW), 7 * 86_400_000_000
    ripe = np.asarray(orders["delivered_at"].cast(pa.int64())) + week <= now
    found = labels(shop).sort_by("row")
    assert (np.array(found["label_state"].to_pylist()) == "known").tolist() == ripe.tolist()
    first = int(np.asarray(orders["placed_at"].cast(pa.int64()))[100])
    assert labels(shop, since=first).num_rows == 300
    assert labels(shop, until=first).num_rows == 100


def test_without_an_id_keys_and_the_very_time_tell(shop: Shop) -> None:
    orders = shop.orders()
    asked = orders.select(["shop_id", "distance", "placed_at"])
    predict(shop, asked)
    found = labels(shop).sort_by("row")
    assert found["label"].to_pylist() == minutes(orders)
    # A second order of the same shop at the same moment: nobody can tell whose label it is, known or not.
    twin = orders.slice(5, 1).set_column(0, "order_id", pa.array([5000]))
    shop.write_orders(pa.concat_tables([orders, twin.cast(orders.schema)]))
    shop.call("check", "orders")
    found = labels(shop).sort_by("row")
    assert states(found) == {"known": 399, "ambiguous": 1}
    assert found["label_state"][5].as_py() == "ambiguous"
    assert found["label"][5].as_py() is None
    assert found["label_known_at"][5].as_py() is None
    # Another moment, or another shop, is another order.
    moved = asked.set_column(2, "placed_at", pc.add(asked["placed_at"], pa.scalar(1, pa.duration("us"))))
    predict(shop, moved, name="moved.parquet")
    assert states(labels(shop)) == {"known": 399, "ambiguous": 1, "unknown": 400}


def test_without_the_time_of_the_event_there_is_no_label(shop: Shop) -> None:
    """The moment at which a prediction was made is not the moment of what it is about."""
    predict(shop, shop.orders().select(["shop_id", "distance"]))
    found = labels(shop)
    assert states(found) == {"unknown": 400}
    assert found["label"].type == pa.float64()


def test_attached_labels_come_first_and_the_last_one_counts(shop: Shop) -> None:
    orders = shop.orders()
    predict(shop, orders.drop_columns(["delivered_at"]).slice(0, 4))
    (request_id,) = set(log(shop)["request_id"].to_pylist())
    with opened(shop) as project:
        done = attach_labels(
            project.parts, "delivery", {"request_id": [request_id] * 2, "row": [1, 3], "label": [1, 2.5]}
        )
        assert (done.by, done.rows, done.without_label) == ("request", 2, 0)
        told = minutes(orders.slice(0, 4))
        found = attached(project.parts, "delivery").sort_by("row")
        assert found["label"].to_pylist() == [told[0], 1.0, told[2], 2.5]
        attach_labels(project.parts, "delivery", {"request_id": [request_id], "row": [1], "label": [7]})
        found = attached(project.parts, "delivery").sort_by("row")
        assert found["label"].to_pylist() == [told[0], 7.0, told[2], 2.5]
        later = pa.array([from_iso("2030-01-01T00:00:00Z")]).cast(pa.timestamp("us", "UTC"))
        attach_labels(
            project.parts, "delivery", {"request_id": [request_id], "row": [1], "label": [9], "known_at": later}
        )
        assert attached(project.parts, "delivery").sort_by("row")["label"].to_pylist()[1] == 7.0
        # Without a row it could be any of the four.
        attach_labels(project.parts, "delivery", {"request_id": [request_id], "label": [11]})
        assert 11.0 not in attached(project.parts, "delivery")["label"].to_pylist()


def test_attaching_by_keys_and_time(shop: Shop) -> None:
    orders = shop.orders()
    later = pc.add(orders["placed_at"], pa.scalar(1, pa.duration("s")))  # no such order in the source
    asked = pa.table({"shop_id": orders["shop_id"], "distance": orders["distance"], "placed_at": later}).slice(0, 6)
    predict(shop, asked)
    told = asked.select(["shop_id", "placed_at"]).append_column("label", pa.array([1.0, None, 3, 4, 5, 6])).slice(0, 3)
    pq.write_table(told, shop.root / "labels.parquet")
    out = shop.call("labels", "attach", "delivery", "--input", "labels.parquet").out
    assert out == "2 labels attached to delivery by keys and time; 1 rows without a label were left out\n"
    found = labels(shop).sort_by("row")
    assert found["label"].to_pylist() == [1.0, None, 3.0, None, None, None]
    (shop.root / "labels.csv").write_text(
        f"shop_id,placed_at,label\n{asked['shop_id'][1].as_py()},{later[1].as_py().isoformat()},22.5\n"
    )
    assert shop.call("labels", "attach", "delivery", "-i", "labels.csv", "--json").json()["rows"] == 1
    assert labels(shop).sort_by("row")["label"].to_pylist() == [1.0, 22.5, 3.0, None, None, None]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [1]}, "neither the column 'request_id' nor the columns shop_id, placed_at"),
        ({"request_id": ["a"]}, "no column 'label'"),
        ({"request_id": ["a"], "label": ["long"]}, "predicts numbers, but a label of the input is none"),
        ({"request_id": ["a", None], "label": [1, 2]}, "1 labels have no request_id"),
        (
            {"request_id": ["a", "a"], "label": [1, 2]},
            "1 predictions have two labels in the input, such as request_id=a",
        ),
        ({"request_id": ["a"], "row": ["first"], "label": [1]}, "column 'row' of the input is of type string"),
    ],
)
def test_labels_that_cannot_be_attached(shop: Shop, columns: dict[str, Any], said: str) -> None:
    with opened(shop) as project:
        with pytest.raises(DataError) as caught:
            attach_labels(project.parts, "delivery", columns)
        assert said in str(caught.value)
        assert "labels/delivery" not in project.parts.lake.tables()


def test_over_http_from_prediction_to_label(shop: Shop) -> None:
    with opened(shop) as project, serving(project) as ask:
        one = ask("predict", {"entities": {"shop_id": 3}, "features": {"distance": 2.5}})
        two = ask("predict", {"entities": {"shop_id": [1, 2]}, "features": {"distance": 1.0}})
        again = [
            ask("predict", {"entities": {"shop_id": shop_id}, "features": {"distance": 1}}, "mine")
            for shop_id in (1, 1)
        ]
        other = [
            ask("predict", {"entities": {"shop_id": shop_id}, "features": {"distance": 1}}, "his") for shop_id in (1, 2)
        ]
        assert ask("labels", {"request_id": one["request_id"], "label": 1500})["labels"] == 1
        ask("labels", {"request_id": two["request_id"], "label": 1})  # of which row?
        ask("labels", {"request_id": two["request_id"], "row": 1, "label": 1700.25})
        ask("labels", {"request_id": ["mine", "his", "nobodys"], "label": [5, 6, 7]})
        assert {answer["request_id"] for answer in again + other} == {"mine", "his"}
        found = attached(project.parts, "delivery")
        assert states(found) == {"known": 4, "unknown": 1, "ambiguous": 2}
        assert by_request(found.filter(pc.not_equal(found["request_id"], "his"))) == {
            (one["request_id"], 0): 1500.0,
            (two["request_id"], 0): None,
            (two["request_id"], 1): 1700.25,
            ("mine", 0): 5.0,
        }
        row = found.filter(pc.equal(found["request_id"], one["request_id"])).to_pylist()[0]
        assert row["prediction"] == one["predictions"][0]
    listed = shop.call("predictions", "list", "--json").json()
    assert [(m["model"], m["rows"], m["labels"], m["dropped"]) for m in listed] == [("delivery", 7, 6, {})]
    (shown,) = shop.call("predictions", "show", one["request_id"], "--json").json()
    assert (shown["shop_id"], shown["distance"], shown["prediction"]) == (3, 2.5, one["predictions"][0])
    assert one["request_id"] in shop.call("predictions", "show", one["request_id"]).out
    assert "has no request 'nobody'" in shop.call("predictions", "show", "nobody", code=2).err
    assert "in the lake" in shop.call("predictions", "compact").out


@contextlib.contextmanager
def serving(project: Project) -> Iterator[Any]:
    """A server of the project's environment in this process; yields what sends a request."""
    with open_service(project.settings, project.parts.clock.now) as service, bind("127.0.0.1", 0) as listener:
        server = Server(service.app, grace=0)
        thread = threading.Thread(target=server.run, args=([listener],))
        service.start()
        thread.start()
        while not (server.started and service.router.table.built):
            thread.join(0.01)

        def ask(what: str, content: Any, request_id: str | None = None) -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=20)
            headers = {} if request_id is None else {"x-request-id": request_id}
            connection.request("POST", f"/v1/models/delivery/{what}", json.dumps(content), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            connection.close()
            assert response.status == 200, answer
            return answer

        try:
            yield ask
        finally:
            server.should_exit = True
            thread.join()
            service.stop()


def test_a_file_is_logged_once_for_each_content_and_version(shop: Shop) -> None:
    asked = shop.orders().drop_columns(["delivered_at"])
    predict(shop, asked.slice(0, 30))
    before = log(shop)
    predict(shop, asked.slice(0, 30), name="copy.parquet")
    after = log(shop)
    volatile = ["logged_at", "seconds"]
    assert after.drop_columns(volatile).equals(before.drop_columns(volatile))
    predict(shop, asked.slice(0, 30), "--no-log", name="other.parquet")
    predict(shop, asked.slice(0, 31), "--no-log")
    assert log(shop).num_rows == 30
    predict(shop, asked.slice(0, 31))
    assert log(shop).num_rows == 61
    scored = pq.read_table(shop.root / "out.parquet")
    rows = log(shop)
    newest = {row["order_id"]: row["prediction"] for row in rows.to_pylist()}
    assert [newest[n] for n in scored["order_id"].to_pylist()] == scored["prediction"].to_pylist()
    for name in ("f__sales__orders_7d", "as_of__sales", "source", "role"):
        assert rows[name].null_count == 0
    assert set(rows["role"].to_pylist()) == {"champion"}
    assert set(rows["source"].to_pylist()) == {"batch"}


def test_log_off_keeps_no_batches_either(shop: Shop) -> None:
    shop.edit("headway.toml", f'clock = "{NOW}"', f'clock = "{NOW}"\nserve.log = "off"')
    predict(shop, shop.orders().drop_columns(["delivered_at"]))
    assert log(shop).num_rows == 0
    assert "no predictions yet" in shop.call("predictions", "list").out


def test_a_declared_batch_is_logged_once_and_what_lies_ahead_each_time(shop: Shop) -> None:
    orders = shop.orders()
    ahead = orders.slice(0, 2).set_column(0, "order_id", pa.array([900, 901]))
    at = pa.array([from_iso("2024-03-05T00:00:00Z")] * 2).cast(pa.timestamp("us", "UTC"))
    ahead = ahead.set_column(2, "placed_at", at)
    source = 'bookings = hw.Source("bookings", path="data/bookings.parquet", id="order_id")\n'
    shop.edit("shop/sources.py", "visits = hw.Source", f"{source}visits = hw.Source")
    shop.edit("shop/models.py", "import orders\n", "import bookings, orders\n")
    shop.edit("shop/models.py", "input=orders", "input=bookings")
    pq.write_table(pa.concat_tables([orders.slice(0, 50), ahead]), shop.root / "data/bookings.parquet")
    batch = "scored"
    with opened(shop) as project:
        from headway.orchestrate.ingest import copy
        from headway.orchestrate.predictions.batch import predict_batch

        copy(project.parts, project.declarations.sources["bookings"])
        for _ in range(2):
            predict_batch(project.parts, project.models, project.declarations.batches[batch])
            assert log(shop).num_rows == 52
    with opened(shop, clock="2024-03-02T00:00:00Z") as project:
        predict_batch(project.parts, project.models, project.declarations.batches[batch])
    found = log(shop)
    assert found.num_rows == 54  # the two ahead were predicted at two moments
    assert sorted(n for n in found["order_id"].to_pylist() if n >= 900) == [900, 900, 901, 901]
    assert len(set(found["at"].to_pylist())) == 52
    assert states(labels(shop)) == {"known": 50, "unknown": 4}


def test_a_batch_that_fails_is_not_logged(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.orchestrate.predictions.batch.ROWS", 100)
    orders = shop.orders().drop_columns(["delivered_at"])
    times = orders["placed_at"].to_pylist()
    lines = [{"shop_id": 1, "distance": 1.0, "placed_at": t.isoformat()} for t in times]
    lines[350]["distance"] = "far"  # type: ignore[assignment]
    (shop.root / "in.ndjson").write_text("\n".join(map(json.dumps, lines)))
    ended = shop.call("predict", "delivery", "-i", "in.ndjson", "-o", "out.parquet", code=None)
    assert ended.code == 1
    assert not (shop.root / "out.parquet").exists()
    assert log(shop).num_rows == 0
    lines[350]["distance"] = 2.0
    (shop.root / "in.ndjson").write_text("\n".join(map(json.dumps, lines)))
    shop.call("predict", "delivery", "-i", "in.ndjson", "-o", "out.parquet")
    assert sorted(log(shop)["row"].to_pylist()) == list(range(400))


def test_a_batch_does_not_write_over_the_log(shop: Shop) -> None:
    shop.edit("shop/models.py", "lake:scored", "lake:predictions/delivery")
    with opened(shop) as project:
        from headway.orchestrate.predictions.batch import predict_batch

        with pytest.raises(UsageError, match="headway keeps its own tables"):
            predict_batch(project.parts, project.models, project.declarations.batches["scored"])


def test_a_model_that_is_not_declared_any_more(shop: Shop) -> None:
    predict(shop, shop.orders().drop_columns(["delivered_at"]).slice(0, 3))
    with opened(shop) as project:
        (request_id,) = set(log(shop)["request_id"].to_pylist())
        attach_labels(project.parts, "delivery", {"request_id": [request_id], "row": [0], "label": [4]})
        del project.declarations.models["delivery"]  # type: ignore[attr-defined]
        found = attached(project.parts, "delivery").sort_by("row")
    assert found["label"].to_pylist() == [4.0, None, None]


def test_a_complete_segment_is_moved_by_a_process_of_its_own(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.data.segments.SEGMENT_BYTES", 100)
    lake = open_lake(str(shop.home / "lake"))
    with opened(shop) as project, serving(project) as ask:
        for _ in range(2):
            ask("predict", {"entities": {"shop_id": 3}, "features": {"distance": 2.5}})
            time.sleep(0.5)  # a segment of its own for each
        for _ in range(300):
            if lake.version("predictions/delivery") is not None:
                break
            time.sleep(0.1)
        assert lake.rows("predictions/delivery") > 0
        for thread in threading.enumerate():
            if thread.name == "headway-compaction":
                thread.join(30)
    assert predictions.read(lake, "delivery", home=shop.home).num_rows == 2
