"""A project small enough to run from end to end in seconds: orders of some shops, and visits nobody orders by.

``build`` writes it; ``finished`` copies one that was run already. The parts that tests change are plain text in the
project's files, so a test edits them as a user would.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.cli import main

NOW = "2024-03-01T00:30:00Z"
ORDERS, VISITS, SHOPS = 400, 200, 5
_DAY = 86_400_000_000
_START = 1_706_745_600_000_000  # 2024-02-01T00:00:00Z

FILES = {
    "headway.toml": f"""
[project]
name = "shop"
definitions = "shop"

[env.local]
clock = "{NOW}"
""",
    "shop/__init__.py": "",
    "shop/helpers.py": '''
def per_kilometre(value, distance):
    """Value over distance."""
    return value / (distance + 1.0)
''',
    "shop/sources.py": """
import headway as hw

raw_orders = hw.Source("raw_orders", path="data/orders.parquet", id="order_id", timestamp="placed_at")
shops = hw.Source("shops", path="data/shops.parquet")
orders = hw.Source(
    "orders",
    id="order_id",
    timestamp="placed_at",
    created="delivered_at",
    query='''select o.*, s.city, epoch(o.delivered_at - o.placed_at) as minutes
             from raw_orders o join shops s on s.shop_id = o.shop_id''',
    checks=[
        hw.not_null("shop_id"),
        hw.unique("order_id"),
        hw.between("minutes", 0, 36000, on_fail="quarantine"),
    ],
)
visits = hw.Source("visits", path="data/visits.parquet", timestamp="at", checks=[hw.not_null("shop_id")])
""",
    "shop/features.py": """
import headway as hw

from shop.helpers import per_kilometre
from shop.sources import orders, visits

shop = hw.Entity("shop", key="shop_id")
sales = hw.FeatureView(
    "sales",
    source=orders,
    entity=shop,
    refresh="1h",
    features={"orders_7d": hw.count(window="7d"), "minutes_7d": hw.mean("minutes", window="7d")},
    description="What a shop sold",
)
footfall = hw.FeatureView(
    "footfall",
    source=visits,
    entity=shop,
    refresh="1h",
    features={"visits_7d": hw.count(window="7d")},
)


@hw.request_features(inputs=[sales["minutes_7d"], hw.Request("distance", "double")])
def at_request(minutes, distance):
    return {"pace": per_kilometre(minutes, distance)}
""",
    "shop/models.py": """
import headway as hw

from shop.features import at_request, sales
from shop.sources import orders


def ridge(alpha):
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    return make_pipeline(SimpleImputer(), Ridge(alpha=alpha))


delivery = hw.Model(
    "delivery",
    label=hw.Label(orders, "minutes"),
    features=[sales, hw.Request("distance", "double"), at_request],
    estimator=ridge,
    params={"alpha": 1000.0},
    metrics=["mae", "rmse"],
    split=hw.TimeSplit(test="7d"),
    baseline="median",
    gate=hw.Gate("mae", max_regression=0.01),
)
scored = hw.BatchPrediction("scored", model=delivery, input=orders, output="lake:scored")
""",
}


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON; nothing else may be on it."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Shop:
    """The project on disk, and its command line."""

    root: Path

    @property
    def home(self) -> Path:
        """What headway wrote."""
        return self.root / ".headway" / "local"

    def edit(self, file: str, old: str, new: str) -> None:
        """Change one place of a file of the project."""
        text = (self.root / file).read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        (self.root / file).write_text(text.replace(old, new))

    def orders(self) -> pa.Table:
        return pq.read_table(self.root / "data/orders.parquet")

    def write_orders(self, table: pa.Table) -> None:
        pq.write_table(table, self.root / "data/orders.parquet")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from headway.cli import main; main()", *arguments]

    def call(self, *arguments: str, code: int | None = 0) -> Outcome:
        """A command in this process, for what needs no process of its own: nothing heavy is imported twice.

        ``code`` is how it has to end; None: any way without a traceback.
        """
        out, err = io.StringIO(), io.StringIO()
        forget_package()
        argv = mock.patch.object(sys, "argv", ["headway", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(self.root), argv:
            try:
                main()
            except SystemExit as left:
                ended = left.code if isinstance(left.code, int) else 1
        found = Outcome(ended, out.getvalue(), err.getvalue())
        assert "Traceback" not in found.out + found.err, found.err
        assert code is None or found.code == code, f"{arguments} ended with {found.code}:\n{found.out}\n{found.err}"
        return found

    def run(self, *arguments: str, code: int | None = 0) -> Outcome:
        """``call`` in a process of its own."""
        ended = subprocess.run(
            self.command(*arguments), cwd=self.root, env=environment(), capture_output=True, text=True, check=False
        )
        found = Outcome(ended.returncode, ended.stdout, ended.stderr)
        assert "Traceback" not in found.out + found.err, found.err
        assert code is None or found.code == code, f"{arguments} ended with {found.code}:\n{found.out}\n{found.err}"
        return found


def environment() -> dict[str, str]:
    """The environment of a user who has set nothing."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADWAY_")}
    return {**kept, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}


def forget_package() -> None:
    """Unload the project's package, as a new process would find it: its files may have changed."""
    sys.dont_write_bytecode = True  # a file of the same size, changed within a second, would look as it was
    for name in [n for n in sys.modules.copy() if n.partition(".")[0] == "shop"]:
        del sys.modules[name]


def build(root: Path) -> Shop:
    """Write the project, without running anything."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.lstrip("\n"))
    (root / "data").mkdir(parents=True)
    random = np.random.default_rng(11)
    shop = Shop(root)
    shop.write_orders(_orders(random))
    cities = ["lisbon", "tallinn", "lisbon", "turin", "turin"]
    pq.write_table(pa.table({"shop_id": pa.array(range(SHOPS)), "city": cities}), root / "data/shops.parquet")
    visits = {"shop_id": pa.array(random.integers(0, SHOPS, VISITS)), "at": _moments(random, VISITS)}
    pq.write_table(pa.table(visits), root / "data/visits.parquet")
    return shop


def _orders(random: np.random.Generator) -> pa.Table:
    placed = _moments(random, ORDERS)
    shop, distance = random.integers(0, SHOPS, ORDERS), random.uniform(0.5, 9, ORDERS)
    seconds = np.round(600 + 120 * shop + 200 * distance + random.normal(0, 60, ORDERS))
    delivered = pa.array(np.asarray(placed).astype("int64") + (seconds * 1e6).astype("int64"))
    return pa.table(
        {
            "order_id": pa.array(range(ORDERS)),
            "shop_id": pa.array(shop),
            "placed_at": placed,
            "delivered_at": delivered.cast(pa.timestamp("us", "UTC")),
            "distance": pa.array(distance),
        }
    )


def _moments(random: np.random.Generator, rows: int) -> pa.Array:
    return pa.array(np.sort(_START + random.integers(0, 29 * _DAY, rows))).cast(pa.timestamp("us", "UTC"))


def copy(shop: Shop, root: Path) -> Shop:
    """A copy of a project with everything headway wrote."""
    shutil.copytree(shop.root, root, symlinks=True)
    return Shop(root)


def stages(items: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    """Stage and target of what ``headway plan --json`` would run, or ``headway run --json`` did."""
    return {(i["stage"], i["target"]) for i in items if i.get("stale") or i.get("outcome") == "done"}


_FINISHED: dict[str, Shop] = {}


def finished(factory: pytest.TempPathFactory) -> Shop:
    """The project after ``headway run``; made once, never to be changed."""
    if "shop" not in _FINISHED:
        shop = build(factory.mktemp("finished") / "shop")
        shop.call("run")
        _FINISHED["shop"] = shop
    return _FINISHED["shop"]
