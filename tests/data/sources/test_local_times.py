"""Local times, against Python's own time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.data.sources import Counts, open_source
from headway.define import Source

ZONES = [
    *(
        "America/New_York",
        "Europe/Lisbon",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Pacific/Apia",
        "Asia/Kathmandu",
    ),
    *("Europe/Dublin", "Africa/Casablanca", "Asia/Gaza", "Antarctica/Troll", "UTC"),
]
# Around these instants, and everywhere else, are the local times that are tried.
CHANGES = [
    *(datetime(2024, 3, 10, 7, tzinfo=UTC), datetime(2024, 11, 3, 6, tzinfo=UTC), datetime(2024, 3, 31, 1, tzinfo=UTC)),
    *(
        datetime(2024, 10, 27, 1, tzinfo=UTC),
        datetime(2024, 4, 6, 15, tzinfo=UTC),
        datetime(2024, 10, 5, 15, 30, tzinfo=UTC),
    ),
    *(
        datetime(1950, 4, 2, 2, tzinfo=UTC),
        datetime(1966, 4, 24, 7, tzinfo=UTC),
        datetime(2011, 12, 30, 10, tzinfo=UTC),
    ),
    *(datetime(2018, 11, 4, 3, tzinfo=UTC), datetime(1883, 11, 18, 17, tzinfo=UTC), datetime(1912, 1, 1, tzinfo=UTC)),
    *(datetime(2050, 3, 13, 7, tzinfo=UTC), datetime(2050, 11, 6, 6, tzinfo=UTC), datetime(2051, 3, 26, 1, tzinfo=UTC)),
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def expected(wall: datetime, zone: str) -> tuple[datetime, str]:
    """The instant of a local time by search: the first one, or that of the clock's jump, whose local time is >= it."""
    info = ZoneInfo(zone)
    local = wall.replace(tzinfo=None)
    early, late = (wall.replace(tzinfo=info, fold=fold).astimezone(UTC) for fold in (0, 1))
    shown = {instant: instant.astimezone(info).replace(tzinfo=None) for instant in (early, late)}
    if shown[early] == local:
        return early, "ambiguous" if early != late else ""
    low, high = min(early, late), max(early, late)  # the clock jumped over `local` between these two
    while high - low > timedelta(microseconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(info).replace(tzinfo=None) < local:
            low = middle
        else:
            high = middle
    return high, "nonexistent"


def read(path: Path, zone: str | None) -> tuple[pa.Table, Counts]:
    source = Source("s", path=str(path), timezone=zone)
    reader = open_source(source, path.parent)
    return pa.Table.from_batches(list(reader.batches()), reader.schema), reader.counts


NEAR = st.builds(
    lambda change, offset: (change + timedelta(microseconds=offset)).replace(tzinfo=None),
    st.sampled_from(CHANGES),
    st.integers(-50 * 3_600_000_000, 50 * 3_600_000_000)
    | st.integers(-30, 30).map(lambda halves: halves * 1_800_000_000),
)
ANYWHEN = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("times")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(zone=st.sampled_from(ZONES), walls=st.lists(st.none() | NEAR | ANYWHEN, min_size=1, max_size=40))
def test_local_times_become_the_instants_python_says(folder: Path, zone: str, walls: list[datetime | None]) -> None:
    path = folder / "t.parquet"
    pq.write_table(pa.table({"t": pa.array(walls, pa.timestamp("us"))}), path)
    found, counts = read(path, zone)
    wanted = [None if wall is None else expected(wall, zone) for wall in walls]
    assert found.schema.field("t").type == pa.timestamp("us", "UTC")
    assert found["t"].to_pylist() == [None if each is None else each[0] for each in wanted]
    kinds = [each[1] for each in wanted if each is not None]
    assert (counts.ambiguous, counts.nonexistent) == (kinds.count("ambiguous"), kinds.count("nonexistent"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zone=st.sampled_from(ZONES),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    instants=st.lists(st.none() | st.integers(-(10**15), 10**15), min_size=1, max_size=20),
)
def test_instants_keep_their_moment_and_round_down(
    folder: Path, zone: str, unit: str, instants: list[int | None]
) -> None:
    """Instants with a zone of their own do not care for the source's; nanoseconds round down, before 1970 too."""
    per = {"s": 10**6, "ms": 10**3, "us": 1, "ns": None}[unit]
    stored = [None if i is None else (i * 997 if per is None else i // per) for i in instants]
    path = folder / "i.parquet"
    pq.write_table(pa.table({"t": pa.array(stored, pa.timestamp(unit, zone))}), path)
    wanted = [None if i is None else (i // 1000 if per is None else i * per) for i in stored]
    found, counts = read(path, "Asia/Tokyo")
    assert found["t"].combine_chunks().view(pa.int64()).to_pylist() == wanted
    assert counts.ambiguous == counts.nonexistent == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zone=st.sampled_from(ZONES),
    walls=st.lists(NEAR, min_size=1, max_size=20),
    separator=st.sampled_from([" ", "T"]),
    ending=st.sampled_from(["", "Z", "+00:00", "+02", "-0330", " +05:45"]),
    form=st.sampled_from(["csv", "ndjson"]),
)
def test_texts_mean_the_same_as_timestamps(
    folder: Path, zone: str, walls: list[datetime], separator: str, ending: str, form: str
) -> None:
    texts = [wall.isoformat(separator, "microseconds") + ending for wall in walls]
    path = folder / f"x.{form}"
    lines = ["t", *texts] if form == "csv" else [f'{{"t": "{text}"}}' for text in texts]
    path.write_text("\n".join(lines))
    offsets = {"Z": 0, "+00:00": 0, "+02": 120, "-0330": -210, " +05:45": 345}
    found, _ = read(path, zone)
    assert found["t"].to_pylist() == [
        expected(wall, zone)[0] if not ending else wall.replace(tzinfo=UTC) - timedelta(minutes=offsets[ending])
        for wall in walls
    ]


def test_no_zone_is_utc(folder: Path) -> None:
    path = folder / "n.parquet"
    pq.write_table(pa.table({"t": pa.array([0], pa.timestamp("ms"))}), path)
    assert read(path, None)[0]["t"].to_pylist() == [EPOCH]


def test_clock_changes_are_counted_over_all_columns(folder: Path) -> None:
    twice, never = datetime(2024, 11, 3, 1, 30), datetime(2024, 3, 10, 2, 30)
    path = folder / "c.parquet"
    columns = {"a": [twice, never, None], "b": [twice, twice, never], "c": [datetime(2024, 1, 1)] * 3}
    pq.write_table(pa.table(columns), path)
    found, counts = read(path, "America/New_York")
    assert (counts.rows, counts.ambiguous, counts.nonexistent) == (3, 3, 2)
    assert found["a"].to_pylist() == [
        datetime(2024, 11, 3, 5, 30, tzinfo=UTC),
        datetime(2024, 3, 10, 7, tzinfo=UTC),
        None,
    ]
