"""The catalog: from the column of a source to the model, what the values are like, and the code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.project import Shop, forget_package
from tests.semantics.lab import Lab, lab, t, table

import headway as hw
from headway.data.online import OnlineReader
from headway.orchestrate import statistics
from headway.orchestrate.catalog import ViewEntry
from headway.project import Project

DECLARED = """
raw = hw.Source("raw", path="data/raw.parquet", id="id", timestamp="at", created="seen")
places = hw.Source("places", path="data/places.parquet")
trips = hw.Source("trips", id="id", timestamp="at", created="seen", owner="data",
    query='''select r.* exclude (x), coalesce(r.x, 0) as amount, p.name as place, zone || code as both
             from raw r join places p on p.zone_id = r.zone''')
kept = hw.Source("kept", timestamp="at", query="select * from trips where amount > 1")

# The traffic of everybody.
traffic = hw.FeatureView(
    "traffic", source=kept, entity=who, keys={"k": "user_id"}, refresh="1h", ttl="2h", owner="mobility",
    description="What everybody did",
    features={
        "n": hw.count(window="1h"),
        "much": hw.sum("amount", window="1h", where="place <> 'x'"),
        "last": "place",
        "word": "both",
        "each": hw.expr("much / nullif(n, 0)"),
    },
)
if True:
    inner = [hw.FeatureView("inner", source=raw, entity=who, keys={"k": "user_id"}, features={"x": "x"})]
both = hw.FeatureSet("both", [traffic["n", "each"], inner[0]])
"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Lab]:
    rows = [(n, n % 4, n % 2, t(f"11:{n:02d}"), t("11:59"), n / 2 or None, "c") for n in range(40)]
    raw = table("id user_id zone at seen x code", *rows)
    places = table("zone_id name", (0, "x"), (1, "y"))
    with lab(tmp_path / "lab", DECLARED, now="2024-01-10T12:30", raw=raw, places=places) as opened:
        yield opened


def entry(project: Project, name: str) -> ViewEntry:
    (found,) = project.features.listing([name])
    return found


def test_columns_are_followed_to_the_files(made: Lab) -> None:
    found = {f.name: f for f in entry(made.project, "traffic").features}
    assert found["n"].columns == found["n"].origins == ()
    assert found["much"].columns == ("amount", "place")
    assert found["much"].origins == ("places.name", "raw.x")
    assert found["last"].origins == ("places.name",)
    assert found["word"].origins == ("raw.code", "raw.zone")  # the text does not say whose, the columns do
    assert found["each"].origins == found["much"].origins
    assert found["each"].computed == "much / nullif(n, 0)"
    assert found["much"].computed == "sum(amount, where=\"place <> 'x'\")"


def test_a_view_says_who_it_is_and_what_it_is_made_of(made: Lab) -> None:
    found = entry(made.project, "traffic")
    assert (found.owner, found.description, found.key_columns) == ("mobility", "What everybody did", {"k": "user_id"})
    assert found.lineage == ("places", "raw", "trips")
    assert found.time_columns == ("at",)
    assert found.sets == ("both",)
    assert found.place.startswith("lab/__init__.py:")
    assert found.code.startswith('traffic = hw.FeatureView(\n    "traffic", source=kept')
    assert found.code.endswith("\n)")
    assert entry(made.project, "inner").code.startswith("inner = [hw.FeatureView(")


def test_freshness_is_what_serving_says(made: Lab) -> None:
    assert entry(made.project, "traffic").fresh == "never materialized"
    made.refresh("traffic")
    found = entry(made.project, "traffic")
    for clock, fresh, state in (
        ("12:59", "fresh", "ok"), ("13:00", "late", "late"), ("14:59", "late", "late"), ("15:00", "expired", "expired")
    ):  # fmt: skip
        made.now(clock)
        found = entry(made.project, "traffic")
        assert found.fresh == fresh
        ((_, states),) = made.stated("traffic", 1)
        assert states[0] == state
    assert found.late_by == 3 * 3_600_000_000
    assert found.expected == found.late_by + (found.as_of or 0)


def test_statistics_are_worked_out_when_asked_and_kept_with_their_as_of(made: Lab) -> None:
    assert made.project.features.statistics("traffic") is None
    made.refresh("traffic")
    assert entry(made.project, "traffic").statistics is None
    worked_out = made.project.features.statistics("traffic")
    kept = entry(made.project, "traffic").statistics
    assert kept == worked_out
    assert kept is not None
    assert (kept.entities, kept.stored, kept.states) == (4, 4, {"ok": 20})
    much = kept.features["much"]
    assert (much.rows, much.nulls, much.distinct) == (4, 2, 2)  # of even zones the place is x
    assert [s.value for s in kept.features["last"].shares] == ["x", "y"]
    made.now("13:30")
    made.refresh("traffic")
    later = entry(made.project, "traffic")
    assert later.statistics == kept  # and says of which refresh it is
    assert later.as_of != kept.as_of


def test_a_sample_of_the_entities_is_bounded_and_always_the_same(made: Lab) -> None:
    made.refresh("traffic", "inner")
    store = made.project.parts.open_online(True)
    plan = made.project.features.plans()["traffic"]
    try:
        found = [statistics.view_statistics(made.project.parts, plan, store, entities=3) for _ in range(2)]
        assert found[0] == found[1]
        assert found[0] is not None
        assert (found[0].entities, found[0].stored) == (3, 4)
        assert OnlineReader(store).watermark(plan) is not None
    finally:
        store.close()


def test_usage_is_told_by_model_version_and_function(shop: Shop) -> None:
    forget_package()
    with hw.load(shop.root) as project:
        sales, footfall = entry(project, "sales"), entry(project, "footfall")
        assert sales.used_by == ("delivery",)
        assert sales.functions == ("at_request",)
        assert [(v.model, v.version, v.role, v.same) for v in sales.versions] == [("delivery", 1, "live", True)]
        assert {f.name: f.models for f in sales.features} == {"orders_7d": ("delivery",), "minutes_7d": ("delivery",)}
        assert (footfall.used_by, footfall.versions, footfall.features[0].models) == ((), (), ())
        assert sales.verified is None
        project.features.verify(["sales"])
        assert entry(project, "sales").verified is not None
    shop.edit("shop/features.py", 'hw.mean("minutes", window="7d")', 'hw.mean("minutes", window="6d")')
    forget_package()
    with hw.load(shop.root) as project:
        (version,) = entry(project, "sales").versions
        assert not version.same
    forget_package()


@pytest.mark.parametrize(("clock", "severity"), [("01:59", None), ("03:59", "warning"), ("04:00", "critical")])
def test_status_says_of_a_view_what_serving_says(shop: Shop, clock: str, severity: str | None) -> None:
    """A refresh that may be under way is no trouble; what is served as null is, from the moment on that it is."""
    forget_package()
    with hw.load(shop.root, clock=f"2024-03-01T{clock}:00Z") as project:
        found = {t.what: t for t in project.monitoring.status() if t.kind == "features"}
        assert found.keys() == ({"sales"} if severity else set())  # no version needs footfall
        if severity:
            assert found["sales"].severity == severity
        states = project.online.read("sales", {"shop_id": [1]}).column("_state").to_pylist()
        assert states[0]["minutes_7d"] == ("expired" if severity == "critical" else "late")
    forget_package()
