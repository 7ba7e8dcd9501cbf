"""What the tracking store (MLflow) has been told, so that a run with nothing new need not ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from headway.metadata._database import Database
from headway.metadata._tables import projected_logs, projections


class ProjectedVersion(msgspec.Struct, frozen=True):
    """Where a model version is found in a tracking store: its run, its registered model and the number there."""

    model: str
    version: int
    run_id: str
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Projections:
    """A notebook, not a truth: losing it costs one look at the tracking store. ``tracking`` names the store."""

    _database: Database

    def put(self, tracking: str, version: ProjectedVersion) -> None:
        """Note where a version went."""
        values = msgspec.structs.asdict(version)
        key = {"tracking": tracking, "model": values.pop("model"), "version": values.pop("version")}
        self._database.replace(projections, key, **values)

    def list(self, tracking: str, model: str) -> Mapping[int, ProjectedVersion]:
        """The versions of a model that the store knows."""
        columns = [projections.c[name] for name in ProjectedVersion.__struct_fields__]
        condition = self._database.here(projections, tracking=tracking, model=model)
        with self._database.read() as connection:
            return {
                row.version: ProjectedVersion(*row) for row in connection.execute(sa.select(*columns).where(condition))
            }

    def put_log(self, tracking: str, model: str, last_id: int) -> None:
        """Note up to which line of the deployment log the store's aliases are right."""
        self._database.replace(projected_logs, {"tracking": tracking, "model": model}, last_id=last_id)

    def logs(self, tracking: str) -> Mapping[str, int]:
        """For each model, the line of the deployment log that the store's aliases follow."""
        condition = self._database.here(projected_logs, tracking=tracking)
        statement = sa.select(projected_logs.c.model, projected_logs.c.last_id).where(condition)
        with self._database.read() as connection:
            return {row.model: row.last_id for row in connection.execute(statement)}
