"""Online reads over HTTP: headway as JSON and as Arrow, `feast serve`, and the least an ASGI application does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from features_client import request
from features_report import Answer, Claim
from features_work import (
    FLOATS,
    NAMES,
    ROWS,
    SERVICES,
    SHAPES,
    World,
    feast_server,
    raw_keys,
    raw_matrix,
    values_of,
)
from harness import CLIENT, SERVER, Section, answer, child, figure, median, server

SIZES = (1, 10, 100)
CONNECTIONS = 8
_CLIENT = str(Path(__file__).parent / "features_client.py")


class _Entities(msgspec.Struct):
    entity: list[int]


class _Request(msgspec.Struct):
    entities: _Entities


def floor(directory: str) -> None:
    """Decode, get from LMDB, answer: no checks, no staleness, no metrics, no request ids, one service for ever."""
    import socket

    import lmdb
    import orjson
    import uvicorn

    env = lmdb.open(str(Path(directory) / "raw"), readonly=True, readahead=False)
    decode = msgspec.json.Decoder(_Request).decode

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked = decode((await receive())["body"]).entities.entity
        _, kind, service = scope["path"].split("/")
        several = service == "several"
        with env.begin() as txn:
            blobs: list[Any] = [txn.get(key) for key in raw_keys(several, asked)]
        if kind == "bytes":
            body = b"".join(blobs)
        else:
            columns = np.ascontiguousarray(raw_matrix(several, blobs).T)
            body = orjson.dumps({"features": dict(zip(NAMES, columns, strict=True))}, None, orjson.OPT_SERIALIZE_NUMPY)
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


@contextlib.contextmanager
def headway_server(place: Path, env: str) -> Iterator[int]:
    """`headway serve` of a project's environment, with every default as it is; its port."""
    command = [sys.executable, "-m", "headway", "serve", "--port", "0", "--project", str(place), "--env", env]
    chosen = list(SERVER)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, chosen)) if chosen else None,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("headway serve did not start")
            yield int(line.rpartition(":")[2])
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


class _Contender:
    """A server's port, how it is asked, and what it is called; ``suffix`` belongs to the name of the service."""

    def __init__(self, port: int, kind: str, label: str, store: str, suffix: str = "") -> None:
        self.port, self.kind, self.label, self.store, self.suffix = port, kind, label, store, suffix

    def run(self, task: str, service: str, size: int, *how: float) -> dict[str, Any]:
        return child(_CLIENT, task, self.port, self.kind, service + self.suffix, size, ROWS, *how, cores=CLIENT)

    def check(self, service: str) -> None:
        """Raise ``SystemExit`` if the server's values are not those written."""
        entities = [7, 1, 7, ROWS - 1]
        head, _, body = request(self.kind, service + self.suffix, entities).partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ") for line in lines[1:])
        url = f"http://127.0.0.1:{self.port}{lines[0].split()[1]}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, body, headers), timeout=30) as response:
            found = _matrix(self.kind, service, response.read())
        if not np.array_equal(found, values_of(ROWS)[entities]):
            raise SystemExit(f"the values that {self.label} on {self.store} answers are not those written")


def _matrix(kind: str, service: str, body: bytes) -> np.ndarray:
    if kind == "bytes":
        width = FLOATS if service == "one" else FLOATS // 5
        found = np.frombuffer(body).reshape(-1, width)
        return found if service == "one" else found.reshape(5, -1, width).swapaxes(0, 1).reshape(-1, FLOATS)
    if kind == "arrow":
        table = pa.ipc.open_stream(io.BytesIO(body)).read_all()
        columns = {name: table.column(name) for name in table.column_names}
    else:
        content = json.loads(body)
        columns = content.get("features")
        if columns is None:  # Feast's
            names = content["metadata"]["feature_names"]
            columns = {name: r["values"] for name, r in zip(names, content["results"], strict=True)}
    by_name = {name.rpartition("__")[2]: column for name, column in columns.items()}
    return np.column_stack([by_name[name] for name in NAMES])


def measure(world: World, quick: bool) -> Answer:
    section = Section(
        f"Online reads over HTTP, {FLOATS} floats an entity",
        ("", "store", "views", "entities", "requests/s", "p50 ms", "p99 ms", "p50 ms at half load", "p99 ÷ p50"),
        note=(
            "Loopback, keep-alive, one core for the server, the other for the client and Redis. Full load: "
            f"{CONNECTIONS} connections, each of which sends its next request once the last is answered. Half load: "
            "half as many requests a second, at random moments (Poisson) whatever the server does, three times, of "
            "which the median p50 and p99 count; a time begins when its request was due. headway: `headway serve` with "
            "its defaults, feature sets by name; Arrow both ways. Feast: `feast serve`, 1 worker, feature services, no "
            "access log, no restarts of the worker, the registry not read again. By hand: an ASGI application on "
            "uvicorn (uvloop, httptools) that decodes with msgspec, gets from LMDB and answers with orjson, or with "
            "the bytes as they are stored. What the values are is "
            "checked for each."
        ),
    )
    if len(set(SERVER + CLIENT)) < 2:
        section.note += " **This machine has one core, which server and client share.**"
    world.fill()
    found: dict[tuple[str, str, str, int], dict[str, float]] = {}
    with _all(world) as contenders:
        for each in contenders:
            for service in SERVICES:
                each.check(service)
        for service, views in SERVICES.items():
            for size in SIZES:
                for each, figures in zip(contenders, _measured(contenders, service, size, quick), strict=True):
                    found[each.label, each.store, service, size] = figures
                    section.rows.append((each.label, each.store, views, str(size), *_cells(figures)))
    answer_ = Answer([section])
    _claims(answer_, found)
    return answer_


@contextlib.contextmanager
def _all(world: World) -> Iterator[list[_Contender]]:
    """Every server, started; they wait while others are measured."""
    with contextlib.ExitStack() as stack:
        local = stack.enter_context(headway_server(world.place, "local"))
        found = [_Contender(local, kind, f"headway, {label}", "LMDB") for kind, label in _FORMATS.items()]
        if world.redis:
            other = stack.enter_context(headway_server(world.place, "redis"))
            found += [_Contender(other, kind, f"headway, {label}", "Redis") for kind, label in _FORMATS.items()]
        if world.feast:
            port = stack.enter_context(feast_server(world.feast, world.place, "sqlite", SERVER))
            found.append(_Contender(port, "feast", "feast serve", "SQLite"))
            if world.redis:
                port = stack.enter_context(feast_server(world.feast, world.place, "redis", SERVER))
                found.append(_Contender(port, "feast", "feast serve", "Redis"))
                found.append(_Contender(port, "feast", "feast serve, precomputed vectors", "Redis", "_vector"))
        raw = stack.enter_context(server(__file__, "floor", str(world.place), cores=SERVER))
        found.append(_Contender(raw, "orjson", "by hand, JSON", "LMDB"))
        found.append(_Contender(raw, "bytes", "by hand, bytes", "LMDB"))
        yield found


_FORMATS = {"json": "JSON", "arrow": "Arrow"}


def _measured(contenders: list[_Contender], service: str, size: int, quick: bool) -> list[dict[str, float]]:
    """The figures of each: full load in rounds in which they take turns, and half of it where one view is read."""
    how = (CONNECTIONS, 0.5 if quick else 1.0)
    rounds = [[each.run("full", service, size, *how) for each in contenders] for _ in range(1 if quick else 2)]
    found = []
    for each, runs in zip(contenders, zip(*rounds, strict=True), strict=True):
        figures = {key: median(run[key] for run in runs) for key in ("rate", "p50", "p99")}
        if service == "one":
            halves = [each.run("steady", service, size, figures["rate"] / 2, 1.0 if quick else 2.0) for _ in range(3)]
            figures |= {f"half_{name}": median(half[name] for half in halves) for name in ("p50", "p99")}
        found.append(figures)
    return found


def _cells(figures: dict[str, float]) -> list[str]:
    cells = [figure(figures["rate"]), figure(1e3 * figures["p50"]), figure(1e3 * figures["p99"])]
    if "half_p50" not in figures:
        return [*cells, "", ""]
    return [*cells, figure(1e3 * figures["half_p50"]), figure(figures["half_p99"] / figures["half_p50"])]


def _claims(found: Answer, figures: dict[tuple[str, str, str, int], dict[str, float]]) -> None:
    stores = [store for store in ("LMDB", "Redis") if ("headway, JSON", store, "one", 1) in figures]
    for store in stores:
        theirs = "SQLite" if store == "LMDB" else store
        for service, size in (("one", 100), ("several", 100), ("one", 1)):
            best = [
                one["rate"]
                for (label, at, s, n), one in figures.items()
                if label.startswith("feast") and (at, s, n) == (theirs, service, size)
            ]
            for form, of_feast in (("JSON", 60.0), ("Arrow", 150.0)):
                ours = figures[f"headway, {form}", store, service, size]["rate"]
                floor_ = figures["by hand, JSON" if form == "JSON" else "by hand, bytes", "LMDB", service, size]["rate"]
                found.claims.append(
                    Claim(
                        f"HTTP, {SHAPES[service].format(size)}, {form}, {store}",
                        ours,
                        max(best, default=None),
                        floor_,
                        slow=False,
                        wanted_of_feast=of_feast if (service, size) == ("one", 100) else None,
                        drawn=service == "one" and (size == 100 or (form, store) == ("JSON", "LMDB")),
                        wanted_of_floor=2.0 if (service, size, form, store) == ("one", 1, "JSON", "LMDB") else None,
                    )
                )
    for store in stores:
        for form in _FORMATS.values():
            half = figures[f"headway, {form}", store, "one", 100]
            ratio = half["half_p99"] / half["half_p50"]
            what = f"100 entities over HTTP at half the maximum load, {form}, {store}: p99 ÷ p50"
            found.sections[0].judge(what, ratio, "≤ 5", ratio <= 5)


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"floor": floor})
