"""Calls as tasks that wait for each other, and what their arguments turn out to be."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headway.define._step import MOST_ITEMS
from headway.define.run_records import Artifact, StepRecord, StepStatus
from headway.errors import UsageError
from headway.orchestrate.steps._load import Joined, Stored, load
from headway.orchestrate.steps._store import ArtifactStore
from headway.orchestrate.steps._trace import Call, Choice, Handle, Output, Trace, call_of, handles, parts_of, shown
from headway.orchestrate.steps._values import Unfit, said

Kind = Literal["single", "group", "item"]
GOOD: frozenset[StepStatus] = frozenset({"done", "cached"})


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a task. ``why`` is for those that come after it."""

    status: StepStatus
    artifact: Artifact | None = None
    why: str = ""


@dataclass(eq=False, slots=True)
class Task:
    """A call, or one item of a call that fans out; ``group`` is the task of the call it is an item of."""

    order: tuple[int, int]
    key: str
    kind: Kind
    call: Call
    arguments: dict[str, Any]
    item: dict[str, Any]
    needs: tuple[Task, ...] = ()
    group: Task | None = None
    result: Result | None = None
    items: list[Task] | None = None  # of a group, once they are known
    waiting: int = 0
    dependents: list[Task] = field(default_factory=list)  # wait for its result
    watchers: list[Task] = field(default_factory=list)  # groups that wait for its items to be known
    again: bool = False  # to be run again, cached or not

    def __lt__(self, other: Task) -> bool:
        return self.order < other.order

    @property
    def good(self) -> bool:
        return self.result is not None and self.result.status in GOOD

    def record(self, run: int, status: StepStatus = "waiting") -> StepRecord:
        needs = tuple(dict.fromkeys(need.key for need in self.needs))
        return StepRecord(run=run, key=self.key, step=self.call.name, item=self.item, needs=needs, status=status)


class Blocked(Exception):
    """A task cannot be done because of another one; the message says why."""


@dataclass(frozen=True, slots=True)
class _Item:
    """Stands for what one item of a fan-out will give, in the arguments of an item of another fan-out."""

    task: Task


class Graph:
    """The tasks of a trace. ``ready`` tells of those that nothing holds up any more."""

    def __init__(self, trace: Trace, store: ArtifactStore) -> None:
        self._trace, self._store = trace, store
        self.tasks: dict[Call, Task] = {}
        for call in trace.calls:
            kind: Kind = "group" if call.each else "single"
            self.tasks[call] = Task((call.number, 0), call.key, kind, call, call.arguments, call.item)
        for task in self.tasks.values():
            self._connect(task)

    def start(self) -> list[Task]:
        """The tasks that wait for nothing."""
        return [task for task in self.tasks.values() if not task.waiting]

    def count(self, name: str) -> int:
        """How many calls of a step are known."""
        return sum(1 + len(task.items or ()) for call, task in self.tasks.items() if call.name == name)

    def settle(self, task: Task, result: Result) -> list[Task]:
        """Note what became of a task; returns the tasks that are free now."""
        task.result = result
        free = list(_freed(task.dependents))
        if task.items is None:  # a group that was skipped: nobody needs to wait for its items
            free += _freed(task.watchers)
        if task.group is not None:
            task.group.again |= task.again
            free += _freed([task.group])
        return free

    def unfold(self, group: Task) -> list[Task]:
        """Make the tasks of a fan-out's items.

        Raises
        ------
        Blocked
            Its lists depend on something that did not come about.
        UsageError, Unfit
            What it fans out over is no list, or has too many items.
        """
        call = group.call
        for shared in (*group.arguments.values(), *call.after):
            self.resolve(shared)  # what stops every item stops the fan-out
        fanned = {name: list(enumerate(self._elements(call, name, each))) for name, each in call.each.items()}
        count = 1
        for elements in fanned.values():
            count *= len(elements)
        if count > MOST_ITEMS:
            raise UsageError(f"{call.said}: a fan-out has at most {MOST_ITEMS} items, and each= gives {count}")
        group.items = []
        for number, values in enumerate(itertools.product(*fanned.values())):
            group.items.append(self._item(group, number, dict(zip(fanned, values, strict=True))))
        group.waiting = len(group.items)
        return [task for task in group.items if not task.waiting]

    def watching(self, group: Task) -> list[Task]:
        """The groups that are free because the items of this one are known."""
        return list(_freed(group.watchers))

    def condition(self, task: Task) -> str | None:
        """Why ``hw.when`` does not make this call; None if it does.

        Raises
        ------
        Blocked, Unfit
            The condition did not come about, or is nothing to decide by.
        """
        for guard in task.call.guards:
            if self._decide(guard.condition) is not guard.wanted:
                by = f" ({call_of(guard.condition).key})" if isinstance(guard.condition, Output) else ""
                return (
                    f"its branch of hw.when was not taken: the condition{by} is {'false' if guard.wanted else 'true'}"
                )
        return None

    def resolve(self, value: Any) -> Any:
        """An argument with ``Stored`` and ``Joined`` in the place of handles.

        Raises
        ------
        Blocked
            Something in it did not come about.
        """
        if isinstance(value, Output):
            return self._given(self.tasks[call_of(value)])
        if isinstance(value, _Item):
            return self._given(value.task)
        if isinstance(value, Choice):
            condition, then, otherwise = parts_of(value)
            return self.resolve(then if self._decide(condition) else otherwise)
        if type(value) in (list, tuple):
            return type(value)(map(self.resolve, value))
        if type(value) is dict:
            return {key: self.resolve(item) for key, item in value.items()}
        return value

    # Inside

    def _connect(self, task: Task) -> None:
        """Have a task of a call wait for what it needs."""
        call, watched = task.call, dict[Task, None]()
        needed: list[Any] = [
            *handles(call.arguments),
            *call.after,
            *(guard.condition for guard in call.guards if isinstance(guard.condition, Handle)),
        ]
        for source in call.each.values():
            if isinstance(source, Output) and call_of(source).each:
                watched[self.tasks[call_of(source)]] = None
            else:
                needed += handles(source)
        waits = dict.fromkeys(self.tasks[each] for handle in needed for each in _calls(handle))
        task.needs = (*waits, *(each for each in watched if each not in waits))
        for need in waits:
            need.dependents.append(task)
        for need in watched:
            need.watchers.append(task)
        task.waiting = len(waits) + len(watched)

    def _item(self, group: Task, number: int, numbered: Mapping[str, tuple[int, Any]]) -> Task:
        brought = {name: value for name, (_, value) in numbered.items()}
        sources = [each.task for each in brought.values() if isinstance(each, _Item)]
        names = dict(group.item)
        for name, (index, value) in numbered.items():
            names |= _told(name, index, value)
        key = self._trace.unique(group.call.name, names, number)
        fanned = {each.group for each in sources}
        task = Task(
            (group.call.number, number + 1),
            key,
            "item",
            group.call,
            {**group.arguments, **brought},
            names,
            (*(need for need in group.needs if need not in fanned), *sources),
            group,
        )
        waits = dict.fromkeys(source for source in sources if source.result is None)
        for source in waits:
            source.dependents.append(task)
        task.waiting = len(waits)
        return task

    def _elements(self, call: Call, name: str, source: Any) -> list[Any]:
        while isinstance(source, Choice):
            condition, then, otherwise = parts_of(source)
            source = then if self._decide(condition) else otherwise
        if isinstance(source, Output):
            task = self.tasks[call_of(source)]
            if task.items is not None:
                return [_Item(each) for each in task.items]
            stored = self._given(task)
            source = load(self._store, stored)
        if not isinstance(source, list | tuple):
            raise UsageError(f"{call.said}: each={{{name!r}: …}} takes a list, and got {said(type(source))}")
        return list(source)

    def _decide(self, condition: Any) -> bool:
        """Whether a condition of ``hw.when`` holds."""
        if not isinstance(condition, Handle):
            return bool(condition)
        found = self.resolve(condition)
        if isinstance(found, Stored):
            if found.artifact.type != "json":
                raise Unfit(f"hw.when decides by a value such as True or a number, and got {found.artifact.preview}")
            found = self._store.get(found.artifact)
        if isinstance(found, Joined):
            raise Unfit("hw.when decides by one value, and got the list of a fan-out")
        return bool(found)

    def _given(self, task: Task) -> Stored | Joined:
        result = task.result
        if result is None or result.status not in GOOD or result.artifact is None:
            raise Blocked(_why_not(task))
        if task.items is None:
            return Stored(result.artifact, task.call.step)
        items = [each.result.artifact for each in task.items if each.result is not None]
        return Joined(tuple(Stored(each, task.call.step) for each in items if each is not None), result.artifact)


def _why_not(task: Task) -> str:
    status = "waiting" if task.result is None else task.result.status
    if status == "waiting":  # a plan: it would run
        return f"what {task.key!r} gives decides"
    if status == "skipped" and task.result is not None:
        root = task.result.why
        return root if root.startswith("it needs") else f"it needs {task.key!r}, which was skipped: {root}"
    return f"it needs {task.key!r}, which {'was cancelled' if status == 'cancelled' else status}"


def joined(group: Task) -> Result:
    """What a fan-out is when its items are: done if all are good."""
    results = [task.result for task in group.items or () if task.result is not None]
    found = {result.status for result in results}
    worst: tuple[StepStatus, ...] = ("failed", "refused", "cancelled", "skipped")
    for status in worst:
        if status in found:
            return Result(status, why=next(result.why for result in results if result.status == status))
    return Result("cached" if found == {"cached"} else "done")


def summary(group: Task) -> str:
    """How many items of a fan-out ended in which way."""
    counts: dict[str, int] = {}
    for task in group.items or ():
        if task.result is not None:
            counts[task.result.status] = counts.get(task.result.status, 0) + 1
    told = f"{len(group.items or ())} items"
    return told if len(counts) < 2 else f"{told}: {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}"


def manifest(items: Iterable[Task]) -> list[str]:
    """The digests of what the items gave, in order."""
    return [
        task.result.artifact.digest for task in items if task.result is not None and task.result.artifact is not None
    ]


def _told(name: str, index: int, value: Any) -> dict[str, Any]:
    """What is said of an item: its value, that of the item it is made of, or which one it is."""
    if isinstance(value, _Item):
        return value.task.item
    if isinstance(value, Handle | list | tuple | dict):
        return {name: f"#{index}"}
    return {name: shown(value)}


def _calls(handle: Handle) -> Iterator[Call]:
    """The calls a handle depends on."""
    if isinstance(handle, Output):
        yield call_of(handle)
    elif isinstance(handle, Choice):
        for part in parts_of(handle):
            for inner in handles(part):
                yield from _calls(inner)


def _freed(tasks: Iterable[Task]) -> Iterator[Task]:
    """Those of the tasks that wait for nothing else."""
    for task in tasks:
        task.waiting -= 1
        if task.waiting == 0:
            yield task
