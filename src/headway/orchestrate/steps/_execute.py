"""A pipeline's run: every task once, in the order of its calls, as far as what it needs came about."""

from __future__ import annotations

import heapq
import os
import queue
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from headway.clock import stopwatch
from headway.define._parameters import read_parameters
from headway.define._step import Pipeline
from headway.define.run_records import StepStatus
from headway.errors import Cancelled, GateRefused, HeadwayError, ProjectCodeError
from headway.orchestrate.steps._attempt import Reply, attempt, in_words
from headway.orchestrate.steps._graph import Blocked, Graph, Result, Task, joined, manifest, summary
from headway.orchestrate.steps._pool import Pool, Work, Worker
from headway.orchestrate.steps._prepare import Prepared, Preparer, check_calls, check_from, codes_of
from headway.orchestrate.steps._recorder import Recorder
from headway.orchestrate.steps._store import ArtifactStore, opened
from headway.orchestrate.steps._trace import trace
from headway.orchestrate.steps._values import Unfit

if TYPE_CHECKING:
    from headway.orchestrate._parts import Parts

RunTarget = Callable[[str], Mapping[str, Any]]
"""Brings a source, view, model, batch prediction or ``monitor:NAME`` up to date; returns JSON data that changes when
what it stands for does. ``status`` ("done" or "cached") and ``detail`` in it are for people and count for nothing."""

_LONGEST_PAUSE = 3600.0
_TOLD = ("status", "detail")


def execute_pipeline(
    parts: Parts,
    pipeline: Pipeline,
    params: Mapping[str, Any],
    recorder: Recorder,
    run_target: RunTarget,
    *,
    from_step: str | None = None,
) -> dict[str, StepStatus]:
    """Carry a pipeline out; returns what became of every step, by key.

    ``params`` are values or text, as `read_parameters` takes them. Steps that were done before with the same key are
    answered from what they gave; ``from_step`` (a key, or a step's name) and what follows run again in any case. A
    step that fails stops what depends on it and nothing else, and is raised at the end.

    Raises
    ------
    HeadwayError
        The first failure. CheckFailed and GateRefused only if nothing failed otherwise.
    Cancelled
        Somebody asked for the run to end; a KeyboardInterrupt passes through.
    """
    laid = trace(pipeline, read_parameters(pipeline, params))
    check_calls(parts, laid)
    check_from(laid, from_step)
    codes = codes_of(laid, parts.settings.definitions)
    modules = sorted({step.__module__ for step in codes if step.timeout is not None})
    with ExitStack() as stack:
        settings = parts.settings
        store = stack.enter_context(opened(settings.artifacts_dir, allow_pickle=settings.allow_pickle))
        size = settings.threads or _cores()
        pool = stack.enter_context(Pool(store, settings.root, modules, size))
        graph = Graph(laid, store)
        preparer = Preparer(parts.metadata, store, graph, codes, from_step)
        return _Execution(recorder, run_target, store, pool, graph, preparer).run()


_Try = tuple[Reply, BaseException | None]


@dataclass(frozen=True)
class _Ended:
    """A task that a worker's thread is through with."""

    task: Task
    result: Result
    error: HeadwayError | None


@dataclass
class _Execution:
    recorder: Recorder
    run_target: RunTarget
    store: ArtifactStore
    pool: Pool
    graph: Graph
    preparer: Preparer
    ready: list[Task] = field(default_factory=list)  # a heap, in the order of the calls
    local: list[tuple[Task, Prepared | None]] = field(default_factory=list)  # a heap too: to be done in this process
    away: int = 0  # tasks that workers have
    ended: queue.SimpleQueue[_Ended] = field(default_factory=queue.SimpleQueue)
    errors: list[HeadwayError] = field(default_factory=list)
    statuses: dict[str, StepStatus] = field(default_factory=dict)

    def run(self) -> dict[str, StepStatus]:
        self.recorder.plan([task.record(self.recorder.run.id) for task in self.graph.tasks.values()])
        self._free(self.graph.start())
        while self.ready or self.local or self.away:
            self._check_cancelled()
            if self.ready:
                self._advance(heapq.heappop(self.ready))
            elif self.local:
                self._do_here(*heapq.heappop(self.local))
            self._take_back(wait=not self.ready and not self.local)
        if self.errors:
            raise next((error for error in self.errors if error.exit_code != 3), self.errors[0])
        return self.statuses

    # One task

    def _advance(self, task: Task) -> None:
        """Skip, answer or hand out a task that waits for nothing."""
        try:
            if task.kind == "group" and task.items is not None:
                self._join(task)
                return
            self.preparer.again(task)
            why = self.graph.condition(task) if task.kind != "item" else None
            if why is not None:
                self._settle(task, Result("skipped", why=why), why=why)
            elif task.kind == "group":
                self._unfold(task)
            elif task.call.step is None:
                self._check_needs(task)
                heapq.heappush(self.local, (task, None))
            else:
                self._hand_out(task, self.preparer.prepare(task))
        except Blocked as why:
            self._settle(task, Result("skipped", why=str(why)), why=str(why))
        except HeadwayError as error:
            self._fail(task, Reply(error=_about(task, str(error))), error)

    def _check_needs(self, task: Task) -> None:
        for handle in task.call.after:
            self.graph.resolve(handle)

    def _hand_out(self, task: Task, prepared: Prepared) -> None:
        if prepared.hit is not None:
            self._settle(task, *_answered(prepared))
            return
        step = task.call.step
        if step is None or step.timeout is None:
            heapq.heappush(self.local, (task, prepared))
            return
        self.away += 1
        self.pool.submit(lambda worker: self._do_there(task, prepared, worker))

    def _unfold(self, group: Task) -> None:
        """Make a fan-out's items; those that are answered already are noted in one go."""
        free = self.graph.unfold(group)
        records, answered, hand_out = {}, [], []
        for task in group.items or ():
            records[task.key] = task.record(self.recorder.run.id)
        for task in free:
            try:
                prepared = self.preparer.prepare(task)
            except (Blocked, HeadwayError):
                self._free([task])  # to be met again on its own
                continue
            if prepared.hit is None:
                hand_out.append((task, prepared))
            else:
                result, told = _answered(prepared)
                records[task.key] = msgspec.structs.replace(records[task.key], status="cached", **told)
                answered.append((task, result))
        self.recorder.plan(list(records.values()))
        self._free(self.graph.watching(group))
        for task, prepared in hand_out:
            self._hand_out(task, prepared)
        for task, result in answered:
            self.statuses[task.key] = result.status
            self._free(self.graph.settle(task, result))
        if not group.items:
            self._join(group)

    def _join(self, group: Task) -> None:
        result, told = joined(group), summary(group)
        if result.status in ("done", "cached"):
            output = self.store.put(manifest(group.items or ()), list)
            result = Result(result.status, msgspec.structs.replace(output, preview=told))
        self._settle(group, result, detail=told, why=result.why, output=result.artifact)

    # Doing it

    def _do_here(self, task: Task, prepared: Prepared | None) -> None:
        if prepared is None:
            self._run_target(task)
            return
        self._end(self._attempts(task, prepared, lambda: self._once_here(task, prepared), time.sleep))

    def _once_here(self, task: Task, prepared: Prepared) -> _Try:
        folder = self.store.folder()
        reply, error = Reply(), None
        assert task.call.step is not None
        try:
            with self.recorder.log(task.key):
                reply, error = attempt(self.store, task.call.step, prepared.arguments, folder)
                if error is not None:
                    raise error  # the log keeps the traceback of what leaves it
        except BaseException as left:
            if left is not error:
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return reply, error

    def _do_there(self, task: Task, prepared: Prepared, worker: Worker) -> None:
        """In a worker's thread."""
        step = task.call.step
        assert step is not None
        work = Work(step, prepared.arguments, self.recorder.log_path(task.key))
        try:
            ended = self._attempts(task, prepared, lambda: (worker.run(work), None), self.pool.over.wait)
        except HeadwayError as error:  # noting it failed
            ended = _Ended(task, Result("failed"), error)
        except Exception as error:  # noqa: BLE001 - the run waits for this thread's word
            ended = _Ended(task, Result("failed"), ProjectCodeError(_about(task, in_words(error))))
        self.ended.put(ended)

    def _attempts(
        self, task: Task, prepared: Prepared, once: Callable[[], _Try], pause: Callable[[float], object]
    ) -> _Ended:
        """Try as often as the step says; note each attempt, and the end."""
        step, key, why = task.call.step, prepared.key, prepared.why
        assert step is not None
        for left in range(step.retries, -1, -1):
            number = step.retries + 1 - left
            if self.pool.over.is_set():
                break
            self.recorder.started(
                task.key, attempt=number, digest=key.digest, inputs=key.inputs, made_of=key.made_of, why=why
            )
            watch = stopwatch()
            reply, error = once()
            if self.pool.over.is_set():
                break
            if reply.artifact is not None or reply.refused or not left:
                return self._tried(task, reply, error, watch())
            why = f"attempt {number} failed: {reply.error}"
            pause(min(step.backoff / 1e6 * 2 ** (number - 1), _LONGEST_PAUSE))
        return _Ended(task, Result("cancelled"), None)

    def _tried(self, task: Task, reply: Reply, error: BaseException | None, seconds: float) -> _Ended:
        if reply.artifact is not None:
            done = reply.artifact
            self.recorder.ended(task.key, "done", output=done, seconds=seconds, detail=done.preview)
            return _Ended(task, Result("done", done), None)
        status: StepStatus = "refused" if reply.refused else "failed"
        self.recorder.ended(task.key, status, error=reply.error, seconds=seconds)
        failure = (GateRefused if reply.refused else ProjectCodeError)(_about(task, reply.error))
        failure.__cause__ = error
        return _Ended(task, Result(status, why=reply.error), failure)

    def _run_target(self, task: Task) -> None:
        """A built-in stage: its own digests say whether there is anything to do."""
        self.recorder.started(task.key, why="its own digests decide what is to be done")
        watch = stopwatch()
        try:
            with self.recorder.log(task.key):
                told = dict(self.run_target(task.call.target))
            output = self.store.put({name: value for name, value in told.items() if name not in _TOLD}, dict)
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a stage raises fails the step
            known = error if isinstance(error, HeadwayError) else ProjectCodeError(_about(task, in_words(error)))
            known.__cause__ = known.__cause__ or (error if known is not error else None)
            status: StepStatus = "refused" if known.exit_code == 3 else "failed"
            self.recorder.ended(task.key, status, error=str(known), seconds=watch())
            self._end(_Ended(task, Result(status, why=str(known)), known))
            return
        status = "cached" if told.get("status") == "cached" else "done"
        self.recorder.ended(task.key, status, detail=str(told.get("detail", "")), output=output, seconds=watch())
        self._end(_Ended(task, Result(status, output), None))

    # Afterwards

    def _take_back(self, *, wait: bool) -> None:
        """Note what the workers are through with."""
        while self.away:
            try:
                found = self.ended.get(block=wait, timeout=0.2 if wait else None)
            except queue.Empty:
                return
            self.away -= 1
            self._end(found)
            wait = False

    def _end(self, ended: _Ended) -> None:
        if ended.error is not None:
            self.errors.append(ended.error)
        self.statuses[ended.task.key] = ended.result.status
        self._free(self.graph.settle(ended.task, ended.result))

    def _fail(self, task: Task, reply: Reply, error: HeadwayError) -> None:
        self.recorder.ended(task.key, "failed", error=reply.error)
        known = error if not isinstance(error, Unfit) else ProjectCodeError(reply.error)
        self._end(_Ended(task, Result("failed", why=reply.error), known))

    def _settle(self, task: Task, result: Result, told: Mapping[str, Any] | None = None, **more: Any) -> None:
        self.recorder.ended(task.key, result.status, **(told or {}), **more)
        self._end(_Ended(task, result, None))

    def _free(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            heapq.heappush(self.ready, task)

    def _check_cancelled(self) -> None:
        by = self.recorder.cancelled()
        if by is not None:
            raise Cancelled(f"run {self.recorder.run.id} was cancelled by {by}; what it finished is kept")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _answered(prepared: Prepared) -> tuple[Result, dict[str, Any]]:
    """The result of a task that an earlier run answers, and what is noted of it."""
    hit = prepared.hit
    assert hit is not None
    assert hit.output is not None
    told = {
        "why": prepared.why,
        "detail": hit.output.preview,
        "output": hit.output,
        "digest": prepared.key.digest,
        "inputs": prepared.key.inputs,
        "made_of": prepared.key.made_of,
    }
    return Result("cached", hit.output), told


def _about(task: Task, error: str) -> str:
    return f"step {task.key!r} failed: {error}"
