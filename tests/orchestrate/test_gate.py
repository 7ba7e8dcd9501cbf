"""Which version answers: the gate, the champion's twin, going back, holding and releasing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from tests.project import Shop, forget_package

import headway as hw

BETTER, WORSE = '"alpha": 1.0', '"alpha": 1e9'


def retrain(shop: Shop, params: str, code: int) -> list[dict[str, Any]]:
    text = (shop.root / "shop/models.py").read_text()
    before = next(p for p in ('"alpha": 1000.0', BETTER, WORSE) if p in text)
    shop.edit("shop/models.py", before, params)
    items: list[dict[str, Any]] = shop.call("run", "--json", code=code).json()
    return items


def log(shop: Shop) -> list[tuple[str, int | None]]:
    return [(line["action"], line["version"]) for line in shown(shop)["log"]]


def shown(shop: Shop) -> dict[str, Any]:
    found: dict[str, Any] = shop.call("models", "show", "delivery", "--json").json()
    return found


def answers(shop: Shop) -> list[float]:
    forget_package()
    with hw.load(shop.root) as project:
        found = project.predict(
            "delivery", {"shop_id": [0, 1, 2, 3, 4, 99], "distance": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
        )
    values: list[float] = found["prediction"].to_pylist()
    return values


def test_a_worse_version_is_refused_beside_the_champions_twin(shop: Shop) -> None:
    before = answers(shop)
    items = retrain(shop, WORSE, 3)
    refused = [i for i in items if i["outcome"] == "refused"]
    assert [i["stage"] for i in refused] == ["promote"]
    assert log(shop) == [("promote", 1)]
    judged = shop.call("train", "delivery", "--json", code=3).json()
    assert judged["trained"] is False
    assert judged["version"]["version"] == 2
    gate, figures = judged["gate"], shop.call("models", "show", "delivery", "1", "--json").json()["version"]["metrics"]
    assert not gate["passed"]
    assert gate["champion_version"] == 1
    assert gate["rows"] == judged["version"]["test_rows"]
    # The rows are those version 1 was tested on, so its twin's figure is the one it was registered with.
    assert gate["champion"] == pytest.approx(figures["mae"], rel=1e-9)
    assert gate["candidate"] == judged["version"]["metrics"]["mae"]
    assert answers(shop) == before


def test_a_refusal_is_told_every_time_until_somebody_decides(shop: Shop) -> None:
    retrain(shop, WORSE, 3)
    assert "refused version 2" in shop.call("run", code=3).err
    shop.call("models", "promote", "delivery", "2", "--why", "we want it all the same")
    assert shop.call("run").code == 0
    assert log(shop) == [("promote", 1), ("promote", 2)]


def test_the_twin_is_judged_with_its_own_features_and_code(shop: Shop) -> None:
    first = shown(shop)["version"]["metrics"]["mae"]
    shop.edit("shop/helpers.py", "return value / (distance + 1.0)", "return value * 0.0")
    shop.edit("shop/features.py", 'hw.count(window="7d"), "minutes_7d"', 'hw.count(window="1d"), "minutes_7d"')
    retrain(shop, WORSE, 3)
    gate = shop.call("train", "delivery", "--json", code=3).json()["gate"]
    assert gate["champion"] == pytest.approx(first, rel=1e-9)


def test_a_better_version_is_promoted_and_rollback_brings_back_the_answers(shop: Shop) -> None:
    first = answers(shop)
    retrain(shop, BETTER, 0)
    assert shown(shop)["live"] == 2
    second = answers(shop)
    assert second != first
    told = shop.call("rollback", "delivery", "--why", "the night was odd").out
    assert "delivery@1 answers again in place of version 2" in told
    assert answers(shop) == first
    assert shown(shop)["live"] == 1
    assert log(shop) == [("promote", 1), ("promote", 2), ("rollback", 1)]


def test_a_rollback_holds_promotion_until_released(shop: Shop) -> None:
    retrain(shop, BETTER, 0)
    shop.call("rollback", "delivery", "--why", "the night was odd")
    assert "nothing to do" in shop.call("run").out  # what was taken back is not promoted again
    shop.edit("shop/helpers.py", "distance + 1.0", "distance + 0.5")
    held = shop.call("run", code=3)
    assert "release" in held.err
    assert shown(shop)["live"] == 1
    assert shop.call("models", "list", "--json").json()[0]["held"]
    shop.call("models", "release", "delivery", "--why", "understood")
    assert not shop.call("models", "list", "--json").json()[0]["held"]
    shop.call("run")
    assert shown(shop)["live"] == 3
    assert [action for action, _ in log(shop)] == ["promote", "promote", "rollback", "release", "promote"]


def test_rollback_by_the_first_version_has_nowhere_to_go(shop: Shop) -> None:
    refused = shop.call("rollback", "delivery", "--why", "x", code=None)
    assert refused.code in (2, 3)
    assert shown(shop)["live"] == 1


def online(shop: Shop) -> set[str]:
    """Fingerprints with values online."""
    forget_package()
    with hw.load(shop.root) as project:
        store = project.parts.open_online(True)
        try:
            return {prefix.hex() for prefix in store.prefixes()}
        finally:
            store.close()


def fingerprint(shop: Shop, version: int) -> str:
    found: str = shop.call("models", "show", "delivery", str(version), "--json").json()["version"]["serving"]["views"][
        0
    ]["plan"]["fingerprint"]
    return found


def wider_window(shop: Shop) -> None:
    shop.edit("shop/features.py", 'hw.count(window="7d"), "minutes_7d"', 'hw.count(window="8d"), "minutes_7d"')


def test_promotion_by_hand_materializes_the_versions_features_first(shop: Shop) -> None:
    wider_window(shop)
    shop.call("train", "delivery", code=None)
    assert fingerprint(shop, 2) not in online(shop)
    shop.call("models", "promote", "delivery", "2", "--why", "try it")
    assert {fingerprint(shop, 1), fingerprint(shop, 2)} <= online(shop)


def drop_all(shop: Shop) -> None:
    shutil.rmtree(shop.home / "online")


def drop_first(shop: Shop) -> None:
    wanted = bytes.fromhex(fingerprint(shop, 1))
    with hw.load(shop.root) as project:
        store = project.parts.open_online(False)
        store.drop(wanted)
        store.close()


@pytest.mark.parametrize("drop", [drop_first, drop_all])
def test_rollback_without_features_is_refused_with_the_command_that_mends_it(
    shop: Shop, drop: Callable[[Shop], None]
) -> None:
    first = answers(shop)
    wider_window(shop)
    retrain(shop, BETTER, 0)
    drop(shop)
    refused = shop.call("rollback", "delivery", "--why", "back", code=3)
    command = refused.err.partition("`headway ")[2].partition("`")[0]
    assert command
    assert shown(shop)["live"] == 2
    shop.call(*command.split())
    shop.call("rollback", "delivery", "--why", "back")
    assert shown(shop)["live"] == 1
    assert answers(shop) == first
    shop.call("features", "materialize")  # the rest of what the second drop took away
    assert all(r["differences"] == {} for r in shop.call("features", "verify", "--json").json())
