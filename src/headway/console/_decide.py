"""Promotions in a process of their own: one computes features and tells MLflow, which predictions beside it would feel.

As a program (``python -m headway.console._decide``) it reads one JSON object from standard input, writes one line of
JSON, and goes on telling MLflow of what was decided after that line was read.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

from headway import errors
from headway.console._workspace import Workspace
from headway.errors import HeadwayError, ProjectCodeError
from headway.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Decision:
    """A version that is to answer, for whom, and who says so."""

    model: str
    version: int
    segment: str | None
    why: str
    by: str


def promote(settings: Settings, decision: Decision) -> None:
    """Make a version answer, with its features materialized; returns when it is decided.

    Raises:
        HeadwayError: as ``ModelStage.promote`` does.
    """
    asked = {name: getattr(decision, name) for name in Decision.__slots__}
    answer = _child({"root": str(settings.root), "env": settings.env, "promote": asked})
    if "error" in answer:
        kind = getattr(errors, str(answer.get("kind")), HeadwayError)
        raise kind(answer["error"]) if issubclass(kind, HeadwayError) else HeadwayError(answer["error"])


def tell_mlflow(settings: Settings) -> None:
    """Have MLflow told of what was decided; nobody waits for it."""
    _start({"root": str(settings.root), "env": settings.env}, subprocess.DEVNULL)


def _child(asked: dict[str, Any]) -> dict[str, Any]:
    process = _start(asked, subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        line = said.readline()
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        raise ProjectCodeError("the promotion ended before it was decided; the console's log says why") from None
    return answer


def _start(asked: dict[str, Any], output: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=output,
        start_new_session=True,  # Ctrl-C in the terminal of `headway up` is not meant for a promotion under way
        text=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as told:  # it has ended: its answer is missing, too
        told.write(json.dumps(asked))
    # Somebody has to take note of its end.
    threading.Thread(target=process.wait, name="headway-decided", daemon=True).start()
    return process


def main() -> None:
    """Do what standard input asks."""
    asked = json.load(sys.stdin)
    workspace = Workspace(load_settings(asked["root"], asked["env"]))
    answer: dict[str, Any] = {}
    try:
        if "promote" in asked:
            decision = Decision(**asked["promote"])
            workspace.project.models.promote(
                decision.model, decision.version, decision.segment, why=decision.why, by=decision.by
            )
    except HeadwayError as error:
        answer = {"error": workspace.settings.redact(str(error)), "kind": type(error).__name__}
    with contextlib.suppress(OSError):  # nobody waits for it any more
        print(json.dumps(answer), flush=True)
    try:
        if not answer:
            with contextlib.suppress(HeadwayError):
                workspace.project.models.project_to_mlflow()
    finally:
        workspace.close()


if __name__ == "__main__":
    main()
