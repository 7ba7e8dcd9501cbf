"""Values that small worlds do not reach: extremes of numbers and times, every type, exactness, many rows."""

from __future__ import annotations

import collections
import datetime
import decimal
import math
import statistics
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.compute import PreparedView, at, changed_keys, snapshot
from headway.define.records import BEGINNING, FOREVER, Events, FeaturePlan, Field, ViewPlan
from headway.errors import DataError

ONE_KEY = pa.table({"k": pa.array([1], pa.int64())})


def plan_of(*features: FeaturePlan, **options: Any) -> ViewPlan:
    options.setdefault("keys", (Field("k", "int64"),))
    return ViewPlan(name="v", fingerprint="0" * 32, source="s", tables=(), sql="", features=features, **options)


def events_of(
    values: dict[str, pa.Array],
    event: list[int] | np.ndarray,
    known: np.ndarray | None = None,
    until: np.ndarray | None = None,
    keys: pa.Table | None = None,
) -> Events:
    event = np.array(event, dtype=np.int64)
    return Events(
        keys=pa.table({"k": pa.array(np.ones(len(event), dtype=np.int64))}) if keys is None else keys,
        event=event,
        known=event if known is None else known,
        until=np.full(len(event), FOREVER) if until is None else until,
        rank=np.arange(len(event)),
        values=values,
    )


def over_all(kind: Any, array: pa.Array, type_: str, q: float | None = None) -> Any:
    """The feature's value over all of an array."""
    plan = plan_of(FeaturePlan("x", kind, type_, "c", None, q))
    events = events_of({"c": array}, list(range(len(array))))
    return at(plan, events, ONE_KEY, np.array([len(array)]))["x"][0].as_py()


DOUBLES = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=200, deadline=None)
@given(st.lists(DOUBLES.filter(lambda x: abs(x) < 1e300), min_size=1, max_size=8))
def test_float_sums_do_not_lose_digits(values: list[float]) -> None:
    got = over_all("sum", pa.array(values), "double")
    assert math.isclose(got, math.fsum(values), rel_tol=4e-16)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-50, 50) | DOUBLES.filter(lambda x: 1e-140 < abs(x) < 1e140), min_size=2, max_size=6),
    st.sampled_from([0.0, 1e6, -1e15]),
)
def test_deviations_are_right_whatever_the_mean(values: list[float], shift: float) -> None:
    numbers = [float(value) + shift for value in values]
    got = over_all("std", pa.array(numbers), "double")
    assert math.isclose(got, statistics.stdev(numbers), rel_tol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6))
def test_integer_sums_are_exact_or_refused(values: list[int]) -> None:
    array = pa.array(values, pa.int64())
    if -(2**63) <= sum(values) < 2**63:
        assert over_all("sum", array, "int64") == sum(values)
    else:
        with pytest.raises(DataError, match="does not fit 64 bits"):
            over_all("sum", array, "int64")
    assert math.isclose(over_all("mean", array, "double"), sum(values) / len(values), rel_tol=1e-12)
    if len(values) > 1:
        expected = math.sqrt(statistics.variance(map(decimal.Decimal, values)))
        assert math.isclose(over_all("std", array, "double"), expected, rel_tol=1e-12)


@pytest.mark.parametrize("value", [0.1, 1e-308, 5e-324, 1.7e308, -123456.789])
def test_equal_floats_have_no_deviation_and_their_own_mean(value: float) -> None:
    assert over_all("std", pa.array([value] * 7), "double") == 0
    assert over_all("sum", pa.array([value]), "double") == value
    assert over_all("mean", pa.array([value]), "double") == value


def test_large_unsigned_integers() -> None:
    array = pa.array([2**63, 5], pa.uint64())
    assert over_all("max", array, "uint64") == 2**63
    assert over_all("quantile", array, "double", 0.0) == 5.0
    assert over_all("mean", array, "double") == pytest.approx((2**63 + 5) / 2)
    with pytest.raises(DataError, match="does not fit 64 bits"):
        over_all("sum", array, "int64")


@pytest.mark.parametrize(
    ("values", "total", "middle", "least"),
    [
        ([math.inf, 1.0, 2.0], math.inf, 2.0, 1.0),
        ([-math.inf, 1.0, 2.0], -math.inf, 1.0, -math.inf),
        ([math.inf, -math.inf, 0.0], math.nan, 0.0, -math.inf),
    ],
)
def test_infinities_are_values(values: list[float], total: float, middle: float, least: float) -> None:
    array = pa.array(values)
    assert over_all("sum", array, "double") == pytest.approx(total, nan_ok=True)
    assert over_all("mean", array, "double") == pytest.approx(total, nan_ok=True)
    assert math.isnan(over_all("std", array, "double"))
    assert over_all("quantile", array, "double", 0.5) == middle
    assert over_all("min", array, "double") == least
    assert over_all("nunique", array, "int64") == 3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], q: float) -> None:
    got = over_all("quantile", pa.array(values), "double", q)
    assert math.isclose(got, np.quantile(values, q), rel_tol=1e-9, abs_tol=1e-9)


D = decimal.Decimal
TYPED = [
    pa.array([3, 1, None, 2], pa.int8()),
    pa.array([3, 1, None, 2], pa.uint64()),
    pa.array([3, 1, None, 2], pa.float32()),
    pa.array(["b", "a", None, "é"], pa.string()),
    pa.array(["b", "a", None, "é"], pa.large_string()),
    pa.array([b"b", b"a", None, b"\xff"], pa.binary()),
    pa.array([True, False, None, True]),
    pa.array([3, 1, None, 2], pa.date32()),
    pa.array([3, 1, None, 2], pa.timestamp("us", "UTC")),
    pa.array([3, 1, None, 2], pa.timestamp("ns")),
    pa.array([3, 1, None, 2], pa.time64("us")),
    pa.array([3, 1, None, 2], pa.duration("us")),
    pa.array([D("3.10"), D("-1.00"), None, D("2.55")], pa.decimal128(10, 2)),
]


@pytest.mark.parametrize("array", TYPED, ids=lambda array: str(array.type))
def test_types_come_out_as_they_went_in(array: pa.Array) -> None:
    present = [value for value in array.to_pylist() if value is not None]
    type_ = str(array.type)
    features = [FeaturePlan(kind, kind, type_, "c") for kind in ("row", "last", "first", "min", "max")]
    plan = plan_of(*features, FeaturePlan("nunique", "nunique", "int64", "c"))
    got = at(plan, events_of({"c": array}, [0, 1, 2, 3]), ONE_KEY, np.array([3]))
    assert [str(column.type) for column in got.columns] == [type_] * 5 + ["int64"]
    seen = present[:2]
    assert [column[0].as_py() for column in got.columns] == [
        None,
        seen[1],
        seen[0],
        min(seen),
        max(seen),
        len(set(seen)),
    ]


def test_values_that_cannot_be_compared_can_still_be_the_latest() -> None:
    events = events_of({"c": pa.array([[1], None, [2, 3]], pa.list_(pa.int64()))}, [0, 1, 2])
    plan = plan_of(FeaturePlan("x", "last", "list<item: int64>", "c"))
    assert at(plan, events, ONE_KEY, np.array([2]))["x"].to_pylist() == [[1]]
    with pytest.raises(DataError, match="cannot be compared"):
        at(plan_of(FeaturePlan("x", "nunique", "int64", "c")), events, ONE_KEY, np.array([2]))


def test_words_cannot_be_added_up() -> None:
    with pytest.raises(DataError, match="column 'c' is string"):
        over_all("mean", pa.array(["a"]), "double")


def test_decimals_are_averaged_as_doubles() -> None:
    array = pa.array([D("0.10"), D("0.30")], pa.decimal128(10, 2))
    assert over_all("mean", array, "double") == pytest.approx(0.2, rel=1e-12)
    assert over_all("quantile", array, "double", 0.5) == pytest.approx(0.2, rel=1e-12)


def test_dictionary_and_chunked_columns_are_read_as_plain_ones() -> None:
    for array in (pa.array(["x", "y"]).dictionary_encode(), pa.chunked_array([["x"], ["y"]])):
        events = events_of({"c": array}, [0, 1])
        assert (
            at(plan_of(FeaturePlan("x", "max", "string", "c")), events, ONE_KEY, np.array([5]))["x"][0].as_py() == "y"
        )


def test_composite_keys_are_not_glued_together() -> None:
    fields = (Field("a", "string"), Field("b", "string"))
    keys = pa.table({"a": ["1", "12"], "b": ["23", "3"]})
    events = events_of({}, [0, 1], keys=keys)
    asked = pa.table({"b": ["23", "3", "3", None], "a": ["1", "12", "1", "1"]})
    got = at(plan_of(FeaturePlan("n", "count", "int64"), keys=fields), events, asked, np.full(4, 9))
    assert got["n"].to_pylist() == [1, 1, 0, None]


def test_no_events_no_rows() -> None:
    features = [FeaturePlan("n", "count", "int64"), FeaturePlan("u", "nunique", "int64", "c", 5)]
    features += [FeaturePlan(kind, kind, "double", "c") for kind in ("row", "last", "first", "sum", "mean", "std")]
    features += [FeaturePlan("q", "quantile", "double", "c", 5, 0.5), FeaturePlan("min", "min", "double", "c")]
    plan = plan_of(*features, ttl=3)
    none = events_of({"c": pa.array([], pa.float64())}, [])
    assert at(plan, none, ONE_KEY, np.array([3])).to_pylist() == [{feature.name: feature.empty for feature in features}]
    some = events_of({"c": pa.array([None, math.nan], pa.float64())}, [0, 1])
    got = at(plan, some, ONE_KEY, np.array([3])).to_pylist()[0]
    assert got == {feature.name: feature.empty for feature in features} | {"n": 2}
    for events in (none, some):
        empty = at(plan, events, ONE_KEY.slice(0, 0), np.array([], dtype=np.int64))
        assert (empty.num_rows, empty.column_names) == (0, [feature.name for feature in features])
        assert [str(column.type) for column in empty.columns] == [feature.type for feature in features]
    assert snapshot(plan, none, 5).features.num_rows == snapshot(plan, none, 5).keys.num_rows == 0
    assert changed_keys(plan, none, 1, 5).num_rows == 0


def test_times_at_the_ends_of_64_bits() -> None:
    plan = plan_of(
        FeaturePlan("n", "count", "int64", None, 2**62),
        FeaturePlan("x", "last", "int64", "c"),
        lag=2**62,
        refresh=7,
        ttl=2**62,
    )
    events = events_of({"c": pa.array([1, 2])}, [BEGINNING + 1, FOREVER - 1])
    got = at(plan, events, pa.table({"k": [1] * 4}), np.array([BEGINNING, BEGINNING + 9, 0, FOREVER]))
    assert got.to_pylist() == [{"n": 0, "x": None}] * 2 + [{"n": 1, "x": 1}, {"n": 0, "x": None}]
    now = plan_of(FeaturePlan("n", "count", "int64", None, FOREVER), FeaturePlan("x", "row", "int64", "c"))
    assert snapshot(now, events, FOREVER).features.to_pylist() == [{"n": 1, "x": 2}]
    assert snapshot(now, events, BEGINNING).features.to_pylist() == [{"n": 0, "x": None}]
    assert changed_keys(now, events, BEGINNING, FOREVER).num_rows == 1


def test_timeless_rows_never_expire() -> None:
    plan = plan_of(FeaturePlan("x", "row", "string", "c"), ttl=1, timeless=True)
    events = events_of({"c": pa.array(["a"])}, [BEGINNING])
    got = snapshot(plan, events, 10**15)
    assert got.features["x"].to_pylist() == ["a"]
    assert not got.expired["x"].any()


def test_an_expired_value_is_told_from_a_missing_one() -> None:
    plan = plan_of(FeaturePlan("x", "last", "double", "c"), ttl=5)
    events = events_of(
        {"c": pa.array([1.0, 2.0, None])}, [0, 10, 10], keys=pa.table({"k": pa.array([1, 2, 3], pa.int64())})
    )
    got = snapshot(plan, events, 15)
    assert got.features["x"].to_pylist() == [None, 2.0, None]
    assert got.expired["x"].tolist() == [True, False, False]
    assert got.event_times["x"].tolist() == [0, 10, BEGINNING]


def test_changed_keys_leaves_quiet_keys_alone() -> None:
    plan = plan_of(FeaturePlan("n", "count", "int64", None, 10), FeaturePlan("x", "last", "int64", "c"), ttl=100)
    key = pa.table({"k": pa.array([1, 2, 3, 4, 5, 6], pa.int64())})
    event = np.array([200, 185, 100, 50, 0, 230])
    known = np.array([200, 185, 100, 205, 0, 230])
    until = np.array([FOREVER] * 5 + [FOREVER])
    events = events_of({"c": pa.array(range(6))}, event, known, until, key)
    # 1 is in the window, 2 and 5 were never near, 3 outlives its ttl, 4 became known, 6 is yet to come
    assert changed_keys(plan, events, 199, 210)["k"].to_pylist() == [1, 3, 4]
    assert changed_keys(plan, events, 210, 199)["k"].to_pylist() == [1, 3, 4]
    assert changed_keys(plan, events, 210, 210).num_rows == 0


def test_what_is_missing_is_named() -> None:
    plan = plan_of(FeaturePlan("x", "sum", "double", "fare"))
    events = events_of({"fee": pa.array([1.0])}, [0])
    with pytest.raises(DataError, match="needs column 'fare'"):
        at(plan, events, ONE_KEY, np.array([1]))
    with pytest.raises(DataError, match="no key column 'k'"):
        at(plan, events, pa.table({"z": [1]}), np.array([1]))
    with pytest.raises(DataError, match="1 keys came with 2 times"):
        at(plan, events, ONE_KEY, np.array([1, 2]))
    with pytest.raises(DataError, match="does not fit int64"):
        at(plan, events, pa.table({"k": ["zone"]}), np.array([1]))


def test_dates_are_keys_too() -> None:
    days = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]
    events = events_of({}, [0, 1], keys=pa.table({"k": days}))
    plan = plan_of(FeaturePlan("n", "count", "int64"), keys=(Field("k", "date32[day]"),))
    assert snapshot(plan, events, 9).keys["k"].to_pylist() == days


KINDS = {"count": "int64", "sum": "double", "mean": "double", "std": "double", "min": "double", "max": "double"}
KINDS |= {"mode": "double", "lag": "double", "last_n": "fixed_size_list<item: double>[5]"}
KINDS |= {"first": "double", "last": "double", "nunique": "int64", "quantile": "double", "row": "double"}


@pytest.mark.parametrize(("late", "corrected", "small"), [(0, 0, False), (0.3, 0, False), (0.3, 0.5, True)])
def test_many_rows_agree_with_a_scan(
    late: float, corrected: float, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long ranges with many holes reach the upper levels of every index; queries are split when they are too many."""
    if small:
        monkeypatch.setattr("headway.data.compute._engine._BLOCK", 100)
        monkeypatch.setattr("headway.data.compute._engine._CHUNK", 64)
        monkeypatch.setattr("headway.data.compute._order._LONG", 0)
        monkeypatch.setattr("headway.data.compute._tree._CROWD", 100)
        monkeypatch.setattr("headway.data.compute._engine.LATE", ())
        monkeypatch.setattr("headway.data.compute._sweep._ROWS", 100)
    rng = np.random.default_rng(7)
    n = 4_000
    event = rng.integers(0, 3_000, n)
    known = event + np.where(rng.random(n) < late, rng.integers(0, 1_500, n), 0)
    until = np.where(rng.random(n) < corrected, known + rng.integers(1, 2_000, n), FOREVER)
    values = np.round(rng.normal(size=n), 2)
    missing = rng.random(n) < 0.1
    key = rng.integers(0, 2, n)
    events = events_of(
        {"c": pa.array(values, mask=missing)}, event, known, until, pa.table({"k": pa.array(key, pa.int64())})
    )
    windows = ((None, 0), (40, 0), (150, 0), (1_000, 0), (None, 200), (150, 400))
    features = [
        FeaturePlan(f"{kind}_{window}_{offset}", kind, type_, None if kind == "count" else "c", window, 0.9, offset, 5)  # type: ignore[arg-type]
        for kind, type_ in KINDS.items()
        for window, offset in (windows if kind != "row" else windows[:1])
    ]
    t = rng.integers(0, 4_000, 150)
    asked = rng.integers(0, 2, 150)
    view = PreparedView(plan_of(*features), events)
    got = view.at(pa.table({"k": pa.array(asked, pa.int64())}), t)
    order = np.lexsort((events.rank, known, event))
    for feature in features:
        for row, (k, r) in enumerate(zip(asked, t, strict=True)):
            end = r - feature.offset
            since = BEGINNING if feature.window is None else end - feature.window
            old = event <= end if feature.kind == "lag" else event < end
            seen = order[((key == k) & old & (event >= since) & (known <= r) & (r < until))[order]]
            expected = scan(feature, values, missing, seen)
            value = got[feature.name][row].as_py()
            assert value == expected or math.isclose(value, expected, rel_tol=1e-9), (feature, k, r)


def scan(feature: FeaturePlan, values: np.ndarray, missing: np.ndarray, seen: np.ndarray) -> Any:
    if feature.kind == "count":
        return len(seen)
    if feature.kind == "row":
        seen = seen[-1:]
    present = values[seen[~missing[seen]]]
    if feature.kind == "nunique":
        return len(np.unique(present))
    if len(present) == 0:
        return None
    by_kind = {
        "row": lambda: present[-1],
        "last": lambda: present[-1],
        "lag": lambda: present[-1],
        "first": lambda: present[0],
        "last_n": lambda: [*present[:-6:-1], *[None] * 5][:5],
        "mode": lambda: most_frequent(present.tolist()),
        "sum": lambda: math.fsum(present),
        "mean": lambda: math.fsum(present) / len(present),
        "std": lambda: statistics.stdev(present.tolist()) if len(present) > 1 else None,
        "min": present.min,
        "max": present.max,
        "quantile": lambda: np.quantile(present, feature.q),
    }
    return by_kind[feature.kind]()


def most_frequent(values: list[Any]) -> Any:
    counts = collections.Counter(values)
    return next(value for value in reversed(values) if counts[value] == max(counts.values()))


def test_of_equally_frequent_values_the_one_seen_last_is_the_mode() -> None:
    assert over_all("mode", pa.array(["b", "a", "a", "b", "c"]), "string") == "b"
    assert over_all("mode", pa.array([1, 2, None, None]), "int64") == 2
    assert over_all("mode", pa.array([None], pa.bool_()), "bool") is None


def test_a_lag_sees_the_row_at_its_very_moment_and_corrections_known_since() -> None:
    plan = plan_of(
        FeaturePlan("x", "lag", "int64", "c", None, offset=10), FeaturePlan("n", "count", "int64", offset=10)
    )
    # the row of 5 is corrected at 12, and the correction is known from then on
    events = events_of({"c": pa.array([1, 2, 3])}, [0, 5, 5], np.array([0, 5, 12]), np.array([FOREVER, 12, FOREVER]))
    got = at(plan, events, pa.table({"k": [1] * 5}), np.array([9, 10, 14, 15, 16]))
    assert got["x"].to_pylist() == [None, 1, 1, 3, 3]
    assert got["n"].to_pylist() == [0, 0, 1, 1, 2]


def test_a_window_with_an_offset_counts_what_is_known_now() -> None:
    plan = plan_of(FeaturePlan("n", "count", "int64", None, 10, offset=10))
    events = events_of({}, [3, 9, 10, 12], np.array([3, 25, 10, 12]))
    assert at(plan, events, pa.table({"k": [1] * 4}), np.array([14, 20, 25, 100]))["n"].to_pylist() == [1, 1, 3, 0]


def test_keys_change_when_rows_grow_older_than_an_offset() -> None:
    key = pa.table({"k": pa.array([1, 2, 3, 4], pa.int64())})
    events = events_of({"c": pa.array(range(4))}, [100, 109, 111, 40], keys=key)
    lag = plan_of(FeaturePlan("x", "lag", "int64", "c", None, offset=100))
    assert changed_keys(lag, events, 205, 210)["k"].to_pylist() == [2]
    windowed = plan_of(FeaturePlan("n", "count", "int64", None, 10, offset=100))
    assert changed_keys(windowed, events, 205, 210)["k"].to_pylist() == [1, 2]
    assert (lag.longest_window, windowed.longest_window) == (100, 110)
    assert not lag.online
    assert not windowed.online


def test_time_since_the_last_row_changes_for_every_key_that_has_one() -> None:
    plan = plan_of(FeaturePlan("s", "time_since_last", "double"), refresh=1_000_000)
    events = events_of({}, [0, 3_500_000], keys=pa.table({"k": pa.array([1, 2], pa.int64())}))
    got = snapshot(plan, events, 4_000_000)
    assert got.features["s"].to_pylist() == [4.0, 0.5]
    assert changed_keys(plan, events, 3_000_000, 4_000_000)["k"].to_pylist() == [1, 2]
    within = plan_of(FeaturePlan("s", "time_since_last", "double", None, 2_000_000), refresh=1_000_000)
    assert snapshot(within, events, 4_000_000).features["s"].to_pylist() == [None, 0.5]
    assert changed_keys(within, events, 3_000_000, 4_000_000)["k"].to_pylist() == [2]
    far = events_of({}, [BEGINNING + 1])
    assert at(plan, far, ONE_KEY, np.array([FOREVER]))["s"].to_pylist() == pytest.approx([2**64 / 1e6])


def expr(name: str, sql: str, *inputs: str, **options: Any) -> FeaturePlan:
    return FeaturePlan(name, "expr", "double", expression=f"cast({sql} as double)", inputs=inputs, **options)


def test_expressions_follow_what_they_name_and_are_null_where_the_row_is() -> None:
    plan = plan_of(
        expr("twice", "2 * share", "share"),
        expr("share", "coalesce(n, 0) / 4", "n"),
        FeaturePlan("n", "count", "int64"),
        expr("one", "1"),
    )
    events = events_of({}, [1, 2])
    got = at(plan, events, pa.table({"k": [1, None, 2]}), np.array([2, 2, 9]))
    assert got.to_pydict() == {
        "twice": [0.5, None, 0.0], "share": [0.25, None, 0.0], "n": [1, None, 0], "one": [1.0, None, 1.0],
    }  # fmt: skip


def test_an_expression_of_a_latest_value_expires_with_it() -> None:
    plan = plan_of(
        FeaturePlan("a", "last", "double", "c"),
        FeaturePlan("b", "row", "double", "d"),
        expr("either", "coalesce(a, b, -1)", "a", "b", expires=True),
        ttl=5,
    )
    values = {"c": pa.array([1.0, None, None]), "d": pa.array([7.0, 8.0, None])}
    got = snapshot(plan, events_of(values, [0, 3, 4]), 5)
    assert got.features.to_pylist() == [{"a": 1.0, "b": None, "either": 1.0}]
    assert got.event_times["either"].tolist() == [0]
    late = snapshot(plan, events_of(values, [0, 3, 4]), 6)
    assert late.features.to_pylist() == [{"a": None, "b": None, "either": None}]
    assert late.expired["either"].tolist() == [True]
    none = snapshot(plan, events_of(values, [0, 3, 4]), 6, pa.table({"k": [9]}))
    assert (none.features["either"].to_pylist(), none.expired["either"].tolist()) == ([-1.0], [False])


def test_what_an_expression_cannot_work_out_is_named() -> None:
    plan = plan_of(FeaturePlan("s", "last", "string", "c"), expr("number", "s::bigint", "s"))
    with pytest.raises(DataError, match="feature 'number' of view 'v': Could not convert string 'x'"):
        at(plan, events_of({"c": pa.array(["x"])}, [0]), ONE_KEY, np.array([1]))


VECTOR = FeaturePlan("v", "row", "fixed_size_list<item: float>[2]", "c", n=2)


def test_vectors_are_those_of_the_latest_row() -> None:
    array = pa.array([[1, 2], None, [3, math.nan]], pa.list_(pa.float32()))
    got = at(plan_of(VECTOR), events_of({"c": array}, [0, 1, 2]), pa.table({"k": [1] * 4}), np.arange(4))
    assert str(got["v"].type) == VECTOR.type
    assert str(got["v"].to_pylist()) == "[None, [1.0, 2.0], None, [3.0, nan]]"
    sliced = pa.array([[0], [1, 2]], pa.list_(pa.float32())).slice(1)
    assert at(plan_of(VECTOR), events_of({"c": sliced}, [0]), ONE_KEY, np.array([1]))["v"].to_pylist() == [[1, 2]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [([[1, 2], [1], []], "2 rows have lists of another length, such as 1"), ([[1, None]], "1 nulls inside its lists")],
)
def test_vectors_have_their_dimensions(rows: list[Any], told: str) -> None:
    events = events_of({"c": pa.array(rows, pa.list_(pa.float32()))}, list(range(len(rows))))
    with pytest.raises(DataError, match=f"feature 'v' of view 'v' has .*{told}"):
        at(plan_of(VECTOR), events, ONE_KEY, np.array([9]))


@pytest.mark.parametrize("array", TYPED, ids=lambda array: str(array.type))
def test_the_latest_values_are_of_the_column_s_type(array: pa.Array) -> None:
    type_ = pa.list_(array.type, 2)
    plan = plan_of(FeaturePlan("x", "last_n", str(type_), "c", n=2), FeaturePlan("m", "mode", str(array.type), "c"))
    got = at(plan, events_of({"c": array}, [0, 1, 2, 3]), pa.table({"k": [1, 1, 1]}), np.array([0, 1, 9]))
    a, b, _, d = array.to_pylist()
    assert got["x"].type == type_
    assert got["x"].to_pylist() == [None, [a, None], [d, b]]
    assert got["m"].to_pylist() == [None, a, d]
