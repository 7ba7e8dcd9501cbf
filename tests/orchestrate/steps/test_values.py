"""What steps can hand over, and as what it arrives."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import ArtifactError
from headway.orchestrate.steps._store import ArtifactStore, opened
from headway.orchestrate.steps._values import ANY, Unfit

AT = dt.datetime(2024, 1, 5, 13, 0, tzinfo=dt.UTC)


@dataclasses.dataclass
class Point:
    x: float
    at: dt.datetime


class Size(msgspec.Struct):
    width: int
    names: list[str]


class Colour(enum.Enum):
    RED = "red"


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path / "artifacts", allow_pickle=False) as found:
        yield found


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (None, ANY),
        (True, bool),
        (3, int),
        ("é", str),
        ([1, 2.5, None, {"a": []}], ANY),
        ({"b": 1, "a": 2}, dict),
        ({1: "x"}, dict[int, str]),
        ({3, 1}, set[int]),
        ((1, "a"), tuple[int, str]),
        (AT, dt.datetime),
        (AT.date(), dt.date),
        ({"at": [AT]}, dict[str, list[dt.datetime]]),
        (Point(1.5, AT), Point),
        ([Size(1, ["a"])], list[Size]),
        (Colour.RED, Colour),
        (None, Point | None),
        (b"\x00\xff", bytes),
        (b"", ANY),
    ],
)
def test_values_come_back_as_they_were(store, value, note):
    artifact = store.put(value, note)
    back = store.get(artifact, note)
    assert back == value
    assert type(back) is type(value)
    assert store.put(back, note) == artifact
    assert store.has(artifact)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_json_comes_back(tmp_path_factory, value):
    root = tmp_path_factory.getbasetemp() / "any"
    store = ArtifactStore(root, root / "scratch")
    (root / "steps").mkdir(parents=True, exist_ok=True)
    assert repr(store.get(store.put(value))) == repr(value)


def test_numbers_of_numpy_are_numbers(store):
    assert store.get(store.put({"a": np.float64(1.5), "b": np.int64(2), "c": np.bool_(True)})) == {
        "a": 1.5,
        "b": 2,
        "c": True,
    }
    assert store.get(store.put(np.float64(2.5), float), float) == 2.5


def test_the_order_of_a_dict_is_kept_and_does_not_count(store):
    assert store.put({"a": 1, "b": 2}).digest == store.put({"b": 2, "a": 1}).digest
    assert list(store.get(store.put({"z": 1, "y": 2}))) == ["z", "y"]


TABLE = pa.table({"a": [1, None], "s": ["x", None], "t": pa.array([0, None], pa.timestamp("us", "UTC"))})


@pytest.mark.filterwarnings("ignore:Series.values:DeprecationWarning")  # pyarrow asks pandas for time zones so
@pytest.mark.parametrize(
    "frame",
    [TABLE, TABLE.to_pandas(), pl.from_arrow(TABLE), TABLE.to_batches()[0]],
    ids=lambda frame: type(frame).__module__.split(".")[0] + type(frame).__name__,
)
def test_tables_come_back_as_what_they_are_annotated(store, frame):
    artifact = store.put(frame)
    assert artifact.type == "arrow"
    assert artifact.preview == "2 rows × 3 columns: a, s, t"
    assert isinstance(store.get(artifact), pa.Table)
    for note in (pd.DataFrame, pl.DataFrame, pl.LazyFrame, pa.Table, pd.DataFrame | None, "pd.DataFrame"):
        wanted = pd.DataFrame if note in ("pd.DataFrame", pd.DataFrame | None) else note
        assert isinstance(store.get(artifact, note), wanted)
    assert store.get(artifact, pl.DataFrame)["s"].to_list() == ["x", None]


def test_an_index_and_categories_are_kept(store):
    frame = pd.DataFrame({"c": pd.Categorical(["u", "v", "u"])}, index=pd.Index([5, 6, 7], name="id"))
    pd.testing.assert_frame_equal(store.get(store.put(frame), pd.DataFrame), frame)


def test_equal_tables_are_one_artifact_and_others_are_not(store):
    whole = pa.table({"a": pa.array([1, 2, None, 4]), "s": ["a", "b", "c", None]})
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert store.put(whole) == store.put(parts)
    filled = pa.table({"a": pa.array([1, 2, 7, 4], mask=np.array([False, False, True, False])), "s": whole["s"]})
    assert store.put(filled) == store.put(whole)
    digests = {
        store.put(table).digest
        for table in (
            whole,
            whole.slice(1),
            whole.rename_columns(["b", "s"]),
            whole.set_column(0, "a", whole["a"].cast(pa.int32())),
            pa.table({"a": pa.array([1, 2, 0, 4]), "s": whole["s"]}),
        )
    }
    assert len(digests) == 5


def test_arrays(store):
    for array in (
        np.arange(6).reshape(2, 3),
        np.array(1.5),
        np.array(["2024-01-01"], "datetime64[D]"),
        np.empty((0, 2)),
    ):
        back = store.get(store.put(array, np.ndarray))
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
    assert store.put(np.arange(3)) == store.put(np.arange(6)[::2] // 2)


def test_files_and_folders_are_copied(store, tmp_path):
    file = tmp_path / "report.html"
    file.write_text("hello")
    artifact = store.put(file, Path)
    assert artifact.path.endswith("/report.html")
    file.write_text("changed")
    mine = store.get(artifact, Path, tmp_path / "mine")
    assert (mine.name, mine.read_text()) == ("report.html", "hello")
    mine.write_text("mine")
    assert store.get(artifact, Path, tmp_path / "mine").read_text() == "hello"
    folder = tmp_path / "folder"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a.txt").write_text("a")
    kept = store.put(folder)
    assert (store.get(kept, Path, tmp_path / "mine") / "in" / "a.txt").read_text() == "a"
    assert store.has(kept)
    (folder / "in" / "a.txt").write_text("b")
    assert store.put(folder).digest != kept.digest


@pytest.mark.parametrize(
    ("value", "note", "message"),
    [
        ("x", int, "it is annotated int and is str"),
        (True, int, "it is annotated int and is bool"),
        (None, int, "it is annotated int and is None"),
        ([1, "a"], list[int], r"it is annotated list\[int\] and is list: Expected int, got str - at \$\[1\]"),
        ("2024-01-01", dt.date, "it is annotated datetime.date and is str"),
        (["2024-01-01"], list[dt.date], "is list with str inside"),
        ({"x": 1, "at": AT}, Point, "Point and is dict"),
        (pl.DataFrame(), pd.DataFrame, "it is annotated pandas.DataFrame and is polars.DataFrame"),
        (3, pd.DataFrame | None, r"it is annotated pandas.*DataFrame \| None and is int"),
        (AT, ANY, "it holds datetime.datetime, which JSON does not keep apart from others; say so in the annotation"),
        ({"a": AT}, dict, "it holds datetime.datetime"),
        ({1: 2}, ANY, "it holds int as a key"),
        ({1, 2}, ANY, "it holds set"),
        (Point(1.0, AT), ANY, "it holds .*Point"),
        (object(), ANY, "it is object, which cannot be kept: .* allow_pickle = true"),
        ([object()], list, "it is list with something inside that is none of these"),
        (lambda: 1, ANY, "it is function, which cannot be kept"),
        (np.array([object()]), ANY, "it is a numpy array of objects"),
        (pd.DataFrame({"a": [object()]}), ANY, "it is pandas.DataFrame, which is no table that Arrow can hold"),
        (Path("/nowhere/at/all"), Path, "it is the path '/nowhere/at/all', and there is nothing"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(store, value, note, message):
    with pytest.raises(Unfit, match=message) as caught:
        store.put(value, note)
    assert "\n" not in str(caught.value)


def test_anything_else_only_where_pickles_are_allowed(tmp_path):
    value: Any = complex(1, 2)
    with opened(tmp_path, allow_pickle=True) as store:
        artifact = store.put(value)
        assert artifact.type == "pickle"
        assert store.get(artifact) == value
    with opened(tmp_path, allow_pickle=False) as store, pytest.raises(ArtifactError, match="allow_pickle"):
        store.get(artifact)


def test_an_artifact_that_is_gone_is_an_error(store):
    artifact = store.put([1])
    (store.root / artifact.path).unlink()
    with pytest.raises(ArtifactError, match="is gone; run the step that makes it again"):
        store.get(artifact)


def test_scratch_of_a_dead_process_is_removed(tmp_path):
    left = tmp_path / "steps" / "scratch" / "left"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "half").touch()
    with opened(tmp_path, allow_pickle=False) as store:
        assert not left.exists()
        with opened(tmp_path, allow_pickle=False):
            assert store.scratch.exists()
    assert not store.scratch.exists()
