"""Fitted estimators go through their files unchanged; what is code stays out."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from headway.errors import ArtifactError
from headway.train.formats import load, save

random = np.random.default_rng(3)
X = random.normal(size=(120, 4))
Y = X[:, 0] * 2 + X[:, 1]
NAMED = pd.DataFrame({"a": X[:, 0], "city": np.array(["x", "y", np.nan], dtype=object)[random.integers(0, 3, 120)]})
encode = ColumnTransformer(
    [("words", OneHotEncoder(handle_unknown="ignore"), ["city"]), ("numbers", SimpleImputer(), ["a"])]
)
ordinal = ColumnTransformer(
    [("words", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["city"])], remainder="passthrough"
)

AS_SKOPS = [
    (make_pipeline(StandardScaler(), LinearRegression()), X, Y),
    (make_pipeline(encode, LinearRegression()), NAMED, Y),
    (make_pipeline(ordinal, RandomForestRegressor(n_estimators=3)), NAMED, Y),
    (RandomForestClassifier(n_estimators=3), X, Y > 0),
    (HistGradientBoostingRegressor(max_iter=5), X, Y),
    (HistGradientBoostingRegressor(max_iter=5, categorical_features=[3]), np.c_[X[:, :3], X[:, 3] > 0], Y),
    (HistGradientBoostingClassifier(max_iter=5), X, Y > 0),
    (GradientBoostingRegressor(n_estimators=3), X, Y),
    (make_pipeline(StandardScaler(), LGBMRegressor(n_estimators=3, verbosity=-1)), X, Y),
    (make_pipeline(StandardScaler(), XGBRegressor(n_estimators=3)), X, Y),
    (make_pipeline(FunctionTransformer(np.abs), SplineTransformer(), LinearRegression()), X, Y),
    (make_pipeline(SelectKBest(k=2), LogisticRegression()), X, Y > 0),
    (CalibratedClassifierCV(LogisticRegression(), cv=2), X, Y > 0),
    (StackingRegressor([("a", LinearRegression())], cv=2), X, Y),
    (KNeighborsRegressor(), X, Y),
    (MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=20_000), X, Y),
]


@pytest.mark.parametrize(("estimator", "x", "y"), AS_SKOPS, ids=[str(e)[:40].replace("\n", "") for e, _, _ in AS_SKOPS])
def test_scikit_learn_goes_through_skops(estimator, x, y, tmp_path):
    estimator.fit(x, y)
    path, form = save(estimator, tmp_path / "model")
    assert (path, form) == (tmp_path / "model.skops", "skops")
    np.testing.assert_array_equal(load(path, form).predict(x), estimator.predict(x))


def test_lightgbm_goes_through_its_text(tmp_path):
    regressor = LGBMRegressor(n_estimators=5, verbosity=-1).fit(X, Y)
    path, form = save(regressor, tmp_path / "model")
    assert (path.name, form) == ("model.txt", "lightgbm")
    model = load(path, form)
    np.testing.assert_array_equal(model.predict(X), regressor.booster_.predict(X))
    assert model.predict_one(X[7].tolist()) == [model.predict(X)[7]]
    classifier = LGBMClassifier(n_estimators=5, verbosity=-1).fit(X, np.digitize(Y, [-1, 1]))
    loaded = load(*save(classifier, tmp_path / "classes"))
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict_proba(X))
    assert loaded.predict_one(X[7].tolist()) == loaded.predict(X)[7].tolist()


def test_xgboost_goes_through_ubj(tmp_path):
    for estimator, y in ((XGBRegressor(n_estimators=4), Y), (XGBClassifier(n_estimators=4), (Y > 0).astype(int))):
        estimator.fit(X, y)
        path, form = save(estimator, tmp_path / "model")
        assert (path.name, form) == ("model.ubj", "xgboost")
        direct = estimator.predict(X) if y is Y else estimator.predict_proba(X)[:, 1]
        np.testing.assert_array_equal(load(path, form).inplace_predict(X), direct)


class Own(RegressorMixin, BaseEstimator):
    def fit(self, x, y):
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, x):
        return np.full(len(x), self.mean_)


def doubled(x):
    return x * 2


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (make_pipeline(FunctionTransformer(lambda x: x), LinearRegression()), "<lambda>"),
        (make_pipeline(FunctionTransformer(doubled), LinearRegression()), "doubled"),
        (Own(), "Own"),
        (make_pipeline(Own()), "Own"),
        (
            make_pipeline(LGBMRegressor(n_estimators=3, verbosity=-1, objective=lambda y, p: (p - y, np.ones_like(y)))),
            "<lambda>",
        ),
    ],
)
def test_code_is_refused_by_name(estimator, named, tmp_path):
    estimator.fit(X, Y)
    with pytest.raises(ArtifactError, match=rf"{named}.*allow_pickle = true under \[project\]"):
        save(estimator, tmp_path / "model")
    path, form = save(estimator, tmp_path / "model", allow_pickle=True)
    assert form == "pickle"
    with pytest.raises(ArtifactError, match="can run any code"):
        load(path, form)
    np.testing.assert_array_equal(load(path, form, allow_pickle=True).predict(X), estimator.predict(X))


def test_a_file_cannot_bring_its_own_types(tmp_path):
    path = tmp_path / "model.skops"
    skops.io.dump(make_pipeline(FunctionTransformer(doubled), LinearRegression()).fit(X, Y), path)
    with pytest.raises(ArtifactError, match=r"model.skops holds .*doubled, which may not be loaded"):
        load(path, "skops")


def write_broken(path: Path, form: str) -> None:
    if form == "skops-zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("schema.json", "{}")
    else:
        path.write_bytes(b"nothing of the sort")


@pytest.mark.parametrize("form", ["lightgbm", "xgboost", "skops", "skops-zip", "pickle"])
def test_broken_and_missing_files_are_one_sentence(form, tmp_path):
    path = tmp_path / "model"
    kind = form.partition("-")[0]
    with pytest.raises(ArtifactError, match="model is missing"):
        load(path, kind, allow_pickle=True)
    write_broken(path, form)
    with pytest.raises(ArtifactError) as raised:
        load(path, kind, allow_pickle=True)
    assert len(str(raised.value).splitlines()) == 1
    assert len(pickle.dumps(raised.value)) > 0


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no model format is called 'joblib'; there are lightgbm, xgboost"):
        load(tmp_path / "x", "joblib")
