"""The deployment log: who made which version answer, when and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from headway.define.records import Deployment
from headway.errors import StoreBusy
from headway.metadata._database import Database
from headway.metadata._tables import deployments

Lines = list[Deployment]  # named, because `list` is a method below


@dataclass(frozen=True, slots=True)
class Deployments:
    """An append-only log; ``headway.metadata.live`` and its neighbours say what the lines amount to.

    Ids grow in the order in which lines become visible, so a reader that polls ``last_id`` misses none.
    """

    _database: Database

    def append(
        self,
        *,
        action: Literal["promote", "rollback", "hold", "release"],
        model: str,
        segment: str | None,
        version: int | None,
        by: str,
        at: int,
        why: str,
        figures: Mapping[str, Any] | None = None,
        expected_last: int | None = None,
    ) -> Deployment:
        """Write one line and return it with its id.

        ``expected_last`` is the id of the model's last line as the caller knows it (0: none); None writes regardless.

        Raises:
            StoreBusy: the model's log has another line by now; read it again and decide again.
        """
        line = Deployment(0, model, segment, version, action, by, at, why, dict(figures or {}))
        return self._database.write_again(lambda connection: self._append(connection, line, expected_last))

    def list(self, model: str) -> Sequence[Deployment]:
        """The lines of one model, oldest first."""
        statement = (
            sa.select(deployments).where(self._database.here(deployments, model=model)).order_by(deployments.c.id)
        )
        with self._database.read() as connection:
            return [_deployment(row) for row in connection.execute(statement)]

    def recent(self, before: int | None = None, limit: int = 100) -> Sequence[Deployment]:
        """Lines of all models, newest first, with ids below ``before``."""
        condition = self._database.here(deployments)
        if before is not None:
            condition = sa.and_(condition, deployments.c.after < before, deployments.c.id < before)
        # `after` grows with the id and is indexed by project and environment.
        statement = sa.select(deployments).where(condition).order_by(deployments.c.after.desc()).limit(limit)
        with self._database.read() as connection:
            return [_deployment(row) for row in connection.execute(statement)]

    def lines(self) -> dict[str, Lines]:
        """The lines of every model that has any, oldest first, in one query."""
        columns = [deployments.c[name] for name in Deployment.__struct_fields__]
        statement = sa.select(*columns).where(self._database.here(deployments)).order_by(deployments.c.after)
        found: dict[str, Lines] = {}
        with self._database.read() as connection:
            for row in connection.execute(statement):
                found.setdefault(row.model, []).append(_deployment(row))
        return found

    def last_id(self, model: str | None = None) -> int:
        """The id of the last line of ``model``, or of all models; 0 for an empty log. Cheap enough to poll."""
        with self._database.read() as connection:
            return self._last(connection, model)

    def _append(self, connection: sa.Connection, line: Deployment, expected_last: int | None) -> Deployment:
        # The chain's end is read first: a line committed after that takes its place in the chain, so the insert fails
        # and is tried again; one committed before is seen by the check.
        end = self._last(connection, None)
        last = self._last(connection, line.model)
        if expected_last is not None and last != expected_last:
            raise StoreBusy(
                f"somebody else has changed what is live for {line.model!r} (line {last} of the deployment log); "
                f"look at `headway models show {line.model}` and try again"
            )
        values = msgspec.structs.asdict(line)
        del values["id"]
        values["figures"] = msgspec.json.encode(line.figures).decode()
        inserted = connection.execute(
            self._database.insert(deployments, after=end, **values).returning(deployments.c.id)
        ).scalar_one()
        return msgspec.structs.replace(line, id=inserted, figures=msgspec.json.decode(values["figures"]))

    def _last(self, connection: sa.Connection, model: str | None) -> int:
        here = self._database.here
        condition = here(deployments) if model is None else here(deployments, model=model)
        return connection.execute(sa.select(sa.func.max(deployments.c.id)).where(condition)).scalar() or 0


def _deployment(row: sa.Row[Any]) -> Deployment:
    return Deployment(
        id=row.id,
        model=row.model,
        segment=row.segment,
        version=row.version,
        action=row.action,
        by=row.by,
        at=row.at,
        why=row.why,
        figures=msgspec.json.decode(row.figures),
    )
