"""What is answered over HTTP is what training would have used: random entities, a clock that moves, refreshes that come
late or not at all, rows that arrive late, corrections and deletes, TTL and lag.

Expected is the oracle's value at the last refresh that the store completed, from the rows there were then; a latest
value is judged by its ttl at the present moment; what is overdue says ``late``, and is null once it is too old.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.semantics.http import Http, served, wait
from tests.semantics.lab import INSTANT, Lab, lab, t

from headway.define import FeatureView
from headway.orchestrate.serving import open_service
from headway.serve.server import Server, bind
from headway.testing.oracle import Oracle, length, micros, moment, same

MINUTE = 60_000_000
TICK = timedelta(microseconds=1)
BEGIN = t("08:00")
KEYS: list[int | None] = [*range(6), 99, None]
DECLARED = """
    versions = hw.Source("versions", path="data/versions.parquet", id="id", timestamp="ts", created="seen",
                         deleted="gone", delay="1m")
    events = hw.Source("events", path="data/events.parquet", timestamp="ts", delay="5m")
    stats = hw.FeatureView("stats", source=versions, entity=who, refresh="15m", lag="2m", ttl="2h", features={
        "n": hw.count(window="1h"), "mean": hw.mean("f", window=["30m", "3h"]), "sum": hw.sum("i", window="3h"),
        "std": hw.std("f", window="3h"), "q": hw.quantile("i", 0.3, window="3h"), "word": "s", "last": hw.last("f"),
        "flag": hw.last("b")})
    hourly = hw.FeatureView("hourly", source=events, entity=who, refresh="1h", features={
        "n": hw.count(window="3h"), "different": hw.nunique("s", window="90m"), "top": hw.max("i", window="3h"),
        "i": "i", "at": "ts", "first": hw.first("s", window="3h")})
    latest = hw.FeatureView("latest", source=versions, entity=who, ttl="45m", features={
        "f": "f", "i": hw.last("i"), "all": hw.count()})
    looks = hw.FeatureView("looks", source=versions, entity=who, refresh="30m", lag="1m", features={
        "then": hw.lag("f", "1h"), "near_then": hw.lag("f", "1h", within="30m"),
        "before": hw.sum("i", window="1h", offset="1h"), "mode": hw.mode("s", window="3h"),
        "three": hw.last_n("i", 3, window="3h"), "since": hw.time_since_last(),
        "positive": hw.count(window="2h", where="i > 0"), "more": hw.expr("positive + 1")})
    everything = hw.FeatureSet("everything", [stats, hourly, latest, looks])
"""
VIEWS = ("stats", "hourly", "latest", "looks")
FUNCTIONS = {"i > 0": lambda row: row["i"] is not None and row["i"] > 0, "positive + 1": lambda f: f["positive"] + 1}
TYPES = {"k": pa.int64(), "i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_(), "gone": pa.bool_()}
TYPES |= {"id": pa.string(), "ts": INSTANT, "seen": INSTANT}
ARROW = "application/vnd.apache.arrow.stream"

steps_of_time = st.builds(
    lambda minutes, beside: minutes * 5 * MINUTE + beside, st.integers(0, 40), st.sampled_from([0, 0, 1, -1])
)
values = {
    "i": st.none() | st.integers(-5, 5) | st.just(2**60),
    "f": st.none() | st.sampled_from([-0.5, 0.0, 0.1, 3.25, 1e9]),
    "s": st.sampled_from([None, "", "a", "é", '"']),
    "b": st.sampled_from([None, False, True]),
}
event = st.fixed_dictionaries({"k": st.sampled_from([*KEYS[:6], None]), "back": steps_of_time, **values})
version = st.fixed_dictionaries(
    {
        "id": st.integers(0, 12).map(str),
        "k": st.sampled_from(KEYS[:6]),
        "back": steps_of_time,
        "after": st.sampled_from([None, 0, 0, 0, 5 * MINUTE, 31 * MINUTE, 180 * MINUTE]),
        "gone": st.sampled_from([False, False, False, False, True]),
        **values,
    }
)
arrive = st.tuples(st.just("arrive"), st.lists(version, max_size=6), st.lists(event, max_size=5))
tick = st.tuples(st.just("tick"), steps_of_time.map(abs))
refresh = st.tuples(st.just("refresh"), st.lists(st.sampled_from(VIEWS), min_size=1, max_size=4, unique=True))
story = st.lists(arrive | tick | tick | refresh | refresh, min_size=2, max_size=9)


@dataclass
class World:
    """A project under way, the rows there are, and what its store must be serving."""

    lab: Lab
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"versions": [], "events": []})
    done: dict[str, tuple[int, Oracle]] = field(default_factory=dict)  # view → the refresh, and what it was made of
    arrived: set[str] = field(default_factory=set)  # views whose rows are not those of their refresh any more

    @property
    def now(self) -> int:
        return self.lab.clock.instant

    def view(self, name: str) -> FeatureView:
        return self.lab.project.declarations.views[name]

    def arrive(self, versions: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        """Rows about the past, some known later than they happened, arrive now."""
        for source, rows in (("versions", versions), ("events", events)):
            made = [self._placed(row) for row in rows]
            self.rows[source] += made
        self.lab.put(versions=self._table("versions"), events=self._table("events"))
        self.arrived |= set(VIEWS)

    def _placed(self, row: dict[str, Any]) -> dict[str, Any]:
        at = datetime.fromtimestamp(0, UTC) + (self.now - row["back"]) * TICK
        placed = {c: v for c, v in row.items() if c not in ("back", "after")} | {"ts": at}
        if "after" in row:
            placed["seen"] = None if row["after"] is None else at + row["after"] * TICK
        return placed

    def _table(self, source: str) -> pa.Table:
        names = ["k", "ts", "i", "f", "s", "b"] + (["id", "seen", "gone"] if source == "versions" else [])
        return pa.table({c: pa.array([row[c] for row in self.rows[source]], TYPES[c]) for c in names})

    def tick(self, length: int) -> None:
        self.lab.clock.instant += length

    def refresh(self, names: list[str]) -> None:
        self.lab.refresh(*names)
        for name in names:
            view = self.view(name)
            self.done[name] = (
                moment(view, self.now),
                Oracle(view, list(self.rows[view.source.name]), functions=FUNCTIONS),
            )
            self.arrived.discard(name)

    def expected(self, name: str, key: int | None) -> tuple[dict[str, Any], dict[str, set[str]]]:
        """Values, and the states that will do: nobody can tell whether an entity is missing of which no row is visible
        yet."""
        view, (as_of, truth) = self.view(name), self.done[name]
        now, limit = moment(view, self.now), length(view.ttl) if view.ttl else 3 * length(view.refresh)
        found = truth.values_at((key,), as_of, now)
        late, gone = (view.refresh is not None and as_of < now, view.refresh is not None and as_of < now - limit)
        if gone:
            found = dict.fromkeys(found)
        stale = truth.expired((key,), as_of, now)
        here = key is not None and bool(truth.visible((key,), as_of))
        maybe = here or truth.speaks_of((key,))
        states = {}
        for each in found:
            state = "expired" if gone or each in stale else "late" if late else "ok"
            states[each] = {state} if here else {state, "missing"} if maybe else {"missing"}
        return found, states


def check(world: World, http: Http, keys: list[int | None]) -> None:
    """What is answered for every view, and for all of them as a set, as JSON and as Arrow: values, states and as-of."""
    whole = http.post("/v1/features/everything", {"entities": {"k": keys}})
    for name in VIEWS:
        answer = http.post(f"/v1/features/{name}", {"entities": {"k": keys}})
        right(world, name, keys, answer)
        assert answer == {
            **answer,
            "features": {n: whole["features"][f"{name}__{n}"] for n in answer["features"]},
            "state": {
                n: whole["state"][f"{name}__{n}"] for n in answer["features"] if f"{name}__{n}" in whole["state"]
            },
            "as_of": whole["as_of"][name],
        }
        right(world, name, keys, from_arrow(http, name, keys))
        if name not in world.arrived:
            same_as_history(world, name, keys, answer["features"])


def from_arrow(http: Http, name: str, keys: list[int | None]) -> dict[str, Any]:
    """An answer in Arrow in the form of one in JSON."""
    body = json.dumps({"entities": {"k": keys}}).encode()
    status, headers, content = http.send(f"/v1/features/{name}", body, {"accept": ARROW})
    assert (status, headers["content-type"]) == (200, ARROW)
    found = pa.ipc.open_stream(content).read_all()
    told = found.schema.field("_state").metadata
    words, names = told[b"codes"].decode().split(","), told[b"features"].decode().split(",")
    states = [[words[code] for code in row] for row in found["_state"].to_pylist()]
    moments = [at for at in found["_as_of"].to_pylist() if at is not None]
    return {
        "features": {n: found[n].to_pylist() for n in names},
        "state": {n: [row[at] for row in states] for at, n in enumerate(names)},
        "as_of": min(moments).isoformat(),
    }


def right(world: World, name: str, keys: list[int | None], answer: dict[str, Any]) -> None:
    as_of, _ = world.done[name]
    assert micros(datetime.fromisoformat(answer["as_of"])) == as_of
    for n, key in enumerate(keys):
        expected, states = world.expected(name, key)
        assert set(expected) == set(answer["features"])
        for each, value in expected.items():
            got = _read(answer["features"][each][n], value)
            assert same(got, value), f"{name}.{each} of {key} at {world.now}: {got!r}, not {value!r}"
            state = answer["state"].get(each, ["ok"] * len(keys))[n]
            assert state in states[each], f"{name}.{each} of {key} at {world.now}: {state}, not {states[each]}"


def same_as_history(world: World, name: str, keys: list[int | None], features: dict[str, list[Any]]) -> None:
    """While no rows have come since its refresh, the store holds what training gets for the moment of the refresh; and
    for now, if no refresh was skipped."""
    view, (as_of, _) = world.view(name), world.done[name]
    behind = moment(view, world.now) - as_of
    fresh = behind == 0
    if not fresh and (view.refresh is None or view.ttl is not None or behind > 3 * length(view.refresh)):
        return
    at = world.now if fresh else as_of + length(view.lag)
    spine = pa.table({"k": pa.array(keys, pa.int64()), "ts": pa.array([at] * len(keys), pa.int64()).cast(INSTANT)})
    past = world.lab.project.features.historical(spine, name)
    for each, got in features.items():
        for a, b in zip(got, past[f"{name}__{each}"].to_pylist(), strict=True):
            assert same(_read(a, b), b), f"{name}.{each}: {a!r} over HTTP, {b!r} in history"


def _read(got: Any, like: Any) -> Any:
    """A value of JSON as the type it stands for: times are text, whole floats may look like integers."""
    if isinstance(like, datetime) and isinstance(got, str):
        return datetime.fromisoformat(got)
    return float(got) if isinstance(like, float) and isinstance(got, int) and not isinstance(got, bool) else got


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A project with some rows, materialized once at nine o'clock."""
    with tempfile.TemporaryDirectory() as folder, lab(Path(folder), DECLARED, now="09:00") as made:
        r = random.Random(1)
        some = [{"id": str(n), "k": n, "back": r.randrange(60) * MINUTE, "after": 0, "gone": False, "i": n, "f": n / 4,
                 "s": "a", "b": True} for n in range(5)]  # fmt: skip
        found = World(made)
        found.arrive(some, [{c: v for c, v in row.items() if c not in ("id", "after", "gone")} for row in some])
        found.refresh(list(VIEWS))
        yield found


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(story, st.integers(0, 1_000))
def test_http_answers_are_what_training_would_have_used(steps: list[Any], seed: int) -> None:
    r = random.Random(seed)
    with world() as made, served(made.lab) as http:
        for name, *arguments in steps:
            getattr(made, name)(*arguments)
            check(made, http, r.choices(KEYS, k=10))


def test_http_answers_through_a_day_with_everything_in_play() -> None:
    """One long story, the same every time, of which the parts can be told: refreshed, late, too late, corrected."""
    seen: set[str] = set()
    r = random.Random(7)
    with world() as made, served(made.lab) as http:
        for hour in range(8):
            if hour % 2:
                made.arrive(*_news(r))
            for _ in range(2):
                made.tick(r.choice([7, 15, 30, 65]) * MINUTE + r.choice([0, 1, -1]))
                check(made, http, KEYS)
                made.refresh(r.sample(VIEWS, r.choice([0, 1, 2, 4])))
                check(made, http, KEYS)
                seen |= {s for name in VIEWS for k in KEYS for each in made.expected(name, k)[1].values() for s in each}
        assert all(not found.differences for found in made.lab.project.features.verify())
    assert seen == {"ok", "late", "expired", "missing"}


def _news(r: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Versions of facts, some of them corrections and deletes, and events; a few from long ago."""

    def row() -> dict[str, Any]:
        return {"k": r.randrange(6), "back": r.randrange(200) * MINUTE, "i": r.choice([None, 1, 2]),
                "f": r.choice([None, r.random()]), "s": r.choice("xyz"), "b": r.choice([None, True])}  # fmt: skip

    after = [0, 0, 20 * MINUTE, 150 * MINUTE, None]
    versions = [
        row() | {"id": str(r.randrange(9)), "after": r.choice(after), "gone": r.random() < 0.2} for _ in range(6)
    ]
    return versions, [row() for _ in range(5)]


def test_http_over_a_socket_is_the_same() -> None:
    """A real server, asked as anybody would, while the store is refreshed below it."""
    with world() as made, open_service(made.lab.project.settings, made.lab.clock.now) as service:
        listener = bind("127.0.0.1", 0)
        server = Server(service.app, grace=0)
        thread = threading.Thread(target=server.run, args=([listener],))
        service.start()
        thread.start()
        try:
            wait(lambda: server.started and service.router.table.built)

            class Socket(Http):
                def send(self, path: str, body: bytes, headers: Any) -> tuple[int, dict[str, str], bytes]:
                    connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=20)
                    connection.request("POST", path, body, {"content-type": "application/json", **headers})
                    answer = connection.getresponse()
                    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
                    connection.close()
                    return found

            client = Socket(service.app)
            check(made, client, KEYS)
            made.arrive(*_news(random.Random(3)))
            made.tick(61 * MINUTE)
            check(made, client, KEYS)
            made.refresh(list(VIEWS))
            check(made, client, KEYS)
            assert json.loads(client.send("/v1/features/nobody", b'{"entities": {"k": 1}}', {})[2])["status"] == 404
        finally:
            server.should_exit = True
            thread.join()
            service.stop()
