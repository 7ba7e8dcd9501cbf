"""The prediction log: what is in it, what a kill may take, what happens when the disk does not keep up."""

from __future__ import annotations

import contextlib
import errno
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headway.clock import from_iso, to_iso
from headway.data import predictions
from headway.data.lake import Lake, open_lake
from headway.define.records import SegmentModel
from headway.errors import NotFoundError
from headway.serve import Limits, PredictionLog

MODEL = "trip_duration"
SCRIPT = """
import sys
from pathlib import Path
from headway.data.online import OnlineReader
from headway.data.online.lmdb import LmdbStore
from headway.metadata import open_metadata
from headway.registry import Registry
from headway.serve import PredictionLog, RegistryCatalogue, serve

root, now = Path(sys.argv[1]), int(sys.argv[2])
metadata = open_metadata(f"sqlite:///{root}/metadata.db", "trips", "local")
registry = Registry(metadata, root / "artifacts", lambda: now)
reader = OnlineReader(LmdbStore(root / "online", readonly=True))
serve(RegistryCatalogue(registry), reader, lambda: now, port=0, log=PredictionLog(root))
heavy = {"mlflow", "sklearn", "pandas", "duckdb", "lightgbm", "deltalake", "pyarrow.dataset"} & set(sys.modules)
print("stopped", sorted(heavy), flush=True)
"""
COMPACT = """
import sys
from pathlib import Path
import deltalake, pyarrow.parquet
from headway.data.lake import open_lake
from headway.data.predictions import compact
from headway.data.lake import _commit, _delta, _rows
print("ready", flush=True)
sys.stdin.readline()
compact(open_lake(sys.argv[1] + "/lake"), Path(sys.argv[1]))
"""


@pytest.fixture
def live(world) -> Any:
    """The world with one live version."""
    world.promote(world.register(1))
    return world


@pytest.fixture
def lake(world) -> Lake:
    return open_lake(str(world.root / "lake"))


@pytest.fixture
def logged(world, lake) -> Callable[..., pa.Table]:
    """Everything in the log after a compaction, in order of request and row."""

    def read(**options: Any) -> pa.Table:
        found = predictions.read(lake, MODEL, home=world.root, **options)
        return found.sort_by([("logged_at", "ascending"), ("request_id", "ascending"), ("row", "ascending")])

    return read


def rows_of(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def micros(moment: Any) -> int:
    return pa.scalar(moment, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()


def test_one_row_is_logged_as_it_was_served(live, serving, one, logged) -> None:
    before = time.time_ns() // 1000
    with serving(log=PredictionLog(live.root)) as running:
        status, answer = running.client().predict(one)
        assert status == 200
    (row,) = logged().to_pylist()
    assert (row["request_id"], row["row"], row["model"]) == (answer["request_id"], 0, MODEL)
    assert (row["version"], row["role"], row["source"]) == (1, "champion", "http")
    assert [row["segment"]] == answer["rows"]["segment"]
    assert [row["prediction"]] == answer["predictions"] == [1523]
    assert micros(row["at"]) == live.now
    assert before <= micros(row["logged_at"]) <= time.time_ns() // 1000
    assert 0 < row["seconds"] < 20
    assert row["states"] is None
    assert (row["pickup_zone_id"], row["dropoff_zone_id"], row["borough"]) == (74, 42, "Manhattan")
    assert (row["passengers"], row["shared"], row["miles"]) == (1, False, 2.0)
    assert micros(row["pickup_at"]) == from_iso("2024-01-05T13:00:00Z")
    assert {name: to_iso(micros(row[f"as_of__{name}"])) for name in answer["as_of"]} == answer["as_of"]
    assert (row["f__pickup__trips_1h"], row["f__at_request__ratio"], row["f__pickup_at__hour"]) == (74.0, 2.0, 8.0)
    assert row["f__borough"] == "Manhattan"


def test_many_rows_are_logged_like_one(live, serving, one, logged) -> None:
    many = json.loads(json.dumps(one))
    many["entities"]["pickup_zone_id"] = [74, 999, None, 3]
    many["features"]["borough"] = ["Manhattan", "Brooklyn", None, "Queens"]
    with serving(log=PredictionLog(live.root)) as running:
        client = running.client()
        answer = client.predict(many)[1]
        alone = []
        for at in range(4):
            one["entities"]["pickup_zone_id"] = many["entities"]["pickup_zone_id"][at]
            one["features"]["borough"] = many["features"]["borough"][at]
            alone.append(client.predict(one)[1]["request_id"])
    table = logged()
    together = [row for row in table.to_pylist() if row["request_id"] == answer["request_id"]]
    assert [row["row"] for row in together] == [0, 1, 2, 3]
    assert [row["prediction"] for row in together] == answer["predictions"]
    states = [json.loads(row["states"]) if row["states"] else {} for row in together]
    for name, of in answer["state"].items():
        assert [found.get(name, "ok") for found in states] == of
    by_id = {row["request_id"]: row for row in table.to_pylist()}
    volatile = {"request_id", "row", "logged_at", "seconds"}
    volatile |= {name for name in table.column_names if name.startswith("as_of__")}  # of the earliest row
    for row, request_id in zip(together, alone, strict=True):
        single = by_id[request_id]
        assert {k: v for k, v in row.items() if k not in volatile} == {
            k: v for k, v in single.items() if k not in volatile
        }


def test_an_overridden_feature_is_logged_as_it_was_given(live, serving, one, logged) -> None:
    one["features"]["pickup__trips_1h"] = 3
    with serving(log=PredictionLog(live.root)) as running:
        running.client().predict(one)
    assert logged()["f__pickup__trips_1h"].to_pylist() == [3.0]


def test_rows_of_several_versions_and_refused_requests(world, serving, one, plan_of, logged) -> None:
    world.promote(world.register(1))
    world.promote(world.register(2, plan=plan_of(requests=plan_of().requests[:3])), "Manhattan")
    with serving(log=PredictionLog(world.root)) as running:
        client = running.client()
        one["entities"]["pickup_zone_id"] = [74, 999, 74, 74]
        one["features"]["borough"] = ["Manhattan", "Brooklyn", "Brooklyn", None]
        answer = client.predict(one)[1]
        assert client.predict({"entities": {"pickup_zone_id": 1}})[0] == 422
        one["features"]["route_history__duration_avg"] = -1
        assert client.predict(one)[0] == 500
        assert client.predict([])[0] in (200, 422)  # no rows
        metrics = client.get("/metrics")[1]
    found = logged().sort_by("row")
    assert rows_of(found, "row", "version", "prediction", "miles") == [
        (0, 2, 2523.0, None),  # the version has no such input
        (1, 1, 1002.0, 2.0),
        (2, 1, 1007.0, 2.0),
        (3, 1, 1007.0, 2.0),
    ]
    assert found["segment"].to_pylist() == answer["rows"]["segment"]
    assert "headway_log_failing 0" in metrics
    assert found.num_rows == 4


def test_class_labels_and_awkward_names(world, serving, one, plan_of, logged) -> None:
    """A key called as a column of the log, and numbers beyond 64 bits."""
    plan = plan_of()
    renamed = [msg for msg in plan.requests if msg.name != "miles"]
    version = type(plan.requests[0])("Version", "double")
    world.promote(world.register(1, plan=plan_of(requests=(*renamed, version))))
    with serving(log=PredictionLog(world.root)) as running:
        client = running.client()
        del one["features"]["miles"]
        one["features"]["Version"] = 10**30
        assert client.predict(one)[0] == 200
        one["features"]["Version"] = [10**30, None, 2]
        assert client.predict(one)[0] == 200
    assert sorted(logged()["in__Version"].to_pylist(), key=str) == [1e30, 1e30, 2.0, None]


def test_a_column_that_changes_its_type_gets_another_name(world, serving, one, plan_of, logged) -> None:
    plan = plan_of()
    world.promote(world.register(1))
    for kind, value in (("double", 1), ("string", "one")):
        requests = tuple(type(r)(r.name, kind if r.name == "passengers" else r.type) for r in plan.requests)
        with serving(log=PredictionLog(world.root)) as running:
            client = running.client()
            assert client.predict(one)[0] == 200
            world.promote(world.register(2 if kind == "double" else 3, plan=plan_of(requests=requests)))
            one["features"]["passengers"] = value
            running.wait(lambda c=client: c.predict(one)[0] == 200 and c.get("/metrics")[1].count("swaps_total 2") > 0)
            assert client.predict(one)[0] == 200
        assert logged().num_rows
    kinds = {f.name: str(f.type) for f in logged().schema}
    assert kinds["passengers"] == "int64"
    assert kinds["passengers__double"] == "double"
    assert kinds["passengers__string"] == "string"


def test_reading_a_part(live, serving, one, logged, lake) -> None:
    with serving(log=PredictionLog(live.root)) as running:
        client = running.client()
        ids = []
        for _ in range(3):
            ids.append(client.predict(one)[1]["request_id"])
            live.now += 1_000_000
    first = live.now - 3_000_000
    assert logged(since=first + 1)["request_id"].to_pylist() == ids[1:]
    assert logged(until=first + 1)["request_id"].to_pylist() == ids[:1]
    chosen = logged(columns=["logged_at", "request_id", "row", "no_such_column"])
    assert chosen.column_names == ["logged_at", "request_id", "row", "no_such_column"]
    assert chosen["no_such_column"].null_count == 3
    assert predictions.find(lake, ids[1])["prediction"].to_pylist() == [1523.0]
    with pytest.raises(NotFoundError, match="has no request 'nobody'"):
        predictions.find(lake, "nobody")
    (of,) = predictions.overview(lake)
    assert (of.model, of.rows, of.since, of.until, of.dropped) == (MODEL, 3, first, first + 2_000_000, {})
    assert predictions.read(lake, "other").num_rows == 0


class Disk:
    """Stands in for fsync: it can stall, or fail."""

    def __init__(self) -> None:
        self.flows = threading.Event()
        self.flows.set()
        self.error: OSError | None = None
        self.syncs = 0

    def __call__(self, file: int) -> None:
        assert self.flows.wait(30)
        if self.error is not None:
            raise self.error
        self.syncs += 1


def test_a_stalled_disk_drops_and_says_how_many(live, serving, one, logged, lake) -> None:
    disk, sent = Disk(), 0
    log = PredictionLog(live.root, rows=5, sync=disk)
    one["entities"]["pickup_zone_id"] = [74, 75, 76]
    with serving(log=log) as running:
        client = running.client()
        disk.flows.clear()
        for _ in range(20):
            assert client.predict(one)[0] == 200
            sent += 3
            assert log.pending <= 5
        dropped = sum(log.dropped.values())
        assert dropped >= sent - 5
        assert f'headway_log_dropped_total{{model="{MODEL}",reason="full"}} {dropped}' in client.get("/metrics")[1]
        status, ready = client.get("/readyz")
        assert (status, ready["log"]["dropped"], ready["log"]["policy"]) == (200, dropped, "drop")
        disk.flows.set()
        running.wait(lambda: log.pending == 0)
        assert client.predict(one)[0] == 200
        sent += 3
    found = logged()
    (of,) = predictions.overview(lake)
    assert of.dropped == {"full": dropped}
    assert of.rows == found.num_rows == sent - dropped
    assert log.written == {MODEL: sent - dropped}


def test_a_stalled_disk_makes_requests_wait(live, serving, one, logged) -> None:
    disk = Disk()
    log = PredictionLog(live.root, rows=5, policy="wait", sync=disk)
    one["entities"]["pickup_zone_id"] = [74, 75, 76]
    answered: list[int] = []
    with serving(log=log) as running:
        disk.flows.clear()
        clients = [running.client() for _ in range(6)]
        threads = [threading.Thread(target=lambda c=c: answered.append(c.predict(one)[0])) for c in clients]
        for thread in threads:
            thread.start()
        running.wait(lambda: len(answered) == 1)
        client = running.client()
        assert client.get("/healthz")[0] == 200  # the event loop is free
        time.sleep(0.3)
        assert len(answered) == 1
        disk.flows.set()
        for thread in threads:
            thread.join(10)
    assert answered == [200] * 6
    assert not log.dropped
    assert logged().num_rows == 18


@pytest.mark.parametrize("policy", ["drop", "wait"])
def test_a_disk_that_fails_is_told_and_got_over(live, serving, one, logged, lake, policy) -> None:
    disk = Disk()
    log = PredictionLog(live.root, rows=4, policy=policy, sync=disk)
    with serving(log=log) as running:
        client = running.client()
        assert client.predict(one)[0] == 200
        running.wait(lambda: log.pending == 0)
        disk.error = OSError(errno.ENOSPC, "No space left on device")
        for _ in range(10):
            assert client.predict(one)[0] == 200
            running.wait(lambda: bool(log.failing))
        status, ready = client.get("/readyz")
        assert (status, ready["log"]["failing"]) == (200, "there is no room on the disk for it")
        assert "headway_log_failing 1" in client.get("/metrics")[1]
        assert client.post(f"/v1/models/{MODEL}/labels", {"request_id": "a", "label": 1})[0] == 503
        disk.error = None
        running.wait(lambda: not log.failing)
        assert client.predict(one)[0] == 200
    assert predictions.overview(lake) == []
    assert logged().num_rows == 6  # the first, four that waited in memory, the last
    (of,) = predictions.overview(lake)
    assert of.dropped == {"disk": 6}
    assert of.labels == 0


def test_off_and_label_refusals(live, serving, one) -> None:
    with serving() as running:
        client = running.client()
        assert client.predict(one)[0] == 200
        status, problem = client.post(f"/v1/models/{MODEL}/labels", {"request_id": "a", "label": 1})
        assert (status, "serve.log" in problem["detail"]) == (404, True)
        assert client.get("/readyz")[1]["log"] == {"policy": "off"}
    assert not (live.root / "predictions").exists()


def test_labels_over_http_are_on_the_disk_when_answered(live, serving, one, lake) -> None:
    disk = Disk()
    with serving(log=PredictionLog(live.root, sync=disk)) as running:
        client = running.client()
        path = f"/v1/models/{MODEL}/labels"
        before = disk.syncs
        status, answer = client.post(path, {"request_id": "r1", "label": 812.5})
        assert (status, answer["model"], answer["labels"]) == (200, MODEL, 1)
        assert disk.syncs > before
        assert client.post(path, {"request_id": "r2", "row": [0, 1], "label": [1, 2]})[0] == 200
        assert (
            client.post(path, [{"request_id": "r3", "label": 3}, {"request_id": "r4", "row": 7, "label": 4}])[0] == 200
        )
        for wrong, said in (
            ({"request_id": "r"}, "lack 'label'"),
            ({"label": 1}, "lack 'request_id'"),
            ({"request_id": "r", "label": None}, "what is not known yet is not sent"),
            ({"request_id": "r", "label": "long"}, "predicts numbers"),
            ({"request_id": "", "label": 1}, "request_id is the request_id of an answer"),
            ({"request_id": 7, "label": 1}, "request_id is the request_id of an answer"),
            ({"request_id": "r", "label": 1, "row": -1}, "row is the number"),
            ({"request_id": "r", "label": 1, "at": "now"}, "no field 'at'"),
            ("r", "the body is"),
        ):
            status, problem = client.post(path, wrong)
            assert (status, said in problem["detail"]) == (422, True), (wrong, problem)
        assert client.post("/v1/models/nobody/labels", {"request_id": "r", "label": 1})[0] == 404
        assert client.get(path)[0] == 405
        document = client.get("/openapi.json")[1]
        assert "post" in document["paths"][path]
    predictions.compact(lake, live.root)
    told = predictions.read_labels(lake, MODEL)
    assert sorted(rows_of(told, "request_id", "row", "label", "source"), key=str) == [
        ("r1", None, "812.5", "http"),
        ("r2", 0, "1", "http"),
        ("r2", 1, "2", "http"),
        ("r3", None, "3", "http"),
        ("r4", 7, "4", "http"),
    ]
    assert {micros(m) for m in told["known_at"].to_pylist()} == {live.now}


def test_labels_of_classes(world, serving, plan_of) -> None:
    world.promote(world.register(1, plan=plan_of(task="binary", classes=(False, True))))
    with serving(log=PredictionLog(world.root)) as running:
        client = running.client()
        path = f"/v1/models/{MODEL}/labels"
        for label in (True, 0):
            assert client.post(path, {"request_id": "r", "label": label})[0] == 200
        for label in (2, "yes"):
            assert client.post(path, {"request_id": "r", "label": label})[0] == 422


def test_a_torn_end_is_left_out(live, serving, one, logged, world, lake) -> None:
    for _ in range(2):
        with serving(log=PredictionLog(live.root)) as running:
            for _ in range(3):
                running.client().predict(one)
                running.wait(lambda r=running: r.service.log.pending == 0)
    folders = sorted(f for f in (world.root / "predictions").iterdir())
    assert len(folders) == 2  # a writer for each start
    (segment,) = folders[0].glob("*.seg")
    segment.write_bytes(segment.read_bytes()[:-3])
    (segment,) = folders[1].glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[-2] ^= 0xFF
    segment.write_bytes(content)
    done = predictions.compact(lake, world.root)
    assert sum(done.torn.values()) > 0
    assert logged().num_rows == 4
    assert list((world.root / "predictions").iterdir()) == []


def test_compacting_while_the_server_writes(live, serving, one, logged, lake, monkeypatch) -> None:
    monkeypatch.setattr("headway.data.segments.SEGMENT_BYTES", 2_000)
    closed: list[Path] = []
    sent = []
    with serving(log=PredictionLog(live.root, closed=closed.append)) as running:
        client = running.client()
        for _ in range(12):
            sent += [client.predict(one)[1]["request_id"] for _ in range(5)]
            running.wait(lambda: running.service.log.pending == 0)
            found = logged()
            assert sorted(found["request_id"].to_pylist()) == sorted(sent)
        left = list((live.root / "predictions").rglob("*.seg"))
        assert len(left) == 1  # the one being written
        assert len(closed) > 1
    assert sorted(logged()["request_id"].to_pylist()) == sorted(sent)
    assert list((live.root / "predictions").iterdir()) == []
    assert len(lake.files(f"predictions/{MODEL}")) < 20


class Killed(BaseException):
    """What a kill is to the code: nothing after it happens."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("commit", [0, 1, 2])
def test_a_compaction_that_is_killed_at_a_commit(live, serving, one, logged, lake, monkeypatch, when, commit) -> None:
    log = PredictionLog(live.root, rows=2)
    with serving(log=log) as running:
        client = running.client()
        one["entities"]["pickup_zone_id"] = [74, 75, 76]
        ids = [client.predict(one)[1]["request_id"]]
        log._drops.add(MODEL, "full", 5, live.now)
        assert client.post(f"/v1/models/{MODEL}/labels", {"request_id": ids[0], "row": 1, "label": 3})[0] == 200
    write, left = type(lake).write, [commit]

    def killed(self: Any, *arguments: Any, **options: Any) -> int:
        left[0] -= 1
        if left[0] < 0 and when == "before":
            raise Killed
        done = write(self, *arguments, **options)
        if left[0] < 0:
            raise Killed
        return done

    with monkeypatch.context() as patched:
        patched.setattr(type(lake), "write", killed)
        with pytest.raises(Killed):
            predictions.compact(lake, live.root)
    assert logged().num_rows == 3
    (of,) = predictions.overview(lake)
    assert (of.rows, of.dropped, of.labels) == (3, {"full": 5}, 1)
    assert list((live.root / "predictions").iterdir()) == []


def test_two_compactions_that_do_not_know_of_each_other(live, serving, one, lake, monkeypatch) -> None:
    """Even without their lock each row is taken once: the table refuses the one that comes later."""
    with serving(log=PredictionLog(live.root)) as running:
        client = running.client()
        sent = [client.predict(one)[1]["request_id"] for _ in range(50)]
    monkeypatch.setattr("headway.data.predictions._compact.exclusive", lambda *_, **__: contextlib.nullcontext())
    together = threading.Barrier(2)
    refused: list[BaseException] = []

    def work() -> None:
        together.wait()
        try:
            predictions.compact(lake, live.root)
        except (OSError, NotFoundError) as error:
            refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    predictions.compact(lake, live.root)
    assert sorted(predictions.read(lake, MODEL)["request_id"].to_pylist()) == sorted(sent)


class Load:
    """Clients that keep a server busy, and remember when which answer came."""

    def __init__(self, connect: Callable[[int], Any], port: int, one: dict[str, Any]) -> None:
        self.answers: list[tuple[float, str, int]] = []  # when, request id, rows
        many = json.loads(json.dumps(one))
        many["entities"]["pickup_zone_id"] = [74, 75, 76]
        contents = [one, one, many]
        self._threads = [threading.Thread(target=self._run, args=(connect(port), c)) for c in contents]
        for thread in self._threads:
            thread.start()

    def _run(self, client: Any, content: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, Exception):
            while True:
                status, answer = client.predict(content)
                if status == 200:
                    self.answers.append((time.monotonic(), answer["request_id"], len(answer["predictions"])))

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def process(root: Path, now: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(root), str(now)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            line = started.stdout.readline()
            assert line.startswith("serving on http://127.0.0.1:"), line + started.stderr.read()
            yield started, int(line.rsplit(":", 1)[1])
        finally:
            started.kill()


def test_a_killed_server_loses_its_last_second_at_most(live, one, connect, lake) -> None:
    """Three servers one after the other, each killed under load, and compactions killed in between."""
    chance, must, may = random.Random(), Counter(), Counter()
    for _ in range(3):
        with process(live.root, live.now) as (server, port):
            load = Load(connect, port, one)
            time.sleep(1.2 + chance.random())
            killed = time.monotonic()
            server.send_signal(signal.SIGKILL)
            server.wait()
            load.join()
        assert load.answers
        for at, request_id, rows in load.answers:
            (must if at < killed - 1.0 else may)[request_id] += rows
        with subprocess.Popen(
            [sys.executable, "-c", COMPACT, str(live.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as compacting:
            compacting.stdout.readline()
            compacting.stdin.write(b"\n")
            compacting.stdin.flush()
            time.sleep(chance.random() * 0.4)
            compacting.kill()
    with process(live.root, live.now) as (server, port):
        for _ in range(200):
            if connect(port).get("/readyz")[0] == 200:
                break
            time.sleep(0.02)
        last = connect(port).predict(one)[1]
        must[last["request_id"]] += 1
        server.send_signal(signal.SIGTERM)
        assert server.communicate(timeout=20) == ("stopped []\n", "")
    found = predictions.read(lake, MODEL, home=live.root)
    counted = Counter(zip(found["request_id"].to_pylist(), found["row"].to_pylist(), strict=True))
    assert set(counted.values()) == {1}
    rows = Counter(found["request_id"].to_pylist())
    assert must
    assert {request_id: rows[request_id] for request_id in must} == must
    # What came later is there whole, or not at all.
    assert all(rows[request_id] == may[request_id] for request_id in may if rows[request_id])
    assert set(rows) - set(must) - set(may) == set() or len(set(rows) - set(must) - set(may)) <= 9
    assert list((live.root / "predictions").iterdir()) == []


def test_large_requests_and_their_own_model(world, serving, one, plan_of, logged) -> None:
    """More rows than may be in memory come in when there are none; they are encoded by the log's thread."""
    plan = plan_of(segment="pickup_zone_id", segments={"74": SegmentModel("manhattan.txt", "lightgbm", 1)})
    world.promote(world.register(1, plan=plan))
    one["entities"]["pickup_zone_id"] = [74, 75] * 2500
    log = PredictionLog(world.root, rows=1000)
    with serving(log=log, limits=Limits()) as running:
        answer = running.client().predict(one)[1]
        running.wait(lambda: log.pending == 0)
        assert not log.dropped
    found = logged()
    assert found["prediction"].to_pylist() == answer["predictions"]
    assert found["segment"].to_pylist()[:2] == ["74", None]
    assert found["row"].to_pylist() == list(range(5000))
