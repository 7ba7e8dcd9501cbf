"""The lake: versions, types, notes, and what is left when writing fails."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.data.lake import Lake, open_lake
from headway.errors import DataError, NotFoundError, SettingsError, StoreBusy, StoreError, UsageError

ROWS = pa.table({"a": pa.array([1, 2], pa.int64()), "s": ["x", None]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "a lake"))


def read(lake: Lake, table: str, version: int | None = None) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in lake.files(table, version)], promote_options="default")


def test_a_written_table_can_be_read(lake: Lake) -> None:
    assert lake.version("source/trips") is None
    assert lake.tables() == []
    assert lake.write("source/trips", ROWS, "overwrite", {"digest": "d1", "operation": "mine"}) == 0
    assert lake.version("source/trips") == 0
    assert read(lake, "source/trips").equals(ROWS)
    assert lake.schema("source/trips").equals(ROWS.schema)
    assert lake.rows("source/trips") == 2
    assert lake.note("source/trips") == {"digest": "d1", "operation": "mine"}
    assert lake.tables() == ["source/trips"]


def test_overwriting_keeps_what_was(lake: Lake) -> None:
    lake.write("t", ROWS, "overwrite", {"n": "0"})
    other = pa.table({"b": [1.5]})
    assert lake.write("t", other, "overwrite", {"n": "1"}) == 1
    assert read(lake, "t").equals(other)
    assert read(lake, "t", 0).equals(ROWS)
    assert lake.schema("t", 0).equals(ROWS.schema)
    assert [lake.note("t", version) for version in (0, 1, None)] == [{"n": "0"}, {"n": "1"}, {"n": "1"}]


def test_appending_adds_rows_and_columns(lake: Lake) -> None:
    lake.write("t", ROWS, "append")
    lake.write("t", pa.table({"a": pa.array([3], pa.uint8()), "new": [True]}), "append")
    lake.write("t", pa.table({"s": ["z"]}), "append", {"last": "one"})
    assert lake.rows("t") == 4
    found = read(lake, "t").select(["a", "s", "new"]).sort_by("a").to_pydict()
    assert found == {"a": [1, 2, 3, None], "s": ["x", None, None, "z"], "new": [None, None, True, None]}
    assert lake.schema("t").names == ["a", "s", "new"]
    assert lake.note("t") == {"last": "one"}


def test_appended_types_must_fit(lake: Lake) -> None:
    lake.write("t", ROWS)
    with pytest.raises(DataError, match=r"lake table 't': column 'a', string, does not fit int64"):
        lake.write("t", pa.table({"a": ["one"]}), "append")
    with pytest.raises(DataError, match="only in upper and lower case"):
        lake.write("t", pa.table({"A": [1]}), "append")
    assert (lake.version("t"), lake.rows("t")) == (0, 2)


def test_a_version_without_rows_has_a_file_with_its_columns(lake: Lake) -> None:
    for mode in ("overwrite", "append"):
        lake.write("t", ROWS.slice(0, 0), mode)
        assert lake.rows("t") == 0
        (path,) = lake.files("t")
        assert pq.read_table(path).schema.equals(ROWS.schema)
    lake.write("t", ROWS, "append")
    assert read(lake, "t").equals(ROWS)
    assert pq.read_table(lake.files("t", 0)[0]).num_rows == 0


def test_rows_may_come_piece_by_piece(lake: Lake) -> None:
    schema = pa.schema([("a", pa.int64())])
    pieces = (pa.record_batch([pa.array(range(i, i + 50_000))], schema) for i in range(0, 500_000, 50_000))
    lake.write("t", pa.RecordBatchReader.from_batches(schema, pieces))
    (path,) = lake.files("t")
    assert pq.read_table(path)["a"].to_pylist() == list(range(500_000))
    assert pq.ParquetFile(path).num_row_groups == 4  # 150 000, 150 000, 150 000, 50 000


MOMENT = -315_574_199_999_993  # in 1960


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (pa.array([255, None], pa.uint8()), pa.array([255, None], pa.int16())),
        (pa.array([2**16 - 1], pa.uint16()), pa.array([2**16 - 1], pa.int32())),
        (pa.array([2**32 - 1], pa.uint32()), pa.array([2**32 - 1], pa.int64())),
        (pa.array([2**63 - 1], pa.uint64()), pa.array([2**63 - 1], pa.int64())),
        (pa.array([-1, None], pa.timestamp("ns", "Asia/Tokyo")), pa.array([-1, None], pa.timestamp("us", "UTC"))),
        (pa.array([-1001, 999], pa.timestamp("ns")), pa.array([-2, 0], pa.timestamp("us"))),
        (pa.array([MOMENT], pa.timestamp("us")), pa.array([MOMENT], pa.timestamp("us"))),
        (pa.array(["a", None, "a"]).dictionary_encode(), pa.array(["a", None, "a"])),
        (pa.array([None, None]), pa.array([None, None], pa.string())),
        (pa.array([datetime.time(1, 2, 3)]), pa.array(["01:02:03.000000"])),
        (pa.array([datetime.timedelta(seconds=2)]), pa.array([2_000_000])),
        (pa.array(["a"], pa.large_string()), pa.array(["a"])),
        (pa.array([b"ab"], pa.binary(2)), pa.array([b"ab"])),
        (pa.array([decimal.Decimal("1.50")]), pa.array([decimal.Decimal("1.50")])),
        (pa.array([[1], None], pa.large_list(pa.uint8())), pa.array([[1], None], pa.list_(pa.int16()))),
        (pa.array([{"a": 1}], pa.struct([("a", pa.uint8())])), pa.array([{"a": 1}], pa.struct([("a", pa.int16())]))),
        (pa.array([b"\x00" * 16], pa.uuid()), pa.array(["00000000-0000-0000-0000-000000000000"])),
        (pa.array([datetime.date(1, 1, 1)]), pa.array([datetime.date(1, 1, 1)])),
        (pa.array([float("nan"), None]), pa.array([float("nan"), None])),
    ],
    ids=lambda array: str(array.type),
)
def test_types_are_made_plain(lake: Lake, given: pa.Array, kept: pa.Array) -> None:
    lake.write("t", pa.table({"before": [0]}))  # overwriting must be able to bring any type along
    for table in ("t", "new"):
        lake.write(table, pa.table({"c": given}))
        assert lake.schema(table).field("c").type == kept.type
        found = read(lake, table)["c"].combine_chunks()
        assert found.type == kept.type
        assert str(found.to_pylist()) == str(kept.to_pylist())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pa.table({"c": pa.array([2**63], pa.uint64())}), "column 'c', uint64, does not fit int64"),
        (
            pa.table({"c": pa.nulls(1, pa.month_day_nano_interval())}),
            "column 'c': the type month_day_nano_interval has",
        ),
        (pa.table({"a": [1], "A": [2]}), "must differ in more than upper and lower case, got ['A', 'a']"),
        (pa.table({}), "at least one column"),
    ],
)
def test_what_cannot_be_kept_is_refused(lake: Lake, given: pa.Table, message: str) -> None:
    with pytest.raises(DataError) as caught:
        lake.write("t", given)
    assert message in str(caught.value)
    assert lake.version("t") is None


def test_column_names_may_be_anything(lake: Lake) -> None:
    odd = pa.table({"a b": [1], 'q"uo,te;{}()\n=': [2], "straße": [3], "__event": [4]})
    lake.write("t", odd)
    lake.write("t", odd, "append")
    assert read(lake, "t", 0).equals(odd)
    assert lake.rows("t") == 2


@pytest.mark.parametrize(
    "name", ["", "../out", "a/../b", "/abs", "a//b", "a/", ".hidden", "_log", "a b", "a/_x", "a\n"]
)
def test_names_that_are_none(lake: Lake, name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a lake table"):
        lake.write(name, ROWS)


def test_tables_do_not_lie_in_one_another(lake: Lake) -> None:
    lake.write("a", ROWS)
    with pytest.raises(UsageError, match="'a/b' would lie inside the table 'a'"):
        lake.write("a/b", ROWS)


def test_what_is_not_there(lake: Lake) -> None:
    lake.write("source/trips", ROWS)
    for ask in (lake.files, lake.schema, lake.note, lake.rows):
        with pytest.raises(
            NotFoundError, match=r"no lake table is called 'source/trip'; did you mean 'source/trips'\?"
        ):
            ask("source/trip")
    with pytest.raises(NotFoundError, match="'source/trips' has no version 7; it has the versions 0 to 0"):
        lake.files("source/trips", 7)


@pytest.mark.parametrize("uri", ["s3://bucket/lake", "/tmp/100%25", ""])
def test_places_that_are_none(uri: str) -> None:
    with pytest.raises(SettingsError, match="lake '"):
        open_lake(uri)


@pytest.mark.parametrize("folder", ["plain", "sp ace", "é[1]*?#", "it's"])
def test_any_directory_will_do(tmp_path: Path, folder: str) -> None:
    uri = (tmp_path / folder).as_uri() if folder == "sp ace" else str(tmp_path / folder)
    lake = open_lake(uri)
    lake.write("x/t", ROWS)
    assert read(open_lake(str(tmp_path / folder)), "x/t").equals(ROWS)


def test_opening_and_asking_loads_nothing_heavy(lake: Lake, tmp_path: Path) -> None:
    lake.write("t", ROWS, note={"digest": "d"})
    code = (
        "import sys; from headway.data.lake import open_lake; lake = open_lake(sys.argv[1]);"
        "assert (lake.version('t'), lake.note('t')) == (0, {'digest': 'd'});"
        "print(sorted({'pyarrow', 'deltalake', 'duckdb', 'pandas'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a lake")], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def failing(error: Exception) -> pa.RecordBatchReader:
    def pieces() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches()
        raise error

    return pa.RecordBatchReader.from_batches(ROWS.schema, pieces())


@pytest.mark.parametrize("error", [DataError("a bad row"), StoreError("no store"), KeyError("mine")])
def test_what_the_rows_raise_comes_through(lake: Lake, tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        lake.write("t", failing(error))
    assert str(caught.value) == str(error)
    assert lake.version("t") is None
    lake.write("t", ROWS)
    with pytest.raises(type(error)):
        lake.write("t", failing(error))
    assert lake.version("t") == 0
    assert read(lake, "t").equals(ROWS)
    assert len(list((tmp_path / "a lake").rglob("*.parquet"))) == 1


def test_a_full_disk(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.write("t", ROWS)
    code = """if True:
        import resource, signal, sys, numpy, pyarrow as pa
        from headway.data.lake import open_lake
        from headway.errors import StoreError
        import deltalake
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
        count = int(sys.argv[3])
        rows = pa.table({"a": numpy.random.default_rng(0).random(count), "s": pa.nulls(count, pa.string())})
        try:
            open_lake(sys.argv[1]).write("t", rows)
        except StoreError as error:
            print(error)
    """
    for limit, rows in ((100_000, 100_000), (900, 2)):  # the data do not fit; the data fit, the commit does not
        run = [sys.executable, "-c", code, str(tmp_path), str(limit), str(rows)]
        ran = subprocess.run(run, capture_output=True, text=True)
        assert ran.stderr == ""
        assert "lake table 't'" in ran.stdout
        assert "room on the disk" in ran.stdout
        assert len(list((tmp_path / "t").rglob("*.parquet"))) == 1
    assert read(lake, "t").equals(ROWS)
    assert lake.write("t", ROWS) == 1


def test_no_right_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"lake table 't': (Not a directory|File exists)"):
        open_lake(str(tmp_path / "file")).write("t", ROWS)


def test_writers_side_by_side(lake: Lake) -> None:
    failures: list[BaseException] = []

    def append(number: int) -> None:
        try:
            for _ in range(4):
                lake.write("t", pa.table({"a": [number]}), "append")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    writers = [threading.Thread(target=append, args=(number,)) for number in range(5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert sorted(read(lake, "t")["a"].to_pylist()) == sorted(list(range(5)) * 4)
    assert lake.version("t") == 19


def test_a_writer_that_knows_no_lock_does_not_disturb(lake: Lake, tmp_path: Path) -> None:
    from deltalake import write_deltalake

    lake.write("t", ROWS)
    write_deltalake(str(tmp_path / "a lake" / "t"), ROWS, mode="append")
    assert lake.note("t") == {}
    assert lake.write("t", ROWS, "append") == 2
    assert lake.rows("t") == 6
    assert len(read(lake, "t")) == 6


def test_many_versions_stay_readable(lake: Lake, tmp_path: Path) -> None:
    for number in range(60):
        lake.write("t", pa.table({"a": [number]}), note={"n": str(number)})
    assert list((tmp_path / "a lake/t/_delta_log").glob("*.checkpoint.parquet"))
    assert [read(lake, "t", version)["a"].to_pylist() for version in (0, 49, 50, 51, 59)] == [
        [0],
        [49],
        [50],
        [51],
        [59],
    ]
    assert lake.note("t", 3) == {"n": "3"}


def test_files_left_by_a_dead_writer_are_removed_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    lake.write("t", ROWS)
    (tmp_path / "t/_staging/dead.parquet").write_bytes(b"PAR1")
    inside = threading.Event()
    finish = threading.Event()

    def pieces() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches()
        inside.set()
        finish.wait(30)

    slow = threading.Thread(
        target=lambda: lake.write("t", pa.RecordBatchReader.from_batches(ROWS.schema, pieces()), "append")
    )
    slow.start()
    inside.wait(30)
    lake.write("t", ROWS, "append")
    left = list((tmp_path / "t/_staging").glob("*.parquet"))
    assert len(left) == 1
    assert left[0].name != "dead.parquet"
    finish.set()
    slow.join()
    assert lake.rows("t") == 6
    assert not list((tmp_path / "t/_staging").glob("*.parquet"))


def test_a_commit_a_power_cut_left_empty_is_no_version(lake: Lake, tmp_path: Path) -> None:
    lake.write("t", ROWS)
    log = tmp_path / "a lake/t/_delta_log"
    (log / f"{1:020d}.json").touch()
    assert lake.version("t") == 0
    assert read(lake, "t").equals(ROWS)
    assert lake.write("t", ROWS, "append") == 1
    assert lake.rows("t") == 4


KILLED = """
import sys, pyarrow as pa
from headway.data.lake import open_lake
lake = open_lake(sys.argv[1])
print("ready", flush=True)
for number in range(1_000_000):
    version = lake.write("t", pa.table({"a": pa.array([number] * 1000)}), "overwrite", {"n": str(number)})
    print(version, number, flush=True)
"""


def test_a_killed_writer_leaves_whole_versions(tmp_path: Path) -> None:
    confirmed: tuple[int, int] | None = None
    version: int | None = None
    lake = open_lake(str(tmp_path))
    for delay in (0.0, 0.013, 0.031, 0.057, 0.09):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            if delay > 0.03:
                writer.stdout.readline()
            time.sleep(delay)
            writer.kill()
            lines = writer.stdout.read().splitlines()
        if lines:
            confirmed = tuple(map(int, lines[-1].split()))  # type: ignore[assignment]
        version = lake.version("t")
        if version is None:
            assert confirmed is None
            continue
        assert confirmed is None or version >= confirmed[0]
        for each in range(version + 1):
            assert read(lake, "t", each)["a"].to_pylist() == [int(lake.note("t", each)["n"])] * 1000
    assert lake.write("t", ROWS) == (0 if version is None else version + 1)
    assert not list((tmp_path / "t/_staging").glob("*.parquet"))


def test_rows_are_taken_once_from_where_the_last_ones_ended(lake: Lake) -> None:
    assert lake.mark("t", "a") is None
    lake.write("t", ROWS, "append", once={"a": (None, 5), "b": (None, 1)})
    for before in (None, 4, 6):
        with pytest.raises(StoreBusy, match="rows of 'a' are in the table up to 5"):
            lake.write("t", ROWS, "append", once={"a": (before, 9)})
    lake.write("t", ROWS, "append", once={"a": (5, 9)})
    assert [lake.mark("t", writer) for writer in ("a", "b", "c")] == [9, 1, None]
    assert lake.rows("t") == 4
    for _ in range(60):  # a summary of the log is written on the way
        lake.write("t", ROWS.slice(0, 0), "append")
    assert lake.mark("t", "a") == 9
    assert len(list((lake._root / "t").glob("*.parquet"))) == 2  # type: ignore[attr-defined]  # refused ones are gone


def test_appended_rows_with_a_name_replace_those_of_that_name(lake: Lake) -> None:
    lake.write("t", ROWS, "append")
    first = lake.write("t", ROWS, "append", part="ab")
    lake.write("t", ROWS, "append", part="abc")
    lake.write("t", pa.table({"a": pa.array([9], pa.int64()), "new": [True]}), "append", part="ab")
    assert read(lake, "t").sort_by("a").select(["a", "new"]).to_pylist() == [
        {"a": 1, "new": None},
        {"a": 1, "new": None},
        {"a": 2, "new": None},
        {"a": 2, "new": None},
        {"a": 9, "new": True},
    ]
    assert read(lake, "t", first).num_rows == 4  # old versions stay readable
    lake.write("t", ROWS.slice(0, 0), "append", part="abc")
    assert lake.rows("t") == 3
    for mode, part in (("overwrite", "ab"), ("append", "a-b")):
        with pytest.raises(UsageError, match="part is letters and digits, for rows that are appended"):
            lake.write("t", ROWS, mode, part=part)


def test_small_files_are_joined_and_rows_stay(lake: Lake) -> None:
    lake.write("t", ROWS, "append", part="ab")
    for n in range(20):
        columns = {"a": pa.array([n], pa.int64()), **({"b": [n / 2]} if n > 10 else {})}
        version = lake.write("t", pa.table(columns), "append", once={"w": (n or None, n + 1)})
    order = [("a", "ascending"), ("s", "ascending"), ("b", "ascending")]
    before = read(lake, "t").sort_by(order).select(["a", "s", "b"])
    assert lake.tidy("t")
    assert not lake.tidy("t")
    assert len(lake.files("t")) == 2
    assert read(lake, "t").sort_by(order).select(["a", "s", "b"]).equals(before)
    assert (lake.rows("t"), lake.mark("t", "w"), len(lake.files("t", version))) == (22, 20, 21)
    with pytest.raises(NotFoundError):
        lake.tidy("nothing")
