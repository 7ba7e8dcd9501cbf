"""uvicorn's protocol for HTTP, with one write for a response instead of two.

uvicorn writes the head of a response when the application starts it, and the body afterwards. Each is a system call,
which costs about as much as a prediction. The application sends both without waiting in between, so the head is kept
back for the moment until the body comes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "
_CONTINUE = b"HTTP/1.1 100"  # an answer before the answer: the client waits for it


class OneWriteProtocol(HttpToolsProtocol):
    """One connection. A response is on its way, whole, when it is complete or the connection closes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._joined = _JoiningTransport(transport)
        super().connection_made(cast(asyncio.Transport, self._joined))

    def on_response_complete(self) -> None:
        self._joined.flush()  # the head of a response without a body
        super().on_response_complete()


class _JoiningTransport:
    """A transport that keeps the head of a response until the next write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and not data.startswith(_CONTINUE):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
