"""What a run of a pipeline would do, and why, without doing it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headway.define._parameters import read_parameters
from headway.define._step import Pipeline
from headway.errors import HeadwayError
from headway.orchestrate.steps._graph import Blocked, Graph, Result, Task, joined, manifest, summary
from headway.orchestrate.steps._prepare import Preparer, check_calls, check_from, codes_of
from headway.orchestrate.steps._store import ArtifactStore, opened
from headway.orchestrate.steps._trace import trace

if TYPE_CHECKING:
    from headway.orchestrate._parts import Parts

Stale = Callable[[str], str | None]
"""Why a built-in stage would do something; None if it is up to date."""


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan.

    ``run``: it would run. ``cached``: an earlier run answers it. ``depends``: what comes before it would run, and what
    that gives decides. ``skip``: its branch is not taken.
    """

    key: str
    step: str
    status: Literal["run", "cached", "depends", "skip"]
    why: str
    needs: tuple[str, ...] = ()


def plan_pipeline(
    parts: Parts,
    pipeline: Pipeline,
    params: Mapping[str, Any],
    stale: Stale | None = None,
    *,
    from_step: str | None = None,
) -> list[PlannedStep]:
    """Every step of a pipeline, in the order of its calls, with what would become of it and why.

    ``stale`` tells of built-in stages; without it they are taken to run.
    """
    laid = trace(pipeline, read_parameters(pipeline, params))
    check_calls(parts, laid)
    check_from(laid, from_step)
    settings = parts.settings
    with opened(settings.artifacts_dir, allow_pickle=settings.allow_pickle) as store:
        graph = Graph(laid, store)
        preparer = Preparer(parts.metadata, store, graph, codes_of(laid, settings.definitions), from_step)
        return _Planning(graph, preparer, store, stale).plan()


@dataclass
class _Planning:
    graph: Graph
    preparer: Preparer
    store: ArtifactStore
    stale: Stale | None
    ready: list[Task] = field(default_factory=list)
    found: dict[Task, PlannedStep] = field(default_factory=dict)

    def plan(self) -> list[PlannedStep]:
        for task in self.graph.start():
            heapq.heappush(self.ready, task)
        while self.ready:
            task = heapq.heappop(self.ready)
            try:
                self._look(task)
            except Blocked as why:
                self._note(task, "depends", str(why), Result("waiting", why=str(why)))
            except HeadwayError as error:
                self._note(task, "run", f"it would fail: {error}", Result("waiting", why=str(error)))
        return [self.found[task] for task in sorted(self.found)]

    def _look(self, task: Task) -> None:
        if task.kind == "group" and task.items is not None:
            self._join(task)
            return
        why = self.graph.condition(task) if task.kind != "item" else None
        if why is not None:
            self._note(task, "skip", why, Result("skipped", why=why))
        elif task.kind == "group":
            self.preparer.again(task)
            self._free(self.graph.unfold(task))
            self._free(self.graph.watching(task))
            if not task.items:
                self._join(task)
        elif task.call.step is None:
            self._built_in(task)
        else:
            self._step(task)

    def _step(self, task: Task) -> None:
        prepared = self.preparer.prepare(task)
        if prepared.hit is not None:
            self._note(task, "cached", prepared.why, Result("cached", prepared.hit.output))
        else:
            self._note(task, "run", prepared.why, Result("waiting"))

    def _built_in(self, task: Task) -> None:
        """One that is up to date gives what it gave last."""
        why = "its own digests decide" if self.stale is None else self.stale(task.call.target)
        again = self.preparer.again(task)
        last = self.preparer.metadata.runs.history(task.call.name, 20) if why is None and not again else []
        output = next((each.output for each in last if each.status in ("done", "cached") and each.output), None)
        if why is None and output is not None and self.store.has(output):
            self._note(task, "cached", "it is up to date", Result("cached", output))
        else:
            self._note(task, "run", why or "not done yet as a step", Result("waiting"))

    def _join(self, group: Task) -> None:
        statuses = {self.found[task].status for task in group.items or ()}
        if statuses <= {"cached"}:
            output = self.store.put(manifest(group.items or ()), list)
            self._note(group, "cached", summary(group), Result(joined(group).status, output))
            return
        status: Literal["run", "depends"] = "run" if "run" in statuses else "depends"
        counts = {each: sum(self.found[task].status == each for task in group.items or ()) for each in sorted(statuses)}
        told = f"{len(group.items or ())} items: {', '.join(f'{n} {each}' for each, n in counts.items())}"
        self._note(group, status, told, Result("waiting"))

    def _note(self, task: Task, status: Literal["run", "cached", "depends", "skip"], why: str, result: Result) -> None:
        needs = tuple(dict.fromkeys(need.key for need in task.needs))
        self.found[task] = PlannedStep(key=task.key, step=task.call.name, status=status, why=why, needs=needs)
        self._free(self.graph.settle(task, result))

    def _free(self, tasks: list[Task]) -> None:
        for task in tasks:
            heapq.heappush(self.ready, task)
