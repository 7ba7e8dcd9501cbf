"""A contract read off data holds for that data, and notices what is not like it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import headway as hw
from headway.data.binding import Binder
from headway.data.engine import Engine
from headway.data.lake import Lake, open_lake
from headway.data.quality import infer_checks, proposals, run_checks
from headway.define import Check, Source
from headway.errors import DataError

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)  # a Monday
DAYS = 35


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


def visits(days: int = DAYS) -> dict[str, pa.Array]:
    """Five weeks of rows: 40 on a working day, 12 on the others."""
    random = np.random.default_rng(5)
    at = [
        START + dt.timedelta(days=day, minutes=30 * n) for day in range(days) for n in range(40 if day % 7 < 5 else 12)
    ]
    many = len(at)
    note = [None if n % 10 == 0 else f"text {n}" for n in range(many)]
    return {
        "visit_id": pa.array(range(many)),
        "at": pa.array(at, pa.timestamp("us", "UTC")),
        "fare": pa.array(random.uniform(3, 90, many)),
        "heat": pa.array(random.normal(0, 10, many)),
        "stops": pa.array(random.integers(0, 4, many)),
        "kind": pa.array([("van", "bus", "tram")[n % 3] for n in range(many)]),
        "note": pa.array(note),
    }


def put(lake: Lake, columns: dict[str, pa.Array], name: str = "visits") -> None:
    table = pa.table(columns)
    many = table.num_rows
    table = table.append_column("__event", columns["at"]).append_column("__known", columns["at"])
    table = table.append_column("__seq", pa.array(range(many), pa.int64()))
    lake.write(f"source/{name}", table, "overwrite")


def source(checks: Any = ()) -> Source:
    return Source("visits", path="v.parquet", timestamp="at", checks=checks)


def instant(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1e6)


NOW = instant(START + dt.timedelta(days=DAYS))


def inferred(lake: Lake, engine: Engine, now: int = NOW) -> list[Check]:
    made = source()
    return [check for check, _ in infer_checks(made, Binder({"visits": made}, lake, engine), lake, engine, now)]


def failing(lake: Lake, engine: Engine, checks: list[Check], now: int = NOW) -> list[str]:
    made = source(checks)
    results = run_checks(made, Binder({"visits": made}, lake, engine), lake, engine, now)
    return [r.check.partition(",")[0] for r in results if not r.passed]


def test_what_is_read_off(lake: Lake, engine: Engine) -> None:
    put(lake, visits())
    found = {str(check): check.on_fail for check in inferred(lake, engine)}
    assert found["has_type(\"fare\", 'double')"] == "error"
    assert found['not_null("visit_id", "fare", "heat", "stops", "kind")'] == "error"
    assert found['null_share("note", 0.16)'] == "warn"
    assert found["one_of(\"kind\", 'bus', 'tram', 'van')"] == "warn"
    assert found['one_of("stops", 0, 1, 2, 3)'] == "warn"
    (fare,) = [text for text in found if text.startswith('between("fare"')]
    assert fare == 'between("fare", 0.0, 99.0)'
    assert any(text.startswith('between("heat", -') for text in found)
    (volume,) = [text for text in found if text.startswith("volume")]
    assert volume == f"volume({((20, 60),) * 5 + ((6, 18),) * 2}, '1d', 'UTC', 7)"
    assert any(text.startswith("freshness") for text in found)
    assert not any("note" in text and text.startswith("one_of") for text in found)


def test_it_holds_for_its_own_data(lake: Lake, engine: Engine) -> None:
    put(lake, visits())
    checks = inferred(lake, engine)
    assert len(checks) > 10
    assert failing(lake, engine, checks) == []


@pytest.mark.parametrize(
    ("column", "change", "noticed"),
    [
        ("fare", lambda v: pa.array(np.asarray(v) * 3), 'between("fare"'),
        ("fare", lambda v: v.cast(pa.string()), 'has_type("fare"'),
        ("kind", lambda v: pa.array(["boat", *v.to_pylist()[1:]]), 'one_of("kind"'),
        ("note", lambda v: pa.nulls(len(v), pa.string()), 'null_share("note"'),
        ("heat", lambda v: pa.array([None, *v.to_pylist()[1:]]), 'not_null("visit_id"'),
    ],
)
def test_it_notices_what_is_different(lake: Lake, engine: Engine, column: str, change: Any, noticed: str) -> None:
    put(lake, visits())
    checks = inferred(lake, engine)
    columns = visits()
    columns[column] = change(columns[column])
    if noticed.startswith("has_type"):
        checks = [check for check in checks if check.kind == "has_type"]  # the others do not fit text at all
    put(lake, columns)
    assert noticed in failing(lake, engine, checks)


def test_it_notices_days_without_rows(lake: Lake, engine: Engine) -> None:
    put(lake, visits())
    checks = [check for check in inferred(lake, engine) if check.kind in ("volume", "freshness")]
    two_days = NOW + 2 * 86_400_000_000
    assert set(failing(lake, engine, checks, two_days)) == {str(c).partition(",")[0] for c in checks}


def test_few_rows_tell_little(lake: Lake, engine: Engine) -> None:
    put(lake, {name: values.slice(0, 5) for name, values in visits().items()})
    kinds = {check.kind for check in inferred(lake, engine)}
    assert not kinds & {"volume", "one_of"}


def test_nothing_is_read_off_nothing(lake: Lake, engine: Engine) -> None:
    put(lake, {name: values.slice(0, 0) for name, values in visits().items()})
    with pytest.raises(DataError, match="no rows yet"):
        inferred(lake, engine)


def test_proposals_are_python(lake: Lake, engine: Engine) -> None:
    """What is printed can be pasted: it makes the same checks."""
    put(lake, visits())
    made = source()
    found = infer_checks(made, Binder({"visits": made}, lake, engine), lake, engine, NOW)
    for (check, why), told in zip(found, proposals(made, found), strict=True):
        assert why == told.why
        again = eval(told.code, {"hw": hw})
        assert (str(again), again.on_fail) == (str(check), check.on_fail)
