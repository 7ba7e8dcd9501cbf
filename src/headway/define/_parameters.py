"""The parameters of a pipeline: what a command line and a form ask for, and how text becomes a value."""

from __future__ import annotations

import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from headway.clock import from_iso
from headway.define._step import Pipeline, Step
from headway.errors import NotFoundError, UsageError

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_WORDS |= {date: "a date such as 2024-01-31", datetime: "a time such as 2024-01-31T13:00:00Z"}
_NAMES = {date: "date", datetime: "datetime", str: "str", int: "int", float: "float", bool: "bool"}


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a pipeline, for command lines and forms.

    ``type`` is str, int, float, bool, date or datetime, or ``list[…]`` of one of these. ``default`` is a JSON value.
    ``choices`` are the only values it takes, if there are any; ``each`` are those that the pipeline fans out over when
    the parameter is left out.
    """

    name: str
    type: str
    default: Any = None
    required: bool = False
    optional: bool = False  # takes None
    choices: tuple[Any, ...] = ()
    each: tuple[Any, ...] = ()
    description: str = ""


class _Kind(NamedTuple):
    type: type
    many: bool = False
    optional: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        return f"list[{_NAMES[self.type]}]" if self.many else _NAMES[self.type]


def parameters(pipeline: Pipeline) -> tuple[Parameter, ...]:
    """The parameters of a pipeline, in its order.

    Descriptions are lines of its docstring such as ``days: how many days to publish``.

    Raises
    ------
    DefinitionError
        One has a type that no command line could give.
    """
    told = _descriptions(pipeline)
    found = []
    for name, (kind, default) in _kinds(pipeline).items():
        each = tuple(plain(value) for value in pipeline.each.get(name, ()))
        missing = default is inspect.Parameter.empty
        found.append(
            Parameter(
                name=name,
                type=kind.name,
                default=None if missing else plain(default),
                required=missing and not each,
                optional=kind.optional,
                choices=kind.choices,
                each=each,
                description=told.get(name, ""),
            )
        )
    return tuple(found)


def read_parameters(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values for a pipeline from text (of a command line or form) or JSON values, with the defaults of the others.

    A list may be JSON text or have commas between. Parameters that the pipeline fans out over stay out unless given.

    Raises
    ------
    UsageError, NotFoundError
        A value that does not fit, one that is missing, or a name that is no parameter.
    """
    kinds = _kinds(pipeline)
    for name in given:
        if name not in kinds:
            raise NotFoundError.among(f"parameter of {pipeline.name}", name, kinds)
    found = {}
    for name, (kind, default) in kinds.items():
        if name in given:
            found[name] = _read(pipeline, name, kind, given[name])
        elif name in pipeline.each:
            continue
        elif default is inspect.Parameter.empty:
            raise UsageError(f"pipeline {pipeline.name!r} needs a value for {name!r}: --param {name}=…")
        else:
            found[name] = default
    return found


def plain(value: Any) -> Any:
    """A parameter's value as a JSON value: dates and times as text."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


def notes_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, each resolved on its own; one that cannot be resolved stays the text it is."""
    function = inspect.unwrap(function)
    found: dict[str, Any] = {}
    for name, note in getattr(function, "__annotations__", {}).items():
        found[name] = note
        if isinstance(note, str):
            shell = types.SimpleNamespace(__annotations__={name: note})
            try:
                found[name] = typing.get_type_hints(shell, getattr(function, "__globals__", {}))[name]
            except Exception:  # noqa: BLE001 - an annotation may be any expression, of names imported for typing only
                continue
    return found


def _kinds(pipeline: Pipeline) -> dict[str, tuple[_Kind, Any]]:
    notes = notes_of(pipeline.function)
    found = {}
    for name, parameter in pipeline.signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise pipeline.refuse(f"its parameters are given by name, so {str(parameter)!r} is not possible")
        note = notes.get(name, parameter.annotation)
        if note is parameter.empty:
            note = str if parameter.default in (parameter.empty, None) else type(parameter.default)
        found[name] = _kind(pipeline, name, note), parameter.default
    return found


def _kind(pipeline: Pipeline, name: str, note: Any, many: bool = False) -> _Kind:
    origin, arguments = typing.get_origin(note), typing.get_args(note)
    if origin in (typing.Union, types.UnionType) and type(None) in arguments and len(arguments) == 2:
        (inner,) = [each for each in arguments if each is not type(None)]
        return _kind(pipeline, name, inner)._replace(optional=True)
    if origin is list and not many:
        return _kind(pipeline, name, arguments[0], many=True)._replace(many=True)
    if note is list and not many:
        return _Kind(str, many=True)
    if origin is Literal and len({type(each) for each in arguments}) == 1 and type(arguments[0]) in (str, int):
        return _Kind(type(arguments[0]), choices=arguments)
    if note in _NAMES:
        return _Kind(note)
    raise pipeline.refuse(
        f"its parameter {name!r} is {note if isinstance(note, str) else getattr(note, '__name__', note)}; parameters"
        " are str, int, float, bool, date, datetime, a Literal, or a list of these"
    )


def _read(pipeline: Pipeline, name: str, kind: _Kind, given: Any) -> Any:
    if given is None or (kind.optional and given in ("", "null", "none")):
        if kind.optional:
            return None
        raise UsageError(f"pipeline {pipeline.name!r}: {name!r} takes {_words(kind)}, got nothing")
    if not kind.many:
        return _one(pipeline, name, kind, given)
    if isinstance(given, str):
        given = _split(given)
    if not isinstance(given, list | tuple):
        given = [given]
    return [_one(pipeline, name, kind, each) for each in given]


def _split(text: str) -> Any:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _one(pipeline: Pipeline, name: str, kind: _Kind, given: Any) -> Any:
    try:
        value = _convert(kind.type, given)
    except (ValueError, OverflowError):
        value = None
    if value is None:
        raise UsageError(f"pipeline {pipeline.name!r}: {name!r} takes {_words(kind)}, got {given!r}")
    if kind.choices and value not in kind.choices:
        choices = ", ".join(map(str, kind.choices))
        raise UsageError(f"pipeline {pipeline.name!r}: {name!r} is one of {choices}, got {given!r}")
    return value


def _words(kind: _Kind) -> str:
    return f"a list, each of them {_WORDS[kind.type]}" if kind.many else _WORDS[kind.type]


def _convert(wanted: type, given: Any) -> Any:
    """The value, or None or a ValueError if it is none of the type."""
    if wanted is str:
        return given if isinstance(given, str) else None
    if wanted is bool:
        word = given.strip().lower() if isinstance(given, str) else given
        return word if isinstance(word, bool) else True if word in _YES else False if word in _NO else None
    if isinstance(given, bool):
        return None
    if wanted is int:
        return int(given) if isinstance(given, str) else given if isinstance(given, int) else None
    if wanted is float:
        number = float(given) if isinstance(given, str | int | float) else math.nan
        return number if math.isfinite(number) else None
    return _moment(wanted, given)


def _moment(wanted: type, given: Any) -> date | datetime | None:
    if wanted is datetime:
        if isinstance(given, str):
            from_iso(given)  # refuses what names no time zone
            return datetime.fromisoformat(given.strip())
        return given if isinstance(given, datetime) else None
    if isinstance(given, str):
        return date.fromisoformat(given.strip())
    return given if isinstance(given, date) and not isinstance(given, datetime) else None


def _descriptions(pipeline: Pipeline | Step) -> dict[str, str]:
    """Lines such as ``days: how many`` of a docstring, or the line below ``days`` where it stands alone."""
    lines = (inspect.getdoc(pipeline.function) or "").splitlines()
    found = {}
    for number, line in enumerate(lines):
        match = re.match(r"\s*(?::param\s+)?(\w+)(?:\s*\([^)]*\))?\s*(?::\s*(.*))?$", line)
        if match is None or match[1] not in pipeline.signature.parameters or match[1] in found:
            continue
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if match[2]:
            found[match[1]] = match[2].strip()
        elif below.startswith("    ") and below.strip():
            found[match[1]] = below.strip()
    return found


__all__ = ["Parameter", "notes_of", "parameters", "plain", "read_parameters"]
