"""What every page is given: the project, who is looking, and the way to answer."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import quote, urlsplit

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headway.clock import WallClock
from headway.console import _listing
from headway.console._auth import Door, Who
from headway.console._format import FILTERS
from headway.console._static import Assets
from headway.console._workspace import Workspace
from headway.define._collect import Declarations
from headway.errors import HeadwayError
from headway.metadata import Metadata
from headway.orchestrate._parts import Parts
from headway.project import Project
from headway.settings import Settings

_HERE = Path(__file__).parent
_GZIP_FROM = 1_000  # bytes
_FLASH = "-said"
_BETWEEN_CELLS = re.compile(r"(</t[dhr]>|<tr>)\s+(?=</?t)")  # a text node each, in a long table thousands

NAVIGATION = (
    ("/", "Production"),
    ("/models", "Models"),
    ("/features", "Features"),
    ("/data", "Data"),
    ("/runs", "Runs"),
    ("/schedules", "Schedules"),
    ("/monitoring", "Monitoring"),
    ("/alerts", "Alerts"),
    ("/decisions", "Decisions"),
)

Column = _listing.Column
Listing = _listing.Listing
listing = _listing.listing


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form that was sent, each with all its values."""

    fields: Mapping[str, Sequence[str]]

    def __getitem__(self, name: str) -> str:
        return self.get(name)

    def get(self, name: str, default: str = "") -> str:
        """The last value of a field, without the spaces around it."""
        return self.fields[name][-1].strip() if self.fields.get(name) else default

    def all(self, name: str) -> Sequence[str]:
        """Every value of a field: of check boxes, or of a list to choose several from."""
        return self.fields.get(name, ())


class Context:
    """The console of one environment. Handlers are plain functions: they run in threads, and may wait."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        scheduling: Callable[[], str] | None = None,
        reads: Callable[[], Mapping[tuple[str, str], int]] | None = None,
    ) -> None:
        self.workspace = workspace
        self.settings: Settings = workspace.settings
        self.door = Door(workspace.settings)
        self.assets = Assets(_HERE / "static")
        self.scheduling = scheduling
        self.reads = reads
        self._templates = _templates(self)

    @property
    def project(self) -> Project:
        """The project as its files are now; see ``Workspace``. Take it once per request."""
        return self.workspace.project

    @property
    def parts(self) -> Parts:
        """The backends of the environment."""
        return self.workspace.project.parts

    @property
    def metadata(self) -> Metadata:
        """The records of the environment."""
        return self.workspace.project.parts.metadata

    @property
    def declarations(self) -> Declarations:
        """What the project declares; empty as long as it never imported (``problem`` says why)."""
        return self.workspace.project.declarations

    @property
    def problem(self) -> str | None:
        """What is wrong with the project's files, in a sentence."""
        return self.workspace.problem

    def now(self) -> int:
        """Wall time, for what people and machines do. Data is told the time by ``parts.clock``."""
        return WallClock().now()

    def data_now(self) -> int:
        """The environment's clock; wall time while it cannot be told (no rows yet)."""
        try:
            return self.parts.clock.now()
        except HeadwayError:
            return self.now()

    def who(self, request: Request) -> Who:
        """Who is looking: ``name``, ``role``, ``may_act``."""
        found: Who = request.scope["headway.who"]
        return found

    def form(self, request: Request) -> Form:
        """The form of a POST. That it comes from one of our pages and from somebody who may act is checked by then."""
        return Form(request.scope.get("headway.form", {}))

    def page(
        self,
        request: Request,
        template: str,
        *,
        title: str,
        cli: str | Sequence[str] = (),
        status: int = 200,
        **values: Any,
    ) -> Response:
        """A template as an answer.

        ``cli`` is the command, or the commands, that do or show the same; the environment is added where it is not the
        default one. Templates see ``values`` and: ``request``, ``title``, ``cli``, ``who``, ``may_act``,
        ``form_token``, ``now`` (wall), ``env``, ``project_name``, ``problem``, ``said``, ``navigation``, ``here`` (the
        path).
        """
        commands = [cli] if isinstance(cli, str) else list(cli)
        said = self._said(request)
        body = self._templates.get_template(template).render(
            request=request,
            title=title,
            cli=[self.command(c) for c in commands if c],
            said=said,
            **{**self._common(request), **values},
        )
        response = self.html(request, body, status)
        if said:
            response.delete_cookie(self.door.cookie + _FLASH, path="/")
        return response

    def fragment(self, request: Request, template: str, **values: Any) -> Response:
        """A template that is a part of a page, for htmx."""
        values = {**self._common(request), **values}
        return self.html(request, self._templates.get_template(template).render(request=request, **values))

    def html(self, request: Request, body: str, status: int = 200) -> Response:
        """HTML, compressed where the browser takes it."""
        data = _BETWEEN_CELLS.sub(r"\1", body).encode()
        headers = {"cache-control": "no-store", "vary": "accept-encoding, hx-request"}
        if len(data) > _GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            data = gzip.compress(data, 4, mtime=0)
            headers["content-encoding"] = "gzip"
        response = Response(data, status, headers, media_type="text/html")
        self.remember(request, response)
        return response

    def redirect(
        self, request: Request, to: str, said: str = "", kind: Literal["good", "bad", "info"] = "good"
    ) -> Response:
        """After a POST: to the page that shows what came of it, with a sentence shown there once."""
        response = Response(status_code=303, headers={"location": local_path(to), "cache-control": "no-store"})
        if said:
            value = self.door.seal([kind, said[:800]])
            response.set_cookie(
                self.door.cookie + _FLASH, value, max_age=60, httponly=True, samesite="strict", path="/"
            )
        self.remember(request, response)
        return response

    def remember(self, request: Request, response: Response) -> None:
        """Give a browser that has none the cookie that its forms are tied to."""
        who = self.who(request)
        if who.fresh:
            self.set_session(request, response, self.door.session(who, self.now()))

    def set_session(self, request: Request, response: Response, value: str) -> None:
        """Give a browser the cookie of a session."""
        secure = request.url.scheme == "https"
        response.set_cookie(self.door.cookie, value, httponly=True, samesite="strict", secure=secure, path="/")

    def not_found(self, message: str) -> NoReturn:
        """Answer with the page that says, in words, that something is not there."""
        raise HTTPException(404, message)

    def command(self, text: str) -> str:
        """A command with the environment where it is not the one that commands choose by themselves."""
        if self.settings.env == "local" or not text.startswith("headway "):
            return text
        return f"{text} -e {self.settings.env}"

    def _common(self, request: Request) -> dict[str, Any]:
        who = self.who(request)
        return {
            "who": who,
            "may_act": who.may_act,
            "needs_login": self.door.needs_login,
            "form_token": self.door.form_token(who),
            "now": self.now(),
            "env": self.settings.env,
            "project_name": self.settings.project,
            "problem": self.problem,
            "navigation": NAVIGATION,
            "here": request.url.path,
        }

    def _said(self, request: Request) -> tuple[str, str] | None:
        match self.door.unseal(request.cookies.get(self.door.cookie + _FLASH, "")):
            case [str(kind), str(text)]:
                return kind, text
            case _:
                return None


def local_path(text: str) -> str:
    """A path of this console; anything that would lead elsewhere becomes ``/``."""
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or not text.startswith("/") or text[1:2] in ("/", "\\"):
        return "/"
    return text if text.isprintable() and text.isascii() else quote(text, safe="/?&=%#-._~,:@+")


def _templates(view: Context) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        cache_size=200,
    )
    environment.filters.update(FILTERS)
    environment.filters["segment_of_path"] = lambda text: quote(str(text), safe="")
    environment.globals["asset"] = view.assets.url
    return environment
