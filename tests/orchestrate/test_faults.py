"""What breaks from outside: one clear sentence each, nothing else is affected, and nothing is lost."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import project
from tests.project import Shop, environment
from tests.redis_server import any_running
from tests.semantics.http import Http, wait

import headway as hw
from headway.orchestrate.serving import open_service


@pytest.fixture
def shop(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return project.copy(project.finished(tmp_path_factory), tmp_path / "shop")


def outcomes(shop: Shop, code: int | None) -> dict[tuple[str, str], str]:
    """What became of the stages of a run; None as its code: a gate may have said no."""
    told = shop.call("run", "--json", code=code)
    assert told.code in ((0, 3) if code is None else (code,))
    return {(i["stage"], i["target"]): i["outcome"] for i in json.loads(told.out)}


def test_a_source_that_changes_its_schema_stops_itself_only(shop: Shop) -> None:
    """Numbers that become texts: what needs the source waits; other sources and views go on, with the rows there were."""
    visits = shop.root / "data/visits.parquet"
    before = pq.read_table(visits)
    pq.write_table(before.set_column(0, "shop_id", before.column("shop_id").cast(pa.string())), visits)
    shop.edit("headway.toml", project.NOW, "2024-03-01T01:30:00Z")
    told = shop.call("run", code=None)
    assert told.code == 1
    assert len(told.err.strip().splitlines()[-1]) < 500
    said = told.err.strip().splitlines()[-1]
    assert "visits" in said
    assert "shop_id" in said
    found = outcomes(shop, 1)
    assert found["ingest", "visits"] == "failed"
    assert found["materialize", "footfall"] == "skipped"
    assert found["materialize", "sales"] == "cached"  # the first run did it
    with hw.load(shop.root) as opened:
        served = opened.online.read("footfall", {"shop_id": [1]}).to_pylist()[0]
        assert served["footfall__visits_7d"] > 0
        assert opened.parts.lake.rows("source/visits") == before.num_rows
    pq.write_table(before, visits)
    outcomes(shop, None)
    assert not any(i["stale"] for i in shop.call("plan", "--json").json())


def test_a_column_that_is_added_or_widened_goes_on(shop: Shop) -> None:
    visits = shop.root / "data/visits.parquet"
    before = pq.read_table(visits)
    narrow = before.set_column(0, "shop_id", before.column("shop_id").cast(pa.int32()))
    pq.write_table(narrow, visits)
    outcomes(shop, None)
    wide = before.append_column("weather", pa.array(["rain"] * before.num_rows))
    pq.write_table(wide, visits)
    outcomes(shop, None)
    with hw.load(shop.root) as opened:
        assert "weather" in opened.parts.lake.schema("source/visits").names


@pytest.mark.parametrize("bytes_left", [1_000, 20_000])
def test_a_disk_that_fills_loses_nothing(shop: Shop, bytes_left: int) -> None:
    """No file may grow beyond a limit, which is what a full disk is to a program: nothing is half done afterwards."""
    shop.edit("headway.toml", project.NOW, "2024-03-01T01:30:00Z")
    table = shop.orders()
    shop.write_orders(pa.concat_tables([table, table.set_column(0, "order_id", pa.array(range(10_000, 10_400)))]))
    ended = subprocess.run(
        shop.command("run"),
        cwd=shop.root,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, bytes_left)),
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("headway: ")
    with hw.load(shop.root) as opened:  # what answered goes on answering
        assert opened.online.read("sales", {"shop_id": [1]}).to_pylist()[0]["sales__orders_7d"] > 0
    outcomes(shop, None)
    with hw.load(shop.root) as opened:
        assert opened.parts.lake.rows("source/raw_orders") >= 800
        assert not any(r.differences for r in opened.features.verify())


def test_a_redis_that_goes_away_and_comes_back(shop: Shop) -> None:
    """Requests are refused at once with one sentence and answered again; a refresh in between is made up for."""
    with any_running() as server:
        shop.edit("headway.toml", "[env.local]\n", f'[env.local]\nonline = "{server.url}"\n')
        shop.call("run")
        with hw.load(shop.root) as opened, open_service(opened.settings, opened.parts.clock.now) as service:
            service.start()
            try:
                wait(lambda: service.router.table.ready)
                http = Http(service.app)
                body = json.dumps({"entities": {"shop_id": [1, 2]}}).encode()
                status, _, first = http.send("/v1/features/sales", body, {})
                assert status == 200
                server.stop()
                for _ in range(3):
                    status, _, refused = http.send("/v1/features/sales", body, {})
                    assert (status, json.loads(refused)["detail"]) == (
                        503, "the online store cannot be read now; try again",
                    )  # fmt: skip
                shop.edit("headway.toml", project.NOW, "2024-03-01T01:30:00Z")
                told = shop.call("run", code=1).err.strip().splitlines()[-1]
                assert server.url.split("/")[2] in told
                server.start()
                shop.call("run")
                wait(lambda: http.send("/v1/features/sales", body, {})[0] == 200)
                again = json.loads(http.send("/v1/features/sales", body, {})[2])
            finally:
                service.stop()
        assert again["features"].keys() == json.loads(first)["features"].keys()
        assert again["as_of"] > json.loads(first)["as_of"]
        shop.call("features", "verify", code=None)
        with hw.load(shop.root) as opened:
            assert not any(r.differences for r in opened.features.verify())
