"""Requests made up at random: whatever comes, a problem or an answer of the right shape goes back."""

from __future__ import annotations

import json
import math

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TIMES = [
    "2024-01-05T13:00:00Z",
    "2024-01-05T13:00:00",
    "1582-10-15T00:00:00+14:00",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+01:00",
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["Manhattan", *TIMES]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
FIELDS = {
    "pickup_zone_id": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(1, 100)),
    "dropoff_zone_id": st.sampled_from([1, 20, 42, None, 0]),
    "borough": st.one_of(st.none(), st.text(max_size=5), st.just("Manhattan")),
    "pickup_at": st.one_of(st.none(), st.datetimes(timezones=st.timezones()).map(lambda t: t.isoformat())),
    "passengers": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "shared": st.one_of(st.none(), st.booleans()),
    "miles": st.one_of(st.none(), st.integers(-(10**300), 10**300), st.floats(allow_nan=False, allow_infinity=False)),
}
OVERRIDES = {
    "pickup__trips_1h": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "pickup__duration_avg": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    "pickup__busiest": st.one_of(st.none(), st.text(max_size=5)),
}
QUIET = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(status, answer, rows=None) -> None:
    assert status in (200, 400, 413, 422), answer
    if status == 200:
        assert rows is None or len(answer["predictions"]) == rows
        assert all(p is None or math.isfinite(p) for p in answer["predictions"])
        assert all(len(states) == len(answer["predictions"]) for states in answer["state"].values())
    else:
        assert set(answer) == {"type", "title", "status", "detail", "request_id"}
        assert answer["status"] == status
        assert "\n" not in answer["detail"]


@QUIET
@given(content=anything)
def test_any_json(client, content) -> None:
    check(*client.predict(content))
    check(*client.post("/v1/features/zone_traffic", content))


@QUIET
@given(body=st.binary(max_size=60))
def test_any_bytes(client, body) -> None:
    check(*client.send("POST", "/v1/models/trip_duration/predict", body)[:2])


@QUIET
@given(given_=st.dictionaries(st.sampled_from([*FIELDS, *OVERRIDES]), anything))
def test_right_names_with_any_values(client, given_) -> None:
    check(*client.predict({"entities": given_}))


@QUIET
@given(data=st.data(), rows=st.integers(0, 4), overridden=st.sets(st.sampled_from(list(OVERRIDES))))
def test_what_fits_is_answered(client, data, rows, overridden) -> None:
    columns = {}
    for name in [*FIELDS, *overridden]:
        values = {**FIELDS, **OVERRIDES}[name]
        columns[name] = data.draw(st.lists(values, min_size=rows, max_size=rows))
    status, answer = client.predict({"features": columns})
    assert status == 200, (answer, columns)
    check(status, answer, rows)
    as_rows = [{name: values[i] for name, values in columns.items()} for i in range(rows)]
    if rows:
        again = client.predict(json.loads(json.dumps(as_rows)))[1]
        assert again["predictions"] == answer["predictions"]
        ones = [client.predict([row])[1]["predictions"][0] for row in as_rows]
        assert ones == answer["predictions"]


def stream(values: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"zone_id": values})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


STREAMS = [
    stream(pa.array([74, None, 10])),
    stream(pa.array(["a", "b", None])),
    stream(pa.array(["a", "b", "a"]).dictionary_encode()),
    stream(pa.array([[1], [2]])),
]
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


@QUIET
@given(body=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xff\xff\xff", STREAMS[0][:200]]))
def test_any_bytes_as_arrow(client, body, start) -> None:
    check_features(*client.send("POST", "/v1/features/zone_traffic", start + body, ARROW)[:2])


@QUIET
@given(data=st.data(), whole=st.sampled_from(STREAMS))
def test_damaged_arrow(client, data, whole) -> None:
    """Cut anywhere, and bytes changed anywhere: lengths, offsets, types, counts."""
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    check_features(*client.send("POST", "/v1/features/zone_traffic", bytes(damaged), ARROW)[:2])


@QUIET
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(1, 100)), max_size=300),
)
def test_arrow_and_json_are_answered_alike(client, values) -> None:
    as_json = client.post("/v1/features/zone_traffic", {"entities": {"zone_id": values}})
    as_arrow = client.send("POST", "/v1/features/zone_traffic", stream(pa.array(values, pa.int64())), ARROW)
    assert (as_json[0], as_arrow[0]) == (200, 200)
    for what in ("features", "state", "as_of"):
        assert as_json[1][what] == as_arrow[1][what]


def check_features(status, answer) -> None:
    assert status in (200, 400, 413, 422), answer
    if status == 200:
        assert len({len(values) for values in answer["features"].values()}) == 1
    else:
        assert set(answer) == {"type", "title", "status", "detail", "request_id"}
        assert "\n" not in answer["detail"]
