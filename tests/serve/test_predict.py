"""The predict route: what it answers, and what it refuses."""

from __future__ import annotations

import copy
import json

import pytest


def columns(one, **entities):
    """The request for several rows: ``pickup_zone_id=[…]`` and so on."""
    request = copy.deepcopy(one)
    request["entities"].update(entities)
    return request


def test_one_row(client, one) -> None:
    status, answer = client.predict(one)
    assert status == 200, answer
    assert len(answer.pop("request_id")) == 36
    assert answer == {
        "model": "trip_duration",
        "predictions": [1500 + 23],
        "rows": {"version": ["1"], "segment": ["Manhattan"], "role": ["champion"]},
        "as_of": {
            "pickup": "2024-02-01T12:00:00Z",
            "dropoff": "2024-02-01T12:00:00Z",
            "route_history": "2024-02-01T12:00:00Z",
        },
        "state": {},
    }


def test_columns_with_scalars_for_every_row(client, one) -> None:
    status, answer = client.predict(columns(one, pickup_zone_id=[74, 3, 74, 999]))
    assert status == 200, answer
    # zone 3: too few trips; zone 999: nobody has seen it, so no trips and no ratio
    assert answer["predictions"] == [1523, 1522, 1523, 1518]
    assert answer["rows"]["role"] == ["champion"] * 4
    late = ["ok", "ok", "ok", "missing"]
    assert answer["state"] == {
        "pickup__trips_1h": late,
        "pickup__duration_avg": late,
        "pickup__busiest": late,
        "pickup__seen_at": late,
        "route_history__duration_avg": late,
    }


def test_row_objects(client, one) -> None:
    row = {**one["entities"], **one["features"]}
    rows = [row, {**row, "pickup_zone_id": 3}, {**row, "borough": "Brooklyn"}]
    for body in (rows, {"rows": rows}):
        status, answer = client.predict(body)
        assert status == 200, answer
        assert answer["predictions"] == [1523, 1522, 1007]
        assert answer["rows"]["segment"] == ["Manhattan", "Manhattan", None]


def test_names_count_not_places(client, one) -> None:
    flat = {"entities": {**one["entities"], **one["features"]}}
    assert client.predict(flat)[1]["predictions"] == [1523]
    assert client.predict({"features": flat["entities"]})[1]["predictions"] == [1523]
    status, answer = client.predict({"entities": flat["entities"], "features": {"borough": "Manhattan"}})
    assert (status, answer["detail"]) == (422, "field 'borough' is both in entities and in features; give it once")


def test_no_rows(client, one) -> None:
    status, answer = client.predict(columns(one, pickup_zone_id=[]))
    assert (status, answer["predictions"]) == (200, [])
    assert client.predict([])[0] == 422  # nobody said which fields


def test_overriding_a_stored_feature(client, one) -> None:
    request = columns(one, pickup_zone_id=[999, 74])
    request["features"]["pickup__trips_1h"] = [50, 0]
    status, answer = client.predict(request)
    assert status == 200, answer
    assert answer["predictions"] == [1519, 1522]
    assert "pickup__trips_1h" not in answer["state"]
    assert answer["state"]["pickup__duration_avg"] == ["missing", "ok"]


def test_overriding_in_some_row_objects_only(client, one) -> None:
    row = {**one["entities"], **one["features"]}
    status, answer = client.predict(
        [
            {**row, "pickup_zone_id": 999, "pickup__trips_1h": 50},
            {**row, "pickup_zone_id": 999},
            {**row, "pickup__trips_1h": None},
        ]
    )
    assert status == 200, answer
    assert answer["predictions"] == [1519, 1518, 1522]
    assert answer["state"]["pickup__trips_1h"] == ["ok", "missing", "ok"]


def test_nulls_are_values(client, one) -> None:
    nothing = {part: dict.fromkeys(fields) for part, fields in one.items()}
    status, answer = client.predict(nothing)
    assert status == 200, answer
    assert answer["predictions"] == [1000]
    assert answer["rows"]["segment"] == [None]
    assert answer["state"]["pickup__trips_1h"] == ["missing"]


def test_times_with_any_offset_are_one_moment(client, one) -> None:
    request = columns(one, pickup_zone_id=[74] * 3)
    request["features"]["pickup_at"] = ["2024-01-05T17:00:00Z", "2024-01-05T12:00:00-05:00", "2024-01-05T13:00:00Z"]
    assert client.predict(request)[1]["predictions"] == [1531, 1531, 1523]  # noon in New York, noon, eight


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("pickup_zone_id", "74", "takes a whole number (int64), got a string"),
        ("pickup_zone_id", 74.0, "takes a whole number (int64), got a number with a fraction"),
        ("pickup_zone_id", True, "takes a whole number (int64), got a truth value"),
        ("pickup_zone_id", 2**63, "takes a whole number (int64), got a number outside its range"),
        ("pickup_zone_id", [74, "x"], "got a string in row 1"),
        ("pickup_zone_id", {"a": 1}, "got an object"),
        ("pickup_zone_id", [[1]], "got a list"),
        ("passengers", 1.5, "takes a whole number (int64), got a number with a fraction"),
        ("passengers", True, "got a truth value"),
        ("passengers", -(2**63) - 1, "outside its range"),
        ("miles", "2", "takes a number (double), got a string"),
        ("miles", False, "takes a number (double), got a truth value"),
        ("miles", 10**400, "too large"),
        ("shared", 1, "takes true or false (bool), got a whole number"),
        ("borough", 1, "takes a string (string), got a whole number"),
        ("pickup_at", "2024-01-05T13:00:00", "got a time without an offset"),
        ("pickup_at", "2024-01-05", "got a time without an offset"),
        ("pickup_at", "yesterday", "got another string"),
        ("pickup_at", "2024-01-05T13:00:00.1234567Z", "got another string"),
        ("pickup_at", 1704459600, "got a whole number"),
        ("pickup__trips_1h", "1", "field 'pickup__trips_1h' takes a whole number"),
        ("pickup__busiest", 1, "takes a string"),
        ("pickup__seen_at", "2024-01-05T13:00:00", "got a time without an offset"),
    ],
)
def test_wrong_types_are_named(client, one, name, value, says) -> None:
    one["entities" if name in one["entities"] else "features"][name] = value
    status, answer = client.predict(one)
    assert status == 422, answer
    assert answer["title"] == "The input does not fit the model"
    assert f"field {name!r}" in answer["detail"]
    assert says in answer["detail"]


def test_problems_repeat_no_data(client, one) -> None:
    one["features"]["pickup_at"] = "swordfish"
    status, answer = client.predict(one)
    assert status == 422
    assert "swordfish" not in json.dumps(answer)


def test_unknown_fields_are_refused_with_a_suggestion(client, one) -> None:
    one["features"]["borogh"] = "Manhattan"
    status, answer = client.predict(one)
    assert (status, answer["detail"]) == (422, "unknown field 'borogh'; did you mean 'borough'?")
    status, answer = client.predict({"entites": {}})
    assert (status, answer["detail"]) == (422, "the body has an unknown member 'entites'; did you mean 'entities'?")
    assert client.predict({"features": {"x" * 5000: 1}})[1]["detail"].count("x") < 80


def test_outputs_of_functions_cannot_be_given(client, one) -> None:
    one["features"]["at_request__ratio"] = 1.0
    assert client.predict(one)[0] == 422


def test_missing_fields_are_listed(client, one) -> None:
    del one["entities"]["dropoff_zone_id"], one["features"]["borough"]
    status, answer = client.predict(one)
    assert status == 422
    assert "lacks 'dropoff_zone_id', 'borough'" in answer["detail"]
    row = {"pickup_zone_id": 1}
    assert client.predict([row])[0] == 422


def test_a_field_that_some_rows_lack(client, one) -> None:
    row = {**one["entities"], **one["features"]}
    without = {name: value for name, value in row.items() if name != "borough"}
    status, answer = client.predict([row, without])
    assert status == 422
    assert "field 'borough' takes a string (string), got nothing in row 1" in answer["detail"]


def test_lengths_that_differ(client, one) -> None:
    status, answer = client.predict(columns(one, pickup_zone_id=[1, 2], dropoff_zone_id=[1, 2, 3]))
    assert status == 422
    assert "'pickup_zone_id' has 2 values, 'dropoff_zone_id' has 3" in answer["detail"]
    assert client.predict(columns(one, pickup_zone_id=[1], dropoff_zone_id=[1, 2]))[0] == 422


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b'{"entities": {"a": Infinity}}', b"\xff", b'"\xff"', b"[" * 100_000]
)
def test_what_is_not_json(client, body) -> None:
    status, answer, headers = client.send("POST", "/v1/models/trip_duration/predict", body)
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert set(answer) == {"type", "title", "status", "detail", "request_id"}


@pytest.mark.parametrize(
    "content", [None, 1, "x", True, [1], [[]], {"rows": {}}, {"rows": [], "x": 1}, {"entities": []}, {}]
)
def test_what_is_no_request(client, content) -> None:
    assert client.predict(content)[0] == 422


def test_a_number_out_of_range(client) -> None:
    body = b'{"features": {"miles": 1e400}}'
    assert client.send("POST", "/v1/models/trip_duration/predict", body)[0] == 400


def test_too_large(client, one) -> None:
    status, answer = client.predict(columns(one, pickup_zone_id=[1] * 10_001))
    assert status == 413
    assert "10001 rows, at most 10000" in answer["detail"]
    status, answer = client.predict(columns(one, pickup_zone_id=[10**17] * 12_000))
    assert status == 413
    assert "200000 bytes" in answer["detail"]
    assert client.predict(one)[0] == 200  # on the same connection


def test_a_large_request_in_chunks_is_refused_while_it_comes(client, one) -> None:
    client.connection.request(
        "POST",
        "/v1/models/trip_duration/predict",
        iter([b" " * 60_000] * 5),
        {"transfer-encoding": "chunked"},
        encode_chunked=True,
    )
    response = client.connection.getresponse()
    assert response.status == 413
    response.read()
    assert client.predict(one)[0] == 200


def test_many_rows_in_a_thread(client, one) -> None:
    status, answer = client.predict(columns(one, pickup_zone_id=[74, 3] * 2500))
    assert status == 200
    assert answer["predictions"] == [1523, 1522] * 2500


def test_an_exception_in_a_function_is_one_sentence(client, one) -> None:
    one["features"]["route_history__duration_avg"] = -1
    status, answer = client.predict(one)
    assert status == 500
    assert answer["detail"] == "a request function of the model raised KeyError; the server's log says where"
    metrics = client.get("/metrics")[1]
    assert 'headway_function_errors_total{model="trip_duration"} 1' in metrics


def test_infinite_answers_of_functions_do_no_harm(client, one) -> None:
    one["features"]["pickup__duration_avg"] = 0
    assert client.predict(one)[1]["predictions"] == [1523]


def test_request_ids(client, one) -> None:
    body = json.dumps(one).encode()
    path = "/v1/models/trip_duration/predict"
    status, answer, headers = client.send("POST", path, body, {"x-request-id": "abc-123"})
    assert (status, answer["request_id"], headers["x-request-id"]) == (200, "abc-123", "abc-123")
    seen = {client.send("POST", path, body)[1]["request_id"] for _ in range(20)}
    assert len(seen) == 20
    for strange in ("a b", "x" * 200, "é", '"'):
        answer = client.send("POST", path, body, {"x-request-id": strange.encode("latin-1")})[1]
        assert len(answer["request_id"]) == 36
