"""Arguments on their way to a step: what stands for stored values becomes the values."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.define._parameters import notes_of
from headway.define._step import Step
from headway.define.run_records import Artifact
from headway.errors import DataError
from headway.orchestrate.steps._store import ArtifactStore
from headway.orchestrate.steps._values import ANY, Unfit, check, element, from_json


@dataclass(frozen=True, slots=True)
class Stored:
    """Stands in an argument for what a task gave, until it is read."""

    artifact: Artifact
    producer: Step | None


@dataclass(frozen=True, slots=True)
class Joined:
    """Stands for the list of what the items of a fan-out gave; ``artifact`` is the list of their digests."""

    items: tuple[Stored, ...]
    artifact: Artifact


def returned(step: Step | None) -> Any:
    """How a step's result is annotated."""
    return ANY if step is None else notes_of(step.function).get("return", ANY)


def load(store: ArtifactStore, value: Any, note: Any = ANY, folder: Path | None = None) -> Any:
    """A copy of an argument that is its reader's own, with what was stored read in.

    A stored value comes back as its reader annotates it, else as its maker did. Files are copied into ``folder``.

    Raises
    ------
    Unfit
        A stored value is not what ``note`` says.
    ArtifactError
        A stored value is not there any more.
    """
    if isinstance(value, Stored):
        return _read(store, value, note, folder)
    if isinstance(value, Joined):
        return from_json([_read(store, each, element(note), folder) for each in value.items], ANY)
    if type(value) in (list, tuple):
        return type(value)(load(store, each, element(note), folder) for each in value)
    if type(value) is dict:
        return {key: load(store, each, ANY, folder) for key, each in value.items()}
    if type(value).__module__.partition(".")[0] in ("pyarrow", "polars"):
        return value  # cannot be changed
    return copy.deepcopy(value)


def load_all(store: ArtifactStore, step: Step, arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """All arguments of a call, checked against their annotations where something was read in.

    Raises
    ------
    DataError
        One is not what its annotation says; the message names the argument.
    """
    notes, found = notes_of(step.function), {}
    for name, value in arguments.items():
        note = notes.get(name, ANY)
        try:
            found[name] = load(store, value, note, folder)
            if holds_stored(value):
                check(found[name], note)
        except Unfit as error:
            raise DataError(f"its argument {name!r} does not fit: {error}") from None
    return found


def portable(value: Any) -> Any:
    """An argument that another process can take in: steps it would not find stay behind, with their annotations."""
    if isinstance(value, Stored):
        return value if value.producer is None or value.producer.findable else Stored(value.artifact, None)
    if isinstance(value, Joined):
        return Joined(tuple(map(portable, value.items)), value.artifact)
    if type(value) in (list, tuple):
        return type(value)(map(portable, value))
    return {key: portable(each) for key, each in value.items()} if type(value) is dict else value


def holds_stored(value: Any) -> bool:
    """Whether something in an argument was made by a step."""
    if type(value) in (list, tuple, dict):
        return any(map(holds_stored, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Stored | Joined)


def _read(store: ArtifactStore, stored: Stored, note: Any, folder: Path | None) -> Any:
    made = returned(stored.producer)
    if stored.artifact.type == "json":
        return _as_read(store, stored.artifact, store.get(stored.artifact, made), note)
    return store.get(stored.artifact, made if note is ANY else note, folder)


def _as_read(store: ArtifactStore, artifact: Artifact, value: Any, note: Any) -> Any:
    """A value as its maker meant it, if it is what the reader wants; else what JSON gives the reader."""
    try:
        check(value, note)
    except Unfit:
        try:
            return store.get(artifact, note)
        except Unfit:
            pass
        raise
    return value
