"""The ASGI application: reads requests, finds who answers, writes answers and problems.

Written against ASGI itself: a web framework costs more time per request than the prediction does.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from headway.clock import stopwatch
from headway.errors import DataError, HeadwayError, ProjectCodeError, StoreError, suggest
from headway.serve import _arrow, _openapi
from headway.serve._body import Given, read_entities, read_given, read_json
from headway.serve._labels import label_entries, read_labels
from headway.serve._logged import ROLE
from headway.serve._metrics import Metrics
from headway.serve._outcome import Outcome, iso
from headway.serve._predict import predict
from headway.serve._problems import MEDIA_TYPE, Refused, problem, shown
from headway.serve._protocols import RowSink
from headway.serve._push import push_rows, read_rows
from headway.serve._route import ModelRoute, Router, Table
from headway.serve.log import PredictionLog, describe

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

_JSON = b"application/json"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
# What clients say that were told nothing: curl, a browser's fetch of a text.
_SAYS_NOTHING = (b"", b"application/x-www-form-urlencoded", b"text/plain", b"application/octet-stream")
_INLINE_BYTES = 256 << 10  # a larger body is worked on in a thread from the start
_INLINE_ROWS = 2_000  # more rows are predicted in a thread
_LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_MODELS, _PREDICT, _LABELS, _FEATURES = "/v1/models/", "/predict", "/labels", "/v1/features/"
_SOURCES, _ROWS = "/v1/sources/", "/rows"
_RETRY: Headers = ((b"retry-after", b"1"),)

log = logging.getLogger("headway.serve")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request may be: ``body_bytes`` and ``rows``; ``threads`` work on large ones at a time."""

    body_bytes: int = 16 << 20
    rows: int = 100_000
    threads: int = 2


class Response(NamedTuple):
    """What is sent."""

    status: int
    body: bytes
    media: bytes = _JSON
    headers: Headers = ()


class _Gone(Exception):
    """The client left before its request was read."""


class Request:
    """One request, its body not yet read."""

    __slots__ = ("elapsed", "headers", "host", "id", "length", "method", "path", "receive")

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, new_id: Callable[[], str]) -> None:
        self.elapsed = stopwatch()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.receive = receive
        self.host = b""
        self.length = 0
        self.id = ""
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        for name, value in self.headers:
            if name == b"host":
                self.host = value
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else 0
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.id = value.decode("ascii")
        if not self.id:
            self.id = new_id()

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises ``Refused`` (413) as soon as it is known to be too large."""
        if self.length > limit:
            raise _too_large(limit)
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= limit:
            return body
        parts, size = [body], len(body)
        while size <= limit and message.get("more_body", False):
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit} bytes; send several requests, or use `headway predict`")


Handler = Callable[[Request], Awaitable[Response]]


class App:
    """The application. ``draining`` closes connections after their answer, so that clients go elsewhere."""

    def __init__(
        self,
        router: Router,
        now: Callable[[], int],
        metrics: Metrics,
        *,
        allowed_hosts: Iterable[str] = (),
        limits: Limits | None = None,
        log: PredictionLog | None = None,
        sink: RowSink | None = None,
    ) -> None:
        self.draining = False
        self._sink = sink
        self._log = log
        self._router = router
        self._now = now
        self._metrics = metrics
        self._limits = limits or Limits()
        self._hosts = frozenset(host.lower() for host in (*_LOCAL, *allowed_hosts))
        self._hosts_seen: set[bytes] = set()
        self._pool = ThreadPoolExecutor(self._limits.threads, thread_name_prefix="headway-predict")
        self._new_id = _request_ids()
        self._fixed: dict[str, tuple[str, Handler]] = {
            "/healthz": ("healthz", self._healthz),
            "/readyz": ("readyz", self._readyz),
            "/metrics": ("metrics", self._metrics_text),
            "/openapi.json": ("openapi", self._openapi),
            "/v1/models": ("models", self._models),
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive, self._new_id)
        route = "other"
        try:
            if request.host not in self._hosts_seen:
                self._check_host(request)
            route, handler = self._resolve(request)
            response = await handler(request)
        except _Gone:
            return
        except Exception as error:  # noqa: BLE001 - whatever happens, the client gets a problem and no traceback
            response = self._problem(error, request, route)
        self._metrics.request(route, response.status, request.elapsed())
        await self._send(response, request, send)

    def close(self) -> None:
        """Let go of the threads, once what they work on is done."""
        self._pool.shutdown()

    async def _send(self, response: Response, request: Request, send: Send) -> None:
        headers = [
            (b"content-type", response.media),
            (b"content-length", b"%d" % len(response.body)),
            (b"x-request-id", request.id.encode("ascii")),
            *response.headers,
        ]
        if self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    def _check_host(self, request: Request) -> None:
        """Refuse names that only a browser led astray would use (DNS rebinding); probes come by address."""
        if "*" in self._hosts or _host_name(request.host) in self._hosts:
            if len(self._hosts_seen) < 1_000:
                self._hosts_seen.add(request.host)
        elif request.path not in ("/healthz", "/readyz"):
            raise Refused(
                403, "this server does not answer to the name in the Host header; allow it with allowed_hosts"
            )

    def _resolve(self, request: Request) -> tuple[str, Handler]:
        path = request.path
        if path.startswith(_MODELS):
            if path.endswith(_PREDICT) and len(path) > len(_MODELS) + len(_PREDICT):
                return "predict", _only(request, ("POST",), self._predict)
            if path.endswith(_LABELS) and len(path) > len(_MODELS) + len(_LABELS):
                return "labels", _only(request, ("POST",), self._labels)
            return "model", _only(request, ("GET", "HEAD"), self._model)
        if path.startswith(_FEATURES):
            return "features", _only(request, ("POST",), self._features)
        if path.startswith(_SOURCES) and path.endswith(_ROWS) and len(path) > len(_SOURCES) + len(_ROWS):
            return "push", _only(request, ("POST",), self._push)
        found = self._fixed.get(path)
        if found is None:
            raise Refused(404, "nothing is served under this path; /openapi.json lists what is")
        return found[0], _only(request, ("GET", "HEAD"), found[1])

    async def _predict(self, request: Request) -> Response:
        route = self._route(request.path[len(_MODELS) : -len(_PREDICT)])
        body = await request.body(self._limits.body_bytes)

        outcome = await self._work(body, _read_given, lambda given: predict(route, given, self._now(), request.id))
        served, log = outcome.served, self._log
        if log is not None and served is not None:
            seconds = request.elapsed()
            if not log.add(served, seconds):
                await log.put(served, seconds)
        return Response(200, outcome.body)

    async def _features(self, request: Request) -> Response:
        name, known = request.path[len(_FEATURES) :], self._table.features
        served = known.get(name)
        if served is None:
            raise Refused(404, f"no feature view or set is called {shown(name)}; {suggest(name, known)}")
        given_as, wanted = _media_types(request)
        body = await request.body(self._limits.body_bytes)

        read = self._read_arrow if given_as == _arrow.MEDIA_TYPE else _read_entities
        arrow = wanted == _arrow.MEDIA_TYPE
        outcome = await self._work(body, read, lambda given: served.read(given, self._now(), request.id, arrow=arrow))
        return Response(200, outcome.body, wanted)

    async def _push(self, request: Request) -> Response:
        name, sink = request.path[len(_SOURCES) : -len(_ROWS)], self._sink
        if sink is None:
            raise Refused(404, "this server takes no rows")
        given_as, _ = _media_types(request)
        body = await request.body(self._limits.body_bytes)
        read = self._read_arrow if given_as == _arrow.MEDIA_TYPE else read_rows
        most = self._limits.rows
        answer = await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: push_rows(sink, name, read(body, most), request.id)
        )
        return Response(200, answer)

    def _read_arrow(self, body: bytes, most_rows: int) -> Given:
        return _arrow.read_stream(body, most_rows, self._limits.body_bytes)

    async def _labels(self, request: Request) -> Response:
        name = request.path[len(_MODELS) : -len(_LABELS)]
        table = self._table
        if name not in table.known and name not in table.models:
            _no_route(table, name)
        if self._log is None:
            raise Refused(404, "the prediction log is off, which keeps labels too; serve.log in headway.toml decides")
        body = await request.body(self._limits.body_bytes)
        given = read_labels(read_json(body), self._limits.rows)
        route = table.models.get(name)
        entries = label_entries(given, None if route is None else route.newest.plan, self._now(), self._log.wall())
        try:
            await self._log.attach(name, entries)
        except StoreError as error:
            raise Refused(503, str(error), _RETRY) from None
        return Response(200, msgspec.json.encode({"model": name, "labels": len(entries), "request_id": request.id}))

    async def _work(
        self, body: bytes, read: Callable[[bytes, int], Given], work: Callable[[Given], Outcome]
    ) -> Outcome:
        """Small requests are answered at once, large ones in a thread, so that others need not wait for them."""
        rows = self._limits.rows
        if len(body) > _INLINE_BYTES:
            outcome = await self._in_thread(lambda: work(read(body, rows)))
        else:
            given = read(body, rows)
            outcome = work(given) if given.rows <= _INLINE_ROWS else await self._in_thread(lambda: work(given))
        outcome.tally(self._metrics)
        return outcome

    async def _in_thread(self, work: Callable[[], Outcome]) -> Outcome:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    @property
    def _table(self) -> Table:
        table = self._router.table
        if not table.built:
            raise Refused(503, "the server is starting and has not loaded its models yet", _RETRY)
        return table

    def _route(self, name: str) -> ModelRoute:
        table = self._router.table
        route = table.models.get(name)
        return route if route is not None else _no_route(self._table, name)

    async def _model(self, request: Request) -> Response:
        route = self._route(request.path[len(_MODELS) :])
        return Response(200, msgspec.json.encode(_described(route)))

    async def _models(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        table = self._table
        listed = [
            {"name": name, "live": _live(table.models[name]) if name in table.models else []}
            for name in sorted(table.known | set(table.models))
        ]
        return Response(200, msgspec.json.encode({"models": listed}))

    async def _healthz(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        return Response(200, b'{"status":"ok"}')

    async def _readyz(self, request: Request) -> Response:
        table = self._router.table
        ready = table.ready and not self.draining
        details: dict[str, Any] = {"ready": ready}
        if request.host in self._hosts_seen:
            details["draining"] = self.draining
            details["models"] = {name: _live(route) for name, route in sorted(table.models.items())}
            details["failures"] = dict(table.failures)
            details["log"] = describe(self._log)
        return Response(200 if ready else 503, msgspec.json.encode(details))

    async def _metrics_text(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        return Response(200, self._metrics.render(self._router.table, self._log), _TEXT)

    async def _openapi(self, request: Request) -> Response:  # noqa: ARG002 - a handler
        document = _openapi.document(self._table, labels=self._log is not None, rows=self._sink is not None)
        return Response(200, msgspec.json.encode(document))

    def _problem(self, error: Exception, request: Request, route: str) -> Response:
        headers: Headers = ()
        if isinstance(error, Refused):
            status, detail, headers = error.status, str(error), error.headers
        elif isinstance(error, ProjectCodeError):
            self._metrics.function_errors[_model_of(request, route)] += 1
            status, detail = 500, _public(error)
        elif isinstance(error, StoreError):
            status, detail, headers = 503, "the online store cannot be read now; try again", _RETRY
        elif isinstance(error, DataError):
            status, detail = 422, "the input does not fit the model; the server's log says why"
        elif isinstance(error, HeadwayError):
            status, detail = 500, "the model could not answer; the server's log says why"
        else:
            status, detail = 500, "the server failed; its log says where"
        if not isinstance(error, Refused):
            trace = None if isinstance(error, HeadwayError) else error
            log.error("request %s (%s): %s", request.id, route, error, exc_info=trace)
        return Response(status, problem(status, detail, request.id), MEDIA_TYPE, headers)


def _read_given(body: bytes, most_rows: int) -> Given:
    return read_given(read_json(body), most_rows)


def _read_entities(body: bytes, most_rows: int) -> Given:
    return read_entities(read_json(body), most_rows)


def _media_types(request: Request) -> tuple[bytes, bytes]:
    """What the body is, and what the answer is to be: JSON or Arrow. Raises ``Refused`` (415)."""
    given, wanted = _JSON, _JSON
    for name, value in request.headers:
        if name == b"content-type":
            given = value.partition(b";")[0].strip().lower()
        elif name == b"accept" and _arrow.MEDIA_TYPE in value.lower():
            wanted = _arrow.MEDIA_TYPE
    if given == _arrow.MEDIA_TYPE or given in _SAYS_NOTHING or given.endswith(b"json"):
        return given, wanted
    raise Refused(415, f"the body is sent as JSON or as {_arrow.MEDIA_TYPE.decode()}; content-type says which it is")


def _no_route(table: Table, name: str) -> ModelRoute:
    """The problem for a model that has no live version: always raises ``Refused``."""
    if name in table.failures:
        raise Refused(503, f"the live version of model {name!r} could not be loaded; /readyz says why", _RETRY)
    if name in table.known:
        raise Refused(409, f"no version of model {name!r} is live; `headway models promote {name} VERSION` decides")
    raise Refused(404, f"no model is called {shown(name)}; {suggest(name, table.known)}")


def _host_name(host: bytes) -> str:
    """A Host header without its port: ``localhost:8000``, ``[::1]:8000``, ``::1``."""
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0] if name.count(":") == 1 else name


def _only(request: Request, methods: tuple[str, ...], handler: Handler) -> Handler:
    if request.method not in methods:
        allowed = ", ".join(methods)
        raise Refused(405, f"use {allowed} here", ((b"allow", allowed.encode()),))
    return handler


def _request_ids() -> Callable[[], str]:
    """Identifiers that look like a version 4 UUID: random where the process begins, counted from there on."""
    head = os.urandom(8).hex()
    lead = f"{head[:8]}-{head[8:12]}-4{head[12:15]}-8{os.urandom(2).hex()[:3]}-"
    numbers = itertools.count(int.from_bytes(os.urandom(5), "big"))
    return lambda: f"{lead}{next(numbers):012x}"


def _model_of(request: Request, route: str) -> str:
    return request.path[len(_MODELS) : -len(_PREDICT)] if route == "predict" else ""


def _public(error: ProjectCodeError) -> str:
    """What may be told of a failure in the project's code: an exception's text could hold the request's values."""
    if error.__cause__ is None:
        return "a request function of the model returned what it may not; the server's log says what"
    return f"a request function of the model raised {type(error.__cause__).__name__}; the server's log says where"


def _live(route: ModelRoute) -> list[dict[str, Any]]:
    return [
        {"segment": segment, "version": version.version, "role": ROLE}
        for segment, version in sorted(route.by_segment.items(), key=lambda item: item[0] or "")
    ]


def _described(route: ModelRoute) -> dict[str, Any]:
    return {
        "name": route.name,
        "live": _live(route),
        "versions": [
            {
                "version": version.version,
                "created_at": iso(version.record.created_at),
                "task": version.plan.task,
                "classes": version.plan.classes,
                "segment": version.plan.segment,
                "metrics": version.record.metrics,
                "inputs": {name: item.type for name, item in version.inputs.items()},
                "overrides": {name: item.type for name, item in version.overrides.items()},
            }
            for version in route.versions
        ],
    }
