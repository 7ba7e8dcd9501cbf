"""One attempt of a step: read what goes in, call the function, keep what comes out."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headway.define._step import Step, active_project, tracing
from headway.define.run_records import Artifact
from headway.errors import HeadwayError
from headway.orchestrate.steps._load import load_all, returned
from headway.orchestrate.steps._store import ArtifactStore
from headway.orchestrate.steps._values import Unfit

_OWN = str(Path(__file__).resolve().parents[2])


class Reply(msgspec.Struct, frozen=True):
    """What came of an attempt: an artifact, or one sentence about what went wrong."""

    artifact: Artifact | None = None
    error: str = ""
    refused: bool = False


def attempt(
    store: ArtifactStore, step: Step, arguments: Mapping[str, Any], folder: Path
) -> tuple[Reply, BaseException | None]:
    """What came of it, and the exception if one was raised. Files that go in are copied into ``folder``."""
    try:
        with tracing(None), active_project(None):
            value = call(step, load_all(store, step, arguments, folder))
        return Reply(artifact=keep(store, step, value)), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary to the project's own code
        refused = isinstance(error, HeadwayError) and error.exit_code == 3
        return Reply(error=in_words(error), refused=refused), error


def call(step: Step, arguments: Mapping[str, Any]) -> Any:
    """Call the function with arguments by name, the positional ones in their places."""
    bound = step.signature.bind_partial()
    bound.arguments.update({name: arguments[name] for name in step.signature.parameters if name in arguments})
    return step.function(*bound.args, **bound.kwargs)


def keep(store: ArtifactStore, step: Step, value: Any) -> Artifact:
    """Keep what a step returned.

    Raises
    ------
    Unfit
        It cannot be kept, or is not what the annotation says.
    """
    try:
        return store.put(value, returned(step))
    except Unfit as error:
        raise Unfit(f"what it returned does not fit: {error}") from None


def in_words(error: BaseException) -> str:
    """An exception as one line, with the place in the user's code."""
    text = " ".join(str(error).split())
    if isinstance(error, HeadwayError):
        return text
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OWN)]
    own = [frame for frame in frames if "-packages" not in frame.filename and "/lib/python" not in frame.filename]
    place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"
