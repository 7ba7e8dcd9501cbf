"""Sources as SQL: stars, known times, versions, joins."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.binding.conftest import World, at, us

from headway import between, count, unique
from headway.data.engine import Engine
from headway.define import Entity, FeatureView, Source
from headway.errors import BindingError, DataError, DefinitionError

TRIPS = [
    {"trip_id": 1, "ts": at(1), "done": at(2), "zone": 10, "fare": 5.0},
    {"trip_id": 2, "ts": at(2), "done": at(9), "zone": 20, "fare": 6.0},
    {"trip_id": 3, "ts": at(3), "done": None, "zone": 10, "fare": 7.0},
]
ZONES = [{"zone": 10, "name": "ten"}, {"zone": 20, "name": "twenty"}]


@pytest.fixture
def taxi(world: World) -> World:
    world.add(Source("raw", path="t.parquet", id="trip_id", timestamp="ts"), TRIPS)
    world.add(Source("zones", path="z.parquet"), ZONES)
    return world


def query(text: str, name: str = "q", **kwargs: Any) -> Source:
    return Source(name, query=text, **({"timestamp": "ts"} | kwargs))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("select * from raw", ["trip_id", "ts", "done", "zone", "fare"]),
        ("select t.* from raw as t", ["trip_id", "ts", "done", "zone", "fare"]),
        ("select raw.*, fare * 2 as double_ from raw;", ["trip_id", "ts", "done", "zone", "fare", "double_"]),
        ("select * exclude (fare, done) from raw -- ;", ["trip_id", "ts", "zone"]),
        ("select * exclude fare from raw", ["trip_id", "ts", "done", "zone"]),
        ("select t.* exclude (t.fare) from raw t", ["trip_id", "ts", "done", "zone"]),
        ("select * replace (fare * 2 as fare) from raw", ["trip_id", "ts", "done", "zone", "fare"]),
        ("select * from raw join zones using (zone)", ["trip_id", "ts", "done", "zone", "fare", "name"]),
        ("select t.*, z.* exclude (zone) from raw t left join zones z on t.zone = z.zone",
         ["trip_id", "ts", "done", "zone", "fare", "name"]),
        ("select ts, fare*2*trip_id as x /* * */, '*' as star from raw", ["ts", "x", "star"]),
        ('select ts, trip_id as "ts z", zone as "from" from raw "from"', ["ts", "ts z", "from"]),
        ("select * exclude (ts), ts + interval 1 hour as ts from raw", ["trip_id", "done", "zone", "fare", "ts"]),
        ("select * from raw t anti join zones z on t.zone = z.zone", ["trip_id", "ts", "done", "zone", "fare"]),
    ],
)  # fmt: skip
def test_stars_bring_the_users_columns_and_nothing_else(taxi: World, text: str, columns: list[str]) -> None:
    source = taxi.add(query(text))
    assert [field.name for field in taxi.binder.columns(source)] == columns
    again = taxi.add(query("select * from q", "again"))
    assert [field.name for field in taxi.binder.columns(again)] == columns
    found = taxi.binder.current_rows(again, us(100))
    assert set(found.column_names) == {*columns, "__event", "__known", "__seq"}


def test_a_query_filters_computes_and_joins(taxi: World) -> None:
    source = taxi.add(
        query(
            """select t.*, z.name, epoch(t.done - t.ts) as seconds, t.fare ~ '5.*' as five
                 from raw t join zones z on z.zone = t.zone where fare < 7""".replace("t.fare ~", "t.fare::varchar ~")
        )
    )
    assert taxi.rows(source, 100, "trip_id", "name", "seconds", "five") == [
        (1, "ten", 3600.0, True),
        (2, "twenty", 25200.0, False),
    ]


def test_known_is_the_greatest_of_event_and_delay_created_and_the_drivers(world: World) -> None:
    world.add(
        Source("raw", path="r.parquet", timestamp="ts", created="seen"),
        [
            {"n": n, "ts": at(a), "seen": at(s), "end": at(e)}
            for n, a, s, e in [(0, 1, 2, 9), (1, 1, 20, 9), (2, 1, 2, None)]
        ],
    )
    end = world.add(query("select * from raw", created="end"))
    assert [world.rows(end, hour, "n") for hour in (8.9, 9, 19.9, 20, 100)] == [[], [0], [0], [0, 1], [0, 1]]
    late = world.add(query("select * from raw", "late", delay="5h"))
    assert [world.rows(late, hour, "n") for hour in (5.9, 6, 20)] == [[], [0, 2], [0, 1, 2]]
    moved = world.add(query("select * replace (ts + interval 30 hours as ts) from raw", "moved"))
    assert [world.rows(moved, hour, "n") for hour in (30, 31)] == [[], [0, 1, 2]]


VERSIONS = [
    {"id": 1, "ts": at(1), "seen": at(1), "gone": False, "v": 10},
    {"id": 2, "ts": at(1), "seen": at(1), "gone": False, "v": 20},
    {"id": 1, "ts": at(1), "seen": at(5), "gone": False, "v": 1},  # a correction out of the filter v > 5
    {"id": 2, "ts": at(1), "seen": at(7), "gone": True, "v": None},  # a delete
    {"id": 1, "ts": at(1), "seen": None, "gone": False, "v": 99},  # never known
    {"id": None, "ts": at(1), "seen": at(1), "gone": False, "v": 30},  # null ids are no one fact
    {"id": None, "ts": at(1), "seen": at(2), "gone": None, "v": 31},
]


def versions(world: World, **kwargs: Any) -> Source:
    made = Source("raw", path="r.parquet", id="id", timestamp="ts", created="seen", deleted="gone", **kwargs)
    return world.add(made, VERSIONS)


def test_a_version_is_visible_until_the_next_one_and_a_delete_ends_it(world: World) -> None:
    raw = versions(world)
    assert world.rows(raw, 2, "v") == [10, 20, 30, 31]
    assert world.rows(raw, 5, "v") == [20, 1, 30, 31]
    assert world.rows(raw, 100, "v") == [1, 30, 31]


@pytest.mark.parametrize("own", [{}, {"id": "id"}], ids=["without id", "with id"])
def test_a_correction_that_a_filter_hides_still_ends_the_older_version(world: World, own: dict[str, str]) -> None:
    versions(world)
    source = world.add(query("select * from raw where v > 5", **own))
    nested = world.add(query("select id, ts, v from q where v < 1000", "nested", **own))
    for each in (source, nested):
        assert [world.rows(each, hour, "v") for hour in (2, 5, 100)] == [[10, 20, 30, 31], [20, 30, 31], [30, 31]]


def test_a_query_has_versions_of_its_own_where_its_input_has_none(world: World) -> None:
    world.add(Source("raw", path="r.parquet", timestamp="ts", created="seen"), VERSIONS)
    source = world.add(query("select id * 10 as key, * from raw", id="key", deleted="gone"))
    assert [world.rows(source, hour, "v") for hour in (2, 5, 100)] == [[10, 20, 30, 31], [20, 1, 30, 31], [1, 30, 31]]


def test_another_id_than_the_inputs_tells_versions_apart_among_what_stands(world: World) -> None:
    world.add(
        Source("raw", path="r.parquet", id="trip", timestamp="ts", created="seen"),
        [{"trip": t, "who": w, "ts": at(a), "seen": at(s)} for t, w, a, s in
         [(1, "a", 1, 1), (2, "a", 2, 5), (2, "b", 2, 3), (3, "a", 8, 8)]],
    )  # fmt: skip
    source = world.add(query("select * from raw", id="who"))
    # Trip 2 is of b from hour 3 on, and of a from hour 5 on: then b has nothing left.
    assert [world.rows(source, hour, "trip", "who") for hour in (2, 4, 6, 9)] == [
        [(1, "a")], [(1, "a"), (2, "b")], [(2, "a")], [(3, "a")],
    ]  # fmt: skip


def test_of_versions_known_at_one_moment_the_last_in_order_counts(world: World) -> None:
    raw = world.add(
        Source("raw", path="r.parquet", id="id", timestamp="ts", created="seen"),
        [
            {"id": 1, "ts": at(a), "seen": at(5), "v": v}
            for a, v in [(2, "later event"), (1, "first"), (2, "last"), (1, "x")]
        ],
    )
    assert world.rows(raw, 100, "v") == ["last"]


def test_of_a_timeless_sources_versions_the_last_to_arrive_counts(world: World) -> None:
    rows = [{"id": 1, "v": 1, "gone": False}, {"id": 2, "v": 2, "gone": False}, {"id": 1, "v": 3, "gone": False}]
    raw = world.add(Source("raw", path="r.parquet", id="id", deleted="gone"), [*rows, {"id": 2, "v": 4, "gone": True}])
    assert world.rows(raw, 0, "v") == [3]
    assert world.rows(world.add(query("select * from raw", timestamp=None)), 0, "v") == [3]


PRICES = [
    {"zone": 10, "valid": at(0), "seen": at(0), "price": 1},
    {"zone": 10, "valid": at(2.5), "seen": at(40), "price": 2},  # known late
    {"zone": 20, "valid": at(1), "seen": at(1), "price": 3},
    {"zone": 20, "valid": at(1), "seen": at(50), "price": 4},  # the same moment, known later
    {"zone": 30, "valid": at(0), "seen": None, "price": 5},  # not known yet
]
RIDES = [
    {"n": n, "zone": z, "ts": at(t)}
    for n, (z, t) in enumerate([(10, 1), (10, 2.5), (20, 1), (20, 9), (30, 5), (40, 5)])
]


@pytest.fixture
def priced(world: World) -> World:
    world.add(Source("rides", path="r.parquet", timestamp="ts"), RIDES)
    world.add(Source("prices", path="p.parquet", timestamp="valid", created="seen"), PRICES)
    return world


ASOF = "select r.*, p.price from rides r asof {left} join prices p on r.zone = p.zone and r.ts {sign} p.valid"


@pytest.mark.parametrize("sign", [">=", ">"])
def test_an_asof_row_is_known_when_both_its_parts_are(priced: World, sign: str) -> None:
    source = priced.add(query(ASOF.format(left="left", sign=sign)))
    early = {">=": [(0, 1), (5, None)], ">": [(0, 1), (1, 1), (2, None), (5, None)]}[sign]
    assert priced.rows(source, 20, "n", "price") == early
    all_ = {">=": [(0, 1), (1, 2), (2, 4), (3, 4), (5, None)], ">": [(0, 1), (1, 1), (2, None), (3, 4), (5, None)]}[
        sign
    ]
    assert priced.rows(source, 100, "n", "price") == all_


def test_an_inner_asof_join_leaves_out_rows_without_a_match(priced: World) -> None:
    source = priced.add(query(ASOF.format(left="", sign=">=")))
    assert priced.rows(source, 100, "n", "price") == [(0, 1), (1, 2), (2, 4), (3, 4)]


def test_asof_using_and_a_bare_star(priced: World) -> None:
    source = priced.add(
        query("select * from rides asof join renamed using (zone, ts)"),
    )
    priced.add(Source("renamed", query="select zone, valid as ts, seen, price from prices", timestamp="ts"))
    assert priced.rows(source, 100, "n", "price") == [(0, 1), (1, 2), (2, 4), (3, 4)]
    assert [f.name for f in priced.binder.columns(source)] == ["n", "zone", "ts", "seen", "price"]


def test_an_asof_row_ends_when_the_version_it_was_joined_with_does(world: World) -> None:
    world.add(Source("rides", path="r.parquet", timestamp="ts"), [{"n": 1, "zone": 10, "ts": at(3)}])
    world.add(
        Source("prices", path="p.parquet", id="price_id", timestamp="valid", created="seen", deleted="gone"),
        [
            {"price_id": 1, "zone": 10, "valid": at(1), "seen": at(1), "gone": False, "price": 1},
            {"price_id": 1, "zone": 10, "valid": at(1), "seen": at(9), "gone": True, "price": None},
        ],
    )
    source = world.add(query(ASOF.format(left="", sign=">=")))
    assert [world.rows(source, hour, "price") for hour in (2, 3, 8, 9)] == [[], [1], [1], []]


def test_a_join_that_multiplies_rows_is_found_with_an_example(taxi: World) -> None:
    taxi.add(Source("twice", path="x.parquet"), [{"zone": 10, "label": "a"}, {"zone": 10, "label": "b"}])
    source = taxi.add(query("select raw.*, twice.label from raw join twice on raw.zone = twice.zone"))
    message = r"its join with twice finds several rows for one row of raw, 2 too many in all, for example for {}=\d"
    with pytest.raises(DataError, match=r"source 'q' \(.*test_sources.py:\d+\): " + message.format("trip_id")):
        taxi.rows(source, 100, "trip_id")
    view = FeatureView("v", source=source, entity=Entity("zone", key="zone"), features={"n": count()})
    with pytest.raises(DataError, match="source 'q' of view 'v': " + message.format("zone")):
        taxi.events(view)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (query("select nothing from raw"), r"its query does not fit the data: .*nothing.* not found"),
        (query("select r.*, z.* from raw r join zones z on r.zone = z.zone"), "columns of its query are called 'zone"),
        (query("select ts, zone as a, fare as A from raw"), "two columns of its query are called 'A'"),
        (query("select zone from raw"), "timestamp: there is no column 'ts'; there are: zone"),
        (query("select * from raw", timestamp="fare"), "timestamp: 'fare' is double, which is no time; cast it"),
        (query("select * from raw", created="dona"), "created: there is no column 'dona'; did you mean 'done'"),
        (query("select * from raw", id="trip"), "id: there is no column 'trip'"),
        (query("select * from raw", deleted="zone"), "deleted: 'zone' is int64; it must be true or false"),
        (query("select * from zones", timestamp=None, deleted="zone"), "deleted says that a fact ceased to exist"),
        (query("select raw.fare from raw asof join zones on raw.zone = zones.zone and raw.ts >= zones.ts"),
         "ASOF JOIN zones: 'zones' has no timestamp"),
        (query("select * from rawr"), "reads 'rawr', which is no source; did you mean 'raw'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_names_the_source_and_its_place(taxi: World, source: Source, message: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^source 'q' \(.*test_sources\.py:\d+\): .*{message}") as caught:
        taxi.binder.columns(taxi.add(source))
    assert "\n" not in str(caught.value)


def test_declarations_of_files_are_checked_too(world: World) -> None:
    source = world.add(Source("raw", path="r.parquet", id="idd", timestamp="ts"), [{"id": 1, "ts": at(1)}])
    with pytest.raises(BindingError, match=r"source 'raw' \(.*\): id: there is no column 'idd'; did you mean 'id'\?"):
        world.binder.columns(source)


def test_a_table_that_is_not_in_the_lake(world: World) -> None:
    source = Source("raw", path="r.parquet", timestamp="ts")
    world.sources["raw"] = source
    with pytest.raises(DataError, match="'source/raw' is not in the lake yet; `headway run` copies it"):
        world.binder.columns(source)
    assert world.binder.newest() is None
    assert world.binder.sql(source) == """select * not similar to '__arrived|__deleted' from "source/raw\""""


def test_facts_about_sources(taxi: World) -> None:
    source = taxi.add(query("select t.*, z.name from raw t join zones z using (zone)", created="done"))
    binder = taxi.binder
    assert binder.tables(source) == ("source/raw", "source/zones")
    assert binder.inputs(source) == ("raw", "zones")
    assert binder.base_sources(source) == ("raw", "zones")
    assert binder.base_sources(taxi.add(query("select * from q", "again"))) == ("raw", "zones", "q")
    assert binder.base_sources(taxi.sources["raw"]) == ()
    assert binder.newest_known(source) == us(9)
    assert binder.newest_known(taxi.sources["zones"]) is None
    assert binder.newest() == us(9)
    before = binder.version(source)
    taxi.add(taxi.sources["zones"], ZONES)
    assert binder.version(source) == before + 1


def test_a_delete_is_a_change_too(world: World) -> None:
    raw = versions(world)
    assert world.binder.newest_known(raw) == world.binder.newest() == us(7)


def test_no_rows_at_all(world: World) -> None:
    schema = pa.schema([("id", pa.int64()), ("ts", pa.timestamp("us", tz="UTC"))])
    raw = world.add(Source("raw", path="r.parquet", id="id", timestamp="ts"), [], schema)
    assert world.rows(raw, 100, "id") == []
    assert world.binder.newest() is None
    view = FeatureView("v", source=raw, entity=Entity("e", key="id"), features={"n": count()})
    assert len(world.events(view)) == 0


def test_rows_a_check_sets_aside_are_nowhere(taxi: World) -> None:
    source = taxi.add(query("select * from raw", checks=[between("fare", 5.5, 100, on_fail="quarantine")]))
    nested = taxi.add(query("select * from q", "nested"))
    assert taxi.rows(source, 100, "trip_id") == [2, 3]
    assert taxi.rows(nested, 100, "trip_id") == [2, 3]
    view = FeatureView("v", source=nested, entity=Entity("zone", key="zone"), features={"n": count()})
    assert sorted(taxi.events(view).keys.column("zone").to_pylist()) == [10, 20]


def test_a_version_that_is_set_aside_has_ended_its_predecessor(world: World) -> None:
    raw = versions(world, checks=[between("v", 5, 98, on_fail="quarantine"), unique("v", on_fail="quarantine")])
    assert [world.rows(raw, hour, "v") for hour in (2, 5, 100)] == [[10, 20, 30, 31], [20, 30, 31], [30, 31]]


HOURS = st.integers(0, 6)
FACT = st.fixed_dictionaries(
    {
        "id": st.sampled_from([1, 2, None]),
        "ts": HOURS.map(at),
        "seen": st.none() | HOURS.map(at),
        "end": st.none() | HOURS.map(at),
        "gone": st.sampled_from([False, False, True, None]),
        "v": st.integers(0, 3),
        "k": st.integers(0, 1),
    }
)
PRICE = st.fixed_dictionaries(
    {
        "id": st.integers(1, 3),
        "k": st.integers(0, 1),
        "valid": HOURS.map(at),
        "seen": HOURS.map(at),
        "price": st.integers(0, 9),
    }
)
FACTS = pa.schema(
    [("id", pa.int64()), *((c, pa.timestamp("us", tz="UTC")) for c in ("ts", "seen", "end")), ("gone", pa.bool_()),
     ("v", pa.int64()), ("k", pa.int64())]
)  # fmt: skip
RATES = pa.schema(
    [*((c, pa.int64()) for c in ("id", "k", "price")), *((c, FACTS.field("ts").type) for c in ("valid", "seen"))]
)


def by_hand(rows: list[dict[str, Any]], now: int) -> list[dict[str, Any]]:
    """What DESIGN §3.1 says is visible of versioned rows at ``now``, row by row."""
    latest: dict[Any, tuple[Any, ...]] = {}
    for seq, row in enumerate(rows):
        if row["seen"] is None:
            continue
        known = max(row["ts"], row["seen"])
        if known <= at(now):
            fact = ("null", seq) if row["id"] is None else row["id"]
            latest[fact] = max(latest.get(fact, (at(-1),)), (known, row["ts"], seq, row), key=lambda v: v[:3])
    return [v[3] for v in sorted(latest.values(), key=lambda v: v[2]) if not v[3]["gone"]]


@settings(max_examples=30)
@given(rows=st.lists(FACT, max_size=7))
def test_versions_agree_with_a_walk_over_the_rows(rows: list[dict[str, Any]], engine: Engine) -> None:
    world = World(engine)
    raw = world.add(
        Source("raw", path="r.parquet", id="id", timestamp="ts", created="seen", deleted="gone"), rows, FACTS
    )
    filtered = world.add(query("select *, v + 1 as w from raw where v > 1", created="end", id="id"))
    for now in range(8):
        seen = by_hand(rows, now)
        assert world.rows(raw, now, "v") == [row["v"] for row in seen]
        kept = [row["v"] for row in seen if row["v"] > 1 and row["end"] is not None and row["end"] <= at(now)]
        assert world.rows(filtered, now, "v") == kept


@settings(max_examples=30)
@given(rows=st.lists(FACT, max_size=5), prices=st.lists(PRICE, max_size=5), ids=st.booleans())
def test_what_is_visible_does_not_depend_on_what_comes_later(
    rows: list[dict[str, Any]], prices: list[dict[str, Any]], ids: bool, engine: Engine
) -> None:
    """Every row seen at a moment in all of the data is there, the same, in what was known at that moment."""

    def seen(now: int, until: int) -> list[Any]:
        world = World(engine)
        known = [r for r in rows if r["seen"] is not None and max(r["ts"], r["seen"]) <= at(until)]
        world.add(
            Source("raw", path="r.parquet", id="id", timestamp="ts", created="seen", deleted="gone"), known, FACTS
        )
        world.add(
            Source("prices", path="p.parquet", id="id" if ids else None, timestamp="valid", created="seen"),
            [p for p in prices if max(p["valid"], p["seen"]) <= at(until)],
            RATES,
        )
        source = world.add(
            query("select r.*, p.price from raw r asof left join prices p on r.k = p.k and r.ts >= p.valid where v > 0")
        )
        return sorted(world.rows(source, now, "id", "ts", "v", "price"), key=repr)

    for now in (2, 4):
        then = seen(now, now)
        for row in seen(now, 100):
            assert row in then
            then.remove(row)
