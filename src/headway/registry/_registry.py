"""Versions of models, and which of them answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from headway.define.records import Deployment, VersionRecord
from headway.errors import ArtifactError, GateRefused, NotFoundError, RollbackRefused, StoreBusy, StoreError, UsageError
from headway.locks import exclusive
from headway.metadata import Metadata, held, live, live_version, previous
from headway.registry._compare import Comparison, comparison
from headway.registry._files import digests, publish, verify

_TRIES = 10

Ready = Callable[[VersionRecord], str | None]


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry of one project and environment: the metadata decides, the files lie under ``artifacts``.

    ``clock_now`` gives the moment that new lines of the deployment log are stamped with, in microseconds.
    Processes may share it: registering holds a lock per model, and a change of what is live is refused
    if somebody else made one in between.
    """

    metadata: Metadata
    artifacts: Path
    clock_now: Callable[[], int]

    def register(self, staging: Path, draft: VersionRecord) -> VersionRecord:
        """Make the finished directory ``staging`` a version and return its record.

        ``draft`` says everything but ``version``, ``directory`` and ``files``, which are filled in (if it has
        ``files``, they must agree with what is there). The directory moves to ``artifacts/<model>/<version>``. If the
        model has a version of the draft's ``digest``, that one is returned and ``staging`` removed. A process killed
        in between leaves no version; registering again uses the same number.

        Raises:
            ArtifactError: ``staging`` is empty, or not what ``draft.files`` says.
            StoreBusy: another process has been registering a version of this model for over a minute.
        """
        with exclusive(self._lock(draft.model), f"registering a version of {draft.model!r}", patience=60):
            existing = self.metadata.versions.by_digest(draft.model, draft.digest)
            if existing is None:
                return self._register_new(staging, draft)
            self._restore(staging, existing)
            return existing

    def directory(self, record: VersionRecord) -> Path:
        """Where a version's files are."""
        return self.artifacts / record.directory

    def verify_files(self, record: VersionRecord) -> None:
        """Compare a version's files with their recorded sha256.

        Raises:
            ArtifactError: names the first file that is missing or changed.
        """
        verify(self.directory(record), record.files, f"{record.model}@{record.version}")

    def versions(self, model: str) -> Sequence[VersionRecord]:
        """All versions of a model, oldest first; none for a model that was never trained."""
        return self.metadata.versions.list(model)

    def show(self, model: str, version: int) -> VersionRecord:
        """One version.

        Raises:
            NotFoundError: the model has no such version.
        """
        record = self.metadata.versions.get(model, version)
        if record is None:
            known = [str(r.version) for r in self.versions(model)]
            if not known:
                raise NotFoundError(f"model {model!r} has no versions yet; `headway run` trains one")
            raise NotFoundError(f"model {model!r} has no version {version}; it has {', '.join(known[-12:])}")
        return record

    def compare(self, model: str, a: int, b: int) -> Comparison:
        """What tells version ``b`` from version ``a``: figures, parameters, features, data, code, environment."""
        return comparison(self.show(model, a), self.show(model, b))

    def log(self, model: str) -> Sequence[Deployment]:
        """The deployment log of a model, oldest line first."""
        return self.metadata.deployments.list(model)

    def champion(self, model: str, segment: str | None = None) -> VersionRecord | None:
        """The version that answers for ``segment`` (None: for segments without a decision of their own)."""
        version = live_version(self.log(model), segment)
        return None if version is None else self.show(model, version)

    def needed_versions(self) -> list[VersionRecord]:
        """The versions, of all models, that answer for some segment now or would after one rollback."""
        return [
            self.show(model, version) for model in self.metadata.versions.models() for version in _needed(self, model)
        ]

    def promote(
        self,
        model: str,
        version: int,
        segment: str | None = None,
        *,
        by: str,
        why: str,
        figures: Mapping[str, Any] | None = None,
        auto: bool = False,
    ) -> Deployment:
        """Make a version answer for ``segment``, or for all of them, and return the line written.

        By hand it ends a hold. Automatic (``auto``) it is refused during one, and writes nothing if the version is
        live already. ``figures`` are kept with the line; those of the version's own record are the default.

        Raises:
            GateRefused: automatic promotion is held.
            ArtifactError: the version's files are missing or changed.
        """
        record = self.show(model, version)
        _check_segment(self, record, segment)
        self.verify_files(record)
        for _ in range(_TRIES):
            log = self.log(model)
            if auto:
                _refuse_held(model, held(log, segment))
                if (line := _already_live(log, version, segment)) is not None:
                    return line
            noted = {**_own_figures(record), **(figures or {}), "before": live_version(log, segment), "automatic": auto}
            try:
                return self._append(log, "promote", model, segment, version, by, why, noted)
            except StoreBusy:
                if self.metadata.deployments.last_id(model) == (log[-1].id if log else 0):
                    raise
                # The log has grown meanwhile: what holds is looked at again.
        raise StoreBusy(f"what is live for {model!r} is being changed by too many at once; try again")

    def rollback(
        self, model: str, segment: str | None = None, *, by: str, why: str, ready: Ready | None = None
    ) -> Deployment:
        """Make the version that was live before answer again, and hold automatic promotion.

        Goes back through the log, not to the number below: twice goes further back. ``ready`` may say why a version
        cannot answer as things are, with the command that mends it.

        Raises:
            RollbackRefused: there is nothing to go back to, the files of that version are not as recorded, or it is
                not ready; the message has the command that makes it possible.
            StoreBusy: somebody else changed what is live at the same moment; look before trying again.
        """
        log = self.log(model)
        version = previous(log, segment)
        if version is None:
            raise RollbackRefused(_nothing_before(self, model, segment, log))
        record = self.show(model, version)
        _check_segment(self, record, segment)
        self._check_ready(record, ready)
        figures = {**_own_figures(record), "before": live_version(log, segment)}
        return self._append(log, "rollback", model, segment, version, by, why, figures)

    def hold(self, model: str, segment: str | None = None, *, by: str, why: str) -> Deployment:
        """Forbid automatic promotion until a release or a promotion by hand."""
        _check_known(self, model)
        return self._append(self.log(model), "hold", model, segment, None, by, why, {})

    def release(self, model: str, segment: str | None = None, *, by: str, why: str = "") -> Deployment | None:
        """Allow automatic promotion again; without a segment, everywhere. None if nothing was held."""
        _check_known(self, model)
        log = self.log(model)
        if held(log, segment) is None:
            return None
        return self._append(log, "release", model, segment, None, by, why, {})

    def _lock(self, model: str) -> Path:
        return self.artifacts.parent / "locks" / f"register-{model}.lock"

    def _register_new(self, staging: Path, draft: VersionRecord) -> VersionRecord:
        files = digests(staging)
        if not files:
            raise ArtifactError(f"there is nothing in {staging} to register as a version of {draft.model!r}")
        if draft.files:
            verify(staging, draft.files, f"the new version of {draft.model!r}")
        for _ in range(_TRIES):
            version = self.metadata.versions.next_version(draft.model)
            directory = f"{draft.model}/{version}"
            record = msgspec.structs.replace(draft, version=version, directory=directory, files=files)
            # The directory comes first: a row never names files that are not on disk. A directory without a row
            # is what a killed process left, and is replaced.
            publish(staging, self.artifacts / directory)
            if (stored := self._add(record, staging)) is not None:
                return stored
        raise StoreBusy(f"versions of {draft.model!r} are being registered by too many at once; try again")

    def _add(self, record: VersionRecord, staging: Path) -> VersionRecord | None:
        """The record as stored, or None if another machine took the number; then the files are in ``staging`` again."""
        target = self.directory(record)
        try:
            stored = self.metadata.versions.add(record)
        except StoreError:
            # If this fails too, the row may be there after all: then the files stay where it says.
            taken = self.metadata.versions.get(record.model, record.version)
            if taken is not None and taken.digest == record.digest:
                return taken
            publish(target, staging)
            if taken is None:
                raise
            return None
        if stored.version != record.version:  # another machine registered the same training
            shutil.rmtree(target)
        return stored

    def _restore(self, staging: Path, record: VersionRecord) -> None:
        """Put the files of a version back if they are gone and ``staging`` has the very same ones."""
        try:
            self.verify_files(record)
        except ArtifactError:
            if digests(staging) == record.files:
                publish(staging, self.directory(record))
        shutil.rmtree(staging, ignore_errors=True)

    def _append(
        self,
        log: Sequence[Deployment],
        action: Literal["promote", "rollback", "hold", "release"],
        model: str,
        segment: str | None,
        version: int | None,
        by: str,
        why: str,
        figures: Mapping[str, Any],
    ) -> Deployment:
        return self.metadata.deployments.append(
            action=action,
            model=model,
            segment=segment,
            version=version,
            by=by,
            at=self.clock_now(),
            why=why,
            figures=figures,
            expected_last=log[-1].id if log else 0,
        )

    def _check_ready(self, record: VersionRecord, ready: Ready | None) -> None:
        name = f"{record.model}@{record.version}"
        try:
            self.verify_files(record)
        except ArtifactError as error:
            raise RollbackRefused(
                f"{name} cannot answer: {error};"
                f" put the file back, or `headway models promote {record.model} VERSION` another one"
            ) from error
        reason = ready(record) if ready is not None else None
        if reason:
            raise RollbackRefused(f"{name} cannot answer: {reason}")


def _own_figures(record: VersionRecord) -> dict[str, Any]:
    """What the version's twin scored, under the names a gate uses."""
    if not record.metric:
        return {}
    return {"metric": record.metric, "candidate": record.metrics.get(record.metric)}


def _refuse_held(model: str, hold: Deployment | None) -> None:
    if hold is None:
        return
    where = "" if hold.segment is None else f" of segment {hold.segment!r}"
    raise GateRefused(
        f"promotion of {model!r} is held since the {hold.action}{where} by {hold.by} ({hold.why or 'no reason'}); "
        f"`headway models release {model}` allows it again, `headway models promote {model} VERSION` decides by hand"
    )


def _already_live(log: Sequence[Deployment], version: int, segment: str | None) -> Deployment | None:
    now = live(log)
    everywhere = segment is not None or set(now) == {None}
    if not everywhere or now.get(segment, now.get(None)) != version:
        return None
    return next(line for line in reversed(log) if line.version == version and line.action in ("promote", "rollback"))


def _needed(registry: Registry, model: str) -> list[int]:
    log = registry.log(model)
    now = live(log)
    found = {*now.values(), *(v for s in now if (v := previous(log, s)) is not None)}
    return sorted(found)


def _nothing_before(registry: Registry, model: str, segment: str | None, log: Sequence[Deployment]) -> str:
    version = live_version(log, segment)
    where = f"{model!r}" if segment is None else f"segment {segment!r} of {model!r}"
    if version is None:
        _check_known(registry, model)
        return f"no version of {where} is live; `headway models promote {model} VERSION` makes one answer"
    return (
        f"no version was live for {where} before version {version}; "
        f"`headway models promote {model} VERSION` makes another one answer"
    )


def _check_segment(registry: Registry, record: VersionRecord, segment: str | None) -> None:
    if segment is None:
        return
    if record.serving.segment is None:
        raise UsageError(f"version {record.version} of {record.model!r} has no segments; leave the segment out")
    versions = registry.versions(record.model)
    known = {s for v in versions for s in (*v.serving.segments, *v.segment_metrics)}
    if segment not in known:
        raise NotFoundError.among(f"segment of {record.model!r}", segment, known)


def _check_known(registry: Registry, model: str) -> None:
    models = registry.metadata.versions.models()
    if model not in models:
        raise NotFoundError.among("model", model, models)
