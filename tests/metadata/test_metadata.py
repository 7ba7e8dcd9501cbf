"""What every database promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from headway.define.records import Deployment, VersionRecord
from headway.errors import StoreBusy, StoreError
from headway.metadata import Metadata, ProjectedVersion, open_metadata

Build = Callable[..., VersionRecord]


def promote(metadata: Metadata, version: int = 1, model: str = "m", **changes: Any) -> Deployment:
    line: dict[str, Any] = {"segment": None, "by": "me", "at": 5, "why": "because", "figures": {"mae": 1.0}}
    return metadata.deployments.append(action="promote", model=model, version=version, **(line | changes))


def test_a_record_comes_back_as_it_went_in(metadata: Metadata, record: Build) -> None:
    stored = metadata.versions.add(record())

    assert stored == record()
    assert metadata.versions.get("m", 1) == record()
    assert metadata.versions.by_digest("m", "d1") == record()
    assert metadata.versions.get("m", 2) is None
    assert metadata.versions.by_digest("m", "d2") is None


def test_the_same_digest_is_the_same_version(metadata: Metadata, record: Build) -> None:
    metadata.versions.add(record(version=1))

    again = metadata.versions.add(record(version=2, params={}))

    assert again == record(version=1)
    assert [r.version for r in metadata.versions.list("m")] == [1]


def test_a_number_is_given_once(metadata: Metadata, record: Build) -> None:
    assert metadata.versions.next_version("m") == 1
    metadata.versions.add(record(version=1))
    assert metadata.versions.next_version("m") == 2

    with pytest.raises(StoreBusy, match=r"version 1 of 'm' was taken"):
        metadata.versions.add(record(version=1, digest="other"))


def test_models_have_versions_of_their_own(metadata: Metadata, record: Build) -> None:
    for model, version in [("b", 1), ("a", 1), ("a", 2)]:
        metadata.versions.add(record(model=model, version=version, digest=f"d{version}"))

    assert metadata.versions.models() == ("a", "b")
    assert [r.version for r in metadata.versions.list("a")] == [1, 2]
    assert metadata.versions.list("c") == []


@pytest.mark.parametrize("other", [("trips", "prod"), ("rides", "local")])
def test_projects_and_environments_do_not_meet(url: str, record: Build, other: tuple[str, str]) -> None:
    with open_metadata(url, "trips", "local") as ours, open_metadata(url, *other) as theirs:
        ours.versions.add(record())
        promote(ours)
        ours.stages.put("train", "m", "d", 1, at=1)
        ours.projections.put("t", ProjectedVersion("m", 1, "run", "name", 1))

        assert theirs.versions.models() == ()
        assert theirs.versions.next_version("m") == 1
        assert theirs.deployments.list("m") == []
        assert theirs.deployments.last_id() == 0
        assert theirs.stages.get("train", "m") is None
        assert theirs.stages.latest() == {}
        assert theirs.projections.list("t", "m") == {}
        theirs.versions.add(record())
        promote(theirs)
        assert len(ours.deployments.list("m")) == 1


def test_lines_come_back_in_order(metadata: Metadata) -> None:
    lines = [promote(metadata, v, segment=s) for v, s in [(1, None), (2, "Staten Island"), (3, None)]]

    assert metadata.deployments.list("m") == lines
    assert [line.id for line in lines] == sorted({line.id for line in lines})
    assert lines[1].segment == "Staten Island"
    assert lines[0].figures == {"mae": 1.0}


def test_last_id_grows_with_every_line(metadata: Metadata) -> None:
    assert metadata.deployments.last_id() == metadata.deployments.last_id("m") == 0
    first = promote(metadata)
    second = promote(metadata, model="n")

    assert metadata.deployments.last_id() == second.id > first.id
    assert metadata.deployments.last_id("m") == first.id


def test_a_line_is_refused_when_the_log_has_moved_on(metadata: Metadata) -> None:
    first = promote(metadata, expected_last=0)
    promote(metadata, model="n")  # another model's line is in nobody's way
    promote(metadata, 2, expected_last=first.id)

    with pytest.raises(StoreBusy, match="somebody else has changed what is live for 'm'") as caught:
        promote(metadata, 3, expected_last=first.id)

    assert caught.value.retryable
    assert [line.version for line in metadata.deployments.list("m")] == [1, 2]


def test_of_many_who_saw_the_same_log_one_wins(url: str) -> None:
    with open_metadata(url, "trips", "local") as metadata:
        start = threading.Barrier(6)

        def attempt(number: int) -> bool:
            start.wait()
            try:
                promote(metadata, number, expected_last=0)
            except StoreBusy:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(attempt, range(6))) == 1
        assert len(metadata.deployments.list("m")) == 1


def test_a_poller_misses_no_line(url: str) -> None:
    """Ids appear in order: whoever has seen id N has seen all before it."""
    with open_metadata(url, "trips", "local") as metadata:
        done = threading.Event()
        seen: list[list[int]] = []

        def poll() -> None:
            while not done.is_set():
                seen.append([line.id for line in metadata.deployments.list("m")])

        poller = threading.Thread(target=poll)
        poller.start()
        with ThreadPoolExecutor(4) as pool:
            written = [line.id for line in pool.map(lambda n: promote(metadata, n), range(24))]
        done.set()
        poller.join()
        final = [line.id for line in metadata.deployments.list("m")]

    assert sorted(written) == final
    assert all(ids == final[: len(ids)] for ids in seen)


def test_the_latest_success_of_a_stage_wins(metadata: Metadata) -> None:
    metadata.stages.put("train", "m", "one", {"version": 1}, at=10)
    metadata.stages.put("train", "m", "two", {"version": 2}, at=20)
    metadata.stages.put("train", "n", "one", [1.5, None, "x"], at=30)

    latest = metadata.stages.get("train", "m")
    assert latest is not None
    assert (latest.digest, latest.output, latest.at) == ("two", {"version": 2}, 20)
    older = metadata.stages.find("train", "m", "one")
    assert older is not None
    assert older.output == {"version": 1}
    assert metadata.stages.find("train", "m", "three") is None
    assert metadata.stages.get("check", "m") is None
    assert {key: r.digest for key, r in metadata.stages.latest().items()} == {
        ("train", "m"): "two",
        ("train", "n"): "one",
    }


def test_a_stage_put_again_is_the_latest(metadata: Metadata) -> None:
    for at, digest in enumerate(["one", "two", "one"]):
        metadata.stages.put("train", "m", digest, at, at=at)

    latest = metadata.stages.get("train", "m")
    assert latest is not None
    assert (latest.digest, latest.output) == ("one", 2)
    assert [r.digest for r in metadata.stages.history("train", "m")] == ["two", "one"]


def test_projections_are_noted_per_store(metadata: Metadata) -> None:
    metadata.projections.put("t", ProjectedVersion("m", 1, "old", "name", 1))
    metadata.projections.put("t", ProjectedVersion("m", 1, "run", "name", 4))
    metadata.projections.put_log("t", "m", 3)
    metadata.projections.put_log("t", "m", 9)

    assert metadata.projections.list("t", "m") == {1: ProjectedVersion("m", 1, "run", "name", 4)}
    assert metadata.projections.logs("t") == {"m": 9}
    assert metadata.projections.list("u", "m") == metadata.projections.logs("u") == {}


def test_many_may_open_a_new_database_at_once(url: str) -> None:
    start = threading.Barrier(4)

    def use(number: int) -> int:
        start.wait()
        with open_metadata(url, "trips", "local") as metadata:
            return promote(metadata, number).id

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(use, range(4)))
    assert len(set(ids)) == 4


def test_a_database_of_a_newer_headway_is_refused(url: str) -> None:
    import sqlalchemy as sa

    open_metadata(url, "trips", "local").close()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("update headway_schema set version_num = 'v9999'"))
    engine.dispose()

    with pytest.raises(StoreError, match=r"'v9999'.*upgrade headway"):
        open_metadata(url, "trips", "local")
