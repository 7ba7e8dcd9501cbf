"""``at``, ``snapshot`` and ``changed_keys`` against the semantics, row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.compute.brute import value_at_r
from tests.data.compute.strategies import World, key_rows, key_table, worlds

from headway.data.compute import at, changed_keys, snapshot
from headway.define.records import BEGINNING, FeaturePlan, Snapshot, ViewPlan

TIMES = st.integers(-6, 30)


def plain(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Values as the worlds write them: instants as integers."""
    if pa.types.is_fixed_size_list(column.type):
        return [None if each.as_py() is None else plain(each.values) for each in column]
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int64()) if not pa.types.is_date32(column.type) else column.cast(pa.int32())
    return column.to_pylist()


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(got or []) == len(expected) and all(same(a, b) for a, b in zip(got, expected, strict=True))
    if isinstance(expected, float) and isinstance(got, float):
        return math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-300)
    return got == expected and isinstance(got, bool) == isinstance(expected, bool)


def shown(value: Any) -> Any:
    return None if value == "expired" else value


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_at_follows_the_semantics(data: st.DataObject) -> None:
    world = data.draw(worlds())
    plan = world.plan
    spine = st.lists(st.tuples(key_rows(plan.keys, nulls=True), TIMES | st.none()), max_size=12)
    known = st.sampled_from(world.rows).map(lambda v: v.key) if world.rows else key_rows(plan.keys)
    asked = data.draw(spine) + data.draw(st.lists(st.tuples(known, TIMES), max_size=8))
    t = np.array([0 if row[1] is None else row[1] for row in asked], dtype=np.int64)
    valid = np.array([row[1] is not None for row in asked], dtype=bool)

    got = at(plan, world.events, key_table(plan.keys, [row[0] for row in asked]), t, valid)

    assert got.column_names == [feature.name for feature in plan.features]
    assert got.num_rows == len(asked)
    for feature in plan.features:
        assert str(got[feature.name].type) == feature.type
        for (key, time), value in zip(asked, plain(got[feature.name]), strict=True):
            expected = None
            if time is not None and None not in key:
                expected = shown(value_at_r(plan, feature, world.rows, key, plan.r(time)))
            assert same(value, expected), (feature, key, time, value, expected)


@settings(max_examples=150, deadline=None)
@given(worlds(), TIMES)
def test_snapshot_is_at_for_every_key(world: World, t: int) -> None:
    plan = world.plan
    r = plan.r(t)
    got = snapshot(plan, world.events, r)
    keys = rows_of(got.keys, plan)

    assert sorted(keys) == sorted({row.key for row in world.rows})
    assert (got.as_of, got.version) == (r, 3)
    times = np.full(len(keys), t, dtype=np.int64)
    assert got.features.equals(at(plan, world.events, got.keys, times))
    latest = [f.name for f in plan.features if f.is_latest and plan.ttl is not None]
    assert list(got.event_times) == list(got.expired) == latest
    for feature in (f for f in plan.features if f.name in latest):
        outcome = [value_at_r(plan, feature, world.rows, key, r) for key in keys]
        assert got.expired[feature.name].tolist() == [value == "expired" for value in outcome]
        behind = got.event_times[feature.name]
        for key, event, value in zip(keys, behind.tolist(), outcome, strict=True):
            if value is None or plan.timeless or not ages(plan, feature, world, key, r):
                assert event == BEGINNING
            else:
                assert (event < r - (plan.ttl or 0)) == (value == "expired")


def ages(plan: ViewPlan, feature: FeaturePlan, world: World, key: tuple[Any, ...], r: int) -> bool:
    """Whether an event stands behind the value: not behind what an expression says of inputs that are all null."""
    if feature.kind != "expr":
        return feature.is_latest and value_at_r(plan, feature, world.rows, key, r) is not None
    inputs = [each for each in plan.features if each.name in feature.inputs]
    return any(ages(plan, each, world, key, r) for each in inputs)


@settings(max_examples=100, deadline=None)
@given(worlds(), TIMES, st.data())
def test_snapshot_of_chosen_keys_keeps_their_order(world: World, r: int, data: st.DataObject) -> None:
    plan = world.plan
    chosen = key_table(plan.keys, data.draw(st.lists(key_rows(plan.keys, nulls=True), max_size=6)))
    got = snapshot(plan, world.events, r, chosen)
    whole = snapshot(plan, world.events, r)
    position = {key: i for i, key in enumerate(rows_of(whole.keys, plan))}

    assert got.keys.equals(chosen)
    assert all(len(array) == chosen.num_rows for array in [*got.event_times.values(), *got.expired.values()])
    for i, key in enumerate(rows_of(chosen, plan)):
        if key in position:
            assert got.features.slice(i, 1).equals(whole.features.slice(position[key], 1))
        else:
            empty = [None if None in key else feature.empty for feature in plan.features]
            assert [got.features[feature.name][i].as_py() for feature in plan.features] == empty


@settings(max_examples=300, deadline=None)
@given(worlds(most=5), TIMES, st.integers(-4, 8))
def test_keys_that_did_not_change_have_the_same_values(world: World, previous_r: int, step: int) -> None:
    plan, r = world.plan, previous_r + step
    changed = rows_of(changed_keys(plan, world.events, previous_r, r), plan)
    before, after = (snapshot(plan, world.events, moment) for moment in (previous_r, r))

    assert len(changed) == len(set(changed))
    assert set(changed) <= {row.key for row in world.rows}
    for i, key in enumerate(rows_of(before.keys, plan)):
        if key not in changed:
            assert row_at(before, i) == row_at(after, i)


@settings(max_examples=100, deadline=None)
@given(worlds(), TIMES, st.randoms(use_true_random=False))
def test_the_order_of_events_and_other_keys_do_not_matter(world: World, r: int, random: Any) -> None:
    """Also to the last bit of a float: what was served can be computed again from other rows read beside it."""
    plan = world.plan
    whole = snapshot(plan, world.events, r)
    shuffled = random.sample(world.rows, len(world.rows))
    assert snapshot(plan, World(plan, shuffled).events, r).features.equals(whole.features)
    for i, key in enumerate(rows_of(whole.keys, plan)):
        alone = World(plan, [row for row in shuffled if row.key == key])
        assert snapshot(plan, alone.events, r).features.equals(whole.features.slice(i, 1))


def rows_of(keys: pa.Table, plan: ViewPlan) -> list[tuple[Any, ...]]:
    columns = [plain(keys[field.name]) for field in plan.keys]
    return list(zip(*columns, strict=True))


def row_at(values: Snapshot, i: int) -> tuple[Any, ...]:
    states = [(name, bool(values.expired[name][i]), int(values.event_times[name][i])) for name in values.expired]
    return (tuple(repr(column[i].as_py()) for column in values.features.columns), tuple(states))
