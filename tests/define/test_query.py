"""The row-local rule, and what a query's text is taken apart into."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import duckdb
import pytest

from headway.define import Source
from headway.define._functions import AGGREGATES, ROW_MULTIPLYING, VOLATILE
from headway.define._query import (
    check_expression,
    check_row_local,
    column_origins,
    copies,
    inputs,
    lineage,
    origins,
    read,
)
from headway.errors import DefinitionError

OTHERS = {
    source.name: source
    for source in [
        Source("trips", path="t.parquet", timestamp="ts", id="trip_id"),
        Source("zones", path="z.parquet"),
        Source("prices", path="p.parquet", timestamp="valid_from"),
        Source("rates", path="r.parquet", timestamp="valid_from", id="zone"),
    ]
}


def query(text: str, name: str = "q", **kwargs: Any) -> Source:
    return Source(name, query=text, **({"timestamp": "ts"} | kwargs))


ALLOWED = [
    "select * from trips",
    "SELECT t.* EXCLUDE (a), x + 1 AS y FROM trips AS t WHERE t.x > 1 AND y IS NOT NULL;",
    "select trips.*, z.name from trips join zones z on trips.zone = z.zone",
    "select * from trips left join zones using (zone)",
    "select * from trips t join zones a on t.a = a.zone left join zones b on t.b = b.zone",
    "select * from trips t join zones z on t.x between z.low and z.high",
    "select * from trips t semi join zones z on t.zone = z.zone",
    "select * from trips t anti join zones z on t.zone = z.zone",
    "select * from trips t asof join prices p on t.zone = p.zone and t.ts >= p.valid_from",
    "select * from trips t asof left join prices p on p.zone = t.zone and p.valid_from < t.ts",
    "select * from trips t asof left join prices p on t.ts >= p.valid_from and p.kind = 'x'",
    "select * from trips asof join prices using (zone, valid_from)",
    "select * from trips t asof join trips b on t.zone = b.zone and t.ts > b.ts",
    "select case when x > 1 then 'a' else 'b' end as c, list_sum(l) as s, list_transform(l, e -> e + 1) from trips",
    "select age(a, b) as c, greatest(a, b) as g, a ~ 'x' as r, -- now()\n 'now()' as n from trips",
    'select "first", last from trips',
]
REFUSED = {
    "select sum(x) as s from trips": "SUM(x) adds up rows",
    "select mad(x) as s from trips": "MAD(x) adds up rows",
    "select any_value(x) as s from trips": "adds up rows",
    "select count(*) as n from trips": "COUNT(*) adds up rows",
    "select max(x) filter (where y) as m from trips": "adds up rows",
    "select string_agg(x, ',' order by y) as m from trips": "adds up rows",
    "select x from trips where x > (select 1)": "it has a subquery",
    "select x from trips where x in (select y from zones)": "it has a subquery",
    "select x from trips where exists (select 1 from zones)": "it has a subquery",
    "select x from (select * from trips)": "it has a subquery; declare that as another hw.Source",
    "select x from (trips join zones using (a))": "it has a subquery",
    "with a as (select * from trips) select x from a": "it has a CTE; declare that as another hw.Source",
    "select row_number() over () as n from trips": "ROW_NUMBER() OVER () looks at other rows",
    "select lag(x) over (order by ts) as n from trips": "looks at other rows",
    "select x from trips qualify row_number() over () = 1": "QUALIFY looks at other rows",
    "select x from trips group by x": "GROUP BY adds up rows",
    "select x from trips group by all": "GROUP BY adds up rows",
    "select x from trips having x > 3": "HAVING looks at groups",
    "select distinct x from trips": "DISTINCT compares rows",
    "select distinct on (x) x from trips": "DISTINCT compares rows",
    "select x from trips order by x": "ORDER BY has no meaning here",
    "select x from trips limit 3": "LIMIT keeps rows by the order",
    "select x from trips offset 3": "OFFSET skips rows",
    "select x from trips using sample 3": "a sample is another one each time",
    "select x from trips tablesample 10%": "a sample is another one each time",
    "select x from trips union all select x from zones": "UNION puts rows of several queries together",
    "select x from trips intersect select x from zones": "INTERSECT puts rows",
    "select x from trips; select y from trips": "got 2 statements",
    "insert into trips values (1)": "got INSERT",
    "values (1)": "got VALUES",
    "": "got 0 statements",
    "select 1 as x": "it reads no source",
    "from trips": "write SELECT before FROM",
    "pivot trips on x using sum(y)": "got PIVOT",
    "select x frm trips": "its SQL cannot be read: ",
    "select (x from trips": "its SQL cannot be read: ",
    "select x from tripz": "its query reads 'tripz', which is no source; did you mean 'trips'?",
    "select x from main.trips": "FROM takes names of sources, got main.trips",
    "select x from 'a.parquet'": 'FROM takes names of sources, got "a.parquet"',
    "select x from read_csv('a.csv')": "FROM takes names of sources, got READ_CSV('a.csv')",
    "select x from range(10)": "FROM takes names of sources, got RANGE",
    "select x from trips t(a, b)": "gives columns other names; do that in SELECT",
    "select x from trips at (version => 3)": "AT (VERSION …) is not supported",
    "select x from q": "its query reads itself: q → q",
    "select now() - ts as age from trips": "NOW() gives another value each time",
    "select x from trips where ts > current_date": "CURRENT_DATE gives another value each time",
    "select current_timestamp as t from trips": "CURRENT_TIMESTAMP gives another value each time",
    "select today() as t from trips": "gives another value each time",
    "select random() as r from trips": "RANDOM() gives another value each time",
    "select uuid() as r from trips": "UUID() gives another value each time",
    "select gen_random_uuid() as r from trips": "gives another value each time",
    "select nextval('s') as r from trips": "NEXTVAL('s') gives another value each time",
    "select getvariable('s') as r from trips": "GETVARIABLE('s') gives another value each time",
    "select age(ts) as r from trips": "AGE(ts) gives another value each time",
    "select unnest(l) as e from trips": "makes several rows of one",
    "select x from trips, unnest(trips.l)": "makes several rows of one",
    "select x from trips, lateral (select 1)": "makes several rows of one",
    "select $1 as x from trips": "$1 is a parameter",
    "select columns('a.*') from trips": "picks columns by a pattern",
    "select * like 'a%' from trips": "picks columns by a pattern",
    "select t.s.* from trips t": "takes a struct apart; name its fields",
    "select t from trips t": "t stands for a whole row",
    "select t.__seq as s from trips t": "'__seq' begins with two underscores",
    "select x as __known from trips t": "'__known' begins with two underscores",
    "select x from trips, zones": "a join of zones without ON or USING makes several rows of one",
    "select x from trips cross join zones": "a join of zones without ON or USING",
    "select x from trips join zones z on z.zone = (select 1)": "it has a subquery",
    "select x from trips join zones z on z.zone = random()": "gives another value each time",
    "select x from trips natural join zones": "NATURAL JOIN zones: say what the rows have in common",
    "select x from trips positional join zones": "POSITIONAL JOIN zones: say what the rows have in common",
    "select x from trips right join zones using (zone)": "RIGHT JOIN zones makes rows that no row",
    "select x from trips full join zones using (zone)": "FULL JOIN zones makes rows that no row",
    "select x from trips t join zones T using (zone)": "two inputs are called 't'",
    "select x from trips t join prices p on t.zone = p.zone":
        "'prices' changes over time, so a plain JOIN would see what came later; write asof join prices on",
    "select x from zones z join prices p on z.zone = p.zone": "put prices first, in FROM, and join zones to it",
    "select x from trips t anti join prices p on t.zone = p.zone": "asks whether a row will ever exist",
    "select x from trips t semi join prices p on t.zone = p.zone": "asks whether a row will ever exist",
    "select x from trips t asof join zones z on t.zone = z.zone and t.ts >= z.since":
        "ASOF JOIN zones: 'zones' has no timestamp; a plain JOIN will do",
    "select x from trips t asof join prices p on t.zone = p.zone and t.ts >= p.seen":
        "its inequality is on 'seen', and the timestamp of 'prices' is 'valid_from'",
    "select x from trips t asof join prices p on t.zone = p.zone and t.ts <= p.valid_from":
        "the joined source's own column stands on the smaller side",
    "select x from trips t asof join prices p on t.zone = p.zone and ts >= valid_from":
        "with an alias before every column",
    "select x from trips t asof join prices p on t.zone = p.zone": "got 0 inequalities",
    "select x from trips t asof join prices p on t.zone <> p.zone and t.ts >= p.valid_from":
        "equalities and one inequality",
    "select x from trips t asof join prices p on t.ts >= p.valid_from or t.x = p.x": "equalities and one inequality",
    "select x from trips t asof join prices using (valid_from, zone)": "its inequality is on 'zone'",
    "select x from trips t asof join rates r on t.zone = r.zone and t.ts >= r.valid_from":
        "'rates' has id zone, so its rows are versions of one fact",
    "select x from trips t asof right join prices p on t.zone = p.zone and t.ts >= p.valid_from": "RIGHT JOIN prices",
}  # fmt: skip


@pytest.mark.parametrize("text", ALLOWED)
def test_what_works_row_by_row_is_allowed(text: str) -> None:
    check_row_local(query(text), OTHERS)


@pytest.mark.parametrize("text", REFUSED)
def test_what_does_not_is_refused_in_one_sentence(text: str) -> None:
    source = query(text)
    with pytest.raises(DefinitionError) as caught:
        check_row_local(source, {**OTHERS, "q": source})
    message = str(caught.value)
    assert message.startswith(f"source 'q' ({__file__}:")
    assert REFUSED[text] in message
    assert "\n" not in message


def test_a_query_without_a_timestamp_over_one_that_has_it() -> None:
    with pytest.raises(DefinitionError, match="it has no timestamp, but 'trips', which it reads, changes over time"):
        check_row_local(query("select * from trips", timestamp=None), OTHERS)
    check_row_local(query("select * from zones", timestamp=None), OTHERS)
    check_row_local(query("select * from zones"), OTHERS)


def test_sources_of_files_are_row_local() -> None:
    check_row_local(OTHERS["trips"], {})
    assert inputs(OTHERS["trips"]) == ()


def test_lineage_goes_through_queries_and_refuses_circles() -> None:
    b = query("select * from a join zones using (zone)", "b")
    others = {**OTHERS, "a": query("select * from trips", "a"), "b": b}
    assert inputs(b) == ("a", "zones")
    assert lineage(b, others) == ("trips", "a", "zones")
    others["a"] = query("select * from b", "a")
    with pytest.raises(DefinitionError, match=r"source 'a' \(.*: its query reads itself: b → a → b"):
        lineage(b, others)
    with pytest.raises(DefinitionError, match=r"source 'a' .* its query reads itself: b → a → b"):
        check_row_local(query("select * from b", "c"), others)


def test_the_columns_of_an_asof_join_are_read_from_its_condition() -> None:
    text = "select t.x from trips t asof join prices p on p.a = t.x + 1 and t.b = p.b and p.valid_from <= t.ts"
    driver, joined = read(query(text)).inputs
    assert (driver.source, driver.alias, driver.kind) == ("trips", "t", "driver")
    assert (joined.kind, joined.keys, joined.timestamp) == ("asof", ("a", "b"), "valid_from")
    assert text[slice(*joined.span)] == "prices p"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a + b * a", ("a", "b")),
        ("t.a + s.f.g", ("t.a", "s.f.g")),
        ('"odd name" / 2 -- half', ("odd name",)),
        ("list_transform(l, e -> e + a)", ("l", "a")),
        ("[e * 2 for e in l if e > a]", ("l", "a")),
        ("1", ()),
    ],
)
def test_expressions_name_their_columns(text: str, columns: tuple[str, ...]) -> None:
    assert set(check_expression(text, OTHERS["trips"])) == set(columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write a single expression"),
        ("a, b", "write a single expression"),
        ("a from b", "write a single expression"),
        ("a as b", "without a name or a star"),
        ("*", "without a name or a star"),
        ("sum(a)", "adds up rows"),
        ("count(*)", "adds up rows"),
        ("lag(a) over ()", "looks at other rows"),
        ("(select 1)", "it has a subquery"),
        ("now()", "gives another value each time"),
        ("unnest(a)", "makes several rows of one"),
        ("a +", "its SQL cannot be read"),
        ("a); drop table x; --", "its SQL cannot be read"),
        ("a; select 1", "got 2 statements"),
        ("__known", "begins with two underscores"),
    ],
)
def test_expressions_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_expression(text, OTHERS["trips"], "feature")
    assert str(caught.value).startswith(f"source 'trips' ({__file__}:")
    assert f"feature {text!r}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("select * from trips", True),
        ("select t.*, z.name from trips t join zones z using (zone)", True),
        ("select t.trip_id, z.name from trips t join zones z using (zone)", True),
        ("select trip_id from trips", True),
        ("select z.* from trips t join zones z using (zone)", False),
        ("select trip_id + 1 as trip_id from trips", False),
        ("select other as trip_id from trips", False),
        ("select * replace (1 as trip_id) from trips", False),
    ],
)
def test_whether_a_column_is_the_drivers_own(text: str, copied: bool) -> None:
    assert copies(query(text), "trip_id") == copied


def test_where_a_column_comes_from() -> None:
    text = "select t.*, z.name, t.x + z.y as both, w from trips t left join zones z using (zone)"
    source = query(text)
    others = {**OTHERS, "q": source, "r": query("select * from q", "r")}
    assert origins(source, "x", others) == {"q", "trips"}
    assert origins(source, "name", others) == {"q", "zones"}
    assert origins(source, "both", others) == origins(source, "w", others) == {"q", "trips", "zones"}
    assert origins(others["r"], "name", others) == {"r", "q", "zones"}


def test_which_columns_a_column_comes_from() -> None:
    text = "select t.*, z.name, t.x + z.y as both, w from trips t left join zones z using (zone)"
    others = {**OTHERS, "q": query(text), "r": query("select *, both * 2 as twice from q", "r")}
    there = {"trips": {"x", "w", "zone"}, "zones": {"y", "name", "zone"}, "q": {"x", "w", "zone", "name", "both"}}

    def of(name: str, column: str) -> set[tuple[str, str]]:
        return set(column_origins(others[name], column, others, lambda source, c: c in there[source.name]))

    assert of("q", "x") == {("trips", "x")}
    assert of("r", "twice") == of("r", "both") == {("trips", "x"), ("zones", "y")}
    assert of("r", "name") == {("zones", "name")}
    assert of("q", "w") == {("trips", "w")}
    assert of("trips", "x") == {("trips", "x")}


def test_the_lists_of_functions_cover_the_engines_own() -> None:
    with duckdb.connect() as connection:
        found = connection.execute("select function_name, function_type, stability from duckdb_functions()").fetchall()
    scalar = {name for name, kind, _ in found if kind == "scalar"}
    assert {name for name, kind, _ in found if kind == "aggregate"} - scalar - AGGREGATES - {"-"} == set()
    assert {name for name, _, stability in found if stability not in ("CONSISTENT", None)} - VOLATILE == set()
    assert not AGGREGATES & VOLATILE
    assert "unnest" in ROW_MULTIPLYING


def test_importing_headway_does_not_import_the_parser() -> None:
    code = "import headway, headway.define._collect, sys; print('sqlglot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
