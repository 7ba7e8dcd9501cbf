"""What stands between the network and the pages: host names, who may look and act, and forms that are not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.console._auth import Door, Who

_LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")
_LARGEST_FORM = 1 << 20
_MOST_FIELDS = 2_000
_WRONG_TOKEN_SECONDS = 0.5
_OPEN = ("/login", "/logout", "/favicon.ico")

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
)
_HEADERS = {
    "content-security-policy": "; ".join(_POLICY),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

Refusal = Callable[[Request, int, str], Response]


class Guard:
    """Checks a request, then hands it on with ``headway.who`` and, for a POST, ``headway.form`` in its scope."""

    def __init__(
        self, app: ASGIApp, door: Door, *, hosts: Iterable[str], now: Callable[[], int], refuse: Refusal
    ) -> None:
        self._app = app
        self._door = door
        self._hosts = frozenset(host.lower() for host in (*_LOCAL, *hosts))
        self._now = now
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        with_headers = _with_headers(send)
        refused = self._check_host(request)
        if refused is None and not request.url.path.startswith("/static/"):
            refused = await self._check(request)
        await (refused or self._app)(scope, receive, with_headers)

    def _check_host(self, request: Request) -> Response | None:
        """Names that only a browser led astray would use (DNS rebinding) are refused."""
        if "*" in self._hosts or host_name(request.headers.get("host", "")) in self._hosts:
            return None
        text = "this console does not answer to the name in the Host header; add it to serve.hosts in headway.toml\n"
        return PlainTextResponse(text, 403)

    async def _check(self, request: Request) -> Response | None:
        who = self._recognise(request)
        if request.method == "POST":
            return await self._check_post(request, who)
        if who.role is None and request.url.path not in _OPEN:
            return self._ask_to_log_in(request, who)
        return None

    def _recognise(self, request: Request) -> Who:
        cookie = _cookie(request.headers.get("cookie", ""), self._door.cookie)
        who = self._door.who(request.headers.get("authorization", ""), cookie, self._now())
        request.scope["headway.who"] = who
        return who

    async def _check_post(self, request: Request, who: Who) -> Response | None:
        if not _same_origin(request):
            return self._refuse(request, 403, "This form was sent from another site, so nothing was done.")
        form = await _read_form(request)
        if isinstance(form, str):
            return self._refuse(request, 400, form)
        token = form.pop("form_token", [""])[-1]
        request.scope["headway.form"] = form
        if not who.bearer and not self._door.form_is_ours(who, token):
            return self._refuse(
                request, 403, "This page was too old to act on, so nothing was done; open it again and repeat."
            )
        if request.url.path in _OPEN:
            return None
        if who.role is None:
            return self._ask_to_log_in(request, who)
        if not who.may_act:
            return self._refuse(request, 403, "You may look, but not act: log in with the operator token to do this.")
        return None

    def _ask_to_log_in(self, request: Request, who: Who) -> Response:
        if who.bearer or request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            text = "this console needs a token: log in at /login, or send it as Authorization: Bearer TOKEN\n"
            return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Response(status_code=303, headers={"location": f"/login?to={quote(path, safe='')}"})


async def wrong_token() -> None:
    """Guessing tokens takes time."""
    await asyncio.sleep(_WRONG_TOKEN_SECONDS)


def host_name(host: str) -> str:
    """A Host header without its port: ``localhost:8000``, ``[::1]:8000``, ``::1``."""
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0] if name.count(":") == 1 else name


def _same_origin(request: Request) -> bool:
    """Whether a browser says that the form came from this very host; programs say nothing."""
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return False
    origin = request.headers.get("origin") or request.headers.get("referer")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


async def _read_form(request: Request) -> dict[str, list[str]] | str:
    """The fields, or what is wrong with the body in a sentence."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind not in ("application/x-www-form-urlencoded", ""):
        return "Forms are sent as application/x-www-form-urlencoded."
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            return f"The form is larger than {_LARGEST_FORM} bytes."
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return "The form cannot be read: it is not UTF-8, or has too many fields."


def _cookie(header: str, name: str) -> str:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return wrapped
