"""Rows that are pushed reach features: durable at once, visible at the next refresh after the next run."""

from __future__ import annotations

from pathlib import Path

import pytest

import headway as hw
from headway.errors import DataError, NotFoundError, UsageError

DAY = 86_400_000_000
NOON = "2024-03-01T12:00:00Z"
FILES = {
    "headway.toml": f'[project]\nname = "site"\ndefinitions = "site_views"\n\n[env.local]\nclock = "{NOON}"\n',
    "site_views/__init__.py": """
import headway as hw

clicks = hw.Source("clicks", schema={"user": "int64", "at": "timestamp", "price": "double"}, timestamp="at")
users = hw.Source("users", schema={"user": "int64", "at": "timestamp", "tier": "string"}, id="user", timestamp="at")
files = hw.Source("files", path="files.csv")
user = hw.Entity("user", key="user")
activity = hw.FeatureView("activity", source=clicks, entity=user, refresh="1h", features={
    "clicks_1d": hw.count(window="1d"), "spent_1d": hw.sum("price", window="1d")})
profile = hw.FeatureView("profile", source=users, entity=user, refresh="1h", features={"tier": "tier"})
""",
    "files.csv": "a\n1\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "site_views").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def at(root: Path, now: str = NOON) -> hw.Project:
    return hw.load(root, clock=now)


def served(project: hw.Project, user: int = 1) -> dict:
    rows = project.online.read(["activity", "profile"], {"user": [user]}).to_pylist()
    return {name: value for name, value in rows[0].items() if "__" in name and not name.startswith("_")}


def test_pushed_rows_are_seen_at_the_next_refresh(root: Path) -> None:
    with at(root) as project:
        project.run()
        pushed = project.push(
            "clicks", {"user": [1, 1, 2], "at": ["2024-03-01T11:30:00Z"] * 3, "price": [2.0, 3.5, 1.0]}
        )
        assert pushed == 3
        assert [i.why for i in project.plan("clicks") if i.stage == "ingest"] == ["3 rows were pushed"]
        assert served(project)["activity__clicks_1d"] == 0
    with at(root, "2024-03-01T12:30:00Z") as project:  # another process, the same refresh
        project.run()
        assert served(project)["activity__clicks_1d"] == 2
        assert [i.stale for i in project.plan("clicks") if i.stage == "ingest"] == [False]
    with at(root, "2024-03-02T12:00:00Z") as project:
        project.run()
        assert served(project) | {"profile__tier": None} == {
            "activity__clicks_1d": 0, "activity__spent_1d": None, "profile__tier": None,
        }  # fmt: skip
        assert not project.features.verify(["activity"])[0].differences


def test_a_version_pushed_later_does_not_change_what_was_known(root: Path) -> None:
    with at(root) as project:
        project.push("users", {"user": [1], "at": ["2024-02-01T00:00:00Z"], "tier": ["silver"]})
        project.run()
    with at(root, "2024-03-02T12:10:00Z") as project:
        project.push("users", {"user": [1], "at": ["2024-02-01T00:00:00Z"], "tier": ["gold"]})
        project.run()
    with at(root, "2024-03-02T13:00:00Z") as project:
        project.run()
        assert served(project)["profile__tier"] == "gold"
        spine = {"user": [1, 1, 1], "ts": [f"2024-03-02T{hour}:00:00+00:00" for hour in ("11", "12", "13")]}
        import pyarrow as pa
        import pyarrow.compute as pc

        ts = pc.cast(pa.array(spine["ts"]), pa.timestamp("us", "UTC"))
        found = project.features.historical(pa.table({"user": spine["user"], "ts": ts}), "profile")
        assert found.column("profile__tier").to_pylist() == ["silver", "silver", "gold"]


def test_a_run_without_a_push_has_nothing_to_do(root: Path) -> None:
    with at(root) as project:
        project.run()
        assert all(d.outcome == "cached" for d in project.run())
        project.push("clicks", {"user": [9], "at": ["2024-03-01T11:00:00Z"], "price": [None]})
        done = {(d.stage, d.target) for d in project.run() if d.outcome == "done"}
        assert done == {("ingest", "clicks"), ("materialize", "activity")}


@pytest.mark.parametrize(
    ("source", "rows", "error", "said"),
    [
        ("click", {}, NotFoundError, "did you mean 'clicks'"),
        ("files", {"a": [1]}, UsageError, "rows are pushed to one that has a schema only"),
        ("clicks", {"user": [1], "at": ["2024-03-01"]}, DataError, "have no column 'price'"),
        ("clicks", {"user": ["x"], "at": [None], "price": [1]}, DataError, "column 'user' is to be int64"),
        ("users", {"user": [None], "at": [None], "tier": ["a"]}, DataError, "have no id"),
        ("clicks", 5, UsageError, "rows"),
    ],
)
def test_what_cannot_be_taken_is_refused_at_once(root: Path, source: str, rows: object, error: type, said: str) -> None:
    with at(root) as project, pytest.raises(error, match=said):
        project.push(source, rows)
    assert not (root / ".headway/local/pushes").exists()
