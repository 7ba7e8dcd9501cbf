"""The way for late and corrected rows gives what the usual one gives, to the last bit."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.compute.strategies import World, key_rows, key_table, worlds

from headway.data.compute import _late, at
from headway.define.records import FOREVER, Events, FeaturePlan, Field, ViewPlan


def values(world: World, rows: list[tuple[object, ...]], t: np.ndarray, late: bool) -> pa.Table:
    some = -1 if late else 1 << 40
    with mock.patch.object(_late, "_MANY", some), mock.patch.object(_late, "_FAR", some):
        return at(world.plan, world.events, key_table(world.plan.keys, rows), t)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_both_ways_are_one(data: st.DataObject) -> None:
    world = data.draw(worlds())
    known = st.sampled_from(world.rows).map(lambda v: v.key) if world.rows else key_rows(world.plan.keys)
    asked = data.draw(
        st.lists(st.tuples(known | key_rows(world.plan.keys, nulls=True), st.integers(-6, 40)), max_size=25)
    )
    t = np.array([time for _, time in asked], dtype=np.int64)
    usual, late = (values(world, [key for key, _ in asked], t, way) for way in (False, True))
    assert late.schema == usual.schema
    assert repr(late.to_pydict()) == repr(usual.to_pydict())


def test_the_way_is_chosen_by_the_rows() -> None:
    """Few of the rows hide: ranges. Most do, or were replaced again and again: stretches."""
    random = np.random.default_rng(1)
    event = np.sort(random.integers(0, 10_000, 4_000))
    features = (FeaturePlan("n", "count", "int64", None, 3_000), FeaturePlan("x", "row", "double", "x"))
    plan = ViewPlan(
        name="v", fingerprint="0" * 32, source="s", tables=(), sql="", keys=(Field("k", "int64"),), features=features
    )
    chosen = []
    for delay, replaced in ((0, False), (2, False), (2_000, False), (2_000, True)):
        known = event + random.integers(0, delay + 1, len(event))
        events = Events(
            keys=pa.table({"k": np.zeros(len(event), np.int64)}),
            event=event,
            known=known,
            until=known + 1_500 if replaced else np.full(len(event), FOREVER),
            rank=np.arange(len(event)),
            values={"x": pa.array(random.normal(size=len(event)))},
        )
        with mock.patch.object(_late.Stretches, "__init__", side_effect=Chosen):
            try:
                at(plan, events, pa.table({"k": np.zeros(50, np.int64)}), random.integers(0, 12_000, 50))
                chosen.append("ranges")
            except Chosen:
                chosen.append("stretches")
    assert chosen == ["ranges", "ranges", "stretches", "stretches"]


class Chosen(Exception):
    """Says that the way for late rows was taken."""

    def __init__(self, *_: object) -> None:
        super().__init__()
