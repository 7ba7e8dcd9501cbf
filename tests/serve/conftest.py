"""A small world to serve from: an online store, a registry, a model whose predictions can be told by hand.

The model adds 1, 2, 4, 8, 16 for each of its columns that is above a threshold, and 1000 times the version's ``base``.
Its files are LightGBM's text form, written by hand, so that no test waits for a training.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from headway.clock import from_iso
from headway.data.online import OnlineReader, Watermark, pack, write_watermark
from headway.data.online.lmdb import LmdbStore
from headway.define._bundle import write_bundle
from headway.define.records import (
    CalendarUse,
    ColumnSpec,
    FeaturePlan,
    Field,
    RequestFunctionUse,
    RequestInput,
    SegmentModel,
    ServingPlan,
    Snapshot,
    VersionRecord,
    ViewPlan,
    ViewUse,
)
from headway.metadata import open_metadata
from headway.registry import Registry
from headway.serve import Limits, RegistryCatalogue, Server, Service, bind

NOW = from_iso("2024-02-01T12:07:00Z")
MINUTE = 60_000_000
DAY = 1440 * MINUTE

ZONES = ViewPlan(
    name="zone_traffic",
    fingerprint="aa" * 16,
    source="trips",
    tables=(),
    sql="",
    keys=(Field("zone_id", "int64"),),
    features=(
        FeaturePlan("trips_1h", "count", "int64", None, 60 * MINUTE),
        FeaturePlan("duration_avg", "mean", "double", "duration_s", DAY),
        FeaturePlan("busiest", "last", "string", "kind"),
        FeaturePlan("seen_at", "last", "timestamp[us, tz=UTC]", "at"),
        FeaturePlan("open", "last", "bool", "open"),
    ),
    refresh=15 * MINUTE,
)
ROUTES = ViewPlan(
    name="route_history",
    fingerprint="bb" * 16,
    source="trips",
    tables=(),
    sql="",
    keys=(Field("pickup_zone_id", "int64"), Field("dropoff_zone_id", "int64")),
    features=(FeaturePlan("duration_avg", "mean", "double", "duration_s", 28 * DAY),),
    refresh=60 * MINUTE,
)
COLUMNS = ("pickup__trips_1h", "dropoff__trips_1h", "at_request__ratio", "pickup_at__hour", "borough")
THRESHOLDS = (10.0, 10.0, 1.0, 11.0, 0.5)  # borough: its code, Brooklyn 0, Manhattan 1
FUNCTION = """
import time
import numpy as np
import headway as hw

def _scale(x):
    from trips.factor import FACTOR
    return x * FACTOR

INPUTS = [hw.Request("pickup_at", "timestamp"), hw.Request("a", "double"), hw.Request("b", "double")]

@hw.request_features(inputs=INPUTS)
def at_request(pickup_at, route_avg, zone_avg):
    if np.any(route_avg == -1):
        raise KeyError("secret value")
    if np.any(route_avg == -7):
        time.sleep(0.7)
    return {"ratio": _scale(route_avg / zone_avg)}
"""


def tree(index: int, column: int, threshold: float, below: float, above: float) -> str:
    return (
        f"Tree={index}\nnum_leaves=2\nnum_cat=0\nsplit_feature={column}\nsplit_gain=1\nthreshold={threshold}\n"
        f"decision_type=10\nleft_child=-1\nright_child=-2\nleaf_value={below} {above}\nleaf_weight=1 1\n"
        "leaf_count=1 1\ninternal_value=0\ninternal_weight=0\ninternal_count=2\nis_linear=0\nshrinkage=1\n\n\n"
    )


def model_text(base: float, columns: Sequence[str] = COLUMNS, thresholds: Sequence[float] = THRESHOLDS) -> str:
    trees = [tree(i, i, t, 0.0, 2.0**i) for i, t in enumerate(thresholds)]
    trees.append(tree(len(trees), 0, 1e300, 1000.0 * base, 0.0))
    head = (
        f"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx={len(columns) - 1}\n"
        f"objective=regression\nfeature_names={' '.join(columns)}\n"
        f"feature_infos={' '.join(['[-1:1]'] * len(columns))}\n\n"
    )
    return head + "".join(trees) + "end of trees\n"


def serving_plan(**changes: Any) -> ServingPlan:
    plan = ServingPlan(
        model="trip_duration",
        task="regression",
        views=(
            ViewUse("pickup", ZONES, {"zone_id": "pickup_zone_id"}, ("trips_1h", "duration_avg", "busiest", "seen_at")),
            ViewUse("dropoff", ZONES, {"zone_id": "dropoff_zone_id"}, ("trips_1h",)),
            ViewUse("route_history", ROUTES, {}, ("duration_avg",)),
        ),
        requests=(
            RequestInput("pickup_at", "timestamp"),
            RequestInput("borough", "string"),
            RequestInput("passengers", "int64"),
            RequestInput("shared", "bool"),
            RequestInput("miles", "double"),
        ),
        calendars=(CalendarUse("pickup_at", "America/New_York", ("hour", "weekday")),),
        functions=(
            RequestFunctionUse(
                "at_request",
                "trips.features",
                "at_request",
                ("pickup_at", "route_history__duration_avg", "pickup__duration_avg"),
                ("at_request__ratio",),
                "",
            ),
        ),
        columns=tuple(
            ColumnSpec(
                name,
                "string" if name == "borough" else "double",
                ("Brooklyn", "Manhattan") if name == "borough" else None,
            )
            for name in COLUMNS
        ),
        pooled=SegmentModel("pooled.txt", "lightgbm", 100),
        segments={"Manhattan": SegmentModel("manhattan.txt", "lightgbm", 100)},
        segment="borough",
        package="trips",
    )
    return msgspec.structs.replace(plan, **changes)


@dataclass
class World:
    """A project's stores in one directory."""

    root: Path
    now: int = NOW
    stores: list[LmdbStore] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metadata = open_metadata(f"sqlite:///{self.root}/metadata.db", "trips", "local")
        self.registry = Registry(self.metadata, self.root / "artifacts", lambda: self.now)
        self.store = LmdbStore(self.root / "online")
        self.reader = OnlineReader(self.store)
        self.catalogue = RegistryCatalogue(self.registry)

    def materialize(self, as_of: int = from_iso("2024-02-01T12:00:00Z")) -> None:
        zones = list(range(1, 101))
        self._write(
            ZONES,
            pa.table({"zone_id": zones}),
            {
                "trips_1h": pa.array(zones, pa.int64()),  # zone z had z trips
                "duration_avg": pa.array([100.0 * z if z % 10 else None for z in zones], pa.float64()),
                "busiest": pa.array([f"kind {z}" for z in zones]),
                "seen_at": pa.array([as_of - z for z in zones], pa.timestamp("us", "UTC")),
                "open": pa.array([z % 2 == 0 for z in zones]),
            },
            as_of,
        )
        pairs = [(p, d) for p in range(1, 101) for d in (1, 20, 42)]
        keys = {"pickup_zone_id": [p for p, _ in pairs], "dropoff_zone_id": [d for _, d in pairs]}
        self._write(ROUTES, pa.table(keys), {"duration_avg": pa.array([200.0 * p for p, _ in pairs])}, as_of)

    def _write(self, plan: ViewPlan, keys: pa.Table, features: Mapping[str, pa.Array], as_of: int) -> None:
        table = pa.table({f.name: features[f.name] for f in plan.features})
        for rows in pack(plan, Snapshot(keys, table, as_of, 1)):
            self.store.put_many(rows)
        write_watermark(self.store, plan, Watermark(as_of, 1))

    def register(self, base: float, factor: float = 1.0, plan: ServingPlan | None = None) -> VersionRecord:
        """A version whose predictions begin at 1000 × ``base``; Manhattan's own model adds 500 to that."""
        plan = plan or serving_plan()
        staging = self.root / "staging"
        code = self.root / "code"
        (code / "trips").mkdir(parents=True, exist_ok=True)
        staging.mkdir(exist_ok=True)
        (code / "trips" / "__init__.py").write_text("")
        (code / "trips" / "factor.py").write_text(f"FACTOR = {factor}\n")
        (code / "trips" / "features.py").write_text(FUNCTION)
        bundle = write_bundle(code, "trips", staging / "bundle")
        thresholds = THRESHOLDS[: len(plan.columns)]
        names = [c.name for c in plan.columns]
        (staging / "pooled.txt").write_text(model_text(base, names, thresholds))
        (staging / "manhattan.txt").write_text(model_text(base + 0.5, names, thresholds))
        (staging / "serving.json").write_bytes(msgspec.json.encode(plan))
        draft = VersionRecord(
            model=plan.model,
            version=0,
            digest=f"{plan.model}-{base}-{factor}",
            created_at=self.now,
            directory="",
            files={},
            serving=plan,
            metrics={"mae": 1.0},
            segment_metrics={},
            baseline={},
            params={},
            seed=0,
            cut=None,
            train_rows=1,
            test_rows=1,
            data={},
            data_digest="",
            commit=None,
            dirty=False,
            environment="",
            bundle=bundle,
        )
        return self.registry.register(staging, draft)

    def promote(self, record: VersionRecord, segment: str | None = None) -> None:
        self.registry.promote(record.model, record.version, segment, by="test", why="test")

    def rollback(self, model: str = "trip_duration") -> None:
        self.registry.rollback(model, by="test", why="test")

    def close(self) -> None:
        self.metadata.close()
        self.store.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.materialize()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A connection to a server with one live version of base 1, shared by the tests of a module."""
    made = World(tmp_path_factory.mktemp("world"))
    made.materialize()
    made.promote(made.register(1))
    with running(made) as service:
        yield service.client()
    made.close()


class Client:
    """One keep-alive connection that never retries."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.connection = http.client.HTTPConnection(host, port, timeout=20)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        self.connection.request(method, path, body, dict(headers or {}))
        response = self.connection.getresponse()
        content = response.read()
        kind = response.headers["content-type"] or ""
        answer = json.loads(content) if "json" in kind and content else content.decode()
        return response.status, answer, response.headers

    def get(self, path: str) -> tuple[int, Any]:
        return self.send("GET", path)[:2]

    def post(self, path: str, content: Any) -> tuple[int, Any]:
        return self.send("POST", path, json.dumps(content).encode())[:2]

    def predict(self, content: Any, model: str = "trip_duration") -> tuple[int, Any]:
        return self.post(f"/v1/models/{model}/predict", content)

    def close(self) -> None:
        self.connection.close()


@dataclass
class Running:
    """A service with its server in a thread of this process."""

    service: Service
    port: int
    clients: list[Client] = field(default_factory=list)

    def client(self) -> Client:
        """Another connection, closed when the server ends."""
        self.clients.append(Client(self.port))
        return self.clients[-1]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds, for at most ten seconds."""
        pause = threading.Event()
        for _ in range(1000):
            if condition():
                return
            pause.wait(0.01)
        raise AssertionError("waited in vain")


@contextlib.contextmanager
def running(world: World, **options: Any) -> Iterator[Running]:
    options.setdefault("limits", Limits(body_bytes=200_000, rows=10_000))
    service = Service(world.catalogue, world.reader, lambda: world.now, poll_seconds=0.02, **options)
    listener = bind("127.0.0.1", 0)
    server = Server(service.app, grace=0)
    thread = threading.Thread(target=server.run, args=([listener],))
    service.start()
    thread.start()
    made = Running(service, listener.getsockname()[1])
    try:
        made.wait(lambda: server.started and service.router.table.built)
        yield made
    finally:
        for client in made.clients:
            client.close()
        server.should_exit = True
        thread.join()
        service.stop()


@pytest.fixture
def serving(world: World) -> Callable[..., contextlib.AbstractContextManager[Running]]:
    """Start a service on the world, in this process."""
    return lambda **options: running(world, **options)


ONE = {
    "entities": {"pickup_zone_id": 74, "dropoff_zone_id": 42},
    "features": {
        "borough": "Manhattan",
        "pickup_at": "2024-01-05T13:00:00Z",  # 8 in New York
        "passengers": 1,
        "shared": False,
        "miles": 2,
    },
}
# pickup 74 trips > 10: 1; dropoff 42 > 10: 2; ratio 200 * 74 / 7400 = 2 > 1: 4; hour 8: 0; Manhattan: 16
ONE_SCORE = 1 + 2 + 4 + 16


@pytest.fixture
def one() -> dict[str, Any]:
    """A request for one row that every version understands; its score above the base is 23."""
    return json.loads(json.dumps(ONE))


@pytest.fixture
def plan_of() -> Callable[..., ServingPlan]:
    return serving_plan


@pytest.fixture
def zones() -> ViewPlan:
    return ZONES


@pytest.fixture
def connect() -> Iterator[Callable[[int], Client]]:
    """Connect to a port of this machine."""
    made: list[Client] = []

    def to(port: int) -> Client:
        made.append(Client(port))
        return made[-1]

    yield to
    for client in made:
        client.close()
