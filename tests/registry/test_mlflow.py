"""What MLflow shows is made from the metadata, once, and mended from it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headway.define.records import VersionRecord
from headway.metadata import Metadata
from headway.registry import ProjectionResult, Registry, _mlflow, project_to_mlflow, projection_due

if TYPE_CHECKING:
    from mlflow import MlflowClient

Trained = Callable[..., VersionRecord]

NAME = "trips.local.m"

# MLflow's own outdated calls to SQLAlchemy; the tests use its client too.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def tracking(tmp_path: Path) -> str:
    """An MLflow database without anything in it, made the way the first projection makes it."""
    with _mlflow._quiet():
        _mlflow._create(tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def client(tracking: str) -> MlflowClient:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking, registry_uri=tracking)


@pytest.fixture
def project(metadata: Metadata, registry: Registry, tracking: str) -> Callable[[], ProjectionResult]:
    return lambda: project_to_mlflow(metadata, registry.artifacts, tracking)


def aliases(client: MlflowClient) -> dict[str, int]:
    return {alias: int(number) for alias, number in client.get_registered_model(NAME).aliases.items()}


def test_a_version_is_shown_whole(
    trained: Trained, registry: Registry, project: Callable[[], ProjectionResult], client: MlflowClient
) -> None:
    record = trained("d1")
    registry.promote("m", 1, by="me", why="")

    assert project() == ProjectionResult(runs=1, versions=1, aliases=1)

    version = client.get_model_version_by_alias(NAME, "champion")
    assert version.tags["headway.digest"] == "d1"
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.start_time == record.created_at // 1000
    assert run.data.params == {"leaves": "31", "path": "[1,2]"}
    assert run.data.metrics == {
        "mae": 100.0,
        "rmse": 150.0,
        "baseline.mae": 200.0,
        "mae.segment.Queens": 90.0,
        "mae.segment.Staten Island": 120.0,
        "rows.train": 1000.0,
        "rows.test": 100.0,
    }
    wanted = {
        "headway.project": "trips",
        "headway.env": "local",
        "headway.model": "m",
        "headway.version": "1",
        "headway.dirty": "true",
        "headway.data_digest": "data-1",
        "headway.environment": "env-1",
        "headway.seed": "7",
        "mlflow.source.git.commit": "abcdef",
    }
    assert wanted.items() <= run.data.tags.items()
    folder = Path(version.source.removeprefix("file://"))
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {*record.files, "MLmodel"}
    assert folder.is_relative_to(registry.artifacts / "mlflow")


def test_consumers_of_mlflow_see_the_columns(
    trained: Trained, project: Callable[[], ProjectionResult], client: MlflowClient
) -> None:
    trained("d1")
    project()
    from mlflow.models import Model

    described = Model.load(client.get_model_version(NAME, "1").source.removeprefix("file://"))

    assert described.signature is not None
    columns = [(c["name"], c["type"]) for c in described.signature.inputs.to_dict()]
    assert columns == [("x", "double"), ("n", "long"), ("borough", "string")]
    assert described.flavors["headway"]["formats"] == ["lightgbm"]
    assert "python_function" not in described.flavors


def test_telling_it_again_changes_nothing(
    metadata: Metadata,
    trained: Trained,
    registry: Registry,
    project: Callable[[], ProjectionResult],
    client: MlflowClient,
    tracking: str,
) -> None:
    trained("d1"), trained("d2"), trained("d1", model="n")
    assert projection_due(metadata, tracking) == ("m", "n")
    registry.promote("m", 1, by="me", why="")
    registry.promote("m", 2, by="me", why="")
    assert project() == ProjectionResult(runs=3, versions=3, aliases=2)
    assert projection_due(metadata, tracking) == ()

    assert project() == ProjectionResult()

    assert len(client.search_runs([e.experiment_id for e in client.search_experiments()])) == 3
    assert aliases(client) == {"champion": 2, "previous": 1}


def test_aliases_follow_the_deployment_log(
    metadata: Metadata,
    trained: Trained,
    registry: Registry,
    project: Callable[[], ProjectionResult],
    client: MlflowClient,
    tracking: str,
) -> None:
    trained("d1"), trained("d2")
    registry.promote("m", 1, by="me", why="")
    registry.promote("m", 2, by="me", why="")
    project()
    registry.rollback("m", by="me", why="")
    registry.promote("m", 2, "Staten Island", by="me", why="")
    assert projection_due(metadata, tracking) == ("m",)

    project()

    assert aliases(client) == {"champion": 1, "champion-staten-island": 2}


def test_what_was_changed_by_hand_is_mended(
    trained: Trained, registry: Registry, project: Callable[[], ProjectionResult], client: MlflowClient
) -> None:
    trained("d1"), trained("d2")
    registry.promote("m", 1, by="me", why="")
    registry.promote("m", 2, by="me", why="")
    project()
    client.delete_registered_model_alias(NAME, "champion")
    client.set_registered_model_alias(NAME, "previous", "2")
    client.set_registered_model_alias(NAME, "champion-nowhere", "2")
    client.set_registered_model_alias(NAME, "mine", "2")
    client.delete_model_version(NAME, "1")

    result = project()

    assert (result.runs, result.versions, result.warnings) == (0, 1, ())  # the run is still there, and adopted
    assert aliases(client) == {"champion": 2, "previous": 3, "mine": 2}
    assert client.get_model_version(NAME, "3").tags["headway.version"] == "1"


def test_a_database_that_is_gone_is_made_again(metadata: Metadata, trained: Trained, registry: Registry) -> None:
    record = trained("d1")
    root = registry.artifacts.parent
    tracking = f"sqlite:///{root}/other/mlflow.db"
    project_to_mlflow(metadata, registry.artifacts, tracking)
    assert projection_due(metadata, tracking) == ()
    with closing(sqlite3.connect(root / "other" / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert sorted(p.name for p in (root / "other").glob("*unfinished*")) == []

    (root / "other").rename(root / "lost")

    assert projection_due(metadata, tracking) == (record.model,)


@pytest.mark.parametrize("where", ["create_run", "log_artifacts", "create_model_version"])
def test_a_killed_projection_is_finished_not_doubled(
    where: str,
    trained: Trained,
    registry: Registry,
    project: Callable[[], ProjectionResult],
    client: MlflowClient,
    tracking: str,
) -> None:
    """Killed right after the call of that name."""
    trained("d1")
    registry.promote("m", 1, by="me", why="")
    code = f"""
import os, signal
from pathlib import Path
from headway.metadata import open_metadata
from headway.registry import project_to_mlflow
from mlflow import MlflowClient
real = getattr(MlflowClient, {where!r})
def deadly(*args, **kwargs):
    real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(MlflowClient, {where!r}, deadly)
metadata = open_metadata("sqlite:///{registry.artifacts.parent}/metadata.db", "trips", "local")
print(project_to_mlflow(metadata, Path({str(registry.artifacts)!r}), {tracking!r}))
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr

    assert project().warnings == ()

    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    assert [(r.info.status, r.data.metrics["mae"]) for r in runs] == [("FINISHED", 100.0)]
    versions: list[Any] = list(client.search_model_versions(f"name='{NAME}'"))
    assert [v.run_id for v in versions] == [runs[0].info.run_id]
    assert aliases(client) == {"champion": 1}


def test_a_broken_store_is_a_warning(
    metadata: Metadata, trained: Trained, registry: Registry, tracking: str, tmp_path: Path
) -> None:
    trained("d1")
    broken = tmp_path / "broken.db"
    broken.write_text("no database " * 400)

    result = project_to_mlflow(metadata, registry.artifacts, f"sqlite:///{broken}")

    assert result.runs == result.versions == 0
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("MLflow is behind: file is not a database; nothing is lost")
    assert projection_due(metadata, f"sqlite:///{broken}") == ("m",)
    assert project_to_mlflow(metadata, registry.artifacts, tracking).warnings == ()


def test_names_are_made_legal_and_nothing_is_lost(
    trained: Trained, project: Callable[[], ProjectionResult], client: MlflowClient
) -> None:
    segments = {"St. Mary's": {"mae": 1.0}, "St. Mary`s": {"mae": 2.0}, "Zürich": {"mae": 3.0}}
    trained("d1", segment_metrics=segments, params={"a/b": 1, "note": "x" * 7000}, commit=None)

    result = project()

    assert result.warnings == ("parameter 'note' of m@1 is cut in MLflow, and whole in the run's params.json",)
    run = client.get_run(client.get_model_version(NAME, "1").run_id)
    assert {v for k, v in run.data.metrics.items() if ".segment." in k} == {1.0, 2.0, 3.0}
    assert len(run.data.params["note"]) == 6000
    assert "mlflow.source.git.commit" not in run.data.tags


def test_the_registry_does_not_load_mlflow() -> None:
    code = (
        "import sys, headway.registry\n"
        "heavy = {'mlflow', 'alembic', 'pandas', 'sklearn', 'pyarrow', 'lightgbm', 'duckdb'}\n"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"
