"""A gate's arithmetic."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.define.records import Deployment
from headway.registry import best_held, decide

figures = st.floats(-1e9, 1e9).filter(lambda x: abs(x) > 1e-9)
shares = st.floats(0, 0.5)


@pytest.mark.parametrize(
    ("candidate", "champion", "best", "passed"),
    [
        (101.0, 100.0, None, True),
        (101.1, 100.0, None, False),
        (90.0, 100.0, None, True),
        (101.9, 101.0, 100.0, False),
        (101.0, 101.0, 100.0, True),
        (500.0, None, None, True),
        (500.0, math.nan, None, True),
    ],
)
def test_lower_is_better(candidate: float, champion: float | None, best: float | None, passed: bool) -> None:
    assert decide("mae", False, candidate, champion, best, 0.01).passed is passed


@pytest.mark.parametrize(
    ("candidate", "champion", "passed"),
    [(0.891, 0.9, True), (0.89, 0.9, False), (-0.101, -0.1, True), (-0.2, -0.1, False)],
)
def test_greater_is_better(candidate: float, champion: float, passed: bool) -> None:
    assert decide("r2", True, candidate, champion, None, 0.01).passed is passed


@pytest.mark.parametrize("candidate", [None, math.nan, math.inf, -math.inf])
def test_without_a_figure_nothing_passes(candidate: float | None) -> None:
    result = decide("mae", False, candidate)

    assert not result.passed
    assert "no figure to compare" in result.reason


def test_the_baseline_must_be_beaten() -> None:
    assert decide("mae", False, 199.0, baseline=200.0).passed
    tie = decide("mae", False, 200.0, baseline=200.0)
    assert not tie.passed
    assert tie.reason == "mae 200 does not beat the naive baseline, 200"


def test_absolute_bounds() -> None:
    assert decide("auc", True, 0.8, minimum=0.8, maximum=0.99).passed
    assert "below the gate's minimum, 0.8" in decide("auc", True, 0.79, minimum=0.8).reason
    assert "above the gate's maximum, 0.99" in decide("auc", True, 1.0, maximum=0.99).reason


def test_all_reasons_are_given_with_the_figures() -> None:
    result = decide("mae", False, 210.0, 100.0, 95.0, 0.01, baseline=200.0, champion_version=4, rows=50)

    assert (result.metric, result.candidate, result.champion, result.best) == ("mae", 210.0, 100.0, 95.0)
    assert (result.champion_version, result.rows) == (4, 50)
    assert result.reason == (
        "mae 210 is worse than the champion's figure, 100, by 110 %; 1 % is allowed; "
        "mae 210 is worse than the best figure held, 95, by 121 %; 1 % is allowed; "
        "mae 210 does not beat the naive baseline, 200"
    )


@given(figures, shares, st.booleans())
def test_the_champions_own_figure_always_passes(figure: float, share: float, greater: bool) -> None:
    assert decide("m", greater, figure, figure, figure, share).passed


@given(figures, figures, shares)
def test_the_other_direction_is_the_mirror_image(candidate: float, champion: float, share: float) -> None:
    up = decide("m", True, candidate, champion, None, share)
    down = decide("m", False, -candidate, -champion, None, share)

    assert up.passed == down.passed


@given(st.floats(1, 1e6), st.floats(0.001, 0.05), st.integers(2, 60))
def test_small_steps_back_do_not_add_up(start: float, share: float, nights: int) -> None:
    log = [_promoted(1, start, automatic=False)]
    figure = start
    for night in range(nights):
        figure *= 1 + share * 0.9
        best = best_held(log, "mae", False)
        if decide("mae", False, figure, log[-1].figures["candidate"], best, share).passed:
            log.append(_promoted(night + 2, figure))

    assert log[-1].figures["candidate"] <= start * (1 + share) * (1 + 1e-9)


def _promoted(version: int, figure: float, *, automatic: bool = True, metric: str = "mae") -> Deployment:
    figures = {"metric": metric, "candidate": figure, "automatic": automatic}
    return Deployment(version, "m", None, version, "promote", "x", version, "", figures)


def test_the_best_figure_held() -> None:
    log = [_promoted(1, 90.0), _promoted(2, 100.0, automatic=False), _promoted(3, 95.0), _promoted(4, 97.0)]

    assert best_held(log, "mae", False) == 95.0
    assert best_held(log, "mae", True) == 100.0
    assert best_held(log, "rmse", False) is None
    assert best_held([], "mae", False) is None
    assert best_held(log[:1], "mae", False) == 90.0


def test_a_version_that_was_rolled_back_is_no_measure() -> None:
    log = [_promoted(1, 100.0, automatic=False), _promoted(2, 10.0)]
    log.append(Deployment(3, "m", None, 1, "rollback", "me", 3, "leaked"))

    assert best_held(log, "mae", False) == 100.0
