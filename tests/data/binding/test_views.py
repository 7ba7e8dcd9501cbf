"""Views as plans, and the events they see."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tests.data.binding.conftest import World, at, us

import headway as hw
from headway.data.binding._view import fingerprint as digest
from headway.define import Entity, FeatureView, Source
from headway.define.records import BEGINNING, FOREVER, FeaturePlan, Field, ViewPlan
from headway.errors import BindingError, DataError

UTC_US = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "ts": UTC_US,
        "seen": UTC_US,
        "i8": pa.int8(),
        "u32": pa.uint32(),
        "f32": pa.float32(),
        "dec": pa.decimal128(8, 2),
        "text": pa.string(),
        "flag": pa.bool_(),
        "day": pa.date32(),
        "when": UTC_US,
        "naive": pa.timestamp("us"),
        "listed": pa.list_(pa.int64()),
        "vector": pa.list_(pa.float32()),
        "pair": pa.struct({"a": pa.int64()}),
        "odd name": pa.int32(),
    }
)
ROW = {
    "id": 1, "ts": at(1), "seen": at(2), "i8": 3, "u32": 4, "f32": 0.5, "dec": Decimal("1.25"), "text": "x",
    "flag": True, "day": date(2024, 1, 5), "when": at(7), "naive": datetime.fromisoformat("2024-01-01T07:00"),
    "listed": [1], "vector": [0.5, 2.0], "pair": {"a": 8}, "odd name": 9,
}  # fmt: skip


@pytest.fixture
def world(world: World) -> World:
    world.add(Source("rows", path="r.parquet", id="id", timestamp="ts", created="seen"), [ROW], SCHEMA)
    return world


def view(world: World, features: Any, *, key: str = "id", name: str = "v", **kwargs: Any) -> FeatureView:
    source = kwargs.pop("source", world.sources["rows"])
    keys = {"k": key} if isinstance(key, str) else key
    return FeatureView(name, source=source, entity=Entity("e", key=tuple(keys)), keys=keys, features=features, **kwargs)


@pytest.mark.parametrize(
    ("feature", "type_", "value"),
    [
        (hw.count(), "int64", None),
        ("i8", "int64", 3),
        ("u32", "int64", 4),
        ("f32", "double", 0.5),
        ("dec", "double", 1.25),
        ("text", "string", "x"),
        ("flag", "bool", True),
        ("day", "date32[day]", date(2024, 1, 5)),
        ("when", "timestamp[us, tz=UTC]", at(7)),
        ("naive", "timestamp[us, tz=UTC]", at(7)),
        ("odd name", "int64", 9),
        ('"odd name" + 1', "int64", 10),
        ("pair.a", "int64", 8),
        ("rows.i8 * 2 -- doubled", "int64", 6),
        ("I8", "int64", 3),
        (hw.sum("i8"), "int64", 3),
        (hw.sum("dec"), "double", 1.25),
        (hw.sum("flag"), "int64", 1),
        (hw.mean("flag"), "double", 1),
        (hw.mean("i8"), "double", 3),
        (hw.std("f32"), "double", 0.5),
        (hw.quantile("i8", 0.5), "double", 3),
        (hw.nunique("text"), "int64", "x"),
        (hw.min("text"), "string", "x"),
        (hw.max("day"), "date32[day]", date(2024, 1, 5)),
        (hw.first("flag"), "bool", True),
        (hw.last("i8 / 2"), "double", 1.5),
        (hw.last("epoch(seen - ts)"), "double", 3600.0),
        (hw.median("i8"), "double", 3),
        (hw.mode("text"), "string", "x"),
        (hw.approx_nunique("text"), "int64", "x"),
        (hw.time_since_last(), "double", None),
        (hw.time_since_last(where="flag"), "double", True),
        (hw.lag("i8", "7d"), "int64", 3),
        (hw.last_n("dec", 2), "fixed_size_list<item: double>[2]", 1.25),
        (hw.last_n("text", 1), "fixed_size_list<item: string>[1]", "x"),
        (hw.vector("vector", 2), "fixed_size_list<item: float>[2]", [0.5, 2.0]),
        (hw.vector("listed", 1), "fixed_size_list<item: double>[1]", [1.0]),
        (hw.vector("[i8, f32]", 2), "fixed_size_list<item: float>[2]", [3.0, 0.5]),
        (hw.vector("array_value(1.5::double, i8)", 2), "fixed_size_list<item: double>[2]", [1.5, 3.0]),
        (hw.count(where="flag"), "int64", True),
        (hw.count(where="i8 > 3 -- many"), "int64", None),
        (hw.count(where="rows.text is null or flag"), "int64", True),
        (hw.sum("i8", where="flag"), "int64", 3),
        (hw.sum('"odd name"', where="not flag"), "int64", None),
        (hw.last("text", where="f32 < 1"), "string", "x"),
        (hw.mean("odd name", where="flag", offset="7d"), "double", 9),
    ],
    ids=str,
)
def test_types_and_values(world: World, feature: Any, type_: str, value: Any) -> None:
    made = view(world, {"f": feature})
    (plan,) = world.binder.view(made).features
    assert plan.type == type_
    assert value is None if plan.column is None else world.events(made).values[plan.column].to_pylist() == [value]


def test_conditions_share_a_column_where_they_are_the_same(world: World) -> None:
    features = {
        "a": hw.count(where="flag"),
        "b": hw.time_since_last(where="flag", window=["1d", "2d"]),
        "c": hw.mean("i8", where="flag", offset="1h"),
        "d": hw.mode("i8", where="flag"),
        "e": hw.lag("i8", "2h", within="1h"),
    }
    plan = world.binder.view(view(world, features, refresh="1h"))
    hour = 3_600_000_000
    assert plan.features == (
        FeaturePlan("a", "count", "int64", "__c0"),
        FeaturePlan("b_1d", "time_since_last", "double", "__c0", 24 * hour),
        FeaturePlan("b_2d", "time_since_last", "double", "__c0", 48 * hour),
        FeaturePlan("c", "mean", "double", "__c1", offset=hour),
        FeaturePlan("d", "mode", "int64", "__c1"),
        FeaturePlan("e", "lag", "int64", "__c2", hour, offset=2 * hour),
    )
    assert plan.longest_window == 48 * hour


EXPRS: list[tuple[dict[str, Any], dict[str, tuple[str, Any]]]] = [
    ({"e": hw.expr("n + 1"), "n": hw.count()}, {"e": ("int64", 1)}),
    ({"n": hw.count(), "e": hw.expr("n / 2")}, {"e": ("double", 0.0)}),
    ({"n": hw.count(), "e": hw.expr("n > 0")}, {"e": ("bool", False)}),
    ({"a": "i8", "e": hw.expr("coalesce(A, -1)")}, {"e": ("int64", -1)}),
    ({"a": "i8", "e": hw.expr("v.a * 1.5 -- more")}, {"e": ("double", None)}),
    ({"t": "text", "e": hw.expr("coalesce(t, 'none')")}, {"e": ("string", "none")}),
    ({"w": "when", "e": hw.expr("coalesce(w, timestamptz '1970-01-01 00:00:01Z')")}, {"e": ("timestamp[us, tz=UTC]", 10**6)}),
    ({"w": "when", "e": hw.expr("coalesce(w, date '1970-01-03')::date"), "f": hw.expr("e + 1")},
     {"e": ("date32[day]", 2), "f": ("date32[day]", 3)}),
    ({"n": hw.count(), "e": hw.expr("n::double / 0")}, {"e": ("double", "nan")}),
    ({"v": hw.vector("vector", 2), "e": hw.expr("list_sum(v::double[])")}, {"e": ("double", None)}),
    ({"l": hw.last_n("i8", 2), "e": hw.expr("l[1] - l[2]")}, {"e": ("int64", None)}),
    ({"f": hw.expr("e * 2"), "g": hw.expr("f + e"), "e": hw.expr("n + 1"), "n": hw.count()},
     {"e": ("int64", 1), "f": ("int64", 2), "g": ("int64", 3)}),
    ({"e": hw.expr("1"), "n": hw.count()}, {"e": ("int64", 1)}),
]  # fmt: skip


@pytest.mark.parametrize(("features", "bound"), EXPRS, ids=str)
def test_expressions_have_types_and_values_over_nothing(world: World, features: Any, bound: Any) -> None:
    plan = world.binder.view(view(world, features))
    assert [f.name for f in plan.features] == list(features)
    for name, (type_, nothing) in bound.items():
        (found,) = [f for f in plan.features if f.name == name]
        assert (found.kind, found.type) == ("expr", type_)
        if nothing is not None:
            assert found.nothing == nothing
        if nothing == "nan":
            assert found.empty != found.empty


def test_expressions_of_latest_values_age_with_them(world: World) -> None:
    features = {
        "n": hw.count(),
        "a": "i8",
        "of_a": hw.expr("coalesce(a, n)"),
        "of_of_a": hw.expr("of_a + n"),
        "of_n": hw.expr("n + 1"),
        "old": hw.last("i8", offset="1d"),
        "of_old": hw.expr("old + 1"),
    }
    plan = world.binder.view(view(world, features, refresh="1h", ttl="1d"))
    assert [f.name for f in plan.features if f.is_latest] == ["a", "of_a", "of_of_a"]


def test_old_plans_are_read_and_new_ones_kept(world: World) -> None:
    old = b'{"name":"a","kind":"mean","type":"double","column":"__c0","window":5,"q":null}'
    assert msgspec.json.decode(old, type=FeaturePlan) == FeaturePlan("a", "mean", "double", "__c0", 5)
    for features, _ in EXPRS:
        plan = world.binder.view(view(world, features))
        assert msgspec.json.decode(msgspec.json.encode(plan), type=ViewPlan) == plan


def test_what_plans_have_come_to_hold_leaves_other_fingerprints_alone() -> None:
    """Were it to change, every view would have to be materialized again after an upgrade."""
    features = (FeaturePlan("a", "mean", "double", "__c0", 5), FeaturePlan("n", "count", "int64"))
    plan = ViewPlan("v", "", "s", ("t",), "select 1", (Field("k", "int64"),), features, refresh=3)
    assert digest(plan, [Source("s", path="x.csv", timestamp="t")]) == "4325d93e76d56cc7844def26723f2a94"
    other = msgspec.structs.replace(plan, features=(features[0], msgspec.structs.replace(features[1], offset=1)))
    assert digest(other, []) != digest(plan, [])


def test_one_column_for_each_expression_and_type(world: World) -> None:
    features = {
        "a": hw.mean("i8", window=["1d", "7d"]),
        "b": "i8",
        "c": hw.sum("flag"),
        "d": "flag",
        "e": hw.count(window="1h"),
    }
    plan = world.binder.view(view(world, features, refresh="15m", lag="2m", ttl="3d"))
    hour = 3_600_000_000
    assert plan.features == (
        FeaturePlan("a_1d", "mean", "double", "__c0", 24 * hour),
        FeaturePlan("a_7d", "mean", "double", "__c0", 7 * 24 * hour),
        FeaturePlan("b", "row", "int64", "__c0"),
        FeaturePlan("c", "sum", "int64", "__c1"),
        FeaturePlan("d", "row", "bool", "__c2"),
        FeaturePlan("e", "count", "int64", None, hour),
    )
    assert (plan.refresh, plan.lag, plan.ttl) == (hour // 4, hour // 30, 72 * hour)
    assert (plan.tables, plan.source, plan.effective, plan.timeless) == (("source/rows",), "rows", False, False)


@pytest.mark.parametrize(
    ("key", "type_"),
    [("id", "int64"), ("u32", "int64"), ("text", "string"), ("flag", "bool"), ("day", "date32[day]"),
     ("naive", "timestamp[us, tz=UTC]"), ("id % 7", "int64"), ("lower(text)", "string")],
)  # fmt: skip
def test_keys(world: World, key: str, type_: str) -> None:
    made = view(world, {"n": hw.count()}, key=key)
    assert world.binder.view(made).keys == (Field("k", type_),)
    assert str(world.events(made).keys.schema.field("k").type) == type_


@pytest.mark.parametrize(
    ("features", "key", "message"),
    [
        ({"f": "tekst"}, "id", "feature 'f': in source 'rows' there is no column 'tekst'; did you mean 'text'?"),
        ({"f": hw.mean("i8 + j8", window="1d")}, "id", "feature 'f', mean: in source 'rows' there is no column 'j8'"),
        ({"f": "i8"}, "idd", "key 'k': in source 'rows' there is no column 'idd'; did you mean 'id'?"),
        ({"f": "__seq"}, "id", "'__seq' begins with two underscores"),
        ({"f": hw.sum("text")}, "id", "feature 'f', sum: 'text' is string, and sum is of numbers"),
        ({"f": hw.std("flag")}, "id", "feature 'f', std: 'flag' is bool, and std is of numbers"),
        ({"f": hw.quantile("day", 0.5)}, "id", "feature 'f', quantile: 'day' is date32[day], and quantile is of"),
        ({"f": "listed"}, "id", "feature 'f': 'listed' is list<"),
        ({"f": "pair"}, "id", "feature 'f': 'pair' is struct<"),
        ({"f": "null"}, "id", "feature 'f': 'null' is "),
        ({"f": "i8"}, "f32", "key 'k' is float, and keys are whole numbers"),
        ({"f": "i8"}, "dec", "key 'k' is decimal128(8, 2), and keys are whole numbers"),
        ({"f": "sum(i8)"}, "id", "feature 'f' (sum(i8)): SUM(i8) adds up rows"),
        ({"f": "i8", "g": "now() - ts"}, "id", "feature 'g' (now() - ts): NOW() gives another value each time"),
        ({"f": "i8, f32"}, "id", "feature 'f' (i8, f32): write a single expression"),
        ({"f": "i8", "g": "i8 + text + day"}, "id", "'i8 + text + day' does not fit source 'rows': "),
        ({"f": hw.count(where="i9 > 1")}, "id", "feature 'f', count, where: in source 'rows' there is no column 'i9'"),
        ({"f": hw.count(where="i8")}, "id", "feature 'f', count: where is a condition, true or false, and 'i8' is int8"),
        ({"f": hw.sum("i8", where="count(i8) > 1")}, "id", "count(i8) > 1): COUNT(i8) adds up rows"),
        ({"f": hw.sum("i8", where="ts > now()")}, "id", "NOW() gives another value each time"),
        ({"f": hw.mode("listed")}, "id", "'listed' is list<"),
        ({"f": hw.vector("text", 3)}, "id", "feature 'f', vector: 'text' is string, and a vector is a list of numbers"),
        ({"f": hw.vector("[text]", 3)}, "id", "and a vector is a list of numbers"),
        ({"f": hw.vector("array_value(1.5, 2)", 3)}, "id", "'array_value(1.5, 2)' has 2 dimensions, not 3"),
        ({"f": hw.expr("g + 1"), "g": hw.expr("h"), "h": hw.expr("f")}, "id", "computed from itself: f → g → h → f"),
        ({"f": hw.expr("f + 1")}, "id", "feature 'f' is computed from itself: f → f"),
        ({"f": hw.expr("i8 + 1"), "i9": "i8"}, "id",
         "feature 'f' (i8 + 1): it is computed from features of the same view, and there is no column 'i8'; there are: f, i9"),
        ({"f": hw.expr("sum(n)"), "n": hw.count()}, "id", "feature 'f' (sum(n)): SUM(n) adds up rows"),
        ({"f": hw.expr("lag(n) over ()"), "n": hw.count()}, "id", "looks at other rows"),
        ({"f": hw.expr("n + random()"), "n": hw.count()}, "id", "RANDOM() gives another value each time"),
        ({"f": hw.expr("n + now()"), "n": hw.count()}, "id", "NOW() gives another value each time"),
        ({"f": hw.expr("t + 1"), "t": "day::varchar"}, "id", "it does not fit the features it names: "),
        ({"f": hw.expr("[n, n]"), "n": hw.count()}, "id", "it is list<"),
        ({"f": hw.expr("n + 1"), "n": hw.count(), "N": hw.count()}, "id", "SQL cannot tell 'n' from 'N'"),
        ({"f": hw.expr("'a'::int + n"), "n": hw.count()}, "id", "feature 'f' ('a'::int + n): over no rows at all, "),
        ({"f": "nosuch(i8)"}, "id", "'nosuch(i8)' does not fit source 'rows': "),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_does_not_fit_names_the_view_and_its_place(world: World, features: Any, key: str, message: str) -> None:
    with pytest.raises(BindingError) as caught:
        world.binder.view(view(world, features, key=key))
    text = str(caught.value)
    assert text.startswith("feature view 'v' (")
    assert "test_views.py:" in text.split("): ")[0]
    assert message in text
    assert "\n" not in text


def test_events_have_keys_times_and_ends(world: World) -> None:
    rows = [
        {"id": 7, "ts": at(1), "seen": at(2), "i8": 1},
        {"id": 7, "ts": at(1), "seen": at(5), "i8": 2},
        {"id": 8, "ts": at(3), "seen": None, "i8": 3},
        {"id": None, "ts": at(4), "seen": at(4), "i8": 4},
    ]
    world.add(world.sources["rows"], rows, SCHEMA)
    events = world.events(view(world, {"f": "i8"}, key={"a": "id", "b": "i8"}))
    assert events.keys.to_pylist() == [{"a": 7, "b": 1}, {"a": 7, "b": 2}]
    assert events.event.tolist() == [us(1), us(1)]
    assert events.known.tolist() == [us(2), us(5)]
    assert events.until.tolist() == [us(5), FOREVER]
    assert len(set(events.rank.tolist())) == 2
    assert {a.dtype for a in (events.event, events.known, events.until, events.rank)} == {np.dtype(np.int64)}
    assert isinstance(events.values["__c0"], pa.Array)
    assert events.version == 2


def test_a_timeless_view(world: World) -> None:
    zones = world.add(
        Source("zones", path="z.parquet"), [{"zone": z, "name": n} for z, n in [(1, "a"), (None, "b"), (2, "c")]]
    )
    made = view(world, {"name": "name"}, key="zone", source=zones)
    plan, events = world.binder.view(made), world.events(made)
    assert plan.timeless
    assert events.keys.column("k").to_pylist() == [1, 2]
    assert {*events.event.tolist(), *events.known.tolist()} == {BEGINNING}
    assert set(events.until.tolist()) == {FOREVER}


@pytest.mark.parametrize(
    ("ids", "rank"),
    [
        ({"a": [3, 1, 2]}, [2, 0, 1]),
        ({"a": ["é", "z", "Z"]}, [2, 1, 0]),
        ({"a": ["\U0001f600", "\uffee", "a"]}, [2, 1, 0]),
        ({"a": [1, 1, 0], "b": [1, 0, 9]}, [2, 1, 0]),
        ({"a": [None, 0, None]}, [0, 2, 1]),
        ({}, [0, 1, 2]),
    ],
)
def test_ties_go_by_id_then_arrival(world: World, ids: dict[str, list[Any]], rank: list[int]) -> None:
    rows = [{"k": 1, "ts": at(1), **{c: v[n] for c, v in ids.items()}} for n in range(3)]
    source = world.add(Source("ties", path="t.parquet", id=tuple(ids), timestamp="ts"), rows)
    assert world.events(view(world, {"n": hw.count()}, key="k", source=source)).rank.tolist() == rank


def test_events_of_a_recorded_version(world: World) -> None:
    from headway.data.binding import load_events

    plan = world.binder.view(view(world, {"f": "i8"}))
    world.add(world.sources["rows"], [{**ROW, "i8": 4}, {**ROW, "id": 2}], SCHEMA)
    assert len(load_events(plan, world.lake, world.engine)) == 2
    old = load_events(plan, world.lake, world.engine, {"source/rows": 0})
    assert (len(old), old.version) == (1, 1)
    missing = ViewPlan("v", "", "s", ("source/none",), "select 1", (), ())
    with pytest.raises(DataError, match="view 'v' reads 'source/none', which is not in the lake yet"):
        load_events(missing, world.lake, world.engine)


def test_a_use_has_the_selections_prefix_keys_and_features(world: World) -> None:
    made = view(world, {"a": "i8", "b": "text"})
    use = world.binder.use(made.alias("other", keys={"k": "mine"})["b"])
    assert (use.prefix, use.keys, use.features, use.columns) == ("other", {"k": "mine"}, ("b",), ("other__b",))
    assert use.plan == world.binder.view(made)


SAME: list[dict[str, Any]] = [
    {},
    {"name": "renamed"},
    {"owner": "somebody", "description": "something", "tags": ["x"]},
    {"source": {"path": "elsewhere/*.parquet"}},
    {"source": {"description": "rows", "checks": [hw.not_null("i8")]}},
]
OTHER: list[dict[str, Any]] = [
    {"refresh": "1h"},
    {"lag": "1m"},
    {"ttl": "2d"},
    {"features": {"f": hw.mean("i8", window="2d")}},
    {"features": {"g": hw.mean("i8", window="1d")}},
    {"features": {"f": hw.mean("i8 + 1", window="1d")}},
    {"features": {"f": hw.mean("i8", window="1d", where="flag")}},
    {"features": {"f": hw.mean("i8", window="1d", offset="1h")}},
    {"features": {"f": hw.mean("i8", window="1d"), "e": hw.expr("f + 1")}},
    {"key": "u32"},
    {"source": {"timezone": "Europe/Lisbon"}},
    {"source": {"effective": True}},
    {"source": {"delay": "1h"}},
    {"source": {"created": None}},
    {"source": {"id": None}},
    {"source": {"deleted": "flag"}},
    {"source": {"checks": [hw.not_null("i8", on_fail="quarantine")]}},
]


def fingerprint(world: World, change: dict[str, Any]) -> str:
    change = dict(change)
    declared = {"path": "r.parquet", "id": "id", "timestamp": "ts", "created": "seen"} | change.pop("source", {})
    world.sources["rows"] = source = Source("rows", **declared)
    made: dict[str, Any] = {"features": {"f": hw.mean("i8", window="1d")}, "source": source, "refresh": "15m"} | change
    return world.binder.view(view(world, made.pop("features"), **made)).fingerprint


@pytest.mark.parametrize("change", SAME, ids=str)
def test_the_fingerprint_stays_where_no_value_changes(world: World, change: dict[str, Any]) -> None:
    assert fingerprint(world, change) == fingerprint(world, {})


@pytest.mark.parametrize("change", OTHER, ids=str)
def test_the_fingerprint_changes_with_everything_that_decides_a_value(world: World, change: dict[str, Any]) -> None:
    assert fingerprint(world, change) != fingerprint(world, {})


def test_the_fingerprint_does_not_depend_on_the_rows(world: World) -> None:
    before = fingerprint(world, {})
    world.add(world.sources["rows"], [ROW, ROW, {**ROW, "id": 2}], SCHEMA)
    assert fingerprint(world, {}) == before
    assert len(before) == 32
    int(before, 16)


def test_a_querys_fingerprint_covers_the_sources_behind_it(world: World) -> None:
    def of(text: str, timezone: str = "UTC") -> str:
        world.sources["rows"] = Source("rows", path="r.parquet", timestamp="ts", timezone=timezone)
        source = Source("q", query=text, timestamp="ts")
        return world.binder.view(view(world, {"f": "i8"}, source=source)).fingerprint

    base = of("select * from rows where i8 > 1")
    assert of("select * from rows where i8 > 1 -- more than one") == base
    assert of("select * from rows where i8 > 2") != base
    assert of("select * from rows where i8 > 1", "Europe/Lisbon") != base


def test_a_view_of_a_source_the_project_does_not_have(world: World) -> None:
    own = Source("own", query="select * from rows where i8 = 3", timestamp="ts")
    assert len(world.events(view(world, {"f": "i8"}, source=own))) == 1
