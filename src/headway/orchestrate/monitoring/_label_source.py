"""The rows that labels come from, watched as they are: a column need not be a feature for its change to matter, and the
label itself is one of them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from headway.define import Model
from headway.define.records import VersionRecord
from headway.define.watch_records import Figure
from headway.monitor import Counts, Profile, build_profile, count, drift
from headway.orchestrate._parts import Parts
from headway.orchestrate.monitoring._windows import Window

LEAST = 50  # rows of a window below which nothing is said


def source_columns(model: Model, rows: pa.Table) -> pa.Table:
    """The columns of the label's source that are watched, named ``source.column``: neither ids, keys and times, nor
    what is sent with requests and so is watched as a feature."""
    source = model.label.source
    left_out = {*source.id, source.timestamp, source.created, *model.entity_columns, *model.request_inputs}
    kept = [
        field.name
        for field in rows.schema
        if field.name not in left_out and not field.name.startswith("__") and not pa.types.is_timestamp(field.type)
    ]
    return rows.select(kept).rename_columns([f"{source.name}.{name}" for name in kept])


def source_profile(model: Model, rows: pa.Table) -> Profile | None:
    """The bins of these columns."""
    table = source_columns(model, rows)
    return build_profile(table) if table.num_columns and table.num_rows else None


def label_source_figures(
    parts: Parts,
    model: Model,
    record: VersionRecord,
    profile: Profile | None,
    history: Sequence[Counts],
    window: Window,
    previous: Sequence[Figure],
) -> list[Figure]:
    """How the rows of a window, as far as they are known by now, differ from those the version was trained on."""
    source = model.label.source
    if profile is None or source.timeless:
        return []
    rows = parts.binder.current_rows(source, parts.clock.now(), between=window)
    if rows.num_rows < LEAST:
        return []
    figures = drift(
        profile,
        count(profile, source_columns(model, rows)),
        model=model.name,
        version=record.version,
        window=window,
        history=history,
        previous=[f for f in previous if f.segment is None],
    )
    return [f for f in figures if f.kind != "volume"]
