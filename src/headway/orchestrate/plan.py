"""What would run, what is up to date, and why.

The stages of a project in the order in which data travels: every source is copied and checked, every model
is trained and judged, every view is materialized. A stage's digest covers its inputs, code and settings; a stage whose
digest was recorded as done is up to date.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from headway.data.online import OnlineReader
from headway.data.pushes import waiting
from headway.data.sources import source_digest
from headway.define import Model, Source
from headway.define._checks import TIMED_KINDS
from headway.define.records import ViewPlan
from headway.errors import NotFoundError
from headway.orchestrate._digest import digest
from headway.orchestrate._parts import Parts
from headway.orchestrate.features import FeatureStage
from headway.orchestrate.ingest import arrival, is_copied, next_asking, place_of
from headway.orchestrate.training import training_digest

ASKED = "whether it has new rows is found out by asking it"

Stage = Literal["ingest", "check", "train", "promote", "materialize", "predict"]


class Item(msgspec.Struct, frozen=True):
    """One stage of one target: would it run, and why (not)."""

    stage: Stage
    target: str
    stale: bool
    why: str
    digest: str | None = None  # of what the stage depends on, where it can be told


class Targets(msgspec.Struct, frozen=True):
    """What a run is about: names of sources, models and views, in order of need."""

    sources: tuple[str, ...]
    models: tuple[str, ...]
    views: tuple[str, ...]
    batches: tuple[str, ...] = ()


def resolve(parts: Parts, names: Iterable[str] = ()) -> Targets:
    """The targets asked for and all they need; everything but batch predictions if none is named."""
    d = parts.declarations
    wanted = list(names)
    known = {*d.sources, *d.models, *d.views, *d.batches}
    for name in wanted:
        if name not in known:
            raise NotFoundError.among("target", name, known)
    batches = [n for n in wanted if n in d.batches]
    models = [n for n in d.models if not wanted or n in wanted or n in {d.batches[b].model.name for b in batches}]
    views = [n for n in d.views if not wanted or n in wanted]
    views = list(dict.fromkeys([*views, *(s.view.name for m in models for s in d.models[m].selections)]))
    needed = [n for n in d.sources if not wanted or n in wanted]
    needed += [d.models[m].label.source.name for m in models] + [d.batches[b].input.name for b in batches]
    needed += [d.views[v].source.name for v in views if v in d.views]
    return Targets(tuple(in_order(parts, needed)), tuple(models), tuple(views), tuple(batches))


def resolve_sources(parts: Parts, names: Iterable[str]) -> list[str]:
    """Sources by name with all they read, or every source."""
    known = parts.declarations.sources
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise NotFoundError.among("source", name, known)
    return in_order(parts, wanted or known)


def to_ingest(parts: Parts, names: Iterable[str], *, full: bool = False) -> list[Source]:
    """The sources with rows of their own among those that are named and all they read; or, of all, those that may have
    changed."""
    wanted = list(names)
    found = [parts.declarations.sources[name] for name in resolve_sources(parts, wanted)]
    copied = [source for source in found if is_copied(source)]
    if wanted or full:
        return copied
    return [source for source in copied if place_of(parts.settings, source).kind == "files" or _due(parts, source)]


def _due(parts: Parts, source: Source) -> bool:
    return ingest_item(parts, source).stale


def in_order(parts: Parts, names: Iterable[str]) -> list[str]:
    """Sources with all they read, the read ones first."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in found:
            return
        for inner in parts.binder.inputs(parts.declarations.sources[name]):
            visit(inner)
        found[name] = None

    for name in names:
        visit(name)
    return list(found)


def plan(parts: Parts, features: FeatureStage, names: Iterable[str] = ()) -> list[Item]:
    """Every stage of the targets, with whether it is stale and why; nothing is changed."""
    targets = resolve(parts, names)
    items: list[Item] = []
    changed: set[str] = set()
    asked: set[str] = set()  # whether their rows changed is not known before
    for name in targets.sources:
        source = parts.declarations.sources[name]
        if is_copied(source):
            items.append(ingest_item(parts, source))
            if items[-1].why == ASKED:
                asked.add(name)
        behind = {name, *parts.binder.base_sources(source)} - asked
        if any(i.stale and i.target in behind for i in items):
            changed.add(name)
        if source.checks:
            items.append(check_item(parts, source, name in changed))
    items += [train_item(parts, parts.declarations.models[name], changed) for name in targets.models]
    items += [materialize_item(parts, features, name, changed) for name in targets.views]
    return items


def ingest_item(parts: Parts, source: Source) -> Item:
    """Is the lake's copy of a source what there is now? A database or function has to be asked."""
    table = f"source/{source.name}"
    place = place_of(parts.settings, source)
    if place.kind != "files":
        return _other_item(parts, source, pushed=place.kind == "pushed")
    override = parts.settings.sources.get(source.name, {}).get("path")
    now = source_digest(source, parts.root, parts.settings.home / "digests.json", override)
    if parts.lake.version(table) is None:
        return Item("ingest", source.name, True, "not in the lake yet", now)
    if parts.lake.note(table).get("read") != now:
        return Item("ingest", source.name, True, "its files, or the way they are read, changed", now)
    return Item("ingest", source.name, False, "its files are as they were", now)


def _other_item(parts: Parts, source: Source, *, pushed: bool) -> Item:
    if parts.lake.version(f"source/{source.name}") is None:
        return Item("ingest", source.name, True, "not in the lake yet")
    if pushed:
        rows = waiting(parts.settings.home, source, parts.lake)
        said = f"{rows:,} rows were pushed" if rows else "nothing was pushed since"
        return Item("ingest", source.name, rows > 0, said)
    due, now = next_asking(parts, source), arrival(parts)
    if due is not None and now is not None and now < due:
        return Item("ingest", source.name, False, f"it was asked less than {source.every} ago")
    return Item("ingest", source.name, True, ASKED)


def check_digest(parts: Parts, source: Source) -> str:
    """What a source's checks depend on: the rows, the checks, and the time if one of them is about it."""
    timed = any(c.kind in TIMED_KINDS for c in source.checks)
    return digest(
        {table: parts.lake.note(table).get("digest") for table in parts.binder.tables(source)},
        parts.binder.sql(source),
        [[str(c), c.on_fail] for c in source.checks],
        parts.clock.now() if timed else None,
    )


def check_item(parts: Parts, source: Source, changed: bool) -> Item:
    """Were these checks done on these rows?"""
    if changed:
        return Item("check", source.name, True, "its rows changed")
    now = check_digest(parts, source)
    if parts.metadata.stages.find("check", source.name, now) is None:
        return Item("check", source.name, True, "not checked yet, or its checks or query changed", now)
    return Item("check", source.name, False, "checked as it is", now)


def train_item(parts: Parts, model: Model, changed: set[str]) -> Item:
    """Is there a version with these very inputs, and was it judged?"""
    read = {model.label.source.name, *(s.view.source.name for s in model.selections)}
    if read & changed:
        return Item("train", model.name, True, f"the rows of {', '.join(sorted(read & changed))} changed")
    wanted = training_digest(parts, model)
    existing = parts.metadata.versions.by_digest(model.name, wanted)
    if existing is None:
        first = parts.metadata.versions.next_version(model.name) == 1
        why = "no version yet" if first else "declaration, code or libraries changed"
        return Item("train", model.name, True, why, wanted)
    if parts.metadata.stages.find("gate", model.name, wanted) is None:
        return Item("train", model.name, True, f"version {existing.version} has not been judged", wanted)
    return Item("train", model.name, False, f"version {existing.version} has these very inputs", wanted)


def materialize_item(parts: Parts, features: FeatureStage, name: str, changed: set[str]) -> Item:
    """Does the online store have the view's last refresh, from the data as it is?"""
    view = features.view(name)
    if view.source.name in changed:
        return Item("materialize", name, True, f"the rows of {view.source.name} changed")
    return bound_item(parts, parts.binder.view(view))


def bound_item(parts: Parts, bound: ViewPlan) -> Item:
    """``materialize_item`` for a bound view, which may be one of an older version of a model."""
    name = bound.name
    if not bound.online:
        return Item("materialize", name, False, "it has windows and no refresh: historical only")
    store = parts.open_online(True)
    try:
        mark = OnlineReader(store).watermark(bound)
    finally:
        store.close()
    if mark is None:
        return Item("materialize", name, True, "this definition is not in the online store yet")
    rows, due = parts.source_version(bound), bound.r(parts.clock.now())
    now = digest(bound.fingerprint, rows, due)
    if mark.version != rows:
        return Item("materialize", name, True, "its rows changed", now)
    if mark.as_of < due:
        return Item("materialize", name, True, "a refresh is due", now)
    return Item("materialize", name, False, "its last refresh is there", now)
