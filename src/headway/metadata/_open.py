"""Opening the platform's own records."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from headway.metadata._alerts import Alerts
from headway.metadata._audit import Audit
from headway.metadata._database import Database, connect
from headway.metadata._deployments import Deployments
from headway.metadata._figures import Figures
from headway.metadata._projections import Projections
from headway.metadata._published import Published
from headway.metadata._runs import Runs
from headway.metadata._schedules import Schedules
from headway.metadata._schema import ensure_schema
from headway.metadata._stages import Stages
from headway.metadata._versions import Versions
from headway.plugins import maturity


@dataclass(frozen=True, slots=True)
class Metadata:
    """The records of one project and environment, by topic. Threads may share it; a forked child must not."""

    project: str
    env: str
    versions: Versions
    deployments: Deployments
    stages: Stages
    projections: Projections
    runs: Runs
    schedules: Schedules
    figures: Figures
    alerts: Alerts
    audit: Audit
    published: Published
    _database: Database

    def close(self) -> None:
        """Close the connections; a call after this one opens new ones."""
        self._database.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@maturity("stable")
def open_metadata(url: str, project: str, env: str) -> Metadata:
    """Open the metadata at ``url`` (``sqlite:///path``, made if missing, or ``postgresql://…``), migrated if need be.

    Every write is on disk when its call returns, and a process killed in the middle of one leaves nothing of it.

    Raises:
        SettingsError: the URL is not one of these.
        StoreBusy: somebody else holds the database for longer than 10 s.
        StoreError: it cannot be reached, read, written to, or was written by a newer headway.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, open_metadata(f"sqlite:///{folder}/m.db", "trips", "local") as m:
    ...     stored = m.stages.put("train", "trip_duration", "d1", {"version": 1}, at=0)
    ...     m.stages.get("train", "trip_duration").output
    {'version': 1}
    """
    database = connect(url, project, env)
    try:
        ensure_schema(database)
    except BaseException:
        database.engine.dispose()
        raise
    return Metadata(
        project=project,
        env=env,
        versions=Versions(database),
        deployments=Deployments(database),
        stages=Stages(database),
        projections=Projections(database),
        runs=Runs(database),
        schedules=Schedules(database),
        figures=Figures(database),
        alerts=Alerts(database),
        audit=Audit(database),
        published=Published(Stages(database)),
        _database=database,
    )
