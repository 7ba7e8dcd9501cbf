"""What aggregates and views accept, and how they say no."""

from __future__ import annotations

from typing import Any

import pytest

import headway as hw
from headway.define import Entity, Feature, FeatureView, Source
from headway.errors import DefinitionError

ROWS = Source("rows", path="r.parquet", timestamp="ts")
WHO = Entity("who", key="k")


def view(source: Source = ROWS, **features: Any) -> FeatureView:
    return FeatureView("v", source=source, entity=WHO, features=features)


def test_windows_are_spelled_out_with_what_else_there_is() -> None:
    made = view(
        a=hw.mean("x", window=["1d", "7d"], where="x > 0", offset="1h"),
        b=hw.lag("x", "168h", within="2h"),
        c=hw.last_n("x", 3),
        d=hw.vector("e", dim=4),
        e=hw.expr("a_1d / a_7d"),
        f=hw.median("x"),
        g=hw.time_since_last(where="x is not null"),
        h=hw.approx_nunique("x", window="1h"),
    )
    assert made.features == (
        Feature("a_1d", "mean", "x", "1d", where="x > 0", offset="1h"),
        Feature("a_7d", "mean", "x", "7d", where="x > 0", offset="1h"),
        Feature("b", "lag", "x", "2h", offset="168h"),
        Feature("c", "last_n", "x", n=3),
        Feature("d", "vector", "e", n=4),
        Feature("e", "expr", None, expression="a_1d / a_7d"),
        Feature("f", "quantile", "x", q=0.5),
        Feature("g", "time_since_last", None, where="x is not null"),
        Feature("h", "nunique", "x", "1h"),
    )


@pytest.mark.parametrize(
    "make", [hw.sum, hw.mean, hw.min, hw.max, hw.std, hw.median, hw.mode, hw.nunique, hw.first, hw.last]
)
def test_every_aggregate_takes_a_condition_and_an_offset(make: Any) -> None:
    (found,) = view(f=make("x", window="1d", where="y", offset="7d")).features
    assert (found.window, found.where, found.offset) == ("1d", "y", "7d")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: hw.count(window="1d", offset="0h"), "count: an offset is longer than nothing, got '0h'; leave it out"),
        (lambda: hw.count(offset="a week"), "count: its offset is a whole number and a unit"),
        (lambda: hw.sum("x", where=" "), "sum: give an SQL condition as where, got ' '"),
        (lambda: hw.sum("x", where=True), "sum: give an SQL condition as where, got True"),
        (lambda: hw.lag("x", None), "lag: say how far back, such as hw.lag"),
        (lambda: hw.lag("x", "0d"), "lag: an offset is longer than nothing"),
        (lambda: hw.lag("x", "7d", within=["1d"]), "lag: within is a length of time such as '2h', got"),
        (lambda: hw.last_n("x", 0), "last_n: n is a whole number from 1 to 1000, got 0"),
        (lambda: hw.last_n("x", True), "last_n: n is a whole number"),
        (lambda: hw.vector("x", dim=1.5), "vector: dim is a whole number from 1 to 65536, got 1.5"),
        (lambda: hw.quantile("x", 2), "quantile: q lies between 0 and 1"),
    ],
)  # fmt: skip
def test_what_an_aggregate_cannot_be(make: Any, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"f": hw.expr("a + 1", on_fail="warn")}, "feature 'f' is no check, so on_fail='warn' has no meaning"),
        ({"f": hw.not_null("a")}, "or hw.expr(…) over other features; got "),
        ({"f": 3}, "feature 'f' is a column or SQL expression as text, an aggregate such as hw.count(window='1h'), or"),
        ({"f_1d": "a", "f": hw.count(window=["1d"])}, "two features are called 'f_1d'"),
    ],
)
def test_what_a_feature_cannot_be(features: Any, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        view(**features)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("feature", "told"),
    [
        (hw.count(window="1d"), "cannot have a window"),
        (hw.count(offset="1d"), "cannot look back in time"),
        (hw.lag("x", "1d"), "cannot look back in time"),
        (hw.time_since_last(), "cannot look back in time"),
    ],
)
def test_a_timeless_source_has_no_past(feature: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=rf"source 'still' has no timestamp, so its features {told}"):
        view(Source("still", path="s.parquet"), f=feature)
