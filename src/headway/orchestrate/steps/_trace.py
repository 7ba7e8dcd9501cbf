"""From a pipeline function to the calls it makes, without making them.

The function runs once for each set of parameters, with their values; a step called in it gives a handle. A handle
given to another step is an edge.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from headway.define._parameters import notes_of, plain
from headway.define._step import Pipeline, Step, product, tracing
from headway.errors import HeadwayError, ProjectCodeError, UsageError
from headway.orchestrate.steps._values import ANY, Unfit, check, fingerprint, said

_LONGEST_LABEL, _MOST_LABELS = 40, 3
_LABEL = re.compile(r"[\w.:@/+ #-]+")
_RUN = "run:"


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """A condition under which a call is made: ``hw.when`` puts it around its branches."""

    condition: Any
    wanted: bool


@dataclass(eq=False, slots=True)
class Call:
    """One call of a step in a pipeline; with ``each`` it stands for one call per item."""

    number: int
    key: str
    name: str
    step: Step | None  # None: a built-in stage
    target: str = ""
    item: dict[str, Any] = field(default_factory=dict)  # what the pipeline itself fans out over
    arguments: dict[str, Any] = field(default_factory=dict)
    each: dict[str, Any] = field(default_factory=dict)
    after: tuple[Any, ...] = ()
    guards: tuple[Guard, ...] = ()

    @property
    def said(self) -> str:
        return self.step.said if self.step is not None else f"hw.run({self.target!r})"


class Handle:
    """Stands for what a step will give. It can be handed to other steps, and nothing else."""

    __slots__ = ("_hw_trace",)

    def __init__(self, trace: Trace) -> None:
        self._hw_trace = trace

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python and libraries ask for these to see what an object can do
            raise AttributeError(name)
        return self._hw_refuse(f"asked for .{name}", _INSIDE)

    def __repr__(self) -> str:
        return f"<{self._hw_said}>"

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> Handle:
        return self

    def __deepcopy__(self, memo: object) -> Handle:
        return self

    def __reduce__(self) -> NoReturn:
        self._hw_refuse("kept", _INSIDE)

    @property
    def _hw_said(self) -> str:
        raise NotImplementedError

    @property
    def _hw_name(self) -> str:
        return "step"

    def _hw_refuse(self, use: str, advice: str) -> NoReturn:
        raise UsageError(
            f"{self._hw_said} is not known yet while pipeline {self._hw_trace.pipeline.name!r} is laid out, so it"
            f" cannot be {use}; {advice}"
        )


_INSIDE = "pass it to a step and do it there"
_REFUSED: Mapping[tuple[str, str], str] = {
    ("decided on", "use hw.when(it, lambda: …), or decide inside a step"): "bool",
    ("looped over or indexed", "use each={'argument': it} to call a step for each of its items, or a step to pick"): (
        "iter len getitem setitem contains reversed next"
    ),
    ("turned into text", _INSIDE): "str format bytes fspath",
    ("called", "a step is called by its own name; what it gives is handed to other steps"): "call",
    ("computed with", _INSIDE): (
        "eq ne lt le gt ge int float complex index neg pos abs invert round trunc floor ceil array"
        " add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or"
        " radd rsub rmul rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand rxor ror enter exit"
    ),
}


def _refusing(use: str, advice: str) -> Callable[..., NoReturn]:
    def refuse(self: Handle, *_: object, **__: object) -> NoReturn:
        self._hw_refuse(use, advice)

    return refuse


for (_use, _advice), _names in _REFUSED.items():
    for _name in _names.split():
        setattr(Handle, f"__{_name}__", _refusing(_use, _advice))


class Output(Handle):
    """What a call gives; of a fan-out, the list of what its items give."""

    __slots__ = ("_hw_call",)

    def __init__(self, trace: Trace, call: Call) -> None:
        super().__init__(trace)
        self._hw_call = call

    @property
    def _hw_said(self) -> str:
        return f"what {'step ' if self._hw_call.step else ''}{self._hw_call.name!r} gives"

    @property
    def _hw_name(self) -> str:
        return self._hw_call.name


class Choice(Handle):
    """What the branch gives that ``hw.when`` takes."""

    __slots__ = ("_hw_condition", "_hw_otherwise", "_hw_then")

    def __init__(self, trace: Trace, condition: Any, then: Any, otherwise: Any) -> None:
        super().__init__(trace)
        self._hw_condition, self._hw_then, self._hw_otherwise = condition, then, otherwise

    @property
    def _hw_said(self) -> str:
        return "what hw.when gives"


def call_of(output: Output) -> Call:
    return output._hw_call


def name_of(handle: Handle) -> str:
    """A handle as records name it: the key of its call."""
    return call_of(handle).key if isinstance(handle, Output) else "hw.when"


def parts_of(choice: Choice) -> tuple[Any, Any, Any]:
    """Condition, value if it holds, value if not."""
    return choice._hw_condition, choice._hw_then, choice._hw_otherwise


class Trace:
    """The calls of one run of a pipeline, in the order in which they were met."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.calls: list[Call] = []
        self._item: dict[str, Any] = {}
        self._guards: tuple[Guard, ...] = ()
        self._keys: dict[str, int] = {}

    def follow(self, item: dict[str, Any], params: Mapping[str, Any]) -> None:
        """Call the pipeline's function; ``item`` are those parameters that the pipeline fans out over."""
        self._item = item
        try:
            with tracing(self):
                self.pipeline.function(**params)
        except HeadwayError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ProjectCodeError(f"{self.pipeline.said} cannot be laid out: {' '.join(what.split())}") from error

    # What calls become: the methods of a Tracer

    def step(self, step: Step, arguments: dict[str, Any], each: Mapping[str, Any], after: Any) -> Handle:
        notes = notes_of(step.function)
        held = {name: self._argument(step, name, value, notes.get(name, ANY)) for name, value in arguments.items()}
        fanned = {name: self._source(step, name, value, notes.get(name, ANY)) for name, value in each.items()}
        return self._add(step.name, step, "", held, fanned, self._after(step.said, after))

    def run(self, name: str, after: Any) -> Handle:
        return self._add(f"{_RUN}{name}", None, name, {}, {}, self._after(f"hw.run({name!r})", after))

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any] | None) -> Handle:
        for branch in (then, otherwise):
            if isinstance(branch, Handle):
                raise UsageError(f"hw.when takes functions: lambda: {branch._hw_name}(…), and not {branch._hw_said}")
        if isinstance(condition, Output) and condition._hw_call.each:
            raise UsageError(
                f"{condition._hw_said} is a list, one for each item, which hw.when cannot decide by; let a step that"
                " takes the list give True or False"
            )
        condition = condition if isinstance(condition, Handle) else bool(condition)
        self._own(condition)
        return Choice(
            self, condition, self._branch(condition, True, then), self._branch(condition, False, otherwise or _nothing)
        )

    def _branch(self, condition: Any, wanted: bool, branch: Callable[[], Any]) -> Any:
        before = self._guards
        self._guards = (*before, Guard(condition, wanted))
        try:
            return snapshot(branch())
        finally:
            self._guards = before

    def _add(
        self,
        name: str,
        step: Step | None,
        target: str,
        arguments: dict[str, Any],
        each: dict[str, Any],
        after: tuple[Any, ...],
    ) -> Handle:
        key = self.unique(name, self._item)
        call = Call(len(self.calls), key, name, step, target, self._item, arguments, each, after, self._guards)
        self.calls.append(call)
        return Output(self, call)

    def unique(self, name: str, item: Mapping[str, Any], number: int | None = None) -> str:
        """A key for a call, which no other call of the run has."""
        key = f"{name}{label(item, number)}"
        count = self._keys[key] = self._keys.get(key, 0) + 1
        return key if count == 1 else self.unique(f"{name}#{count}", item, number)

    def _argument(self, step: Step, name: str, value: Any, note: Any) -> Any:
        held = snapshot(value)
        found = list(handles(held))
        for handle in found:
            self._own(handle)
        if not found:
            try:
                check(held, note)
                constant(held)
            except Unfit as error:
                raise UsageError(f"{step.said}: its argument {name!r} cannot be taken: {error}") from None
        return held

    def _source(self, step: Step, name: str, values: Any, note: Any) -> Any:
        if isinstance(values, Handle):
            return self._argument(step, name, values, ANY)
        product(step, {name: values})
        return [self._argument(step, name, value, note) for value in values]

    def _after(self, who: str, after: Any) -> tuple[Any, ...]:
        given = after if isinstance(after, list | tuple) else (after,)
        for each in given:
            if each is not None and not isinstance(each, Handle):
                raise UsageError(f"{who}: after= takes what other steps of the pipeline gave, got {said(type(each))}")
            self._own(each)
        return tuple(each for each in given if each is not None)

    def _own(self, value: Any) -> None:
        if isinstance(value, Handle) and value._hw_trace is not self:
            raise UsageError(
                f"{value._hw_said} belongs to another run of pipeline {value._hw_trace.pipeline.name!r};"
                " call the step within this one"
            )


def trace(pipeline: Pipeline, params: Mapping[str, Any]) -> Trace:
    """Lay a pipeline out for some parameters; those it fans out over take each of their values unless given.

    Raises
    ------
    UsageError
        A handle is used as a value, or an argument is none a step can take.
    ProjectCodeError
        The function itself raised.
    """
    found = Trace(pipeline)
    given = {name: [value] for name, value in params.items() if name in pipeline.each}
    for item in product(pipeline, {name: given.get(name, list(values)) for name, values in pipeline.each.items()}):
        found.follow({name: shown(value) for name, value in item.items()}, {**params, **item})
    return found


def handles(value: Any) -> Iterator[Handle]:
    """The handles in a value: itself, or inside lists, tuples and dicts."""
    if isinstance(value, Handle):
        yield value
    elif type(value) in (list, tuple, dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from handles(inner)


def snapshot(value: Any) -> Any:
    """A copy that later changes do not reach; handles stay what they are."""
    if type(value) in (list, tuple):
        return type(value)(map(snapshot, value))
    if type(value) is dict:
        return {key: snapshot(item) for key, item in value.items()}
    if hasattr(type(value), "__arrow_c_stream__") and type(value).__module__.partition(".")[0] in ("pyarrow", "polars"):
        return value  # cannot be changed
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - what cannot be copied is refused, in better words, when it is to be kept
        return value


def constant(value: Any) -> str:
    """A text that stands for a value given in the pipeline: canonical JSON, or the digest of what is no JSON.

    Raises
    ------
    Unfit
        There is none.
    """
    if isinstance(value, Path) and not value.exists():
        return f"path {value}"
    return fingerprint(value)


def shown(value: Any) -> Any:
    """An item's value as the record of its step has it: JSON scalars as they are, others by their text."""
    value = plain(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)[:_LONGEST_LABEL]


def label(item: Mapping[str, Any], number: int | None) -> str:
    """The part of a key in brackets: the item's values where they are short, its number in the fan-out where not."""
    if not item:
        return ""
    texts = {name: str(value) for name, value in item.items()}
    short = all(len(text) <= _LONGEST_LABEL and _LABEL.fullmatch(text) for text in texts.values())
    if number is not None and not (short and len(item) <= _MOST_LABELS):
        return f"[{number}]"
    return f"[{','.join(f'{name}={text[:_LONGEST_LABEL]}' for name, text in list(texts.items())[:_MOST_LABELS])}]"


def _nothing() -> None:
    return None
