"""The prediction server: one process, one event loop, a thread that watches what is live."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, Protocol

import uvicorn

from headway.define.records import ViewPlan
from headway.errors import StoreBusy, StoreError
from headway.serve._app import App, Limits
from headway.serve._metrics import Metrics
from headway.serve._protocol import OneWriteProtocol
from headway.serve._protocols import Catalogue, FeatureReader, RowSink
from headway.serve._route import POLL_SECONDS, Router, Table, Watcher, version_loader
from headway.serve.log import PredictionLog

_LONGEST_REQUEST = 20  # seconds that a request in flight may take after SIGTERM
_KEEP_ALIVE = 75  # seconds; shorter than what load balancers use, and a client could meet a closing connection


def freeze_loaded() -> None:
    """What is loaded by now stays: the collector need not walk through it during requests. For a process that does
    nothing but serve; `gc.unfreeze` is for its end."""
    gc.collect()
    gc.freeze()


class Service:
    """An application with its routing table and the thread that keeps the table up to date. ``settled`` is called once
    the first versions are loaded."""

    def __init__(
        self,
        catalogue: Catalogue,
        reader: FeatureReader,
        now: Callable[[], int],
        *,
        views: Iterable[ViewPlan] = (),
        allowed_hosts: Iterable[str] = (),
        limits: Limits | None = None,
        allow_pickle: bool = False,
        poll_seconds: float = POLL_SECONDS,
        log: PredictionLog | None = None,
        sink: RowSink | None = None,
        settled: Callable[[], None] | None = None,
    ) -> None:
        self.log, self.sink = log, sink
        self._settled = settled
        self.metrics = Metrics()
        load = version_loader(catalogue, reader, now, allow_pickle=allow_pickle)
        self.router = Router(catalogue, load, reader, views, self._swapped, self.metrics.failed_to_load)
        self.app = App(self.router, now, self.metrics, allowed_hosts=allowed_hosts, limits=limits, log=log, sink=sink)
        self._watcher = Watcher(self.router, poll_seconds)

    def start(self) -> None:
        """Begin to load what is live, to watch it, and to log what is predicted."""
        if self.log is not None:
            self.log.start()
        self._watcher.start()

    def stop(self) -> None:
        """Stop watching; wait for work in threads, and until what was predicted is on the disk."""
        self._watcher.stop()
        self.app.close()
        if self.log is not None:
            self.log.close()
        if self.sink is not None:
            self.sink.close()

    def _swapped(self, table: Table) -> None:
        self.metrics.swapped(table)
        if self.metrics.swaps == 1 and self._settled is not None:
            self._settled()


def _print_at_once(text: str) -> None:
    print(text, flush=True)


def serve(
    catalogue: Catalogue,
    reader: FeatureReader,
    now: Callable[[], int],
    *,
    views: Iterable[ViewPlan] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    allowed_hosts: Iterable[str] = (),
    limits: Limits | None = None,
    allow_pickle: bool = False,
    log: PredictionLog | None = None,
    sink: RowSink | None = None,
    announce: Callable[[str], None] = _print_at_once,
) -> None:
    """Serve predictions and features until SIGTERM or SIGINT.

    Parameters
    ----------
    catalogue
        Says which versions answer and where their files are, asked four times a second, and what the names of views
        and sets stand for.
    reader
        Reads the online store.
    now
        The clock: requests are answered as of its now, in microseconds since 1970.
    views
        Views to serve besides those of the live versions and those that the catalogue names.
    host, port
        Where to listen; port 0 takes a free one.
    allowed_hosts
        Names and addresses, besides those of this machine's loopback, that may stand in the Host header; ``*`` allows
        all.
    log
        Is told of every predicted row, and closed at the end; without one nothing is logged.
    sink
        Takes rows that are pushed to sources, and is closed at the end; without one none are taken.
    announce
        Is told the URL, in one sentence, once the server listens.

    A signal stops accepting connections, finishes the requests in flight and returns.

    Raises:
        StoreBusy: the port is taken.
        StoreError: it cannot be listened on.
    """
    listener = bind(host, port)
    service = Service(
        catalogue,
        reader,
        now,
        views=views,
        allowed_hosts=allowed_hosts,
        limits=limits,
        allow_pickle=allow_pickle,
        log=log,
        sink=sink,
        settled=freeze_loaded,
    )
    service.start()
    try:
        url = f"http://{_shown(host)}:{listener.getsockname()[1]}"
        server = Server(service.app, lambda: announce(f"serving on {url}"))
        server.run([listener])
    finally:
        listener.close()
        service.stop()
        gc.unfreeze()  # what else is in the process may go now


class Drains(Protocol):
    """An ASGI application that, once ``draining``, tells clients to go elsewhere."""

    draining: bool

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Server(uvicorn.Server):
    """uvicorn, set up for one fast application. ``started_up`` is called when it listens; ``grace`` is for how many
    seconds, when it stops, keep-alive connections are told to close before they are closed."""

    def __init__(self, app: Drains, started_up: Callable[[], None] | None = None, *, grace: float = 0.3) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=OneWriteProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_LONGEST_REQUEST,
        )
        super().__init__(config)
        self._app = app
        self._started_up = started_up
        self._grace = grace

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._started_up is not None:
            self._started_up()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A connection that is closed while the client sends its next request loses that request; an answer that says
        # it was the last one on its connection does not.
        self._app.draining = True
        for listening in self.servers:
            listening.close()
        await asyncio.sleep(self._grace)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, and let the process end as usual rather than by the signal."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._stop) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port``. Raises ``StoreBusy`` if the port is taken, else ``StoreError``."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise StoreError(f"{host!r} is no address of this machine; use 127.0.0.1, or 0.0.0.0 for all of them") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StoreBusy(
                f"port {port} on {host} is taken{_holder(port)}; stop it, or use another port (0 takes a free one)"
            ) from None
        raise StoreError(f"cannot listen on port {port} of {host}: {error.strerror}") from None
    return listener


def _holder(port: int) -> str:
    """Who listens on ``port``, as half a sentence; nothing if that cannot be found out."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f" by process {connection.pid} ({command[:80]})"
    return ""


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
