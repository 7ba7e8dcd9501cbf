"""Every verb, for people and for programs, and what it says to nonsense."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.project import NOW, Shop, environment

LISTINGS = [
    ("plan",),
    ("run",),
    ("check",),
    ("features", "list"),
    ("features", "show", "sales"),
    ("features", "get", "sales", "shop_id=1,2,99"),
    ("features", "materialize"),
    ("features", "materialize", "sales", "--full"),
    ("features", "materialize", "--until", "2024-03-01T00:10:00+00:00"),
    ("features", "materialize", "--version", "delivery@1"),
    ("features", "verify"),
    ("features", "verify", "sales", "--sample", "2"),
    ("features", "show", "sales", "--stats"),
    ("train", "delivery"),
    ("models", "list"),
    ("models", "show", "delivery"),
    ("models", "show", "delivery", "1"),
    ("models", "compare", "delivery", "1", "1"),
    ("models", "promote", "delivery", "1", "--why", "because"),
    ("models", "release", "delivery"),
    ("doctor", "--port", "0"),
]


def in_words(arguments: tuple[str, ...]) -> str:
    return " ".join(arguments)


@pytest.mark.parametrize("arguments", LISTINGS, ids=in_words)
def test_every_verb_speaks_to_people_and_to_programs(shop: Shop, arguments: tuple[str, ...]) -> None:
    told = shop.call(*arguments)
    assert told.out.strip()
    shop.call(*arguments, "--json").json()


def test_every_verb_has_help() -> None:
    for verb in {arguments[:2] if arguments[0] in ("features", "models") else arguments[:1] for arguments in LISTINGS}:
        assert "--json" in Shop(Path.cwd()).call(*verb, "--help").out


def test_a_project_is_found_from_a_folder_inside_it_and_by_option(shop: Shop, tmp_path: Path) -> None:
    assert Shop(shop.root / "shop").call("models", "list").out == shop.call("models", "list").out
    assert Shop(tmp_path).call("models", "list", "-C", str(shop.root)).out == shop.call("models", "list").out


def test_what_is_served_is_told_with_its_state(shop: Shop) -> None:
    rows = shop.call("features", "get", "sales", "shop_id=1,99", "--json").json()
    assert [r["shop_id"] for r in rows] == [1, 99]
    assert rows[0]["sales__orders_7d"] > 0
    assert rows[1]["sales__orders_7d"] == 0
    assert rows[1]["sales__minutes_7d"] is None


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson"])
def test_predict_scores_a_file(shop: Shop, tmp_path: Path, ending: str) -> None:
    table = pa.table({"shop_id": [0, 4, 4, None], "distance": [1.0, 2.0, 2.0, 3.0]})
    pq.write_table(table, tmp_path / "in.parquet")
    output = tmp_path / f"out.{ending}"
    told = shop.call("predict", "delivery", "-i", str(tmp_path / "in.parquet"), "-o", str(output), "--json").json()
    assert told["rows"] == 4
    assert told["version"] == 1
    assert output.stat().st_size
    again = shop.call("predict", "delivery", "-i", str(tmp_path / "in.parquet"), "-o", str(output), "--version", "1")
    assert "4 rows scored by delivery@1" in again.out


# Nonsense


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("models", "show", "delivry"), 2, "did you mean 'delivery'?"),
        (("models", "show", "delivery", "9"), 2, "9"),
        (("models", "show", "delivery", "0"), 2, "0"),
        (("models", "show", "delivery", "one"), 2, "'version'"),
        (("models", "compare", "delivry", "1", "2"), 2, "did you mean 'delivery'?"),
        (("models", "compare", "delivery", "1", "2"), 2, "2"),
        (("models", "promote", "delivry", "1", "--why", "x"), 2, "did you mean 'delivery'?"),
        (("models", "promote", "delivery", "7", "--why", "x"), 2, "7"),
        (("models", "release", "nobody"), 2, "delivery"),
        (("rollback", "delivry", "--why", "x"), 2, "did you mean 'delivery'?"),
        (("train", "delivry"), 2, "did you mean 'delivery'?"),
        (("train",), 2, "'model'"),
        (("predict", "delivry", "-i", "data/orders.parquet", "-o", "o.csv"), 2, "did you mean 'delivery'?"),
        (("predict", "delivery", "-i", "nowhere.parquet", "-o", "o.csv"), None, "nowhere.parquet"),
        (("predict", "delivery", "-i", "data/orders.parquet", "-o", "o.xls"), None, "o.xls"),
        (("predict", "delivery", "-i", "data/shops.parquet", "-o", "o.csv"), 1, "distance"),
        (("predict", "delivery", "-i", "headway.toml", "-o", "o.csv"), None, "headway.toml"),
        (("predict", "delivery", "-i", "data/orders.parquet", "-o", "o.csv", "--version", "5"), 2, "5"),
        (("predict", "delivery", "-i", "data/orders.parquet", "-o", "no/such/folder/o.csv"), None, "no/such/folder"),
        (("features", "show", "sale"), 2, "did you mean 'sales'?"),
        (("features", "verify", "--sample", "-3"), 2, "a sample is a number of entities"),
        (("features", "retire", "sales"), 2, "'--why'"),
        (("features", "retire", "sale", "--why", "x"), 2, "did you mean 'sales'?"),
        (("features", "retire", "sales", "--why", "x"), 3, "used by model delivery"),
        (("features", "get", "sale", "shop_id=1"), 2, "did you mean 'sales'?"),
        (("features", "get", "sales", "shop=1"), 2, "did you mean 'shop_id'?"),
        (("features", "get", "sales", "shop_id"), 2, "name=value"),
        (("features", "get", "sales", "shop_id=one"), 2, "one"),
        (("features", "get", "sales", "shop_id="), 2, "shop_id"),
        (("features", "get", "sales"), 2, "'keys'"),
        (("features", "materialize", "sale"), 2, "did you mean 'sales'?"),
        (("features", "materialize", "--until", "2024-03-01"), 2, "time zone"),
        (("features", "materialize", "--until", "tomorrow"), 2, "tomorrow"),
        (("features", "materialize", "--version", "delivery"), 2, "MODEL@NUMBER"),
        (("features", "materialize", "--version", "delivery@9"), 2, "9"),
        (("features", "materialize", "--version", "delivry@1"), 2, "did you mean 'delivery'?"),
        (("features", "verify", "sale"), 2, "did you mean 'sales'?"),
        (("check", "order"), 2, "did you mean 'orders'?"),
        (("run", "ordrs"), 2, "did you mean 'orders'?"),
        (("plan", "ordrs"), 2, "did you mean 'orders'?"),
        (("plan", "--env", "prod"), 2, "prod"),
        (("run", "--env", "prod"), 2, "prod"),
        (("serve", "--env", "prod"), 2, "prod"),
        (("serve", "--port", "99999"), 2, "--port"),
        (("doctor", "--port", "x"), 2, "--port"),
        (("dance",), 2, "dance"),
        (("models", "dance"), 2, "dance"),
        (("plan", "--jsn"), 2, "--jsn"),
    ],
    ids=lambda value: in_words(value) if isinstance(value, tuple) else "",
)
def test_nonsense_gets_a_sentence(shop: Shop, arguments: tuple[str, ...], code: int | None, told: str) -> None:
    found = shop.call(*arguments, code=None)
    assert found.code in ((1, 2) if code is None else (code,)), f"{found.code}: {found.err}"
    assert told in found.err
    assert not (shop.root / "o.csv").exists()


@pytest.mark.parametrize("arguments", [a for a in LISTINGS if a[0] != "doctor"], ids=in_words)
def test_no_project(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    found = Shop(tmp_path).call(*arguments, code=1)
    assert "headway.toml" in found.err


@pytest.mark.parametrize("arguments", [a for a in LISTINGS if a[0] != "doctor"], ids=in_words)
def test_before_the_first_run(empty: Shop, arguments: tuple[str, ...]) -> None:
    found = empty.call(*arguments, code=None)
    assert found.code in (0, 1, 2, 3)
    assert found.out.strip() or found.err.strip()


def test_broken_settings(shop: Shop) -> None:
    (shop.root / "headway.toml").write_text("[project\n")
    for arguments in (("plan",), ("run",), ("models", "list"), ("serve",)):
        assert "headway.toml" in shop.call(*arguments, code=1).err


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("shop/sources.py", 'timestamp="placed_at",\n    created', 'timestamp="placd_at",\n    created', "'placed_at'"),
        ("shop/features.py", 'hw.mean("minutes",', 'hw.mean("minuts",', "'minutes'"),
        ("shop/models.py", 'hw.Label(orders, "minutes")', 'hw.Label(orders, "minuts")', "'minutes'"),
        ("shop/models.py", 'hw.Request("distance", "double")', 'hw.Request("distnce", "double")', "'distance'"),
        ("shop/features.py", '{"pace": per', '{"pace": 1 + undefined + per', "undefined"),
        ("shop/models.py", "Ridge(alpha=alpha)", "Ridge(alpha=str(alpha))", "alpha"),
        ("shop/features.py", "source=visits", "source='visits'", "features.py:"),
        ("shop/sources.py", "select o.*", "select selct o.*", "sources.py:"),
    ],
)
def test_a_wrong_declaration(empty: Shop, file: str, old: str, new: str, told: str) -> None:
    empty.edit(file, old, new)
    found = empty.call("run", code=1)
    assert told in found.err.splitlines()[-1]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"shop_id,city\n1,2\n"])
def test_a_corrupt_file(empty: Shop, content: bytes) -> None:
    (empty.root / "data/shops.parquet").write_bytes(content)
    assert "shops.parquet" in empty.call("run", code=1).err
    assert "shops.parquet" in empty.call("check", code=1).err


def test_a_file_that_went_missing(shop: Shop) -> None:
    (shop.root / "data/shops.parquet").unlink()
    for arguments in (("run",), ("plan",), ("check",)):
        assert "data/shops.parquet" in shop.call(*arguments, code=1).err


def test_a_column_of_another_type(shop: Shop) -> None:
    orders = shop.orders()
    shop.write_orders(orders.set_column(4, "distance", pa.array(["far"] * orders.num_rows)))
    found = shop.call("run", code=1)
    assert "distance" in found.err.splitlines()[-1]


def test_a_check_that_says_no_stops_what_depends_on_it_and_nothing_else(empty: Shop) -> None:
    empty.edit("shop/sources.py", 'hw.unique("order_id")', 'hw.row_count(100_000), hw.unique("order_id")')
    found = empty.call("run", "--json", code=3)
    outcomes = {(i["stage"], i["target"]): i["outcome"] for i in found.json()}
    assert outcomes["check", "orders"] == "refused"
    assert outcomes["train", "delivery"] == "skipped"
    assert outcomes["materialize", "sales"] == "skipped"
    assert outcomes["materialize", "footfall"] == "done"
    assert "row_count" in found.err
    assert empty.call("check", "orders", code=3).err
    assert empty.call("check", "visits").code == 0
    assert empty.call("run", code=3).err
    empty.edit("shop/sources.py", "hw.row_count(100_000)", "hw.row_count(100)")
    assert empty.call("run").code == 0


def test_rows_set_aside_are_told(empty: Shop) -> None:
    empty.edit("shop/sources.py", 'hw.between("minutes", 0, 36000', 'hw.between("minutes", 0, 2500')
    assert "set aside" in empty.call("run", "orders").out
    results = empty.call("check", "orders", "--json").json()
    assert any(r["on_fail"] == "quarantine" and r["failed"] > 0 for r in results)


def test_a_model_file_that_was_changed(shop: Shop) -> None:
    for file in (shop.home / "artifacts/delivery/1").rglob("*.skops"):
        file.write_bytes(b"not a model")
    found = shop.call("predict", "delivery", "-i", "data/orders.parquet", "-o", "o.csv", code=1)
    assert "delivery" in found.err


# Without work


def imported(shop: Shop, *arguments: str) -> tuple[str, set[str]]:
    """Standard output of a command in a process of its own, and the modules it had imported when it ended."""
    script = (
        "import sys\nfrom headway.cli import main\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=open('modules', 'w'))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=shop.root, env=environment(), capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, set((shop.root / "modules").read_text().split())


HEAVY = {"duckdb", "mlflow", "sklearn", "pandas", "lightgbm", "deltalake", "sqlalchemy", "shop"}


def test_a_second_run_does_nothing_and_imports_nothing_heavy(shop: Shop) -> None:
    out, modules = imported(shop, "run")
    assert "nothing to do" in out
    assert not modules & HEAVY
    shop.call("run", "footfall")  # another target: looks, and finds nothing
    shop.edit("headway.toml", NOW, "2024-03-01T00:40:00Z")
    assert "nothing to do" in shop.call("run").out  # the clock moved, no refresh is due


def test_a_run_looks_again_when_a_store_is_gone(shop: Shop) -> None:
    (shop.home / "online").rename(shop.home / "elsewhere")
    assert "materialize" in shop.call("run").out
    assert shop.call("features", "get", "footfall", "shop_id=1", "--json").json()[0]["footfall__visits_7d"] > 0


def test_a_moved_project_has_nothing_to_do_and_sees_its_own_files(shop: Shop, tmp_path: Path) -> None:
    moved = Shop(shop.root.rename(tmp_path / "moved"))
    assert "nothing to do" in moved.call("run").out
    moved.write_orders(moved.orders().slice(0, 399))
    assert "ingest" in moved.call("run", code=None).out


def test_help_imports_nothing_heavy(shop: Shop) -> None:
    out, modules = imported(shop, "--help")
    assert "materialize" not in out
    assert not modules & {*HEAVY, "pyarrow", "numpy"}
