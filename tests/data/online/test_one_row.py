"""One row at a time says what many rows at once say."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.online import OnlineReader, Watermark, pack, write_watermark
from headway.data.online.lmdb import LmdbStore
from headway.define.records import BEGINNING, FeaturePlan, Field, Snapshot, ViewPlan

TYPES = {
    "double": st.floats(allow_nan=False),
    "float": st.floats(width=32, allow_nan=False),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "bool": st.booleans(),
    "string": st.text(max_size=5),
    "timestamp[us, tz=UTC]": st.integers(-(2**60), 2**60),
    "date32[day]": st.integers(-(2**31), 2**31 - 1),
}
HOUR = 3_600_000_000


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    types=st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=9),
    ttl=st.sampled_from([None, 2 * HOUR]),
    refresh=st.sampled_from([None, HOUR]),
)
def test_one_row_is_read_as_many_are(tmp_path_factory, data, types, ttl, refresh) -> None:
    kinds = [data.draw(st.sampled_from(["last", "mean"])) if refresh else "last" for _ in types]
    features = tuple(
        FeaturePlan(f"f{i}", kind, type_, "x", None if kind == "last" else HOUR)
        for i, (type_, kind) in enumerate(zip(types, kinds, strict=True))
    )
    plan = ViewPlan("v", "0f" * 16, "s", (), "", (Field("k", "int64"),), features, refresh=refresh, ttl=ttl)
    rows = data.draw(st.integers(1, 4))
    columns, times, expired = {}, {}, {}
    for feature in features:
        values = data.draw(st.lists(st.none() | TYPES[feature.type], min_size=rows, max_size=rows))
        columns[feature.name] = _array(values, feature.type)
        if ttl is not None and feature.is_latest:
            times[feature.name] = np.array(
                data.draw(st.lists(st.sampled_from([0, 3 * HOUR, 5 * HOUR, BEGINNING]), min_size=rows, max_size=rows))
            )
            expired[feature.name] = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    store = LmdbStore(tmp_path_factory.mktemp("online"))
    snapshot = Snapshot(pa.table({"k": list(range(rows))}), pa.table(columns), 5 * HOUR, 3, times, expired)
    for packed in pack(plan, snapshot):
        store.put_many(packed)
    if data.draw(st.booleans()):
        mark = Watermark(data.draw(st.sampled_from([4, 5, 6])) * HOUR, data.draw(st.integers(2, 4)))
        write_watermark(store, plan, mark)
    reader = OnlineReader(store)
    chosen = data.draw(st.permutations([f.name for f in features]).map(lambda names: names[: len(names) // 2 + 1]))
    bound = reader.bind(plan, chosen)
    for now in (5 * HOUR, 6 * HOUR, 7 * HOUR, 9 * HOUR):
        whole = reader.lookup(bound, bound.encode({"k": [*range(rows), 99, None]}), now)
        for at, key in enumerate([*range(rows), 99, None]):
            one = reader.lookup(bound, bound.encode({"k": [key]}), now)
            assert one.as_of.tolist() == [whole.as_of[at]]
            assert one.state.tolist() == [whole.state[at].tolist()]
            assert one.null.tolist() == [whole.null[at].tolist()]
            np.testing.assert_array_equal(one.floats()[0], whole.floats()[at])
            for name in chosen:
                np.testing.assert_array_equal(one.column(name), whole.column(name)[at : at + 1])
                assert one.array(name).equals(whole.array(name).slice(at, 1))
                assert one.states(name).to_pylist() == whole.states(name).slice(at, 1).to_pylist()
    store.close()


def _array(values: list[object], type_: str) -> pa.Array:
    if type_.startswith("timestamp"):
        return pa.array(values, pa.int64()).view(pa.timestamp("us", "UTC"))
    if type_.startswith("date32"):
        return pa.array(values, pa.int32()).view(pa.date32())
    return pa.array(values, pa.type_for_alias(type_))
