"""The tables, as the newest migration leaves them.

Every row is addressed by project and environment. An id once given is never given again.
"""

from __future__ import annotations

import sqlalchemy as sa

HEAD = "v0002"  # the newest migration; a database that says so is not migrated

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

runs = sa.Table(
    "headway_runs",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("targets", sa.Text, nullable=False),  # JSON
    sa.Column("params", sa.Text, nullable=False),  # JSON
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
    # A page of runs is the newest of each status, merged: so every filter is a prefix of one of these.
    sa.Index("headway_runs_status", "project", "env", "status", "id"),
    sa.Index("headway_runs_kind", "project", "env", "kind", "status", "id"),
    sa.Index("headway_runs_schedule", "project", "env", "schedule", "status", "id"),
    sqlite_autoincrement=True,
)

run_names = sa.Table(  # one row for each target of a run, so that runs are found by any of them
    "headway_run_names",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),  # as in the run
    sa.Column("run", sa.BigInteger, nullable=False),
    sa.Index("headway_run_names_name", "project", "env", "name", "status", "run"),
    sa.Index("headway_run_names_run", "run"),
    sqlite_autoincrement=True,
)

steps = sa.Table(
    "headway_steps",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("run", sa.BigInteger, nullable=False),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("step", sa.String(255), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(128)),
    sa.Column("record", sa.Text, nullable=False),  # JSON
    sa.UniqueConstraint("project", "env", "run", "key", name="headway_steps_key"),
    sa.Index("headway_steps_digest", "project", "env", "digest", "status", "id"),
    sa.Index("headway_steps_step", "project", "env", "step", "id"),
    sqlite_autoincrement=True,
)

schedules = sa.Table(
    "headway_schedules",
    metadata,
    sa.Column("id", _id, primary_key=True),
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

slots = sa.Table(
    "headway_slots",
    metadata,
    sa.Column("id", _id, primary_key=True),
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

figures = sa.Table(
    "headway_figures",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("series", sa.String(32), nullable=False),  # digest of version, segment, kind and name: none may be null
    sa.Column("segment", sa.String(255)),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("window_start", sa.BigInteger, nullable=False),
    sa.Column("window_end", sa.BigInteger, nullable=False),
    sa.Column("alarm", sa.Boolean, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text, nullable=False),  # JSON
    sa.UniqueConstraint(
        "project", "env", "model", "series", "window_end", "window_start", name="headway_figures_series"
    ),
    sa.Index("headway_figures_window", "project", "env", "model", "window_end", "alarm", "segment"),
    sa.Index("headway_figures_segment", "project", "env", "model", "segment", "window_end"),
    sa.Index("headway_figures_name", "project", "env", "model", "kind", "name", "window_end"),
    sqlite_autoincrement=True,
)

figure_windows = sa.Table(  # what is asked about all models at once: their windows, summed up
    "headway_figure_windows",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("window_end", sa.BigInteger, nullable=False),
    sa.Column("alarms", sa.Integer, nullable=False),
    sa.UniqueConstraint("project", "env", "model", "window_end", name="headway_figure_windows_end"),
    sqlite_autoincrement=True,
)

alerts = sa.Table(
    "headway_alerts",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("open_key", sa.String(255)),  # null once resolved, so that one key has one unresolved alert
    sa.Column("model", sa.String(255)),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),  # of the severity: 0 is the worst
    sa.Column("last_at", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text, nullable=False),  # JSON
    sa.UniqueConstraint("project", "env", "open_key", name="headway_alerts_open"),
    sa.Index("headway_alerts_state", "project", "env", "state", "rank", "id"),
    sa.Index("headway_alerts_model", "project", "env", "model", "state", "rank", "id"),
    sqlite_autoincrement=True,
)

silences = sa.Table(
    "headway_silences",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("key_prefix", sa.String(255), nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("project", "env", "key_prefix", name="headway_silences_prefix"),
    sqlite_autoincrement=True,
)

audit = sa.Table(
    "headway_audit",
    metadata,
    sa.Column("id", _id, primary_key=True),
    *_place(),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # JSON
    sa.Index("headway_audit_place", "project", "env", "id"),
    sqlite_autoincrement=True,
)
