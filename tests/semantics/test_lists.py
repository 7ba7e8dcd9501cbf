"""Features that are lists, and those that look back from a past moment, from the file to what is served."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from tests.semantics.conftest import Maker
from tests.semantics.http import served
from tests.semantics.lab import t, table

from headway.data.compute import snapshot
from headway.data.online import pack
from headway.errors import BindingError, DataError, UsageError

ARROW = "application/vnd.apache.arrow.stream"
VECTOR = pa.list_(pa.float32())
DECLARED = """
s = hw.Source("s", path="data/s.parquet", timestamp="ts")
v = hw.FeatureView("v", source=s, entity=who, refresh="1h", features={
    "embedding": hw.vector("e", dim=3), "twice": hw.vector("[2 * x for x in e]", dim=3),
    "lately": hw.last_n("x", 2, window="1d"), "words": hw.last_n("w", 2), "last_but_one": hw.expr("lately[2]")})
"""
ROWS = table(
    "k ts x w e",
    (1, t("08:00"), 1, "a", [1, 2, 3]),
    (1, t("09:30"), None, "", [4, 5, 6]),
    (1, t("10:30"), 3, None, None),
    (2, t("08:00"), 7, "é", [7, 8, 9]),
    e=VECTOR,
)
NONE = (None, None, None, None, None)


def test_lists_are_served_as_they_are_in_history(make: Maker) -> None:
    lab = make(DECLARED, now="2024-01-10T11:00", s=ROWS)
    first = ([1, 2, 3], [2, 4, 6], [1, None], ["a", None], None)
    then = ([4, 5, 6], [8, 10, 12], [1, None], ["", "a"], None)
    now = (None, None, [3, 1], ["", "a"], 1)
    asked = [(1, t("09:00")), (1, t("10:00")), (1, t("11:00")), (3, t("11:00")), (None, t("11:00")), (1, None)]
    assert lab.past("v", *asked) == [first, then, now, NONE, NONE, NONE]
    assert lab.refresh("v") == ["full"]
    other = ([7, 8, 9], [14, 16, 18], [7, None], ["é", None], None)
    assert lab.served("v", 1, 2, 3, None) == [now, other, NONE, NONE]
    for key, right in ((1, now), (2, other)):
        assert lab.served("v", key) == [right]
    (found,) = lab.project.features.verify(["v"])
    assert (found.passed, found.values) == (True, 10)
    read = lab.project.online.read("v", {"k": [1]})
    assert str(read.schema.field("v__embedding").type) == "fixed_size_list<item: float>[3]"


def test_lists_over_http(make: Maker) -> None:
    lab = make(DECLARED, now="2024-01-10T11:00", s=ROWS)
    lab.refresh("v")
    asked = {"entities": {"k": [1, 2, 3]}}
    with served(lab) as http:
        features = http.post("/v1/features/v", asked)["features"]
        _, _, body = http.send("/v1/features/v", json.dumps(asked).encode(), {"accept": ARROW})
    assert features["embedding"] == [None, [7, 8, 9], None]
    assert features["lately"] == [[3, 1], [7, None], None]
    assert features["words"] == [["", "a"], ["é", None], None]
    right = lab.project.online.read("v", {"k": [1, 2, 3]})
    found = pa.ipc.open_stream(body).read_all()
    for name in ("embedding", "twice", "lately", "words", "last_but_one"):
        assert found.column(name).to_pylist() == right.column(f"v__{name}").to_pylist()
        assert found.column(name).type == right.column(f"v__{name}").type


def test_verify_finds_a_changed_item(make: Maker) -> None:
    lab = make(DECLARED, now="2024-01-10T11:00", s=ROWS)
    lab.refresh("v")
    plan, parts = lab.project.features.plans()["v"], lab.project.parts
    right = snapshot(plan, parts.view(plan).events.part(0), plan.r(lab.clock.now()))
    other = pa.array([None, [7, 8, 9.5]], pa.list_(pa.float32(), 3))
    store = parts.open_online(False)
    for rows in pack(plan, replace(right, features=right.features.set_column(0, "embedding", other))):
        store.put_many(rows)
    store.close()
    (found,) = lab.project.features.verify(["v"])
    assert found.differences == {"embedding": 1}
    assert [(each.keys, each.served, each.recomputed) for each in found.examples] == [
        ({"k": 2}, [7, 8, 9.5], [7, 8, 9])
    ]


def test_vectors_of_another_length_are_refused(make: Maker) -> None:
    lab = make(DECLARED, now="2024-01-10T11:00", s=table("k ts x w e", (1, t("08:00"), 1, "a", [1, 2]), e=VECTOR))
    told = "feature 'embedding' of view 'v' has 3 dimensions, and 1 rows have lists of another length, such as 2"
    with pytest.raises(DataError, match=told):
        lab.past("v", (1, t("09:00")))
    with pytest.raises(DataError, match=told):
        lab.refresh("v")


def test_a_model_takes_no_lists_of_texts(make: Maker) -> None:
    model = """m = hw.Model("m", label=hw.Label(s, "x"), features=[v{}], estimator="sklearn.linear_model:Ridge",
        metrics=["mae"], split=hw.RandomSplit(test=0.5), gate=hw.Gate("mae"))
    """
    lab = make(DECLARED + model.format(""), now="2024-01-10T11:00", s=ROWS)
    with pytest.raises(
        BindingError, match="model 'm' .*: feature 'words' of view 'v' is a list of string, which no estimator"
    ):
        lab.project.train("m")


def test_what_looks_back_without_a_refresh_is_historical_only(make: Maker) -> None:
    features = ('hw.lag("x", "1h")', "hw.time_since_last()", 'hw.count(offset="1h")')
    for feature in features:
        lab = make(
            f"""
            s = hw.Source("s", path="data/s.parquet", timestamp="ts")
            v = hw.FeatureView("v", source=s, entity=who, features={{"f": {feature}}})
            """,
            s=ROWS,
        )
        with pytest.raises(UsageError, match="has windows but no refresh"):
            lab.refresh("v")


def test_only_who_may_have_changed_is_rewritten(make: Maker) -> None:
    """A lag changes when a row grows older than its offset, and at no other refresh."""
    lab = make(
        """
        s = hw.Source("s", path="data/s.parquet", timestamp="ts")
        v = hw.FeatureView("v", source=s, entity=who, refresh="1h", features={"x": hw.lag("x", "24h")})
        """,
        now="2024-01-11T08:00",
        s=ROWS,
    )
    lab.refresh("v")
    assert lab.served("v", 1, 2) == [1, 7]
    written = []
    for hour in range(9, 13):
        lab.now(f"2024-01-11T{hour:02}:00")
        (done,) = lab.project.features.materialize(["v"])
        written.append((done.outcome, done.written))
    assert lab.served("v", 1, 2) == [3, 7]
    assert written[1:] == [("changed", 1), ("changed", 1), ("changed", 0)]
