"""Bins and counts against a brute-force count, and the columns one does not expect."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import UsageError
from headway.monitor import ColumnCounts, ColumnProfile, Profile, build_profile, count, total

floats = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 5e-324, 1e308]),
    st.floats(-5, 5),
    st.integers(-3, 3).map(float),
)
integers = st.one_of(st.none(), st.integers(-3, 40), st.sampled_from([2**63 - 1, -(2**63), 2**53, 2**53 + 1]))
texts = st.one_of(
    st.none(), st.sampled_from(["a", "b", "Lisboa", "Tallinn", "Zürich", "東京", "🚲", ""]), st.text(max_size=3)
)


def table(values, type_):
    return pa.table({"x": pa.array(values, type_)})


def brute(profile: ColumnProfile, values) -> tuple[list[int], int, int, int]:
    """bins, missing, infinite, unseen: one value after the other."""
    bins = [0] * len(profile.labels)
    missing = infinite = unseen = 0
    for value in values:
        if value is None or value != value:
            missing += 1
        elif profile.kind == "category":
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if text in profile.texts:
                bins[profile.texts.index(text)] += 1
            elif text in profile.rare or not profile.complete:
                bins[-1] += 1
            else:
                unseen += 1
        elif math.isinf(value):
            infinite += 1
        elif profile.values is not None:
            if float(value) in profile.values:
                bins[profile.values.index(float(value))] += 1
            else:
                unseen += 1
        else:
            bins[sum(cut < float(value) for cut in profile.cuts)] += 1
    return bins, missing, infinite, unseen


def check(profile: Profile, values, type_) -> None:
    column = profile.columns["x"]
    if column.kind not in ("number", "category"):
        return
    counts = count(profile, table(values, type_)).columns["x"]
    assert ([*counts.bins], counts.missing, counts.infinite, counts.unseen) == brute(column, values)
    assert counts.rows == len(values)


@given(st.lists(floats, max_size=80), st.lists(floats, max_size=40), st.integers(1, 12))
def test_numbers_fall_where_counting_one_by_one_puts_them(reference, values, bins):
    profile = build_profile(table(reference, pa.float64()), max_bins=bins)
    check(profile, reference, pa.float64())
    check(profile, values, pa.float64())


@given(st.lists(integers, max_size=150), st.lists(integers, max_size=40))
def test_integers_fall_where_counting_one_by_one_puts_them(reference, values):
    profile = build_profile(table(reference, pa.int64()))
    check(profile, reference, pa.int64())
    check(profile, values, pa.int64())


@given(st.lists(texts, max_size=60), st.lists(texts, max_size=40))
def test_texts_fall_where_counting_one_by_one_puts_them(reference, values):
    profile = build_profile(table(reference, pa.string()))
    check(profile, reference, pa.string())
    check(profile, values, pa.string())


@given(st.lists(floats, min_size=1, max_size=60), st.lists(st.lists(floats, max_size=20), min_size=1, max_size=4))
def test_counts_of_parts_add_up_to_those_of_the_whole(reference, parts):
    profile = build_profile(table(reference, pa.float64()))
    added = total([count(profile, table(part, pa.float64())) for part in parts])
    whole = count(profile, table([v for part in parts for v in part], pa.float64()))
    assert without_total(added.columns["x"]) == without_total(whole.columns["x"])
    assert added.rows == whole.rows


def without_total(counts: ColumnCounts) -> ColumnCounts:
    """Sums of floats depend on the order."""
    return msgspec.structs.replace(counts, total=0.0)


@given(st.lists(floats, max_size=60))
def test_a_profile_survives_json(reference):
    profile = build_profile(table(reference, pa.float64()))
    again = Profile.from_json(profile.to_json())
    assert again == profile
    assert count(again, table(reference, pa.float64())).columns == profile.counts.columns


def test_slices_and_chunks_count_like_the_whole():
    random = np.random.default_rng(0)
    values = pa.array(random.normal(size=100_000), mask=random.random(100_000) < 0.1)
    chunked = pa.table({"x": pa.chunked_array([values.slice(0, 7), values.slice(7, 50_000), values.slice(50_007)])})
    profile = build_profile(pa.table({"x": values}))
    assert count(profile, chunked).columns["x"].bins == profile.columns["x"].counts.bins
    parts = [count(profile, chunked.slice(start, 33_333)) for start in range(0, 100_000, 33_333)]
    assert total(parts).columns["x"].bins == profile.columns["x"].counts.bins


def test_quantile_bins_hold_equal_shares_and_spikes_stand_alone():
    random = np.random.default_rng(0)
    values = np.where(random.random(20_000) < 0.3, 0.0, random.lognormal(size=20_000))
    column = build_profile(table(values, pa.float64())).columns["x"]
    assert column.spikes == (0.0,)
    assert "= 0" in column.labels
    bins = dict(zip(column.labels, column.counts.bins, strict=True))
    assert bins.pop("= 0") == (values == 0).sum()
    assert bins.pop("< 0") == 0
    assert len(bins) == 14
    assert all(abs(rows - 1000) < 30 for rows in bins.values())


@pytest.mark.parametrize(
    ("values", "type_", "kind"),
    [
        ([None] * 5, pa.float64(), "empty"),
        ([None] * 5, pa.null(), "empty"),
        ([math.nan] * 5, pa.float64(), "empty"),
        ([], pa.string(), "empty"),
        ([True, False, None], pa.bool_(), "category"),
        ([Decimal("1.50"), None], pa.decimal128(5, 2), "number"),
        ([2**64 - 1, 0], pa.uint64(), "number"),
        ([math.inf, -math.inf], pa.float64(), "number"),
        ([1.5] * 50, pa.float32(), "number"),
        ([3], pa.duration("us"), "number"),
        (["a", None], pa.string_view(), "category"),
        ([3], pa.timestamp("us", "UTC"), "ignored"),
        ([3], pa.date32(), "ignored"),
        ([[1]], pa.list_(pa.int64()), "ignored"),
        (list(range(200)), pa.int64(), "ignored"),
    ],
)
def test_kinds_of_columns(values, type_, kind):
    given_ = table(values, type_)
    profile = build_profile(given_)
    assert profile.columns["x"].kind == kind
    assert bool(profile.columns["x"].why) == (kind == "ignored")
    assert count(profile, given_).columns == profile.counts.columns
    assert profile.columns["x"].counts.rows == len(values)


def test_values_of_float32_are_compared_as_what_they_are():
    values = np.r_[np.full(50, 0.1), np.linspace(0, 1, 50)].astype(np.float32)
    column = build_profile(table(values, pa.float32())).columns["x"]
    assert column.spikes == (float(np.float32(0.1)),)
    assert dict(zip(column.labels, column.counts.bins, strict=True))["= 0.1"] == 50


def test_numbers_that_are_names_are_counted_by_value():
    zones = np.repeat(np.arange(300), np.arange(300))
    column = build_profile(table(zones, pa.int32()), categorical=["x"]).columns["x"]
    assert column.kind == "category"
    assert column.labels[:2] == ["299", "298"]
    assert len(column.labels) == 51
    assert len(column.rare) == 249


def test_dictionaries_count_like_their_values():
    plain = table(["a"] * 6 + ["b"] * 5 + [None], pa.string())
    coded = pa.table({"x": plain["x"].dictionary_encode()})
    profile = build_profile(plain)
    assert count(profile, coded).columns["x"].bins == profile.columns["x"].counts.bins == (6, 5, 0)


def test_with_too_many_values_nothing_is_unseen():
    many = build_profile(table([f"v{i}" for i in range(3000)], pa.string()))
    assert not many.columns["x"].knows_unseen
    assert count(many, table(["never"], pa.string())).columns["x"].bins == (1,)


def test_counts_of_two_profiles_are_not_added():
    one, two = (build_profile(table(values, pa.float64())) for values in ([1.0, 2.0], [1.0, 3.0]))
    with pytest.raises(UsageError, match="two profiles"):
        one.counts + two.counts


def test_a_column_the_reference_has_not_got_is_refused_by_name():
    with pytest.raises(UsageError, match="no column 'y'; it has x"):
        build_profile(table([1.0], pa.float64()), categorical=["y"])


def test_a_profile_is_small():
    random = np.random.default_rng(0)
    columns = {f"c{i}": random.normal(size=10_000) for i in range(50)}
    assert len(build_profile(pa.table(columns)).to_json()) < 50_000
