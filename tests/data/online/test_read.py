"""What a read says about its values: as of when, in what state, null or not."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.online import (
    STATES,
    OnlineReader,
    Watermark,
    pack,
    read_table,
    stored_rows,
    write_watermark,
)
from headway.define.records import BEGINNING, FeaturePlan, Field, Snapshot, ViewPlan, ViewUse
from headway.errors import DataError, NotFoundError, StoreError, UsageError
from headway.testing.online_store import MemoryStore

REFRESH, LAG, TTL = 100, 10, 250
FEATURES = (
    FeaturePlan("trips", "count", "int64", window=1000),
    FeaturePlan("mean", "mean", "double", "x", window=1000),
    FeaturePlan("last", "last", "double", "x"),
)


def make_plan(*, refresh=REFRESH, ttl=None, fingerprint="ab" * 16, features=FEATURES) -> ViewPlan:
    return ViewPlan(
        "view", fingerprint, "s", (), "", (Field("id", "int64"),), features, refresh=refresh, lag=LAG, ttl=ttl
    )


def put(store, plan, as_of, rows, *, version=1, mark=True):
    """Rows as {id: (trips, mean, last, event time of last, expired)}."""
    columns = list(zip(*rows.values(), strict=True)) or [()] * 5
    features = {f.name: pa.array(column, f.type) for f, column in zip(FEATURES, columns, strict=False)}
    timed = plan.ttl is not None
    snapshot = Snapshot(
        pa.table({"id": pa.array(list(rows), pa.int64())}),
        pa.table(features),
        as_of,
        version,
        {"last": np.array(columns[3], np.int64)} if timed else {},
        {"last": np.array(columns[4], bool)} if timed else {},
    )
    for chunk in pack(plan, snapshot):
        store.put_many(chunk)
    if mark:
        write_watermark(store, plan, Watermark(as_of, version))


def read(store, plan, ids, now):
    found = OnlineReader(store).read(plan, {"id": ids}, now)
    values = [found.array(name).to_pylist() for name in found.features]
    states = [[STATES[code] for code in row] for row in found.state]
    return list(zip(*values, strict=True)), states, found.as_of.tolist()


@pytest.fixture
def store():
    return MemoryStore()


ROW = (3, 1.5, 7.0, 480, False)


def test_a_fresh_row_is_ok_until_the_next_refresh_is_due(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW})
    for now in (510, 609):
        assert read(store, plan, [1], now) == ([ROW[:3]], [["ok"] * 3], [500])
    assert read(store, plan, [1], 610)[1] == [["late"] * 3]


def test_late_values_are_served_for_three_refreshes_and_no_longer(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW})
    assert read(store, plan, [1], 899) == ([ROW[:3]], [["late"] * 3], [500])
    assert read(store, plan, [1], 900) == ([ROW[:3]], [["late"] * 3], [500])
    assert read(store, plan, [1], 910) == ([(None, None, None)], [["expired"] * 3], [500])


def test_a_ttl_takes_the_place_of_the_three_refreshes(store):
    plan = make_plan(ttl=TTL)
    put(store, plan, 500, {1: (3, 1.5, 7.0, 700, False)})
    assert read(store, plan, [1], 710)[1] == [["late"] * 3]
    assert read(store, plan, [1], 810)[1] == [["expired"] * 3]


def test_an_unchanged_row_speaks_for_the_watermark(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW, 2: ROW})
    put(store, plan, 600, {2: (4, 2.5, 8.0, 580, False)})
    assert read(store, plan, [1, 2], 615) == ([ROW[:3], (4, 2.5, 8.0)], [["ok"] * 3] * 2, [600, 600])


def test_rows_of_a_refresh_under_way_are_ahead_of_the_watermark(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW, 2: ROW})
    put(store, plan, 600, {2: ROW}, mark=False)
    assert read(store, plan, [1, 2], 615)[1:] == ([["late"] * 3, ["ok"] * 3], [500, 600])


def test_a_row_of_newer_data_does_not_speak_for_a_watermark_of_older_data(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW}, version=2, mark=False)
    put(store, plan, 600, {2: ROW}, version=1)
    assert read(store, plan, [1, 2], 615)[2] == [500, 600]


def test_an_unknown_entity_has_empty_windows(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW})
    assert read(store, plan, [9], 510) == ([(0, None, None)], [["missing"] * 3], [500])
    assert read(store, plan, [9], 700) == ([(0, None, None)], [["missing"] * 3], [500])
    assert read(store, plan, [9], 910) == ([(None, None, None)], [["missing"] * 3], [500])


def test_a_null_key_gives_nulls(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW})
    values, states, _ = read(store, plan, [1, None, 9], 510)
    assert values == [ROW[:3], (None, None, None), (0, None, None)]
    assert states == [["ok"] * 3, ["missing"] * 3, ["missing"] * 3]


def test_a_view_that_was_never_materialized_gives_nulls(store):
    assert read(store, make_plan(), [1, 2], 510) == ([(None,) * 3] * 2, [["missing"] * 3] * 2, [BEGINNING] * 2)
    put(store, make_plan(), 500, {1: ROW}, mark=False)  # cut short
    assert read(store, make_plan(), [1, 2], 510) == (
        [ROW[:3], (None,) * 3],
        [["ok"] * 3, ["missing"] * 3],
        [500, BEGINNING],
    )


def test_latest_values_expire_with_their_event(store):
    plan = make_plan(ttl=TTL)
    put(
        store,
        plan,
        500,
        {1: (3, 1.5, 7.0, 250, False), 2: (3, 1.5, None, 249, True), 3: (3, 1.5, None, BEGINNING, False)},
    )
    assert read(store, plan, [1, 2, 3], 510)[1] == [["ok"] * 3, ["ok", "ok", "expired"], ["ok"] * 3]
    values, states, _ = read(store, plan, [1, 2, 3], 610)
    assert values[0] == (3, 1.5, None)
    assert states == [["late", "late", "expired"], ["late", "late", "expired"], ["late"] * 3]


def test_a_view_without_refresh_is_never_late(store):
    plan = make_plan(refresh=None, ttl=TTL)
    put(store, plan, 500, {1: (3, 1.5, 7.0, 480, False)})
    assert read(store, plan, [1], 740)[1] == [["ok"] * 3]
    values, states, as_of = read(store, plan, [1], 741)
    assert (values, states, as_of) == ([(3, 1.5, None)], [["ok", "ok", "expired"]], [500])
    assert read(store, plan, [9], 10**6)[:2] == ([(0, None, None)], [["missing"] * 3])


def test_views_are_told_apart(store):
    one, other = make_plan(), make_plan(fingerprint="cd" * 16)
    put(store, one, 500, {1: ROW})
    assert read(store, other, [1], 510)[1] == [["missing"] * 3]
    store.drop(bytes.fromhex(one.fingerprint))
    assert read(store, one, [1], 510)[0] == [(None, None, None)]


def test_a_row_for_every_key_in_the_order_asked(store):
    plan = make_plan()
    put(store, plan, 500, {i: (i, float(i), None, 0, False) for i in range(100)})
    asked = [5, 99, 5, 1000, 0, None, 5]
    assert [row[0] for row in read(store, plan, asked, 510)[0]] == [5, 99, 5, 0, 0, None, 5]
    assert read(store, plan, [], 510) == ([], [], [])


def test_stored_rows_are_what_was_written_however_late_it_is(store):
    plan = make_plan(ttl=TTL)
    put(store, plan, 500, {1: (3, 1.5, 7.0, 251, False)})
    found = stored_rows(OnlineReader(store), plan, pa.table({"id": [1, 2]}))
    assert found.to_pylist() == [{"trips": 3, "mean": 1.5, "last": 7.0}, {"trips": 0, "mean": None, "last": None}]
    assert OnlineReader(store).watermark(plan) == Watermark(500, 1)


rows_of = st.dictionaries(
    st.integers(0, 4),
    st.tuples(
        st.none() | st.integers(0, 9),
        st.none() | st.floats(-9, 9),
        st.none() | st.floats(-9, 9),
        st.just(BEGINNING) | st.integers(0, 500),
        st.booleans(),
    ),
)


@given(
    refresh=st.sampled_from([None, REFRESH]),
    ttl=st.sampled_from([None, TTL]),
    writes=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), rows_of, st.booleans()), max_size=4),
    asked=st.lists(st.none() | st.integers(0, 5), max_size=6),
    now=st.integers(0, 2000),
)
def test_rules_against_one_value_at_a_time(refresh, ttl, writes, asked, now):
    plan, store = make_plan(refresh=refresh, ttl=ttl), MemoryStore()
    latest, mark = {}, None
    for step, version, rows, finished in writes:
        rows = {i: (*row[:4], row[4] and ttl is not None and row[2] is None) for i, row in rows.items()}
        stamp = (step * 100, version)
        put(store, plan, stamp[0], rows, version=version, mark=finished)
        for i, row in rows.items():
            if i not in latest or latest[i][0] <= stamp:
                latest[i] = (stamp, row)
        if finished and (mark is None or mark <= stamp):
            mark = stamp
    values, states, as_ofs = read(store, plan, asked, now)
    expected = [one_by_one(plan, latest.get(i), mark, i is None, now) for i in asked]
    assert [(v, s) for v, s in zip(values, states, strict=True)] == [(v, s) for v, s, _ in expected]
    assert as_ofs == [as_of for _, _, as_of in expected]


@pytest.mark.parametrize("ttl", [None, TTL])
@pytest.mark.parametrize("names", [["mean"], ["last"], ["trips"], ["last", "mean", "trips"]])
@pytest.mark.parametrize("now", [510, 615, 760, 2000])
def test_a_row_alone_reads_as_it_does_among_others(store, ttl, names, now):
    plan = make_plan(ttl=ttl)
    rows = {1: ROW, 2: (3, None, 7.0, 300, False), 3: (None, 1.5, None, BEGINNING, False)}
    put(store, plan, 500, rows | ({4: (1, 2.5, None, 100, True)} if ttl else {}))
    put(store, plan, 600, {1: (4, 2.5, 8.0, 580, False)}, mark=False)
    reader, ids = OnlineReader(store), [1, 2, 3, 4, None]
    bound = reader.bind(plan, names)
    together = reader.lookup(bound, bound.encode({"id": ids}), now)
    for at, key in enumerate(ids):
        alone = reader.lookup(bound, bound.encode({"id": [key]}), now)
        assert (alone.state[0].tolist(), alone.as_of[0]) == (together.state[at].tolist(), together.as_of[at]), key
        assert alone.null[0].tolist() == together.null[at].tolist()
        np.testing.assert_array_equal(alone.floats()[0], together.floats()[at])
        for name in names:
            assert alone.array(name).to_pylist() == together.array(name).slice(at, 1).to_pylist()


def one_by_one(plan, stored, mark, null_key, now):
    """The module's rules for one entity, in plain Python."""
    r = now - plan.lag
    if plan.refresh is not None:
        r -= r % plan.refresh
    limit = plan.ttl or 3 * (plan.refresh or 0)

    def hopeless(as_of):
        return plan.refresh is not None and r - as_of > limit

    if null_key or stored is None:
        nothing = null_key or mark is None or hopeless(mark[0])
        as_of = mark[0] if mark else BEGINNING
        return ((None, None, None) if nothing else (0, None, None)), ["missing"] * 3, as_of
    (as_of, version), (trips, mean, last, event, was_expired) = stored
    if mark is not None and version <= mark[1]:
        as_of = max(as_of, mark[0])
    if hopeless(as_of):
        return (None, None, None), ["expired"] * 3, as_of
    state = "late" if plan.refresh is not None and as_of < r else "ok"
    gone = plan.ttl is not None and (was_expired or (event != BEGINNING and event < r - plan.ttl))
    return (trips, mean, None if gone else last), [state, state, "expired" if gone else state], as_of


class TestColumns:
    @pytest.fixture
    def plan(self):
        kinds = ["double", "int64", "string", "float", "bool", "double", "timestamp[us, tz=UTC]"]
        return make_plan(features=tuple(FeaturePlan(f"f{i}", "row", kind, "c") for i, kind in enumerate(kinds)))

    @pytest.fixture
    def reader(self, store, plan):
        columns = [[1.5, None], [7, None], ["a", None], [2.5, None], [True, None], [3.5, 4.5], [9, None]]
        kinds = [
            pa.float64(),
            pa.int64(),
            pa.string(),
            pa.float32(),
            pa.bool_(),
            pa.float64(),
            pa.timestamp("us", "UTC"),
        ]
        features = {f"f{i}": pa.array(c, kind) for i, (c, kind) in enumerate(zip(columns, kinds, strict=True))}
        for chunk in pack(plan, Snapshot(pa.table({"id": [1, 2]}), pa.table(features), 500, 1)):
            store.put_many(chunk)
        write_watermark(store, plan, Watermark(500, 1))
        return OnlineReader(store)

    def test_floats(self, reader, plan):
        found = reader.read(plan, {"id": [1, 2]}, 510)
        nan = np.nan
        expected = [[1.5, 7, nan, 2.5, 1, 3.5, 9], [nan, nan, nan, nan, nan, 4.5, nan]]
        np.testing.assert_array_equal(found.floats(), expected)
        out = np.zeros((2, 9))
        found.floats(out[:, 1:8])
        np.testing.assert_array_equal(out[:, 1:8], expected)

    def test_some_features_in_another_order(self, reader, plan):
        bound = reader.bind(plan, ["f5", "f1", "f0"])
        assert reader.bind(plan, ["f5", "f1", "f0"]) is bound
        found = reader.lookup(bound, bound.encode({"id": [2, 1]}), 510)
        np.testing.assert_array_equal(found.floats(), [[4.5, np.nan, np.nan], [3.5, 7, 1.5]])
        assert found.null.tolist() == [[False, True, True], [False] * 3]
        assert len(found) == 2
        assert found.features == ("f5", "f1", "f0")

    def test_columns_as_numpy(self, reader, plan):
        found = reader.read(plan, {"id": [1, 2]}, 510)
        assert found.column("f1").tolist() == [7, 0]
        assert found.column("f2").tolist() == ["a", None]
        assert found.column("f4").tolist() == [True, False]
        assert found.column("f3").dtype == np.float32
        np.testing.assert_array_equal(found.column("f0"), [1.5, np.nan])

    def test_expired_values_do_not_shine_through(self, reader, plan):
        found = reader.read(plan, {"id": [1]}, 10_000)
        assert np.isnan(found.floats()).all()
        assert np.isnan(found.column("f0")).all()
        assert found.column("f1").tolist() == [0]
        assert found.column("f2").tolist() == [None]

    @pytest.mark.parametrize(
        "names", [None, ["f0", "f5"], ["f5", "f0"], ["f6"], ["f1"], ["f3"], ["f4", "f2"], ["f6", "f1", "f5"]]
    )
    @pytest.mark.parametrize("ids", [[1], [2], [1, 1], [2, 1, 3, None], []])
    @pytest.mark.parametrize("now", [510, 650, 10_000])
    def test_arrow_all_at_once_is_arrow_one_by_one(self, reader, plan, names, ids, now):
        bound = reader.bind(plan, names)
        found = reader.lookup(bound, bound.encode({"id": pa.array(ids, pa.int64())}), now)
        batch, states = found.to_arrow(), found.states_arrow()
        batch.validate(full=True)
        assert batch.schema.names == list(found.features)
        assert batch.num_rows == len(states) == len(found) == len(ids)
        for name in found.features:
            assert batch.column(name).equals(found.array(name))
            assert states.field(name).equals(found.states(name))

    def test_an_unknown_feature(self, reader, plan):
        with pytest.raises(NotFoundError, match="no feature of view 'view'"):
            reader.bind(plan, ["f11"])
        with pytest.raises(NotFoundError):
            reader.read(plan, {"id": [1]}, 510).column("g")


class TestTable:
    def use(self, plan, prefix, column="id", features=("trips", "last")):
        return ViewUse(prefix, plan, {"id": column}, features)

    def test_one_view(self, store):
        plan = make_plan()
        put(store, plan, 500, {1: ROW})
        keys = pa.table({"id": [2, 1, 1], "note": ["x", "y", "z"]})
        table = read_table(OnlineReader(store), [self.use(plan, "view")], keys, 510)
        assert table.column_names == ["id", "note", "view__trips", "view__last", "_as_of", "_state"]
        assert table["view__trips"].to_pylist() == [0, 3, 3]
        assert table["_as_of"].type == pa.timestamp("us", "UTC")
        assert table["_as_of"].cast(pa.int64()).to_pylist() == [500] * 3
        assert table["_state"].to_pylist() == [{"trips": s, "last": s} for s in ("missing", "ok", "ok")]

    def test_one_view_twice_and_another(self, store):
        plan, other = make_plan(), make_plan(fingerprint="cd" * 16)
        put(store, plan, 500, {1: ROW, 2: (5, None, None, 0, False)})
        uses = [self.use(plan, "pickup", "a"), self.use(plan, "dropoff", "b"), self.use(other, "more", "b", ("mean",))]
        table = read_table(OnlineReader(store), uses, {"a": [1, 2], "b": [2, None]}, 510)
        assert table.column_names == [
            "a", "b", "pickup__trips", "pickup__last", "dropoff__trips", "dropoff__last", "more__mean",
            "pickup_as_of", "pickup_state", "dropoff_as_of", "dropoff_state", "more_as_of", "more_state",
        ]  # fmt: skip
        assert table["pickup__trips"].to_pylist() == [3, 5]
        assert table["dropoff__trips"].to_pylist() == [5, None]
        assert table["more_as_of"].to_pylist() == [None, None]
        assert table["more_state"].to_pylist() == [{"mean": "missing"}] * 2

    def test_no_rows(self, store):
        table = read_table(OnlineReader(store), [self.use(make_plan(), "v")], {"id": []}, 510)
        assert table.num_rows == 0
        assert "v__trips" in table.column_names

    def test_a_view_without_keys_stands_on_every_row(self, store):
        plan = ViewPlan("all", "ef" * 16, "s", (), "", (), FEATURES[:1], refresh=REFRESH, lag=LAG)
        snapshot = Snapshot(pa.table({"unused": [0]}).select([]), pa.table({"trips": [4]}), 500, 1)
        for chunk in pack(plan, snapshot):
            store.put_many(chunk)
        write_watermark(store, plan, Watermark(500, 1))
        table = read_table(OnlineReader(store), [ViewUse("all", plan, {}, ("trips",))], {"id": [1, 2]}, 510)
        assert table["all__trips"].to_pylist() == [4, 4]

    def test_what_is_missing_or_twice_is_named(self, store):
        reader, plan = OnlineReader(store), make_plan()
        with pytest.raises(DataError, match="view 'v' needs key 'zone'"):
            read_table(reader, [self.use(plan, "v", "zone")], {"id": [1]}, 510)
        with pytest.raises(UsageError, match="two columns would be called 'v__trips'"):
            read_table(reader, [self.use(plan, "v"), self.use(plan, "v")], {"id": [1]}, 510)


def test_rows_of_another_format_are_refused(store):
    plan = make_plan()
    put(store, plan, 500, {1: ROW})
    key = bytes.fromhex(plan.fingerprint) + b"\0"
    store.put_many([(key, store.get_many([key])[0][:16] + b"\x09")])
    with pytest.raises(StoreError, match="another version of headway"):
        read(store, plan, [1], 510)
