"""Everything beside prediction: features, models, health, figures, the description of the API, and what is refused."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest


def test_features_of_a_view(client) -> None:
    status, answer = client.post("/v1/features/zone_traffic", {"entities": {"zone_id": [74, 999, 10, None, 74]}})
    assert status == 200, answer
    assert answer["features"] == {
        "trips_1h": [74, 0, 10, None, 74],
        "duration_avg": [7400.0, None, None, None, 7400.0],
        "busiest": ["kind 74", None, "kind 10", None, "kind 74"],
        "seen_at": [
            "2024-02-01T11:59:59.999926Z",
            None,
            "2024-02-01T11:59:59.999990Z",
            None,
            "2024-02-01T11:59:59.999926Z",
        ],
        "open": [True, None, True, None, True],
    }
    assert answer["as_of"] == "2024-02-01T12:00:00Z"
    assert answer["state"]["trips_1h"] == ["ok", "missing", "ok", "missing", "ok"]
    assert answer["fingerprint"] == "aa" * 16


def test_features_of_one_entity(client) -> None:
    status, answer = client.post(
        "/v1/features/route_history", {"entities": {"pickup_zone_id": 7, "dropoff_zone_id": 42}}
    )
    assert (status, answer["features"], answer["state"]) == (200, {"duration_avg": [1400.0]}, {})
    assert client.post("/v1/features/zone_traffic", {"entities": {"zone_id": []}})[1]["features"]["busiest"] == []


@pytest.mark.parametrize(
    ("view", "body", "status", "says"),
    [
        ("zone_trafic", {"entities": {"zone_id": 1}}, 404, "did you mean 'zone_traffic'?"),
        ("zone_traffic", {"entities": {"zone": 1}}, 422, "has no key 'zone'; its keys are zone_id"),
        ("zone_traffic", {"entities": {}}, 422, "lacks 'zone_id'"),
        ("zone_traffic", {"entities": {"zone_id": "1"}}, 422, "takes a whole number"),
        ("zone_traffic", {}, 422, "the body is"),
        ("zone_traffic", {"entities": {"zone_id": 1}, "x": 1}, 422, "unknown member 'x'"),
        ("route_history", {"entities": {"pickup_zone_id": 1}}, 422, "lacks 'dropoff_zone_id'"),
    ],
)
def test_feature_requests_that_are_refused(client, view, body, status, says) -> None:
    got, answer = client.post(f"/v1/features/{view}", body)
    assert got == status
    assert says in answer["detail"]


def test_models_are_listed_and_described(client) -> None:
    live = [{"segment": None, "version": "1", "role": "champion"}]
    assert client.get("/v1/models") == (200, {"models": [{"name": "trip_duration", "live": live}]})
    status, answer = client.get("/v1/models/trip_duration")
    assert status == 200
    assert answer["live"] == live
    (version,) = answer["versions"]
    assert version["inputs"]["pickup_at"] == "timestamp"
    assert version["inputs"]["pickup_zone_id"] == "int64"
    assert version["overrides"]["pickup__busiest"] == "string"
    assert version["metrics"] == {"mae": 1.0}


def test_a_model_nobody_knows(client, one) -> None:
    for status, answer in (client.predict(one, "trip_durations"), client.get("/v1/models/trip_durations")):
        assert status == 404
        assert answer["detail"] == "no model is called 'trip_durations'; did you mean 'trip_duration'?"


def test_a_model_without_a_champion(world, serving, one) -> None:
    world.register(1)
    with serving() as running:
        client = running.client()
        status, answer = client.predict(one)
        assert (status, answer["title"]) == (409, "No version is live")
        assert client.get("/v1/models")[1] == {"models": [{"name": "trip_duration", "live": []}]}
        assert client.get("/readyz")[0] == 200


def test_health(client) -> None:
    assert client.get("/healthz") == (200, {"status": "ok"})
    status, answer = client.get("/readyz")
    assert status == 200
    assert answer["ready"] is True
    assert answer["models"]["trip_duration"] == [{"segment": None, "version": "1", "role": "champion"}]
    assert answer["failures"] == {}
    assert client.send("HEAD", "/healthz")[:2] == (200, "")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/models/trip_duration/predict", 405, "POST"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("DELETE", "/v1/models/trip_duration", 405, "GET, HEAD"),
        ("OPTIONS", "/v1/models/trip_duration/predict", 405, "POST"),
        ("GET", "/v1/features/zone_traffic", 405, "POST"),
        ("GET", "/", 404, None),
        ("GET", "/v1/models/", 404, None),
        ("POST", "/v1/models//predict", 405, "GET, HEAD"),
        ("GET", "/../../etc/passwd", 404, None),
    ],
)
def test_wrong_paths_and_methods(client, method, path, status, allow) -> None:
    got, answer, headers = client.send(method, path)
    assert got == status
    assert headers["allow"] == allow
    assert headers["content-type"] == "application/problem+json"
    assert "access-control-allow-origin" not in headers
    assert set(answer) == {"type", "title", "status", "detail", "request_id"}
    assert answer["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:1", True),
        ("[::1]:80", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:80", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_the_host_header_is_checked(client, one, host, allowed) -> None:
    status, _, _ = client.send("GET", "/v1/models", headers={"host": host})
    assert status == (200 if allowed else 403)
    assert client.send("GET", "/healthz", headers={"host": host})[0] == 200  # probes come by address
    assert ("models" in client.send("GET", "/readyz", headers={"host": host})[1]) is allowed


def test_further_hosts_may_be_allowed(world, serving) -> None:
    with serving(allowed_hosts=["models.internal"]) as running:
        client = running.client()
        assert client.send("GET", "/v1/models", headers={"host": "models.internal:8000"})[0] == 200


def test_bytes_that_are_no_http(client, one) -> None:
    port = client.connection.port
    for data in (b"\x00\x01\x02\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\r\n" * 10):
        with socket.create_connection(("127.0.0.1", port), 5) as raw:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(4096)
            assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert client.predict(one)[0] == 200


def test_figures(client, one) -> None:
    client.predict(one)
    client.predict({})
    status, text, headers = client.send("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert re.search(r'headway_requests_total\{route="predict",status="200"\} \d+', text)
    assert 'headway_requests_total{route="predict",status="422"}' in text
    assert re.search(
        r'headway_predictions_total\{model="trip_duration",version="1",segment="Manhattan",role="champion"\} \d', text
    )
    assert re.search(r'headway_features_total\{view="zone_traffic",state="\w+"\} \d', text)
    assert re.search(r'headway_request_seconds_bucket\{route="predict",le="\+Inf"\} (\d+)', text)
    assert 'headway_live_info{model="trip_duration",version="1",segment=""} 1' in text
    assert "headway_ready 1" in text
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}
    helped = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in names} <= helped


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [v for k, v in part.items() if k == "$ref"] + [r for v in part.values() for r in references(v)]
    return [r for v in part for r in references(v)] if isinstance(part, list) else []


def test_the_description_names_real_fields(client) -> None:
    status, document = client.get("/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.1")
    for reference in references(document):
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    operations = [o for path in document["paths"].values() for o in path.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    assert all(
        o["responses"] and all("description" in r or "$ref" in r for r in o["responses"].values()) for o in operations
    )
    body = document["paths"]["/v1/models/trip_duration/predict"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    columns, rows, _ = body["oneOf"]
    assert columns["properties"]["entities"]["required"] == ["pickup_zone_id", "dropoff_zone_id"]
    features = columns["properties"]["features"]
    assert set(features["required"]) == {"pickup_at", "borough", "passengers", "shared", "miles"}
    assert "pickup__busiest" in features["properties"]
    assert rows["items"]["properties"]["miles"] == {"type": ["number", "null"]}
    assert "/v1/features/zone_traffic" in document["paths"]


def test_views_of_the_project_are_served_too(world, serving, zones) -> None:
    with serving(views=[zones]) as running:
        client = running.client()
        assert client.post("/v1/features/zone_traffic", {"entities": {"zone_id": 5}})[1]["features"]["trips_1h"] == [5]


def raw(client, data: bytes, until: bytes) -> bytes:
    """What comes back for ``data`` until ``until`` has been read."""
    with socket.create_connection(("127.0.0.1", client.connection.port), 5) as connection:
        connection.sendall(data)
        got = b""
        while until not in got:
            part = connection.recv(65536)
            assert part, got
            got += part
        return got


def test_a_client_that_asks_before_it_sends(client, one) -> None:
    body = json.dumps(one).encode()
    head = b"POST /v1/models/trip_duration/predict HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
    head += b"content-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", client.connection.port), 5) as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_requests_sent_before_the_answers_came(client) -> None:
    first = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-request-id: first\r\n\r\n"
    second = b"HEAD /healthz HTTP/1.1\r\nhost: localhost\r\nx-request-id: second\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-request-id: last\r\nconnection: close\r\n\r\n"
    got = raw(client, first + second + last, b'last\r\nconnection: close\r\n\r\n{"status":"ok"}')
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.index(b"first") < got.index(b"second") < got.index(b"last")
