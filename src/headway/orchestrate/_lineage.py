"""From columns of sources to features to models."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from headway.define import Feature, FeatureView, Source
from headway.define._query import column_origins, expression_columns
from headway.errors import DefinitionError, HeadwayError
from headway.orchestrate._parts import Parts


def read_columns(view: FeatureView, feature: Feature) -> tuple[str, ...]:
    """The columns of the view's source that a feature is computed from; those of other features where it is an
    expression over them."""
    by_name = {each.name: each for each in view.features}
    found: dict[str, None] = {}
    waiting, seen = [feature], {feature.name}
    for each in waiting:
        texts = [text for text in (each.column, each.where) if text is not None]
        found.update(dict.fromkeys(column for text in texts for column in _named(text)))
        for name in _named(each.expression) if each.expression else ():
            if name in by_name and name not in seen:
                seen.add(name)
                waiting.append(by_name[name])
    return tuple(found)


@lru_cache(maxsize=4096)
def _named(text: str) -> tuple[str, ...]:
    """Columns that an expression names; a column whose name is no expression is one itself."""
    try:
        return expression_columns(text, DefinitionError)
    except HeadwayError:
        return (text,)


def origins(parts: Parts, source: Source, columns: Iterable[str]) -> tuple[str, ...]:
    """Where columns of a source come from, as ``source.column`` of sources without a query."""
    sources = {**parts.declarations.sources, source.name: source}
    known: dict[str, frozenset[str] | None] = {}

    def has(at: Source, column: str) -> bool:
        if at.name not in known:
            try:
                known[at.name] = frozenset(field.name.lower() for field in parts.binder.columns(at))
            except HeadwayError:  # not in the lake yet
                known[at.name] = None
        there = known[at.name]
        return there is None or column.lower() in there

    found = {pair for column in columns for pair in column_origins(source, column, sources, has)}
    return tuple(f"{name}.{column}" for name, column in sorted(found))
