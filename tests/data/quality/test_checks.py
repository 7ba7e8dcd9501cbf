"""Checks: what passes, what fails, what is set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import headway as hw
from headway.data.binding import Binder
from headway.data.engine import Engine
from headway.data.lake import Lake, open_lake
from headway.data.quality import raise_for, run_checks, standing
from headway.define import Check, Source
from headway.define.records import CheckResult
from headway.errors import BindingError, CheckFailed, DataError, DefinitionError

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = int(START.timestamp()) * 1_000_000 + 10 * 3_600_000_000  # ten hours later
ROWS = [
    {"id": 1, "ts": 1, "n": 5, "x": 0.5, "text": "abc", "flag": True, "day": date(2024, 1, 1)},
    {"id": 2, "ts": 2, "n": None, "x": 2.5, "text": "abd", "flag": None, "day": date(2024, 1, 2)},
    {"id": 3, "ts": 3, "n": 7, "x": float("nan"), "text": None, "flag": False, "day": None},
    {"id": 4, "ts": 30, "n": 5, "x": None, "text": "xabc", "flag": True, "day": date(2024, 1, 9)},
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


class Bench:
    """One source of rows in a lake, and its checks."""

    def __init__(self, lake: Lake, engine: Engine) -> None:
        self.lake, self.engine = lake, engine
        self.sources: dict[str, Source] = {}

    def put(self, rows: Sequence[dict[str, Any]], source: Source) -> None:
        table = pa.Table.from_pylist(list(rows))
        if source.timestamp is not None:
            times = pa.array([START + timedelta(hours=row["ts"]) for row in rows], pa.timestamp("us", tz="UTC"))
            table = table.set_column(table.column_names.index("ts"), "ts", times)
            table = table.append_column("__event", times).append_column("__known", times)
        if source.id:
            gone = [bool(source.deleted and row[source.deleted]) for row in rows]
            table = table.append_column("__deleted", pa.array(gone, pa.bool_()))
        table = table.append_column("__seq", pa.array(np.arange(table.num_rows), pa.int64()))
        self.lake.write(f"source/{source.name}", table, "overwrite")

    def run(
        self, *checks: Check, rows: Sequence[dict[str, Any]] = ROWS, now: int = NOW, **kwargs: Any
    ) -> list[CheckResult]:
        source = Source("rows", path="r.parquet", **({"timestamp": "ts"} | kwargs), checks=checks)
        self.sources["rows"] = source
        self.put(rows, source)
        return self.check(source, now)

    def check(self, source: Source, now: int = NOW) -> list[CheckResult]:
        return run_checks(source, self.binder, self.lake, self.engine, now)

    @property
    def binder(self) -> Binder:
        return Binder(self.sources, self.lake, self.engine)

    def set_aside(self, name: str = "rows") -> list[dict[str, Any]]:
        files = self.lake.files(f"quarantine/{name}")
        sql = "select * from q where __aside_until is null order by __seq"
        return self.engine.query(sql, {"q": files}).to_pylist()

    def kept(self, name: str = "rows") -> list[int]:
        return self.binder.current_rows(self.sources[name], 10**18).sort_by("__seq").column("id").to_pylist()


@pytest.fixture
def bench(tmp_path: Path, engine: Engine) -> Bench:
    return Bench(open_lake(str(tmp_path / "lake")), engine)


@pytest.mark.parametrize(
    ("check", "failed"),
    [
        (hw.not_null("id"), 0),
        (hw.not_null("n", "text"), 2),
        (hw.unique("id"), 0),
        (hw.unique("n"), 1),
        (hw.unique("n", "flag"), 1),
        (hw.unique("text"), 0),
        (hw.between("n", 6, 10), 2),
        (hw.between("n", 6), 2),
        (hw.between("n", None, 6), 1),
        (hw.between("x", 0.4, 100), 1),  # NaN
        (hw.between("x", 0), 1),
        (hw.between("text", "abc", "abz"), 1),
        (hw.between("day", date(2024, 1, 2), date(2024, 1, 9)), 1),
        (hw.between("day", "2024-01-02", None), 1),
        (hw.between("ts", START, START + timedelta(hours=5)), 1),
        (hw.one_of("text", ["abc", "abd"]), 1),
        (hw.one_of("n", [5, None]), 1),
        (hw.one_of("flag", [True]), 1),
        (hw.matches("text", "ab."), 1),
        (hw.matches("text", "a'b"), 3),
        (hw.expr("n < 6"), 1),
        (hw.expr("rows.n < 6 -- a bound"), 1),
        (hw.expr("flag or n is not null"), 0),
        (hw.row_count(4, 4), 0),
        (hw.row_count(5), 1),
        (hw.row_count(None, 3), 1),
        (hw.freshness("7h"), 0),
        (hw.freshness("6h"), 1),
    ],
    ids=str,
)
def test_what_fails(bench: Bench, check: Check, failed: int) -> None:
    (result,) = bench.run(check)
    assert (result.source, result.check, result.on_fail) == ("rows", str(check), "error")
    assert (result.rows, result.failed) == (4, failed)
    assert result.passed == (failed == 0)


def test_details_say_what_was_found(bench: Bench) -> None:
    found = bench.run(hw.between("n", 6, 10), hw.row_count(9), hw.freshness("1h"), hw.unique("n", "flag"))
    assert [r.detail for r in found] == [
        "for example 5", "4 rows", "the newest event is 7h old", "for example 5, true",
    ]  # fmt: skip


def test_no_rows(bench: Bench) -> None:
    checks = (hw.not_null("id"), hw.row_count(1), hw.freshness("1h"))
    source = Source("rows", path="r.parquet", timestamp="ts", checks=checks)
    bench.sources["rows"] = source
    stamp = pa.timestamp("us", tz="UTC")
    schema = pa.schema({"id": pa.int64(), "ts": stamp, "__event": stamp, "__known": stamp, "__seq": pa.int64()})
    bench.lake.write("source/rows", schema.empty_table(), "overwrite")
    found = bench.check(source)
    assert [(r.rows, r.failed) for r in found] == [(0, 0), (0, 1), (0, 1)]
    assert found[2].detail == "no event yet"


def test_rows_that_fail_are_set_aside_and_replaced_by_the_next_run(bench: Bench) -> None:
    checks = (
        hw.not_null("n", on_fail="quarantine"),
        hw.between("x", 0, 1, on_fail="quarantine"),
        hw.unique("n", on_fail="quarantine"),
    )
    found = bench.run(*checks)
    assert [r.failed for r in found] == [1, 2, 1]
    rows = bench.set_aside()
    assert [(row["id"], row["__check"]) for row in rows] == [
        (2, 'not_null("n"); between("x", 0, 1)'),
        (3, 'between("x", 0, 1)'),
        (4, 'unique("n")'),
    ]
    ours = {"__check", "__since", "__aside_until", "__event", "__known", "__seq"}
    assert set(rows[0]) == {"id", "ts", "n", "x", "text", "flag", "day"} | ours
    assert bench.kept() == [1]
    bench.run(*checks, rows=ROWS[:2])
    assert [row["id"] for row in bench.set_aside()] == [2]
    bench.run(*checks, rows=ROWS[:1])
    assert bench.set_aside() == []
    assert bench.kept() == [1]


def test_quarantine_and_results_remember(bench: Bench) -> None:
    """Each row knows since when it is set aside, and until when; each check what it found, every time."""
    check = hw.not_null("n", on_fail="quarantine")
    later = NOW + 3_600_000_000
    mended = [row | {"n": 6} for row in ROWS]
    for rows, now in ((ROWS, NOW), (ROWS, NOW + 1), (mended, later), (ROWS, later + 1)):
        bench.run(check, rows=rows, now=now)
    table = bench.engine.query("select * from q", {"q": bench.lake.files("quarantine/rows")}).to_pylist()
    assert [(row["id"], _micros(row["__since"]), _micros(row["__aside_until"])) for row in table] == [
        (2, NOW, later),
        (2, later + 1, None),
    ]
    assert standing(bench.lake, "rows") == 1
    results = bench.engine.query(
        "select * from c order by checked_at", {"c": bench.lake.files("checks/rows")}
    ).to_pylist()
    assert [(_micros(r["checked_at"]), r["check"], r["failed"], r["rows"], r["passed"]) for r in results] == [
        (NOW, 'not_null("n")', 1, 4, False),
        (NOW + 1, 'not_null("n")', 1, 4, False),
        (later, 'not_null("n")', 0, 4, True),
        (later + 1, 'not_null("n")', 1, 4, False),
    ]


def _micros(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1e6)


def test_null_share_and_types_are_of_the_whole_table(bench: Bench) -> None:
    found = bench.run(
        hw.null_share("n", 0.25),
        hw.null_share("text", 0.2, on_fail="warn"),
        hw.has_type("n", "int64"),
        hw.has_type("x", "int64", on_fail="warn"),
        hw.has_type("gone", "string", on_fail="warn"),
    )
    assert [(r.passed, r.detail) for r in found] == [
        (True, "1 of 4 are null (25.00%)"),
        (False, "1 of 4 are null (25.00%)"),
        (True, "it is int64"),
        (False, "it is double"),
        (False, "there is no such column"),
    ]


HOURS = [1, 1, 2, 2, 2, 4, 4, 9, 9, 9]  # ten hours are over: of the last nine, 03, 05, 06, 07 and 08 have no row


def test_the_rows_of_each_hour_are_counted(bench: Bench) -> None:
    rows = [ROWS[0] | {"id": n, "ts": hour} for n, hour in enumerate(HOURS)]
    (found,) = bench.run(hw.volume([(1, 3)], "1h", "UTC", 24), rows=rows)
    assert (found.failed, found.detail) == (5, "2024-01-01 08:00 has 0 rows, usual are 1 to 3")
    (found,) = bench.run(hw.volume([(2, 3)], "1h", "UTC", 1), rows=rows)
    assert found.passed
    by_hour = [(0, 0)] * 24
    by_hour[1:5] = [(2, 2), (3, 3), (0, 0), (2, 2)]
    by_hour[9] = (3, 3)
    (found,) = bench.run(hw.volume(by_hour, "1h"), rows=rows)
    assert found.passed
    shifted = [*by_hour[-2:], *by_hour[:-2]]  # Tallinn is two hours ahead
    (found,) = bench.run(hw.volume(shifted, "1h", "Europe/Tallinn"), rows=rows)
    assert found.passed
    assert not bench.run(hw.volume(shifted, "1h"), rows=rows)[0].passed


def test_days_are_those_of_the_zone(bench: Bench) -> None:
    """2024-01-01 was a Monday. 23 hours of it lie on that day in UTC, but on the next one in Tallinn."""
    rows = [ROWS[0] | {"id": n, "ts": ts} for n, ts in enumerate([1, 23, 30, 31])]
    later = NOW + 3 * 24 * 3_600_000_000
    bounds = [(2, 2), (2, 2), *[(0, 0)] * 5]
    assert bench.run(hw.volume(bounds), rows=rows, now=later)[0].passed
    found = bench.run(hw.volume(bounds, "1d", "Europe/Tallinn"), rows=rows, now=later)[0]
    assert (found.failed, found.detail) == (2, "Tuesday, 2024-01-02 has 3 rows, usual are 2 to 2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hw.volume([(1, 2), (1, 2)]), "1 pair or 7, got 2"),
        (lambda: hw.volume([(3, 2)]), "pairs of whole numbers"),
        (lambda: hw.volume([(1, 2)], "1w"), "per is one of 1h, 1d"),
        (lambda: hw.volume([(1, 2)], timezone="Mars"), "'Mars' is not a time zone"),
        (lambda: hw.volume([(1, 2)], last=0), "last is a number of buckets"),
        (lambda: hw.volume([(1, 2)], on_fail="quarantine"), "no row can be quarantined"),
        (lambda: hw.null_share("a", 2), "between 0 and 1"),
        (lambda: hw.has_type("a", ""), "name of an Arrow type"),
    ],
)
def test_nonsense_is_refused_where_it_is_declared(make: Callable[[], Check], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


def test_nothing_is_set_aside_for_an_error_or_a_warning(bench: Bench) -> None:
    bench.run(hw.not_null("n"), hw.unique("n", on_fail="warn"))
    assert bench.kept() == [1, 2, 3, 4]
    assert bench.lake.tables() == ["checks/rows", "source/rows"]


def test_a_check_taken_away_empties_the_quarantine(bench: Bench) -> None:
    bench.run(hw.not_null("n", on_fail="quarantine"))
    assert len(bench.set_aside()) == 1
    bench.run(hw.not_null("id"))
    assert bench.set_aside() == []
    assert bench.kept() == [1, 2, 3, 4]


def test_a_query_is_checked_on_its_own_rows(bench: Bench) -> None:
    bench.run(hw.not_null("n", on_fail="quarantine"))
    source = Source(
        "q",
        query="select *, n * 2 as m from rows",
        timestamp="ts",
        checks=[hw.between("m", 0, 12, on_fail="quarantine")],
    )
    bench.sources["q"] = source
    (result,) = bench.check(source)
    assert (result.rows, result.failed) == (3, 1)
    assert [row["id"] for row in bench.set_aside("q")] == [3]
    assert bench.kept("q") == [1, 4]


def test_unique_looks_at_the_last_version_of_each_fact(bench: Bench) -> None:
    rows = [{"id": i, "ts": t, "name": n} for i, t, n in [(1, 1, "a"), (1, 2, "b"), (2, 3, "a"), (3, 4, "b")]]
    (result,) = bench.run(hw.unique("name", on_fail="quarantine"), rows=rows, id="id")
    assert result.failed == 1
    assert [row["id"] for row in bench.set_aside()] == [3]
    (result,) = bench.run(hw.unique("id"), rows=rows, id="id")
    assert result.passed


def test_deletes_are_not_checked(bench: Bench) -> None:
    rows = [{"id": i, "ts": t, "name": n, "gone": g} for i, t, n, g in [(1, 1, "a", False), (1, 2, None, True)]]
    (result,) = bench.run(hw.not_null("name", on_fail="quarantine"), rows=rows, id="id", deleted="gone")
    assert (result.rows, result.failed) == (1, 0)
    assert bench.kept() == []


def test_a_timeless_source(bench: Bench) -> None:
    (result,) = bench.run(hw.not_null("n"), timestamp=None)
    assert result.failed == 1


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (hw.not_null("m"), "there is no column 'm'"),
        (hw.unique("idd"), "there is no column 'idd'; did you mean 'id'?"),
        (hw.not_null("ID"), "there is no column 'ID'"),
        (hw.expr("n < limit_"), "there is no column 'limit_'"),
        (hw.expr("sum(n) > 3"), "SUM(n) adds up rows"),
        (hw.expr("ts < now()"), "NOW() gives another value each time"),
        (hw.expr("n <"), "its SQL cannot be read"),
        (hw.between("text", 1, 2), "'text' is string, which cannot be compared with 1"),
        (hw.between("n", "a", "b"), "'n' is int64, which cannot be compared with 'a'"),
        (hw.one_of("flag", [1]), "'flag' is bool, which cannot be compared with 1"),
        (hw.matches("n", "a"), "'n' is int64, and patterns are for text"),
        (hw.between("day", "soon", None), "soon"),
        (hw.matches("text", "("), ""),
        (hw.expr("text::int > 3"), "abc"),
        (hw.expr("nosuch(n)"), "nosuch"),
    ],
    ids=str,
)
@pytest.mark.parametrize("on_fail", ["error", "quarantine"])
def test_a_check_that_does_not_fit_names_itself_and_its_place(
    bench: Bench, check: Check, message: str, on_fail: Any
) -> None:
    check = Check(check.kind, check.columns, check.args, on_fail, check.place)
    with pytest.raises((BindingError, DataError)) as caught:
        bench.run(hw.not_null("id"), check)
    text = str(caught.value)
    assert text.startswith(f"source 'rows', check {check} (")
    assert "test_checks.py:" in text
    assert message in text
    assert "\n" not in text


def test_freshness_needs_a_timestamp(bench: Bench) -> None:
    with pytest.raises(BindingError, match=r"source 'rows', check freshness.* has no timestamp"):
        bench.run(hw.freshness("1h"), timestamp=None)


def test_raise_for_names_what_failed(bench: Bench) -> None:
    raise_for(bench.run(hw.not_null("n", on_fail="warn"), hw.not_null("id")))
    with pytest.raises(CheckFailed) as caught:
        raise_for(bench.run(hw.not_null("n"), hw.row_count(9), hw.unique("n", on_fail="warn")))
    assert str(caught.value) == (
        'rows: not_null("n") failed for 1 of 4 rows; rows: row_count(9, None) failed (4 rows).'
        " What depends on it is not done; mend the data, or set on_fail for the check."
    )
    assert caught.value.exit_code == 3


def test_a_source_without_checks(bench: Bench) -> None:
    assert bench.run() == []
