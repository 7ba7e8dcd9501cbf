"""The key of the cache: everything that what a step gives depends on, kept so that a change can be told in words."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headway.define._code import Reach, reach, top_distribution
from headway.define._step import Step
from headway.define.run_records import StepRecord
from headway.orchestrate.steps._load import Joined, Stored, holds_stored, returned
from headway.orchestrate.steps._values import digest_of, fingerprint, said

_LONGEST_TEXT = 200
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Key:
    """``digest`` of ``made_of``; ``inputs`` are the digests of the artifacts that go in, by argument."""

    digest: str
    made_of: dict[str, Any]
    inputs: dict[str, str]


@dataclass(frozen=True)
class Code:
    """The part of a step's key that is the same for all its calls in a run."""

    code: str
    libraries: dict[str, str]
    returns: str


def code_of(step: Step, package: str) -> Code:
    """What a step computes with: to be taken before anything runs, as code may fill containers it reaches."""
    found: Reach = reach(step.function, [package.partition(".")[0]])
    return Code(found.code, versions(found.libraries), said(returned(step)))


def versions(libraries: Mapping[str, str]) -> dict[str, str]:
    """Libraries with their versions, and those that they need themselves; Python is one of them.

    headway counts with its own version only: it brings half the world along, and steps reach little of it.
    """
    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for name, version in libraries.items():
        if name == "headway":
            found[name] = version
        else:
            found.update(_needed(top_distribution(name)) or {name: version})
    return dict(sorted(found.items()))


def key_of(step: Step, code: Code, arguments: Mapping[str, Any], after: Mapping[str, Any]) -> Key:
    """The key of a call; ``after`` is what it waits for besides its arguments, by the key of the call that gave it.

    Raises
    ------
    Unfit
        An argument has no content that could be compared.
    """
    parameters: dict[str, str] = {}
    inputs: dict[str, str] = {}
    for name, value in arguments.items():
        if not isinstance(value, Stored | Joined):
            parameters[name] = _short(_text(name, value, inputs))
        else:
            inputs[name] = value.artifact.digest
    for key, value in after.items():
        _text(f"after {key}", value, inputs)
    made_of = {
        "code": code.code,
        "libraries": code.libraries,
        "parameters": parameters,
        "inputs": inputs,
        "returns": code.returns,
    }
    text = json.dumps([step.name, made_of], sort_keys=True, separators=(",", ":"))
    return Key(digest_of("step", text.encode()), made_of, inputs)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is different between two keys, in words; nothing if they are the same."""
    return "; ".join(_changes(before, now))


def why_again(last: StepRecord | None, made_of: Mapping[str, Any]) -> str:
    """Why a call that no earlier one answers runs; ``last`` is the newest record of a call like it that was done."""
    if last is None:
        return "not done yet"
    if not last.made_of:
        return f"run {last.run} did not record what it depended on"
    return changes(last.made_of, made_of) or f"what it gave in run {last.run} is no longer there"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if before.get("code") != now["code"]:
        yield "the code it reaches changed"
    for name, old, new in _differences(before, now, "libraries"):
        yield f"library {name} {old or 'was not used'} → {new or 'is not used'}"
    for name, old, new in _differences(before, now, "parameters"):
        yield f"parameter {name}: {old or 'none'} → {new or 'none'}"
    for name, old, new in _differences(before, now, "inputs"):
        what = f"what {name} gave" if name.startswith("after ") else f"input {name}"
        yield f"{what.replace('what after ', 'what ')} {'changed' if old and new else 'is new' if new else 'is gone'}"
    if before.get("returns") != now["returns"]:
        yield f"what it returns is annotated {now['returns']}, not {before.get('returns')}"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], part: str) -> Iterator[tuple[str, str, str]]:
    old, new = before.get(part, {}), now[part]
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield name, old.get(name, ""), new.get(name, "")


def _text(name: str, value: Any, inputs: dict[str, str]) -> str:
    """A text for an argument; stored values inside it become inputs of their own, and stand in it by name."""
    if isinstance(value, Stored | Joined):
        inputs[name] = value.artifact.digest
        return f"<{name}>"
    if not holds_stored(value):
        return fingerprint(value)
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return json.dumps({str(k): _text(f"{name}[{k}]", each, inputs) for k, each in pairs}, sort_keys=True)


def _short(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:40]}… ({digest_of('text', text.encode())})"


@functools.lru_cache(maxsize=256)
def _needed(distribution: str) -> Mapping[str, str]:
    """A distribution and all that it needs, installed ones only, with their versions."""
    found: dict[str, str] = {}
    left = [distribution]
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            one = importlib.metadata.distribution(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
        found[name] = one.version
        needs = [line for line in one.requires or () if "extra ==" not in line]
        left += [match[0] for line in needs if (match := _NAME.match(line))]
    return found
