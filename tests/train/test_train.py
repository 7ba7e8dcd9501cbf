"""A whole training: what it writes, that it repeats itself, and what it refuses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lightgbm import LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import headway as hw
from headway.define.records import ServingPlan
from headway.errors import ArtifactError, DataError, DefinitionError, HeadwayError, MissingExtra
from headway.train import Predictor, _segments, columns_of, evaluate_twin, evaluate_version


def model_files(directory: Path) -> dict[str, bytes]:
    found = [
        *directory.rglob("*.txt"),
        *directory.rglob("*.skops"),
        *directory.rglob("serving.json"),
        *directory.rglob("metrics.json"),
    ]
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def predictions(directory: Path, data) -> np.ndarray:
    plan = msgspec.json.decode((directory / "serving.json").read_bytes(), type=ServingPlan)
    segments = data.segment.to_pylist() if data.segment is not None else None
    columns = columns_of(data.table, plan.columns)
    return Predictor.load(directory, plan, allow_pickle=True).predict(columns, len(data), segments)[0]


def test_it_writes_all_the_files_of_a_version(make_model, make_data, run, pictures):
    steps = []
    model = make_model(segment="city", fallback="pooled", min_rows=160, metrics=["mae", "r2"])
    lines: list[str] = []
    data = make_data(segmented=True)
    trained, directory = run(model, data, progress=lambda *step: steps.append(step), log=lines.append)
    names = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    expected = {
        "pooled.txt",
        "serving.json",
        "metrics.json",
        "importance.json",
        "train.log",
        "predictions_test.parquet",
    }
    assert expected | {"residuals.png", "importance.png", "twin/serving.json", "twin/pooled.txt"} <= names
    assert sorted(trained.serving.segments) == ["Ames", "Bath"]
    assert {segment.file for segment in trained.serving.segments.values()} <= names
    assert steps[-1] == ("evaluate", 7, 7)
    assert (directory / "train.log").read_text().splitlines() == lines
    assert any("'Dax'" in line and "pooled" in line for line in lines)
    assert set(trained.metrics) == {"mae", "r2"}
    assert trained.metrics["mae"] < trained.baseline["mae"]
    assert set(trained.segment_metrics) == set(trained.baseline_segments) == {"Ames", "Bath", "Cork", "Dax"}
    assert next(iter(trained.importance)) == "b"
    assert trained.params["random_state"] == 0
    table = pq.read_table(directory / "predictions_test.parquet")
    assert table.column_names == ["event", "label", "prediction", "segment"]
    assert table.num_rows == trained.test_rows == int(trained.test.sum())
    errors = np.abs(table["prediction"].to_numpy() - table["label"].to_numpy())
    assert errors.mean() == pytest.approx(trained.metrics["mae"])
    assert trained.plots == ("residuals.png", "importance.png")
    for plot in trained.plots:
        assert (directory / plot).read_bytes().startswith(b"\x89PNG")


def test_the_same_training_writes_the_same_bytes(make_model, make_data, run):
    model = make_model(
        segment="city", fallback="pooled", params={"n_estimators": 10, "subsample": 0.7, "subsample_freq": 1}
    )
    one = run(model, make_data(segmented=True), jobs=1)[1]
    two = run(model, make_data(segmented=True), jobs=2)[1]
    assert model_files(one) == model_files(two)
    assert (one / "train.log").read_bytes() == (two / "train.log").read_bytes()


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(n_estimators=5, max_samples=0.5),
        make_pipeline(StandardScaler(), LGBMRegressor(n_estimators=5, subsample=0.5, subsample_freq=1)),
    ],
    ids=["forest", "pipeline"],
)
def test_unset_seeds_are_set_and_answers_do_not_depend_on_jobs(estimator, make_model, make_data, run):
    data = make_data(nulls=False, text=False)
    model = make_model(estimator=estimator)
    one, two = run(model, data, jobs=1)[1], run(model, data, jobs=2)[1]
    np.testing.assert_array_equal(predictions(one, data), predictions(two, data))
    assert estimator.get_params().get("random_state") is None  # the declared object is not touched


def test_segments_are_the_same_in_workers(make_model, make_data, run, monkeypatch):
    model = make_model(segment="city", fallback="pooled", min_rows=50)
    here = run(model, make_data(segmented=True), jobs=2)[1]
    monkeypatch.setattr(_segments, "_START_SECONDS", 0.0)
    asked = []
    inner = _segments._fit_in_workers
    monkeypatch.setattr(_segments, "_fit_in_workers", lambda *a: asked.append(1) or inner(*a))
    there = run(model, make_data(segmented=True), jobs=2)[1]
    assert asked
    assert model_files(here) == model_files(there)
    assert not list(there.rglob(".rows-*"))


def test_a_killed_worker_is_reported(make_model, make_data, run, monkeypatch):
    monkeypatch.setattr(_segments, "_START_SECONDS", 0.0)
    home = os.getpid()
    dies = FunctionTransformer(lambda x: x if os.getpid() == home else os.kill(os.getpid(), signal.SIGKILL))
    model = make_model(
        estimator=make_pipeline(dies, LinearRegression()), segment="city", fallback="pooled", min_rows=10, params={}
    )
    with pytest.raises(HeadwayError, match="a worker process was killed while it fitted segments"):
        run(model, make_data(nulls=False, text=False, segmented=True), jobs=2, allow_pickle=True)


def test_without_refit_the_twin_is_served(make_model, make_data, run):
    model = make_model(split=hw.TimeSplit(test="7d", refit=False))
    trained, directory = run(model, make_data())
    assert (directory / "pooled.txt").read_bytes() == (directory / "twin/pooled.txt").read_bytes()
    assert trained.serving.pooled.rows == trained.train_rows
    again, _ = run(make_model(), make_data())
    assert again.metrics == trained.metrics
    assert again.serving.pooled.rows == 900


@pytest.mark.parametrize("estimator", ["lightgbm:LGBMClassifier", "xgboost:XGBClassifier"])
@pytest.mark.parametrize("label", ["truth", "three"])
def test_classifiers_answer_with_probabilities_or_classes(estimator, label, make_model, make_data, run, pictures):
    data = make_data(label=label, segmented=True)
    model = make_model(estimator=estimator, params={"n_estimators": 8}, segment="city", fallback="pooled", min_rows=160)
    trained, directory = run(model, data)
    found = predictions(directory, data)
    actual = np.array(data.label.to_pylist())
    if label == "truth":
        assert trained.serving.task == "binary"
        assert trained.serving.classes == (False, True)
        assert ((found > 0.5) == actual).mean() > 0.9
        assert (directory / "roc.png").exists()
        assert (directory / "calibration.png").exists()
    else:
        assert trained.serving.task == "multiclass"
        assert trained.serving.classes == ("high", "low", "mid")
        assert (found == actual).mean() > 0.85
    assert trained.metrics["log_loss"] < trained.baseline["log_loss"]


def test_a_columntransformer_gets_names_and_text(make_model, make_data, run):
    encode = ColumnTransformer([("city", OneHotEncoder(handle_unknown="ignore"), ["city"])], remainder=SimpleImputer())
    model = make_model(estimator=make_pipeline(encode, LinearRegression()))
    trained, directory = run(model, make_data())
    assert trained.serving.frame
    assert trained.metrics["mae"] < trained.baseline["mae"]
    plan = trained.serving
    columns = {"view__a": [0.0, np.nan], "b": [1.0, 2.0], "flag": [1.0, 0.0], "city": ["Bath", None]}
    arrays = {k: np.array(v, dtype=object if k == "city" else float) for k, v in columns.items()}
    assert np.isfinite(Predictor.load(directory, plan).predict(arrays, 2, None)[0]).all()


def test_an_estimator_of_numbers_gets_a_matrix(make_model, make_data, run):
    trained, _ = run(make_model(estimator=LinearRegression()), make_data(nulls=False, text=False))
    assert not trained.serving.frame


def test_a_function_of_params_makes_the_estimator(make_model, make_data, run):
    def forest(trees: int):
        return RandomForestRegressor(n_estimators=trees)

    trained, _ = run(make_model(estimator=forest, params={"trees": 4}), make_data(nulls=False, text=False))
    assert trained.params["n_estimators"] == 4
    with pytest.raises(DefinitionError, match="has no parameter 'tree'; did you mean 'trees'"):
        run(make_model(estimator=forest, params={"tree": 4}), make_data())


@pytest.mark.parametrize(
    "estimator",
    ["lightgbm:LGBMRegressor", "xgboost:XGBRegressor", "sklearn.ensemble:HistGradientBoostingRegressor"],
)
def test_nulls_and_unknown_text_are_answered(estimator, make_model, make_data, run):
    trained, directory = run(make_model(estimator=estimator, params={}), make_data())
    assert trained.metrics["mae"] < trained.baseline["mae"]
    assert trained.serving.columns[2].categories == ("Ames", "Bath", "Cork", "Dax")
    columns = {
        "view__a": np.array([np.nan, 0.5]),
        "b": np.array([np.nan, 2.0]),
        "city": np.array([None, "Nowhere"], dtype=object),
        "flag": np.array([np.nan, 1.0]),
    }
    assert np.isfinite(Predictor.load(directory, trained.serving).predict(columns, 2, None)[0]).all()


def test_the_twin_of_a_version_can_be_asked_again(make_model, make_data, run):
    data = make_data(label="three", segmented=True)
    model = make_model(
        estimator="lightgbm:LGBMClassifier", params={"n_estimators": 5}, segment="city", fallback="pooled"
    )
    trained, directory = run(model, data)
    chosen = pa.array(np.flatnonzero(trained.test))
    columns = columns_of(data.table.take(chosen), trained.serving.columns)
    asked = (directory, columns, data.label.take(chosen), data.segment.take(chosen), list(trained.metrics))
    assert evaluate_twin(*asked) == trained.metrics
    found = evaluate_version(*asked)
    assert found.rows == trained.test_rows
    assert dict(found.segments["Ames"].items()) == trained.segment_metrics["Ames"]
    del columns["b"]
    with pytest.raises(DataError, match="needs the column 'b'; there are city, flag, view__a"):
        evaluate_twin(*asked)


def test_figures_that_are_not_defined_are_null(make_model, make_data, run):
    data = make_data(label="truth", segmented=True)
    names = data.segment.to_pylist()
    label = pa.array([value and name != "Dax" for value, name in zip(data.label.to_pylist(), names, strict=True)])
    data = type(data)(data.table, data.columns, label, data.event, data.known, data.digest, data.segment)
    model = make_model(
        estimator="lightgbm:LGBMClassifier", params={"n_estimators": 5}, segment="city", fallback="pooled",
        metrics=["auc", "brier"],
    )  # fmt: skip
    trained, directory = run(model, data)
    assert set(trained.segment_metrics["Dax"]) == {"brier"}
    written = msgspec.json.decode((directory / "metrics.json").read_bytes())
    assert written["segments"]["Dax"]["auc"] is None
    assert "not defined for the segments Dax" in (directory / "train.log").read_text()


REFUSALS = [
    ({"estimator": "lightgbn:LGBMRegressor"}, "there is no module 'lightgbn'"),
    ({"estimator": "lightgbm:LGBMRegresor"}, "has no 'LGBMRegresor'; did you mean 'LGBMRegressor'"),
    ({"estimator": "lightgbm:LGBMRegressor", "params": {"n_estimator": 3}}, "no parameter 'n_estimator'; did you mean"),
    ({"estimator": "xgboost:XGBRegressor", "params": {"max_dept": 3}}, "no use for the parameter max_dept; did you"),
    ({"estimator": "sklearn.linear_model:Ridge", "params": {"alpa": 3}}, "Ridge has no parameter 'alpa'; did you mean"),
    ({"estimator": LinearRegression(), "params": {"alpha": 3}}, "LinearRegression has no parameter 'alpha'; there are"),
    ({"estimator": 42}, "estimator is 'module:Class', an estimator or pipeline object"),
    ({"estimator": lambda: 42}, "got int"),
    ({"estimator": "lightgbm:LGBMRegressor", "params": {"objective": "nonsense"}}, "could not be fitted"),
    ({"estimator": LinearRegression()}, "takes no text, and city hold text"),
    ({"metrics": ["auc"]}, "'auc' is no metric of a regression model; there are mae"),
    ({"baseline": "prior"}, "baseline 'prior' does not fit a regression model; there are median and mean"),
    ({"task": "binary"}, "task is 'binary', but the estimator is a regressor"),
    ({"split": hw.TimeSplit(test="2024-01-01")}, "an instant: '2024-01-01' names no time zone"),
    ({"segment": "city"}, 'have too little to learn from .* declare fallback="pooled"'),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSALS, ids=[m[:30] for _, m in REFUSALS])
def test_refusals_name_the_model_and_the_mend(options, message, make_model, make_data, run):
    with pytest.raises(DefinitionError, match=rf"model 'demo' \(.*conftest.py:\d+\): .*{message}") as raised:
        run(make_model(**options), make_data(segmented=True))
    assert "\n" not in str(raised.value)


def test_nulls_that_an_estimator_refuses_are_named(make_model, make_data, run):
    with pytest.raises(
        DefinitionError, match=r"takes no nulls, and there are some in view__a \(\d+\) \(685 rows\); .*SimpleImputer"
    ):
        run(make_model(estimator=LinearRegression()), make_data(text=False))


def test_a_missing_package_names_the_extra(make_model, make_data, run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
    with pytest.raises(MissingExtra, match=r"needs the package 'xgboost'.*pip install 'headway\[xgboost\]'"):
        run(make_model(estimator="xgboost:XGBRegressor"), make_data())


def test_classifiers_need_classes_and_probabilities(make_model, make_data, run):
    data = make_data(label="truth", nulls=False, text=False)
    with pytest.raises(DefinitionError, match="RidgeClassifier gives no probabilities"):
        run(make_model(estimator=RidgeClassifier()), data)
    alone = type(data)(data.table, data.columns, pa.array([True] * len(data)), data.event, data.known, data.digest)
    with pytest.raises(DataError, match="all 900 labels are True; a classifier needs at least two"):
        run(make_model(estimator=LogisticRegression()), alone)
    late = type(data)(
        data.table, data.columns, pa.array(np.arange(len(data)) > 850), data.event, data.known, data.digest
    )
    with pytest.raises(DataError, match=r"all \d+ training rows are False, though the test rows are not"):
        run(make_model(estimator=LogisticRegression()), late)


def test_code_inside_a_pipeline_is_refused_unless_pickle_is_allowed(make_model, make_data, run):
    pipeline = make_pipeline(FunctionTransformer(lambda x: x * 2), LinearRegression())
    data = make_data(nulls=False, text=False)
    with pytest.raises(ArtifactError, match=r"Pipeline holds \S*<lambda>.* allow_pickle = true"):
        run(make_model(estimator=pipeline), data)
    trained, directory = run(make_model(estimator=pipeline), data, allow_pickle=True)
    assert trained.serving.pooled.format == "pickle"
    with pytest.raises(ArtifactError, match="is a pickle, which can run any code; to load it, set allow_pickle = true"):
        Predictor.load(directory, trained.serving)


def test_an_objective_of_ones_own_is_not_stored_as_text(make_model, make_data, run):
    def squared(y, p):
        return p - y, np.ones_like(y)

    with pytest.raises(ArtifactError, match="answers otherwise once stored in its own format"):
        run(
            make_model(estimator=__import__("lightgbm").LGBMClassifier(n_estimators=3, objective=squared), params={}),
            make_data(label="truth"),
        )
