"""Registering, comparing, promoting and going back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.define.records import VersionRecord
from headway.errors import ArtifactError, GateRefused, NotFoundError, RollbackRefused, StoreBusy, UsageError
from headway.metadata import held, live, open_metadata
from headway.registry import Registry

Trained = Callable[..., VersionRecord]
Draft = Callable[..., VersionRecord]
Stage = Callable[..., Path]


def test_a_version_is_registered_with_its_files(registry: Registry, trained: Trained) -> None:
    record = trained("d1")

    assert (record.version, record.directory) == (1, "m/1")
    assert set(record.files) == {"pooled.txt", "serving.json", "bundle/trips/__init__.py"}
    assert registry.show("m", 1) == record
    assert (registry.directory(record) / "pooled.txt").read_text() == "d1"
    registry.verify_files(record)
    assert trained("d2").version == 2
    assert trained("d1", model="n").version == 1


def test_the_same_training_is_the_same_version(registry: Registry, draft: Draft, stage: Stage) -> None:
    first = registry.register(stage("one"), draft("d1"))
    again = stage("two")

    assert registry.register(again, draft("d1")) == first
    assert not again.exists()
    assert (registry.directory(first) / "pooled.txt").read_text() == "one"


def test_registering_again_brings_lost_files_back(registry: Registry, draft: Draft, stage: Stage) -> None:
    record = registry.register(stage("one"), draft("d1"))
    (registry.directory(record) / "pooled.txt").unlink()

    registry.register(stage("one"), draft("d1"))

    registry.verify_files(record)


def test_a_directory_that_is_not_what_the_draft_says(registry: Registry, draft: Draft, stage: Stage) -> None:
    with pytest.raises(ArtifactError, match=r"other\.txt of the new version of 'm' is missing"):
        registry.register(stage(), draft("d1", files={"other.txt": "00"}))
    with pytest.raises(ArtifactError, match="nothing in"):
        registry.register(stage() / "bundle" / "none", draft("d1"))
    assert registry.versions("m") == []


def test_changed_and_missing_files_are_named(registry: Registry, trained: Trained) -> None:
    record = trained("d1")
    file = registry.directory(record) / "pooled.txt"

    file.write_text("tampered")
    with pytest.raises(ArtifactError, match=r"pooled\.txt of m@1 .* was changed since it was recorded"):
        registry.verify_files(record)
    file.unlink()
    with pytest.raises(ArtifactError, match=r"pooled\.txt of m@1 is missing"):
        registry.verify_files(record)


def test_versions_nobody_knows(registry: Registry, trained: Trained) -> None:
    trained("d1")

    assert registry.versions("n") == []
    with pytest.raises(NotFoundError, match="model 'n' has no versions yet"):
        registry.show("n", 1)
    with pytest.raises(NotFoundError, match="model 'm' has no version 9; it has 1"):
        registry.promote("m", 9, by="me", why="")
    with pytest.raises(NotFoundError, match="did you mean 'm'"):
        registry.hold("mm", by="me", why="")


def test_a_comparison_says_what_changed(registry: Registry, trained: Trained) -> None:
    a = trained("d1")
    serving = a.serving
    trained(
        "d2",
        metrics={"mae": 90.0},
        segment_metrics={"Queens": {"mae": 80.0}},
        params={"leaves": 63, "depth": None},
        serving=type(serving)(**{f: getattr(serving, f) for f in serving.__struct_fields__} | {"columns": ()}),
        data={"source/trips": 4},
        commit="123456",
    )

    found = registry.compare("m", 1, 2)

    metrics = {(c.metric, c.segment): (c.a, c.b) for c in found.metrics}
    assert metrics[("mae", None)] == (100.0, 90.0)
    assert metrics[("rmse", None)] == (150.0, None)
    assert metrics[("mae", "Queens")] == (90.0, 80.0)
    assert metrics[("mae", "Staten Island")] == (120.0, None)
    assert {(c.name, c.b) for c in found.params} == {("leaves", 63), ("path", None), ("depth", None)}
    assert {c.name: (c.a, c.b) for c in found.data} == {"source/trips": (3, 4)}
    assert {c.name for c in found.facts} == {"digest", "commit"}
    assert {c.name: c.a for c in found.features}["n"] == "int64, request"


def test_the_champion(registry: Registry, trained: Trained) -> None:
    trained("d1"), trained("d2")
    assert registry.champion("m") is None

    registry.promote("m", 1, by="me", why="first")
    line = registry.promote("m", 2, "Queens", by="me", why="better there")

    assert line.figures["before"] == 1
    assert (line.figures["metric"], line.figures["candidate"]) == ("mae", 100.0)
    champions = [registry.champion("m", s) for s in (None, "Queens", "Bronx")]
    assert [c and c.version for c in champions] == [1, 2, 1]
    assert [r.version for r in registry.needed_versions()] == [1, 2]


def test_only_segments_of_the_model(registry: Registry, trained: Trained) -> None:
    record = trained("d1")
    serving = {f: getattr(record.serving, f) for f in record.serving.__struct_fields__} | {"segment": None}
    trained("d1", model="n", serving=type(record.serving)(**serving))

    with pytest.raises(NotFoundError, match="did you mean 'Queens'"):
        registry.promote("m", 1, "Quens", by="me", why="")
    with pytest.raises(UsageError, match="has no segments"):
        registry.promote("n", 1, "Queens", by="me", why="")


def test_a_version_with_changed_files_is_not_promoted(registry: Registry, trained: Trained) -> None:
    (registry.directory(trained("d1")) / "serving.json").write_text("[]")

    with pytest.raises(ArtifactError, match=r"serving\.json"):
        registry.promote("m", 1, by="me", why="")
    assert registry.log("m") == []


def test_rollback_walks_back_and_holds(registry: Registry, trained: Trained) -> None:
    for digest in ("d1", "d2", "d3", "d4"):
        trained(digest)
    for version in (1, 3, 4):
        registry.promote("m", version, by="headway run", why="gate", auto=True)

    first = registry.rollback("m", by="me", why="strange")
    second = registry.rollback("m", by="me", why="still strange")

    assert [(line.version, line.figures["before"]) for line in (first, second)] == [(3, 4), (1, 3)]
    with pytest.raises(
        GateRefused, match=r"held since the rollback by me \(still strange\); `headway models release m`"
    ):
        registry.promote("m", 4, by="headway run", why="gate", auto=True)
    registry.release("m", by="me", why="mended")
    assert registry.release("m", by="me") is None
    registry.promote("m", 4, by="headway run", why="gate", auto=True)
    champion = registry.champion("m")
    assert champion is not None
    assert champion.version == 4


def test_a_promotion_by_hand_ends_a_hold(registry: Registry, trained: Trained) -> None:
    trained("d1"), trained("d2")
    registry.promote("m", 1, by="me", why="")
    registry.hold("m", by="me", why="release freeze")
    with pytest.raises(GateRefused, match="release freeze"):
        registry.promote("m", 2, by="headway run", why="", auto=True)

    registry.promote("m", 1, by="me", why="as it is")

    registry.promote("m", 2, by="headway run", why="", auto=True)


def test_an_automatic_promotion_of_what_is_live_writes_nothing(registry: Registry, trained: Trained) -> None:
    trained("d1")
    line = registry.promote("m", 1, by="headway run", why="gate", auto=True)

    assert registry.promote("m", 1, by="headway run", why="gate", auto=True) == line
    assert registry.log("m") == [line]


def test_nothing_to_go_back_to(registry: Registry, trained: Trained) -> None:
    with pytest.raises(NotFoundError, match="no model is called 'm'"):
        registry.rollback("m", by="me", why="")
    trained("d1")
    with pytest.raises(RollbackRefused, match="no version of 'm' is live; `headway models promote m VERSION`"):
        registry.rollback("m", by="me", why="")
    registry.promote("m", 1, by="me", why="")
    with pytest.raises(RollbackRefused, match="no version was live for 'm' before version 1; `headway models promote"):
        registry.rollback("m", by="me", why="")
    assert len(registry.log("m")) == 1


def test_no_rollback_to_a_version_that_cannot_answer(registry: Registry, trained: Trained) -> None:
    trained("d1"), trained("d2")
    for version in (1, 2):
        registry.promote("m", version, by="me", why="")

    def unready(record: VersionRecord) -> str | None:
        return f"view 'zone' of version {record.version} is not kept any more; `headway features materialize zone`"

    with pytest.raises(RollbackRefused, match=r"m@1 cannot answer: view 'zone' .* `headway features materialize zone`"):
        registry.rollback("m", by="me", why="", ready=unready)
    (registry.directory(registry.show("m", 1)) / "pooled.txt").unlink()
    with pytest.raises(RollbackRefused, match=r"pooled\.txt of m@1 is missing .* put the file back"):
        registry.rollback("m", by="me", why="", ready=lambda _: None)
    assert len(registry.log("m")) == 2


def test_two_who_roll_back_at_once_go_back_once(registry: Registry, trained: Trained) -> None:
    for version in (1, 2, 3):
        trained(f"d{version}")
        registry.promote("m", version, by="me", why="")
    start = threading.Barrier(2)

    def ready(_: VersionRecord) -> None:
        start.wait()  # both have read the log by now

    def attempt(_: int) -> bool:
        try:
            registry.rollback("m", by="me", why="", ready=ready)
        except StoreBusy:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [False, True]
    assert live(registry.log("m")) == {None: 2}


segment = st.sampled_from([None, "Queens", "Staten Island"])
step = st.one_of(
    st.tuples(st.just("promote"), segment, st.integers(1, 4)),
    st.tuples(st.just("auto"), segment, st.integers(1, 4)),
    st.tuples(st.just("rollback"), segment, st.none()),
    st.tuples(st.just("release"), segment, st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(step, max_size=12))
def test_any_story_is_told_by_the_log(
    tmp_path: Path, draft: Draft, stage: Stage, steps: list[tuple[str, str | None, int | None]]
) -> None:
    """What answers is what the steps that were not refused amount to, and no automatic step gets past a hold."""
    with open_metadata(f"sqlite:///{tmp_path}/metadata.db", "trips", uuid4().hex) as metadata:
        registry = Registry(metadata, tmp_path / metadata.env, lambda: 0)
        for number in range(1, 5):
            registry.register(stage(str(number)), draft(f"d{number}"))
        answers: dict[str | None, list[int]] = {None: [], "Queens": [], "Staten Island": []}
        holds: set[str | None] = set()
        for action, where, version in steps:
            reach = list(answers) if where is None else [where]
            blocked = bool(holds) if where is None else bool(holds & {None, where})
            if action in ("promote", "auto"):
                assert version is not None
                try:
                    registry.promote("m", version, where, by="me", why="", auto=action == "auto")
                except GateRefused:
                    assert action == "auto"
                    assert blocked
                    continue
                assert not (action == "auto" and blocked)
                if action == "promote":
                    holds -= holds if where is None else {where}
            elif action == "release":
                registry.release("m", where, by="me")
                holds -= holds if where is None else {where}
            else:
                before = registry.champion("m", where)
                try:
                    registry.rollback("m", where, by="me", why="")
                except RollbackRefused:
                    continue
                after = registry.champion("m", where)
                assert before is not None
                assert after is not None
                assert after.version in [v for s in reach for v in answers[s]]
                assert after.version != before.version
                holds.add(where)
            for s in reach:
                found = registry.champion("m", s)
                answers[s].append(found.version if found else 0)
                if action in ("promote", "auto"):
                    assert answers[s][-1] == version
        assert {h for h in (None, "Queens", "Staten Island") if held(registry.log("m"), h)} == {
            h for h in (None, "Queens", "Staten Island") if (bool(holds) if h is None else bool(holds & {None, h}))
        }
