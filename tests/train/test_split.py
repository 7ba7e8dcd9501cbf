"""Which rows test, and which the twin may learn from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headway as hw
from headway.define.records import TrainingSet
from headway.errors import DataError
from headway.train._split import split_rows

DAY = 86_400_000_000
SOURCE = hw.Source("trips", path="trips.parquet", timestamp="at", id="id")


def model(split, seed: int = 0) -> hw.Model:
    return hw.Model("demo", label=hw.Label(SOURCE, "y"), features=[hw.Request("a", "double")], estimator=object(),
                    split=split, seed=seed)  # fmt: skip


def rows(event, known=None, label=None, group=None) -> TrainingSet:
    event = np.array(event, dtype=np.int64)
    return TrainingSet(
        table=pa.table({"a": np.zeros(len(event))}),
        columns=(),
        label=pa.array(np.arange(len(event)) if label is None else label),
        event=event,
        known=event if known is None else np.array(known, dtype=np.int64),
        digest="",
        group=None if group is None else pa.array(group),
    )


times = st.lists(st.tuples(st.integers(0, 40 * DAY), st.integers(0, 5 * DAY)), min_size=1, max_size=40)


@given(times, st.integers(1, 20), st.integers(0, 5))
def test_time_split_is_as_written_in_the_design(pairs, test, gap):
    event = [e for e, _ in pairs]
    known = [e + late for e, late in pairs]
    cut = max(event) + 1 - test * DAY
    train = [e < cut - gap * DAY and k <= cut for e, k in zip(event, known, strict=True)]
    rule = hw.TimeSplit(test=f"{test}d", gap=f"{gap}d")
    if not any(train):
        with pytest.raises(DataError, match=r"leaves no training rows: the cut is .* choose a shorter test"):
            split_rows(model(rule), rows(event, known))
        return
    found = split_rows(model(rule), rows(event, known))
    assert found.cut == cut
    assert found.train.tolist() == train
    assert found.test.tolist() == [e >= cut for e in event]


def test_an_instant_is_a_cut():
    found = split_rows(model(hw.TimeSplit(test="1970-01-03T01:00:00+01:00")), rows([0, DAY, 2 * DAY, 3 * DAY]))
    assert found.cut == 2 * DAY
    assert found.test.tolist() == [False, False, True, True]
    with pytest.raises(DataError, match=r"no test rows: the cut is 2030-01-01T00:00:00Z, the 1 labelled rows"):
        split_rows(model(hw.TimeSplit(test="2030-01-01T00:00:00Z")), rows([5]))


@given(st.integers(0, 2**32), st.permutations(range(60)))
def test_random_split_does_not_depend_on_order_or_on_added_rows(seed, order):
    event = np.arange(60) * DAY
    rule = model(hw.RandomSplit(test=0.3), seed)
    whole = split_rows(rule, rows(event, label=event))
    mixed = split_rows(rule, rows(event[order], label=event[order]))
    assert mixed.test.tolist() == whole.test[order].tolist()
    assert (whole.train ^ whole.test).all()
    part = split_rows(rule, rows(event[:50], label=event[:50]))
    if 0 < whole.test[:50].sum() < 50:
        assert part.test.tolist() == whole.test[:50].tolist()


def test_random_split_takes_about_its_share_and_another_seed_other_rows():
    data = rows(np.zeros(20_000), label=np.zeros(20_000))  # nothing tells the rows apart
    first, second = (split_rows(model(hw.RandomSplit(test=0.2), seed), data) for seed in (0, 1))
    assert first.test.mean() == pytest.approx(0.2, abs=0.02)
    assert (first.test & second.test).mean() == pytest.approx(0.04, abs=0.01)


@given(st.integers(0, 1000))
def test_groups_stay_together(seed):
    group = ["a", "b", "c", None, "a", "b"] * 5
    found = split_rows(model(hw.RandomSplit(test=0.4, group="g"), seed), rows(range(30), group=group))
    assert found.test.any()
    assert found.train.any()
    for name in set(group):
        assert len({bool(t) for t, g in zip(found.test, group, strict=True) if g == name}) == 1


def test_one_group_is_not_enough():
    with pytest.raises(DataError, match="leaves no training rows of 3"):
        split_rows(model(hw.RandomSplit(group="g")), rows([1, 2, 3], group=["a"] * 3))
    with pytest.raises(DataError, match="there are no labelled rows"):
        split_rows(model(hw.RandomSplit()), rows([]))
