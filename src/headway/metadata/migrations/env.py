"""Alembic runs this file; the connection, its transaction and its locks belong to the caller."""

from __future__ import annotations

from alembic import context

from headway.metadata import _tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=_tables.metadata,
    version_table=_tables.schema.name,
    transactional_ddl=True,
)
context.run_migrations()
