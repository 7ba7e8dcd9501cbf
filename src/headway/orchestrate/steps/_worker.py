"""A worker process: imports the project once, then carries out one step after the other for the run that started it."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import pickle
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from headway.orchestrate.steps._attempt import Reply, attempt
from headway.orchestrate.steps._pool import Setup
from headway.orchestrate.steps._store import ArtifactStore


def main() -> None:
    """Serve the connection whose number is the only argument, until it is closed."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    setup = msgspec.msgpack.decode(connection.recv_bytes(), type=Setup)
    connection.send_bytes(_prepare(setup).encode())
    store = ArtifactStore(Path(setup.root), Path(setup.scratch), setup.allow_pickle)
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, jobs), daemon=True).start()
    while True:
        connection.send_bytes(msgspec.msgpack.encode(_work(store, jobs.get())))


def _work(store: ArtifactStore, job: bytes) -> Reply:
    try:
        step, arguments, log = pickle.loads(job)  # noqa: S301 - from our own parent
    except Exception as error:  # noqa: BLE001 - whatever is in the way of finding what it names
        return Reply(error=f"its worker process cannot find what it takes: {type(error).__name__}: {error}")
    folder = store.folder()
    with _into(Path(log)):
        reply, raised = attempt(store, step, arguments, folder)
        if raised is not None:
            traceback.print_exception(raised)
    shutil.rmtree(folder, ignore_errors=True)
    return reply


def _prepare(setup: Setup) -> str:
    """Import the project's modules; what is in the way of that, in a sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides when it is over
    sys.path[:] = setup.path
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # so that a log can be read as it grows
    try:
        for name in setup.modules:
            importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit too
        return f"{type(error).__name__}: {error}"
    return ""


def _receive(connection: Connection[Any, Any], jobs: queue.SimpleQueue[bytes]) -> None:
    """Take work in, and end the process with all it started when the run is gone."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            jobs.put(connection.recv_bytes())
    os.killpg(0, signal.SIGKILL)


@contextlib.contextmanager
def _into(log: Path) -> Iterator[None]:
    """Within the block, all that this process and its children print or log goes to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    with log.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in zip((1, 2), kept, strict=True):
                os.dup2(saved, number)
                os.close(saved)


if __name__ == "__main__":
    main()
