"""What is found in a project's package, and what is refused when everything is seen together."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headway.define._collect import Declarations, collect
from headway.errors import DefinitionError

BASE = """
    import headway as hw
    trips = hw.Source("trips", path="t.parquet", id="trip_id", timestamp="pickup_at")
    zones = hw.Source("zones", path="z.parquet")
    zone = hw.Entity("zone", key="zone_id")
"""
Load = Callable[..., Declarations]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Write modules of the package ``proj`` and collect it."""

    def load(root: str = "a", **modules: str) -> Declarations:
        package = tmp_path / root / "proj"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        for name, text in modules.items():
            (package / f"{name}.py").write_text(textwrap.dedent(text))
        return collect("proj", tmp_path / root)

    path = list(sys.path)
    yield load
    sys.path[:] = path
    for name in [n for n in sys.modules.copy() if n.split(".")[0] == "proj"]:
        del sys.modules[name]


def test_objects_are_found_in_namespaces_and_containers_and_through_each_other(load: Load) -> None:
    found = load(
        things="""
        import headway as hw
        hidden = {"list": [(hw.Source("a", path="a.csv"),)], "set": {hw.Entity("e", key="k")}}
        views = [
            hw.FeatureView("v", source=hw.Source("inner", path="i.csv", timestamp="at"), entity=hw.Entity("z", key="k"),
                           features={"n": hw.count()})
        ]
        @hw.request_features(inputs=[views[0]["n"]])
        def f(n):
            return {"m": n}
        model = hw.Model("m", label=hw.Label(hw.Source("labels", path="l.csv", timestamp="at"), "y"), features=[f],
                         estimator="x:Y")
        batch = [hw.BatchPrediction("b", model=model, input=hw.Source("rows", path="r.csv"), output="lake:out")]
        itself = []
        itself.append(itself)
        """,
        again="from proj.things import views, model",
    )
    assert set(found.sources) == {"a", "inner", "labels", "rows"}
    assert set(found.entities) == {"e", "z"}
    assert (set(found.views), set(found.models), set(found.batches)) == ({"v"}, {"m"}, {"b"})
    assert set(found.functions) == {"f"}
    assert found.package == "proj"


def test_submodules_of_subpackages_are_imported(load: Load, tmp_path: Path) -> None:
    inner = tmp_path / "a" / "proj" / "deep"
    inner.mkdir(parents=True)
    (inner / "__init__.py").touch()
    (inner / "x.py").write_text('import headway as hw\nz = hw.Source("z", path="z.csv")\n')
    assert set(load().sources) == {"z"}


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (
            {"a": BASE, "b": 'import headway as hw\nx = hw.Source("zones", path="q.csv")\n'},
            r"source 'zones' \(.*b\.py:2\): another source at .*a\.py:4 has the same name",
        ),
        ({"a": "import numpy\nx = y + 1\n"}, r"module 'proj\.a' cannot be imported \(.*a\.py:2\): NameError: name 'y'"),
        ({"a": "x = (\n"}, r"module 'proj\.a' cannot be imported \(.*a\.py:1\): SyntaxError"),
        ({"a": "import sys\nsys.exit(3)\n"}, r"module 'proj\.a' cannot be imported \(.*a\.py:2\): SystemExit: 3"),
        ({"a": "import nowhere_at_all\n"}, r"\(.*a\.py:1\): ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (
            {"a": 'import headway as hw\nx = hw.Source("zo nes", path="q.csv")\n'},
            r"source \(.*a\.py:2\): 'zo nes' is not",
        ),
        (
            {"a": BASE + '    q = hw.Source("q", query="select * from zonez")\n'},
            r"source 'q' \(.*a\.py:6\): its query reads 'zonez', which is no source; did you mean 'zones'\?",
        ),
        (
            {
                "a": """
                import headway as hw
                q = hw.Source("q", query="select * from r")
                r = hw.Source("r", query="select * from q")"""
            },
            r"source '.' \(.*a\.py:\d\): its query reads itself: q → r → q",
        ),
        (
            {"a": BASE + '    q = hw.Source("q", query="select sum(a) as s from zones")\n'},
            r"source 'q' \(.*a\.py:6\): SUM\(a\) adds up rows",
        ),
    ],
)
def test_what_is_refused_names_object_file_and_line(load: Load, modules: dict[str, str], message: str) -> None:
    with pytest.raises(DefinitionError, match=message) as caught:
        load(**modules)
    assert "\n" not in str(caught.value)


def test_one_name_may_stand_for_objects_of_different_kinds(load: Load) -> None:
    found = load(a=BASE + '    e = hw.Entity("zones", key="k")\n')
    assert "zones" in found.sources
    assert "zones" in found.entities


def test_a_missing_an_empty_and_a_badly_named_package(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="there is no package 'proj' in"):
        collect("proj", tmp_path)
    (tmp_path / "proj").mkdir()
    with pytest.raises(DefinitionError, match="has no modules"):
        collect("proj", tmp_path)
    with pytest.raises(DefinitionError, match="cannot be called 'json'"):
        collect("json", tmp_path)


def test_two_projects_with_packages_of_one_name_do_not_mix(load: Load) -> None:
    first = load(
        "a",
        helper="NAME = 'first'\n",
        main="import headway as hw\nfrom proj.helper import NAME\ns = hw.Source(NAME, path='x.csv')\n",
        only_here="import headway as hw\nt = hw.Source('t', path='t.csv')\n",
    )
    second = load(
        "b",
        helper="NAME = 'second'\n",
        main="import headway as hw\nfrom proj.helper import NAME\ns = hw.Source(NAME, path='x.csv')\n",
    )
    assert set(first.sources) == {"first", "t"}
    assert set(second.sources) == {"second"}
    assert load("a").sources.keys() == first.sources.keys()


def test_loading_a_project_again_finds_the_same_objects(load: Load) -> None:
    assert load(a=BASE).sources["zones"] is load().sources["zones"]


EFFECTIVE = """
    import headway as hw
    raw = hw.Source("raw", path="r.csv", timestamp="at")
    prices = hw.Source("prices", path="p.csv", timestamp="at", effective=True)
    now = hw.Source("now", query="select * from raw", timestamp="at", effective=True)
    rows = hw.Source("rows", timestamp="at",
        query="select r.*, p.price, r.x + p.price as both"
              " from raw r asof left join prices p on r.k = p.k and r.at >= p.at")
    view = hw.FeatureView("v", source={view}, entity=hw.Entity("e", key="k"), features={{"p": "price"}})
    model = hw.Model("m", label=hw.Label(rows, "{label}"), features=[view], estimator="x:Y")
"""


@pytest.mark.parametrize(("view", "label"), [("now", "y"), ("prices", "price"), ("prices", "both"), ("now", "both")])
def test_an_effective_source_may_not_feed_a_model_whose_label_it_supplies(load: Load, view: str, label: str) -> None:
    with pytest.raises(
        DefinitionError, match=rf"model 'm' \(.*a\.py:10\): its view 'v' reads '{view}', which is effective"
    ):
        load(a=EFFECTIVE.format(view=view, label=label))


@pytest.mark.parametrize(("view", "label"), [("prices", "y"), ("raw", "y"), ("rows", "price")])
def test_an_effective_source_next_to_the_label_is_fine(load: Load, view: str, label: str) -> None:
    assert load(a=EFFECTIVE.format(view=view, label=label)).models
