"""One run being carried out by this process: what is noted of it while it goes on, and how it ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from headway.clock import WallClock
from headway.define.run_records import ENDED, Artifact, RunRecord, RunStatus, StepRecord, StepStatus
from headway.errors import Cancelled, HeadwayError, StoreBusy, UsageError
from headway.locks import exclusive
from headway.metadata import Metadata
from headway.orchestrate._parts import Parts
from headway.orchestrate.runs._step_log import copied, file_name

LOOK = 0.2  # seconds after which a step that still goes on is told to go on: most are over by then
BEATS = 5  # looks from one sign of life to the next
AGAIN = 3  # signs of life after which a run that still goes on is interrupted again: some engines swallow signals
_KEYBOARD = "Ctrl-C"


def run_directory(home: Path, run: int) -> Path:
    """Where a run keeps its logs, one file for each step; ``home`` is the environment's folder."""
    return home / "runs" / str(run)


def run_lock(home: Path, run: int) -> Path:
    """The lock a run holds as long as its process lives."""
    return home / "locks" / f"run-{run}.lock"


class Recorder:
    """Notes what becomes of a run's steps. Threads may share it.

    ``run`` is the run, ``directory`` holds its logs. Nothing here reads the environment's clock: people and machines
    are stamped with wall time. ``told`` hears of every step that ends.
    """

    def __init__(
        self,
        metadata: Metadata,
        run: RunRecord,
        directory: Path,
        told: Callable[[StepRecord], None] = lambda _: None,
    ) -> None:
        self.run, self.directory = run, directory
        self._metadata, self._told = metadata, told
        self._steps: dict[str, StepRecord] = {}
        self._guard = threading.RLock()
        self._begun: set[str] = set()  # steps that began, which the metadata has not been told
        self._asked: str | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def plan(self, steps: Sequence[StepRecord]) -> None:
        """The steps known so far; to be called again as fan-outs unfold. What was noted of a step already stays."""
        with self._guard:
            new = [msgspec.structs.replace(step, run=self.run.id) for step in steps if step.key not in self._steps]
            self._steps.update((step.key, step) for step in new)
            if new:
                self._metadata.runs.plan(self.run.id, new)
        for step in new:
            if step.status not in ("waiting", "running"):  # answered already, and noted with the others in one go
                self._told(step)

    def started(
        self,
        key: str,
        *,
        attempt: int = 1,
        digest: str | None = None,
        inputs: Mapping[str, str] | None = None,
        made_of: Mapping[str, Any] | None = None,
        why: str = "",
    ) -> None:
        """A step begins, or begins again: ``attempt`` counts from 1. ``inputs`` is argument → digest; ``made_of`` is
        what ``digest`` covers."""
        now = WallClock().now()
        with self._guard:
            self._steps[key] = msgspec.structs.replace(
                self._known(key),
                status="running",
                attempt=attempt,
                digest=digest,
                inputs=dict(inputs or {}),
                made_of=dict(made_of or {}),
                why=why,
                started_at=now,
                ended_at=None,
                seconds=None,
                error="",
            )
            self._begun.add(key)

    def ended(
        self,
        key: str,
        status: StepStatus,
        *,
        detail: str = "",
        why: str = "",
        output: Artifact | None = None,
        error: str = "",
        seconds: float | None = None,
        digest: str | None = None,
        inputs: Mapping[str, str] | None = None,
        made_of: Mapping[str, Any] | None = None,
    ) -> None:
        """A step ended, or need not begin (``cached``, ``skipped``). What is left out stays as ``started`` said it."""
        now = WallClock().now()
        with self._guard:
            known = self._known(key)
            if seconds is None and known.status == "running" and known.started_at is not None:
                seconds = (now - known.started_at) / 1e6
            changes: dict[str, Any] = {"status": status, "ended_at": now, "seconds": seconds, "error": error}
            given: dict[str, Any] = {"detail": detail, "why": why, "output": output, "digest": digest}
            given |= {"inputs": dict(inputs or {}), "made_of": dict(made_of or {})}
            changes |= {name: value for name, value in given.items() if value}
            ended = msgspec.structs.replace(known, **changes)
            self._metadata.runs.step(ended)
            self._steps[key] = ended
            self._begun.discard(key)
        self._told(ended)

    def tell_begun(self) -> None:
        """Tell the metadata of steps that began and still go on; the heart does, a moment after they began."""
        with self._guard:
            if self._begun:
                self._metadata.runs.plan(self.run.id, [self._steps[key] for key in self._begun])
                self._begun.clear()

    def step(self, key: str) -> StepRecord | None:
        """What is known of a step."""
        with self._guard:
            return self._steps.get(key)

    def log(self, key: str) -> AbstractContextManager[None]:
        """Within the block, what is printed or logged goes to the step's log file too."""
        return copied(self.log_path(key))

    def log_path(self, key: str) -> Path:
        """The log file of a step; a worker process appends to it by itself."""
        return self.directory / file_name(key)

    def cancelled(self) -> str | None:
        """Who asked for the run to end, if somebody did. Costs nothing: the heart asks every second."""
        return self._asked

    def check_cancelled(self) -> None:
        """Raise ``Cancelled`` if somebody asked for the run to end."""
        if self._asked is not None:
            raise self.cancellation()

    def cancellation(self) -> Cancelled:
        """The error a cancelled run ends with."""
        return Cancelled(f"run {self.run.id} was cancelled by {self._asked or 'somebody'}; what it finished is kept")

    def ask(self, by: str) -> None:
        """Note who asked for the run to end; the first one counts."""
        self._asked = self._asked or by

    def close(self, status: RunStatus, error: str) -> None:
        """Note how the run ended, and that no step goes on."""
        left = [s for s in self._steps.values() if s.status in ("running", "waiting")]
        closed = close_steps(left, "cancelled" if status == "cancelled" else "failed", error, WallClock().now())
        if closed:
            self._metadata.runs.plan(self.run.id, closed)
        self._metadata.runs.finish(self.run.id, status, WallClock().now(), error)

    def _known(self, key: str) -> StepRecord:
        return self._steps.get(key) or StepRecord(run=self.run.id, key=key, step=key.partition("[")[0])


def close_steps(steps: Sequence[StepRecord], status: StepStatus, error: str, at: int) -> list[StepRecord]:
    """Steps of a run that is over: what was running ends with ``status``, what was waiting is skipped or cancelled."""
    waiting: StepStatus = "cancelled" if status == "cancelled" else "skipped"
    closed = []
    for step in steps:
        if step.status == "running":
            seconds = None if step.started_at is None else (at - step.started_at) / 1e6
            closed.append(msgspec.structs.replace(step, status=status, error=error, ended_at=at, seconds=seconds))
        elif step.status == "waiting":
            closed.append(msgspec.structs.replace(step, status=waiting, why="the run ended before it", ended_at=at))
    return closed


@contextmanager
def recording(parts: Parts, run: RunRecord, told: Callable[[StepRecord], None] = lambda _: None) -> Iterator[Recorder]:
    """Carry a run out: within the block it is this process's, it beats every second, and can be cancelled.

    A record without an id is a new run, which nobody else can take; one with an id is queued and has to be taken. How
    the run ends follows from the exception that leaves the block. ``told`` hears of every step that ends.

    Raises
    ------
    StoreBusy
        The queued run was taken by another process.
    UsageError
        The run has ended already.
    Cancelled
        Somebody asked for the run to end: ``headway runs cancel``, the console, or SIGTERM.
    """
    settings, metadata, new = parts.settings, parts.metadata, run.id == 0
    if new:
        run = metadata.runs.create(_begun(run))
    lock = run_lock(settings.home, run.id)
    with exclusive(lock, f"run {run.id}", patience=1):
        run = run if new else _taken(metadata, run.id)
        recorder = Recorder(metadata, run, run_directory(settings.home, run.id), told)
        heart = _Heart(metadata, recorder)
        try:
            with _stoppable(recorder, heart):
                yield recorder
        except BaseException as error:
            status, said = _ending(recorder, error)
            with suppress(HeadwayError):  # the run's own error says more than what came of noting it
                recorder.close(status, settings.redact(said))
                lock.unlink(missing_ok=True)
            if recorder.cancelled() == _KEYBOARD:
                raise KeyboardInterrupt from None
            recorder.check_cancelled()
            raise
        recorder.close("done", "")
        lock.unlink(missing_ok=True)  # not before: a free lock is how others see that a run is gone


def _begun(run: RunRecord) -> RunRecord:
    now = WallClock().now()
    return msgspec.structs.replace(
        run,
        status="running",
        created_at=now,
        started_at=now,
        beat_at=now,
        host=socket.gethostname(),
        pid=os.getpid(),
    )


def _taken(metadata: Metadata, id: int) -> RunRecord:
    taken = metadata.runs.take(id, socket.gethostname(), os.getpid(), WallClock().now())
    if taken is not None:
        return taken
    run = metadata.runs.get(id)
    if run is not None and run.status in ENDED:
        raise UsageError(f"run {id} is {run.status} already; `headway runs rerun {id}` runs it again")
    if run is not None and run.status == "queued":
        raise StoreBusy(f"run {id} waits for run {run.behind} to end; try again when it has")
    where = f" (process {run.pid} on {run.host})" if run is not None else ""
    raise StoreBusy(f"run {id} is carried out by somebody else{where}; `headway runs show {id}` tells how far it is")


def _ending(recorder: Recorder, error: BaseException) -> tuple[RunStatus, str]:
    """How a run ended, and what is said of it, from what left its block.

    Whatever error a run ends with after it was asked to end, that is why: an engine that is interrupted in the middle
    of its work raises errors of its own.
    """
    if isinstance(error, KeyboardInterrupt):
        recorder.ask(_KEYBOARD)
    if recorder.cancelled() is not None or isinstance(error, Cancelled):
        return "cancelled", f"cancelled by {recorder.cancelled() or 'somebody'}"
    if isinstance(error, HeadwayError):
        return "refused" if error.exit_code == 3 else "failed", str(error)
    if isinstance(error, MemoryError):
        return "failed", "out of memory"
    first = (str(error).strip().splitlines() or [""])[0]
    return "failed", f"{type(error).__name__}{f': {first}' if first else ''}"


class _Heart(threading.Thread):
    """Beats for a run once a second, and learns whether somebody wants it to end."""

    def __init__(self, metadata: Metadata, recorder: Recorder) -> None:
        super().__init__(name=f"headway-run-{recorder.run.id}", daemon=True)
        self._metadata, self._recorder = metadata, recorder
        self._over = threading.Event()
        self._asked = 0
        self.interrupt: int | None = None  # the thread to interrupt, if it listens

    def run(self) -> None:
        looks = 0
        while not self._over.wait(LOOK):
            looks += 1
            try:
                self._recorder.tell_begun()
                if looks % BEATS == 0:
                    self._beat()
            except HeadwayError:
                continue  # a busy database now is no reason to die: the next look comes soon
            if self._recorder.cancelled() is not None and looks % BEATS == 0:
                self._interrupt()

    def _beat(self) -> None:
        by = self._metadata.runs.beat(self._recorder.run.id, WallClock().now())
        if by:
            self._recorder.ask(by)

    def _interrupt(self) -> None:
        if self._asked % AGAIN == 0 and self.interrupt is not None:
            signal.pthread_kill(self.interrupt, signal.SIGTERM)
        self._asked += 1

    def stop(self) -> None:
        """No beat, and no interruption, comes after this."""
        self._over.set()
        self.join()


@contextmanager
def _stoppable(recorder: Recorder, heart: _Heart) -> Iterator[None]:
    """Let the heart beat; where signals can be heard, SIGTERM and a cancellation interrupt whatever goes on.

    The interruption is a KeyboardInterrupt: a step's code that catches every ``Exception`` does not catch it.
    """
    if threading.current_thread() is not threading.main_thread():
        heart.start()
        try:
            yield
        finally:
            heart.stop()
        return
    listening = True

    def stop(number: int, _frame: object) -> None:
        recorder.ask(_KEYBOARD if number == signal.SIGINT else "SIGTERM")
        if listening:
            raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = [(number, signal.signal(number, stop)) for number in numbers]
    heart.interrupt = threading.main_thread().ident
    heart.start()
    try:
        yield
    finally:
        listening = False
        heart.stop()
        for number, handler in before:
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def commit(root: Path) -> str | None:
    """The commit of the code around ``root``, with ``-dirty`` if files of it were changed since; None without git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None
