"""Migrations end where the tables say, and cost nothing when there is nothing to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import headway.metadata
from headway.metadata import _tables, open_metadata

MIGRATIONS = Path(headway.metadata.__file__).parent / "migrations"


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def test_migrations_lead_to_the_tables(url: str) -> None:
    open_metadata(url, "trips", "local").close()
    engine = _engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "headway_schema"})
        found = compare_metadata(context, _tables.metadata)
    engine.dispose()

    # Alembic does not look at its own table in the database, so it misses that one.
    assert [change for change in found if "headway_schema" not in str(change)] == []


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(config).get_heads() == [_tables.HEAD]


def test_every_migration_can_be_undone(url: str) -> None:
    open_metadata(url, "trips", "local").close()
    engine = _engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert sa.inspect(engine).get_table_names() == ["headway_schema"]
    engine.dispose()

    open_metadata(url, "trips", "local").close()


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
