"""Versions, deployments, stage results and what MLflow has been told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision: str | None = None


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _place() -> list[sa.Column[str]]:
    return [sa.Column("project", sa.String(255), nullable=False), sa.Column("env", sa.String(255), nullable=False)]


def upgrade() -> None:
    _versions()
    _deployments()
    _stages()
    _projections()


def downgrade() -> None:
    for table in ("projected_logs", "projections", "stages", "deployments", "versions"):
        op.drop_table(f"headway_{table}")


def _versions() -> None:
    op.create_table(
        "headway_versions",
        _id(),
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


def _deployments() -> None:
    op.create_table(
        "headway_deployments",
        _id(),
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
        sa.UniqueConstraint("project", "env", "after", name="headway_deployments_chain"),
        sqlite_autoincrement=True,
    )
    op.create_index("headway_deployments_model", "headway_deployments", ["project", "env", "model", "id"])


def _stages() -> None:
    op.create_table(
        "headway_stages",
        _id(),
        *_place(),
        sa.Column("stage", sa.String(255), nullable=False),
        sa.Column("target", sa.String(512), nullable=False),
        sa.Column("digest", sa.String(128), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.UniqueConstraint("project", "env", "stage", "target", "digest", name="headway_stages_digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("headway_stages_target", "headway_stages", ["project", "env", "stage", "target", "id"])


def _projections() -> None:
    op.create_table(
        "headway_projections",
        _id(),
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
    op.create_table(
        "headway_projected_logs",
        _id(),
        *_place(),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("tracking", sa.String(64), nullable=False),
        sa.Column("last_id", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("project", "env", "model", "tracking", name="headway_projected_logs_model"),
        sqlite_autoincrement=True,
    )
