"""What the stages of a run produced, so that the next run can tell what is up to date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from headway.metadata._database import Database
from headway.metadata._tables import stages


class StageResult(msgspec.Struct, frozen=True):
    """A stage that succeeded: ``digest`` of all its inputs, and what it gave, as JSON data."""

    stage: str
    target: str
    digest: str
    at: int
    output: Any


@dataclass(frozen=True, slots=True)
class Stages:
    """Results of stages that succeeded, by stage, target and digest. The one put last is the current one."""

    _database: Database

    def put(self, stage: str, target: str, digest: str, output: Any, at: int) -> StageResult:
        """Record a success. ``output`` is anything ``msgspec`` writes as JSON; the same digest again replaces it."""
        text = msgspec.json.encode(output).decode()
        key = {"stage": stage, "target": target, "digest": digest}
        self._database.replace(stages, key, at=at, output=text)
        return StageResult(stage, target, digest, at, msgspec.json.decode(text))

    def get(self, stage: str, target: str) -> StageResult | None:
        """The latest result."""
        return self._first(stage=stage, target=target)

    def find(self, stage: str, target: str, digest: str) -> StageResult | None:
        """The result for exactly these inputs, be it the latest or not."""
        return self._first(stage=stage, target=target, digest=digest)

    def history(self, stage: str, target: str) -> list[StageResult]:
        """All results of a stage for a target, in the order in which they were put."""
        condition = self._database.here(stages, stage=stage, target=target)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(stages).where(condition).order_by(stages.c.id))
            return [_result(row) for row in rows]

    def latest(self, *of: str) -> dict[tuple[str, str], StageResult]:
        """The latest result of every (stage, target), in one query; ``of`` these stages, if some are named."""
        newest = sa.select(sa.func.max(stages.c.id)).where(self._database.here(stages))
        if of:
            newest = newest.where(stages.c.stage.in_(of))
        statement = sa.select(stages).where(stages.c.id.in_(newest.group_by(stages.c.stage, stages.c.target)))
        with self._database.read() as connection:
            return {(row.stage, row.target): _result(row) for row in connection.execute(statement)}

    def last_id(self, *of: str) -> int:
        """A number that grows with every result of these stages; 0 if there is none. Cheap enough to poll."""
        statement = sa.select(sa.func.max(stages.c.id)).where(self._database.here(stages), stages.c.stage.in_(of))
        with self._database.read() as connection:
            return connection.execute(statement).scalar() or 0

    def _first(self, **values: str) -> StageResult | None:
        condition = self._database.here(stages, **values)
        with self._database.read() as connection:
            row = connection.execute(sa.select(stages).where(condition).order_by(stages.c.id.desc()).limit(1)).first()
        return None if row is None else _result(row)


def _result(row: sa.Row[Any]) -> StageResult:
    return StageResult(row.stage, row.target, row.digest, row.at, msgspec.json.decode(row.output))
