"""What is served is what the oracle says at the served as-of, while refreshes are skipped, late or out of order, and
rows and corrections arrive in between; and ``verify`` agrees, until somebody tampers with the store."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any

import pyarrow as pa
import pytest
from tests.semantics.conftest import Opener
from tests.semantics.rows import EPOCH, INSTANT, NEW_YORK, PAIRS, TICK, USERS, Rows, more, oracle, write

from headway.data.compute import snapshot
from headway.data.materialize import MaterializeResult
from headway.data.online import pack
from headway.define import FeatureView
from headway.monitor.verify import VerifyResult
from headway.project import Project
from headway.testing.oracle import Oracle, length, micros, moment, same

HOUR = 3_600_000_000
STEPS = 3


@dataclass
class Moved:
    """A clock that goes when it is told to."""

    instant: int

    def now(self) -> int:
        return self.instant


@dataclass
class Served:
    """A view's last refresh: the moment it was computed at, and the rows it was computed from."""

    as_of: int
    truth: Oracle


@dataclass
class World:
    """A project under way, and what it must be serving."""

    project: Project
    clock: Moved
    rows: Rows
    r: random.Random
    served: dict[str, Served] = field(default_factory=dict)
    compared: int = 0

    @property
    def views(self) -> list[FeatureView]:
        return [
            v for v in self.project.declarations.views.values() if v.refresh or not any(f.window for f in v.features)
        ]

    def arrive(self, number: int) -> None:
        self.rows = more(self.r, self.rows, number)
        write(self.project.settings.root, self.rows)

    def refresh(self) -> None:
        """Copy what has arrived and materialize every view."""
        self.project.run()
        for view in self.views:
            truth = oracle(view, self.project.declarations.sources, self.rows)
            self.served[view.name] = Served(moment(view, self.clock.instant), truth)

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """What is served of every view for `asked`, one row per entity: features, ``_as_of`` and ``_state``."""
        found = {}
        for views in self._together():
            table = self.project.online.read(views, key_table(views[0], asked(views[0])))
            for view in views:
                names = {f"{view.name}__{f.name}": f.name for f in view.features}
                names |= {f"{view.name}_as_of": "_as_of", f"{view.name}_state": "_state"}
                found[view.name] = table.select(list(names)).rename_columns(list(names.values())).to_pylist()
        return found

    def _together(self) -> list[list[FeatureView]]:
        """The views of one entity are read in one go."""
        return [[v for v in self.views if v.entity.name == name] for name in ("user", "pair")]

    def check(self) -> list[str]:
        found = self.read()
        return [line for view in self.views for line in self._check(view, found[view.name])]

    def _check(self, view: FeatureView, rows: list[dict[str, Any]]) -> Iterator[str]:
        for key, row in zip(asked(view), rows, strict=True):
            what, right, states = f"of {key} at {self.clock.instant}:", *self._expected(view, key)
            self.compared += len(right)
            if row["_as_of"] is None or micros(row["_as_of"]) != self.served[view.name].as_of:
                yield f"{view.name} {what} as of {row['_as_of']}, not {self.served[view.name].as_of}"
            for name, value in right.items():
                if not same(row[name], value):
                    yield f"{view.name}.{name} {what} {row[name]!r}, not {value!r}"
                if row["_state"][name] not in states[name]:
                    yield f"{view.name}.{name} {what} {row['_state'][name]}, not {states[name]}"

    def _expected(self, view: FeatureView, key: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """Values, and the states that will do: nothing says whether an entity is missing of which no row is visible."""
        served, now = self.served[view.name], moment(view, self.clock.instant)
        limit = length(view.ttl) if view.ttl else 3 * length(view.refresh)
        values = served.truth.values_at(key, served.as_of, now)
        late, gone = (
            view.refresh is not None and served.as_of < now,
            view.refresh is not None and served.as_of < now - limit,
        )
        if gone:
            values = dict.fromkeys(values)
        stale = served.truth.expired(key, served.as_of, now)
        here = None not in key and bool(served.truth.visible(key, served.as_of))
        maybe = here or served.truth.speaks_of(key)
        states: dict[str, tuple[str, ...]] = {}
        for name in values:
            state = "expired" if gone or name in stale else "late" if late else "ok"
            states[name] = (state,) if here else (state, "missing") if maybe else ("missing",)
        return values, states

    def check_history(self) -> list[str]:
        """Right after a refresh, training columns at the served as-of are what is served."""
        found, wrong = self.read(), []
        for view in self.views:
            at = EPOCH + (self.served[view.name].as_of + length(view.lag)) * TICK
            table = key_table(view, asked(view))
            spine = table.append_column("ts", pa.array([at] * table.num_rows, INSTANT))
            past = self.project.features.historical(spine, [view])
            for name in (f.name for f in view.features):
                online = [row[name] for row in found[view.name]]
                both = zip(past.column(f"{view.name}__{name}").to_pylist(), online, strict=True)
                wrong += [f"{view.name}.{name}: {a!r} in history, {b!r} online" for a, b in both if not same(a, b)]
        return wrong


def asked(view: FeatureView) -> list[tuple[Any, ...]]:
    if len(view.entity.key) == 2:
        return [*PAIRS, ("12", "23"), (None, None), PAIRS[0]]
    return [*((k,) for k in range(USERS)), (-1,), (None,), (7,)]


def key_table(view: FeatureView, keys: Sequence[tuple[Any, ...]]) -> pa.Table:
    kind = pa.int64() if len(view.entity.key) == 1 else pa.string()
    return pa.table({k: pa.array([key[n] for key in keys], kind) for n, k in enumerate(view.entity.key)})


def verified(project: Project, views: Sequence[FeatureView]) -> list[VerifyResult]:
    return [found for found in project.features.verify(list(views)) if found.differences]


@pytest.fixture
def world(open_world: Opener, request: pytest.FixtureRequest) -> World:
    seed, begin = request.param
    r = random.Random(seed)
    clock = Moved(micros(begin))
    rows = more(r, {}, 250)
    return World(open_world(rows, clock), clock, rows, r)


STARTS = [
    (1, EPOCH - 16 * HOUR * TICK),
    (2, NEW_YORK[1].replace(tzinfo=UTC) + 4 * HOUR * TICK),
]


@pytest.mark.parametrize("world", STARTS, indirect=True, ids=["1970", "new_york"])
def test_served_values_speak_for_their_as_of(world: World) -> None:
    r = world.r
    for step in range(STEPS):
        world.refresh()  # of all entities after rows arrived, else of those that time alone has changed
        none(world.check() + world.check_history())
        assert not verified(world.project, world.views)
        world.clock.instant += r.choice([0, 1, HOUR // 2, HOUR, 3 * HOUR + 1])
        none(world.check())
        if step % 3 == 1:
            world.arrive(r.choice([1, 30]))  # what has arrived is not served before the next refresh
        world.clock.instant += r.choice([0, HOUR, 6 * HOUR])
        none(world.check())  # the refresh is late, or several were skipped


def none(wrong: Sequence[str]) -> None:
    assert not wrong, f"{len(wrong)} values, such as\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("world", STARTS[:1], indirect=True)
def test_an_older_run_changes_nothing(world: World) -> None:
    world.clock.instant += 30 * HOUR
    world.refresh()
    done: list[MaterializeResult] = world.project.features.materialize(
        world.views, until=world.clock.instant - 9 * HOUR
    )
    assert {each.outcome for each in done} == {"superseded"}
    assert not world.check()
    assert not verified(world.project, world.views)


@pytest.mark.parametrize("world", STARTS[:1], indirect=True)
def test_verify_finds_what_was_tampered_with(world: World) -> None:
    """One entity's row of values from hours ago, under the stamp of the last refresh."""
    world.clock.instant += 30 * HOUR
    world.refresh()
    view = world.project.declarations.views["grid"]
    parts, plan = world.project.parts, world.project.features.plans()["grid"]
    events = parts.view(plan).events.part(0)
    now, then = world.served["grid"].as_of, world.served["grid"].as_of - 6 * HOUR
    truth = world.served["grid"].truth
    different = [k for k in sorted(truth.keys) if unlike(truth.values_at(k, now), truth.values_at(k, then))]
    stale = replace(snapshot(plan, events, then, key_table(view, different[:3])), as_of=now)
    store = parts.open_online(False)
    for rows in pack(plan, stale):
        store.put_many(rows)
    store.close()
    (found,) = world.project.features.verify([view])
    assert found.differences
    assert not found.passed
    assert {example.keys["k"] for example in found.examples} <= {k for (k,) in different[:3]}
    assert world.check()


def unlike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return any(not same(a[name], b[name]) for name in a)
