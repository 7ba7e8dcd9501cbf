"""A project whose online store is a server that others share: it goes away, comes back, comes back empty; definitions
change while somebody reads."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from tests.project import Shop, copy, finished, forget_package
from tests.redis_server import Server, any_running

import headway as hw
from headway.orchestrate._collect import collect

DAY = 86_400_000_000


@pytest.fixture
def server() -> Iterator[Server]:
    with any_running() as server:
        yield server


@pytest.fixture
def shop(tmp_path, tmp_path_factory: pytest.TempPathFactory, server: Server) -> Shop:
    """The finished project, moved to the server: nothing of it is there yet."""
    shop = copy(finished(tmp_path_factory), tmp_path / "shop")
    with (shop.root / "headway.toml").open("a") as file:
        file.write(f'online = "{server.url}"\n')
    return shop


def load(shop: Shop) -> hw.project.Project:
    forget_package()
    return hw.load(shop.root)


def differences(shop: Shop) -> list[dict[str, int]]:
    return [row["differences"] for row in shop.call("features", "verify", "--json").json()]


def test_what_the_project_serves_is_what_it_served_from_lmdb(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory, server: Server
) -> None:
    shop.call("run")  # nothing has changed but the place
    assert differences(shop) == [{}, {}]
    keys = {"shop_id": [4, 0, 99, None, 4]}
    with load(finished(tmp_path_factory)) as embedded:
        expected = embedded.online.read(["sales", "footfall"], keys)
    with load(shop) as project:
        assert project.online.read(["sales", "footfall"], keys).equals(expected)
    with server.client() as client:
        assert all(key.startswith(b"headway:{shop:local}:") for key in client.keys("*"))
    (store,) = [f for f in shop.call("doctor", "--json", code=None).json() if f["what"] == "online store"]
    assert store["ok"]
    assert "redis (stable), 2 view definitions" in store["found"]


def test_a_server_that_goes_away_costs_one_sentence_and_nothing_is_lost(shop: Shop, server: Server) -> None:
    server.stop(signal.SIGKILL)
    said = shop.call("features", "materialize", code=1).err
    assert said.count("cannot be reached") == 1
    (store,) = [f for f in shop.call("doctor", "--json", code=None).json() if f["what"] == "online store"]
    assert "cannot be reached" in store["found"]
    server.start()
    shop.call("run")
    assert differences(shop) == [{}, {}]

    server.stop(signal.SIGKILL)  # and comes back with what it had
    server.start()
    assert differences(shop) == [{}, {}]
    assert "nothing to do" in shop.call("run").out

    with server.client() as client:
        client.flushall()  # and comes back empty
    shop.call("run")
    assert differences(shop) == [{}, {}]


def test_doctor_says_how_the_server_would_lose_rows(shop: Shop, server: Server) -> None:
    with server.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
    found = [f for f in shop.call("doctor", "--json", code=None).json() if f["what"] == "online store"]
    assert [f["ok"] for f in found] == [True, False, False]
    assert "appendonly" in found[1]["mend"]
    assert "noeviction" in found[2]["mend"]


def test_a_changed_definition_is_put_beside_the_old_one_which_goes_later(shop: Shop) -> None:
    shop.call("run")
    with load(shop) as project:
        before = {plan.fingerprint for plan in project.features.plans().values()}
        old = project.features.plans()["footfall"].fingerprint
    shop.edit("shop/features.py", 'hw.count(window="7d")},\n)', 'hw.count(window="6d")},\n)')
    shop.call("run")
    with load(shop) as project:
        store = project.parts.open_online(True)
        try:
            assert before <= {prefix.hex() for prefix in store.prefixes()}  # whoever still reads the old one, may
            assert project.features.collect() == []
            kept = project.features.needed().keys()
            assert collect(project.parts, lambda: {*kept, old}, grace=1) == []  # needed again: the hour begins anew
            assert collect(project.parts, lambda: {*kept}, grace=1) == []
            assert collect(project.parts, lambda: {*kept}, grace=DAY) == []
            assert collect(project.parts, lambda: {*kept}, grace=1) == [old]
            assert {prefix.hex() for prefix in store.prefixes()} == set(kept)
        finally:
            store.close()
    assert differences(shop) == [{}, {}]
