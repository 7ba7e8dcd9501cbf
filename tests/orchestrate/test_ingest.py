"""``headway ingest``: sources of every kind side by side, in an environment."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.project import Shop, forget_package

import headway as hw
from headway.errors import SettingsError

MORE = '''
import headway as hw

CALLS = []
shipments = hw.Source("shipments", table="shipments", connection="sqlite:///data/shop.db", cursor="n", id="n")
clicks = hw.Source("clicks", schema={"user_id": "int64", "at": "timestamp"}, timestamp="at")


@hw.source(timestamp="at", every="1h", schema={"station": "string", "at": "timestamp"})
def weather(since):
    """What stations say."""
    CALLS.append(since)
    yield {"station": ["a"], "at": ["2024-02-01T00:00:00Z"]}
'''


@pytest.fixture
def more(empty: Shop) -> Shop:
    """The project with a table, a function and a source whose rows are pushed."""
    (empty.root / "shop/more.py").write_text(MORE)
    with sqlite3.connect(empty.root / "data/shop.db") as db:
        db.execute("create table shipments (n integer, state text)")
        db.executemany("insert into shipments values (?, 'sent')", [(n,) for n in range(5)])
    db.close()
    return empty


def outcomes(shop: Shop, *arguments: str, code: int = 0) -> dict[str, tuple[str, int | None]]:
    """What became of each source, and the rows its table has."""
    found = shop.call("ingest", "--json", *arguments, code=code).json()
    return {each["source"]: (each["outcome"], each["result"] and each["result"]["rows"]) for each in found}


def test_every_kind_of_source_is_copied(more: Shop) -> None:
    done = {"raw_orders": 400, "shops": 5, "visits": 200, "shipments": 5, "clicks": 0, "weather": 1}
    assert outcomes(more) == {name: ("done", rows) for name, rows in done.items()}
    assert outcomes(more) == {  # weather was asked less than an hour ago, and clicks come by themselves
        name: ("unchanged", rows) for name, rows in done.items() if name not in ("weather", "clicks")
    }
    assert outcomes(more, "weather") == {"weather": ("unchanged", 1)}  # but it is, if it is asked for
    with sqlite3.connect(more.root / "data/shop.db") as db:
        db.execute("insert into shipments values (9, 'sent')")
    db.close()
    assert outcomes(more, "shipments") == {"shipments": ("done", 6)}
    assert outcomes(more, "shipments", "--full") == {"shipments": ("done", 6)}
    assert outcomes(more, "orders") == {"raw_orders": ("unchanged", 400), "shops": ("unchanged", 5)}
    table = more.call("ingest", "shipments")
    assert table.out.split()[:4] == ["source", "read", "new", "changed"]
    assert "… ingest shipments" in table.err


def test_one_that_fails_stops_no_other(more: Shop) -> None:
    (more.root / "data/shop.db").unlink()
    (more.root / "data/visits.parquet").write_bytes(b"nothing")
    found = more.call("ingest", "--json", code=1)
    assert {each["source"] for each in found.json() if each["outcome"] == "failed"} == {"shipments", "visits"}
    assert sum(each["outcome"] == "done" for each in found.json()) == 4
    assert "source 'shipments'" in found.err
    assert "there is no database at" in found.err
    assert "visits.parquet" in found.err


def test_a_run_copies_them_too(more: Shop) -> None:
    def ran(*targets: str) -> dict[str, str]:
        items = more.call("run", *targets, "--json").json()
        return {item["target"]: item["outcome"] for item in items if item["stage"] == "ingest"}

    assert ran("shipments", "weather", "clicks") == dict.fromkeys(("shipments", "weather", "clicks"), "done")
    planned = {item["target"]: item["stale"] for item in more.call("plan", "shipments", "weather", "--json").json()}
    assert planned == {"shipments": True, "weather": False}
    assert ran("shipments", "weather", "clicks") == {"shipments": "done", "weather": "cached", "clicks": "cached"}


def test_a_source_of_files_may_be_a_table_in_another_environment(more: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = more.root / "headway.toml"
    orders = more.orders().to_pylist()
    with sqlite3.connect(more.root / "data/prod.db") as db:
        db.execute(
            "create table o (order_id int, shop_id int, placed_at timestamp, delivered_at timestamp, distance real)"
        )
        db.executemany("insert into o values (?, ?, ?, ?, ?)", [
            (o["order_id"], o["shop_id"], str(o["placed_at"]), str(o["delivered_at"]), o["distance"]) for o in orders
        ])  # fmt: skip
    db.close()
    monkeypatch.setenv("WAREHOUSE", "data/prod.db")
    settings.write_text(
        settings.read_text()
        + '[env.prod]\nclock = "2024-03-01T00:30:00Z"\n[env.prod.sources]\n'
        + 'raw_orders = { table = "o", connection = "sqlite:///${WAREHOUSE}" }\n'
    )
    assert outcomes(more, "raw_orders", "--env", "prod") == {"raw_orders": ("done", 400)}
    assert outcomes(more, "raw_orders") == {"raw_orders": ("done", 400)}
    found = [opened_rows(more, env) for env in ("local", "prod")]
    assert found[0] == found[1]


def opened_rows(shop: Shop, env: str) -> list[dict[str, Any]]:
    forget_package()
    with hw.load(shop.root, env=env) as opened:
        lake = opened.parts.lake
        files = lake.files("source/raw_orders")
    return list(pq.read_table(files[0], columns=["order_id", "placed_at", "distance", "__event"]).to_pylist())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ('visits = { table = "a" }', "a table needs a connection"),
        ('visits = { connection = "sqlite:///a" }', "a connection needs a table"),
        ('visits = { path = "a", table = "b" }', "either a path or a table"),
        ('orders = { path = "a.csv" }', "it is a query, so it has no place"),
    ],
)
def test_places_that_make_no_sense(more: Shop, place: str, message: str) -> None:
    settings = more.root / "headway.toml"
    settings.write_text(settings.read_text() + f"[env.local.sources]\n{place}\n")
    forget_package()
    with hw.load(more.root) as opened, pytest.raises(SettingsError, match=message):
        opened.declarations  # noqa: B018


def test_secrets_stay_secret(more: Shop, postgres: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PG_PASSWORD", "hunter2hunter2")
    host = postgres.rpartition("@")[2]
    url = f"postgresql://nobody:${{PG_PASSWORD}}@{host}/hunter2hunter2"
    (more.root / "shop/more.py").write_text(
        f'import headway as hw\nsecret = hw.Source("secret", table="t", connection="{url}")\n'
    )
    said = more.call("run", "secret", code=1)
    assert "PostgreSQL" in said.err
    assert "hunter2" not in said.out + said.err
    for file in more.home.rglob("*"):
        assert not file.is_file() or b"hunter2" not in file.read_bytes(), file
    with pytest.raises(hw.HeadwayError, match=r"connection holds a password; write \$\{NAME\}"):
        hw.Source("s", table="t", connection="postgresql://me:secret@db/shop")
