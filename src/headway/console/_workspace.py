"""The project behind the console, read again when its files change."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from headway.clock import Clock, monotonic
from headway.define._collect import Declarations
from headway.errors import HeadwayError
from headway.project import Project
from headway.settings import FILE, Settings

_LOOK_EVERY = 1.0  # seconds between two looks at the files
_LINGER = 120.0  # seconds that a project out of use is kept open for the pages that still read from it

Stamps = dict[str, tuple[int, int]]

log = logging.getLogger("headway.console")


class Workspace:
    """One project and environment for as long as the process lives. Threads may share it.

    ``project`` is a whole new one whenever a file of the project's package has changed and still imports; else the one
    that imported last stays, and ``problem`` says in a sentence what is wrong. If none ever imported there is a project
    without declarations, so that what was recorded can be looked at.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock
        self._lock = threading.RLock()
        self._project: Project | None = None
        self._retired: list[tuple[float, Project]] = []
        self._stamps: Stamps = {}
        self._looked = float("-inf")
        self._problem: str | None = None
        self._settings_file = _stamp(settings.root / FILE)
        self._restart = False

    @property
    def project(self) -> Project:
        """The project as its files are now, or were when they last made sense."""
        with self._lock:
            now = monotonic()
            if self._project is None or now - self._looked >= _LOOK_EVERY:
                self._look()
                self._looked = monotonic()
                self._close_retired(now)
            assert self._project is not None
            return self._project

    @property
    def problem(self) -> str | None:
        """What a person should know about the project's files, in a sentence."""
        _ = self.project
        if self._problem:
            return self._problem
        if self._restart:
            return f"{FILE} has changed since this console was started; stop `headway up` and start it again to use it"
        return None

    def close(self) -> None:
        """Let go of databases and files."""
        with self._lock:
            for project in [p for _, p in self._retired] + ([self._project] if self._project else []):
                project.close()
            self._retired, self._project = [], None

    def _look(self) -> None:
        self._restart = _stamp(self.settings.root / FILE) != self._settings_file
        stamps = _stamps(self.settings)
        if self._project is not None and stamps == self._stamps:
            return
        self._stamps = stamps
        project = Project(self.settings, self._clock)
        try:
            with _package_forgotten(self.settings.definitions):
                _ = project.declarations
            _ = project.parts
            self._problem = None
        except HeadwayError as error:
            self._problem = self.settings.redact(str(error))
            log.warning("the project does not import: %s", self._problem)
            if self._project is not None:
                return
            project.__dict__["declarations"] = Declarations(self.settings.definitions)
            _ = project.parts
        if self._project is not None:
            self._retired.append((monotonic(), self._project))
        self._project = project

    def _close_retired(self, now: float) -> None:
        for since, project in list(self._retired):
            if now - since > _LINGER:
                self._retired.remove((since, project))
                project.close()


@contextlib.contextmanager
def _package_forgotten(package: str) -> Iterator[None]:
    """Import the project's package anew; if that fails, what was imported before is put back."""
    top = package.partition(".")[0]
    before: dict[str, ModuleType] = {
        name: module for name, module in sys.modules.copy().items() if name.partition(".")[0] == top
    }
    for name in before:
        del sys.modules[name]
    try:
        yield
    except BaseException:
        for name in [n for n in sys.modules.copy() if n.partition(".")[0] == top]:
            del sys.modules[name]
        sys.modules.update(before)
        raise


def _stamps(settings: Settings) -> Stamps:
    """Size and time of every file the declarations may come from."""
    folder = settings.root / settings.definitions.partition(".")[0]
    return {str(file): _stamp(file) for file in folder.rglob("*.py") if "__pycache__" not in file.parts}


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return (-1, -1)
    return (found.st_size, found.st_mtime_ns)
