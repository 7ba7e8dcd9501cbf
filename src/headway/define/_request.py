"""What arrives with a request: inputs, functions of them, and the calendar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from headway.define._base import Declaration, caller_place
from headway.define._feature_set import FeatureSet
from headway.define._features import FeatureView, ViewSelection
from headway.errors import DefinitionError

RequestType = Literal["string", "int64", "double", "bool", "timestamp"]
CalendarPart = Literal["hour", "weekday", "day", "month", "week", "dayofyear", "minute", "weekend"]


@dataclass(frozen=True, eq=False, init=False)
class Request(Declaration):
    """A value that the caller sends, and that training reads from the label's source under the same name.

    >>> Request("borough", "string").type
    'string'
    """

    name: str = ""
    type: RequestType = "double"

    kind = "request input"

    def __init__(
        self, name: str, type: RequestType, *, owner: str | None = None, description: str | None = None
    ) -> None:
        super().__init__(owner=owner, description=description)
        self._set(name=name)
        self._common()
        if type not in get_args(RequestType):
            raise self.refuse(f"its type is one of {', '.join(get_args(RequestType))}, got {type!r}")
        self._set(type=type)


@dataclass(frozen=True, eq=False, init=False)
class Calendar(Declaration):
    """Parts of a request timestamp; made by ``calendar``."""

    name: str = ""
    timezone: str = "UTC"
    parts: tuple[CalendarPart, ...] = ()

    kind = "calendar"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.name}__{part}" for part in self.parts)


def calendar(column: str, *, timezone: str = "UTC", parts: Sequence[CalendarPart] = ("hour", "weekday")) -> Calendar:
    """Whole-number features ``<column>__<part>`` of a timestamp in a time zone.

    Parts are hour, minute, weekday (Monday 0), weekend (0 or 1), day, week (ISO), month and dayofyear. The column is
    a request input of type timestamp, which need not be declared a second time.
    """
    made = Calendar.__new__(Calendar)
    Declaration.__init__(made)
    made._set(name=column, place=caller_place())
    made._common()
    for part in parts:
        if part not in get_args(CalendarPart):
            raise made.refuse(f"parts are among {', '.join(get_args(CalendarPart))}, got {part!r}")
    if isinstance(parts, str) or not parts:
        raise made.refuse(f"parts is a list such as ['hour', 'weekday'], got {parts!r}")
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise made.refuse(f"{timezone!r} is not a time zone; use a name such as 'Europe/Lisbon'") from None
    made._set(timezone=timezone, parts=tuple(parts))
    return made


@dataclass(frozen=True, eq=False, init=False)
class RequestFeatures(Declaration):
    """A function of request inputs and features, the same in training and serving; made by ``request_features``.

    Calling it calls the function.
    """

    name: str = ""
    function: Callable[..., Mapping[str, Any]] = None  # type: ignore[assignment]
    inputs: tuple[Request | ViewSelection, ...] = ()

    kind = "request function"

    def __call__(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        return self.function(*args, **kwargs)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns handed to the function, in order."""
        return tuple(c for i in self.inputs for c in ((i.name,) if isinstance(i, Request) else i.columns))


def request_features(
    *,
    inputs: Sequence[Request | FeatureView | ViewSelection | FeatureSet],
    owner: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
) -> Callable[[Callable[..., Mapping[str, Any]]], RequestFeatures]:
    """Declare a function that computes features at request time.

    The function takes one numpy array per input column, all of one length (timestamps as ``datetime64[us]`` in UTC,
    missing numbers as NaN), and returns a dict of arrays of that length. Its outputs are named
    ``<function>__<output>``.
    """
    place = caller_place()

    def decorate(function: Callable[..., Mapping[str, Any]]) -> RequestFeatures:
        made = RequestFeatures.__new__(RequestFeatures)
        Declaration.__init__(made, owner=owner, description=description or function.__doc__, tags=tuple(tags))
        made._set(name=getattr(function, "__name__", ""), place=place, function=function)
        if made.name == "<lambda>":
            raise DefinitionError(f"request function ({place}): use a named function, not a lambda")
        made._common()
        found: list[Request | ViewSelection] = []
        for item in inputs:
            if isinstance(item, FeatureView):
                found.append(item.selection)
            elif isinstance(item, FeatureSet):
                found.extend(item.selections)
            elif isinstance(item, Request | ViewSelection):
                found.append(item)
            else:
                raise made.refuse(f"inputs are hw.Request(...) or features such as view['name'], got {item!r}")
        if not found:
            raise made.refuse("it has no inputs")
        made._set(inputs=tuple(found))
        return made

    return decorate
