"""Realised metrics with their intervals, and estimates beside what the labels later said."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from headway.errors import UsageError
from headway.monitor import calibrate, estimate_classification, estimate_regression, performance, together
from headway.monitor._estimate import expected

PLACE = {"model": "m", "window": (0, 1)}


def regression(rows, seed, noise=1.0, bias=0.0):
    random = np.random.default_rng(seed)
    label = random.normal(10, 3, rows)
    return label, label + random.normal(bias, noise, rows)


def by_name(figures):
    return {each.name: each for each in figures}


# --- realised


def test_metrics_come_with_an_interval_that_covers():
    covered = 0
    for seed in range(60):
        label, prediction = regression(400, seed)
        (mae,) = performance(label, prediction, task="regression", metrics=["mae"], **PLACE)
        low, high = mae.details["interval"]
        covered += low <= np.sqrt(2 / np.pi) <= high
    assert covered >= 52


def test_as_good_as_the_test_is_no_alarm_and_much_worse_is():
    known = {"mae": 0.8, "rmse": 1.0}
    good = performance(*regression(2000, 1), task="regression", reference=known, reference_n=5000, **PLACE)
    bad = performance(*regression(2000, 1, noise=1.3), task="regression", reference=known, reference_n=5000, **PLACE)
    assert [f.alarm for f in good] == [False, False]
    assert [f.alarm for f in bad] == [True, True]
    mae = by_name(bad)["mae"]
    assert mae.said.startswith("mae is 1.0")
    assert mae.said.endswith("on 2,000 labels, worse than the 0.8 of the test")
    assert mae.effect == pytest.approx(mae.statistic - 0.8)
    assert mae.n == 2000
    assert mae.severity == "warning"


def test_a_second_bad_window_is_critical():
    options = {"task": "regression", "metrics": ["mae"], "reference": {"mae": 0.8}, "reference_n": 5000, **PLACE}
    first = performance(*regression(2000, 1, noise=2), **options)
    second = performance(*regression(2000, 2, noise=2), previous=first, **options)
    assert (first[0].severity, second[0].severity) == ("warning", "critical")


def test_a_few_labels_never_alarm():
    found = performance(*regression(20, 1, noise=9), task="regression", reference={"mae": 0.8}, **PLACE)
    assert not any(f.alarm for f in found)
    assert "too few to judge" in by_name(found)["mae"].said


def test_what_the_metric_does_by_itself_is_no_alarm():
    options = {"task": "regression", "metrics": ["mae"], "reference": {"mae": 0.8}, "reference_n": 5000, **PLACE}
    noises = np.random.default_rng(0).uniform(0.8, 1.6, 30)
    history = [performance(*regression(500, i, noise=n), **options)[0] for i, n in enumerate(noises)]
    assert performance(*regression(500, 99, noise=1.4), **options)[0].alarm
    assert not performance(*regression(500, 99, noise=1.4), history=history, **options)[0].alarm
    assert performance(*regression(500, 99, noise=4), history=history, **options)[0].alarm


def test_rows_without_label_are_left_out_and_counted():
    label, prediction = regression(100, 0)
    label[:40] = np.nan
    (mae,) = performance(label, prediction, task="regression", metrics=["mae"], rows=100, **PLACE)
    assert mae.n == 60
    assert mae.details["labelled"] == 0.6


def test_no_label_at_all_is_said():
    (mae,) = performance(np.empty(0), np.empty(0), task="regression", metrics=["mae"], reference={"mae": 1.0}, **PLACE)
    assert mae.statistic is None
    assert mae.said == "mae cannot be told from 0 labels"


def test_a_classifier_is_judged_by_its_probabilities():
    random = np.random.default_rng(0)
    chance = random.random(4000)
    label = np.where(random.random(4000) < chance, "yes", "no").astype(object)
    options = {"task": "binary", "classes": ("no", "yes"), "metrics": ["auc", "accuracy"], **PLACE}
    reference = {"auc": 0.83, "accuracy": 0.75}
    good = performance(label, chance, reference=reference, reference_n=4000, **options)
    bad = performance(label, random.permutation(chance), reference=reference, reference_n=4000, **options)
    assert [f.alarm for f in good] == [False, False]
    assert [f.alarm for f in bad] == [True, True]
    assert by_name(bad)["auc"].effect > 0


def test_of_several_classes_the_class_that_was_said_is_enough():
    label = np.array(["a", "b", "c", "a"] * 20, dtype=object)
    said = np.array(["a", "b", "c", "b"] * 20, dtype=object)
    (figure,) = performance(
        label, said, task="multiclass", classes=("a", "b", "c"), metrics=["log_loss", "accuracy"], **PLACE
    )
    assert (figure.name, figure.statistic) == ("accuracy", 0.75)


# --- estimated


def scored(rows, seed, sharpness=1.0):
    """Scores that are wrong as probabilities but right in their order, and labels."""
    random = np.random.default_rng(seed)
    logit = random.normal(0, 2 * sharpness, rows)
    return 1 / (1 + np.exp(-logit * 2)), random.random(rows) < 1 / (1 + np.exp(-logit))


def test_a_calibration_turns_scores_into_chances():
    scores, truth = scored(50_000, 0)
    calibration = calibrate(scores, truth)
    chances = calibration(scores)
    for low in np.linspace(0.05, 0.85, 9):
        rows = (chances >= low) & (chances < low + 0.1)
        assert truth[rows].mean() == pytest.approx(chances[rows].mean(), abs=0.03)
    assert (np.diff(calibration.chances) >= 0).all()
    assert len(calibration.scores) <= 500


def test_expected_metrics_are_those_of_labels_drawn_by_chance():
    random = np.random.default_rng(0)
    scores = random.random(30_000).round(2)
    chances = scores**2
    truth = random.random(30_000) < chances
    (auc,) = performance(
        truth.astype(float), scores, task="binary", classes=(0.0, 1.0), metrics=["auc"], model="m", window=(0, 1)
    )
    found = expected(["auc", "accuracy", "precision", "recall", "f1", "log_loss", "brier"], scores, chances)
    assert found["auc"] == pytest.approx(auc.statistic, abs=0.01)
    assert found["accuracy"] == pytest.approx(np.mean((scores > 0.5) == truth), abs=0.01)
    assert found["precision"] == pytest.approx(truth[scores > 0.5].mean(), abs=0.01)
    assert found["brier"] == pytest.approx(np.mean((scores - truth) ** 2), abs=0.01)


@pytest.mark.parametrize("sharpness", [0.3, 1.0])
def test_the_estimate_for_a_classifier_is_what_the_labels_say_later(sharpness):
    calibration = calibrate(*scored(30_000, 0))
    scores, truth = scored(5000, 1, sharpness)
    options = {"metrics": ["accuracy", "auc", "log_loss"], **PLACE}
    estimated = by_name(estimate_classification(calibration, scores, **options))
    real = by_name(performance(truth.astype(float), scores, task="binary", classes=(0.0, 1.0), **options))
    for name, figure in estimated.items():
        assert figure.statistic == pytest.approx(real[name].statistic, abs=0.025), name
        assert figure.kind == "estimate"
        assert "relation of features to label has not changed" in figure.said


def test_an_estimate_alarms_where_scores_get_unsure():
    calibration = calibrate(*scored(30_000, 0))
    options = {"metrics": ["accuracy"], "reference": {"accuracy": 0.8}, "reference_n": 30_000, **PLACE}
    (same,) = estimate_classification(calibration, scored(3000, 1)[0], **options)
    (unsure,) = estimate_classification(calibration, scored(3000, 1, 0.2)[0], **options)
    assert not same.alarm
    assert unsure.alarm


def test_a_calibration_needs_both_classes():
    with pytest.raises(UsageError, match="both classes"):
        calibrate(np.array([0.1, 0.2]), np.array([True, True]))


def errors(rows, seed, far):
    """Errors that grow with distance, and whose size depends on the city."""
    random = np.random.default_rng(seed)
    distance, city = random.gamma(2, far, rows), random.choice(["a", "b", None], rows)
    table = pa.table({"distance": distance, "city": pa.array(city.tolist(), pa.string())})
    return table, random.normal(size=rows) * (0.5 + distance) * np.where(city == "a", 2.0, 1.0)


@pytest.mark.parametrize("far", [1.0, 1.5])
def test_the_estimate_for_a_regression_is_what_the_labels_say_later(far):
    known, error = errors(6000, 0, 1.0)
    features, later = errors(2000, 1, far)
    mae, rmse = estimate_regression(known, error, features, metrics=["mae", "rmse"], **PLACE)
    assert mae.statistic == pytest.approx(np.abs(later).mean(), rel=0.1)
    assert rmse.statistic == pytest.approx(np.sqrt((later**2).mean()), rel=0.15)
    assert "assumes that errors depend on the features as they did" in mae.said


def test_too_little_to_learn_from_gives_no_estimate():
    known, error = errors(50, 0, 1.0)
    (mae,) = estimate_regression(known, error, known, **PLACE)
    assert mae.statistic is None
    assert not mae.alarm


# --- all columns together


def pair(rows, seed, correlation):
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    return pa.table({"x": x, "y": correlation * x + np.sqrt(1 - correlation**2) * random.normal(size=rows)})


def test_a_relation_that_broke_shows_only_in_columns_together():
    same = together(pair(2000, 0, 0.9), pair(1500, 1, 0.9), **PLACE)
    broken = together(pair(2000, 0, 0.9), pair(1500, 1, 0.0), **PLACE)
    assert not same.alarm
    assert same.statistic == pytest.approx(0.5, abs=0.05)
    assert broken.alarm
    assert broken.statistic > 0.75
    assert together(pair(50, 0, 0), pair(50, 1, 0), **PLACE) is None
