"""Feature sets: what they are made of, and what is refused."""

from __future__ import annotations

import pytest

import headway as hw
from headway.define import as_selections
from headway.define._collect import collect
from headway.errors import DefinitionError, UsageError

trips = hw.Source("trips", path="t.parquet", timestamp="at")
zone = hw.Entity("zone", key="zone_id")
traffic = hw.FeatureView(
    "traffic", source=trips, entity=zone, refresh="1h", features={"n": hw.count(window="1h"), "last": hw.last("x")}
)
fares = hw.FeatureView("fares", source=trips, entity=zone, features={"fare": "fare"})
PICKUP = traffic.alias("pickup", keys={"zone_id": "pickup_zone_id"})


def test_a_set_is_its_views_in_order() -> None:
    made = hw.FeatureSet("ranking", [PICKUP, traffic["last"], fares], owner="search", description="d", tags=["t"])
    assert made.columns == ("pickup__n", "pickup__last", "traffic__last", "fares__fare")
    assert [s.prefix for s in made.selections] == ["pickup", "traffic", "fares"]
    assert (made.name, made.owner, made.description, made.tags) == ("ranking", "search", "d", ("t",))


def test_a_set_may_hold_sets_and_selections_of_one_view() -> None:
    inner = hw.FeatureSet("inner", [traffic["last"], fares])
    assert hw.FeatureSet("outer", [inner, traffic["n"]]).columns == ("traffic__last", "traffic__n", "fares__fare")
    assert hw.FeatureSet("one", traffic).columns == ("traffic__n", "traffic__last")
    assert [s.prefix for s in as_selections([inner, PICKUP])] == ["traffic", "fares", "pickup"]
    with pytest.raises(UsageError, match="expected a feature view"):
        as_selections([3])


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ([], "it has no features"),
        ([traffic, traffic["n"]], "feature traffic__n is in it twice"),
        ([PICKUP, traffic.alias("pickup")], "'pickup' stands for two views, or for one by different keys"),
        ([fares, traffic.alias("fares")], "'fares' stands for two views"),
        ([zone], "features are views"),
        (["traffic"], "features are views"),
    ],
)
def test_what_a_set_cannot_be(features, says) -> None:
    with pytest.raises(DefinitionError, match=says) as caught:
        hw.FeatureSet("ranking", features)
    assert "feature set 'ranking'" in str(caught.value)
    assert "test_feature_set.py" in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a__b", "1a"])
def test_names(name) -> None:
    with pytest.raises(DefinitionError, match="is not a name"):
        hw.FeatureSet(name, [traffic])


def test_models_and_functions_take_what_a_set_is_made_of() -> None:
    made = hw.FeatureSet("ranking", [PICKUP, fares])

    @hw.request_features(inputs=[made])
    def ratio(n, last, fare):
        return {"r": n / fare}

    model = hw.Model("m", label=hw.Label(trips, "y"), features=[made, ratio], estimator="x:Y")
    assert ratio.columns == made.columns
    assert [s.prefix for s in model.features[:2]] == ["pickup", "fares"]
    with pytest.raises(DefinitionError, match="two features are called 'fares__fare'"):
        hw.Model("m", label=hw.Label(trips, "y"), features=[made, fares], estimator="x:Y")


PROJECT = """
import headway as hw
source = hw.Source("s", path="s.parquet", timestamp="at")
view = hw.FeatureView("v", source=source, entity=hw.Entity("e", key="k"), features={"x": "x"})
sets = {"one": hw.FeatureSet("ranking", [view])}
"""


def test_sets_are_collected(tmp_path) -> None:
    (tmp_path / "setproj").mkdir()
    (tmp_path / "setproj" / "__init__.py").write_text(PROJECT)
    found = collect("setproj", tmp_path)
    assert set(found.sets) == {"ranking"}
    assert set(found.views) == {"v"}


def test_a_set_and_a_view_have_two_names(tmp_path) -> None:
    (tmp_path / "clashing").mkdir()
    (tmp_path / "clashing" / "__init__.py").write_text(PROJECT.replace('"ranking"', '"v"'))
    with pytest.raises(DefinitionError, match="the feature view at .* has the same name"):
        collect("clashing", tmp_path)
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "__init__.py").write_text(PROJECT + 'again = hw.FeatureSet("ranking", [view])\n')
    with pytest.raises(DefinitionError, match="another feature set at .* has the same name"):
        collect("twice", tmp_path)
