"""Promotion, rollback and segments while the server runs."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time

import msgspec
import pytest

from headway.define.records import SegmentModel
from headway.serve import Limits


def bundle_files() -> list[str]:
    modules = [module for name, module in sys.modules.copy().items() if name.startswith("headway_bundle_")]
    return [file for module in modules if (file := getattr(module, "__file__", None))]


def answered(client, one):
    status, answer = client.predict(one)
    return answer["rows"]["version"][0] if status == 200 else status


def test_promotion_and_rollback_are_noticed(world, serving, one) -> None:
    first, second = world.register(1, factor=1.0), world.register(2, factor=0.1)
    world.promote(first)
    with serving() as running:
        client = running.client()
        before = client.predict(one)[1]
        world.promote(second)
        running.wait(lambda: answered(client, one) == "2")
        # Its own code ran: a tenth of the ratio is below the threshold, which takes the 4 away.
        assert client.predict(one)[1]["predictions"] == [2500 + 23 - 4]
        world.rollback()
        running.wait(lambda: answered(client, one) == "1")
        after = client.predict(one)[1]
        assert before.pop("request_id") != after.pop("request_id")
        assert before == after
        # The second version is gone with its code.
        running.wait(lambda: not any(str(world.registry.directory(second)) in f for f in bundle_files()))
        assert any(str(world.registry.directory(first)) in f for f in bundle_files())
        assert "headway_swaps_total 3" in client.get("/metrics")[1]


def test_no_request_fails_while_versions_change(world, serving, one) -> None:
    records = [world.register(base) for base in (1, 2)]
    world.promote(records[0])
    stop = threading.Event()
    outcomes: list[tuple[int, str, float]] = []
    broken: list[BaseException] = []
    big = json.loads(json.dumps(one))
    big["entities"]["pickup_zone_id"] = [74] * 3000  # goes through a thread

    def load(running, content) -> None:
        client = running.client()  # keep-alive; an error ends the thread and fails the test
        try:
            at = time.monotonic()
            while not stop.is_set():
                status, answer = client.predict(content)
                rows = answer.get("rows", {}).get("version", ["none"])
                assert len(set(rows)) == 1
                outcomes.append((status, rows[0], answer["predictions"][0]))
                at += 0.004
                time.sleep(max(0.0, at - time.monotonic()))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            broken.append(error)

    with serving(limits=Limits()) as running:
        threads = [threading.Thread(target=load, args=(running, content)) for content in (one, one, big)]
        for thread in threads:
            thread.start()
        client = running.client()
        for record in (records[1], records[0], records[1]):
            world.promote(record)
            running.wait(lambda v=str(record.version): answered(client, one) == v)
        world.rollback()
        running.wait(lambda: answered(client, one) == "1")
        stop.set()
        for thread in threads:
            thread.join()
    assert not broken
    assert {(status, version, score) for status, version, score in outcomes} == {(200, "1", 1523), (200, "2", 2523)}


def test_a_version_that_does_not_load_changes_nothing(world, serving, one) -> None:
    first, second = world.register(1), world.register(2)
    world.promote(first)
    with serving() as running:
        client = running.client()
        world.promote(second)
        running.wait(lambda: answered(client, one) == "2")
        world.rollback()
        running.wait(lambda: answered(client, one) == "1")
        file = world.registry.directory(second) / "pooled.txt"
        text = file.read_text()
        file.write_text("changed")
        world.metadata.deployments.append(
            action="promote", model="trip_duration", segment=None, version=2, by="test", at=0, why="by hand"
        )
        running.wait(lambda: running.service.router.table.failures != {})
        assert answered(client, one) == "1"
        status, ready = client.get("/readyz")
        assert status == 200
        assert "was changed since it was recorded" in ready["failures"]["trip_duration"]
        assert 'headway_load_failures_total{model="trip_duration"}' in client.get("/metrics")[1]
        file.write_text(text)
        running.wait(lambda: answered(client, one) == "2")  # tried again
        assert client.get("/readyz")[1]["failures"] == {}


def test_a_first_version_that_does_not_load(world, serving, one) -> None:
    world.promote(world.register(1))
    shutil.rmtree(world.root / "artifacts" / "trip_duration" / "1" / "bundle")
    with serving() as running:
        client = running.client()
        status, answer = client.predict(one)
        assert status == 503
        assert "/readyz says why" in answer["detail"]
        assert client.get("/readyz")[0] == 503


def test_segments_answered_by_different_versions(world, serving, one, plan_of) -> None:
    first = world.register(1)
    # The second version needs one input less.
    fewer = plan_of(requests=plan_of().requests[:3])
    second = world.register(2, plan=fewer)
    world.promote(first)
    world.promote(second, "Manhattan")
    with serving() as running:
        client = running.client()
        one["entities"]["pickup_zone_id"] = [74, 999, 74, 74]
        one["features"]["borough"] = ["Manhattan", "Brooklyn", "Brooklyn", None]
        status, answer = client.predict(one)
        assert status == 200, answer
        assert answer["predictions"] == [2523, 1002, 1007, 1007]
        assert answer["rows"]["version"] == ["2", "1", "1", "1"]
        assert answer["rows"]["segment"] == ["Manhattan", None, None, None]
        assert answer["state"]["pickup__trips_1h"] == ["ok", "missing", "ok", "ok"]
        del one["features"]["miles"]
        one["features"]["borough"] = "Manhattan"
        assert client.predict(one)[0] == 200
        one["features"]["borough"] = ["Manhattan", "Brooklyn", "Manhattan", "Manhattan"]
        status, answer = client.predict(one)
        assert (status, "lacks 'miles'" in answer["detail"]) == (422, True)
        assert client.predict({"entities": {"pickup_zone_id": 1}})[0] == 422


def test_a_segment_without_any_version(world, serving, one) -> None:
    world.promote(world.register(1), "Manhattan")
    with serving() as running:
        client = running.client()
        assert client.predict(one)[1]["predictions"] == [1523]
        one["features"]["borough"] = "Brooklyn"
        status, answer = client.predict(one)
        assert status == 409
        assert "Brooklyn" not in answer["detail"]
        one["features"]["borough"] = {"a": 1}
        assert client.predict(one)[0] == 409


def test_an_entity_key_as_segment(world, serving, one, plan_of) -> None:
    plan = plan_of(segment="pickup_zone_id", segments={"74": SegmentModel("manhattan.txt", "lightgbm", 1)})
    world.promote(world.register(1, plan=plan))
    with serving() as running:
        client = running.client()
        one["entities"]["pickup_zone_id"] = [74, 75]
        answer = client.predict(one)[1]
        assert answer["rows"]["segment"] == ["74", None]
        assert answer["predictions"] == [1523, 1023]


def test_late_and_expired_values_say_so(world, serving, one) -> None:
    world.promote(world.register(1))
    with serving() as running:
        client = running.client()
        world.now += 20 * 60_000_000
        answer = client.predict(one)[1]
        assert answer["predictions"] == [1523]
        assert answer["state"]["pickup__trips_1h"] == ["late"]
        world.now += 24 * 60 * 60_000_000
        answer = client.predict(one)[1]
        assert answer["state"]["pickup__trips_1h"] == ["expired"]
        assert answer["predictions"] == [1516]
        assert 'headway_features_total{view="zone_traffic",state="expired"}' in client.get("/metrics")[1]


def test_before_anything_was_materialized(world, serving, one) -> None:
    for prefix in world.store.prefixes():
        world.store.drop(prefix)
    world.promote(world.register(1))
    with serving() as running:
        client = running.client()
        answer = client.predict(one)[1]
        assert answer["as_of"] == {"pickup": None, "dropoff": None, "route_history": None}
        assert answer["predictions"] == [1516]


def test_a_store_that_fails(world, serving, one, caplog) -> None:
    world.promote(world.register(1))
    with serving() as running:
        client = running.client()
        world.store.close()
        status, answer = client.predict(one)
        assert status in (500, 503)
        assert "Traceback" not in json.dumps(answer)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classes(world, serving, one, plan_of, task) -> None:
    plan = msgspec.structs.replace(plan_of(), task=task, classes=("slow", "fast"))
    world.promote(world.register(0, plan=plan))
    with serving() as running:
        client = running.client()
        status, answer = client.predict(one)
        assert status == 200, answer
        assert answer["predictions"] == ([523] if task == "binary" else ["fast"])
        schema = client.get("/openapi.json")[1]["paths"]["/v1/models/trip_duration/predict"]["post"]["responses"]["200"]
        assert "fast" in json.dumps(schema)


def test_one_row_and_many_rows_agree(world, serving, one, plan_of) -> None:
    """A single row of a version whose features are all numbers goes a way of its own."""
    plan = plan_of()
    numbers = msgspec.structs.replace(plan.views[0], features=("duration_avg", "trips_1h", "open"))
    world.promote(world.register(1, plan=plan_of(views=(numbers, *plan.views[1:]))))
    values = {
        "pickup_zone_id": [74, 3, 10, 999, None],
        "dropoff_zone_id": [42, 1, 50],
        "borough": ["Manhattan", "Brooklyn", "elsewhere", None],
        "pickup_at": ["2024-01-05T13:00:00Z", "2024-07-05T17:00:00+01:00", "9999-12-31T23:00:00Z", None],
        "passengers": [None, 3],
        "shared": [True, None],
        "miles": [None, 10**300],
    }
    rows = [{name: v[(i * (k + 1)) % len(v)] for k, (name, v) in enumerate(values.items())} for i in range(60)]
    with serving() as running:
        client = running.client()
        status, together = client.predict(rows)
        assert status == 200, together
        assert len(set(together["predictions"])) > 8
        for i, row in enumerate(rows):
            status, alone = client.predict([row])
            assert (status, alone["predictions"]) == (200, together["predictions"][i : i + 1]), row
            assert alone["rows"]["segment"] == together["rows"]["segment"][i : i + 1]
            assert alone["as_of"] == together["as_of"]
            states = {name: of[i : i + 1] for name, of in together["state"].items() if of[i] != "ok"}
            assert alone["state"] == states
        assert client.predict([{**rows[0], "miles": 10**400}])[0] == 422
        assert client.predict([{**rows[0], "pickup_at": "2024-01-05"}])[0] == 422
        one["features"]["route_history__duration_avg"] = -1
        assert client.predict(one)[0] == 500
