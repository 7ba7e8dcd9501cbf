"""The little that is read straight from a Delta log: finding out that there is nothing to do must cost nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

LOG = "_delta_log"
NOTE = "headway"  # the key of the note in a commit's metadata
_COMMIT = re.compile(r"(\d{20})\.json")


def versions(folder: Path) -> list[int]:
    """The versions of the table in ``folder``, in order; none if there is no table.

    An empty log file is no version: a power cut can leave one for a commit that was never confirmed.
    """
    try:
        entries = list((folder / LOG).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = ((_COMMIT.fullmatch(entry.name), entry) for entry in entries)
    return sorted(int(match[1]) for match, entry in found if match and entry.stat().st_size)


def commit_file(folder: Path, version: int) -> Path:
    return folder / LOG / f"{version:020d}.json"


def read_note(folder: Path, version: int) -> dict[str, str]:
    """The note of a version; empty if the commit is not one of ours."""
    for line in commit_file(folder, version).read_text("utf-8").splitlines():
        action: dict[str, Any] = json.loads(line)
        if "commitInfo" in action:
            note: dict[str, str] = json.loads(action["commitInfo"].get(NOTE, "{}"))
            return note
    return {}
