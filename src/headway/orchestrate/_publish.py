"""What names of views and sets stand for, written down for servers, which import no project."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headway.data.online import OnlineReader
from headway.define import FeatureSet, FeatureView
from headway.define.records import Field, ViewPlan, ViewUse
from headway.errors import BindingError, DataError, DefinitionError
from headway.orchestrate._parts import Parts


def publish(parts: Parts, *, whole: bool = False) -> None:
    """Have the names of the project's views and sets stand for what was put online last.

    A view that was never materialized as it is declared now keeps its former meaning, and so does a set with such a
    view in it. With ``whole``, names that the project does not declare any more stand for nothing.
    """
    published, declared, at = parts.metadata.published, parts.declarations, parts.clock.now()
    plans = _online(parts, declared.views.values())
    ready = {plan.fingerprint for plan in plans}
    for plan in plans:
        published.put_view(plan, at)
    for feature_set in declared.sets.values():
        uses = _uses(parts, feature_set)
        if uses and all(use.plan.fingerprint in ready for use in uses):
            published.put_set(feature_set.name, uses, at)
    if whole:
        known = published.features()
        for name in known.views.keys() - declared.views.keys():
            published.withdraw("view", name, at)
        for name in known.sets.keys() - declared.sets.keys():
            published.withdraw("set", name, at)


def set_uses(parts: Parts, feature_set: FeatureSet) -> list[ViewUse]:
    """The set's views bound to their data.

    Raises
    ------
    BindingError
        Two of its views are keyed by a column of one name, and one takes text there and the other a number.
    """
    uses = [parts.binder.use(selection) for selection in feature_set.selections]
    check_keys(f"{feature_set.kind} {feature_set.name!r} ({feature_set.place})", uses)
    return uses


def check_keys(what: str, uses: Sequence[ViewUse]) -> None:
    """Refuse uses of views that no value of a key would fit all. Whole numbers of any width are one type here."""
    found: dict[str, tuple[Field, str]] = {}
    for use in uses:
        for key in use.plan.keys:
            column = use.keys.get(key.name, key.name)
            first, prefix = found.setdefault(column, (key, use.prefix))
            if _family(first) != _family(key):
                raise BindingError(
                    f"{what}: key {column!r} is of type {first.type} in {prefix!r} and of type {key.type} in"
                    f" {use.prefix!r}; give one of them other keys with an alias"
                )


def _family(key: Field) -> str:
    return "whole number" if key.type.startswith(("int", "uint")) else key.type


def _online(parts: Parts, views: Iterable[FeatureView]) -> list[ViewPlan]:
    """The views, bound, that are online as they are declared now."""
    store = parts.open_online(True)
    try:
        reader = OnlineReader(store)
        found = [plan for view in views if (plan := _bound(parts, view)) is not None and plan.online]
        return [plan for plan in found if reader.watermark(plan) is not None]
    finally:
        store.close()


def _bound(parts: Parts, view: FeatureView) -> ViewPlan | None:
    try:
        return parts.binder.view(view)
    except (DataError, DefinitionError):  # its rows are not there yet, or do not fit: who asks for the view is told
        return None


def _uses(parts: Parts, feature_set: FeatureSet) -> list[ViewUse]:
    try:
        return set_uses(parts, feature_set)
    except (DataError, DefinitionError):
        return []
