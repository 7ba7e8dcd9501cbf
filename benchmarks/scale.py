"""A large event table through the whole feature store: copied into the lake, materialized, its history kept and asked.

The same project at 5 and at 50 million rows, with ``memory_limit = "4GB"`` and on two cores. Every stage is a process
of its own, so that its peak memory is its own too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import pyarrow.parquet as pq
from harness import ALL, Section, answer, child, figure

import headway as hw

MEMORY = "4GB"
ROWS_PER_KEY, LABELS = 20, 1_000_000
DAYS = 60
NOW = "2024-03-01T00:00:00Z"
STAGES = {
    "ingest": "copy into the lake",
    "materialize": "materialize every entity",
    "refresh": "materialize the next refresh",
    "backfill": "backfill 7 days, a row where values may have changed",
    "historical": f"history of {LABELS // 1_000_000} M labels, file to file",
}
_LONGEST = 1800  # seconds that a stage may take

TOML = f"""
[project]
name = "scale"
definitions = "scale"

[env.local]
clock = "{NOW}"
memory_limit = "{MEMORY}"
"""
DECLARED = """
import headway as hw

events = hw.Source("events", path="data/events.parquet", timestamp="at")
user = hw.Entity("user", key="user_id")
activity = hw.FeatureView("activity", source=events, entity=user, refresh="1h", features={
    "events_7d": hw.count(window="7d"),
    "amount_7d": hw.sum("amount", window="7d"),
    "score_30d": hw.mean("score", window="30d"),
    "highest_30d": hw.max("amount", window="30d"),
    "kind": "kind",
})
"""


def make(directory: str, rows: int) -> dict[str, Any]:
    """A project with ``rows`` events of ``rows / 20`` users in 60 days, and a file of labels."""
    place = Path(directory)
    (place / "scale").mkdir(parents=True)
    (place / "data").mkdir()
    (place / "headway.toml").write_text(TOML)
    (place / "scale" / "__init__.py").write_text(DECLARED)
    users = max(1, rows // ROWS_PER_KEY)
    at = "timestamptz '2024-01-01 00:00:00+00' + to_seconds(hash(i, 1) % (86400 * {days}))"
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            f"""copy (select (hash(i, 2) % {users})::bigint as user_id, {at.format(days=DAYS)} as at,
                    (hash(i, 3) % 100000)::bigint as amount, (hash(i, 4) % 1000003) / 1000003.0 as score,
                    'kind ' || (hash(i, 5) % 9) as kind from range({rows}) t(i))
                to '{place}/data/events.parquet' (format parquet, compression snappy)"""
        )
        connection.execute(
            f"""copy (select i as label, (hash(i, 6) % {users})::bigint as user_id, {at.format(days=DAYS)} as ts
                    from range({min(rows, LABELS)}) t(i)) to '{place}/data/labels.parquet' (format parquet)"""
        )
    return {}


def ingest(directory: str) -> dict[str, Any]:
    with hw.load(directory) as project:
        begin = perf_counter()
        project.run("events")
        return {"seconds": perf_counter() - begin}


def materialize(directory: str) -> dict[str, Any]:
    with hw.load(directory, clock="2024-02-29T12:00:00Z") as project:
        begin = perf_counter()
        (result,) = project.features.materialize("activity")
        return {"seconds": perf_counter() - begin, "rows": result.written}


def refresh(directory: str) -> dict[str, Any]:
    with hw.load(directory, clock="2024-02-29T13:00:00Z") as project:
        begin = perf_counter()
        (result,) = project.features.materialize("activity")
        return {"seconds": perf_counter() - begin, "rows": result.written}


def backfill(directory: str) -> dict[str, Any]:
    with hw.load(directory) as project:
        begin = perf_counter()
        (result,) = project.features.backfill("activity", "2024-02-20T00:00:00Z", "2024-02-26T23:00:00Z")
        return {"seconds": perf_counter() - begin, "rows": result.rows}


def historical(directory: str) -> dict[str, Any]:
    place = Path(directory)
    with hw.load(directory) as project:
        begin = perf_counter()
        rows = project.features.historical_file(place / "data/labels.parquet", "activity", place / "history.parquet")
        seconds = perf_counter() - begin
    assert pq.read_metadata(place / "history.parquet").num_rows == rows
    return {"seconds": seconds, "rows": rows}


def measure(directory: Path, quick: bool) -> Section:
    sizes = [200_000, 2_000_000] if quick else [5_000_000, 50_000_000]
    section = Section(
        f"An event table of {figure(sizes[0])} and of {figure(sizes[1])} rows, memory_limit {MEMORY}",
        ("", "events", "seconds", "seconds per million events", "rows written", "peak memory MB"),
        note=(
            f"{ROWS_PER_KEY} events per entity over {DAYS} days, one view of five features (windows of 7 and 30 days, "
            "the latest row). Each stage in a process of its own, on all cores; the history is of as many labels at "
            "either size, but reads all events."
        ),
    )
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for size in sizes:
        place = directory / str(size)
        child(__file__, "make", str(place), size, cores=ALL, longest=_LONGEST)
        for stage, label in STAGES.items():
            done = found[stage, size] = child(__file__, stage, str(place), cores=ALL, longest=_LONGEST)
            per_million = figure(done["seconds"] / size * 1e6)
            written = figure(done["rows"]) if "rows" in done else ""
            section.rows.append(
                (label, figure(size), figure(done["seconds"]), per_million, written, figure(done["peak_mb"]))
            )
    times = sizes[1] / sizes[0]
    for stage, label in STAGES.items():
        grown = found[stage, sizes[1]]["seconds"] / found[stage, sizes[0]]["seconds"]
        section.judge(f"{label}: growth of its time", grown, f"≤ {1.2 * times:.0f}", grown <= 1.2 * times)
    peak = max(done["peak_mb"] for done in found.values())
    section.judge("most memory, MB", peak, "≤ 4 000", peak <= 4000)
    return section


if __name__ == "__main__" and len(sys.argv) > 1:
    stages = {"ingest": ingest, "materialize": materialize, "refresh": refresh, "backfill": backfill}
    answer({"make": make, **stages, "historical": historical})
