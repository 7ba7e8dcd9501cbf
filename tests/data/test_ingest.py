"""Copying sources into the lake."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.data.engine import Engine
from headway.data.ingest import ingest
from headway.data.lake import Lake, open_lake
from headway.define import Source
from headway.define.records import IngestResult
from headway.errors import BindingError, DataError

TAXI = Path(__file__).resolve().parents[2] / "examples/taxi/data/trips.parquet"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


@pytest.fixture
def run(tmp_path: Path, lake: Lake) -> Callable[..., IngestResult]:
    def run(path: str = "data/*.csv", override: str | None = None, **declared: Any) -> IngestResult:
        source = Source("s", path=path, **declared)
        return ingest(source, tmp_path, lake, path_override=override, cache=tmp_path / "cache.json")

    (tmp_path / "data").mkdir()
    (tmp_path / "data/1.csv").write_text("k,ts\na,2024-11-03 01:30:00\nb,2024-03-10 02:30:00\nc,\n")
    return run


def rows(lake: Lake, version: int | None = None) -> list[dict[str, Any]]:
    found = [pq.read_table(path) for path in lake.files("source/s", version)]
    table = pa.concat_tables(found, promote_options="default")
    return list(table.sort_by("__seq").to_pylist())


def test_rows_and_counts_arrive(run: Callable[..., IngestResult], lake: Lake) -> None:
    result = run(timestamp="ts", delay="1m", timezone="America/New_York")
    assert (result.source, result.table, result.version, result.changed) == ("s", "source/s", 0, True)
    assert (result.rows, result.ambiguous, result.nonexistent, result.unplaced) == (3, 1, 1, 1)
    first = datetime(2024, 11, 3, 5, 30, tzinfo=UTC)
    assert rows(lake)[0] == {
        "k": "a",
        "ts": first,
        "__event": first,
        "__known": first + timedelta(minutes=1),
        "__seq": 0,
        "__arrived": first + timedelta(minutes=1),  # a clock of data has no time before there are rows
    }
    assert lake.note("source/s")["digest"] == result.digest


def test_nothing_new_is_nothing_done(run: Callable[..., IngestResult], lake: Lake) -> None:
    first = run(timestamp="ts", timezone="America/New_York")
    again = run(timestamp="ts", timezone="America/New_York")
    assert again == IngestResult(
        **{name: getattr(first, name) for name in first.__struct_fields__} | {"changed": False, "read": 0, "new": 0}
    )
    assert lake.version("source/s") == 0


@pytest.mark.parametrize("declared", [{"timezone": "Europe/Lisbon"}, {"timestamp": "ts"}, {"id": "k"}])
def test_reading_differently_is_a_change(run: Callable[..., IngestResult], lake: Lake, declared: Any) -> None:
    before = run()
    after = run(**declared)
    assert after.changed
    assert after.digest != before.digest
    assert lake.version("source/s") == 1


def test_a_new_or_changed_file_is_a_change_and_the_past_stays(
    run: Callable[..., IngestResult], lake: Lake, tmp_path: Path
) -> None:
    run()
    (tmp_path / "data/0.csv").write_text("k,more\nz,7\n")
    added = run()
    assert (added.rows, added.read, added.new) == (4, 1, 1)  # what was there is not read again
    assert [row["k"] for row in rows(lake)] == ["a", "b", "c", "z"]
    (tmp_path / "data/0.csv").write_text("k,more\ny,7\n")
    assert run().changed
    assert [row["k"] for row in rows(lake)] == ["y", "a", "b", "c"]
    assert [row["k"] for row in rows(lake, 0)] == ["a", "b", "c"]
    (tmp_path / "data/0.csv").unlink()
    assert run().changed  # the newest version decides, not an older one that had the same rows
    assert [row["k"] for row in rows(lake)] == ["a", "b", "c"]


def test_an_environment_may_keep_the_files_elsewhere(
    run: Callable[..., IngestResult], lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "else.ndjson").write_text('{"k": "q"}\n')
    assert run(override="else.ndjson").rows == 1
    assert rows(lake) == [{"k": "q", "__seq": 0, "__arrived": None}]


@pytest.mark.parametrize(
    ("declared", "message"),
    [({"id": "kk"}, "id names the column 'kk'"), ({"id": "ts"}, "1 of 3 rows have no id")],
)
def test_what_fails_leaves_what_was(
    run: Callable[..., IngestResult], lake: Lake, tmp_path: Path, declared: Any, message: str
) -> None:
    run()
    before = rows(lake)
    with pytest.raises((BindingError, DataError), match=message):
        run(**declared)
    (tmp_path / "data/2.csv").write_text("k,ts\nd\n")
    with pytest.raises(DataError, match=r"source 's': file data/2\.csv cannot be read"):
        run()
    assert lake.version("source/s") == 0
    assert rows(lake) == before
    assert len(list((tmp_path / "lake").rglob("*.parquet"))) == 1


def test_files_written_to_meanwhile_are_not_taken(
    run: Callable[..., IngestResult], lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headway.data.sources import _files

    finished = _files.FileReader._finished

    def slowly(self: Any, batch: pa.RecordBatch) -> pa.RecordBatch:
        (tmp_path / "data/1.csv").write_text("k,ts\nchanged,\n")
        return finished(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(_files.FileReader, "_finished", slowly)
        with pytest.raises(DataError, match="written to while they were being read"):
            run()
    assert lake.version("source/s") is None
    assert run().rows == 1


def test_the_engine_reads_what_was_ingested(run: Callable[..., IngestResult], lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "data/1.csv").write_text("k,ts\n")
    assert run(timestamp="ts").rows == 0
    with Engine(threads=1) as engine:
        sql = 'select k, __event, __known, __seq from "source/s"'
        found = engine.query(sql, {"source/s": lake.files("source/s")})
    assert found.num_rows == 0
    assert [str(kind) for kind in found.schema.types] == ["string", *["timestamp[us, tz=UTC]"] * 2, "int64"]


KILLED = """
import sys
from pathlib import Path
from headway.data.ingest import ingest
from headway.data.lake import open_lake
from headway.define import Source
import pyarrow.parquet, deltalake
root = Path(sys.argv[1])
lake = open_lake(str(root / "lake"))
source = Source("s", path="trips.parquet", id="trip_id", timestamp="pickup_at", timezone="America/New_York")
print("ready", flush=True)
print(ingest(source, root, lake, cache=root / "cache.json").version, flush=True)
"""


def standing(lake: Lake) -> tuple[int, int]:
    """How many facts there are and are not deleted, and how many rows those that are not the last of theirs."""
    found = pa.concat_tables(
        [pq.read_table(path, columns=["trip_id", "__seq", "__deleted"]) for path in lake.files("source/s")]
    )
    seqs = found.column("__seq").to_numpy()
    assert len(set(seqs)) == len(seqs)
    last: dict[int, tuple[int, bool]] = {}
    for trip, seq, deleted in zip(*(column.to_pylist() for column in found.columns), strict=True):
        last[trip] = max(last.get(trip, (-1, False)), (seq, deleted))
    return sum(not deleted for _, deleted in last.values()), len(seqs) - len(last)


def test_killed_at_any_moment_it_ends_in_the_same_state(lake: Lake, tmp_path: Path) -> None:
    trips = pq.read_table(TAXI).slice(0, 30_000)
    wanted = 0
    for step, delay in enumerate((0.02, 0.1, 0.2, 0.3, 0.45)):
        pq.write_table(trips.slice(step), tmp_path / "trips.parquet")
        before = lake.version("source/s")
        with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
            done = process.stdout.read()
        after = lake.version("source/s")
        assert not done or after == int(done)
        if after is not None:
            if after != before:
                wanted = len(trips) - step
            assert standing(lake)[0] == wanted
    source = Source("s", path="trips.parquet", id="trip_id", timestamp="pickup_at", timezone="America/New_York")
    result = ingest(source, tmp_path, lake, cache=tmp_path / "cache.json")
    assert result.rows == lake.rows("source/s")
    facts, former = standing(lake)
    assert facts == len(trips) - 4
    assert former <= 4  # a trip that is gone has a row that says so
    assert not list((tmp_path / "lake/source/s/_staging").glob("*.parquet"))
