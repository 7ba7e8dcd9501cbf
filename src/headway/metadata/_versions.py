"""The model versions of a project and environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from headway.define.records import VersionRecord
from headway.errors import StoreBusy
from headway.metadata._database import Database
from headway.metadata._tables import versions


@dataclass(frozen=True, slots=True)
class Versions:
    """Version records, each written once. A number is never used for two versions of a model."""

    _database: Database

    def add(self, record: VersionRecord) -> VersionRecord:
        """Store ``record``; if the model has a version of this digest already, store nothing and return that one.

        Raises:
            StoreBusy: the number was taken by another version meanwhile; ask ``next_version`` again.
        """
        try:
            with self._database.write() as connection:
                connection.execute(self._insert(record))
            return record
        except sa.exc.IntegrityError:
            existing = self.by_digest(record.model, record.digest)
        if existing is None:
            raise StoreBusy(f"version {record.version} of {record.model!r} was taken by another training meanwhile")
        return existing

    def next_version(self, model: str) -> int:
        """One more than the greatest number in use; 1 for a model without versions."""
        with self._database.read() as connection:
            newest = connection.execute(
                sa.select(sa.func.max(versions.c.version)).where(self._database.here(versions, model=model))
            ).scalar()
        return (newest or 0) + 1

    def get(self, model: str, version: int) -> VersionRecord | None:
        """The record of one version."""
        return next(iter(self._records(model=model, version=version)), None)

    def by_digest(self, model: str, digest: str) -> VersionRecord | None:
        """The version whose training had exactly these inputs."""
        return next(iter(self._records(model=model, digest=digest)), None)

    def list(self, model: str) -> Sequence[VersionRecord]:
        """All versions of a model, oldest first."""
        return self._records(model=model)

    def models(self) -> tuple[str, ...]:
        """The names of all models that have a version, sorted."""
        statement = sa.select(versions.c.model).distinct().where(self._database.here(versions))
        with self._database.read() as connection:
            return tuple(sorted(connection.execute(statement).scalars()))

    def _insert(self, record: VersionRecord) -> sa.Insert:
        return self._database.insert(
            versions,
            model=record.model,
            version=record.version,
            digest=record.digest,
            created_at=record.created_at,
            record=msgspec.json.encode(record).decode(),
        )

    def _records(self, **values: str | int) -> Sequence[VersionRecord]:
        condition = self._database.here(versions, **values)
        statement = sa.select(versions.c.record).where(condition).order_by(versions.c.version)
        with self._database.read() as connection:
            found = connection.execute(statement).scalars().all()
        return [msgspec.json.decode(text, type=VersionRecord) for text in found]
