"""What the project has, in a form to list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from headway.data.online import OnlineReader
from headway.define import Feature, FeatureView
from headway.define._written import written
from headway.define.records import ViewPlan
from headway.metadata import answering, held, live
from headway.monitor.verify import VerifyResult
from headway.orchestrate._lineage import origins, read_columns
from headway.orchestrate._parts import Parts
from headway.orchestrate.statistics import ViewStatistics, kept_statistics
from headway.orchestrate.verification import last_verified

Fresh = Literal["fresh", "late", "expired", "never materialized", "historical only"]


class FeatureEntry(msgspec.Struct, frozen=True):
    """One feature of a view. ``columns`` are those of the view's source that it is computed from, ``origins`` where
    they come from, as ``source.column`` of sources without a query; ``models`` are those that it is an input of, be it
    by a request function."""

    name: str
    type: str
    computed: str
    window: str | None
    columns: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


class VersionUse(msgspec.Struct, frozen=True):
    """A model version that a view must stay online for. ``role`` says why; ``same``: it was trained with the view as it
    is declared now."""

    model: str
    version: int
    role: Literal["live", "previous"]
    same: bool = True


class ViewEntry(msgspec.Struct, frozen=True):
    """One view of the catalog. ``lineage`` names the sources it is computed from, the files last.

    ``fresh`` compares ``as_of``, the moment the online values speak for, with ``expected``, the one that training would
    take now; they are ``late_by`` microseconds apart. ``verified`` and ``statistics`` are the last ones there are, with
    the refresh they speak of; ``code`` is the declaration as it stands in the project's files, ``sql`` gives the rows.
    """

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
    fresh: Fresh = "never materialized"
    expected: int | None = None
    late_by: int | None = None
    key_columns: dict[str, str] = {}
    time_columns: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    versions: tuple[VersionUse, ...] = ()
    verified: VerifyResult | None = None
    statistics: ViewStatistics | None = None
    code: str = ""


def views(parts: Parts, names: Sequence[str]) -> list[ViewEntry]:
    """Catalog entries of some views of the project."""
    in_use = version_uses(parts)
    store = parts.open_online(True)
    try:
        reader = OnlineReader(store)
        return [_view(parts, reader, name, in_use) for name in names]
    finally:
        store.close()


def _view(
    parts: Parts, reader: OnlineReader, name: str, in_use: Mapping[str, Sequence[tuple[str, VersionUse]]]
) -> ViewEntry:
    view = parts.declarations.views[name]
    plan = parts.binder.view(view)
    mark = reader.watermark(plan)
    now = parts.clock.now()
    as_of = None if mark is None else mark.as_of
    place, code = written(view, parts.root)
    return ViewEntry(
        name=name,
        entity=view.entity.name,
        keys=view.entity.key,
        source=view.source.name,
        lineage=tuple(sorted(parts.binder.base_sources(view.source))),
        features=features(parts, view, plan),
        refresh=view.refresh,
        lag=view.lag,
        ttl=view.ttl,
        as_of=as_of,
        used_by=tuple(m.name for m in parts.declarations.models.values() if any(s.view is view for s in m.selections)),
        owner=view.owner,
        description=view.description,
        tags=view.tags,
        place=place,
        fingerprint=plan.fingerprint,
        sql=plan.sql,
        fresh=fresh(plan, as_of, now),
        expected=plan.r(now) if plan.refresh is not None else None,
        late_by=late_by(plan, as_of, now),
        key_columns=dict(view.keys),
        time_columns=tuple(c for c in (view.source.timestamp, view.source.created) if c),
        functions=functions(parts, view),
        sets=sets(parts, view),
        versions=uses_of(in_use, name, plan.fingerprint),
        verified=last_verified(parts, plan.fingerprint),
        statistics=kept_statistics(parts, plan.fingerprint),
        code=code,
    )


def features(parts: Parts, view: FeatureView, plan: ViewPlan | None) -> tuple[FeatureEntry, ...]:
    """The features of a view; without types where it cannot be bound."""
    types = {f.name: f.type for f in plan.features} if plan else {}
    models = _models_of(parts, view)
    entries = []
    for feature in view.features:
        columns = read_columns(view, feature)
        entries.append(
            FeatureEntry(
                feature.name,
                types.get(feature.name, ""),
                computed(feature),
                feature.window,
                columns,
                origins(parts, view.source, columns),
                models.get(feature.name, ()),
            )
        )
    return tuple(entries)


def computed(feature: Feature) -> str:
    """How a feature is computed, much as it was declared."""
    if feature.kind == "row":
        return feature.column or ""
    if feature.kind == "expr":
        return feature.expression or ""
    inside = [text for text in (feature.column, None if feature.q is None else f"{feature.q:g}") if text]
    inside += [str(feature.n)] if feature.n is not None else []
    inside += [f"{what}={text!r}" for what, text in (("where", feature.where), ("offset", feature.offset)) if text]
    return f"{feature.kind}({', '.join(inside)})"


def _models_of(parts: Parts, view: FeatureView) -> dict[str, tuple[str, ...]]:
    """Feature → the models that take it."""
    found: dict[str, dict[str, None]] = {}
    for model in parts.declarations.models.values():
        for selection in model.selections:
            for name in selection.features if selection.view is view else ():
                found.setdefault(name, {})[model.name] = None
    return {name: tuple(models) for name, models in found.items()}


def functions(parts: Parts, view: FeatureView) -> tuple[str, ...]:
    """The request functions that take features of a view."""
    declared = parts.declarations.functions.values()
    return tuple(f.name for f in declared if any(getattr(i, "view", None) is view for i in f.inputs))


class SetEntry(msgspec.Struct, frozen=True):
    """One feature set of the catalog."""

    name: str
    views: tuple[str, ...]
    keys: tuple[str, ...]  # the columns that a request gives
    columns: tuple[str, ...]
    owner: str | None
    description: str | None
    tags: tuple[str, ...]
    place: str


def set_entries(parts: Parts) -> list[SetEntry]:
    """Every feature set of the project."""
    return [
        SetEntry(
            name=s.name,
            views=tuple(dict.fromkeys(selection.view.name for selection in s.selections)),
            keys=tuple(dict.fromkeys(column for selection in s.selections for column in selection.keys.values())),
            columns=s.columns,
            owner=s.owner,
            description=s.description,
            tags=s.tags,
            place=str(s.place),
        )
        for s in parts.declarations.sets.values()
    ]


def sets(parts: Parts, view: FeatureView) -> tuple[str, ...]:
    """The feature sets that a view is in."""
    return tuple(s.name for s in parts.declarations.sets.values() if any(i.view is view for i in s.selections))


def version_uses(parts: Parts) -> dict[str, list[tuple[str, VersionUse]]]:
    """View → the model versions that need it online, with the fingerprint of the definition each was trained with. Two
    queries, however many versions and segments there are."""
    roles: dict[tuple[str, int], Literal["live", "previous"]] = {}
    for model, log in parts.metadata.deployments.lines().items():
        now = answering(log).values()
        roles |= {(model, each.previous): "previous" for each in now if each.previous is not None}
        roles |= {(model, each.version): "live" for each in now}
    found: dict[str, list[tuple[str, VersionUse]]] = {}
    for (model, version), record in parts.metadata.versions.brief(roles).items():
        use = VersionUse(model, version, roles[model, version])
        for name, fingerprint in {(use.plan.name, use.plan.fingerprint) for use in record.views}:
            found.setdefault(name, []).append((fingerprint, use))
    return found


def uses_of(
    in_use: Mapping[str, Sequence[tuple[str, VersionUse]]], name: str, fingerprint: str
) -> tuple[VersionUse, ...]:
    """Who of ``version_uses`` needs a view, the live ones first."""
    found = [msgspec.structs.replace(use, same=mine == fingerprint) for mine, use in in_use.get(name, ())]
    return tuple(sorted(found, key=lambda use: (use.role != "live", use.model, -use.version)))


def late_by(plan: ViewPlan, as_of: int | None, now: int) -> int | None:
    """By how many microseconds the online values of a view are older than training assumes; 0: they are not; None:
    there are none, or the view is not kept online."""
    if as_of is None or not plan.online:
        return None
    return max(plan.r(now) - as_of, 0) if plan.refresh is not None else 0


def keeps(plan: ViewPlan) -> int:
    """How late values may be, in microseconds, before they are served as null."""
    return plan.ttl if plan.ttl is not None else 3 * (plan.refresh or 0)


def fresh(plan: ViewPlan, as_of: int | None, now: int) -> Fresh:
    """What the online values of a view are worth, as serving sees it."""
    if not plan.online:
        return "historical only"
    if as_of is None:
        return "never materialized"
    late = late_by(plan, as_of, now) or 0
    if not late:
        return "fresh"
    return "expired" if late > keeps(plan) else "late"


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
