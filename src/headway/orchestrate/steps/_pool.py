"""Warm worker processes: they have imported the project, live for the length of a run, and can be killed.

A step with a timeout runs in one. When the time is over the process is killed with everything it started, and the next
step gets a new one. Each worker is driven by a thread of its own, which waits with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import msgspec

from headway.define._duration import as_text
from headway.define._step import Step
from headway.errors import ProjectCodeError
from headway.orchestrate.steps._attempt import Reply
from headway.orchestrate.steps._load import portable
from headway.orchestrate.steps._store import ArtifactStore

_START_SECONDS = 300.0


class Setup(msgspec.Struct, frozen=True):
    """What a worker is told first."""

    path: list[str]
    modules: list[str]
    root: str
    scratch: str
    allow_pickle: bool


@dataclass(frozen=True)
class Work:
    """One attempt of a step: ``arguments`` with what was stored still standing for itself."""

    step: Step
    arguments: Mapping[str, Any]
    log: Path


class Pool:
    """Workers, started as they are needed, up to ``size``. To be used in a ``with`` block; leaving it kills them."""

    def __init__(self, store: ArtifactStore, root: Path, modules: Sequence[str], size: int) -> None:
        path = [str(root), *(place for place in sys.path if place != str(root))]
        self._setup = Setup(path, list(modules), str(store.root), str(store.scratch), store.allow_pickle)
        self._size = size
        self._jobs: queue.SimpleQueue[Callable[[Worker], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._workers: list[Worker] = []
        self._idle = threading.Semaphore(0)
        self.over = threading.Event()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *raised: object) -> None:
        self.over.set()
        for _ in self._threads:
            self._jobs.put(None)
        for worker in list(self._workers):
            worker.kill()
        for thread in self._threads:
            thread.join()

    def submit(self, job: Callable[[Worker], None]) -> None:
        """Have a worker's thread call ``job`` with its worker, which runs `Work`."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
            worker = Worker(self._setup, self.over)
            self._workers.append(worker)
            thread = threading.Thread(target=self._serve, args=(worker,), name="headway-worker", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, worker: Worker) -> None:
        while (job := self._jobs.get()) is not None:
            if not self.over.is_set():
                job(worker)
            self._idle.release()
        worker.kill()


class Worker:
    """One process at a time. Only its thread runs work in it; anybody may kill it."""

    def __init__(self, setup: Setup, over: threading.Event) -> None:
        self._setup, self._over = setup, over
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._guard = threading.Lock()

    def run(self, work: Work) -> Reply:
        """Carry out one attempt. A worker that dies or takes too long is a failed attempt."""
        try:
            job = pickle.dumps((work.step, portable(dict(work.arguments)), str(work.log)))
        except Exception as error:  # noqa: BLE001 - an object refuses to be pickled in any way it likes
            return Reply(error=f"its arguments cannot be handed to a worker process: {error}")
        try:
            connection = self._started()
            connection.send_bytes(job)
            if not connection.poll(None if work.step.timeout is None else work.step.timeout / 1e6):
                self.kill()
                return Reply(error=f"it took longer than its timeout of {as_text(work.step.timeout or 0)}")
            return msgspec.msgpack.decode(connection.recv_bytes(), type=Reply)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return Reply(error=self._died())
        except ProjectCodeError as error:
            self.kill()
            return Reply(error=str(error))

    def kill(self) -> None:
        """End the process and everything it started."""
        with self._guard:
            process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _started(self) -> Connection[Any, Any]:
        if self._process is not None and self._process.poll() is None and self._connection is not None:
            return self._connection
        self.kill()
        ours, theirs = Pipe()
        with theirs, self._guard:
            if self._over.is_set():
                raise EOFError
            self._connection = ours
            command = [sys.executable, "-m", "headway.orchestrate.steps._worker", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.send_bytes(msgspec.msgpack.encode(self._setup))
        if not ours.poll(_START_SECONDS):
            raise ProjectCodeError(f"its worker process did not start within {_START_SECONDS:g} s")
        said = ours.recv_bytes().decode()
        if said:
            raise ProjectCodeError(f"its worker process cannot import the project: {said}")
        return ours

    def _died(self) -> str:
        """What to say of a process that is not there any more."""
        process, code = self._process, None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = None if process is None else process.wait(1)
        self.kill()
        if code is None or code >= 0:
            return f"its worker process ended{'' if code is None else f' with exit code {code}'}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        perhaps = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"its worker process was ended by {name}{perhaps}"
