"""What the project has, in a form to list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headway.data.online import OnlineReader
from headway.metadata import held, live
from headway.orchestrate._parts import Parts


class FeatureEntry(msgspec.Struct, frozen=True):
    """One feature of a view."""

    name: str
    type: str
    computed: str
    window: str | None


class ViewEntry(msgspec.Struct, frozen=True):
    """One view of the catalog. ``lineage`` names the sources it is computed from, the files last."""

    name: str
    entity: str
    keys: tuple[str, ...]
    source: str
    lineage: tuple[str, ...]
    features: tuple[FeatureEntry, ...]
    refresh: str | None
    lag: str | None
    ttl: str | None
    as_of: int | None
    used_by: tuple[str, ...]
    owner: str | None
    description: str | None
    tags: tuple[str, ...]
    place: str
    fingerprint: str
    sql: str


def views(parts: Parts, names: Sequence[str]) -> list[ViewEntry]:
    """Catalog entries of some views of the project."""
    store = parts.open_online(True)
    try:
        reader = OnlineReader(store)
        return [_view(parts, reader, name) for name in names]
    finally:
        store.close()


def _view(parts: Parts, reader: OnlineReader, name: str) -> ViewEntry:
    view = parts.declarations.views[name]
    plan = parts.binder.view(view)
    mark = reader.watermark(plan)
    types = {f.name: f.type for f in plan.features}
    users = [m.name for m in parts.declarations.models.values() if any(s.view is view for s in m.selections)]
    computed = {
        f.name: (f.column or "") if f.kind == "row" else f"{f.kind}({', '.join(filter(None, (f.column, _q(f.q))))})"
        for f in view.features
    }
    return ViewEntry(
        name=name,
        entity=view.entity.name,
        keys=view.entity.key,
        source=view.source.name,
        lineage=tuple(sorted(parts.binder.base_sources(view.source))),
        features=tuple(FeatureEntry(f.name, types[f.name], computed[f.name], f.window) for f in view.features),
        refresh=view.refresh,
        lag=view.lag,
        ttl=view.ttl,
        as_of=None if mark is None else mark.as_of,
        used_by=tuple(users),
        owner=view.owner,
        description=view.description,
        tags=view.tags,
        place=str(view.place),
        fingerprint=plan.fingerprint,
        sql=plan.sql,
    )


def _q(q: float | None) -> str | None:
    return None if q is None else f"{q:g}"


def models(parts: Parts, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per model and per segment with a decision of its own: what answers, since when, by whom, how good."""
    rows = []
    for name in names:
        log = parts.registry.log(name)
        versions = {v.version: v for v in parts.registry.versions(name)}
        answering = live(log)
        for segment in sorted(answering, key=lambda s: s or "") or [None]:
            version = answering.get(segment)
            record = versions.get(version) if version is not None else None
            line = next((d for d in reversed(log) if d.version == version and d.segment == segment), None)
            figures = (
                record.segment_metrics.get(segment, {}) if record and segment else record.metrics if record else {}
            )
            rows.append(
                {
                    "model": name,
                    "segment": segment,
                    "live": version,
                    "since": line.at if line else None,
                    "by": line.by if line else None,
                    "why": line.why if line else None,
                    "metric": record.metric if record else None,
                    "figure": figures.get(record.metric) if record else None,
                    "baseline": record.baseline.get(record.metric) if record and segment is None else None,
                    "versions": len(versions),
                    "held": held(log, segment) is not None,
                }
            )
    return rows
