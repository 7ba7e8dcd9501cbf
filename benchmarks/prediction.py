"""Predictions over HTTP: headway's server, and the least an ASGI application can do for the same answer.

A LightGBM model of 100 trees sees 20 features that are looked up for one entity. One core serves, the other one asks.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from harness import CLIENT, SERVER, Section, answer, child, figure, median, rounds, server
from online import AS_OF, fill, plan_of, values_of

ENTITIES, FEATURES, TREES, LEAVES = 10_000, 20, 100, 31
MODEL = "bench"
PREDICT = f"/v1/models/{MODEL}/predict"


def prepare(directory: str) -> dict[str, Any]:
    """Train the model and put it, with the features, where headway's registry and the floor find them."""
    import lightgbm

    from headway.metadata import open_metadata
    from headway.registry import Registry

    place = Path(directory)
    values = values_of(ENTITIES, FEATURES)
    fill(place, plan_of(FEATURES), values)
    label = values[:, :5].sum(axis=1) + values[:, 5] * values[:, 6]
    parameters = {"objective": "regression", "num_leaves": LEAVES, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(values, label), TREES)
    staging = place / "staging"
    staging.mkdir()
    booster.save_model(place / "model.txt")
    booster.save_model(staging / "pooled.txt")
    record = _record()
    (staging / "serving.json").write_bytes(msgspec.json.encode(record.serving))
    metadata = open_metadata(f"sqlite:///{place}/metadata.db", "bench", "local")
    registry = Registry(metadata, place / "artifacts", lambda: AS_OF)
    version = registry.register(staging, record).version
    registry.promote(MODEL, version, None, by="bench", why="to be measured")
    metadata.close()
    return {"prediction": float(booster.predict(values[7:8])[0])}


def _record() -> Any:
    from headway.define.records import ColumnSpec, SegmentModel, ServingPlan, VersionRecord, ViewUse

    plan = plan_of(FEATURES)
    names = tuple(f.name for f in plan.features)
    serving = ServingPlan(
        model=MODEL,
        task="regression",
        views=(ViewUse("bench", plan, {}, names),),
        requests=(),
        calendars=(),
        functions=(),
        columns=tuple(ColumnSpec(f"bench__{name}", "double") for name in names),
        pooled=SegmentModel("pooled.txt", "lightgbm", ENTITIES),
    )
    return VersionRecord(
        model=MODEL,
        version=0,
        digest=MODEL,
        created_at=AS_OF,
        directory="",
        files={},
        serving=serving,
        metrics={},
        segment_metrics={},
        baseline={},
        params={},
        seed=0,
        cut=None,
        train_rows=ENTITIES,
        test_rows=0,
        data={},
        data_digest="",
        commit=None,
        dirty=False,
        environment="",
        bundle="",
    )


def headway(directory: str, logged: bool) -> None:
    from headway.data.online import OnlineReader
    from headway.data.online.lmdb import LmdbStore
    from headway.metadata import open_metadata
    from headway.registry import Registry
    from headway.serve import PredictionLog, RegistryCatalogue, serve

    place = Path(directory)
    registry = Registry(open_metadata(f"sqlite:///{place}/metadata.db", "bench", "local"), place / "artifacts", _now)
    reader = OnlineReader(LmdbStore(place / "online", readonly=True))
    log = PredictionLog(place) if logged else None
    serve(RegistryCatalogue(registry), reader, _now, views=[plan_of(FEATURES)], port=0, log=log)


def _now() -> int:
    return AS_OF + 1


class _Entities(msgspec.Struct):
    entity: int


class _Request(msgspec.Struct):
    entities: _Entities


def floor(directory: str) -> None:
    """Decode, look up, predict, encode: no checks, no staleness, no metrics, no request ids, one model for ever."""
    import socket

    import lmdb
    import uvicorn

    env = lmdb.open(str(Path(directory) / "raw"), readonly=True, readahead=False)
    predict = _lightgbm(Path(directory) / "model.txt")
    decode, encode, key = msgspec.json.Decoder(_Request).decode, msgspec.json.Encoder().encode, struct.Struct(">q").pack

    async def app(_: Any, receive: Any, send: Any) -> None:
        request = decode((await receive())["body"])
        with env.begin() as txn:
            row = txn.get(key(request.entities.entity))
        body = encode({"predictions": [predict(row)]})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        interface="asgi3",
    )
    uvicorn.Server(config).run([listener])


def _lightgbm(model: Path) -> Any:
    """LightGBM's fastest call for one row: a function from the row's bytes to the prediction."""
    import importlib.util

    spec = importlib.util.find_spec("lightgbm")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("*/lib_lightgbm.*"))))
    booster, iterations, fast = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_void_p()
    created = library.LGBM_BoosterCreateFromModelfile(
        str(model).encode(), ctypes.byref(iterations), ctypes.byref(booster)
    )
    ready = library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster, 0, 0, -1, 1, ctypes.c_int32(FEATURES), b"num_threads=1", ctypes.byref(fast)
    )
    assert created == ready == 0
    length, prediction = ctypes.c_int64(), ctypes.c_double()
    run, out = library.LGBM_BoosterPredictForMatSingleRowFast, (ctypes.byref(length), ctypes.byref(prediction))

    def predict(row: bytes) -> float:
        run(fast, row, *out)
        return prediction.value

    return predict


def _bodies() -> list[str]:
    entities = np.random.default_rng(5).integers(0, ENTITIES, 1000).tolist()
    return [json.dumps({"entities": {"entity": entity}}) for entity in entities]


def _ask(port: int) -> float:
    """The prediction for entity 7, which both servers must agree on."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{PREDICT}", b'{"entities": {"entity": 7}}')
    with urllib.request.urlopen(request, timeout=20) as response:
        return float(json.load(response)["predictions"][0])


def measure(directory: Path, quick: bool) -> Section:
    section = Section(
        f"Prediction over HTTP, LightGBM of {TREES} trees, {FEATURES} features looked up for 1 entity",
        ("", "connections", "requests/s", "p50 µs", "p99 µs"),
        note=(
            "Loopback, keep-alive, one core for the server and the other for the client, which sends a random entity "
            "once the last answer is there. Every prediction is logged, as in production, unless said. Floor: an ASGI "
            "application on uvicorn (uvloop, httptools) that decodes "
            "with msgspec, gets from LMDB and calls LightGBM's C function. Medians of alternating rounds."
        ),
    )
    if len(set(SERVER + CLIENT)) < 2:
        section.note += " **This machine has one core, which server and client share.**"
    expected = child(__file__, "prepare", str(directory))["prediction"]
    most, seconds = (1, 1.0) if quick else (5, 2.0)
    with (
        server(__file__, "headway", str(directory), True, cores=SERVER) as ours,
        server(__file__, "headway", str(directory), False, cores=SERVER) as silent,
        server(__file__, "floor", str(directory), cores=SERVER) as raw,
    ):
        ports = {"headway": ours, "silent": silent, "floor": raw}
        _wait_until_ready(ours)
        _wait_until_ready(silent)
        for name, port in ports.items():
            if abs(_ask(port) - expected) > 1e-9:
                raise SystemExit(f"{name} predicts {_ask(port)}, not {expected}")
        script, bodies = str(Path(__file__).parent / "load.py"), _bodies()
        for connections in (1, 8):
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ports}
            for _ in rounds(most, 25):
                for name, port in ports.items():
                    arguments = (port, PREDICT, bodies, connections, seconds)
                    runs[name].append(child(script, "load", *arguments, cores=CLIENT))
            _add(section, connections, runs)
    return section


def _add(section: Section, connections: int, runs: dict[str, list[dict[str, Any]]]) -> None:
    rate = {name: median(run["rate"] for run in found) for name, found in runs.items()}
    labels = {"headway": "headway", "silent": "headway without its log", "floor": "raw ASGI on uvicorn"}
    for name, label in labels.items():
        p50, p99 = (1e6 * median(run[k] for run in runs[name]) for k in ("p50", "p99"))
        section.rows.append((label, str(connections), figure(rate[name]), figure(p50), figure(p99)))
    ratio = rate["headway"] / rate["floor"]
    section.judge(f"requests/s on {connections}, headway ÷ floor", ratio, "≥ 0.6", ratio >= 0.6)
    ratio = rate["headway"] / rate["silent"]
    section.judge(f"requests/s on {connections}, with the log ÷ without", ratio, "≥ 0.9", ratio >= 0.9)


def _wait_until_ready(port: int) -> None:
    import time

    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("headway's server did not become ready")


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"prepare": prepare, "headway": headway, "floor": floor})
