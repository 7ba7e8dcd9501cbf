"""The main job on real data: raw trips in, a served and reversible prediction out. `make demo` runs this.

Works on a copy of the example project in `.demo/`, through the command line, as a person would.
"""

from __future__ import annotations

import http.client
import json
import re
import resource
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field

from replay import hold_back, replay
from shell import HEADWAY, HERE, WORK, replace, run, title

REQUESTS = 300
RATE = 100  # requests a second while we roll back
NOW = "2024-02-01T05:00:00Z"


def main() -> None:
    begun = time.perf_counter()
    prepare()
    title("1. Everything, once: check → features → train → gate → promote → materialize")
    run("run")
    title("2. Again: nothing to do")
    run("run")
    server, port = start_server()
    try:
        client = Client(port)
        title(f"3. {REQUESTS} predictions over HTTP")
        asked = requests_to_send()
        first = [client.predict(body) for body in asked]
        report_found(first)
        title("4. A second version: another window, another request function")
        edit()
        run("run")
        client = Client(port)  # the first connection has been idle too long
        wait_for_version(client, asked[0], "2")
        second = [client.predict(body) for body in asked]
        differ = sum(a["predictions"] != b["predictions"] for a, b in zip(first, second, strict=True))
        print(f"version 2 answers now; {differ} of {len(asked)} answers are other than version 1's")
        title(f"5. Rollback while {RATE} requests a second come in, none of which is ever sent twice")
        rollback_under_load(port, asked)
        again = [client.predict(body) for body in asked]
        equal = sum(same_answer(a, b) for a, b in zip(first, again, strict=True))
        print(f"{equal} of {len(asked)} answers are equal to those recorded from version 1")
        if equal != len(asked):
            raise SystemExit("the rollback did not bring version 1's answers back")
        title("6. What is in production, and is what it serves right?")
        run("models", "list")
        run("features", "verify")
    finally:
        server.terminate()
        server.wait(10)
    replay()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"\ndone in {time.perf_counter() - begun:.0f} s; the largest process took {peak:.2f} GB")


def prepare() -> None:
    """A fresh copy of the project, to edit at will."""
    shutil.rmtree(WORK.parent, ignore_errors=True)
    shutil.copytree(HERE, WORK, ignore=shutil.ignore_patterns("*.py", ".headway", "__pycache__"))
    shutil.copytree(HERE / "trips", WORK / "trips", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    hold_back()
    print(f"project: {WORK}")


def start_server() -> tuple[subprocess.Popen[str], int]:
    """`headway serve` on a free port, ready to answer."""
    title("… the server starts")
    begun = time.perf_counter()
    log = (WORK / "serve.log").open("w")
    server = subprocess.Popen([HEADWAY, "serve", "--port", "0"], cwd=WORK, stdout=log, stderr=log, text=True)
    while time.perf_counter() - begun < 60:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", (WORK / "serve.log").read_text())
        if found and ready(int(found.group(1))):
            print(f"ready after {time.perf_counter() - begun:.1f} s on port {found.group(1)}")
            return server, int(found.group(1))
        if server.poll() is not None:
            break
        time.sleep(0.05)
    server.kill()
    raise SystemExit("the server did not become ready:\n" + (WORK / "serve.log").read_text())


def ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


class Client:
    """One connection; an answer that is not 200 is an error, and nothing is sent twice."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def predict(self, body: bytes) -> dict:
        self._connection.request("POST", "/v1/models/trip_duration/predict", body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {text[:300]!r}")
        return json.loads(text)


def requests_to_send() -> list[bytes]:
    """Trips of the last week of January, asked about as if they were about to begin."""
    import duckdb

    rows = duckdb.execute(
        """select t.pickup_zone_id, t.dropoff_zone_id, z."Borough"
           from read_parquet(?) t join read_parquet(?) z on z."LocationID" = t.pickup_zone_id
           where t.pickup_at >= '2024-01-25' and t.pickup_at < '2024-02-01' order by hash(t.trip_id) limit ?""",
        [str(WORK / "data/trips.parquet"), str(WORK / "data/zones.parquet"), REQUESTS],
    ).fetchall()
    return [
        json.dumps(
            {
                "entities": {"pickup_zone_id": pickup, "dropoff_zone_id": dropoff},
                "features": {"borough": borough, "pickup_at": NOW},
            }
        ).encode()
        for pickup, dropoff, borough in rows
    ]


def report_found(answers: list[dict]) -> None:
    """How many feature values the online store had."""
    looked_up = 14
    missing = sum(state == "missing" for a in answers for states in a["state"].values() for state in states)
    total = looked_up * len(answers)
    values = [p for a in answers for p in a["predictions"]]
    versions = sorted({v for a in answers for v in a["rows"]["version"]})
    print(
        f"{len(values)} predictions by version {', '.join(versions)}, from {min(values):.0f} to {max(values):.0f} s;"
        f" {1 - missing / total:.1%} of {total} feature values were found"
    )
    if missing > total / 10:
        raise SystemExit("more than a tenth of the feature values were missing")


def edit() -> None:
    """Change a window and a request function, as a colleague would."""
    features = "trips/features.py"
    replace(features, 'window=["1d", "7d"]', 'window=["1d", "14d"]')
    replace(
        features,
        'return {"route_vs_zone": ratio(route_avg, zone_avg)}',
        'return {"route_vs_zone": np.log(ratio(route_avg, zone_avg))}',
    )
    replace(features, "import headway as hw\n", "import headway as hw\nimport numpy as np\n")
    print('zone_traffic.duration_avg: window ["1d", "7d"] → ["1d", "14d"]; at_request: the ratio → its logarithm')


def wait_for_version(client: Client, body: bytes, version: str) -> None:
    """Until the running server has noticed the promotion."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < 30:
        if client.predict(body)["rows"]["version"] == [version]:
            return
        time.sleep(0.02)
    raise SystemExit(f"version {version} did not answer within 30 s")


@dataclass
class Load:
    """What a client at a fixed rate saw: (second, version) of every answer, and what failed."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def rollback_under_load(port: int, asked: list[bytes]) -> None:
    load, stop = Load(), threading.Event()
    begun = time.perf_counter()
    thread = threading.Thread(target=send_at_rate, args=(port, asked, load, stop, begun))
    thread.start()
    time.sleep(1)
    run("rollback", "trip_duration", "--why", "demo: the second version was a mistake")
    said = time.perf_counter() - begun
    time.sleep(1.5)
    stop.set()
    thread.join()
    back = next((t for t, version in load.answers if version == "1"), None)
    slowest = sorted(load.late)[-1] * 1000
    print(
        f"{len(load.answers)} answers, {len(load.failed)} failed; slowest {slowest:.0f} ms;"
        f" version 1 answered again {max(0.0, (back or 0) - said):.2f} s after the command had returned"
    )
    if load.failed or back is None:
        raise SystemExit(f"requests failed during the rollback: {load.failed[:3] or 'version 1 never answered'}")


def send_at_rate(port: int, asked: list[bytes], load: Load, stop: threading.Event, begun: float) -> None:
    client, number = Client(port), 0
    while not stop.is_set():
        due = begun + number / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        try:
            answer = client.predict(asked[number % len(asked)])
            load.answers.append((time.perf_counter() - begun, answer["rows"]["version"][0]))
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            load.failed.append(str(error))
            client = Client(port)
        load.late.append(time.perf_counter() - due)
        number += 1


def same_answer(a: dict, b: dict) -> bool:
    """Equal but for the request's own id."""
    return {k: v for k, v in a.items() if k != "request_id"} == {k: v for k, v in b.items() if k != "request_id"}


if __name__ == "__main__":
    main()
