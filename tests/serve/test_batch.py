"""Scoring files: every row comes out, in order, or nothing does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from headway.errors import DataError, HeadwayError, NotFoundError, UsageError
from headway.serve import Scoring, input_types, predict_file

TABLE = pa.table(
    {
        "id": [7, 7, None, 3],
        "zone": ["a", "b", None, 'c "quoted", and more'],
        "at": pa.array([0, 1_500_000, None, 2**50], pa.timestamp("us", "UTC")),
        "x": [1.5, None, float("inf"), -0.0],
    }
)
TYPES = {"id": "int64", "at": "timestamp[us, tz=UTC]", "x": "double"}


def doubled(table: pa.Table) -> pa.Table:
    """Something that depends on each row alone."""
    ids = [None if i is None else 2.0 * i for i in table["id"].to_pylist()]
    scored = table.append_column("prediction", pa.array(ids, pa.float64()))
    return scored.append_column("version", pa.array(["1"] * table.num_rows, pa.string()))


def write(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        rows = [
            {
                k: v.isoformat() if hasattr(v, "isoformat") else v
                for k, v in row.items()
                if v is not None and v != float("inf")
            }
            for row in table.to_pylist()
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".csv":
        return pyarrow.csv.read_csv(path)
    return pa.Table.from_pylist([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.parametrize("given", [".parquet", ".csv", ".ndjson", ".jsonl"])
@pytest.mark.parametrize("wanted", [".parquet", ".csv", ".ndjson"])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_every_row_comes_out_in_order(tmp_path, given, wanted, rows) -> None:
    source, output = write(tmp_path / f"in{given}", TABLE), tmp_path / f"out{wanted}"
    steps: list[tuple[int, int]] = []
    done = predict_file(
        source, output, doubled, types=TYPES, batch_rows=rows, progress=lambda _, n, of: steps.append((n, of))
    )
    assert done == 4
    found = read(output)
    assert found["id"].to_pylist() == [7, 7, None, 3]
    assert found["prediction"].to_pylist() == [14, 14, None, 6]
    assert found["zone"].to_pylist()[3] == 'c "quoted", and more'
    assert [str(v) for v in found["version"].to_pylist()] == ["1"] * 4
    if wanted == ".parquet":
        assert found["at"].cast(pa.int64()).to_pylist() == [0, 1_500_000, None, 2**50]
        assert found["at"].type == pa.timestamp("us", "UTC")
    assert steps[-1] == (4, 4 if given == ".parquet" else 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source.name, output.name])


def test_without_types_they_are_told_from_the_values(tmp_path) -> None:
    for suffix in (".csv", ".ndjson"):
        source = write(tmp_path / f"in{suffix}", TABLE)
        predict_file(source, tmp_path / "out.parquet", doubled)
        found = pq.read_schema(tmp_path / "out.parquet")
        assert found.field("id").type == pa.int64()
        assert pa.types.is_timestamp(found.field("at").type)
        assert found.field("at").type.tz == "UTC"


def test_other_columns_of_a_csv_file_stay_as_they_are(tmp_path) -> None:
    (tmp_path / "in.csv").write_text('id,code,empty\n1,007,\n2,1e3,""\n')
    predict_file(tmp_path / "in.csv", tmp_path / "out.ndjson", doubled, types={"id": "int64"})
    rows = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert [(r["code"], r["empty"]) for r in rows] == [("007", None), ("1e3", "")]


@pytest.mark.parametrize("given", [".parquet", ".csv"])
def test_no_rows(tmp_path, given) -> None:
    source = write(tmp_path / f"in{given}", TABLE.slice(0, 0))
    assert predict_file(source, tmp_path / "out.parquet", doubled, types=TYPES) == 0
    assert read(tmp_path / "out.parquet").column_names == [*TABLE.column_names, "prediction", "version"]


def test_an_empty_ndjson_file(tmp_path) -> None:
    (tmp_path / "in.ndjson").write_text("\n")
    assert predict_file(tmp_path / "in.ndjson", tmp_path / "out.csv", doubled, types=TYPES) == 0
    with pytest.raises(DataError, match="has no rows, and so no columns"):
        predict_file(tmp_path / "in.ndjson", tmp_path / "out.csv", doubled)


def test_what_fails_leaves_the_old_output(tmp_path) -> None:
    source, output = write(tmp_path / "in.parquet", TABLE), tmp_path / "out.parquet"
    predict_file(source, output, doubled)
    before = output.read_bytes()
    calls = 0

    def fails(table: pa.Table) -> pa.Table:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise DataError("the third batch is bad")
        return doubled(table)

    with pytest.raises(DataError, match="third batch"):
        predict_file(source, output, fails, batch_rows=1)
    with pytest.raises(HeadwayError, match="gave 0; nothing is written"):
        predict_file(source, output, lambda table: table.slice(0, 0))
    assert output.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_a_file_may_be_scored_in_place(tmp_path) -> None:
    source = write(tmp_path / "in.parquet", TABLE)
    predict_file(source, source, doubled)
    assert "prediction" in read(source).column_names


@pytest.mark.parametrize(
    ("source", "output", "error", "says"),
    [
        ("none.parquet", "out.parquet", NotFoundError, "there is no file"),
        ("in.parquet", "out.xlsx", UsageError, "ends in none of .parquet, .pq, .csv"),
        ("in.parquet", "nowhere/out.csv", UsageError, "make it first"),
        ("broken.parquet", "out.csv", DataError, "broken.parquet cannot be read"),
        ("empty.csv", "out.csv", DataError, "is empty"),
        ("broken.ndjson", "out.csv", DataError, "line 2 of broken.ndjson is no JSON object"),
        ("text.csv", "out.csv", DataError, "text.csv cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, source, output, error, says) -> None:
    write(tmp_path / "in.parquet", TABLE)
    (tmp_path / "broken.parquet").write_text("no parquet")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.ndjson").write_text('{"id": 1}\n[1]\n')
    (tmp_path / "text.csv").write_text("id\n1\nx\n")
    with pytest.raises(error) as caught:
        predict_file(tmp_path / source, tmp_path / output, doubled, types=TYPES)
    assert says in str(caught.value)
    assert not (tmp_path / output).exists()


def test_a_version_scores_columns(world, plan_of) -> None:
    record = world.register(1)
    assert input_types(plan_of()) == {
        "pickup_at": "timestamp[us, tz=UTC]",
        "borough": "string",
        "passengers": "int64",
        "shared": "bool",
        "miles": "double",
        "pickup_zone_id": "int64",
        "dropoff_zone_id": "int64",
    }
    scoring = Scoring.load(world.registry.directory(record), record.serving)
    columns = {
        "pickup_at": np.array(["2024-01-05T13:00", "2024-01-05T17:00", "NaT"], "datetime64[us]"),
        "borough": np.array(["Manhattan", "Brooklyn", None], object),
        "pickup__trips_1h": np.array([74.0, 3.0, np.nan]),
        "dropoff__trips_1h": np.array([42.0, 42.0, np.nan]),
        "pickup__duration_avg": np.array([7400.0, 100.0, np.nan]),
        "route_history__duration_avg": np.array([14800.0, 50.0, np.nan]),
    }
    scoring.complete(columns, 3)
    predictions, segments = scoring.predict(columns, 3, ["Manhattan", "Brooklyn", None])
    assert predictions.tolist() == [1523, 1010, 1000]
    assert segments == ["Manhattan", None, None]
