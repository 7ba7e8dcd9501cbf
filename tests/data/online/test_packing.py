"""What is packed comes back: values, nulls, types, event times, expiry."""

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.online import OnlineReader, Watermark, pack, stored_rows, write_watermark
from headway.define.records import BEGINNING, FeaturePlan, Field, Snapshot, ViewPlan
from headway.errors import DefinitionError, StoreError
from headway.testing.online_store import MemoryStore

DAYS = dt.timedelta(days=100_000)
TYPES = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int8": st.integers(-128, 127),
    "uint64": st.integers(0, 2**64 - 1),
    "uint8": st.integers(0, 255),
    "double": st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False, width=32),
    "bool": st.booleans(),
    "string": st.text(max_size=8),
    "large_string": st.text(max_size=8),
    "binary": st.binary(max_size=8),
    "date32[day]": st.dates(),
    "timestamp[us, tz=UTC]": st.datetimes(dt.datetime(1900, 1, 1), timezones=st.just(dt.UTC)),
    "timestamp[us]": st.datetimes(dt.datetime(1900, 1, 1)),
    "decimal128(12, 3)": st.decimals(-(10**8), 10**8, places=3).map(
        lambda value: value.quantize(decimal.Decimal("0.001"))
    ),
    "time64[us]": st.times(),
    "duration[us]": st.timedeltas(-DAYS, DAYS),
}


def make_plan(types, **more) -> ViewPlan:
    features = tuple(FeaturePlan(f"f{i}", "row", kind, f"c{i}") for i, kind in enumerate(types))
    return ViewPlan("view", "ab" * 16, "source", (), "", (Field("id", "int64"),), features, **more)


def make_snapshot(plan, columns, **more) -> Snapshot:
    rows = len(columns[0])
    arrays = [pa.array(column, _type(feature.type)) for column, feature in zip(columns, plan.features, strict=True)]
    features = pa.table(dict(zip([f.name for f in plan.features], arrays, strict=True)))
    return Snapshot(pa.table({"id": np.arange(rows)}), features, as_of=1000, version=4, **more)


def make_snapshot_of(plan, columns, types) -> Snapshot:
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    names = [f.name for f in plan.features]
    return Snapshot(pa.table({"id": np.arange(len(columns[0]))}), pa.table(arrays, names=names), as_of=1000, version=4)


def _type(text):
    named = {"timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"), "decimal128(12, 3)": pa.decimal128(12, 3)}
    return named.get(text) or pa.type_for_alias(text)


def stored(plan, snapshot) -> pa.Table:
    store = MemoryStore()
    for chunk in pack(plan, snapshot):
        store.put_many(chunk)
    write_watermark(store, plan, Watermark(snapshot.as_of, snapshot.version))
    return stored_rows(OnlineReader(store), plan, snapshot.keys)


@given(st.data())
def test_round_trip_of_every_type(data):
    types = data.draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=20))
    rows = data.draw(st.integers(1, 5))
    columns = [data.draw(st.lists(st.none() | TYPES[kind], min_size=rows, max_size=rows)) for kind in types]
    plan = make_plan(types, ttl=data.draw(st.sampled_from([None, 10**6])))
    snapshot = make_snapshot(plan, columns)
    found = stored(plan, snapshot)
    assert found.schema == snapshot.features.schema
    assert found.to_pylist() == snapshot.features.to_pylist()


LISTED = sorted(set(TYPES) - {"decimal128(12, 3)"})


@given(st.data())
def test_round_trip_of_lists(data):
    rows, features, columns = data.draw(st.integers(1, 4)), [], {}
    for i in range(data.draw(st.integers(1, 5))):
        kind, n = data.draw(st.sampled_from(LISTED)), data.draw(st.integers(0, 4))
        item, name = TYPES[kind], f"f{i}"
        type_ = pa.list_(_type(kind), n) if n else _type(kind)
        how = data.draw(st.sampled_from(["last_n", "row"])) if n else "row"
        fewer = st.integers(1, n or 1).flatmap(lambda k, n=n, item=item: st.lists(item, min_size=k, max_size=k))
        full = st.lists(item, min_size=n, max_size=n)
        lists = fewer.map(lambda found, n=n: found + [None] * (n - len(found))) if how == "last_n" else full
        columns[name] = pa.array(
            data.draw(st.lists(st.none() | (lists if n else item), min_size=rows, max_size=rows)), type_
        )
        features.append(FeaturePlan(name, how, str(type_), "c", n=n or None))
    plan = ViewPlan("view", "ab" * 16, "source", (), "", (Field("id", "int64"),), tuple(features), ttl=10**6)
    snapshot = Snapshot(pa.table({"id": np.arange(rows)}), pa.table(columns), as_of=1000, version=4)
    found = stored(plan, snapshot)
    assert found.schema == snapshot.features.schema
    assert found.to_pylist() == snapshot.features.to_pylist()


def test_lists_as_objects_and_as_a_matrix():
    types = [pa.list_(pa.float32(), 2), pa.list_(pa.int64(), 3), pa.list_(pa.string(), 2)]
    features = tuple(
        FeaturePlan(f"f{i}", "last_n" if i else "row", str(type_), "c", n=type_.list_size)
        for i, type_ in enumerate(types)
    )
    plan = ViewPlan(
        "view", "ab" * 16, "source", (), "", (Field("id", "int64"),), (*features, FeaturePlan("n", "count", "int64"))
    )
    columns = [[[1, float("nan")], None], [[5, 6, None], None], [["a", ""], ["b", None]], [7, 8]]
    snapshot = make_snapshot_of(plan, columns, [*types, pa.int64()])
    store = MemoryStore()
    for chunk in pack(plan, snapshot):
        store.put_many(chunk)
    write_watermark(store, plan, Watermark(1000, 4))
    for ids in ([0, 1], [0], [1]):  # a single row has a way of its own
        found = OnlineReader(store).read(plan, {"id": ids}, 1000)
        assert str(found.column("f1").tolist()) == str([columns[1][i] for i in ids])
        assert found.column("f2").tolist() == [columns[2][i] for i in ids]
        right = [[5, 6, np.nan], [np.nan] * 3]
        assert np.array_equal(found.matrix("f1"), np.array([right[i] for i in ids]), equal_nan=True)
        assert np.isnan(found.floats()[:, :3]).all()
        assert found.floats()[:, 3].tolist() == [columns[3][i] for i in ids]


def test_an_entity_that_is_not_stored_has_the_values_of_no_rows():
    features = (
        FeaturePlan("n", "count", "int64"),
        FeaturePlan("a", "expr", "double", nothing=0.5),
        FeaturePlan("b", "expr", "string", nothing="none"),
        FeaturePlan("c", "expr", "timestamp[us, tz=UTC]", nothing=10**6),
        FeaturePlan("d", "expr", "double", nothing="inf"),
        FeaturePlan("e", "expr", "bool", nothing=True),
        FeaturePlan("f", "last", "string", "x"),
        FeaturePlan("g", "expr", "string", nothing="é"),
        FeaturePlan("h", "last_n", "fixed_size_list<item: string>[2]", "x", n=2),
    )
    plan = ViewPlan("view", "ab" * 16, "source", (), "", (Field("id", "int64"),), features)
    store = MemoryStore()
    write_watermark(store, plan, Watermark(1000, 4))
    found = OnlineReader(store).read(plan, {"id": [9, None, 8]}, 1000).to_arrow().to_pylist()
    second = dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    nothing = {"n": 0, "a": 0.5, "b": "none", "c": second, "d": float("inf"), "e": True, "f": None, "g": "é", "h": None}
    assert found == [nothing, dict.fromkeys(nothing), nothing]


def test_nan_is_a_value_and_not_a_null():
    plan = make_plan(["double"])
    found = stored(plan, make_snapshot(plan, [[float("nan"), None]]))["f0"]
    assert found.null_count == 1
    assert np.isnan(found[0].as_py())


def test_sliced_and_chunked_columns():
    plan = make_plan(["double", "string", "bool"])
    whole = make_snapshot(plan, [[0.5, None, 2.5, 3.5], ["a", "b", None, "d"], [True, None, False, True]])
    features = pa.concat_tables([whole.features.slice(1, 1), whole.features.slice(2, 2)])
    found = stored(plan, Snapshot(whole.keys.slice(1), features, 1000, 4))
    assert found.to_pylist() == whole.features.slice(1).to_pylist()


def test_many_rows_come_in_chunks():
    plan = make_plan(["int64", "string"])
    numbers = list(range(40_000))
    snapshot = make_snapshot(plan, [numbers, [str(n) for n in numbers]])
    assert max(map(len, pack(plan, snapshot))) <= 20_000
    assert stored(plan, snapshot).equals(snapshot.features)


def test_the_same_snapshot_gives_the_same_bytes():
    plan = make_plan(["double", "int64"], ttl=5)
    times = {"f0": np.array([7, 8]), "f1": np.array([7, BEGINNING])}
    snapshots = [make_snapshot(plan, [[None, 1.0], [3, None]], event_times=times) for _ in range(2)]
    assert list(pack(plan, snapshots[0])) == list(pack(plan, snapshots[1]))


def test_rows_with_a_null_key_are_left_out():
    plan = make_plan(["int64"])
    snapshot = Snapshot(pa.table({"id": pa.array([1, None])}), pa.table({"f0": [1, 2]}), 0, 0)
    assert [len(chunk) for chunk in pack(plan, snapshot)] == [1]


def test_a_type_without_room_is_refused():
    plan = make_plan(["list<item: int64>"])
    with pytest.raises(DefinitionError, match="list<item: int64>"):
        list(pack(plan, Snapshot(pa.table({"id": [1]}), pa.table({"f0": [[1]]}), 0, 0)))


def test_a_damaged_row_is_not_misread():
    plan, store = make_plan(["int64"]), MemoryStore()
    ((key, blob),) = next(pack(plan, make_snapshot(plan, [[1]])))
    store.put_many([(key, blob[:-3])])
    with pytest.raises(StoreError, match="damaged"):
        OnlineReader(store).read(plan, {"id": [0]}, 0)
