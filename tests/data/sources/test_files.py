"""File sources: what is read, and what is refused."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.data.sources import Counts, find_files, open_source
from headway.define import Source
from headway.errors import BindingError, DataError, HeadwayError

TAXI = Path(__file__).resolve().parents[3] / "examples/taxi/data/trips.parquet"
DAY = datetime(2024, 1, 1, tzinfo=UTC)


def read(root: Path, path: str, **declared: Any) -> pa.Table:
    return read_and_count(root, path, **declared)[0]


def read_and_count(root: Path, path: str, **declared: Any) -> tuple[pa.Table, Counts]:
    reader = open_source(Source("s", path=path, **declared), root)
    return pa.Table.from_batches(list(reader.batches()), reader.schema), reader.counts


def types(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


# -- the columns headway adds ------------------------------------------------------------------------------------


def test_event_known_and_arrival(tmp_path: Path) -> None:
    hours = [DAY + timedelta(hours=hour) for hour in range(4)]
    rows = {"ts": [hours[0], hours[1], hours[1], None], "made": [hours[3], hours[0], None, hours[0]], "x": [1, 2, 3, 4]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    found, counts = read_and_count(tmp_path, "a.parquet", timestamp="ts", created="made", delay="30m")
    half = timedelta(minutes=30)
    assert found["__event"].to_pylist() == rows["ts"]
    assert found["__known"].to_pylist() == [hours[3], hours[1] + half, None, None]
    assert found["__seq"].to_pylist() == [0, 1, 2, 3]
    assert found.column_names == ["ts", "made", "x", "__event", "__known", "__seq"]
    assert (counts.rows, counts.unplaced) == (4, 1)


def test_known_is_the_event_time_and_the_delay_without_created(tmp_path: Path) -> None:
    pq.write_table(pa.table({"ts": [DAY, datetime(9999, 12, 31, tzinfo=UTC)]}), tmp_path / "a.parquet")
    found = read(tmp_path, "a.parquet", timestamp="ts", delay="1us")
    events = found["__event"].combine_chunks().view(pa.int64()).to_pylist()
    assert found["__known"].combine_chunks().view(pa.int64()).to_pylist() == [event + 1 for event in events]
    assert read(tmp_path, "a.parquet", timestamp="ts", delay="366000d").num_rows == 2  # beyond the year 9999


def test_a_timeless_source_has_its_arrival_only(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "when": [datetime(2024, 1, 1)]}), tmp_path / "a.parquet")
    found = read(tmp_path, "a.parquet")
    assert types(found) == {"a": "int64", "when": "timestamp[us, tz=UTC]", "__seq": "int64"}


def test_arrival_goes_on_over_sorted_files(tmp_path: Path) -> None:
    for name, value in (("b/2", 3), ("a/9", 2), ("a/10", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"v": [value, value * 10]}), tmp_path / f"{name}.parquet")
    found = read(tmp_path, "**/*.parquet")
    assert found["v"].to_pylist() == [1, 10, 2, 20, 3, 30]
    assert found["__seq"].to_pylist() == list(range(6))


def test_dates_are_midnight_in_the_zone_and_stay_dates(tmp_path: Path) -> None:
    pq.write_table(pa.table({"day": [date(2024, 7, 1), None]}), tmp_path / "a.parquet")
    found = read(tmp_path, "a.parquet", timestamp="day", timezone="Europe/Lisbon")
    assert found["__event"].to_pylist() == [datetime(2024, 6, 30, 23, tzinfo=UTC), None]
    assert found["day"].to_pylist() == [date(2024, 7, 1), None]


def test_midnight_may_not_exist(tmp_path: Path) -> None:
    pq.write_table(pa.table({"day": [date(2018, 11, 4)]}), tmp_path / "a.parquet")
    found, counts = read_and_count(tmp_path, "a.parquet", timestamp="day", timezone="America/Sao_Paulo")
    assert found["__event"].to_pylist() == [datetime(2018, 11, 4, 3, tzinfo=UTC)]
    assert counts.nonexistent == 1


def test_texts_of_a_parquet_file_can_be_the_time(tmp_path: Path) -> None:
    texts = ["2024-01-01T01:00:00.1234567+01:00", "2024-01-01", None, "2024-01-01 05:00"]
    pq.write_table(pa.table({"ts": texts, "other": texts}), tmp_path / "a.parquet")
    found = read(tmp_path, "a.parquet", timestamp="ts", timezone="America/New_York")
    five = DAY + timedelta(hours=5)
    assert found["__event"].to_pylist() == [DAY + timedelta(microseconds=123456), five, None, five + timedelta(hours=5)]
    assert found["ts"].equals(found["__event"])
    assert found["other"].to_pylist() == texts


# -- formats -----------------------------------------------------------------------------------------------------

CSV = """id,flag,n,x,zip,day,at,zoned,name,big,empty
1,true,5,1.5,01234,2024-01-01,2024-01-01 00:00:00,2024-01-01T00:00:00+01:00,Ann,12345678901234567890,
2,FALSE,-3,NaN,99999,2024-02-29,2024-01-01,2024-01-01T00:00:00Z,NA,1,
3,,NA,2,00000,,,2024-01-01T00:00:00.5-02:30,"",2,
"""


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv"])
def test_csv_types_are_told_from_all_values(tmp_path: Path, name: str) -> None:
    text = CSV.replace(",", "\t") if name.endswith("tsv") else CSV
    (tmp_path / name).write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith("gz") else text.encode())
    found = read(tmp_path, name, timestamp="at", timezone="America/New_York")
    assert types(found) == {
        "id": "int64",
        "flag": "bool",
        "n": "int64",
        "x": "double",
        "zip": "string",
        "day": "date32[day]",
        "at": "timestamp[us, tz=UTC]",
        "zoned": "timestamp[us, tz=UTC]",
        "name": "string",
        "big": "string",
        "empty": "string",
        "__event": "timestamp[us, tz=UTC]",
        "__known": "timestamp[us, tz=UTC]",
        "__seq": "int64",
    }
    assert found["flag"].to_pylist() == [True, False, None]
    assert found["n"].to_pylist() == [5, -3, None]
    assert str(found["x"].to_pylist()) == "[1.5, nan, 2.0]"
    assert found["zip"].to_pylist() == ["01234", "99999", "00000"]
    assert found["at"].to_pylist() == [DAY + timedelta(hours=5)] * 2 + [None]
    hours = [timedelta(hours=-1), timedelta(0), timedelta(hours=2, minutes=30, milliseconds=500)]
    assert found["zoned"].to_pylist() == [DAY + hour for hour in hours]
    assert found["name"].to_pylist() == ["Ann", "NA", ""]
    assert found["empty"].to_pylist() == [None] * 3


def test_csv_types_do_not_hang_on_what_comes_first(tmp_path: Path) -> None:
    """The reader works in blocks of some megabytes: a text after many numbers makes all of them text."""
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2.5\n" * 1_500_000 + "x,3\n")
    reader = open_source(Source("s", path="a.csv"), tmp_path)
    assert [str(field.type) for field in reader.schema] == ["string", "double", "int64"]
    assert sum(batch.num_rows for batch in reader.batches()) == 1_500_001


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a;b\n1;2,5\n", [{"a": 1, "b": "2,5"}]),
        ('\ufeffa,b\r\n"x\ny","q""q"\r\n', [{"a": "x\ny", "b": 'q"q'}]),
        ("a,b", []),
        ("a,b\n\n", []),
        ("a,b\n\n1,2\n\n", [{"a": 1, "b": 2}]),
        ("a\n1\n2", [{"a": 1}, {"a": 2}]),
    ],
)
def test_csv_dialects(tmp_path: Path, text: str, rows: list[dict[str, Any]]) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert read(tmp_path, "a.csv").drop(["__seq"]).to_pylist() == rows


def test_ndjson(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"n": 1, "x": 1, "s": "007", "at": "2024-01-01T00:00:00+01:00", "in": {"t": "2024-01-01T00:00:00Z"}, "l": [1]},
        {"n": None, "x": 2.5, "at": "2024-01-01T00:00:00", "new": True, "in": {"k": 1}, "l": None},
        {},
    ]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    (tmp_path / "a.ndjson").write_text(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    for name in ("a.ndjson", "a.jsonl.gz"):
        found = read(tmp_path, name, timezone="Europe/Lisbon")
        assert types(found) == {
            "n": "int64",
            "x": "double",
            "s": "string",
            "at": "timestamp[us, tz=UTC]",
            "in": "struct<t: string, k: int64>",
            "l": "list<item: int64>",
            "new": "bool",
            "__seq": "int64",
        }
        assert found["s"].to_pylist() == ["007", None, None]
        assert found["at"].to_pylist() == [DAY - timedelta(hours=1), DAY, None]
        assert found["in"].to_pylist() == [{"t": "2024-01-01T00:00:00Z", "k": None}, {"t": None, "k": 1}, None]


def test_ndjson_types_do_not_hang_on_what_comes_first(tmp_path: Path) -> None:
    line = json.dumps({"a": 1, "t": "2024-01-01", "pad": "p" * 200}) + "\n"
    late = json.dumps({"a": 0.5, "t": "some day", "more": {"k": 1}}) + "\n"
    (tmp_path / "a.ndjson").write_text(line * 50_000 + late)
    found = read(tmp_path, "a.ndjson")
    assert types(found) == {"a": "double", "t": "string", "pad": "string", "more": "struct<k: int64>", "__seq": "int64"}
    assert found["t"].to_pylist()[-2:] == ["2024-01-01", "some day"]
    assert found.num_rows == 50_001


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "i": st.none() | st.integers(-(2**63), 2**63 - 1),
                "f": st.none() | st.floats(allow_nan=False),
                "b": st.none() | st.booleans(),
                "s": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
                "d": st.none() | st.dates(),
            }
        ),
        min_size=1,
        max_size=15,
    )
)
def test_what_is_written_as_csv_is_read_back(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    schema = pa.schema({"i": pa.int64(), "f": pa.float64(), "b": pa.bool_(), "s": pa.string(), "d": pa.date32()})
    table = pa.Table.from_pylist(rows, schema)
    pa_csv.write_csv(table, tmp_path / "a.csv")
    found = read(tmp_path, "a.csv")
    for name in schema.names:
        column = found[name]
        if column.type == schema.field(name).type:
            assert column.to_pylist() == table[name].to_pylist()
        elif name == "s":  # texts that all look like something else
            assert column.type != pa.string()
        elif column.type == pa.int64():  # floats written as whole numbers
            assert column.to_pylist() == table[name].to_pylist()
        else:  # nothing but nulls, or a whole number with too many digits
            assert column.type == pa.string()
            assert [None if value is None else float(value) for value in column.to_pylist()] == table[name].to_pylist()


# -- several files -----------------------------------------------------------------------------------------------


def test_files_are_joined_by_name_and_widened(tmp_path: Path) -> None:
    first = {"a": pa.array([1], pa.int8()), "f": pa.array([0.5], pa.float32()), "t": pa.array([0], pa.timestamp("ns"))}
    second = {
        "t": pa.array([1], pa.timestamp("s", "Asia/Tokyo")),
        "a": pa.array([300], pa.uint16()),
        "f": pa.array([2], pa.int64()),
        "new": pa.array(["x"]).dictionary_encode(),
    }
    pq.write_table(pa.table(first), tmp_path / "1.parquet")
    pq.write_table(pa.table(second), tmp_path / "2.parquet")
    pq.write_table(pa.table({"a": pa.nulls(1), "new": ["y"]}), tmp_path / "3.parquet")
    found = read(tmp_path, "*.parquet")
    assert types(found) == {
        "a": "int32",
        "f": "double",
        "t": "timestamp[us, tz=UTC]",
        "new": "string",
        "__seq": "int64",
    }
    assert found["a"].to_pylist() == [1, 300, None]
    assert found["f"].to_pylist() == [0.5, 2.0, None]
    assert found["t"].to_pylist() == [datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None]
    assert found["new"].to_pylist() == [None, "x", "y"]


def test_texts_of_all_files_decide_together(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2024-01-01\n")
    (tmp_path / "2.csv").write_text("a,b\n0x,\n")
    (tmp_path / "3.csv").write_text("")
    found = read(tmp_path, "*.csv")
    assert found["a"].to_pylist() == ["1", "0x"]
    assert found["b"].to_pylist() == [date(2024, 1, 1), None]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert read(tmp_path, "a.parquet").num_rows == 0


# -- what is refused ---------------------------------------------------------------------------------------------


def write_parquet(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("columns", "declared", "kind", "message"),
    [
        ({"ab": [1]}, {"id": "abc"}, BindingError, "id names the column 'abc', which is not there; did you mean 'ab'?"),
        (
            {"x": [1]},
            {"timestamp": "ts"},
            BindingError,
            "timestamp names the column 'ts', which is not there; there are: x",
        ),
        ({"ts": [DAY]}, {"timestamp": "ts", "created": "c"}, BindingError, "created names the column 'c'"),
        ({"x": [1]}, {"deleted": "gone"}, BindingError, "deleted names the column 'gone'"),
        (
            {"ts": [1]},
            {"timestamp": "ts"},
            BindingError,
            "timestamp 'ts' is int64; it must be a timestamp, a date or ISO",
        ),
        ({"ts": [1.5]}, {"timestamp": "ts"}, BindingError, "timestamp 'ts' is double"),
        ({"d": ["yes"]}, {"deleted": "d"}, BindingError, "deleted 'd' is string; it must be boolean"),
        ({"id": [1, None, None]}, {"id": "id"}, DataError, "2 of 3 rows have no id (id)"),
        ({"a": [1, None], "b": [None, None]}, {"id": ["a", "b"]}, DataError, "2 of 2 rows have no id (a, b)"),
        ({"id": [2.0**53]}, {"id": "id"}, DataError, "id 'id' holds numbers that a double cannot tell apart"),
        (
            {"ts": ["soon"]},
            {"timestamp": "ts"},
            DataError,
            "file a.parquet: column 'ts': 'soon' is no time; write it as",
        ),
        ({"ts": ["2024-02-30"]}, {"timestamp": "ts"}, DataError, "'2024-02-30' is no time"),
        ({"__seq": [1]}, {}, DataError, "column '__seq' in "),
        ({"__Event": [1]}, {}, DataError, "has a name that headway needs itself"),
        ({"a": [1], "A": [1]}, {}, DataError, "differ only in upper and lower case"),
        ({"": [1]}, {}, DataError, "has no name"),
        ({"u": pa.array([2**63], pa.uint64())}, {}, DataError, "column 'u': a value of type uint64 does not fit int64"),
        ({"l": [[datetime(2024, 1, 1)]]}, {}, DataError, "times inside of lists and structs need a time zone"),
        ({"t": pa.array([10**12], pa.timestamp("s"))}, {}, DataError, "column 't': it holds times outside the years 1"),
        (
            {"d": pa.array([10**7], pa.date32())},
            {"timestamp": "d"},
            DataError,
            "column 'd': it holds times outside the",
        ),
    ],
)
def test_columns_that_do_not_fit(
    tmp_path: Path, columns: Any, declared: Any, kind: type[HeadwayError], message: str
) -> None:
    write_parquet(tmp_path / "a.parquet", **columns)
    with pytest.raises(kind) as caught:
        read(tmp_path, "a.parquet", **declared)
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "source 's'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_types_that_do_not_go_together_name_file_and_column(tmp_path: Path) -> None:
    write_parquet(tmp_path / "1.parquet", a=[1])
    write_parquet(tmp_path / "2.parquet", a=["x"])
    with pytest.raises(DataError, match=r"column 'a' is string in .*2.parquet, but int64 in .*1.parquet"):
        read(tmp_path, "*.parquet")
    write_parquet(tmp_path / "1.parquet", a=[0.5])
    write_parquet(tmp_path / "2.parquet", a=[2**53 + 1])
    with pytest.raises(DataError, match=r"file 2.parquet: column 'a': Integer value 9007199254740993"):
        read(tmp_path, "*.parquet")


def test_names_that_differ_in_case_between_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "1.parquet", Fee=[1])
    write_parquet(tmp_path / "2.parquet", fee=[1])
    with pytest.raises(DataError, match=r"columns 'Fee' in .*1.parquet and 'fee' in .*2.parquet differ only"):
        read(tmp_path, "*.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", "a.parquet cannot be read, it may be damaged"),
        ("a.parquet", b"PAR1 nothing", "a.parquet cannot be read, it may be damaged"),
        ("a.csv", b"a,b\n1\n", "Expected 2 columns, got 1"),
        ("a.csv", b"a,b\n\xff,1\n", "UTF8"),
        ("a.csv", b"a,a\n1,2\n", "several columns called 'a'"),
        ("a.csv", b"", "there is nothing in"),
        (
            "a.csv.gz",
            gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0)[:-20],
            "a.csv.gz cannot be read, it may be damaged",
        ),
        ("a.ndjson", b'{"a": 1}\n{bad\n', "a.ndjson cannot be read, it may be damaged: JSON parse error"),
        ("a.ndjson", b'{"a": 1}\n{"a": "x"}\n', "Column(/a) changed from number to string"),
        ("a.ndjson", b"[1]\n", "JSON parse error"),
        ("a.ndjson", b"", "there is nothing in"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path, name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_page_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"s": [f"text {n}" for n in range(5000)]}), path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"source 's': file a.parquet cannot be read, it may be damaged"):
        read(tmp_path, "a.parquet")


def test_no_file_matches(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"no file matches 'data/\*.csv' in .*: .*data holds no files"):
        find_files(Source("s", path="data/*.csv"), tmp_path)
    (tmp_path / "data/trips.parquet").touch()
    (tmp_path / "data/.hidden.csv").touch()
    for path in ("data/trip.parquet", "data/*.csv"):
        with pytest.raises(DataError, match=r"near by there are trips.parquet"):
            find_files(Source("s", path=path), tmp_path)
    with pytest.raises(DataError, match="there is no folder 'dota' in"):
        find_files(Source("s", path="dota/deep/trip.parquet"), tmp_path)
    with pytest.raises(DataError, match=r"is a folder; name its files"):
        find_files(Source("s", path="data", format="csv"), tmp_path)
    with pytest.raises(DataError, match=r"is not a local path"):
        find_files(Source("s", path="s3://bucket/a.csv"), tmp_path)


def test_a_literal_name_goes_before_a_pattern(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a[1].parquet", v=[1])
    write_parquet(tmp_path / "a1.parquet", v=[2])
    assert read(tmp_path, "a[1].parquet")["v"].to_pylist() == [1]
    assert read(tmp_path, str(tmp_path / "a?.parquet"))["v"].to_pylist() == [2]


def test_an_overriding_path_brings_its_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("v\n1\n")
    reader = open_source(Source("s", path="gone.parquet"), tmp_path, "a.csv")
    assert [row for batch in reader.batches() for row in batch.to_pylist()] == [{"v": 1, "__seq": 0}]


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A file of many row groups passes through piece by piece."""
    piece = pa.table({f"c{i}": pa.array(range(100_000), pa.float64()) for i in range(10)})
    with pq.ParquetWriter(tmp_path / "a.parquet", piece.schema) as writer:
        for _ in range(10):
            writer.write_table(piece)
    reader = open_source(Source("s", path="a.parquet"), tmp_path)
    base = pa.total_allocated_bytes()
    peak = rows = 0
    for batch in reader.batches():
        peak = max(peak, pa.total_allocated_bytes() - base)
        rows += batch.num_rows
    assert rows == 1_000_000
    assert peak < 40_000_000  # all of it is 80 MB


def test_looking_for_files_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("v\n1\n")
    code = (
        "import sys, pathlib; import headway.data, headway.data.engine; from headway.define import Source;"
        "from headway.data.sources import source_digest; root = pathlib.Path(sys.argv[1]);"
        "source_digest(Source('s', path='*.csv'), root, root / 'cache.json');"
        "print(sorted({'pyarrow', 'deltalake', 'duckdb', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_the_taxi_trips() -> None:
    declared = {"id": "trip_id", "timestamp": "pickup_at", "created": "dropoff_at", "timezone": "America/New_York"}
    found, counts = read_and_count(TAXI.parent, TAXI.name, **declared)
    assert counts == Counts(rows=308_527, ambiguous=109, nonexistent=0, unplaced=0)
    naive = pq.read_table(TAXI, columns=["pickup_at"])["pickup_at"]
    for row in (0, 150_000, 308_526):
        wanted = naive[row].as_py().replace(tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
        assert found["__event"][row].as_py() == wanted
