"""The tables, as the newest migration leaves them.

Every row is addressed by project and environment. An id once given is never given again.
"""

from __future__ import annotations

import sqlalchemy as sa

HEAD = "v0001"  # the newest migration; a database that says so is not migrated

metadata = sa.MetaData()

_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up only an INTEGER key


def _place() -> list[sa.Column[str]]:
    return [sa.Column("project", sa.String(255), nullable=False), sa.Column("env", sa.String(255), nullable=False)]


schema = sa.Table("headway_schema", metadata, sa.Column("version_num", sa.String(32), primary_key=True))

versions = sa.Table(
    "headway_versions",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.UniqueConstraint("project", "env", "model", "version", name="headway_versions_number"),
    sa.UniqueConstraint("project", "env", "model", "digest", name="headway_versions_digest"),
    sqlite_autoincrement=True,
)

deployments = sa.Table(
    "headway_deployments",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("after", sa.BigInteger, nullable=False),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("segment", sa.Text),
    sa.Column("version", sa.Integer),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("figures", sa.Text, nullable=False),
    # Two lines cannot follow the same line, so appends happen one after the other on every database,
    # and a reader that has seen id N never misses a smaller id that becomes visible later.
    sa.UniqueConstraint("project", "env", "after", name="headway_deployments_chain"),
    sa.Index("headway_deployments_model", "project", "env", "model", "id"),
    sqlite_autoincrement=True,
)

stages = sa.Table(
    "headway_stages",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("stage", sa.String(255), nullable=False),
    sa.Column("target", sa.String(512), nullable=False),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("output", sa.Text, nullable=False),
    sa.UniqueConstraint("project", "env", "stage", "target", "digest", name="headway_stages_digest"),
    sa.Index("headway_stages_target", "project", "env", "stage", "target", "id"),
    sqlite_autoincrement=True,
)

projections = sa.Table(
    "headway_projections",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("tracking", sa.String(64), nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.UniqueConstraint("project", "env", "model", "version", "tracking", name="headway_projections_version"),
    sqlite_autoincrement=True,
)

projected_logs = sa.Table(
    "headway_projected_logs",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("tracking", sa.String(64), nullable=False),
    sa.Column("last_id", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("project", "env", "model", "tracking", name="headway_projected_logs_model"),
    sqlite_autoincrement=True,
)
