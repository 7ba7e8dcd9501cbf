"""Small worlds in which ties, corrections, late rows and boundaries meet often."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from tests.data.compute.brute import Version

from headway.define.records import BEGINNING, FOREVER, Events, FeaturePlan, Field, ViewPlan

KEYS = (
    (Field("k", "int64"),),
    (Field("k", "string"),),
    (Field("a", "string"), Field("b", "string")),
    (Field("a", "int32"), Field("b", "bool"), Field("c", "date32[day]")),
    (Field("k", "timestamp[us, tz=UTC]"),),
)
KEY_VALUES: dict[str, list[Any]] = {
    "int64": [-1, 0, 2**62],
    "int32": [1, 12],
    "string": ["1", "12", "3", "23", "é", "z"],
    "bool": [False, True],
    "date32[day]": [0, 7],
    "timestamp[us, tz=UTC]": [-5, 5],
}
COLUMNS = {
    "i": (pa.int64(), [None, -2, 0, 1, 7]),
    "f": (pa.float64(), [None, math.nan, -0.5, 0.1, 3.0, 1e6 + 0.1]),
    "s": (pa.string(), [None, "", "a", "é", "\U0001f600", "\uffff"]),
    "b": (pa.bool_(), [None, False, True]),
    "d": (pa.timestamp("us"), [None, -1, 0, 10**15]),
    "u": (pa.uint8(), [0, 200]),
}
NUMBERS, ANY = ("i", "f", "b", "u"), tuple(COLUMNS)
KINDS = ("row", "last", "first", "count", "sum", "mean", "min", "max", "std", "quantile", "nunique")
KINDS += ("mode", "mode", "time_since_last", "lag", "last_n")


def result_type(kind: str, column: str) -> str:
    if kind in ("count", "nunique"):
        return "int64"
    if kind in ("mean", "std", "quantile", "time_since_last"):
        return "double"
    if kind == "sum":
        return "double" if column == "f" else "int64"
    return str(COLUMNS[column][0])


@st.composite
def features(draw: st.DrawFn, number: int, timed: bool) -> FeaturePlan:
    kind = draw(st.sampled_from(KINDS if timed else [k for k in KINDS if k not in ("time_since_last", "lag")]))
    column = draw(st.sampled_from(NUMBERS if kind in ("sum", "mean", "std", "quantile") else ANY))
    windowed = timed and kind != "row"
    window = draw(st.sampled_from([None, 1, 3, 7, 2**62])) if windowed else None
    offset = draw(st.sampled_from([0, 0, 0, 1, 2, 6, 2**62])) if windowed and kind != "lag" else 0
    if kind == "lag":
        offset = draw(st.sampled_from([1, 2, 6]))
    q = draw(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])) if kind == "quantile" else None
    whole = kind in ("count", "time_since_last") and draw(st.booleans())
    n = draw(st.sampled_from([1, 2, 5])) if kind == "last_n" else None
    type_ = result_type(kind, column) if n is None else str(pa.list_(COLUMNS[column][0], n))
    return FeaturePlan(f"x{number}", kind, type_, None if whole else column, window, q, offset, n)  # type: ignore[arg-type]


@st.composite
def expressions(draw: st.DrawFn, features: list[FeaturePlan]) -> list[FeaturePlan]:
    """Sums of some numbers among the features, and of such sums; they may come first."""
    found = list(features)
    for number in range(draw(st.integers(0, 2))):
        numbers = [f for f in found if f.type in ("int64", "double")]
        some = [f for f in numbers if draw(st.booleans())]
        values = ", ".join(f"{f.name}::double" for f in some)
        found.insert(
            draw(st.integers(0, len(found))),
            FeaturePlan(
                f"e{number}",
                "expr",
                "double",
                expression=f"coalesce(list_sum([{values}]), -1)::double" if some else "-1::double",
                inputs=tuple(f.name for f in some),
                expires=any(f.is_latest for f in some),
                nothing=float(sum(float(f.empty) for f in some if f.empty is not None))
                if any(f.empty is not None for f in some)
                else -1.0,
            ),
        )
    return found


@st.composite
def plans(draw: st.DrawFn) -> ViewPlan:
    shape = draw(st.sampled_from(["plain", "plain", "effective", "timeless"]))
    count = draw(st.integers(1, 5))
    return ViewPlan(
        name="view",
        fingerprint="0" * 32,
        source="source",
        tables=(),
        sql="",
        keys=draw(st.sampled_from(KEYS)),
        features=tuple(draw(expressions([draw(features(i, shape != "timeless")) for i in range(count)]))),
        refresh=draw(st.sampled_from([None, None, 1, 4])),
        lag=draw(st.sampled_from([0, 0, 2])),
        ttl=draw(st.sampled_from([None, 0, 3, 8])),
        effective=shape == "effective",
        timeless=shape == "timeless",
    )


def key_rows(fields: tuple[Field, ...], nulls: bool = False) -> st.SearchStrategy[tuple[Any, ...]]:
    extra = [None] if nulls else []
    return st.tuples(*(st.sampled_from(KEY_VALUES[field.type] + extra) for field in fields))


@st.composite
def versions(draw: st.DrawFn, plan: ViewPlan, most: int) -> list[Version]:
    pool = draw(st.lists(key_rows(plan.keys), min_size=1, max_size=3))
    count = draw(st.integers(0, most))
    ranks = draw(st.permutations(range(count)))
    found = []
    for rank in ranks:
        event = draw(st.integers(-3, 20))
        known = event + draw(st.sampled_from([0, 0, 0, 1, 5, 12]))
        until = draw(st.sampled_from([FOREVER, FOREVER, known + 1, known + 4, known + 9]))
        values = {name: draw(st.sampled_from(domain)) for name, (_, domain) in COLUMNS.items()}
        version = Version(draw(st.sampled_from(pool)), event, known, until, rank, values)
        found.append(replace(version, event=BEGINNING, known=BEGINNING, until=FOREVER) if plan.timeless else version)
    return found


def key_table(fields: tuple[Field, ...], rows: list[tuple[Any, ...]]) -> pa.Table:
    types = {"timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"), "date32[day]": pa.date32()}
    return pa.table(
        {
            field.name: pa.array([row[i] for row in rows], types.get(field.type) or pa.type_for_alias(field.type))
            for i, field in enumerate(fields)
        }
    )


def as_events(plan: ViewPlan, rows: list[Version]) -> Events:
    def times(name: str) -> np.ndarray:
        return np.array([getattr(row, name) for row in rows], dtype=np.int64)

    return Events(
        keys=key_table(plan.keys, [row.key for row in rows]),
        event=times("event"),
        known=times("known"),
        until=times("until"),
        rank=times("rank"),
        values={
            name: pa.array([row.values[name] for row in rows], type_, from_pandas=False)
            for name, (type_, _) in COLUMNS.items()
        },
        version=3,
    )


@dataclass(frozen=True)
class World:
    plan: ViewPlan
    rows: list[Version]

    @property
    def events(self) -> Events:
        return as_events(self.plan, self.rows)


@st.composite
def worlds(draw: st.DrawFn, most: int = 25) -> World:
    plan = draw(plans())
    return World(plan, draw(versions(plan, most)))
