"""The server as a process of its own: where it listens, and how it stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from headway.errors import StoreBusy, StoreError
from headway.serve import bind

SCRIPT = """
import sys
from pathlib import Path
from headway.data.online import OnlineReader
from headway.data.online.lmdb import LmdbStore
from headway.metadata import open_metadata
from headway.registry import Registry
from headway.serve import RegistryCatalogue, serve

root, now = Path(sys.argv[1]), int(sys.argv[2])
metadata = open_metadata(f"sqlite:///{root}/metadata.db", "trips", "local")
registry = Registry(metadata, root / "artifacts", lambda: now)
reader = OnlineReader(LmdbStore(root / "online", readonly=True))
serve(RegistryCatalogue(registry), reader, lambda: now, port=0)
heavy = {"mlflow", "sklearn", "pandas", "duckdb", "lightgbm", "deltalake"} & set(sys.modules)
print("stopped", sorted(heavy), flush=True)
"""


@pytest.fixture
def process(world) -> Iterator[subprocess.Popen[str]]:
    world.promote(world.register(1))
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(world.root), str(world.now)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving on http://127.0.0.1:"), line + process.stderr.read()
    return int(line.rsplit(":", 1)[1])


def test_a_signal_ends_it_after_the_requests_in_flight(process, one, connect) -> None:
    client = connect(port_of(process))
    other = connect(client.connection.port)
    assert other.get("/healthz")[0] == 200
    pause = threading.Event()
    for _ in range(500):
        if client.get("/readyz")[0] == 200:
            break
        pause.wait(0.02)
    assert client.predict(one)[1]["predictions"] == [1523]
    one["features"]["route_history__duration_avg"] = -7  # takes 0.7 s
    one["entities"]["pickup_zone_id"] = [74] * 3000
    client.connection.request("POST", "/v1/models/trip_duration/predict", json.dumps(one))
    pause.wait(0.2)
    process.send_signal(signal.SIGTERM)
    pause.wait(0.15)
    status, answer, headers = other.send("GET", "/readyz")  # already connected, still answered, and told to leave
    assert (status, answer["draining"], headers["connection"]) == (503, True, "close")
    response = client.connection.getresponse()
    assert response.status == 200
    assert len(json.loads(response.read())["predictions"]) == 3000
    with pytest.raises(OSError):
        connect(client.connection.port).get("/healthz")
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "stopped []\n", "")


def test_an_interrupt_ends_it(process) -> None:
    port_of(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            StoreBusy, match=rf"port {port} on 127.0.0.1 is taken by process \d+ \(.*stop it, or use"
        ) as caught:
            bind("127.0.0.1", port)
        assert "\n" not in str(caught.value)


def test_an_address_of_somebody_else() -> None:
    with pytest.raises(StoreError, match=r"cannot listen on port 0 of 203\.0\.113\.7"):
        bind("203.0.113.7", 0)
    with pytest.raises(StoreError, match="is no address of this machine"):
        bind("no-such-host.invalid", 0)
