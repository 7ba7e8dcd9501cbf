"""Verifying, showing and retiring views, as people and programs see it."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
from tests.project import Shop, forget_package

import headway as hw
from headway.data.binding import load_events
from headway.data.compute import snapshot
from headway.data.online import pack


def tamper(shop: Shop) -> None:
    """An older row of one shop over its newer one, and a row of a shop that does not exist."""
    forget_package()
    with hw.load(shop.root) as project:
        parts, plan = project.parts, project.features.plans()["sales"]
        events = load_events(plan, parts.lake, parts.engine)
        now = plan.r(parts.clock.now())
        older = snapshot(plan, events, now - 10 * 86_400_000_000, pa.table({"shop_id": [1]}))
        store = parts.open_online(False)
        for shot in (older, dataclasses.replace(older, keys=pa.table({"shop_id": [99]}))):
            for rows in pack(plan, dataclasses.replace(shot, as_of=now)):
                store.put_many(rows)
        store.close()


def test_verify_ends_with_3_and_names_feature_and_entity(shop: Shop) -> None:
    assert shop.call("features", "verify", "--json").json()[0]["passed"]
    tamper(shop)
    told = shop.call("features", "verify", code=3)
    assert "sales.minutes_7d {'shop_id': 1}: served" in told.out
    assert "sales ghost {'shop_id': 99}" in told.out
    assert "1 entity stored that should not be, such as shop_id=99" in told.err
    sales, footfall = shop.call("features", "verify", "--json", code=3).json()
    assert (sales["passed"], sales["ghosts"], footfall["passed"]) == (False, 1, True)
    assert sales["differences"]["minutes_7d"] == 2
    assert "4 wrong" not in shop.call("features", "list").out
    assert "5 wrong" in shop.call("features", "list").out
    assert "entity stored that should not be" in shop.call("features", "show", "sales").out


def test_show_has_statistics_once_they_were_worked_out(shop: Shop) -> None:
    assert "`headway features show sales --stats` works them out" in shop.call("features", "show", "sales").out
    told = shop.call("features", "show", "sales", "--stats").out
    assert "values of 5 entities as of 2024-03-01T00:00:00Z" in told
    assert "raw_orders.delivered_at, raw_orders.placed_at" in told
    assert "# shop/features.py:7\nsales = hw.FeatureView(" in told
    found = shop.call("features", "show", "sales", "--json").json()
    assert found["statistics"]["features"]["minutes_7d"]["nulls"] == 0
    assert found["versions"] == [{"model": "delivery", "version": 1, "role": "live", "same": True}]


def test_retire_says_what_it_did(shop: Shop) -> None:
    text = (shop.root / "shop/features.py").read_text()
    begin, end = text.index("footfall = "), text.index("@hw.request_features")
    (shop.root / "shop/features.py").write_text(text[:begin] + text[end:])
    told = shop.call("features", "retire", "footfall", "--why", "nobody walks in").out
    assert told == "retired footfall: 5 rows dropped from the online store; servers offer footfall no more\n"
    assert "it is retired" in shop.call("features", "retire", "footfall", "--why", "again", code=2).err
