"""Parameters as the fields of a form, and what was sent as parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headway.console.views.runs import as_text
from headway.define import Pipeline
from headway.define._parameters import Parameter, read_parameters
from headway.errors import NotFoundError, UsageError

PREFIX = "p."
_HARMLESS = {"int": "0", "float": "0", "bool": "false", "date": "2000-01-01", "datetime": "2000-01-01T00:00:00Z"}


@dataclass(frozen=True, slots=True)
class ParameterField:
    """One field: how it is asked for, what stands in it, and what is wrong with that."""

    parameter: Parameter
    value: str
    problem: str = ""

    @property
    def name(self) -> str:
        return PREFIX + self.parameter.name

    @property
    def kind(self) -> Literal["select", "checkbox", "number", "date", "text"]:
        """The control that takes it."""
        p = self.parameter
        if p.choices:
            return "select"
        if p.type == "bool":
            return "checkbox"
        if p.type in ("int", "float"):
            return "number"
        return "date" if p.type == "date" else "text"

    @property
    def hint(self) -> str:
        """What a person may want to know before they fill it in."""
        p = self.parameter
        said = [p.description.rstrip(".")] if p.description else []
        if p.each:
            shown = ", ".join(as_text(value) for value in p.each[:6])
            more = f" and {len(p.each) - 6} more" if len(p.each) > 6 else ""
            said.append(f"left empty: once for each of {shown}{more}")
        elif p.optional:
            said.append("may be left empty")
        if p.type.startswith("list["):
            said.append("several values with commas between")
        if p.type == "datetime":
            said.append("with a time zone, such as 2024-01-31T13:00:00Z")
        return "; ".join(said)


def fields(
    parameters: Sequence[Parameter], given: Mapping[str, Any], problems: Mapping[str, str] | None = None
) -> list[ParameterField]:
    """The form of some parameters; ``given`` are texts or JSON values that go before the defaults."""
    problems = problems or {}
    return [ParameterField(p, _written(p, given.get(p.name, p.default)), problems.get(p.name, "")) for p in parameters]


def _written(parameter: Parameter, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple) and parameter.type.startswith("list["):
        return ", ".join(as_text(item) for item in value)
    return as_text(value)


def sent(parameters: Sequence[Parameter], form: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The texts of a form by parameter. An empty field is one that was left out, but for a text that may be empty."""
    found = {}
    for p in parameters:
        texts = form.get(PREFIX + p.name)
        if not texts:
            continue
        text = texts[-1].strip()
        may_be_empty = p.optional or (p.type == "str" and not p.required and not p.each and not p.choices)
        if text or may_be_empty:
            found[p.name] = text
    return found


def read(pipeline: Pipeline, parameters: Sequence[Parameter], given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:  # fmt: skip  # noqa: E501
    """The values of a form, and what is wrong with it by parameter: one sentence for each that has to change."""
    problems: dict[str, str] = {}
    texts = dict(given)
    for _ in range(len(parameters) + 1):
        try:
            values = read_parameters(pipeline, texts)
        except (UsageError, NotFoundError) as error:
            name = _blamed(str(error), parameters, problems)
            if name is None:
                return {}, {**problems, "": str(error)}
            problems[name] = _said(str(error), name)
            texts[name] = _harmless(next(p for p in parameters if p.name == name))
        else:
            return ({}, problems) if problems else (values, {})
    return {}, problems


def _blamed(message: str, parameters: Sequence[Parameter], known: Mapping[str, str]) -> str | None:
    names = [p.name for p in parameters if p.name not in known]
    found = [(message.find(repr(name)), name) for name in names if repr(name) in message]
    return min(found)[1] if found else None


def _said(message: str, name: str) -> str:
    if "needs a value" in message:
        return "It needs a value."
    rest = message.partition(f"{name!r} ")[2]
    text = re.sub(r"\s+", " ", rest or message)
    return f"It {text}." if rest else text


def _harmless(parameter: Parameter) -> str:
    return str(parameter.choices[0]) if parameter.choices else _HARMLESS.get(parameter.type, "x")
