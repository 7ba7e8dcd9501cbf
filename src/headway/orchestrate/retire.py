"""Taking a feature view out of use: its rows, and the name that servers know it by.

What is declared is not retired but deleted from the project first; what a live or previous version of a model needs is
not retired at all. Versions keep their own plans, so nothing that is recorded is lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from headway.clock import WallClock
from headway.define.records import ViewPlan
from headway.errors import HeadwayError, NotFoundError, RetireRefused, UsageError
from headway.metadata import PublishedFeatures
from headway.orchestrate._parts import Parts
from headway.orchestrate.catalog import functions, sets, version_uses

Kind = Literal["view", "set"]

_HEX = re.compile(r"[0-9a-f]{8,32}")


class Retired(msgspec.Struct, frozen=True):
    """What was retired: the definitions of the view by fingerprint, how many rows they had online, and the names (views
    and sets) that servers do not offer any more."""

    view: str
    fingerprints: tuple[str, ...]
    rows: int
    names: tuple[str, ...]


def retire(parts: Parts, needed: Mapping[str, ViewPlan], what: str, *, by: str, why: str) -> Retired:
    """Retire every definition of a view that the project does not declare any more, or one definition by the beginning
    of its fingerprint. ``needed`` are the definitions that must stay online.

    The decision is in the audit log before anything is dropped; what was cut short is finished by doing it again.

    Raises
    ------
    RetireRefused
        The view is declared, or something needs the definition.
    """
    if not why.strip():
        raise UsageError("retiring a view needs a reason: say why")
    store = parts.open_online(False)
    try:
        stored = {prefix.hex() for prefix in store.prefixes()}
        view, chosen = _chosen(parts, what, stored)
        published = parts.metadata.published.features()
        _refuse_in_use(parts, view, chosen, published)
        dropped = [fingerprint for fingerprint in chosen if fingerprint not in needed]  # another view may be the same
        names = _names(parts, chosen, published)
        if not names and not stored & set(dropped):
            raise NotFoundError(f"nothing of feature view {view!r} is online or offered by servers; it is retired")
        details = {"fingerprints": ", ".join(dropped), "names": ", ".join(name for _, name in names)}
        parts.metadata.audit.append(by, "retire view", view, why, details, at=WallClock().now())
        for kind, name in names:
            parts.metadata.published.withdraw(kind, name, parts.clock.now())
        rows = sum(store.drop(bytes.fromhex(fingerprint)) - 1 for fingerprint in dropped if fingerprint in stored)
        return Retired(view, tuple(dropped), max(rows, 0), tuple(name for _, name in names))
    finally:
        store.close()


def _chosen(parts: Parts, what: str, stored: set[str]) -> tuple[str, list[str]]:
    """The view and the fingerprints that a name, or the beginning of a fingerprint, stands for."""
    known = _known(parts)
    declared = parts.declarations.views
    if what in declared:
        online = [fingerprint for fingerprint, name in known.items() if name == what and fingerprint in stored]
        raise RetireRefused(_still_declared(parts, what, online))
    by_name = [fingerprint for fingerprint, name in known.items() if name == what]
    if by_name:
        return what, by_name
    matching = sorted(f for f in {*known, *stored} if f.startswith(what)) if _HEX.fullmatch(what) else []
    if len(matching) > 1:
        raise UsageError(f"{what!r} is the beginning of several fingerprints: {', '.join(matching)}; write more of it")
    if not matching:
        raise NotFoundError.among("feature view that was ever materialized", what, {*declared, *known.values()})
    view = known.get(matching[0], matching[0])
    for name, each in declared.items():
        if matching[0] == _fingerprint(parts, name) and (name == view or view not in declared):
            raise RetireRefused(_still_declared(parts, each.name, []))
    return view, matching


def _known(parts: Parts) -> dict[str, str]:
    """Fingerprint → view, for every definition that was ever materialized or is offered."""
    stages = parts.metadata.stages
    found = {target: str(done.output["view"]) for (_, target), done in stages.latest("materialize").items()}
    return found | {plan.fingerprint: plan.name for plan in parts.metadata.published.features().views.values()}


def _fingerprint(parts: Parts, name: str) -> str | None:
    try:
        return parts.binder.view(parts.declarations.views[name]).fingerprint
    except HeadwayError:  # it does not fit its data, so it was not materialized like this
        return None


def _still_declared(parts: Parts, name: str, online: list[str]) -> str:
    view = parts.declarations.views[name]
    models = [m.name for m in parts.declarations.models.values() if any(s.view is view for s in m.selections)]
    users = [
        f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for kind, names in (("model", models), ("set", sets(parts, view)), ("request function", functions(parts, view)))
        if names
    ]
    used = f", and used by {' and '.join(users)}" if users else ""
    old = [fingerprint for fingerprint in online if fingerprint != _fingerprint(parts, name)]
    rest = f"; an older definition is retired by its fingerprint: {', '.join(old)}" if old else ""
    return f"feature view {name!r} is declared at {view.place}{used}; delete the declaration first{rest}"


def _refuse_in_use(parts: Parts, view: str, chosen: list[str], published: PublishedFeatures) -> None:
    """Refuse what versions need, and what servers answer with under a name that the project declares."""
    needing = [use for uses in version_uses(parts).values() for fingerprint, use in uses if fingerprint in chosen]
    if needing:
        who = ", ".join(dict.fromkeys(f"{use.model}@{use.version} ({use.role})" for use in needing))
        raise RetireRefused(
            f"feature view {view!r} is needed by {who}; promote versions that do without it first, until neither the"
            " live nor the previous one was trained with it"
        )
    answering = [name for name, plan in published.views.items() if plan.fingerprint in chosen]
    answering += [name for name, plans in published.sets.items() if any(u.plan.fingerprint in chosen for u in plans)]
    declared = [name for name in answering if name in parts.declarations.views or name in parts.declarations.sets]
    if declared and not _same_as_declared(parts, chosen):
        raise RetireRefused(
            f"servers still answer {', '.join(map(repr, declared))} from this definition;"
            f" `headway features materialize {declared[0]}` puts the new one in its place first"
        )


def _same_as_declared(parts: Parts, chosen: list[str]) -> bool:
    """Whether another view of the project is the same in all but its name, so that its rows stay."""
    return all(any(_fingerprint(parts, name) == each for name in parts.declarations.views) for each in chosen)


def _names(parts: Parts, chosen: list[str], published: PublishedFeatures) -> list[tuple[Kind, str]]:
    """Names that servers offer, that stand for the definitions, and that the project does not declare any more."""
    found: list[tuple[Kind, str]] = [
        ("view", name)
        for name, plan in published.views.items()
        if plan.fingerprint in chosen and name not in parts.declarations.views
    ]
    found += [
        ("set", name)
        for name, uses in published.sets.items()
        if any(use.plan.fingerprint in chosen for use in uses) and name not in parts.declarations.sets
    ]
    return found
