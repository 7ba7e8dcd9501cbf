"""The stages of a project run as steps: which there are, and which have to come before which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headway.define import Source
from headway.define.run_records import StepRecord
from headway.errors import NotFoundError
from headway.orchestrate._parts import Parts
from headway.orchestrate.ingest import is_copied
from headway.orchestrate.plan import Targets


def key(stage: str, target: str) -> str:
    """The key of a stage's step: ``train:trip_duration``."""
    return f"{stage}:{target}"


def steps_of(parts: Parts, targets: Targets) -> list[StepRecord]:
    """Every stage of the targets as a step that waits, in the order in which they are done."""
    declared = parts.declarations
    found: list[StepRecord] = []
    ready = {name: _ready(parts, declared.sources[name]) for name in targets.sources}

    def add(stage: str, target: str, needs: Iterable[str]) -> None:
        step = key(stage, target)
        found.append(StepRecord(run=0, key=step, step=step, needs=tuple(dict.fromkeys(needs))))

    for name in targets.sources:
        source = declared.sources[name]
        read = [need for inner in parts.binder.inputs(source) for need in ready[inner]]
        if is_copied(source):
            add("ingest", name, read)
        if source.checks:
            add("check", name, [key("ingest", name)] if is_copied(source) else read)
    for name in targets.models:
        model = declared.models[name]
        sources = dict.fromkeys([model.label.source.name, *(s.view.source.name for s in model.selections)])
        add("train", name, [need for source in sources for need in ready[source]])
        add("promote", name, [key("train", name)])
    for name in targets.views:
        view = declared.views.get(name)
        add("materialize", name, ready.get(view.source.name, ()) if view is not None else ())
    for name in targets.batches:
        batch = declared.batches[name]
        add("predict", name, [key("promote", batch.model.name), *ready[batch.input.name]])
    return found


def _ready(parts: Parts, source: Source) -> tuple[str, ...]:
    """The steps after which a source's rows may be used."""
    if source.checks:
        return (key("check", source.name),)
    if is_copied(source):
        return (key("ingest", source.name),)
    inputs = [parts.declarations.sources[name] for name in parts.binder.inputs(source)]
    return tuple(dict.fromkeys(step for inner in inputs for step in _ready(parts, inner)))


def following(steps: Sequence[StepRecord], first: str | None) -> set[str]:
    """The key ``first`` and those of all steps that come after it because they need it; none for None.

    Raises
    ------
    NotFoundError
        No step has this key.
    """
    if first is None:
        return set()
    if first not in {step.key for step in steps}:
        raise NotFoundError.among("step of the run", first, [step.key for step in steps])
    found, before = {first}, 0
    while len(found) > before:
        before = len(found)
        found |= {step.key for step in steps if found & set(step.needs)}
    return found


def stopped_by(needs: Iterable[str], stopped: Mapping[str, str]) -> str | None:
    """Why a step with these needs cannot be done, if one of them is among ``stopped`` (key → why)."""
    return next((stopped[need] for need in needs if need in stopped), None)
