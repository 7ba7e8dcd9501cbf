"""What values look like: shares, quantiles, and nothing."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.console.views import features
from headway.monitor.describe import describe


def test_numbers_texts_and_nothing() -> None:
    found = describe(pa.array([1.0, 2.0, None, float("nan"), 4.0]))
    assert (found.rows, found.nulls, found.known, found.least, found.greatest) == (5, 2, 3, 1.0, 4.0)
    assert (found.quantiles[2], found.distinct) == (2.0, 3)
    assert found.mean == pytest.approx(7 / 3)
    assert sum(s.share for s in found.shares) == pytest.approx(1.0)
    words = describe(pa.array(["a"] * 5 + ["b"] + [f"x{n}" for n in range(20)] + ["long " * 60]))
    assert (words.shares[0].value, words.shares[-1].value, words.distinct) == ("a", "others", 23)
    assert describe(pa.array(["long " * 60])).shares[0].value == ("long " * 60)[:63] + "…"
    assert describe(pa.array([None, None], pa.float64())).null_share == 1.0
    assert describe(pa.array([], pa.int64())).null_share is None


def test_everything_a_feature_can_be() -> None:
    assert describe(pa.array([True, False, True])).shares[0].value == "True"
    assert describe(pa.array([dt.date(2024, 1, 1), None])).shares[0].value == "2024-01-01"
    assert describe(pa.array([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)])).distinct == 1
    lists = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    assert (describe(lists).rows, describe(lists).nulls, describe(lists).shares) == (2, 1, ())
    assert describe(pa.array([1e308, 1e308, np.inf])).mean is None


@given(st.lists(st.floats(-1e12, 1e12) | st.none(), min_size=1, max_size=200))
def test_bins_hold_every_value(values: list[float | None]) -> None:
    found = describe(pa.array(values, pa.float64()))
    if found.known:
        assert sum(s.share for s in found.shares) == pytest.approx(1.0)
        assert len(found.sparkline()) == len(found.shares)
        assert "<svg" in features.picture("f", found)


def test_one_wild_value_does_not_hide_the_others() -> None:
    values = np.append(np.linspace(0, 1, 1_000), 1e9)
    shares = [s.share for s in describe(pa.array(values)).shares]
    assert max(shares) < 0.2
