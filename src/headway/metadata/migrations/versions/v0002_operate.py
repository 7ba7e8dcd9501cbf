"""Runs and their steps, schedules and their slots, figures of monitoring, alerts and the audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision: str | None = "v0001"


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _place() -> list[sa.Column[str]]:
    return [sa.Column("project", sa.String(255), nullable=False), sa.Column("env", sa.String(255), nullable=False)]


def upgrade() -> None:
    _runs()
    _steps()
    _schedules()
    _figures()
    _alerts()
    _audit()


def downgrade() -> None:
    for table in (
        "audit",
        "silences",
        "alerts",
        "figure_windows",
        "figures",
        "slots",
        "schedules",
        "steps",
        "run_names",
        "runs",
    ):
        op.drop_table(f"headway_{table}")


def _runs() -> None:
    op.create_table(
        "headway_runs",
        _id(),
        *_place(),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("targets", sa.Text, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("beat_at", sa.BigInteger),
        sa.Column("host", sa.Text),
        sa.Column("pid", sa.BigInteger),
        sa.Column("parent", sa.BigInteger),
        sa.Column("from_step", sa.Text),
        sa.Column("schedule", sa.String(255)),
        sa.Column("slot", sa.BigInteger),
        sa.Column("behind", sa.BigInteger),
        sa.Column("commit", sa.Text),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("cancel_by", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("headway_runs_status", "headway_runs", ["project", "env", "status", "id"])
    op.create_index("headway_runs_kind", "headway_runs", ["project", "env", "kind", "status", "id"])
    op.create_index("headway_runs_schedule", "headway_runs", ["project", "env", "schedule", "status", "id"])
    op.create_table(
        "headway_run_names",
        _id(),
        *_place(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("run", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("headway_run_names_name", "headway_run_names", ["project", "env", "name", "status", "run"])
    op.create_index("headway_run_names_run", "headway_run_names", ["run"])


def _steps() -> None:
    op.create_table(
        "headway_steps",
        _id(),
        *_place(),
        sa.Column("run", sa.BigInteger, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("step", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(128)),
        sa.Column("record", sa.Text, nullable=False),
        sa.UniqueConstraint("project", "env", "run", "key", name="headway_steps_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("headway_steps_digest", "headway_steps", ["project", "env", "digest", "status", "id"])
    op.create_index("headway_steps_step", "headway_steps", ["project", "env", "step", "id"])


def _schedules() -> None:
    op.create_table(
        "headway_schedules",
        _id(),
        *_place(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.UniqueConstraint("project", "env", "name", name="headway_schedules_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "headway_slots",
        _id(),
        *_place(),
        sa.Column("schedule", sa.String(255), nullable=False),
        sa.Column("slot", sa.BigInteger, nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        sa.Column("taken_by", sa.Text, nullable=False),
        sa.Column("run", sa.BigInteger),
        sa.Column("why", sa.Text, nullable=False),
        sa.UniqueConstraint("project", "env", "schedule", "slot", name="headway_slots_slot"),
        sqlite_autoincrement=True,
    )


def _figures() -> None:
    op.create_table(
        "headway_figures",
        _id(),
        *_place(),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("series", sa.String(32), nullable=False),
        sa.Column("segment", sa.String(255)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("window_start", sa.BigInteger, nullable=False),
        sa.Column("window_end", sa.BigInteger, nullable=False),
        sa.Column("alarm", sa.Boolean, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.UniqueConstraint(
            "project", "env", "model", "series", "window_end", "window_start", name="headway_figures_series"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "headway_figures_window", "headway_figures", ["project", "env", "model", "window_end", "alarm", "segment"]
    )
    op.create_index("headway_figures_segment", "headway_figures", ["project", "env", "model", "segment", "window_end"])
    op.create_index(
        "headway_figures_name", "headway_figures", ["project", "env", "model", "kind", "name", "window_end"]
    )
    op.create_table(
        "headway_figure_windows",
        _id(),
        *_place(),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("window_end", sa.BigInteger, nullable=False),
        sa.Column("alarms", sa.Integer, nullable=False),
        sa.UniqueConstraint("project", "env", "model", "window_end", name="headway_figure_windows_end"),
        sqlite_autoincrement=True,
    )


def _alerts() -> None:
    op.create_table(
        "headway_alerts",
        _id(),
        *_place(),
        sa.Column("open_key", sa.String(255)),
        sa.Column("model", sa.String(255)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.UniqueConstraint("project", "env", "open_key", name="headway_alerts_open"),
        sqlite_autoincrement=True,
    )
    op.create_index("headway_alerts_state", "headway_alerts", ["project", "env", "state", "rank", "id"])
    op.create_index("headway_alerts_model", "headway_alerts", ["project", "env", "model", "state", "rank", "id"])
    op.create_table(
        "headway_silences",
        _id(),
        *_place(),
        sa.Column("key_prefix", sa.String(255), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("project", "env", "key_prefix", name="headway_silences_prefix"),
        sqlite_autoincrement=True,
    )


def _audit() -> None:
    op.create_table(
        "headway_audit",
        _id(),
        *_place(),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("headway_audit_place", "headway_audit", ["project", "env", "id"])
