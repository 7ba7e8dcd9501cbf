"""What is live, read from the deployment log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headway.define.records import VersionRecord
from headway.errors import NotFoundError
from headway.metadata import PublishedFeatures, live

if TYPE_CHECKING:
    from headway.registry import Registry


@dataclass(frozen=True, slots=True)
class RegistryCatalogue:
    """A ``Catalogue`` over the registry: the deployment log and what was published decide, MLflow is not asked."""

    registry: Registry

    def last_change(self) -> int:
        return self.registry.metadata.deployments.last_id()

    def models(self) -> Sequence[str]:
        return self.registry.metadata.versions.models()

    def live(self) -> Mapping[str, Mapping[str | None, VersionRecord]]:
        return {model: self._live(model) for model in self.models()}

    def last_published(self) -> int:
        return self.registry.metadata.published.last_id()

    def features(self) -> PublishedFeatures:
        return self.registry.metadata.published.features()

    def directory(self, record: VersionRecord) -> Path:
        return self.registry.directory(record)

    def verify_files(self, record: VersionRecord) -> None:
        self.registry.verify_files(record)

    def _live(self, model: str) -> dict[str | None, VersionRecord]:
        records = self.registry.metadata.versions
        found: dict[str | None, VersionRecord] = {}
        for segment, version in live(self.registry.log(model)).items():
            record = records.get(model, version)
            if record is None:
                raise NotFoundError(f"version {version} of {model!r} is live, but the metadata has no record of it")
            found[segment] = record
        return found
