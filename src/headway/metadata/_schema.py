"""Brings a database to the schema this release knows."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from headway.errors import StoreError
from headway.metadata._database import Database
from headway.metadata._tables import HEAD, schema

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x68656164  # an advisory lock's number on PostgreSQL


def ensure_schema(database: Database) -> None:
    """Run the migrations that are missing. Compares one value when there are none."""
    with database.read() as connection:
        found = _revision(connection)
    if found != HEAD:
        with database.write() as connection:
            _migrate(connection, database.place)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(schema.name):
        return None
    return connection.execute(sa.select(schema.c.version_num)).scalar()


def _migrate(connection: sa.Connection, where: str) -> None:
    # Alembic takes 0.1 to 0.5 s to import, and most openings need no migration.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    found = _revision(connection)
    if found == HEAD:
        return  # somebody else was quicker
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"the metadata {where} has schema {found!r}, which this headway does not know; "
            "it was written by a newer one: upgrade headway"
        ) from error
