"""Who did what, besides deployments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from headway.define.run_records import AuditLine
from headway.metadata._database import Database, as_json, clean
from headway.metadata._tables import audit


@dataclass(frozen=True, slots=True)
class Audit:
    """An append-only log."""

    _database: Database

    def append(
        self,
        by: str,
        action: str,
        object: str,
        why: str = "",
        details: Mapping[str, Any] | None = None,
        *,
        at: int,
    ) -> AuditLine:
        """Write one line and return it with its id. ``action`` reads like ``"pause schedule"``."""
        said = as_json(dict(details or {}))
        values = {"at": at, "by": clean(by), "action": clean(action), "object": clean(object), "why": clean(why)}
        statement = self._database.insert(audit, **values, details=said).returning(audit.c.id)
        with self._database.write() as connection:
            id = connection.execute(statement).scalar_one()
        return AuditLine(id, at, clean(by), clean(action), clean(object), clean(why), msgspec.json.decode(said))

    def list(self, *, before: int | None = None, limit: int = 100) -> list[AuditLine]:
        """Lines, newest first, with ids below ``before``."""
        condition = self._database.here(audit)
        if before is not None:
            condition = sa.and_(condition, audit.c.id < before)
        columns = [audit.c[name] for name in AuditLine.__struct_fields__]
        statement = sa.select(*columns).where(condition).order_by(audit.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_line(row) for row in connection.execute(statement)]


def _line(row: sa.Row[Any]) -> AuditLine:
    values = dict(row._mapping)
    return AuditLine(**values | {"details": msgspec.json.decode(values["details"])})
