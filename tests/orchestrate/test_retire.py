"""Views are retired when nothing needs them, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.project import Shop, forget_package

import headway as hw
from headway.errors import NotFoundError, RetireRefused, UsageError
from headway.project import Project

FOOTFALL = """footfall = hw.FeatureView(
    "footfall",
    source=visits,
    entity=shop,
    refresh="1h",
    features={"visits_7d": hw.count(window="7d")},
)
"""


@pytest.fixture
def opened(shop: Shop) -> Iterator[Project]:
    """The shop after a run, without the declaration of footfall."""
    shop.edit("shop/features.py", FOOTFALL, "")
    with project_of(shop) as project:
        yield project


@contextmanager
def project_of(shop: Shop) -> Iterator[Project]:
    """The project as its files are now."""
    forget_package()
    with hw.load(shop.root) as project:
        yield project
    forget_package()


def online(project: Project) -> set[str]:
    store = project.parts.open_online(True)
    try:
        return {prefix.hex() for prefix in store.prefixes()}
    finally:
        store.close()


def test_what_is_not_declared_any_more_is_retired_with_a_reason(opened: Project) -> None:
    published = opened.parts.metadata.published
    before = published.last_id()
    assert "footfall" in published.features().views
    done = opened.features.retire("footfall", why="nobody walks in", by="ana")
    assert (done.view, done.rows, done.names) == ("footfall", 5, ("footfall",))
    assert not online(opened) & set(done.fingerprints)
    assert "footfall" not in published.features().views
    assert published.last_id() > before  # servers take notice
    (line, *_) = opened.parts.metadata.audit.list()
    assert (line.by, line.action, line.object, line.why) == ("ana", "retire view", "footfall", "nobody walks in")
    with pytest.raises(NotFoundError, match="it is retired"):
        opened.features.retire("footfall", why="again")
    assert [r.passed for r in opened.features.verify()] == [True]


def test_it_is_retired_by_the_beginning_of_its_fingerprint(opened: Project) -> None:
    fingerprint = opened.parts.metadata.published.features().views["footfall"].fingerprint
    assert opened.features.retire(fingerprint[:10], why="old").fingerprints == (fingerprint,)


def test_what_is_declared_is_refused_and_who_uses_it_is_named(opened: Project) -> None:
    for name in ("sales", opened.features.plans()["sales"].fingerprint):
        with pytest.raises(RetireRefused, match="'sales' is declared at .*features.py:7, and used by model delivery and"
                                                " request function at_request; delete the declaration first"):  # fmt: skip
            opened.features.retire(name, why="tidy")
    assert len(online(opened)) == 2
    assert not [line for line in opened.parts.metadata.audit.list() if line.action == "retire view"]


def test_what_nobody_knows_is_said(opened: Project) -> None:
    for what in ("nobody", "0123456789ab", "fed"):
        with pytest.raises(NotFoundError, match=f"no feature view that was ever materialized is called '{what}'"):
            opened.features.retire(what, why="tidy")
    with pytest.raises(UsageError, match="say why"):
        opened.features.retire("footfall", why=" ")


def test_the_definition_of_a_live_version_stays_and_older_ones_go(shop: Shop) -> None:
    """sales is changed twice: the live version still needs the first definition, nothing needs the second."""
    shop.edit("shop/features.py", 'hw.mean("minutes", window="7d")', 'hw.mean("minutes", window="6d")')
    with project_of(shop) as project:
        first = project.parts.metadata.published.features().views["sales"].fingerprint
        second = project.features.plans()["sales"].fingerprint
        with pytest.raises(RetireRefused, match=r"'sales' is needed by delivery@1 \(live\); promote versions that do"):
            project.features.retire(first, why="tidy")
        project.features.materialize(["sales"])
    shop.edit("shop/features.py", 'hw.mean("minutes", window="6d")', 'hw.mean("minutes", window="5d")')
    with project_of(shop) as project:
        with pytest.raises(RetireRefused, match="servers still answer 'sales' from this definition; `headway features"
                                                " materialize sales` puts the new one in its place first"):  # fmt: skip
            project.features.retire(second, why="tidy")
        project.features.materialize(["sales"])
        with pytest.raises(RetireRefused, match=f"an older definition is retired by its fingerprint: .*{second}"):
            project.features.retire("sales", why="tidy")
        done = project.features.retire(second, why="tidy")
        assert (done.view, done.rows, done.names) == ("sales", 5, ())
        assert first in online(project)
        assert second not in online(project)
        assert "sales" in project.parts.metadata.published.features().views


def test_rows_stay_that_another_view_of_the_same_definition_needs(shop: Shop) -> None:
    shop.edit("shop/features.py", '"footfall",', '"visitors",')
    with project_of(shop) as project:
        done = project.features.retire("footfall", why="renamed")
        assert (done.rows, done.fingerprints, done.names) == (0, (), ("footfall",))
        assert project.features.plans()["visitors"].fingerprint in online(project)
