"""The parts an environment is made of, built once by ``project`` and handed to every stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headway.clock import Clock, DataClock
from headway.data.binding import Binder, EventParts
from headway.data.compute import PartedView
from headway.data.engine import Engine, Workspace, needed
from headway.data.lake import Lake
from headway.data.online import OnlineStore
from headway.define._collect import Declarations
from headway.define.records import ViewPlan
from headway.errors import DataError
from headway.metadata import Metadata
from headway.registry import Registry
from headway.settings import Settings

Progress = Callable[[str, int, int], None]  # what, done, total (0: unknown)


def no_progress(what: str, done: int, total: int) -> None:
    """The progress of somebody who does not watch."""


@dataclass(eq=False)
class Parts:
    """One environment's settings, declarations and backends."""

    settings: Settings
    declarations: Declarations
    clock: Clock
    engine: Engine
    lake: Lake
    binder: Binder
    metadata: Metadata
    registry: Registry
    open_online: Callable[[bool], OnlineStore]  # argument: read-only
    workspace: Workspace
    progress: Progress = no_progress
    changes: int = 0  # how often rows were other ones
    _views: dict[tuple[str, int], tuple[PartedView, int]] = field(default_factory=dict)  # with the room they take

    @property
    def root(self) -> Path:
        return self.settings.root

    def view(self, plan: ViewPlan, version: int | None = None, tables: Mapping[str, int] | None = None) -> PartedView:
        """A view's events, ready for questions; they are kept for the next one as long as there is room.

        ``tables`` pins lake tables to versions, which are the newest by default; ``version`` is theirs.
        """
        at = (plan.fingerprint, self.source_version(plan) if version is None else version)
        if at in self._views:
            self._views[at] = self._views.pop(at)  # the last used comes last
            return self._views[at][0]
        for stale in [key for key in self._views if key[0] == plan.fingerprint]:
            self._forget(stale)
        found = PartedView(plan, EventParts.open(plan, self.lake, self.engine, self.workspace, tables))
        whole = found.events.whole
        size = 0 if whole is None else needed(len(whole), len(whole.values))
        taken = self.workspace.room.take(size)
        while not taken and self._views:
            self._forget(next(iter(self._views)))
            taken = self.workspace.room.take(size)
        self._views[at] = (found, size if taken else 0)
        return found

    def _forget(self, at: tuple[str, int]) -> None:
        self.workspace.room.give_back(self._views.pop(at)[1])

    def rows_changed(self) -> None:
        """Forget what was learned from the rows, because there are others now."""
        self.changes += 1
        self.binder.forget()
        if isinstance(self.clock, DataClock):
            self.clock.reset()

    def table_versions(self, plan: ViewPlan) -> dict[str, int]:
        """The lake tables a view reads, with their newest versions."""
        found = {}
        for table in plan.tables:
            version = self.lake.version(table)
            if version is None:
                raise DataError(
                    f"view {plan.name!r} reads {table!r}, which is not in the lake yet; `headway run` copies it"
                )
            found[table] = version
        return found

    def source_version(self, plan: ViewPlan) -> int:
        """A number that grows whenever the data behind a view changes."""
        return source_version(self.table_versions(plan))


def source_version(tables: Mapping[str, int]) -> int:
    """Table versions as one growing number: every version only grows, so their sum does."""
    return sum(version + 1 for version in tables.values())
