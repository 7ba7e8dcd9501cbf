"""``headway up`` as a process of its own: one port for predictions and console, and what starts runs."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.project import Shop, build, copy, environment, finished

from headway.console.server import is_loopback
from headway.metadata import open_metadata
from headway.settings import load_settings


class Up:
    """The running process."""

    def __init__(self, process: subprocess.Popen[str], said: Path) -> None:
        self.process, self.said = process, said
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("serving on http://"), line + said.read_text()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{line.rpartition(':')[2]}", timeout=60)

    def wait_for(self, path: str, status: int = 200) -> httpx.Response:
        pause = threading.Event()
        for _ in range(600):
            answer = self.client.get(path)
            if answer.status_code == status:
                return answer
            pause.wait(0.05)
        raise AssertionError(f"{path} answers {answer.status_code}: {answer.text[:500]}")

    def stop(self) -> str:
        """End it with SIGTERM; what it printed."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, self.said.read_text()
        return out


@contextlib.contextmanager
def up(shop: Shop, *options: str, **variables: str) -> Iterator[Up]:
    said = shop.root / "up.err"
    command = shop.command("up", "--port", "0", *options)
    # Nothing may be written to standard error but warnings of ours; -X dev would say more than we can answer for.
    with said.open("w") as errors, subprocess.Popen(
        command, cwd=shop.root, env={**environment(), **variables}, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:  # fmt: skip
        try:
            running = Up(process, said)
            with running.client:
                yield running
        finally:
            process.kill()


def test_one_port_for_predictions_console_and_runs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shop = copy(finished(tmp_path_factory), tmp_path / "shop")
    settings = load_settings(shop.root)
    with up(shop) as running:
        client = running.client
        running.wait_for("/readyz")
        answer = client.post(
            "/v1/models/delivery/predict", json={"entities": {"shop_id": 1}, "features": {"distance": 2.5}}
        )
        assert answer.status_code == 200
        assert answer.json()["rows"]["version"] == ["1"]
        assert client.get("/openapi.json").json()["openapi"]
        assert "headway_" in client.get("/metrics").text
        assert client.get("/v1/nope").headers["content-type"] == "application/problem+json"
        page = client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "delivery" in page.text
        assert client.get("/", headers={"host": "evil.example"}).status_code == 403
        assert client.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
        assert "started by this process" in client.get("/runs").text

        (shop.root / "shop/models.py").write_text("no Python at all")
        pause = threading.Event()
        for _ in range(100):
            if "need a hand" in client.get("/models").text:
                break
            pause.wait(0.1)
        else:
            raise AssertionError("the console has not noticed")
        assert client.get("/v1/models/delivery").status_code == 200

        printed = running.stop()
    assert "console      /" in printed
    assert "predictions  /v1" in printed
    assert "Traceback" not in running.said.read_text()
    with open_metadata(settings.metadata_url, settings.project, settings.env) as metadata:
        assert metadata.deployments.last_id("delivery") == 1
    segments = list((shop.home / "predictions").rglob("*.seg"))
    assert segments, "the prediction was not logged"


def test_before_anything_was_run(tmp_path: Path) -> None:
    shop = build(tmp_path / "shop")
    variables = {"HEADWAY_CLOCK": "data", "HEADWAY_SERVE_LOG": "off"}
    with up(shop, "--no-schedule", "--host", "0.0.0.0", **variables) as running:
        assert "headway run" in running.wait_for("/").text
        assert "--no-schedule" in running.wait_for("/schedules").text
        assert running.client.get("/v1/models").status_code in (200, 503)
        printed = running.stop()
    assert "off (--no-schedule)" in printed
    assert "console.operator_token" in running.said.read_text()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.7", False), ("box.example", False)],
)  # fmt: skip
def test_what_other_machines_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
