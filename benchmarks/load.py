"""A client that keeps some connections to a server busy: each sends its next request once the last is answered."""

from __future__ import annotations

import asyncio
import gc
import sys
from time import perf_counter
from typing import Any, cast

import uvloop
from harness import answer, median, p99


class _Connection(asyncio.Protocol):
    """One keep-alive connection. ``requests`` are whole HTTP requests, sent one after the other, again and again."""

    def __init__(self, requests: list[bytes], start: int) -> None:
        self._requests, self._next = requests, start
        self._buffer = b""
        self._sent = 0.0
        self.taken: list[float] = []
        self.failed: str | None = None
        self.going = True
        self.idle = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.index(b"content-length:") + 15
        end = lower.find(b"\r", at)
        length = int(lower[at:end] if end >= 0 else lower[at:])
        if len(self._buffer) < head + 4 + length:
            return
        self.taken.append(perf_counter() - self._sent)
        if not lower.startswith(b"http/1.1 200"):
            self._stop(self._buffer.decode(errors="replace"))
            return
        self._buffer = b""
        if self.going:
            self._send()
        else:
            self._stop(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(f"the server closed the connection: {exc}")

    def _send(self) -> None:
        self._next = (self._next + 1) % len(self._requests)
        self._sent = perf_counter()
        self._transport.write(self._requests[self._next])

    def _stop(self, failed: str | None) -> None:
        if not self.idle.done():
            self.failed = failed
            self.idle.set_result(None)
            self._transport.close()


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _run(port: int, requests: list[bytes], connections: int, seconds: float) -> tuple[float, list[float]]:
    loop = asyncio.get_running_loop()
    step = max(1, len(requests) // connections)
    made = [
        (await loop.create_connection(lambda n=n: _Connection(requests, n * step), "127.0.0.1", port))[1]  # type: ignore[misc]
        for n in range(connections)
    ]
    await asyncio.sleep(min(0.2, seconds / 5))  # the first requests are not counted
    for one in made:
        one.taken.clear()
    begin = perf_counter()
    await asyncio.sleep(seconds)
    elapsed = perf_counter() - begin
    taken = [t for one in made for t in one.taken]
    for one in made:
        one.going = False
    await asyncio.wait_for(asyncio.gather(*(one.idle for one in made)), 10)
    if failed := next((one.failed for one in made if one.failed), None):
        raise SystemExit(f"a request failed: {failed}")
    return elapsed, taken


def load(port: int, path: str, bodies: list[str], connections: int, seconds: float) -> dict[str, Any]:
    """Requests a second, and the median and 99th percentile of their times in seconds."""
    requests = [post(path, body.encode()) for body in bodies]
    gc.disable()
    elapsed, taken = uvloop.run(_run(port, requests, connections, seconds))
    return {"rate": len(taken) / elapsed, "p50": median(taken), "p99": p99(taken)}


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"load": load})
