"""Features that are read together, under one name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from headway.define import _features
from headway.define._base import Declaration
from headway.define._features import FeatureView, ViewSelection


@dataclass(frozen=True, eq=False, init=False)
class FeatureSet(Declaration):
    """Features of several views that a caller wants at once: a set is read with one request, by its name.

    Parameters
    ----------
    features
        Views, aliases (``view.alias("pickup", keys={...})``), selections (``view["orders_7d"]``) and other sets.
        Columns are called ``view__feature`` (or ``alias__feature``). What is chosen of one view under one prefix is
        one selection, wherever it stands in the list.

    A set adds nothing of its own: wherever views are taken, it stands for the views it is made of.
    """

    name: str = ""
    selections: tuple[ViewSelection, ...] = ()

    kind = "feature set"

    def __init__(
        self,
        name: str,
        features: Sequence[FeatureView | ViewSelection | FeatureSet],
        *,
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags))
        self._set(name=name)
        self._common()
        found: dict[str, ViewSelection] = {}
        for item in features if isinstance(features, list | tuple) else [features]:
            for selection in self._selections(item):
                self._add(found, selection)
        if not found:
            raise self.refuse("it has no features")
        self._set(selections=tuple(found.values()))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all its features, in order."""
        return tuple(column for selection in self.selections for column in selection.columns)

    def _selections(self, item: object) -> tuple[ViewSelection, ...]:
        if isinstance(item, FeatureSet):
            return item.selections
        if isinstance(item, FeatureView):
            return (item.selection,)
        if isinstance(item, ViewSelection):
            return (item,)
        raise self.refuse(
            f"features are views, view.alias(...), selections such as view['name'], or other sets; got {item!r}"
        )

    def _add(self, found: dict[str, ViewSelection], more: ViewSelection) -> None:
        before = found.get(more.prefix)
        if before is None:
            found[more.prefix] = more
            return
        if before.view is not more.view or before.keys != more.keys:
            raise self.refuse(
                f"{more.prefix!r} stands for two views, or for one by different keys; give one of them an alias"
            )
        twice = [name for name in more.features if name in before.features]
        if twice:
            raise self.refuse(f"feature {more.prefix}__{twice[0]} is in it twice")
        found[more.prefix] = replace(before, features=(*before.features, *more.features))


def as_selections(what: Any) -> list[ViewSelection]:
    """One view, selection or set, or a list of them, as selections."""
    items = what if isinstance(what, list | tuple) else [what]
    return [
        selection
        for item in items
        for selection in (item.selections if isinstance(item, FeatureSet) else _features.as_selections(item))
    ]
