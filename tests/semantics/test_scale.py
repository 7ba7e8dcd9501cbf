"""Larger than memory, the answers stay the same: events in parts of some dozen rows, all of them kept in files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.semantics.conftest import Opener
from tests.semantics.rows import INSTANT, any_time, more, oracle
from tests.semantics.test_historical import LATER, all_keys, asked, compare, spine

from headway.clock import from_iso
from headway.define import FeatureView
from headway.errors import DataError, UsageError
from headway.orchestrate.run import copy
from headway.project import Project

GRIDS = (
    "grid",
    "odd",
    "corrected",
    "waits",
    "pairs",
    "contract",
    "joined_view",
    "priced_view",
    "holds_grid",
    "back",
    "corrected_back",
)
HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, Any]]]:
    return dict(more(random.Random(5), {}, 500))


@pytest.fixture
def project(rows: Any, open_world: Opener) -> Iterator[Project]:
    found = open_world(rows, LATER)
    for source in found.declarations.sources.values():
        if source.path is not None:
            copy(found.parts, source)
    found.parts.workspace.most_rows, found.parts.workspace.room.limit = 40, 0
    yield found
    left = [path for path in found.parts.workspace.scratch.path.rglob("*") if path.is_file()]
    found.parts._views.clear()
    assert all(not path.exists() for path in left)


def test_every_view_in_parts_gives_what_the_oracle_says(rows: Any, project: Project) -> None:
    r = random.Random(2)
    wrong, parted = [], 0
    for view in project.declarations.views.values():
        wrong += compare(project, view, oracle(view, project.declarations.sources, rows), r)
        parted += len(project.parts.view(project.parts.binder.view(view)).events) > 1
    assert not wrong, f"{len(wrong)} values, such as\n" + "\n".join(wrong[:20])
    assert parted > 15


@pytest.mark.parametrize("suffix", ["parquet", "ndjson", "csv"])
def test_a_file_gives_what_a_table_gives(project: Project, tmp_path: Path, suffix: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("headway.orchestrate.history_file.ROWS", 100)
    view = project.declarations.views["corrected"]
    keys = [key for key in all_keys(view) if key != (None,)]
    table = spine(view, [(k, t) for k, t in asked(random.Random(3), keys, any_time) if t is not None], INSTANT)
    pq.write_table(table, tmp_path / "spine.parquet")
    plan = project.parts.binder.view(view)
    lists = [] if suffix == "csv" else [f.name for f in plan.features if f.n]
    views = [
        view[[f.name for f in plan.features if not f.n] + lists],
        view.alias("again")["row_i"],
        *([] if suffix == "csv" else ["who"]),
    ]
    expected = project.features.historical(table, views)
    source, output = tmp_path / "spine.parquet", tmp_path / f"found.{suffix}"

    assert project.features.historical_file(source, views, output) == table.num_rows
    if suffix == "parquet":
        found = pq.read_table(output)
        assert plain(found.to_pydict()) == plain(expected.to_pydict())
        assert [f.type for f in found.schema if not pa.types.is_list(f.type)] == [
            f.type for f in expected.schema if not pa.types.is_fixed_size_list(f.type)
        ]
    elif suffix == "csv":  # and the other way round
        project.features.historical_file(output, [view.alias("third")["row_i"]], tmp_path / "again.parquet")
        assert pq.read_table(tmp_path / "again.parquet")["third__row_i"].equals(expected["again__row_i"])
    else:
        assert len(output.read_text().splitlines()) == table.num_rows
    assert sorted(path.name for path in tmp_path.iterdir() if "found" in path.name) == [output.name]


def test_a_list_does_not_fit_a_csv(project: Project, tmp_path: Path) -> None:
    view = project.declarations.views["who"]
    lists = [f.name for f in project.parts.binder.view(view).features if f.n]
    assert lists
    pq.write_table(pa.table({"k": [1], "ts": pa.array([0]).cast(INSTANT)}), tmp_path / "spine.parquet")
    with pytest.raises(UsageError, match="which a CSV file cannot hold; leave it out, or write Parquet"):
        project.features.historical_file(tmp_path / "spine.parquet", view[lists], tmp_path / "found.csv")
    assert not list(tmp_path.glob("*found*"))


def test_a_file_without_rows_or_with_a_column_too_many(project: Project, tmp_path: Path) -> None:
    table = pa.table({"k": pa.array([], pa.int64()), "ts": pa.array([], INSTANT)})
    pq.write_table(table, tmp_path / "spine.parquet")
    assert project.features.historical_file(tmp_path / "spine.parquet", "grid", tmp_path / "out.parquet") == 0
    assert pq.read_table(tmp_path / "out.parquet").equals(project.features.historical(table, "grid"))
    with pytest.raises(DataError, match="already has a column 'grid__row_i'"):
        project.features.historical_file(tmp_path / "out.parquet", "grid", tmp_path / "twice.parquet")
    assert not (tmp_path / "twice.parquet").exists()


def table_of(project: Project, name: str) -> pa.Table:
    files = project.parts.lake.files(name)
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files], promote_options="default")


def by_moment(table: pa.Table, view: FeatureView) -> dict[Any, dict[int, tuple[Any, ...]]]:
    """Key → moment → values."""
    found: dict[Any, dict[int, tuple[Any, ...]]] = {}
    values = [table[f.name].to_pylist() for f in view.features]
    keys = zip(*(table[key].to_pylist() for key in view.entity.key), strict=True)
    for key, moment, value in zip(
        keys, table["_as_of"].cast(pa.int64()).to_pylist(), zip(*values, strict=True), strict=True
    ):
        assert found.setdefault(key, {}).setdefault(moment, value) is value, "twice in the table"
    return found


def plain(values: Any) -> str:
    return repr(values)


@pytest.mark.parametrize("name", GRIDS)
def test_a_backfill_holds_what_history_gives(project: Project, name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("headway.data.compute._grid._CHUNK", 500)
    view = project.declarations.views[name]
    plan = project.parts.binder.view(view)
    start, end = from_iso("1969-12-31T07:00:00Z"), from_iso("1970-01-01T16:00:00Z")
    (done,) = project.features.backfill(name, start, end)
    assert (done.written, done.slices) == (2, 2)  # 1970 is where one of them ends
    held = by_moment(table_of(project, done.table), view)
    step = plan.refresh or 0
    moments = range(done.start, done.end + 1, step)
    keys = list(held)
    columns = {k: [key[n] for key in keys for _ in moments] for n, k in enumerate(view.entity.key)}
    ts = pa.array([r + plan.lag for _ in keys for r in moments]).cast(INSTANT)
    key_type = pa.int64() if len(view.entity.key) == 1 else pa.string()
    table = pa.table({k: pa.array(v, key_type) for k, v in columns.items()} | {"ts": ts})
    found = project.features.historical(table, view)
    rows_ = iter(zip(*(found[f"{name}__{f.name}"].to_pylist() for f in view.features), strict=True))
    empty = plain(tuple(f.empty for f in plan.features))
    for key in keys:
        last = empty
        for moment in moments:
            last = plain(held[key][moment]) if moment in held[key] else last
            assert last == plain(next(rows_)), (key, moment)
    assert sum(map(len, held.values())) < len(keys) * len(moments)


def test_a_backfill_again_changes_nothing_and_a_longer_one_adds(project: Project) -> None:
    view = project.declarations.views["corrected"]
    start, end = from_iso("1969-12-31T20:00:00Z"), from_iso("1970-01-01T04:00:00Z")
    (first,) = project.features.backfill("corrected", start, end)
    version = project.parts.lake.version(first.table)
    (again,) = project.features.backfill(["corrected"], start + HOUR, end - 1)
    assert (again.written, again.rows) == (0, 0)
    assert project.parts.lake.version(first.table) == version
    before = by_moment(table_of(project, first.table), view)

    (longer,) = project.features.backfill("corrected", start, end + 8 * HOUR)
    assert longer.written == 1
    after = by_moment(table_of(project, first.table), view)
    for key, values in before.items():
        assert {m: plain(v) for m, v in after[key].items() if m <= end} == {m: plain(v) for m, v in values.items()}
    assert max(m for values in after.values() for m in values) > end

    (coarse,) = project.features.backfill("corrected", start, end, every="4h")
    table = table_of(project, coarse.table)
    assert set(table["_every"].to_pylist()) == {"1h", "4h"}
    assert {
        m // HOUR % 4
        for m in table.filter(pa.compute.equal(table["_every"], "4h"))["_as_of"].cast(pa.int64()).to_pylist()
    } == {0}


def test_what_cannot_be_backfilled(project: Project) -> None:
    for view, every, what in (
        ("who", "1h", "without a timestamp"),
        ("exact", None, r"no refresh; say at which moments with every="),
        ("grid", "4h", r"a multiple of the refresh of view 'grid' \(3h\); got 4h"),
    ):
        with pytest.raises(UsageError, match=what):
            project.features.backfill(view, 0, HOUR * 24, every=every)
    with pytest.raises(UsageError, match="has no refresh between the start and the end"):
        project.features.backfill("grid", 1, 2)
