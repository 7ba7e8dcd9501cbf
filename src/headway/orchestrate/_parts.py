"""The parts an environment is made of, built once by ``project`` and handed to every stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headway.clock import Clock, DataClock
from headway.data.binding import Binder, load_events
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.data.online import OnlineStore
from headway.define._collect import Declarations
from headway.define.records import Events, ViewPlan
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
    progress: Progress = no_progress
    _events: dict[tuple[str, int], Events] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.settings.root

    def events(self, plan: ViewPlan, version: int, tables: Mapping[str, int] | None = None) -> Events:
        """The events of a view, kept for the life of this object: two aliases and a refresh read them once.

        ``tables`` pins lake tables to versions; ``version`` is theirs.
        """
        at = (plan.fingerprint, version)
        if at not in self._events:
            for stale in [k for k in self._events if k[0] == plan.fingerprint]:
                del self._events[stale]
            self._events[at] = load_events(plan, self.lake, self.engine, tables)
        return self._events[at]

    def rows_changed(self) -> None:
        """Forget what was learned from the rows, because there are others now."""
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
