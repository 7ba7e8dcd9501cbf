"""What the console's pages ask: light queries, and the promise that none of them walks through a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from headway.define.records import Deployment, VersionRecord
from headway.define.watch_records import Figure
from headway.metadata import Metadata

Build = Callable[..., VersionRecord]


@pytest.fixture
def versions(metadata: Metadata, record: Build) -> Metadata:
    """Five versions of one model and one of another."""
    for number in range(1, 6):
        metadata.versions.add(record(version=number, digest=f"d{number}", metrics={"mae": float(number)}))
    metadata.versions.add(record(model="other"))
    return metadata


def decide(metadata: Metadata, model: str, version: int) -> Deployment:
    return metadata.deployments.append(
        action="promote", model=model, segment=None, version=version, by="me", at=5, why="", figures={"mae": 1.0}
    )


def test_versions_come_in_pages_newest_first(versions: Metadata) -> None:
    page = versions.versions.page

    assert [r.version for r in page("m", limit=2)] == [5, 4]
    assert [r.version for r in page("m", before=4, limit=2)] == [3, 2]
    assert [r.version for r in page("m", before=2)] == [1]
    assert page("m", before=1) == page("nobody") == []
    assert versions.versions.latest("m") == versions.versions.get("m", 5)
    assert versions.versions.latest("nobody") is None
    assert versions.versions.counts() == {"m": 5, "other": 1}


def test_some_versions_come_in_one_query(versions: Metadata) -> None:
    pairs = [("m", 2), ("other", 1), ("m", 4), ("m", 2), ("m", 99), ("nobody", 1)]

    with queries(versions) as asked:
        found, brief = versions.versions.some(pairs), versions.versions.brief(pairs)

    assert len(asked) == 2
    assert set(found) == set(brief) == {("m", 2), ("m", 4), ("other", 1)}
    assert found["m", 4] == versions.versions.get("m", 4)
    light = brief["m", 4]
    assert (light.metrics, light.commit, light.dirty) == ({"mae": 4.0}, None, True)
    assert (light.figures("Queens"), light.figures(None), light.figures("Mars")) == ({"mae": 1.25}, {"mae": 4.0}, {})
    assert versions.versions.some([]) == {}


def test_decisions_of_all_models(metadata: Metadata) -> None:
    made = [decide(metadata, model, n) for n, model in enumerate(["b", "a", "b", "a"], 1)]

    recent = metadata.deployments.recent

    assert recent() == made[::-1]
    assert recent(before=made[2].id, limit=1) == [made[1]]
    assert recent(before=made[0].id) == []
    assert metadata.deployments.lines() == {"b": [made[0], made[2]], "a": [made[1], made[3]]}


@contextmanager
def queries(metadata: Metadata) -> Iterator[list[tuple[str, Any]]]:
    """The statements that the block sends, with their parameters."""
    sent: list[tuple[str, Any]] = []

    def note(*event: Any) -> None:
        if not event[2].startswith(("BEGIN", "COMMIT")):
            sent.append((event[2], event[3]))

    engine = metadata._database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def _asked(metadata: Metadata) -> dict[str, Callable[[], object]]:
    runs, alerts, figures = metadata.runs, metadata.alerts, metadata.figures
    return {
        "runs": runs.list,
        "runs of a page": lambda: runs.list(before=9),
        "runs that failed": lambda: runs.list(status=["failed"]),
        "runs of a name": lambda: runs.list(name="m", status=["failed", "done"], before=9),
        "runs of a kind": lambda: runs.list(kind="pipeline"),
        "runs of a schedule": lambda: runs.list(schedule="model:m"),
        "runs of a name and a schedule": lambda: runs.list(name="m", schedule="model:m"),
        "counts of runs": runs.counts,
        "one run": lambda: runs.get(3),
        "taking a run": lambda: runs.take(3, "here", 1, 1),
        "a sign of life": lambda: runs.beat(3, 1),
        "the end of a run": lambda: runs.finish(3, "done", 1),
        "steps": lambda: runs.steps(3),
        "the cache": lambda: runs.cached("train", "d"),
        "history of a step": lambda: runs.history("train"),
        "newest slots": metadata.schedules.latest,
        "slots": lambda: metadata.schedules.slots("model:m"),
        "versions": lambda: metadata.versions.page("m"),
        "newest version": lambda: metadata.versions.latest("m"),
        "counts of versions": metadata.versions.counts,
        "some versions": lambda: metadata.versions.brief([("m", 1), ("m", 2), ("other", 1)]),
        "decisions": metadata.deployments.recent,
        "older decisions": lambda: metadata.deployments.recent(before=9),
        "figures": lambda: figures.windows("m", kind="drift", name="fare"),
        "figures of all": lambda: figures.windows("m", segment=None, since=3),
        "newest figures": lambda: figures.latest("m"),
        "windows": figures.models,
        "alarms": figures.alarms,
        "alerts": alerts.list,
        "alerts of a model": lambda: alerts.list(model="m", before=3),
        "finding an alert": lambda: alerts.resolve_key("m/drift", 3),
        "the audit": lambda: metadata.audit.list(before=9),
    }


NARROW = {"steps": "run=?", "the cache": "digest=?", "runs of a name": "name=?", "alarms": "alarm=?"}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_no_page_walks_through_a_table(versions: Metadata) -> None:
    """Each query finds its rows by an index, and the right one; SQLite says SCAN where it does not."""
    drift = Figure(model="m", kind="drift", name="fare", window_start=0, window_end=9, n=1, alarm=True)
    versions.figures.put([drift], at=1)
    slow = {}
    for name, ask in _asked(versions).items():
        with queries(versions) as sent:
            ask()
        steps = [step for statement, parameters in sent for step in _plan(versions, statement, parameters)]
        walks = [step for step in steps if step.startswith("SCAN headway") and "COVERING" not in step]
        if walks or not any(NARROW.get(name, "") in step for step in steps):
            slow[name] = steps

    assert slow == {}


def _plan(metadata: Metadata, statement: str, parameters: Any) -> list[str]:
    with metadata._database.engine.connect() as connection:
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
