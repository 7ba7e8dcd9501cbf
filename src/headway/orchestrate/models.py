"""The registry as a stage: which version answers, and going back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headway.data.online import OnlineReader
from headway.define import Model
from headway.define.records import Deployment, GateResult, VersionRecord
from headway.errors import NotFoundError
from headway.locks import exclusive
from headway.orchestrate import catalog
from headway.orchestrate._parts import Parts
from headway.orchestrate._user import user
from headway.orchestrate.features import FeatureStage
from headway.orchestrate.training import train_version
from headway.registry import Comparison, project_to_mlflow, projection_due, tracking_key


class ModelStage:
    """``project.models``: versions, promotion, rollback. Everything is recorded in the deployment log."""

    def __init__(self, parts: Parts, features: FeatureStage) -> None:
        self._parts, self._features = parts, features

    def declared(self, name: str) -> Model:
        """A model of the project by name."""
        known = self._parts.declarations.models
        if name not in known:
            raise NotFoundError.among("model", name, known)
        return known[name]

    def train(self, name: str) -> tuple[VersionRecord, GateResult, bool]:
        """Train and register; see ``train_version``. Raises ``StoreBusy`` while a run is under way."""
        model = self.declared(name)
        with exclusive(self._parts.settings.locks_dir / "run.lock", "a run of this environment"):
            return train_version(self._parts, model)

    def names(self) -> list[str]:
        """Models that are declared, or have versions."""
        return sorted({*self._parts.declarations.models, *self._parts.metadata.versions.models()})

    def versions(self, name: str) -> Sequence[VersionRecord]:
        """All versions of a model, oldest first."""
        if name not in self.names():
            raise NotFoundError.among("model", name, self.names())
        return self._parts.registry.versions(name)

    def version(self, name: str, version: int) -> VersionRecord:
        """One version."""
        self.versions(name)
        return self._parts.registry.show(name, version)

    def champion(self, name: str, segment: str | None = None) -> VersionRecord | None:
        """The version that answers now; None before the first promotion."""
        self.versions(name)
        return self._parts.registry.champion(name, segment)

    def log(self, name: str) -> Sequence[Deployment]:
        """The deployment log of a model, oldest line first."""
        self.versions(name)
        return self._parts.registry.log(name)

    def compare(self, name: str, a: int, b: int) -> Comparison:
        """What tells version ``b`` from version ``a``."""
        self.versions(name)
        return self._parts.registry.compare(name, a, b)

    def promote(
        self,
        name: str,
        version: int,
        segment: str | None = None,
        *,
        why: str,
        by: str | None = None,
        figures: dict[str, Any] | None = None,
        auto: bool = False,
    ) -> Deployment:
        """Make a version answer, after its features were materialized: a server finds them when it switches."""
        record = self.version(name, version)
        plans = [use.plan for use in record.serving.views]
        self._features.materialize_plans(list({p.fingerprint: p for p in plans}.values()))
        return self._parts.registry.promote(
            name, version, segment, by=by or user(), why=why, figures=figures, auto=auto
        )

    def rollback(self, name: str, segment: str | None = None, *, why: str, by: str | None = None) -> Deployment:
        """Make the version that answered before answer again, at once; automatic promotion is held from then on.

        Raises
        ------
        RollbackRefused
            That version cannot answer as things are; the message carries the command that makes it possible.
        """
        self.versions(name)
        return self._parts.registry.rollback(name, segment, by=by or user(), why=why, ready=self.not_ready)

    def release(
        self, name: str, segment: str | None = None, *, why: str = "", by: str | None = None
    ) -> Deployment | None:
        """Allow automatic promotion again after a rollback."""
        self.versions(name)
        return self._parts.registry.release(name, segment, by=by or user(), why=why)

    def overview(self) -> list[dict[str, Any]]:
        """What answers for every model and segment; see ``catalog.models``."""
        return catalog.models(self._parts, self.names())

    def project_to_mlflow(self) -> tuple[str, ...]:
        """Tell MLflow what it has not been told yet; returns warnings. The deployment log stays the truth."""
        settings, metadata = self._parts.settings, self._parts.metadata
        due = projection_due(metadata, settings.tracking_url)
        if not due:
            return ()
        self._parts.progress("mlflow", 0, 0)
        return project_to_mlflow(metadata, settings.artifacts_dir, settings.tracking_url, due).warnings

    def mlflow_run(self, record: VersionRecord) -> str | None:
        """The MLflow run of a version; None if MLflow has not been told of it."""
        tracking = tracking_key(self._parts.settings.tracking_url)
        told = self._parts.metadata.projections.list(tracking, record.model).get(record.version)
        return told.run_id if told else None

    def not_ready(self, record: VersionRecord) -> str | None:
        """Why a version would not find its features online, with the command that mends it; None if it would."""
        store = self._parts.open_online(True)
        try:
            reader = OnlineReader(store)
            lacking = sorted({u.plan.name for u in record.serving.views if reader.watermark(u.plan) is None})
        finally:
            store.close()
        if not lacking:
            return None
        return (
            f"the features it was trained with ({', '.join(lacking)}) are not in the online store;"
            f" run `headway features materialize --version {record.model}@{record.version}` first"
        )
