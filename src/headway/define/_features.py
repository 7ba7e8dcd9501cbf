"""Entities, aggregates and feature views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from headway.define._base import Declaration, strings
from headway.define._checks import Check
from headway.define._duration import microseconds
from headway.define._source import Source
from headway.errors import DefinitionError, NotFoundError, UsageError

AggregateKind = Literal[
    "count", "sum", "mean", "min", "max", "std", "quantile", "nunique", "first", "last",
    "mode", "time_since_last", "lag", "last_n", "vector",
]  # fmt: skip

_MOST_VALUES = 1_000  # of a last_n
_MOST_DIMENSIONS = 65_536


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
    where: str | None = None
    offset: str | None = None
    n: int | None = None  # how many values, or dimensions


def _aggregate(
    kind: AggregateKind,
    column: str | None,
    window: str | Sequence[str] | None = None,
    where: str | None = None,
    offset: str | None = None,
    *,
    q: float | None = None,
    n: int | None = None,
) -> Aggregate:
    for what, text in (("a column or an SQL expression", column), ("an SQL condition as where", where)):
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise DefinitionError(f"{kind}: give {what}, got {text!r}")
    windows = None if window is None else ((window,) if isinstance(window, str) else tuple(window))
    for each in windows or ():
        if microseconds(each, f"{kind}: its window") == 0:
            raise DefinitionError(f"{kind}: a window is longer than nothing, got {each!r}")
    if windows == () or len(set(windows or ())) != len(windows or ()):
        raise DefinitionError(f"{kind}: window takes one length or a list of different ones, got {window!r}")
    if offset is not None and microseconds(offset, f"{kind}: its offset") == 0:
        raise DefinitionError(f"{kind}: an offset is longer than nothing, got {offset!r}; leave it out for none")
    suffixed = window is not None and not isinstance(window, str)
    return Aggregate(kind, column, windows, suffixed, q, where, offset, n)


def _number(kind: str, what: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise DefinitionError(f"{kind}: {what} is a whole number from 1 to {most}, got {value!r}")
    return value


def count(
    *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Number of rows; 0 over none.

    What holds for every aggregate here: without ``window`` it is over all of the past; several windows make a feature
    of each. ``where`` is an SQL condition over one row: rows for which it is not true do not count. ``offset`` moves
    the window back in event time: it ends that long before the moment asked for, while corrections known by that
    moment still count.

    >>> count(window="7d", where="fare > 0", offset="7d").offset
    '7d'
    """
    return _aggregate("count", None, window, where, offset)


def sum(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Sum of the non-null values; null over none. Integers stay exact."""
    return _aggregate("sum", column, window, where, offset)


def mean(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Arithmetic mean of the non-null values; null over none."""
    return _aggregate("mean", column, window, where, offset)


def min(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Least non-null value; null over none."""
    return _aggregate("min", column, window, where, offset)


def max(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Greatest non-null value; null over none."""
    return _aggregate("max", column, window, where, offset)


def std(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Sample standard deviation (n - 1) of the non-null values; null under two."""
    return _aggregate("std", column, window, where, offset)


def quantile(
    column: str,
    q: float,
    *,
    window: str | Sequence[str] | None = None,
    where: str | None = None,
    offset: str | None = None,
) -> Aggregate:
    """The ``q`` quantile (0 to 1) of the non-null values, linearly interpolated; null over none."""
    if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
        raise DefinitionError(f"quantile: q lies between 0 and 1, got {q!r}")
    return _aggregate("quantile", column, window, where, offset, q=float(q))


def median(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """The middle value, or the mean of the middle two: the 0.5 quantile."""
    return _aggregate("quantile", column, window, where, offset, q=0.5)


def mode(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """The most frequent non-null value; of several the one that was seen last. Null over none."""
    return _aggregate("mode", column, window, where, offset)


def nunique(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Number of different non-null values; 0 over none."""
    return _aggregate("nunique", column, window, where, offset)


def approx_nunique(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Number of different non-null values, where an error of up to 2 % would do; 0 over none.

    The error is none at all today: counting exactly costs no more here than a sketch would, so this is ``nunique``,
    with which it also shares its fingerprint.
    """
    return _aggregate("nunique", column, window, where, offset)


def first(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Earliest known value that is not null."""
    return _aggregate("first", column, window, where, offset)


def last(
    column: str, *, window: str | Sequence[str] | None = None, where: str | None = None, offset: str | None = None
) -> Aggregate:
    """Latest known value that is not null."""
    return _aggregate("last", column, window, where, offset)


def last_n(
    column: str,
    n: int,
    *,
    window: str | Sequence[str] | None = None,
    where: str | None = None,
    offset: str | None = None,
) -> Aggregate:
    """The ``n`` latest non-null values, newest first, as a list with nulls where there are fewer; null over none.

    ``ttl`` does not apply to it, as the values are of several ages; give it a ``window``.

    >>> last_n("amount", 3, window="30d").n
    3
    """
    return _aggregate("last_n", column, window, where, offset, n=_number("last_n", "n", n, _MOST_VALUES))


def time_since_last(
    *, where: str | None = None, window: str | Sequence[str] | None = None, offset: str | None = None
) -> Aggregate:
    """Seconds from the event time of the latest row to the moment asked for; null over none.

    It changes at every refresh for every entity that has a row, so that all of them are rewritten; with a ``window``
    only those with a row in it.
    """
    return _aggregate("time_since_last", None, window, where, offset)


def lag(column: str, offset: str, *, within: str | None = None, where: str | None = None) -> Aggregate:
    """The value at a past moment: the latest non-null one whose event time lies ``offset`` or more back.

    A row at that very moment counts. With ``within``, the value is null if it was older than that even then.

    >>> lag("cnt", "168h", within="2h").windows
    ('2h',)
    """
    if within is not None and not isinstance(within, str):
        raise DefinitionError(f"lag: within is a length of time such as '2h', got {within!r}")
    if offset is None:
        raise DefinitionError("lag: say how far back, such as hw.lag('cnt', '168h')")
    return _aggregate("lag", column, within, where, offset)


def vector(column: str, dim: int) -> Aggregate:
    """A list of ``dim`` numbers, such as an embedding: its value in the latest known row.

    Lists of another length, or with a null in them, are refused when they are read.

    >>> vector("embedding", dim=128).n
    128
    """
    return _aggregate("vector", column, n=_number("vector", "dim", dim, _MOST_DIMENSIONS))


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of a view after its windows were spelled out. ``kind`` ``row`` is a column or expression."""

    name: str
    kind: str
    column: str | None
    window: str | None = None
    q: float | None = None
    where: str | None = None
    offset: str | None = None
    n: int | None = None
    expression: str | None = None  # of an expr: SQL over other features of the view


def _spell_out(view: FeatureView, name: str, what: object) -> list[Feature]:
    view._check_name(name)
    if isinstance(what, str) and what.strip():
        return [Feature(name, "row", what)]
    if isinstance(what, Check) and what.kind == "expr":
        if what.on_fail != "error":
            raise view.refuse(f"feature {name!r} is no check, so on_fail={what.on_fail!r} has no meaning")
        return [Feature(name, "expr", None, expression=what.args[0])]
    if not isinstance(what, Aggregate):
        raise view.refuse(
            f"feature {name!r} is a column or SQL expression as text, an aggregate such as hw.count(window='1h'), or"
            f" hw.expr(…) over other features; got {what!r}"
        )
    return [
        Feature(
            f"{name}_{window}" if what.suffixed else name,
            what.kind,
            what.column,
            window,
            what.q,
            what.where,
            what.offset,
            what.n,
        )
        for window in what.windows or (None,)
    ]


@dataclass(frozen=True, eq=False, init=False)
class FeatureView(Declaration):
    """Features of one entity, computed from one source.

    Parameters
    ----------
    source, entity
        The rows, and whom they describe.
    features
        Name → column or SQL expression of the latest known row, an aggregate, or ``hw.expr`` over other features.
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
        features: Mapping[str, str | Aggregate | Check],
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
        if not self.source.timeless:
            return
        if any(f.window for f in self.features):
            raise self.refuse(f"source {self.source.name!r} has no timestamp, so its features cannot have a window")
        if any(f.offset or f.kind == "time_since_last" for f in self.features):
            raise self.refuse(f"source {self.source.name!r} has no timestamp, so its features cannot look back in time")

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
