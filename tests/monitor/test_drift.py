"""What drift says, and how rarely it says it for nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from headway.errors import UsageError
from headway.monitor import build_profile, count, drift
from headway.monitor._compare import SHAPE, compare
from headway.monitor._statistics import psi, tolerant_p, tolerant_psi


def found(reference: pa.Table, current: pa.Table, history=(), **options):
    profile = build_profile(reference)
    past = [count(profile, each) for each in history]
    return drift(profile, count(profile, current), model="m", window=(0, 1), history=past, **options)


def said(figures) -> list[str]:
    return [each.said for each in figures if each.alarm]


def normal(rows: int, seed: int, shift: float = 0.0) -> pa.Table:
    return pa.table({"x": np.random.default_rng(seed).normal(size=rows) + shift})


# --- the statistics


@pytest.mark.parametrize(("n", "m", "bins"), [(5000, 500, 10), (1000, 1000, 4), (20_000, 168, 20), (50_000, 5000, 51)])
def test_without_drift_psi_is_as_the_chi_square_says(n, m, bins):
    random = np.random.default_rng(1)
    chances = random.dirichlet(np.full(bins, 20.0))
    alarms = [
        tolerant_p(float(psi(random.multinomial(n, chances), random.multinomial(m, chances))), n, m, bins, 0.0) < 0.05
        for _ in range(400)
    ]
    assert 0.01 <= np.mean(alarms) <= 0.085


@pytest.mark.parametrize("rows", [100, 1000, 20_000])
def test_no_drift_hardly_ever_alarms(rows):
    reference = build_profile(normal(20_000, 0))
    alarms = 0
    for seed in range(200):
        figures = drift(reference, count(reference, normal(rows, seed + 1)), model="m", window=(0, 1))
        alarms += any(each.alarm for each in figures)
    assert alarms <= 2


def test_many_rows_make_no_alarm_of_a_shift_that_does_not_matter():
    assert said(found(normal(200_000, 0), normal(200_000, 1, shift=0.05))) == []


def test_half_a_standard_deviation_is_found_in_a_thousand_rows():
    reference = build_profile(normal(20_000, 0))
    hits = [
        any(f.alarm for f in drift(reference, count(reference, normal(1000, s, 0.5)), model="m", window=(0, 1)))
        for s in range(1, 41)
    ]
    assert np.mean(hits) >= 0.95


def test_the_threshold_is_the_psi_whose_p_is_alpha():
    limit = tolerant_psi(0.05, 5000, 700, 12, 0.05)
    assert tolerant_p(limit, 5000, 700, 12, 0.05) == pytest.approx(0.05)


def test_of_many_columns_without_drift_few_alarm():
    random = np.random.default_rng(0)
    profile = build_profile(pa.table({f"c{i}": random.normal(size=5000) for i in range(50)}))
    alarms = 0
    for _ in range(20):
        figures = drift(
            profile,
            count(profile, pa.table({f"c{i}": random.normal(size=300) for i in range(50)})),
            model="m",
            window=(0, 1),
        )
        alarms += sum(each.alarm for each in figures)
    assert alarms <= 3


# --- history


def test_what_varies_by_itself_is_held_against_its_own_past():
    random = np.random.default_rng(3)
    weeks = [normal(500, s, shift) for s, shift in enumerate([*random.normal(size=36) * 0.5, 0, 0, 0, 0])]
    reference = pa.concat_tables(weeks[:8])
    without = found(reference, normal(500, 99, 0.7))
    beside = found(reference, normal(500, 99, 0.7), weeks)
    far = found(reference, normal(500, 99, 3.0), weeks)
    assert said(without)
    assert not said(beside)
    assert "no more than in past windows" in next(f.said for f in beside if f.kind == "drift")
    assert said(far)
    assert next(f for f in far if f.kind == "drift").method.startswith("history")


def test_a_history_is_used_from_twelve_windows_on():
    weeks = [normal(500, s) for s in range(20)]
    (short,) = [f for f in found(weeks[0], weeks[-1], weeks[:11]) if f.kind == "drift"]
    (long,) = [f for f in found(weeks[0], weeks[-1], weeks[:16]) if f.kind == "drift"]
    assert short.method == "noncentral χ²"
    assert [each["against"] for each in short.details["compared"]] == ["the reference"]
    assert long.method == "history of 12 windows"
    assert [each["against"] for each in long.details["compared"]] == ["the reference", "the 4 windows before"]


def test_days_are_held_against_the_same_weekday():
    week = [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 2.0]
    days = [normal(400, d, week[d % 7]) for d in range(7 * 18)]
    saturday, monday = normal(400, 900, 2.0), normal(400, 901, 0.0)
    reference = pa.concat_tables(days[:14])
    upto = days[: 7 * 17 + 5]  # what comes next is a Saturday
    assert said(found(reference, saturday, upto, cycle=7)) == []
    assert said(found(reference, monday, upto, cycle=7))
    assert any("like windows" in s for s in said(found(reference, monday, upto, cycle=7))) or said(
        found(reference, monday, upto, cycle=7)
    )


def test_predecessors_are_those_of_the_phase_and_gaps_are_no_windows():
    past = np.arange(1.0, 61.0)[:, None] * np.array([[1.0, 2.0]])
    past[7] = 0.0
    comparisons = compare(SHAPE, np.array([10.0, 20.0]), np.array([3.0, 6.0]), past, np.zeros(60, dtype=int))
    assert comparisons[1].base.tolist() == past[56:].sum(axis=0).tolist()
    assert comparisons[1].past == 60 - 1 - 4 - 4
    assert comparisons[1].distance == pytest.approx(0.0, abs=0.05)


def test_windows_without_rows_say_nothing_of_columns():
    figures = found(normal(1000, 0), normal(0, 0), [normal(500, s) for s in range(20)])
    assert said(figures) == ["no rows in this window; 500 are usual"]
    assert next(f for f in figures if f.alarm).severity == "critical"


# --- words


def test_a_shift_is_told_with_its_medians():
    (sentence,) = said(found(normal(20_000, 0, 12.1), normal(11_204, 1, 14.9)))
    assert sentence.startswith("x is higher than in the reference: median 12.")
    assert " → > 13." in sentence or " → 14." in sentence
    assert sentence.endswith("on 11,204 rows")


def test_doubled_nulls_are_named_apart_from_drift():
    random = np.random.default_rng(0)

    def table(rows, share):
        return pa.table({"passenger_count": pa.array(random.poisson(2, rows), mask=random.random(rows) < share)})

    figures = found(table(50_000, 0.061), table(10_000, 0.12))
    (figure,) = [each for each in figures if each.alarm]
    assert figure.kind == "missing"
    assert figure.said.startswith("nulls of passenger_count doubled: 6")
    assert figure.effect == pytest.approx(0.06, abs=0.01)
    assert figure.n == 10_000


def test_columns_that_come_go_and_change_their_type():
    reference = pa.table({"a": [1.5] * 50, "b": ["x"] * 50, "late": pa.nulls(50, pa.float64())})
    current = pa.table({"b": [1.0] * 40, "cbd_fee": [0.75] * 40, "late": [1.0] * 40})
    assert set(said(found(reference, current))) == {
        "a new column appeared: cbd_fee (double)",
        "column a vanished; the reference has it",
        "b is of type double now; in the reference it was string",
        "late has values now, in 100 % of the rows; the reference has none",
    }


def test_a_column_that_has_been_there_for_twelve_windows_is_no_news():
    reference, window = pa.table({"a": [1.5, 2.5] * 50}), pa.table({"a": [1.5, 2.5] * 50, "b": [1] * 100})
    assert said(found(reference, window, [window] * 11)) == ["a new column appeared: b (int64)"]
    assert said(found(reference, window, [window] * 12)) == []


def test_new_values_clipping_and_far_values_are_quality():
    random = np.random.default_rng(0)
    reference = pa.table({"city": ["a", "b"] * 5000, "x": random.normal(size=10_000), "y": random.normal(size=10_000)})
    current = pa.table(
        {
            "city": ["a", "b", "b", "a", "東京"] * 400,
            "x": np.minimum(random.normal(size=2000), 0.9),
            "y": np.r_[random.normal(size=1900), np.full(100, 1e6)],
        }
    )
    figures = {each.name: each for each in found(reference, current) if each.alarm and each.kind == "quality"}
    assert figures["city/unseen"].said == "city has values that the reference has not: 0 % → 20 % of 2,000 rows"
    assert figures["x/stuck"].said.startswith("x stops at 0.9: ")
    assert figures["y/range"].said.startswith("y goes far above the reference's range")


def test_a_constant_column_is_named_so():
    (sentence, *_) = said(found(normal(5000, 0), pa.table({"x": [0.25] * 500})))
    assert sentence == "x is always 0.25, unlike the reference; " + sentence.partition("; ")[2]


def test_which_bin_moved_is_told():
    (figure,) = [f for f in found(normal(5000, 0), normal(2000, 1, 2.0)) if f.kind == "drift"]
    details = figure.details
    assert len(details["bins"]) == len(details["reference"]) == len(details["current"])
    assert sum(details["reference"]) == pytest.approx(1, abs=1e-4)
    assert sum(details["current"]) == pytest.approx(1, abs=1e-4)
    assert (
        details["moved"]
        == details["bins"][int(np.argmax(np.abs(np.subtract(details["current"], details["reference"]))))]
    )
    assert figure.statistic == pytest.approx(figure.effect)
    assert figure.statistic > figure.threshold
    assert figure.reference_n == 5000


# --- severity and kinds


def test_the_second_window_in_a_row_is_critical():
    reference, window = normal(5000, 0), normal(2000, 1, 0.4)
    first = found(reference, window)
    second = found(reference, window, previous=first)
    third = found(reference, window, previous=second)
    assert [f.severity for f in first if f.alarm] == ["warning"]
    assert [f.severity for f in second if f.alarm] == ["critical"]
    assert [f.details["windows"] for f in third if f.alarm] == [3]


def test_predictions_are_a_kind_of_their_own():
    reference = pa.table({"prediction": np.random.default_rng(0).normal(size=1000)})
    assert {f.kind for f in found(reference, reference)} == {"prediction", "missing", "volume"}


def test_many_segments_ask_for_stronger_evidence():
    reference, window = normal(20_000, 0), normal(300, 4, 0.42)
    (one,), (many,) = ([f for f in found(reference, window, segments=k) if f.kind == "drift"] for k in (1, 500))
    assert many.threshold > one.threshold


def test_volume_is_held_against_the_windows_before():
    weeks = [normal(1000 + 20 * (s % 3), s) for s in range(20)]
    assert said(found(weeks[0], normal(400, 50), weeks)) == [
        "400 rows in this window, 60.8 % fewer than the usual 1,020"
    ]
    assert said(found(weeks[0], normal(1100, 50), weeks)) == []
    assert said(found(weeks[0], normal(10, 50), weeks[:3])) == []


def test_counts_of_another_profile_are_refused():
    profile, other = build_profile(normal(100, 0)), build_profile(normal(100, 1))
    with pytest.raises(UsageError, match="another profile"):
        drift(profile, other.counts, model="m", window=(0, 1))
