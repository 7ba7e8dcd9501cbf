"""Deciding that a run has nothing to do from the digests of files, before anything heavy is imported."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headway.clock import WallClock, parse_clock
from headway.data import pushes
from headway.data.sources import content_digest
from headway.define._checks import TIMED_KINDS
from headway.settings import Settings

if TYPE_CHECKING:
    from headway.define import Source
    from headway.orchestrate._parts import Parts

_OWN = Path(__file__).resolve().parents[1]


def file_place(settings: Settings, source: Source) -> str | None:
    """The path of the files of a source in an environment; None if its rows are somewhere else."""
    other = settings.sources.get(source.name)
    return source.path if other is None else other.get("path")


class LastRun:
    """What the last run of an environment saw, if it did all it was asked.

    A run that was refused something is not remembered: a decision by hand may have made the way free since.
    """

    def __init__(self, settings: Settings, targets: tuple[str, ...]) -> None:
        self._settings, self._targets = settings, targets
        self._file = settings.home / "last_run.json"

    def holds(self) -> bool:
        """Whether a new run would find everything as it was; if not, it has to look closer."""
        try:
            last = json.loads(self._file.read_text())
            if last["targets"] != list(self._targets) or not self._stores_are_there():
                return False
            if last["valid_until"] is not None and WallClock().now() >= last["valid_until"]:
                return False
            unchanged: bool = last["inputs"] == self._inputs(last["patterns"]) and last["code"] == self._code()
            return unchanged
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def begin(self) -> str:
        """The state of code and settings before a run imports them; to be handed to ``remember``."""
        return self._code()

    def remember(self, begun: str, parts: Parts) -> None:
        """Note that a run did all it was asked, unless code or files changed under it."""
        patterns = sorted(
            path for source in parts.declarations.sources.values() if (path := file_place(parts.settings, source))
        )
        inputs = self._inputs(patterns)
        if begun != self._code():
            return
        state = {
            "targets": list(self._targets),
            "patterns": patterns,
            "inputs": inputs,
            "code": begun,
            "valid_until": _valid_until(parts),
        }
        temporary = self._file.with_suffix(".tmp")
        with temporary.open("w") as out:
            json.dump(state, out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(self._file)

    def _stores_are_there(self) -> bool:
        home = self._settings.home
        own = (
            (self._settings.lake, home / "lake"),
            (self._settings.metadata, home / "metadata.db"),
            (self._settings.online, home / "online"),
        )
        # What a server holds has to be asked: it may have lost it.
        elsewhere = self._settings.online is not None and not self._settings.online.startswith("lmdb:")
        return not elsewhere and all(path.exists() for setting, path in own if setting is None)

    def _inputs(self, patterns: Iterable[str]) -> list[str]:
        """A digest of the files of each pattern, and how much was pushed. Patterns are kept as declared: a project may
        be moved or copied."""
        root, cache = self._settings.root, self._settings.home / "digests.json"
        found = [sorted(map(Path, glob.glob(str(root / p), recursive=True))) for p in patterns]  # noqa: PTH207
        return [content_digest(files, cache) for files in found] + pushes.state(self._settings.home)

    def _code(self) -> str:
        """Project files by content; settings, the process environment's overrides, libraries and headway itself."""
        total = hashlib.blake2b(digest_size=16)
        root = self._settings.root
        package = root / self._settings.definitions
        files = sorted(package.rglob("*.py")) if package.is_dir() else [root / f"{self._settings.definitions}.py"]
        for file in [root / "headway.toml", *files]:
            total.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
        total.update(repr(sorted((k, v) for k, v in os.environ.items() if k.startswith("HEADWAY_"))).encode())
        total.update(f"{self._settings.env}{sys.version}".encode())
        for file in sorted(_OWN.rglob("*.py")):
            seen = file.stat()
            total.update(f"{file}{seen.st_size}{seen.st_mtime_ns}".encode())
        for folder in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
            total.update(f"{folder}{_installed(Path(folder))}".encode())
        return total.hexdigest()


def _installed(folder: Path) -> list[tuple[str, int]]:
    """What is installed in a folder and since when. Not the folder's own time: compiling a module changes that."""
    with os.scandir(folder) as entries:
        return sorted((e.name, e.stat().st_mtime_ns) for e in entries if e.name.endswith((".dist-info", ".pth")))


def _valid_until(parts: Parts) -> int | None:
    """When time alone makes something stale: the next refresh on a wall clock, at once if a check is about time;
    never on a clock that stands still. What is in no file has to be asked for: when it is due, or at once."""
    from headway.orchestrate.ingest import next_asking

    sources = parts.declarations.sources.values()
    others = [s for s in sources if not (s.query or s.pushed) and file_place(parts.settings, s) is None]
    if others and (parse_clock(parts.settings.clock) != "wall" or any(s.every is None for s in others)):
        return 0
    if parse_clock(parts.settings.clock) != "wall":
        return None
    now = parts.clock.now()
    if any(c.kind in TIMED_KINDS for s in parts.declarations.sources.values() for c in s.checks):
        return now
    plans = [parts.binder.view(v) for v in parts.declarations.views.values()]
    due = [p.r(now) + p.refresh + p.lag for p in plans if p.refresh is not None]
    due += [next_asking(parts, source) or now for source in others]
    newest = [parts.binder.newest_known(m.label.source) for m in parts.declarations.models.values()]
    if any(n is not None and n >= now for n in newest) or any(p.refresh is None and p.online for p in plans):
        return now
    return min(due, default=None)
