"""Migrations end where the tables say, and cost nothing when there is nothing to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import headway.metadata
from headway.define.records import VersionRecord
from headway.define.run_records import RunRecord
from headway.metadata import _tables, open_metadata

Build = Callable[..., VersionRecord]

MIGRATIONS = Path(headway.metadata.__file__).parent / "migrations"


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def test_migrations_lead_to_the_tables(url: str) -> None:
    open_metadata(url, "trips", "local").close()
    made = _shape(url)
    _downgrade(url, "base")
    _upgrade(url, "head")
    engine = _engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "headway_schema"})
        found = compare_metadata(context, _tables.metadata)
    engine.dispose()

    # Alembic does not look at its own table in the database, so it misses that one.
    assert [change for change in found if "headway_schema" not in str(change)] == []
    assert _shape(url) == made


def _shape(url: str) -> dict[str, object]:
    """The tables of a database with all that can be asked about them, and the revision it says it has."""
    engine = _engine(url)
    with engine.connect() as connection:
        look = sa.inspect(connection)
        found: dict[str, object] = {
            name: (
                [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in look.get_columns(name)],
                sorted(look.get_pk_constraint(name)["constrained_columns"]),
                sorted((str(u["name"]), u["column_names"]) for u in look.get_unique_constraints(name)),
                sorted((str(i["name"]), i["column_names"], bool(i["unique"])) for i in look.get_indexes(name)),
                look.get_foreign_keys(name),
            )
            for name in look.get_table_names()
        }
        if engine.dialect.name == "sqlite":
            counted = sa.text("select name from sqlite_master where sql like '%AUTOINCREMENT%'")
            found["counted"] = sorted(connection.execute(counted).scalars())
        found["revision"] = connection.execute(sa.select(_tables.schema.c.version_num)).scalars().all()
    engine.dispose()
    return found


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(config).get_heads() == [_tables.HEAD]


def test_every_migration_can_be_undone(url: str) -> None:
    open_metadata(url, "trips", "local").close()
    _downgrade(url, "base")
    engine = _engine(url)
    assert sa.inspect(engine).get_table_names() == ["headway_schema"]
    engine.dispose()

    open_metadata(url, "trips", "local").close()


def test_what_the_first_release_kept_is_still_there(url: str, record: Build) -> None:
    """A database of before there were runs: it is brought up to date when it is opened, with all that is in it."""
    with open_metadata(url, "trips", "local") as metadata:
        metadata.versions.add(record(version=1))
        line = metadata.deployments.append(
            action="promote", model="m", segment=None, version=1, by="me", at=5, why="good", figures={"mae": 1.0}
        )
        stage = metadata.stages.put("train", "m", "d1", {"version": 1}, at=3)
    _downgrade(url, "v0001")
    engine = _engine(url)
    assert "headway_runs" not in sa.inspect(engine).get_table_names()
    engine.dispose()

    with open_metadata(url, "trips", "local") as metadata:
        assert metadata.versions.list("m") == [record(version=1)]
        assert metadata.deployments.list("m") == metadata.deployments.recent() == [line]
        assert metadata.stages.get("train", "m") == stage
        later = metadata.versions.add(record(version=2, digest="d2"))
        assert metadata.versions.latest("m") == later
        run = metadata.runs.create(RunRecord(targets=("m",)))
        assert metadata.runs.list() == [run]


def test_many_openers_of_an_old_database_migrate_it_once(url: str) -> None:
    open_metadata(url, "trips", "local").close()
    _downgrade(url, "v0001")

    def open_it(_: int) -> int:
        with open_metadata(url, "trips", "local") as metadata:
            return metadata.runs.create(RunRecord()).id

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(open_it, range(4))) == [1, 2, 3, 4]


def _downgrade(url: str, revision: str) -> None:
    _alembic(url, command.downgrade, revision)


def _upgrade(url: str, revision: str) -> None:
    _alembic(url, command.upgrade, revision)


def _alembic(url: str, move: Callable[[Config, str], object], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    engine = _engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        move(config, revision)
    engine.dispose()


def test_opening_a_current_database_does_not_load_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/metadata.db"
    open_metadata(url, "trips", "local").close()
    code = (
        "import sys; from headway.metadata import open_metadata\n"
        f"open_metadata({url!r}, 'trips', 'local').close()\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'alembic', 'mlflow', 'pandas', 'pyarrow', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"
