"""Brings a database to this release's schema: a new one gets its tables, an older one its missing migrations."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from headway.errors import StoreError
from headway.metadata._database import Database
from headway.metadata._tables import HEAD, schema
from headway.metadata._tables import metadata as tables

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x68656164  # an advisory lock's number on PostgreSQL


def ensure_schema(database: Database) -> None:
    """Make the tables, or run the migrations that are missing. Compares one value when nothing is."""
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
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    found = _revision(connection)
    if found == HEAD:
        return  # somebody else was quicker
    if found is None:
        tables.create_all(connection)
        connection.execute(sa.insert(schema).values(version_num=HEAD))
        return
    # Alembic takes 0.1 to 0.5 s to import, and most openings need no migration.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

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
