"""Feature sets of a project: read by name in Python, over HTTP and on the command line; the same as history says."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest
from tests.project import Shop, forget_package

import headway as hw
from headway.clock import from_iso
from headway.errors import BindingError, NotFoundError, UsageError
from headway.orchestrate.serving import open_service
from headway.serve import Server, bind
from headway.settings import load_settings

SETS = """
import headway as hw

from shop.features import footfall, sales

ranking = hw.FeatureSet(
    "ranking",
    [sales["orders_7d"], footfall.alias("nearby", keys={"shop_id": "nearby_id"}), sales["minutes_7d"]],
    owner="search",
)
"""
COLUMNS = ("sales__orders_7d", "sales__minutes_7d", "nearby__visits_7d")
KEYS = {"shop_id": [0, 4, 999, None], "nearby_id": [1, None, 3, 0]}


@pytest.fixture
def ranked(shop: Shop) -> Shop:
    """The project with a set, which was put online."""
    (shop.root / "shop" / "sets.py").write_text(SETS)
    shop.call("run")
    return shop


@contextlib.contextmanager
def served(shop: Shop, now: int) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server of the project's environment, which imports nothing of the project."""
    with open_service(load_settings(shop.root), lambda: now) as service:
        listener = bind("127.0.0.1", 0)
        server = Server(service.app, grace=0)
        thread = threading.Thread(target=server.run, args=([listener],))
        service.start()
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=20)
        try:
            while not (server.started and service.router.table.built):
                thread.join(0.01)
            yield connection
        finally:
            connection.close()
            server.should_exit = True
            thread.join()
            service.stop()


def test_python_http_arrow_and_history_say_the_same(ranked: Shop) -> None:
    forget_package()
    with hw.load(ranked.root) as project:
        now = project.parts.clock.now()
        online = project.online.read("ranking", KEYS)
        assert online.column_names[2:5] == list(COLUMNS)
        moments = pa.array([now] * 4, pa.timestamp("us", "UTC"))
        spine = pa.table({**KEYS, "ts": moments})
        history = project.features.historical(spine, "ranking")
        assert history.column_names[3:] == list(COLUMNS)
        assert history.select(COLUMNS).to_pydict() == online.select(COLUMNS).to_pydict()
        assert online.column("sales__orders_7d").to_pylist()[0] > 0
        again = project.online.read(project.declarations.sets["ranking"], pa.table(KEYS))
        assert again.equals(online)
        listed = project.online.read([*project.declarations.sets["ranking"].selections], KEYS)
        assert listed.equals(online)
    with served(ranked, now) as connection:
        connection.request("POST", "/v1/features/ranking", json.dumps({"entities": KEYS}))
        answer = json.loads(connection.getresponse().read())
        assert answer["features"] == online.select(COLUMNS).to_pydict()
        headers = {"accept": "application/vnd.apache.arrow.stream"}
        connection.request("POST", "/v1/features/ranking", json.dumps({"entities": KEYS}), headers)
        table = pa.ipc.open_stream(connection.getresponse().read()).read_all()
        assert table.select(COLUMNS).equals(online.select(COLUMNS))
        for view in ("sales", "nearby"):
            assert table.column(f"{view}_as_of").equals(online.column(f"{view}_as_of"))


def test_models_take_sets(shop: Shop) -> None:
    made = 'ranking = hw.FeatureSet("ranking", [sales["orders_7d"], sales["minutes_7d"]])\n\n\n'
    shop.edit("shop/features.py", "@hw.request_features", f"{made}@hw.request_features")
    shop.edit("shop/models.py", "import at_request, sales", "import at_request, ranking")
    shop.edit("shop/models.py", "features=[sales,", "features=[ranking,")
    shop.call("run", "delivery")
    forget_package()
    with hw.load(shop.root) as project:
        version = project.models.versions("delivery")[-1]
        columns = [column.name for column in version.serving.columns]
        assert columns[:2] == ["sales__orders_7d", "sales__minutes_7d"]
        assert [use.prefix for use in version.serving.views][:1] == ["sales"]


def test_on_the_command_line(ranked: Shop) -> None:
    rows = ranked.call("features", "get", "ranking", "shop_id=0,4", "nearby_id=1", "--json").json()
    assert [(row["shop_id"], row["nearby_id"]) for row in rows] == [(0, 1), (4, 1)]
    assert rows[0]["sales__orders_7d"] > 0
    said = ranked.call("features", "get", "ranking", "shop_id=0", code=2).err
    assert "set 'ranking' needs the keys shop_id, nearby_id; nearby_id is missing" in said
    assert "key of set 'ranking'" in ranked.call("features", "get", "ranking", "shop=0", code=2).err
    assert "did you mean 'ranking'?" in ranked.call("features", "get", "rankin", "shop_id=0", code=2).err
    (listed,) = ranked.call("features", "list", "--sets", "--json").json()
    assert listed["name"] == "ranking"
    assert listed["keys"] == ["shop_id", "nearby_id"]
    assert listed["columns"] == list(COLUMNS)
    assert listed["owner"] == "search"
    assert "ranking" in ranked.call("features", "list", "--sets").out


def test_a_set_means_what_was_put_online_last(ranked: Shop) -> None:
    """A change of a view is served once it is there; a set that is gone from the project is gone from servers."""
    forget_package()
    with hw.load(ranked.root) as project:
        before = project.parts.metadata.published.features().sets["ranking"]
    ranked.edit("shop/features.py", '"visits_7d": hw.count(window="7d")', '"visits_7d": hw.count(window="14d")')
    forget_package()
    with hw.load(ranked.root) as project:
        published = project.parts.metadata.published
        project.features.materialize("sales")
        assert published.features().sets["ranking"] == before
        project.features.collect()  # drops nothing that is still read by name
        fingerprints = {prefix.hex() for prefix in project.parts.open_online(True).prefixes()}
        assert {use.plan.fingerprint for use in before} <= fingerprints
        project.features.materialize("footfall")
        after = published.features().sets["ranking"]
        assert after[0].plan.fingerprint == before[0].plan.fingerprint
        assert after[1].plan.fingerprint != before[1].plan.fingerprint
    (ranked.root / "shop" / "sets.py").unlink()
    ranked.call("run")
    forget_package()
    with hw.load(ranked.root) as project:
        assert project.parts.metadata.published.features().sets == {}
        with pytest.raises(NotFoundError, match="ranking"):
            project.online.read("ranking", KEYS)


def test_a_view_that_goes_back_to_what_it_was_is_served_so(shop: Shop) -> None:
    def fingerprints() -> tuple[str, str]:
        forget_package()
        with hw.load(shop.root) as project:
            plan = project.features.plans()["footfall"]
            return plan.fingerprint, project.parts.metadata.published.features().views["footfall"].fingerprint

    first = fingerprints()
    assert first[0] == first[1]
    shop.edit("shop/features.py", '"visits_7d": hw.count(window="7d")', '"visits_7d": hw.count(window="14d")')
    shop.call("run")
    changed = fingerprints()
    assert changed[0] == changed[1] != first[0]
    shop.edit("shop/features.py", '"visits_7d": hw.count(window="14d")', '"visits_7d": hw.count(window="7d")')
    shop.call("run")
    assert fingerprints() == first


def test_keys_of_two_types(shop: Shop) -> None:
    text = "import headway as hw\nfrom shop.features import sales\nfrom shop.sources import shops\n"
    text += 'cities = hw.FeatureView("cities", source=shops, entity=hw.Entity("city", key="city"), features={"s": "shop_id"})\n'
    text += 'odd = hw.FeatureSet("odd", [sales, cities.alias("c", keys={"city": "shop_id"})])\n'
    (shop.root / "shop" / "sets.py").write_text(text)
    shop.call("run", "cities", "sales")  # a set that fits nobody stops nothing
    forget_package()
    with hw.load(shop.root) as project:
        with pytest.raises(BindingError, match="key 'shop_id' is of type int64 in 'sales' and of type string in 'c'"):
            project.online.read("odd", {"shop_id": [1]})
        assert project.parts.metadata.published.features().sets == {}


def test_a_stage_that_is_closed_opens_again(ranked: Shop) -> None:
    forget_package()
    project = hw.load(ranked.root, clock=from_iso("2024-03-01T00:30:00Z"))
    keys = {name: values[:1] for name, values in KEYS.items()}
    first = project.online.read("ranking", keys)
    project.close()
    assert project.online.read("ranking", keys).equals(first)
    project.close()
    with pytest.raises(UsageError, match="expected a feature view"):
        project.online.read(["ranking", 3], keys)  # type: ignore[list-item]
    project.close()
