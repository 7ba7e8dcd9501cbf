"""The model versions of a project and environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from headway.define.records import VersionRecord, ViewUse
from headway.errors import StoreBusy
from headway.metadata._database import Database
from headway.metadata._tables import versions

T = TypeVar("T")


class _BriefPlan(msgspec.Struct, frozen=True):
    views: msgspec.Raw = msgspec.Raw(b"[]")


@lru_cache(maxsize=500)
def _views(text: bytes) -> tuple[ViewUse, ...]:
    """Most versions of a model read the very same views."""
    return msgspec.json.decode(text, type=tuple[ViewUse, ...])


class VersionBrief(msgspec.Struct, frozen=True):
    """What a table with hundreds of versions shows of each; the figures of a segment are read when asked for."""

    model: str
    version: int
    created_at: int
    metrics: dict[str, float]
    segment_metrics: dict[str, msgspec.Raw]
    commit: str | None
    dirty: bool
    serving: _BriefPlan
    baseline: dict[str, float]
    train_rows: int
    data: dict[str, int]
    data_digest: str
    metric: str = ""
    greater_is_better: bool = False
    cut: int | None = None
    test_rows: int = 0

    @property
    def views(self) -> tuple[ViewUse, ...]:
        """The feature views it reads online."""
        return _views(bytes(self.serving.views))

    def figures(self, segment: str | None) -> dict[str, float]:
        """The metrics on the test rows of one segment, or of all; empty for a segment the version did not see."""
        if segment is None:
            return self.metrics
        found = self.segment_metrics.get(segment)
        return {} if found is None else msgspec.json.decode(found, type=dict[str, float])


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

    def page(self, model: str, before: int | None = None, limit: int = 50) -> Sequence[VersionRecord]:
        """Versions of a model, newest first, with numbers below ``before``."""
        return self._page(model, before, limit, VersionRecord)

    def brief_page(self, model: str, before: int | None = None, limit: int = 50) -> Sequence[VersionBrief]:
        """Like ``page``, for a table of them."""
        return self._page(model, before, limit, VersionBrief)

    def numbers(self, model: str, limit: int = 200) -> Sequence[int]:
        """The numbers of a model's newest versions, the greatest first."""
        statement = sa.select(versions.c.version).where(self._database.here(versions, model=model))
        with self._database.read() as connection:
            return connection.execute(statement.order_by(versions.c.version.desc()).limit(limit)).scalars().all()

    def latest(self, model: str) -> VersionRecord | None:
        """The version with the greatest number."""
        return next(iter(self.page(model, limit=1)), None)

    def some(self, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], VersionRecord]:
        """These (model, version), in one query; those nobody knows are left out."""
        return {(record.model, record.version): record for record in self._of(pairs, VersionRecord)}

    def brief(self, pairs: Iterable[tuple[str, int]]) -> dict[tuple[str, int], VersionBrief]:
        """Like ``some``, for hundreds of versions at a time."""
        return {(record.model, record.version): record for record in self._of(pairs, VersionBrief)}

    def counts(self) -> dict[str, int]:
        """How many versions each model has."""
        statement = sa.select(versions.c.model, sa.func.count().label("versions")).where(self._database.here(versions))
        with self._database.read() as connection:
            found = connection.execute(statement.group_by(versions.c.model).order_by(versions.c.model))
            return {row.model: row.versions for row in found}

    def models(self) -> tuple[str, ...]:
        """The names of all models that have a version, sorted."""
        statement = sa.select(versions.c.model).distinct().where(self._database.here(versions))
        with self._database.read() as connection:
            return tuple(sorted(connection.execute(statement).scalars()))

    def _page(self, model: str, before: int | None, limit: int, type_: type[T]) -> Sequence[T]:
        condition = self._database.here(versions, model=model)
        if before is not None:
            condition = sa.and_(condition, versions.c.version < before)
        return self._decoded(condition, versions.c.version.desc(), limit, type_=type_)

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
        return self._decoded(self._database.here(versions, **values), versions.c.version, type_=VersionRecord)

    def _of(self, pairs: Iterable[tuple[str, int]], type_: type[T]) -> Sequence[T]:
        numbers: dict[str, set[int]] = {}
        for model, version in pairs:
            numbers.setdefault(model, set()).add(version)
        if not numbers:
            return []
        models: dict[tuple[int, ...], list[str]] = {}
        for model, some in numbers.items():
            models.setdefault(tuple(sorted(some)), []).append(model)
        of_models = (
            sa.and_(versions.c.model.in_(names), versions.c.version.in_(some)) for some, names in models.items()
        )
        return self._decoded(sa.and_(self._database.here(versions), sa.or_(*of_models)), versions.c.id, type_=type_)

    def _decoded(
        self,
        condition: sa.ColumnElement[bool],
        order: sa.ColumnElement[Any],
        limit: int | None = None,
        *,
        type_: type[T],
    ) -> Sequence[T]:
        statement = sa.select(versions.c.record).where(condition).order_by(order).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(statement).scalars().all()
        decoder = msgspec.json.Decoder(type_)
        return [decoder.decode(text) for text in found]
