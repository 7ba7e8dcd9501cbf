"""Steps and pipelines: ordinary functions, and the order in which a run calls them.

Called plainly, a step is its function and a pipeline just runs. While a run lays a pipeline out, a tracer stands in
`tracing`, and the same calls go to it instead; it gives handles in the place of results.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, overload

from headway.define._base import Declaration, Place, caller_place
from headway.define._duration import microseconds
from headway.define._features import ViewSelection
from headway.define._schedule import Missed, Overlap, Schedule, as_schedule
from headway.errors import DefinitionError, UsageError

RESERVED = ("after", "each")
MOST_ITEMS = 10_000
"""How many items a fan-out may have."""

_MOST_RETRIES = 100


class Tracer(Protocol):
    """What takes calls of steps while a pipeline is laid out."""

    def step(self, step: Step, arguments: dict[str, Any], each: Mapping[str, Any], after: Any) -> Any:
        """A call; ``arguments`` by name, without those that ``each`` fans out over."""

    def run(self, name: str, after: Any) -> Any:
        """A built-in stage."""

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any] | None) -> Any:
        """Two branches, one of which is taken."""


_tracer: ContextVar[Tracer | None] = ContextVar("headway_tracer", default=None)
_project: ContextVar[Callable[[str], Any] | None] = ContextVar("headway_project", default=None)


@contextmanager
def tracing(tracer: Tracer | None) -> Iterator[None]:
    """Lead the calls of steps to ``tracer`` within the block; None: call them."""
    token = _tracer.set(tracer)
    try:
        yield
    finally:
        _tracer.reset(token)


@contextmanager
def active_project(run_target: Callable[[str], Any] | None) -> Iterator[None]:
    """Within the block a plain ``hw.run(target)`` is ``run_target(name)``; None: it is refused."""
    before = _project.get()
    _project.set(run_target)
    try:
        yield
    finally:
        _project.set(before)  # not by its token: a project may be closed in another context than it was opened in


@dataclass(frozen=True, eq=False, init=False)
class Step(Declaration):
    """A function whose calls a run records, caches and repeats; made by ``step``.

    Calling it calls the function. ``backoff`` and ``timeout`` are microseconds.
    """

    name: str = ""
    function: Callable[..., Any] = None  # type: ignore[assignment]
    retries: int = 0
    backoff: int = 1_000_000
    timeout: int | None = None
    cache: bool = True

    kind = "step"

    def __call__(
        self, *args: Any, after: Any = None, each: Mapping[str, Sequence[Any]] | None = None, **kwargs: Any
    ) -> Any:
        tracer = _tracer.get()
        if tracer is not None:
            fanned = self._each(each)
            return tracer.step(self, self.bind(args, kwargs, tuple(fanned)), fanned, after)
        if each is None:
            return self.function(*args, **kwargs)
        fanned = self._each(each)
        return [self.function(*args, **kwargs, **item) for item in product(self, fanned)]

    def __reduce__(self) -> tuple[Any, ...]:
        """By name, as functions are pickled: another process finds the step in its module."""
        function: Any = self.function
        return _find, (function.__module__, function.__qualname__)

    @property
    def findable(self) -> bool:
        """Whether another process finds it by its name."""
        find, (module, name) = self.__reduce__()
        try:
            return module != "__main__" and find(module, name) is self
        except (ImportError, AttributeError):
            return False

    @property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], fanned: tuple[str, ...]) -> dict[str, Any]:
        """The arguments of a call by name, defaults included, without those that a fan-out brings."""
        twice = next((name for name in fanned if name in kwargs), None)
        if twice is not None:
            raise UsageError(f"{self.said}: {twice!r} is given both as an argument and in each=; leave one of them out")
        try:
            bound = self.signature.bind(*args, **{**kwargs, **dict.fromkeys(fanned)})
        except TypeError as error:
            raise UsageError(f"{self.said}: {error}; it takes {self.signature}") from None
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name not in fanned}

    @property
    def said(self) -> str:
        """The step as a message names it."""
        return f"step {self.name!r} ({self.place})"

    def _each(self, each: Any) -> dict[str, Any]:
        if each is None:
            return {}
        if not isinstance(each, Mapping) or not each or not all(isinstance(name, str) for name in each):
            raise UsageError(f"{self.said}: each= is a dict of an argument and its values, such as each={{'item': xs}}")
        return dict(each)


@dataclass(frozen=True, eq=False, init=False)
class Pipeline(Declaration):
    """A function that calls steps; made by ``pipeline``. Its parameters are what a run is started with.

    ``each`` fans the whole pipeline out over values of some parameters.
    """

    name: str = ""
    function: Callable[..., Any] = None  # type: ignore[assignment]
    schedule: Schedule | None = None
    each: Mapping[str, tuple[Any, ...]] = None  # type: ignore[assignment]

    kind = "pipeline"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, once or, if parameters that it fans out over are left out, once for each of their values."""
        try:
            given = self.signature.bind_partial(*args, **kwargs).arguments
        except TypeError as error:
            raise UsageError(f"{self.said}: {error}; it takes {self.signature}") from None
        fanned = {name: values for name, values in self.each.items() if name not in given}
        if not fanned:
            return self.function(*args, **kwargs)
        return [self.function(*args, **kwargs, **item) for item in product(self, fanned)]

    @property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @property
    def said(self) -> str:
        """The pipeline as a message names it."""
        return f"pipeline {self.name!r} ({self.place})"


def product(owner: Step | Pipeline, each: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of a fan-out: every combination of the values, the last argument running fastest."""
    for name, values in each.items():
        if not isinstance(values, list | tuple):
            raise UsageError(f"{owner.said}: each={{{name!r}: …}} takes a list, got {type(values).__name__}")
    count = 1
    for values in each.values():
        count *= len(values)
    if count > MOST_ITEMS:
        raise UsageError(f"{owner.said}: a fan-out has at most {MOST_ITEMS} items, and each= gives {count}")
    return [dict(zip(each, values, strict=True)) for values in itertools.product(*each.values())]


@overload
def step(function: Callable[..., Any], /) -> Step: ...


@overload
def step(
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: str = "1s",
    timeout: str | None = None,
    cache: bool = True,
    owner: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Step]: ...


def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: str = "1s",
    timeout: str | None = None,
    cache: bool = True,
    owner: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> Any:
    """Declare a function as a step of pipelines; it stays callable as it is.

    In a pipeline a call takes two arguments more: ``after=`` other steps, which then come before this one, and
    ``each={"argument": values}``, which calls it once for each value.

    Parameters
    ----------
    name
        The function's name by default. What a run has done is found again by it.
    retries
        How often a call that failed is tried again: after ``backoff``, then twice that, and so on up to an hour.
    timeout
        With one, the step runs in a worker process, which is killed when the time is over; items of a fan-out then
        run side by side.
    cache
        Whether a call with the same code, libraries, parameters and inputs may be answered with what it gave before.

    Examples
    --------
    >>> @step
    ... def half(x: float) -> float:
    ...     return x / 2
    >>> half(3), half(each={"x": [1, 2]})
    (1.5, [0.5, 1.0])
    """
    place = caller_place()

    def decorate(function: Callable[..., Any]) -> Step:
        made = Step.__new__(Step)
        Declaration.__init__(made, owner=owner, description=_described(function, description), tags=tuple(tags))
        _wrap(made, function, name, place)
        made._set(retries=retries, cache=cache)
        made._set(backoff=microseconds(backoff, f"{made.said}: backoff"))
        made._set(timeout=None if timeout is None else microseconds(timeout, f"{made.said}: timeout"))
        if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= _MOST_RETRIES:
            raise made.refuse(f"retries is a whole number from 0 to {_MOST_RETRIES}, got {retries!r}")
        if made.timeout == 0:
            raise made.refuse("timeout is longer than nothing")
        if not isinstance(cache, bool):
            raise made.refuse(f"cache is True or False, got {cache!r}")
        taken = next((word for word in RESERVED if word in made.signature.parameters), None)
        if taken is not None:
            raise made.refuse(
                f"an argument cannot be called {taken!r}, which every step takes in a pipeline; rename it"
            )
        return made

    return decorate if function is None else decorate(function)


@overload
def pipeline(function: Callable[..., Any], /) -> Pipeline: ...


@overload
def pipeline(
    *,
    name: str | None = None,
    schedule: str | Schedule | None = None,
    timezone: str = "UTC",
    each: Mapping[str, Sequence[Any]] | None = None,
    missed: Missed = "once",
    overlap: Overlap = "skip",
    jitter: str | None = None,
    owner: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Pipeline]: ...


def pipeline(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    schedule: str | Schedule | None = None,
    timezone: str = "UTC",
    each: Mapping[str, Sequence[Any]] | None = None,
    missed: Missed = "once",
    overlap: Overlap = "skip",
    jitter: str | None = None,
    owner: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> Any:
    """Declare a function that calls steps as a pipeline, to be run by ``headway run NAME`` or by a schedule.

    Its parameters (str, int, float, bool, date, datetime, Literal, or lists of these) become options of the command
    line and fields of the console's form. ``each`` runs it for each of some values of a parameter. ``schedule`` is a
    cron line, for which ``timezone``, ``missed``, ``overlap`` and ``jitter`` are as in ``hw.Schedule``, or one of
    those.

    >>> @pipeline(each={"city": ["lisbon", "tallinn"]})
    ... def greet(city: str, word: str = "hello"):
    ...     return f"{word} {city}"
    >>> greet("turin"), greet()
    ('hello turin', ['hello lisbon', 'hello tallinn'])
    """
    place = caller_place()
    policies = {"timezone": timezone, "missed": missed, "overlap": overlap, "jitter": jitter}

    def decorate(function: Callable[..., Any]) -> Pipeline:
        made = Pipeline.__new__(Pipeline)
        Declaration.__init__(made, owner=owner, description=_described(function, description), tags=tuple(tags))
        _wrap(made, function, name, place)
        made._set(schedule=_scheduled(made, schedule, policies), each=_fanned(made, each))
        return made

    return decorate if function is None else decorate(function)


def run(target: Declaration | ViewSelection | str, *, after: Any = None) -> Any:
    """Bring a source, view, model or batch prediction of the project up to date, as a step of a pipeline.

    Raises
    ------
    UsageError
        Outside a pipeline's run, unless a project is active.
    """
    if isinstance(target, ViewSelection):
        target = target.view
    name = target if isinstance(target, str) else getattr(target, "name", None)
    if not isinstance(name, str) or isinstance(target, Step | Pipeline | Schedule):
        raise UsageError(
            f"hw.run takes a source, view, model, monitor or batch prediction, or its name, got {target!r}; steps and"
            " pipelines are called"
        )
    if getattr(target, "kind", None) == "monitor":
        name = f"monitor:{name}"
    tracer = _tracer.get()
    if tracer is not None:
        return tracer.run(name, after)
    run_target = _project.get()
    if run_target is None:
        raise UsageError(
            f"hw.run({name!r}) is for the run of a pipeline; here use `headway run {name}`, or project.run({name!r})"
        )
    return run_target(name)


def when(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any] | None = None) -> Any:
    """Choose between two branches of a pipeline by the result of a step: ``when(enough, lambda: publish(table))``.

    Called plainly it calls ``then`` or ``otherwise``. In a run both are laid out, and the steps of the branch that is
    not taken are skipped. Its value is that of the branch taken; None where there is no ``otherwise``.
    """
    for branch in (then, otherwise) if otherwise is not None else (then,):
        if not callable(branch):
            raise UsageError(
                f"hw.when takes functions without arguments, such as lambda: export(city), got {type(branch).__name__}"
            )
    tracer = _tracer.get()
    if tracer is not None:
        return tracer.when(condition, then, otherwise)
    if condition:
        return then()
    return None if otherwise is None else otherwise()


def _find(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _described(function: Callable[..., Any], description: str | None) -> str | None:
    return description or inspect.getdoc(function)


def _wrap(made: Step | Pipeline, function: Any, name: str | None, place: Place) -> None:
    """Take over a function with its name and documentation."""
    made._set(name=getattr(function, "__name__", "") if name is None else name, place=place, function=function)
    if isinstance(function, Step | Pipeline):
        raise made.refuse(f"it is a {function.kind} already")
    if not inspect.isroutine(function) or made.name == "<lambda>":
        raise DefinitionError(f"{made.kind} ({place}): @hw.{made.kind} goes before a function with a name")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise made.refuse("it is an ordinary function that returns a value, not async and without yield")
    made._common()
    made._set(__wrapped__=function)
    made._set(**{each: getattr(function, each, None) for each in ("__name__", "__qualname__", "__module__", "__doc__")})


def _scheduled(owner: Pipeline, schedule: str | Schedule | None, policies: dict[str, Any]) -> Schedule | None:
    usual = {"timezone": "UTC", "missed": "once", "overlap": "skip", "jitter": None}
    if policies == usual:
        return as_schedule(owner, schedule)
    named = next(word for word in usual if policies[word] != usual[word])
    if not isinstance(schedule, str):
        what = "there is no schedule" if schedule is None else "the hw.Schedule has its own"
        raise owner.refuse(f"{named} belongs to a schedule given as a cron line, and {what}")
    as_schedule(owner, schedule)
    return Schedule(schedule, **policies, place=owner.place)


def _fanned(owner: Pipeline, each: Any) -> dict[str, tuple[Any, ...]]:
    if each is None:
        return {}
    if not isinstance(each, Mapping):
        raise owner.refuse(f"each is a dict of a parameter and its values, got {each!r}")
    for name, values in each.items():
        if name not in owner.signature.parameters:
            raise owner.refuse(f"each names {name!r}, which is none of its parameters {owner.signature}")
        if not isinstance(values, list | tuple) or not values:
            raise owner.refuse(f"each={{{name!r}: …}} takes a list of values, got {values!r}")
    return {name: tuple(values) for name, values in each.items()}
