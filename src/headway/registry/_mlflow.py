"""What MLflow shows of our versions: a projection, made from the metadata and mended from it.

One experiment per project and environment, a run per version, a registered model per model with the aliases
``champion``, ``previous`` and ``champion-<segment>``. Nothing here decides anything: whatever is missing or wrong in
MLflow is made again, and what a killed process left is found by its ``headway.digest`` and finished.
The store is opened in this process; no server is involved, and its network reports are switched off.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sqlite3
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from headway.define.records import ServingPlan, VersionRecord
from headway.errors import StoreError
from headway.locks import exclusive
from headway.metadata import Metadata, ProjectedVersion
from headway.registry._mlflow_fields import (
    DIGEST_TAG,
    MODEL_TAG,
    PARAM_LIMIT,
    aliases,
    is_ours,
    metrics,
    params,
    tags,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.models import ModelSignature

_MODEL = "model"  # folder of a run's artifacts that holds the version's files
_TYPES = {
    "int8": "integer",
    "int16": "integer",
    "int32": "integer",
    "int64": "long",
    "uint8": "integer",
    "uint16": "integer",
    "uint32": "long",
    "uint64": "long",
    "halffloat": "float",
    "float": "float",
    "double": "double",
    "bool": "boolean",
    "binary": "binary",
}


class ProjectionResult(msgspec.Struct, frozen=True):
    """What was written to MLflow. ``warnings`` say what could not be; the next projection mends it."""

    runs: int = 0
    versions: int = 0
    aliases: int = 0
    warnings: tuple[str, ...] = ()


def projection_due(metadata: Metadata, tracking: str) -> tuple[str, ...]:
    """The models of which MLflow at ``tracking`` has not been told everything, without importing MLflow.

    Trusts the notes of earlier projections: it sees a database that was deleted, but not an alias that was moved.
    """
    models = metadata.versions.models()
    file = _sqlite_file(tracking)
    if file is not None and not file.exists():
        return models
    key = tracking_key(tracking)
    logs = metadata.projections.logs(key)
    return tuple(m for m in models if logs.get(m) != metadata.deployments.last_id(m) or _untold(metadata, key, m))


def project_to_mlflow(
    metadata: Metadata, artifacts: Path, tracking: str, models: Iterable[str] | None = None
) -> ProjectionResult:
    """Bring MLflow at ``tracking`` (``sqlite:///path``, ``postgresql://…``, ``https://…``) in line with the metadata.

    ``artifacts`` is the environment's artifact root: version directories are read from it, and MLflow's own artifacts
    go to ``artifacts/mlflow`` (unless a tracking server decides otherwise). ``models`` None means all of them.
    A failure of MLflow is a warning in the result, never an error: the versions are safe in the metadata.
    """
    chosen = metadata.versions.models() if models is None else tuple(models)
    if not chosen:
        return ProjectionResult()
    try:
        lock = artifacts.parent / "locks" / "mlflow.lock"
        with exclusive(lock, "telling MLflow", patience=60), _quiet():
            projector = _open(metadata, artifacts, tracking)
            return _sum(_guarded(projector, model) for model in chosen)
    except Exception as error:  # noqa: BLE001 (whatever MLflow, its database and its disk may raise)
        return ProjectionResult(warnings=(_warning("MLflow", error),))


@dataclass(frozen=True)
class _Projector:
    """One open MLflow store, and the experiment our runs go to."""

    metadata: Metadata
    artifacts: Path
    key: str
    client: MlflowClient
    experiment: str

    def model(self, model: str) -> ProjectionResult:
        """Everything about one model."""
        log = self.metadata.deployments.list(model)
        name = f"{self.metadata.project}.{self.metadata.env}.{model}"
        registered = self._registered(name, model)
        present = self._present(name)
        told = self.metadata.projections.list(self.key, model)
        numbers: dict[int, int] = {}
        runs, versions = 0, 0
        shortened: list[str] = []
        for record in self.metadata.versions.list(model):
            found = present.get(record.digest)
            if found is None:
                run, made, cut = self._run(record)
                found = self._version(name, record, run)
                runs, versions, shortened = runs + made, versions + 1, shortened + cut
            numbers[record.version] = int(found.version)
            line = ProjectedVersion(model, record.version, found.run_id or "", name, int(found.version))
            if told.get(record.version) != line:
                self.metadata.projections.put(self.key, line)
        moved = self._aliases(registered, {alias: numbers[v] for alias, v in aliases(log).items()})
        self.metadata.projections.put_log(self.key, model, log[-1].id if log else 0)
        return ProjectionResult(runs, versions, moved, tuple(shortened))

    def _registered(self, name: str, model: str) -> RegisteredModel:
        found = self.client.search_registered_models(f"name = '{_quoted(name)}'")
        if found:
            return found[0]
        return self.client.create_registered_model(name, tags={**self._place, MODEL_TAG: model})

    def _present(self, name: str) -> dict[str, ModelVersion]:
        """The versions that MLflow has, by our digest."""
        found: dict[str, ModelVersion] = {}
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{_quoted(name)}'", page_token=token)
            for version in page:
                if (digest := version.tags.get(DIGEST_TAG)) is not None:
                    found.setdefault(digest, version)
            token = page.token
            if not token:
                return found

    def _run(self, record: VersionRecord) -> tuple[Run, int, list[str]]:
        """The finished run of a version, how many runs were made for it, and what had to be shortened."""
        wanted = f"tags.`{DIGEST_TAG}` = '{_quoted(record.digest)}' and tags.`{MODEL_TAG}` = '{_quoted(record.model)}'"
        found = list(self.client.search_runs([self.experiment], wanted, max_results=1))
        made = 0 if found else 1
        run = found[0] if found else self._new_run(record)
        if run.info.status == "FINISHED":
            return run, made, []
        cut = self._log_figures(run.info.run_id, record)
        self._log_files(run.info.run_id, record)
        self.client.set_terminated(run.info.run_id, "FINISHED", record.created_at // 1000)
        return run, made, cut

    def _new_run(self, record: VersionRecord) -> Run:
        at = record.created_at // 1000
        name = f"{record.model} {record.version}"
        return self.client.create_run(self.experiment, start_time=at, tags=tags(record, self._place), run_name=name)

    def _log_figures(self, run_id: str, record: VersionRecord) -> list[str]:
        from mlflow.entities import Metric, Param

        at = record.created_at // 1000  # a moment of its own: the same figures twice are one
        figures = [Metric(name, float(value), at, 0) for name, value in metrics(record).items()]
        values = params(record)
        texts = [Param(name, text[:PARAM_LIMIT]) for name, text in values.items()]
        for batch in (figures[i : i + 900] for i in range(0, len(figures), 900)):
            self.client.log_batch(run_id, metrics=batch)
        for batch in (texts[i : i + 100] for i in range(0, len(texts), 100)):
            self.client.log_batch(run_id, params=batch)
        cut = [name for name, text in values.items() if len(text) > PARAM_LIMIT]
        if cut:
            self.client.log_dict(run_id, values, "params.json")
        name = f"{record.model}@{record.version}"
        return [f"parameter {p!r} of {name} is cut in MLflow, and whole in the run's params.json" for p in cut]

    def _log_files(self, run_id: str, record: VersionRecord) -> None:
        from mlflow.models import Model

        self.client.log_artifacts(run_id, str(self.artifacts / record.directory), _MODEL)
        described = Model(
            artifact_path=_MODEL,
            run_id=run_id,
            utc_time_created=datetime.fromtimestamp(record.created_at / 1e6, UTC).replace(tzinfo=None),
            flavors={"headway": _flavour(record.serving)},
            signature=_signature(record.serving),
            metadata={"model": record.model, "version": record.version, "digest": record.digest},
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "MLmodel"
            described.save(str(file))
            self.client.log_artifact(run_id, str(file), _MODEL)

    def _version(self, name: str, record: VersionRecord, run: Run) -> ModelVersion:
        return self.client.create_model_version(
            name,
            source=f"{run.info.artifact_uri}/{_MODEL}",
            run_id=run.info.run_id,
            tags=tags(record, self._place),
            description=f"headway: version {record.version} of {record.model}",
            await_creation_for=0,
        )

    def _aliases(self, registered: RegisteredModel, wanted: Mapping[str, int]) -> int:
        """Set and delete aliases until those that are ours are as ``wanted``; returns how many were not."""
        present = {alias: int(number) for alias, number in registered.aliases.items() if is_ours(alias)}
        stale = [alias for alias in present if alias not in wanted]
        moved = {alias: number for alias, number in wanted.items() if present.get(alias) != number}
        for alias, number in moved.items():
            self.client.set_registered_model_alias(registered.name, alias, str(number))
        for alias in stale:
            self.client.delete_registered_model_alias(registered.name, alias)
        return len(stale) + len(moved)

    @property
    def _place(self) -> dict[str, str]:
        return {"headway.project": self.metadata.project, "headway.env": self.metadata.env}


def _open(metadata: Metadata, artifacts: Path, tracking: str) -> _Projector:
    _check_reachable(tracking)
    from mlflow import MlflowClient

    file = _sqlite_file(tracking)
    if file is not None and not file.exists():
        _create(file)
    client = MlflowClient(tracking_uri=tracking, registry_uri=tracking)
    experiment = _experiment(client, f"{metadata.project}/{metadata.env}", artifacts, tracking)
    return _Projector(metadata, artifacts, tracking_key(tracking), client, experiment)


def _create(file: Path) -> None:
    """A new MLflow database. Its dozens of migrations cannot be taken up again half way, so it appears finished."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.unfinished")
    for leftover in file.parent.glob(f"{unfinished.name}*"):
        leftover.unlink()
    _migrate(unfinished)
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # kept in the file; MLflow itself never asks for it
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.rename(file)


def _migrate(file: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(f"sqlite:///{file}")
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()


def _experiment(client: MlflowClient, name: str, artifacts: Path, tracking: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        served = urlsplit(tracking).scheme in ("http", "https")
        location = None if served else (artifacts.resolve() / "mlflow").as_uri()
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _check_reachable(tracking: str) -> None:
    """Fail at once where MLflow would try ten times over minutes."""
    file = _sqlite_file(tracking)
    if file is not None:
        if file.exists():
            with closing(sqlite3.connect(file, timeout=5)) as connection:
                connection.execute("BEGIN IMMEDIATE").close()
        return
    parts = urlsplit(tracking)
    if parts.scheme.startswith("postgres") and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or 5432), timeout=5).close()


def _flavour(plan: ServingPlan) -> dict[str, Any]:
    """Says what the files are, so that a reader who knows them can; no generic loader is promised."""
    fitted = ([plan.pooled] if plan.pooled is not None else []) + list(plan.segments.values())
    return {
        "serving_plan": "serving.json",
        "task": plan.task,
        "formats": sorted({each.format for each in fitted}),
        "pooled": None if plan.pooled is None else plan.pooled.file,
        "segments": len(plan.segments),
    }


def _signature(plan: ServingPlan) -> ModelSignature:
    """The columns the estimator sees. None of them is required: a feature may have no value."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = [ColSpec(type=_type(c.type), name=c.name, required=False) for c in plan.columns]
    outputs = Schema([ColSpec(type="double")]) if plan.task == "regression" else None
    return ModelSignature(inputs=Schema(columns) if columns else None, outputs=outputs)


def _type(arrow: str) -> str:
    return "datetime" if arrow.startswith(("timestamp", "date")) else _TYPES.get(arrow, "string")


def _guarded(projector: _Projector, model: str) -> ProjectionResult:
    try:
        return projector.model(model)
    except Exception as error:  # noqa: BLE001 (as above; the other models go on)
        return ProjectionResult(warnings=(_warning(f"{model!r} in MLflow", error),))


def _sum(results: Iterable[ProjectionResult]) -> ProjectionResult:
    done = list(results)
    return ProjectionResult(
        runs=sum(each.runs for each in done),
        versions=sum(each.versions for each in done),
        aliases=sum(each.aliases for each in done),
        warnings=tuple(warning for each in done for warning in each.warnings),
    )


def _warning(what: str, error: Exception) -> str:
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return f"{what} is behind: {said}; nothing is lost, the next run tells it again"


def _untold(metadata: Metadata, key: str, model: str) -> bool:
    told = metadata.projections.list(key, model)
    return any(record.version not in told for record in metadata.versions.list(model))


def _sqlite_file(tracking: str) -> Path | None:
    return Path(tracking.removeprefix("sqlite:///")) if tracking.startswith("sqlite:///") else None


def tracking_key(tracking: str) -> str:
    return hashlib.sha256(tracking.encode()).hexdigest()[:32]


def _quoted(text: str) -> str:
    if "'" in text:
        raise StoreError(f"{text!r} cannot be looked up in MLflow: it contains a quote")
    return text


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow without its reports home, and without what it says on the terminal of its own migrations and of the
    outdated calls it makes to its own libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow  # noqa: F401 (sets the levels of its loggers, so they are changed after that)

        loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
