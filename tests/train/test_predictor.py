"""Answering: by segment, one row or many, nulls and unknown text, threads."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headway.define.records import ServingPlan
from headway.errors import ArtifactError, DataError
from headway.train import Predictor, columns_of


@pytest.fixture
def version(make_model, make_data, run):
    model = make_model(segment="city", fallback="pooled", min_rows=160)
    data = make_data(segmented=True)
    trained, directory = run(model, data)
    return Predictor.load(directory, trained.serving), columns_of(data.table, trained.serving.columns), data, directory


def at(columns, i):
    return {name: values[i : i + 1] for name, values in columns.items()}


def test_one_row_and_many_answer_alike(version):
    predictor, columns, data, _ = version
    segments = [*data.segment.to_pylist()[:-2], None, "Nowhere"]
    many, answered = predictor.predict(columns, len(data), segments)
    assert set(answered) == {"Ames", "Bath", None}
    assert list(answered[-2:]) == [None, None]
    for i in (*range(60), len(data) - 2, len(data) - 1):
        one, by = predictor.predict(at(columns, i), 1, segments[i : i + 1])
        assert one.tolist() == [many[i]]
        assert by == [answered[i]]
    assert predictor.predict(at(columns, 0), 1, None)[1] == [None]
    assert predictor.predict({name: v[:0] for name, v in columns.items()}, 0, [])[0].shape == (0,)


def test_segments_really_answer(version):
    predictor, columns, data, _ = version
    pooled, _ = predictor.predict(columns, len(data), None)
    own, _ = predictor.predict(columns, len(data), data.segment.to_pylist())
    bath = np.array(data.segment.to_pylist()) == "Bath"
    small = np.array([s not in ("Ames", "Bath") for s in data.segment.to_pylist()])
    assert (pooled[bath] != own[bath]).all()
    np.testing.assert_array_equal(pooled[small], own[small])


def test_without_a_pooled_model_unseen_segments_get_nothing(make_model, make_data, run):
    for label, estimator in (("number", "LGBMRegressor"), ("three", "LGBMClassifier")):
        model = make_model(estimator=f"lightgbm:{estimator}", params={"n_estimators": 3}, segment="city", min_rows=1)
        data = make_data(label=label, segmented=True)
        if label == "three":
            model = make_model(
                estimator=f"lightgbm:{estimator}", params={"n_estimators": 3}, segment="city", min_rows=1
            )
        trained, directory = run(model, data)
        assert trained.serving.pooled is None
        predictor = Predictor.load(directory, trained.serving)
        columns = columns_of(data.table, trained.serving.columns)
        two = {name: values[:2] for name, values in columns.items()}
        found, by = predictor.predict(two, 2, ["Ames", "Nowhere"])
        single, _ = predictor.predict(at(columns, 1), 1, ["Nowhere"])
        assert by == ["Ames", None]
        if label == "number":
            assert np.isfinite(found[0])
            assert np.isnan(found[1])
            assert np.isnan(single[0])
        else:
            assert found[0] in ("low", "mid", "high")
            assert found[1] is None
            assert single[0] is None


def test_threads_do_not_disturb_each_other(version):
    predictor, columns, data, _ = version
    expected = predictor.predict(columns, len(data), None)[0]

    def ask(start: int) -> bool:
        rows = range(start, len(data), 4)
        return all(predictor.predict(at(columns, i), 1, None)[0][0] == expected[i] for i in rows)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))


def test_wrong_columns_are_named(version):
    predictor, columns, _, _ = version
    without = {name: v for name, v in at(columns, 0).items() if name != "b"}
    with pytest.raises(DataError, match="needs the column 'b'"):
        predictor.predict(without, 1, None)
    with pytest.raises(DataError, match="column 'b' is not 1 values of type int64"):
        predictor.predict({**without, "b": np.array(["x"], dtype=object)}, 1, None)


def test_missing_files_are_named(version, tmp_path):
    predictor, _, _, directory = version
    (directory / "pooled.txt").unlink()
    with pytest.raises(ArtifactError, match=r"pooled.txt is missing"):
        Predictor.load(directory, predictor.plan)
    empty = ServingPlan("m", "regression", (), (), (), (), (), None)
    with pytest.raises(ArtifactError, match="names no model files"):
        Predictor.load(tmp_path, empty)


def test_a_server_of_lightgbm_imports_neither_lightgbm_nor_sklearn(version):
    _, _, _, directory = version
    code = f"""
import sys
from pathlib import Path
from headway.train import Predictor
from headway.train._evaluate import read_plan
directory = Path({str(directory)!r})
Predictor.load(directory, read_plan(directory))
assert not {{"lightgbm", "sklearn", "pandas", "matplotlib", "joblib"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
