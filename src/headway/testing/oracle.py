"""What a feature's value is, computed the slow and obvious way.

Plain Python over plain rows, written from the semantics (DESIGN §3) and sharing no code with the engine. Backends
and the engine are held against it; it is meant to be read, not to be fast.

A row is a dict. Naive datetimes are in the source's time zone; null is None. Feature and key expressions must be
plain columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from headway.define import Feature, FeatureView, Source

Row = Mapping[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_LENGTHS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6, "w": 604800 * 10**6}


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


def length(text: str | None) -> int:
    """A duration of one unit in microseconds; none is 0."""
    if text is None:
        return 0
    unit = text.lstrip("0123456789")
    return int(text[: len(text) - len(unit)]) * _LENGTHS[unit]


def micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _TICK


class Fact:
    """One version of a fact: when it happened, when it was known, and its row."""

    def __init__(self, source: Source, row: Row, arrival: int) -> None:
        self.row, self.arrival = row, arrival
        self.id = tuple(row[c] for c in source.id)
        self.deleted = bool(source.deleted and row[source.deleted])
        self.event: int | None = None
        self.known: int | None = None
        if source.timestamp is not None and row[source.timestamp] is not None:
            self.event = micros(to_utc(row[source.timestamp], source.timezone))
            self.known = self.event + length(source.delay)
            if source.created is not None:
                created = row[source.created]
                known = None if created is None else micros(to_utc(created, source.timezone))
                self.known = None if known is None else max(self.known, known)


def visible(source: Source, rows: Sequence[Row], r: int) -> list[Fact]:
    """The facts that a computation at ``r`` may see, in order: the last one is the latest."""
    facts = [Fact(source, row, arrival) for arrival, row in enumerate(rows)]
    if source.timestamp is None:
        seen = _newest_of_each_id(source, [(f, (f.arrival,)) for f in facts])
        return sorted(seen, key=lambda f: (f.id, f.arrival) if source.id else (f.arrival,))
    known = [(f, (f.known, f.event, f.arrival)) for f in facts if f.known is not None and f.known <= r]
    seen = _newest_of_each_id(source, known)
    happened = [f for f in seen if f.event is not None and (f.event < r or (source.effective and f.event == r))]
    return sorted(happened, key=lambda f: (f.event, f.known, f.id, f.arrival))


def _newest_of_each_id(source: Source, facts: Sequence[tuple[Fact, tuple[Any, ...]]]) -> list[Fact]:
    if not source.id:
        return [f for f, _ in facts if not f.deleted]
    newest: dict[tuple[Any, ...], tuple[tuple[Any, ...], Fact]] = {}
    for fact, order in facts:
        if fact.id not in newest or newest[fact.id][0] < order:
            newest[fact.id] = (order, fact)
    return [fact for _, fact in newest.values() if not fact.deleted]


def moment(view: FeatureView, t: int) -> int:
    """``r``: the moment a feature asked for at ``t`` is computed at."""
    at = t - length(view.lag)
    if view.refresh is None:
        return at
    return at - at % length(view.refresh)


def values(view: FeatureView, rows: Sequence[Row], key: Mapping[str, Any], t: int | None) -> dict[str, Any]:
    """The features of one entity at ``t``. A null key or moment gives nulls."""
    if t is None or any(key[k] is None for k in view.entity.key):
        return {f.name: None for f in view.features}
    return values_at(view, rows, key, moment(view, t))


def values_at(view: FeatureView, rows: Sequence[Row], key: Mapping[str, Any], r: int) -> dict[str, Any]:
    """The features of one entity at exactly ``r``."""
    source = view.source
    columns = {k: view.keys[k] for k in view.entity.key}
    facts = [f for f in visible(source, rows, r) if all(f.row[columns[k]] == key[k] for k in columns)]
    return {f.name: _feature(view, f, facts, r) for f in view.features}


def _feature(view: FeatureView, feature: Feature, facts: list[Fact], r: int) -> Any:
    if feature.window is not None:
        begin = r - length(feature.window)
        facts = [f for f in facts if f.event is not None and f.event >= begin]
    if feature.kind == "count":
        return len(facts)
    assert feature.column is not None
    if feature.kind == "row":
        return _fresh(view, facts[-1], feature.column, r) if facts else None
    filled = [f for f in facts if not _null(f.row[feature.column])]
    if feature.kind in ("first", "last"):
        if not filled:
            return None
        chosen = filled[0] if feature.kind == "first" else filled[-1]
        return chosen.row[feature.column] if feature.window else _fresh(view, chosen, feature.column, r)
    return aggregate(feature.kind, [f.row[feature.column] for f in filled], feature.q)


def _fresh(view: FeatureView, fact: Fact, column: str, r: int) -> Any:
    """A latest value, or null if its event is older than the ttl."""
    if view.ttl is not None and fact.event is not None and fact.event < r - length(view.ttl):
        return None
    value = fact.row[column]
    return None if _null(value) else value


def _null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def aggregate(kind: str, found: list[Any], q: float | None = None) -> Any:
    """An aggregate of values without nulls."""
    if kind == "nunique":
        return len(set(found))
    if not found:
        return None
    if kind == "sum":
        return math.fsum(found) if isinstance(found[0], float) else sum(found)
    if kind == "mean":
        return math.fsum(found) / len(found)
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


def _deviation(found: list[float]) -> float | None:
    if len(found) < 2:
        return None
    mean = math.fsum(found) / len(found)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in found) / (len(found) - 1))


def _quantile(ordered: list[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def same(a: Any, b: Any, scale: float = 0.0) -> bool:
    """Equal, floats within 1e-9 of the greater of themselves and ``scale`` (the size of what was added up)."""
    if a is None or b is None:
        return a is b
    if isinstance(a, float) or isinstance(b, float):
        if math.isinf(a) or math.isinf(b):
            return bool(a == b)
        return abs(a - b) <= 1e-9 * max(abs(a), abs(b), scale)
    return bool(a == b)
