"""HTTP requests to the application itself, in this process and without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.semantics.lab import Lab

from headway.orchestrate.serving import open_service


@dataclass
class Http:
    """A client of one application. Raises what the application raises."""

    app: Any

    def send(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        """POST a body; the status, the headers and the body of the answer."""
        return asyncio.run(self._send(path, body, headers))

    def post(self, path: str, content: Any) -> Any:
        """POST JSON; the answer as JSON, which has to be a 200."""
        status, _, body = self.send(path, json.dumps(content).encode(), {})
        assert status == 200, body
        return json.loads(body)

    async def _send(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        sent: list[Any] = []
        given = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        begun = sent[0]
        named = {name.decode().lower(): value.decode() for name, value in begun["headers"]}
        return begun["status"], named, b"".join(part.get("body", b"") for part in sent[1:])


@contextlib.contextmanager
def served(lab: Lab) -> Iterator[Http]:
    """The feature server of a project at the lab's clock, with the views that were materialized by now."""
    with open_service(lab.project.settings, lab.clock.now) as service:
        service.start()
        try:
            wait(lambda: service.router.table.built)
            yield Http(service.app)
        finally:
            service.stop()


def wait(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("waited in vain")
