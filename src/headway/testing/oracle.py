"""What a feature's value is, computed the slow and obvious way.

Plain Python over plain rows, written from the semantics (DESIGN §3) and sharing no code with the engine. Backends
and the engine are held against it; it is meant to be read, not to be fast.

A row is a dict. Naive datetimes are in the source's time zone; null is None. Feature and key expressions must be
plain columns. Queries, conditions and expressions over features are given as Python functions, see `Oracle`.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from headway.define import Feature, FeatureView, Source

Row = Mapping[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_LENGTHS = {
    "us": 1,
    "ms": 10**3,
    "s": 10**6,
    "m": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
    "w": 604800 * 10**6,
}


class Derived(NamedTuple):
    """What a query makes of a row: the new row, and when the rows it was joined with were known (None: never)."""

    row: Row
    joined: tuple[int | None, ...] = ()


Query = Callable[[Row], Derived | None]
Function = Callable[[Row], Any]


def to_utc(moment: datetime, zone: str | None) -> datetime:
    """An instant in UTC. Naive: an ambiguous local time is its first occurrence, a skipped one the end of the gap."""
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    local = ZoneInfo(zone or "UTC")
    guess = moment.replace(tzinfo=local, fold=0).astimezone(UTC)
    if guess.astimezone(local).replace(tzinfo=None) == moment:
        return guess
    early, late = guess - timedelta(hours=26), guess + timedelta(hours=26)
    jump = late.astimezone(local).utcoffset()
    while late - early > _TICK:  # the first instant with the later offset: the end of the gap
        middle = early + (late - early) // 2
        if middle.astimezone(local).utcoffset() == jump:
            late = middle
        else:
            early = middle
    return late


@lru_cache(maxsize=1024)
def length(text: str | None) -> int:
    """A duration of one unit in microseconds; none is 0."""
    if text is None:
        return 0
    unit = text.lstrip("0123456789")
    return int(text[: len(text) - len(unit)]) * _LENGTHS[unit]


def micros(moment: datetime) -> int:
    """An instant in microseconds since 1970."""
    return (moment - _EPOCH) // _TICK


class Fact:
    """One version of a fact: its row in UTC, when it happened and when it was known (None: never)."""

    def __init__(self, source: Source, row: Row, arrival: int, joined: Sequence[int | None] = ()) -> None:
        self.row = {c: to_utc(v, source.timezone) if isinstance(v, datetime) else v for c, v in row.items()}
        self.arrival = arrival
        self.id = tuple(row[c] for c in source.id)
        self.deleted = bool(source.deleted and row[source.deleted])
        self.event: int | None = None
        self.known: int | None = None
        if source.timestamp is None or row[source.timestamp] is None:
            return
        self.event = micros(self.row[source.timestamp])
        moments = [self.event + length(source.delay), *joined]
        if source.created is not None:
            created = self.row[source.created]
            moments.append(None if created is None else micros(created))
        if all(each is not None for each in moments):
            self.known = max(each for each in moments if each is not None)


def facts(source: Source, rows: Sequence[Row]) -> list[Fact]:
    """The rows of a source, in the order they arrived, as versions of facts."""
    return [Fact(source, row, arrival) for arrival, row in enumerate(rows)]


def known_at(source: Source, versions: Iterable[Fact], r: int) -> list[Fact]:
    """The one version of each fact that counts at ``r``: the last to become known. Deletes count, and are there.

    Rows without an id, or with a null in it, are facts of their own. Of a timeless source the last to arrive counts.
    """
    newest: dict[tuple[Any, ...], tuple[tuple[Any, ...], Fact]] = {}
    for fact in versions:
        if source.timestamp is not None and (fact.known is None or fact.known > r):
            continue
        order = (fact.arrival,) if source.timestamp is None else (fact.known, fact.event, fact.arrival)
        own = not fact.id or any(part is None for part in fact.id)
        name = ("row", fact.arrival) if own else ("id", *fact.id)
        if name not in newest or newest[name][0] < order:
            newest[name] = (order, fact)
    return [fact for _, fact in newest.values()]


def moment(view: FeatureView, t: int) -> int:
    """``r``: the moment a feature asked for at ``t`` is computed at."""
    at = t - length(view.lag)
    if view.refresh is None:
        return at
    return at - at % length(view.refresh)


class Oracle:
    """The features of one view.

    Parameters
    ----------
    rows
        Of the view's source; or, if that is a query, of its driver, which is then ``driver``.
    query
        What the query makes of one row of the driver; None if its WHERE leaves it out.
    functions
        By its SQL text, what a condition (``where``) says of a row, and what an expression makes of other features.
    """

    def __init__(
        self,
        view: FeatureView,
        rows: Sequence[Row],
        driver: Source | None = None,
        query: Query | None = None,
        functions: Mapping[str, Function] | None = None,
    ) -> None:
        self.view, self.driver, self.functions = view, driver or view.source, functions or {}
        self._made: dict[int, Fact | None] = {}
        versions = facts(self.driver, rows)
        for fact in versions:
            self._made[fact.arrival] = fact if query is None else self._derived(fact, query)
        self._about = self._group(versions)
        self._seen: dict[tuple[Any, ...], list[Fact]] = {}
        self._found: dict[tuple[Any, ...], dict[str, Any]] = {}  # values, whatever their age

    def _derived(self, fact: Fact, query: Query) -> Fact | None:
        made = query(fact.row)
        if made is None:
            return None
        joined = made.joined if self.driver.timestamp is None else (fact.known, *made.joined)
        return Fact(self.view.source, made.row, fact.arrival, joined)

    def _group(self, versions: Sequence[Fact]) -> dict[tuple[Any, ...], list[Fact]]:
        """Key → all versions, of whatever key, of the facts of which some version has it."""
        family: dict[tuple[Any, ...], list[Fact]] = {}
        for fact in versions:
            family.setdefault(fact.id or ("row", fact.arrival), []).append(fact)
        about: dict[tuple[Any, ...], list[Fact]] = {}
        for members in family.values():
            for key in {self._key(made) for fact in members if (made := self._made[fact.arrival]) is not None}:
                about.setdefault(key, []).extend(members)
        return about

    def _key(self, fact: Fact) -> tuple[Any, ...]:
        return tuple(fact.row[self.view.keys[k]] for k in self.view.entity.key)

    @property
    def keys(self) -> list[tuple[Any, ...]]:
        """The keys of all rows, whenever they are known, without those that have a null."""
        return [key for key in self._about if None not in key]

    def speaks_of(self, key: tuple[Any, ...]) -> bool:
        """Whether any row, whenever it is known, has this key."""
        return None not in key and key in self._about

    def visible(self, key: tuple[Any, ...], r: int) -> list[Fact]:
        """The facts about ``key`` that a computation at ``r`` may see, in order: the last one is the latest."""
        if (key, r) not in self._seen:
            self._seen[key, r] = self._look(key, r)
        return self._seen[key, r]

    def _look(self, key: tuple[Any, ...], r: int) -> list[Fact]:
        source = self.view.source
        standing = [f for f in known_at(self.driver, self._about.get(key, []), r) if not f.deleted]
        found = [made for f in standing if (made := self._made[f.arrival]) is not None]
        found = [f for f in found if not f.deleted and self._key(f) == key]
        if source.timestamp is None:
            return sorted(found, key=lambda f: (_sortable(f.id), f.arrival))
        found = [f for f in found if f.known is not None and f.known <= r]
        found = [f for f in found if f.event is not None and (f.event < r or (source.effective and f.event == r))]
        return sorted(found, key=lambda f: (f.event, f.known, _sortable(f.id), f.arrival))

    def values(self, key: tuple[Any, ...], t: int | None) -> dict[str, Any]:
        """The features of one entity at ``t``. A null key or moment gives nulls."""
        if t is None or None in key:
            return {f.name: None for f in self.view.features}
        return self.values_at(key, moment(self.view, t))

    def values_at(self, key: tuple[Any, ...], r: int, now: int | None = None) -> dict[str, Any]:
        """The features of one entity at exactly ``r``; those with a ttl as they are worth at ``now``, if given."""
        if None in key:
            return {f.name: None for f in self.view.features}
        if (key, r) not in self._found:
            seen = self.visible(key, r)
            self._found[key, r] = {f.name: self._feature(f, seen, r) for f in self.view.features}
        stale = self.expired(key, r, r if now is None else now)
        fresh = {name: None if name in stale else value for name, value in self._found[key, r].items()}
        return {f.name: self._computed(f, fresh, stale) for f in self.view.features}

    def _feature(self, feature: Feature, seen: list[Fact], r: int) -> Any:
        """A feature over the rows seen at ``r``; of an expression, nothing yet."""
        if feature.kind == "expr":
            return None
        end = r - length(feature.offset)
        looked_at = [f for f in seen if _within(feature, self.view.source, f, end)]
        if feature.where is not None:
            looked_at = [f for f in looked_at if self.functions[feature.where](f.row) is True]
        return _value(feature, looked_at, r)

    def _computed(self, feature: Feature, values: Mapping[str, Any], stale: set[str]) -> Any:
        """An expression's value, from what the features it names are worth; any other feature's own value."""
        if feature.expression is None:
            return values[feature.name]
        if feature.name in stale:
            return None
        named = {f.name: self._computed(f, values, stale) for f in self._named(feature)}
        return self.functions[feature.expression](named)

    def _named(self, feature: Feature) -> list[Feature]:
        if feature.expression is None:
            return []
        words = _words(feature.expression)
        return [f for f in self.view.features if f.name in words]

    def expired(self, key: tuple[Any, ...], r: int, now: int) -> set[str]:
        """The latest values at ``r`` that a ttl has made null at ``now``, and the expressions of such values."""
        if self.view.ttl is None or None in key:
            return set()
        oldest, seen = now - length(self.view.ttl), self.visible(key, r)
        stale = set()
        for feature in self.view.features:
            if feature.kind in ("row", "vector", "last") and not feature.window and not feature.offset:
                chosen = seen
                if feature.where is not None:
                    chosen = [f for f in seen if self.functions[feature.where](f.row) is True]
                fact = _latest(feature, chosen)
                if fact is not None and fact.event is not None and fact.event < oldest:
                    stale.add(feature.name)
        return stale | {f.name for f in self.view.features if stale and self._rests_on(f, stale)}

    def _rests_on(self, feature: Feature, stale: set[str]) -> bool:
        """Whether an expression is computed from one of these, directly or not."""
        named = self._named(feature)
        return any(f.name in stale or self._rests_on(f, stale) for f in named)


@lru_cache(maxsize=1024)
def _words(expression: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z_]\w*", expression))


def _sortable(id: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((part is not None, part) for part in id)


def _latest(feature: Feature, seen: list[Fact]) -> Fact | None:
    """The fact a latest value comes from, if it has one."""
    assert feature.column is not None
    candidates = seen[-1:] if feature.kind in ("row", "vector") else seen
    filled = [f for f in candidates if not _null(f.row[feature.column])]
    if not filled:
        return None
    return filled[-1]


def _within(feature: Feature, source: Source, fact: Fact, end: int) -> bool:
    """Whether a row's event time lies in the feature's window, which ends at ``end``."""
    if source.timestamp is None:
        return True
    assert fact.event is not None
    if fact.event > end or (fact.event == end and not source.effective and feature.kind != "lag"):
        return False
    return feature.window is None or fact.event >= end - length(feature.window)


def _value(feature: Feature, seen: list[Fact], r: int) -> Any:
    if feature.kind == "count":
        return len(seen)
    if feature.kind == "time_since_last":
        return (r - (seen[-1].event or 0)) / 10**6 if seen else None
    assert feature.column is not None
    if feature.kind in ("row", "vector", "last", "lag"):
        latest = _latest(feature, seen)
        return None if latest is None else latest.row[feature.column]
    found = [f.row[feature.column] for f in seen if not _null(f.row[feature.column])]
    if feature.kind == "first":
        return found[0] if found else None
    if feature.kind == "last_n":
        assert feature.n is not None
        newest = list(reversed(found))[: feature.n]
        return [*newest, *[None] * (feature.n - len(newest))] if newest else None
    return aggregate(feature.kind, found, feature.q)


def _null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def aggregate(kind: str, found: list[Any], q: float | None = None) -> Any:
    """An aggregate of values without nulls."""
    if kind == "nunique":
        return len(set(found))
    if not found:
        return None
    if kind == "mode":
        return _mode(found)
    if kind == "sum":
        return _sum(found)
    if kind == "mean":
        return _sum([float(x) for x in found]) / len(found)
    if kind == "min":
        return min(found)
    if kind == "max":
        return max(found)
    if kind == "std":
        return _deviation(found)
    if kind == "quantile":
        assert q is not None
        return _quantile(sorted(found), q)
    raise ValueError(f"no aggregate is called {kind!r}")


def _mode(found: list[Any]) -> Any:
    """The most frequent value; of several, the one whose last occurrence comes last."""
    seen: dict[Any, int] = {}
    for value in found:
        seen[value] = seen.get(value, 0) + 1
    most = max(seen.values())
    return next(value for value in reversed(found) if seen[value] == most)


def _sum(found: list[Any]) -> Any:
    """Exact for integers, correctly rounded for floats; infinities add up as IEEE has it."""
    if not isinstance(found[0], float):
        return sum(found)
    infinite = [x for x in found if math.isinf(x)]
    return sum(infinite) if infinite else math.fsum(found)


def _deviation(found: list[Any]) -> float | None:
    if len(found) < 2:
        return None
    if any(math.isinf(x) for x in found):
        return math.nan
    return float(statistics.stdev(found))  # in fractions, rounded once


def _quantile(ordered: list[Any], q: float) -> float:
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    share = place - below
    if share == 0 or low == high:
        return float(low)
    if math.isinf(low) or math.isinf(high):
        return float(low * (1 - share) + high * share)
    return float(low + (high - low) * share)


def same(a: Any, b: Any) -> bool:
    """Equal, floats within 1e-9 relative, and of one type: 1 is not true."""
    if a is None or b is None or type(a) is not type(b):
        return a is b
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        if math.isinf(a) or math.isinf(b):
            return bool(a == b)
        return bool(abs(a - b) <= 1e-9 * max(abs(a), abs(b)))
    return bool(a == b)
