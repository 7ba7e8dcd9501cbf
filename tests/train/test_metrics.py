"""Every metric against scikit-learn's, and where none is defined."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.define import METRICS
from headway.errors import UsageError
from headway.train._metrics import CLASSIFICATION, REGRESSION, evaluate

scored = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.7, 0.9])), min_size=4, max_size=40
)
ours_by_theirs = {
    "mae": sk.mean_absolute_error, "rmse": sk.root_mean_squared_error, "medae": sk.median_absolute_error,
    "mape": sk.mean_absolute_percentage_error, "r2": sk.r2_score, "bias": lambda y, p: float(np.mean(p - y)),
}  # fmt: skip


def test_every_declared_metric_is_there():
    assert (*REGRESSION, *CLASSIFICATION) == METRICS


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(-100, 100)), min_size=2, max_size=30))
def test_regression(pairs):
    y, p = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    found = evaluate(REGRESSION, "regression", None, y, p)
    for name, theirs in ours_by_theirs.items():
        if name != "r2" or np.var(y) > 1e-6:
            assert found[name] == pytest.approx(theirs(y, p), rel=1e-9, abs=1e-9)


@settings(max_examples=50)
@given(scored)
def test_two_classes(pairs):
    y, p = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    label = np.array(["no", "yes"])[y]
    found = evaluate(CLASSIFICATION, "binary", ("no", "yes"), label, p)
    said = p > 0.5
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p, labels=[0, 1]))
    assert found["brier"] == pytest.approx(np.mean((p - y) ** 2))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, said))
    if 0 < y.sum() < len(y):
        assert found["auc"] == pytest.approx(sk.roc_auc_score(y, p))
        assert found["average_precision"] == pytest.approx(sk.average_precision_score(y, p))
        for name, theirs in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
            assert found[name] == pytest.approx(theirs(y, said, zero_division=0))
    else:
        assert np.isnan(found["auc"])


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_three_classes(seed):
    random = np.random.default_rng(seed)
    y = np.r_[0, 1, 2, random.integers(0, 3, 30)]
    p = random.dirichlet(np.ones(3), len(y))
    found = evaluate(CLASSIFICATION, "multiclass", ("a", "b", "c"), np.array(["a", "b", "c"])[y], p)
    said = p.argmax(axis=1)
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(np.eye(3)[y], p))
    assert found["brier"] == pytest.approx(np.mean(np.sum((p - np.eye(3)[y]) ** 2, axis=1)))
    for name, theirs in (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)):
        assert found[name] == pytest.approx(theirs(y, said, average="macro", zero_division=0))


def test_where_nothing_is_defined():
    one = evaluate(CLASSIFICATION, "binary", (False, True), np.array([False, False]), np.array([0.1, 0.2]))
    assert {name for name, value in one.items() if np.isnan(value)} == {
        "auc", "average_precision", "f1", "precision", "recall",
    }  # fmt: skip
    zero = evaluate(["mape", "r2"], "regression", None, np.array([0.0]), np.array([1.0]))
    assert np.isnan(list(zero.values())).all()
    assert np.isnan(evaluate(["mae"], "regression", None, np.array([]), np.array([]))["mae"])
    with pytest.raises(UsageError, match="'auc' is no metric of a regression"):
        evaluate(["auc"], "regression", None, np.array([1.0]), np.array([1.0]))


def test_a_class_the_model_does_not_know_is_never_right():
    found = evaluate(
        ["accuracy", "log_loss"], "multiclass", ("a", "b"), np.array(["c", "a"]), np.array([[1.0, 0], [1, 0]])
    )
    assert found["accuracy"] == 0.5
    assert found["log_loss"] > 10
