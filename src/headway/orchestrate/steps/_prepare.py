"""What a task would do: its arguments, its key, and whether an earlier run answers it. Shared by runs and plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headway.define._step import Step
from headway.define.run_records import StepRecord
from headway.errors import DefinitionError, NotFoundError
from headway.orchestrate.steps._graph import GOOD, Graph, Task
from headway.orchestrate.steps._key import Code, Key, code_of, key_of, why_again
from headway.orchestrate.steps._store import ArtifactStore
from headway.orchestrate.steps._trace import Trace, name_of

if TYPE_CHECKING:
    from headway.metadata import Metadata
    from headway.orchestrate._parts import Parts

_HISTORY = 50


@dataclass(frozen=True)
class Prepared:
    """A task whose inputs are there. ``hit`` is the record that answers it, if there is one and it may be used."""

    arguments: dict[str, Any]
    key: Key
    hit: StepRecord | None
    why: str


@dataclass
class Preparer:
    """Keys and earlier records of the steps of one run."""

    metadata: Metadata
    store: ArtifactStore
    graph: Graph
    codes: dict[Step, Code]
    from_step: str | None = None
    _last: dict[str, dict[str, StepRecord]] = field(default_factory=dict)

    def again(self, task: Task) -> bool:
        """Whether a task is the one to run again, or comes after it."""
        chosen = self.from_step in (task.key, task.call.key, task.call.name)
        task.again = task.again or chosen or any(need.again for need in task.needs)
        return task.again

    def prepare(self, task: Task) -> Prepared:
        """Resolve a task's arguments, and look for an earlier record of the same key.

        Raises
        ------
        Blocked
            Something it needs did not come about.
        Unfit
            Something cannot be compared.
        """
        step = task.call.step
        assert step is not None
        arguments = {name: self.graph.resolve(value) for name, value in task.arguments.items()}
        after: dict[str, Any] = {}
        for number, handle in enumerate(task.call.after):
            name = name_of(handle)
            after[name if name not in after else f"{name} ({number + 1})"] = self.graph.resolve(handle)
        key = key_of(step, self.codes[step], arguments, after)
        hit, why = self._look(task, step, key)
        return Prepared(arguments, key, hit, why)

    def _look(self, task: Task, step: Step, key: Key) -> tuple[StepRecord | None, str]:
        """The record that answers, or None; and why."""
        if self.again(task):
            return None, f"it was asked to run again from {self.from_step!r}"
        if not step.cache:
            return None, "it is declared with cache=False"
        found = self.metadata.runs.cached(task.call.name, key.digest)
        if found is not None and found.output is not None and self.store.has(found.output):
            return found, f"as in run {found.run}"
        return None, why_again(self._previous(task), key.made_of)

    def _previous(self, task: Task) -> StepRecord | None:
        """The newest record of the same call that was done, or answered by one that was."""
        name = task.call.name
        if name not in self._last:
            history = self.metadata.runs.history(name, _HISTORY + 2 * self.graph.count(name))
            done = [each for each in history if each.status in GOOD and each.made_of]
            self._last[name] = {each.key: each for each in reversed(done)}
        return self._last[name].get(task.key)


def check_calls(parts: Parts, trace: Trace) -> None:
    """Refuse what can be told to fail before anything runs: an unknown target, a step no worker would find.

    Raises
    ------
    NotFoundError, DefinitionError
    """
    declared = parts.declarations
    known = {*declared.sources, *declared.views, *declared.models, *declared.batches}
    known |= {f"monitor:{name}" for name in declared.monitors}
    for call in trace.calls:
        if call.step is None and call.target not in known:
            raise NotFoundError.among("target", call.target, known)
        if call.step is not None and call.step.timeout is not None and not call.step.findable:
            raise DefinitionError(
                f"{call.step.said}: it has a timeout, so it runs in a worker process, which has to find it by its name;"
                " define it at the top of a module of the project"
            )


def codes_of(trace: Trace, package: str) -> dict[Step, Code]:
    """The code of every step, before any of it runs."""
    return {step: code_of(step, package) for step in dict.fromkeys(c.step for c in trace.calls if c.step is not None)}


def check_from(trace: Trace, from_step: str | None) -> None:
    """Refuse a step to begin from that the run does not have. Items of a fan-out may not be known yet.

    Raises
    ------
    NotFoundError
    """
    if from_step is None:
        return
    known: Sequence[str] = [*(call.key for call in trace.calls), *(call.name for call in trace.calls)]
    fanned = [call.name for call in trace.calls if call.each]
    if from_step not in known and from_step.partition("[")[0].partition("#")[0] not in fanned:
        raise NotFoundError.among("step of the pipeline", from_step, dict.fromkeys(known))
