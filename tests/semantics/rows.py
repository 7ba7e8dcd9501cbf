"""Made-up rows for the sources of `world`, with few different values so that they tie, repeat and hit boundaries."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headway.define import FeatureView, Source
from headway.testing.oracle import Derived, Oracle, facts, to_utc

Row = dict[str, Any]
Rows = Mapping[str, list[Row]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK, HALF_HOUR = timedelta(microseconds=1), timedelta(minutes=30)
USERS = 120
VALUES: dict[str, list[Any]] = {
    "i": [None, -3, 0, 1, 1, 2, 7, 2**40, -(2**40) + 1],
    "f": [None, math.nan, -0.0, 0.0, 0.1, 0.1, 2.5, -1e-3, 1e15, math.inf, -math.inf],
    "s": [None, "", "a", "b", "é", "\U0001f600", "\uffff"],
    "b": [None, False, True],
    "d": [None, *(EPOCH + n * HALF_HOUR for n in (-1, 0, 1)), datetime(2024, 7, 1, 12, 0, 0, 1, tzinfo=UTC)],
    "g": [None, 2**62, 2**62 + 1, -(2**62), 0],
}
PAIRS = [("1", "23"), ("12", "3"), ("123", ""), ("", "123"), ("é", "1"), (None, "1"), ("1", None)]
NEW_YORK = (datetime(2024, 3, 10), datetime(2024, 11, 3))
LORD_HOWE = (datetime(2024, 4, 7), datetime(2024, 10, 6))
INSTANT, NAIVE = pa.timestamp("us", "UTC"), pa.timestamp("us")
TYPES = {"i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_(), "g": pa.int64(), "gone": pa.bool_()}
TYPES |= {"k": pa.int64(), "p": pa.string(), "q": pa.string(), "id": pa.string()}
ZONED = ("new_york", "lord_howe")


def any_time(r: random.Random) -> datetime:
    """On the half hour within two days around 1970, or a microsecond beside it."""
    return EPOCH + r.randrange(-24, 25) * 2 * HALF_HOUR * r.choice([1, 1, 0.5]) + r.choice([0, 0, 0, 1, -1]) * TICK


def local_time(r: random.Random, days: Sequence[datetime]) -> datetime:
    """Of one of the days, by quarters of an hour, or a microsecond beside them."""
    return r.choice(days) + timedelta(minutes=15 * r.randrange(0, 28)) + r.choice([0, 0, 1, -1]) * TICK


def values(r: random.Random) -> Row:
    return {column: r.choice(domain) for column, domain in VALUES.items()}


def user(r: random.Random) -> int | None:
    """Some users come often."""
    return r.choice([None, r.randrange(8), r.randrange(60), *[r.randrange(USERS)] * 3])


def late(r: random.Random, event: datetime) -> datetime | None:
    """When a row came to be known: never, before it happened, at once, or hours later."""
    return r.choice([None, event - HALF_HOUR, event, event + HALF_HOUR, event + r.randrange(24) * HALF_HOUR])


def event(r: random.Random, time: Callable[[random.Random], datetime] = any_time) -> Row:
    p, q = r.choice(PAIRS)
    return {"k": user(r), "p": p, "q": q, **values(r), "ts": r.choice([None, *[time(r)] * 30])}


def versioned(r: random.Random, ids: int, time: Callable[[random.Random], datetime] = any_time) -> Row:
    """A version of one of few facts, with its own event time and perhaps another key than those before."""
    row = event(r, time)
    at = row["ts"] or time(r)
    number = r.randrange(ids)
    if r.random() < 0.8:
        row["k"] = number % USERS
    row["id"] = f"{number:x}"
    row["ended"] = r.choice([None, at, at + HALF_HOUR, at + 5 * HALF_HOUR])
    return row | {"seen": late(r, at), "gone": r.choice([None, False, False, False, True])}


def plain(r: random.Random) -> Row:
    return event(r)


def versions(r: random.Random) -> Row:
    return versioned(r, 300)


def new_york(r: random.Random) -> Row:
    row = versioned(r, 400, lambda r: local_time(r, NEW_YORK))
    return row | {"d": r.choice([None, local_time(r, NEW_YORK)])}


def lord_howe(r: random.Random) -> Row:
    row = event(r, lambda r: local_time(r, LORD_HOWE))
    return row | {"d": r.choice([None, local_time(r, LORD_HOWE)])}


def contracts(r: random.Random) -> Row:
    row = versioned(r, 40)
    return row | {"p": row["p"] or ""}


def dimension(r: random.Random) -> Row:
    return {"k": r.randrange(USERS), **values(r), "gone": r.choice([None, False, False, True])}


def pile(r: random.Random) -> Row:
    return {"k": user(r), **values(r)}


def prices(r: random.Random) -> Row:
    at = any_time(r)
    return {"k": r.choice([None, r.randrange(60)]), "at": at, "seen": late(r, at), **values(r)}


MAKERS: Mapping[str, Callable[[random.Random], Row]] = {
    "plain": plain,
    "versions": versions,
    "delayed": plain,
    "new_york": new_york,
    "lord_howe": lord_howe,
    "valid_from": plain,
    "contracts": contracts,
    "dimension": dimension,
    "pile": pile,
    "prices": prices,
}


def more(r: random.Random, rows: Rows, number: int) -> dict[str, list[Row]]:
    """The rows there were, then some that arrived."""
    return {name: [*rows.get(name, []), *(make(r) for _ in range(number))] for name, make in MAKERS.items()}


def write(root: Path, rows: Rows) -> None:
    """The files of the sources."""
    (root / "data").mkdir(exist_ok=True)
    for name, found in rows.items():
        time = NAIVE if name in ZONED else INSTANT
        columns = {column: pa.array([row[column] for row in found], TYPES.get(column, time)) for column in found[0]}
        pq.write_table(pa.table(columns), root / "data" / f"{name}.parquet", row_group_size=97)


def oracle(view: FeatureView, sources: Mapping[str, Source], rows: Rows) -> Oracle:
    """What the view's values must be."""
    if view.source.name == "joined":
        query = _joined(sources["dimension"], rows["dimension"])
        return Oracle(view, rows["versions"], sources["versions"], query, FUNCTIONS)
    if view.source.name == "priced":
        query = _priced(sources["prices"], rows["prices"])
        return Oracle(view, rows["plain"], sources["plain"], query, FUNCTIONS)
    return Oracle(view, rows[view.source.name], functions=FUNCTIONS)


def _share(f: Mapping[str, Any]) -> float | None:
    both = f["before0"] + f["recent"]
    return f["recent"] / both if both else None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


FUNCTIONS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "b": lambda row: row["b"],
    "not b": lambda row: None if row["b"] is None else not row["b"],
    "i > 0": lambda row: None if row["i"] is None else row["i"] > 0,
    "s is not null": lambda row: row["s"] is not None,
    "recent / nullif(before0 + recent, 0)": _share,
    "coalesce(latest, share, -1)": lambda f: _first(f["latest"], f["share"], -1.0),
    "coalesce(latest_b, mode_i0)": lambda f: _first(f["latest_b"], f["mode_i0"]),
    "count0 + coalesce(mode_i, 0)": lambda f: f["count0"] + _first(f["mode_i"], 0),
}


def _joined(source: Source, dimension: list[Row]) -> Callable[[Mapping[str, Any]], Derived | None]:
    """The query of ``joined`` in Python; of several rows of an id in the dimension the last one counts."""
    latest = {row["k"]: row for row in dimension}
    at_hand = {k: row for k, row in latest.items() if not row["gone"]}

    def query(v: Mapping[str, Any]) -> Derived | None:
        if v["i"] == 1:
            return None
        d = at_hand.get(v["k"], {"s": None, "i": None})
        both = None if v["i"] is None or d["i"] is None else v["i"] + d["i"]
        kept = {c: v[c] for c in ("id", "k", "ts", "ended", "i", "s")}
        return Derived({**kept, "f": None if v["f"] is None else v["f"] * 2, "ds": d["s"], "both": both})

    return query


def _priced(source: Source, prices: list[Row]) -> Callable[[Mapping[str, Any]], Derived | None]:
    """The query of ``priced`` in Python: of the prices up to a row's time the one of the latest, then known last,
    which one that is not known yet will be."""
    known = [fact for fact in facts(source, prices) if fact.row["k"] is not None]

    def query(t: Mapping[str, Any]) -> Derived | None:
        before = [p for p in known if p.row["k"] == t["k"] and t["ts"] is not None and p.row["at"] <= t["ts"]]
        kept = {c: t[c] for c in ("k", "ts", "i")}
        if not before:
            return Derived({**kept, "f": None, "s": None})
        p = max(before, key=lambda p: (p.event, p.known is None, p.known or 0, p.arrival))
        return Derived({**kept, "f": p.row["f"], "s": p.row["s"]}, (p.known,))

    return query


__all__ = ["MAKERS", "PAIRS", "USERS", "Rows", "any_time", "late", "local_time", "more", "oracle", "to_utc", "write"]
