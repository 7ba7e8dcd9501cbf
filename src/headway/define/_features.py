"""Entities, aggregates and feature views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from headway.define._base import Declaration, strings
from headway.define._duration import microseconds
from headway.define._source import Source
from headway.errors import DefinitionError, NotFoundError, UsageError

AggregateKind = Literal["count", "sum", "mean", "min", "max", "std", "quantile", "nunique", "first", "last"]


@dataclass(frozen=True, eq=False, init=False)
class Entity(Declaration):
    """Something features describe, known by one key column or several.

    >>> Entity("route", key=("pickup_zone_id", "dropoff_zone_id")).key
    ('pickup_zone_id', 'dropoff_zone_id')
    """

    name: str = ""
    key: tuple[str, ...] = ()

    kind = "entity"

    def __init__(
        self,
        name: str,
        *,
        key: str | Sequence[str],
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags))
        self._set(name=name)
        self._common()
        self._set(key=strings(self, "key", key))
        if not self.key or len(set(self.key)) != len(self.key):
            raise self.refuse(f"key takes one or more different column names, got {key!r}")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate of an SQL expression over windows of event time; made by the functions below."""

    kind: AggregateKind
    column: str | None
    windows: tuple[str, ...] | None  # None: all of the past
    suffixed: bool = False  # windows were given as a list: names carry them
    q: float | None = None


def _aggregate(
    kind: AggregateKind, column: str | None, window: str | Sequence[str] | None, q: float | None = None
) -> Aggregate:
    if column is not None and (not isinstance(column, str) or not column.strip()):
        raise DefinitionError(f"{kind}: give a column or an SQL expression, got {column!r}")
    windows = None if window is None else ((window,) if isinstance(window, str) else tuple(window))
    for each in windows or ():
        if microseconds(each, f"{kind}: its window") == 0:
            raise DefinitionError(f"{kind}: a window is longer than nothing, got {each!r}")
    if windows == () or len(set(windows or ())) != len(windows or ()):
        raise DefinitionError(f"{kind}: window takes one length or a list of different ones, got {window!r}")
    return Aggregate(kind, column, windows, window is not None and not isinstance(window, str), q)


def count(*, window: str | Sequence[str] | None = None) -> Aggregate:
    """Number of rows; 0 over none. Without ``window`` over all of the past, as everywhere here."""
    return _aggregate("count", None, window)


def sum(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Sum of the non-null values; null over none. Integers stay exact."""
    return _aggregate("sum", column, window)


def mean(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Arithmetic mean of the non-null values; null over none."""
    return _aggregate("mean", column, window)


def min(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Least non-null value; null over none."""
    return _aggregate("min", column, window)


def max(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Greatest non-null value; null over none."""
    return _aggregate("max", column, window)


def std(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Sample standard deviation (n - 1) of the non-null values; null under two."""
    return _aggregate("std", column, window)


def quantile(column: str, q: float, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """The ``q`` quantile (0 to 1) of the non-null values, linearly interpolated; null over none."""
    if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
        raise DefinitionError(f"quantile: q lies between 0 and 1, got {q!r}")
    return _aggregate("quantile", column, window, float(q))


def nunique(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Number of different non-null values; 0 over none."""
    return _aggregate("nunique", column, window)


def first(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Earliest known value that is not null."""
    return _aggregate("first", column, window)


def last(column: str, *, window: str | Sequence[str] | None = None) -> Aggregate:
    """Latest known value that is not null."""
    return _aggregate("last", column, window)


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of a view after its windows were spelled out. ``kind`` ``row`` is a column or expression."""

    name: str
    kind: str
    column: str | None
    window: str | None = None
    q: float | None = None


def _spell_out(view: FeatureView, name: str, what: object) -> list[Feature]:
    view._check_name(name)
    if isinstance(what, str) and what.strip():
        return [Feature(name, "row", what)]
    if not isinstance(what, Aggregate):
        raise view.refuse(
            f"feature {name!r} is a column or SQL expression as text, or an aggregate such as hw.count(window='1h');"
            f" got {what!r}"
        )
    if what.windows is None:
        return [Feature(name, what.kind, what.column, None, what.q)]
    return [
        Feature(f"{name}_{window}" if what.suffixed else name, what.kind, what.column, window, what.q)
        for window in what.windows
    ]


@dataclass(frozen=True, eq=False, init=False)
class FeatureView(Declaration):
    """Features of one entity, computed from one source.

    Parameters
    ----------
    source, entity
        The rows, and whom they describe.
    features
        Name → column or SQL expression of the latest known row, or an aggregate.
    keys
        Entity key → column or expression of the source, where the names differ.
    refresh
        Values are computed on this grid of the UTC epoch; needed to serve windows online.
    lag
        How late the computation may run: values at ``t`` are computed as of ``floor(t - lag, refresh)``.
    ttl
        A latest value whose event is older than this is null.
    """

    name: str = ""
    source: Source = None  # type: ignore[assignment]
    entity: Entity = None  # type: ignore[assignment]
    features: tuple[Feature, ...] = ()
    keys: Mapping[str, str] = None  # type: ignore[assignment]
    refresh: str | None = None
    lag: str | None = None
    ttl: str | None = None

    kind = "feature view"

    def __init__(
        self,
        name: str,
        *,
        source: Source,
        entity: Entity,
        features: Mapping[str, str | Aggregate],
        keys: Mapping[str, str] | None = None,
        refresh: str | None = None,
        lag: str | None = None,
        ttl: str | None = None,
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags))
        self._set(name=name)
        self._common()
        if not isinstance(source, Source):
            raise self.refuse(f"source is an hw.Source, got {source!r}")
        if not isinstance(entity, Entity):
            raise self.refuse(f"entity is an hw.Entity, got {entity!r}")
        self._set(source=source, entity=entity, refresh=refresh, lag=lag, ttl=ttl)
        self._set(keys=_keys(self, entity, keys))
        if not isinstance(features, Mapping) or not features:
            raise self.refuse("features maps names to columns, expressions or aggregates, and has at least one")
        spelled = [f for key, what in features.items() for f in _spell_out(self, key, what)]
        names = [f.name for f in spelled]
        for each in names:
            if names.count(each) > 1:
                raise self.refuse(f"two features are called {each!r}")
        self._set(features=tuple(spelled))
        self._check_times()

    def _check_times(self) -> None:
        for what in ("refresh", "lag", "ttl"):
            text = getattr(self, what)
            length = None if text is None else microseconds(text, f"{self.kind} {self.name!r} ({self.place}): {what}")
            if length == 0 and what != "lag":
                raise self.refuse(f"{what} is longer than nothing, got {text!r}")
        if self.source.timeless and any(f.window for f in self.features):
            raise self.refuse(f"source {self.source.name!r} has no timestamp, so its features cannot have a window")

    def alias(self, name: str, keys: Mapping[str, str] | None = None) -> ViewSelection:
        """The same view under another name, keyed by other columns: ``zone_traffic.alias("pickup", keys={...})``."""
        self._check_name(name)
        return ViewSelection(self, name, _keys(self, self.entity, keys), tuple(f.name for f in self.features))

    def __getitem__(self, features: str | Sequence[str]) -> ViewSelection:
        return self.selection[features]

    @property
    def selection(self) -> ViewSelection:
        """The whole view under its own name."""
        return ViewSelection(self, self.name, {k: k for k in self.entity.key}, tuple(f.name for f in self.features))


def _keys(view: FeatureView, entity: Entity, keys: Mapping[str, str] | None) -> dict[str, str]:
    for key in keys or {}:
        if key not in entity.key:
            raise view.refuse(f"keys names {key!r}, which is no key of entity {entity.name!r}: {', '.join(entity.key)}")
    return {key: (keys or {}).get(key, key) for key in entity.key}


@dataclass(frozen=True, slots=True, eq=False)
class ViewSelection:
    """A view as somebody uses it: under a prefix, keyed by the user's columns, some of its features."""

    view: FeatureView
    prefix: str
    keys: Mapping[str, str]  # entity key → column of the spine or the request
    features: tuple[str, ...]

    def __getitem__(self, features: str | Sequence[str]) -> ViewSelection:
        wanted = (features,) if isinstance(features, str) else tuple(features)
        for name in wanted:
            if name not in self.features:
                raise NotFoundError.among(f"feature of view {self.view.name!r}", name, self.features)
        return replace(self, features=wanted)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}__{name}" for name in self.features)


def as_selections(what: Any) -> list[ViewSelection]:
    """One view, selection, or a list of them, as selections."""
    items = what if isinstance(what, list | tuple) else [what]
    found = []
    for item in items:
        if isinstance(item, FeatureView):
            found.append(item.selection)
        elif isinstance(item, ViewSelection):
            found.append(item)
        else:
            raise UsageError(f"expected a feature view, got {item!r}")
    return found
