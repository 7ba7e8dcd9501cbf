"""The console as an ASGI application."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from headway.clock import Clock
from headway.console import pages
from headway.console._context import Context
from headway.console._guard import Guard
from headway.console._workspace import Workspace
from headway.errors import HeadwayError, NotFoundError, StoreBusy
from headway.settings import Settings

log = logging.getLogger("headway.console")


def create_app(
    project: Settings | Workspace,
    *,
    clock: Clock | None = None,
    scheduling: Callable[[], str] | None = None,
    reads: Callable[[], Mapping[tuple[str, str], int]] | None = None,
) -> ASGIApp:
    """The console of one environment of a project.

    Parameters
    ----------
    project
        The settings of the environment, or a ``Workspace`` that others use too.
    clock
        In place of the environment's clock.
    scheduling
        Says, in half a sentence, what starts schedules and queued runs here; None: nothing does.
    reads
        How many values of features were served here, by view and state; None: this process serves none.
    """
    workspace = project if isinstance(project, Workspace) else Workspace(project, clock)
    view = Context(workspace, scheduling=scheduling, reads=reads)

    def refuse(request: Request, status: int, message: str) -> Response:
        return _words(view, request, status, message)

    app = Starlette(routes=[view.assets.route, view.assets.icon, *_routes(view)], exception_handlers=_handlers(view))
    hosts = [name.strip() for name in workspace.settings.serve.hosts.split(",") if name.strip()]
    return Guard(app, view.door, hosts=hosts, now=view.now, refuse=refuse)


def _routes(view: Context) -> Iterator[BaseRoute]:
    """The routes of every page module."""
    for module in sorted(pkgutil.iter_modules(pages.__path__), key=lambda m: m.name):
        if not module.name.startswith("_"):
            yield from importlib.import_module(f"{pages.__name__}.{module.name}").routes(view)


_TITLES = {400: "That does not work", 403: "Not allowed", 404: "Not found", 405: "Not here", 409: "Not now"}


def _words(view: Context, request: Request, status: int, message: str) -> Response:
    title = _TITLES.get(status, "Something went wrong")
    return view.page(request, "error.html", title=title, status=status, message=message)


def _handlers(view: Context) -> dict[int | type[Exception], Callable[[Request, Exception], Response]]:
    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404 and error.detail == "Not Found":
            return _words(view, request, 404, "There is no page at this address.")
        return _words(view, request, error.status_code, str(error.detail))

    def ours(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, NotFoundError) else 503 if isinstance(error, StoreBusy) else 409
        return _words(view, request, status, _sentence(view.settings.redact(str(error))))

    def failed(request: Request, error: Exception) -> Response:
        log.error("page %s", request.url.path, exc_info=error)
        return _words(view, request, 500, "The console failed to make this page; its log says where.")

    return {HTTPException: http, HeadwayError: ours, 500: failed}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
