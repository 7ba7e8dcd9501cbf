"""The client of feature servers: at full load, and as a public that asks at random moments whatever the server does."""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
from collections import deque
from time import perf_counter
from typing import Any

import numpy as np
import uvloop
from harness import answer, median, p99
from load import _run

ARROW = "application/vnd.apache.arrow.stream"
_FEWEST, _LONGEST = 30, 5.0  # answers that make a median, and seconds to wait for them
_SPIN = 0.0002  # seconds before a request is due in which the client does not sleep: a sleep ends late


def request(kind: str, service: str, entities: list[int]) -> bytes:
    """A whole HTTP request of one contender for the features of entities."""
    keys = {"entity": entities}
    accepts, sent, path = "application/json", "application/json", f"/v1/features/{service}"
    body = json.dumps({"entities": keys}).encode()
    if kind == "arrow":
        import pyarrow as pa

        accepts = sent = ARROW
        sink = pa.BufferOutputStream()
        table = pa.table({"entity": pa.array(entities, pa.int64())})
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        body = sink.getvalue().to_pybytes()
    elif kind == "feast":
        path = "/get-online-features"
        body = json.dumps({"feature_service": service, "entities": keys, "full_feature_names": True}).encode()
    elif kind != "json":
        path = f"/{kind}/{service}"
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {sent}\r\naccept: {accepts}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _requests(kind: str, service: str, size: int, rows: int) -> list[bytes]:
    """Requests for random ones of so many entities."""
    asked = np.random.default_rng(size).integers(0, rows, (200, size)).tolist()
    return [request(kind, service, entities) for entities in asked]


def full(port: int, kind: str, service: str, size: int, rows: int, connections: int, seconds: float) -> dict[str, Any]:
    """Every connection sends its next request once the last is answered; longer where there would be few answers."""
    requests = _requests(kind, service, size, rows)
    gc.disable()
    elapsed, taken = uvloop.run(_run(port, requests, connections, seconds))
    while len(taken) < _FEWEST and seconds < _LONGEST:
        seconds = min(_LONGEST, 3 * max(seconds, seconds * _FEWEST / 3 / max(1, len(taken))))
        elapsed, taken = uvloop.run(_run(port, requests, connections, seconds))
    return {"rate": len(taken) / elapsed, "p50": median(taken), "p99": p99(taken)}


def steady(port: int, kind: str, service: str, size: int, rows: int, rate: float, seconds: float) -> dict[str, Any]:
    """Requests at random moments, ``rate`` of them a second on average. A time begins when its request was due: one
    that the client had no connection for is late as it is for somebody who waits."""
    requests = _requests(kind, service, size, rows)
    gaps = np.random.default_rng(11).exponential(1 / rate, max(20, int(rate * seconds)))
    gc.disable()
    taken = _Public(port, requests).ask(np.cumsum(gaps).tolist())
    return {"p50": median(taken), "p99": p99(taken), "count": len(taken)}


class _Public:
    def __init__(self, port: int, requests: list[bytes], connections: int = 64) -> None:
        self._requests = requests
        self._idle = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(connections)]
        for each in self._idle:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._busy: dict[socket.socket, tuple[float, bytearray]] = {}
        self._waiting: deque[float] = deque()
        self._sent = 0

    def ask(self, due: list[float]) -> list[float]:
        taken: list[float] = []
        begin = perf_counter()
        number = 0
        while len(taken) < len(due):
            now = perf_counter() - begin
            while number < len(due) and due[number] <= now:
                self._waiting.append(due[number])
                number += 1
            while self._waiting and self._idle:
                self._send(self._idle.pop(), self._waiting.popleft())
            wait = due[number] - now - _SPIN if number < len(due) else 1.0
            ready, _, _ = select.select(self._busy, (), (), max(0.0, wait))
            answered = [asked for each in ready if (asked := self._receive(each)) is not None]
            taken += [perf_counter() - begin - asked for asked in answered]
            if now > due[-1] + 60:
                raise SystemExit("the server does not keep up with half of what it has answered before")
        for each in self._idle:
            each.close()
        return taken

    def _send(self, each: socket.socket, due: float) -> None:
        self._busy[each] = due, bytearray()
        each.sendall(self._requests[self._sent % len(self._requests)])
        self._sent += 1

    def _receive(self, each: socket.socket) -> float | None:
        """When a request was due whose answer is complete now."""
        due, buffer = self._busy[each]
        if not (found := each.recv(1 << 20)):
            raise SystemExit("the server closed a connection")
        buffer += found
        head, blank, body = buffer.partition(b"\r\n\r\n")
        if not blank or len(body) < _length(head):
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a request failed: {buffer.decode(errors='replace')}")
        del self._busy[each]
        self._idle.append(each)
        return due


def _length(head: bytearray) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise SystemExit("an answer does not say how long it is")


if __name__ == "__main__" and len(sys.argv) > 1:
    answer({"full": full, "steady": steady})
