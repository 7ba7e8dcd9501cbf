"""``headway up``: predictions, console, schedules and queued runs in one process on one port."""

from __future__ import annotations

import gc
import ipaddress
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from headway.clock import DataClock, monotonic, open_clock, parse_clock
from headway.console._app import create_app
from headway.console._workspace import Workspace
from headway.errors import HeadwayError
from headway.orchestrate.runs.dispatch import dispatch
from headway.orchestrate.runs.schedules import Scheduler, open_scheduler, scheduled
from headway.orchestrate.serving import open_service
from headway.project import Project
from headway.serve import Server, Service, bind
from headway.serve.server import Drains
from headway.settings import Settings

_EVERY = 1.0  # seconds between two looks at schedules and queued runs
_PATIENCE = 10.0  # seconds that versions may take to load before the project's code is imported beside them
_LAST_LOOK = 10.0  # seconds that the last one may take when the server stops
_SWITCH = 0.0005  # seconds: how long a page that is being made may keep a prediction from the interpreter
_API = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})

ASGI = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

log = logging.getLogger("headway.console")


class Front:
    """Paths of the prediction API go to it, before anything else is looked at; all others to the console."""

    def __init__(self, api: Drains, console: ASGI) -> None:
        self._api = api
        self._console = console

    @property
    def draining(self) -> bool:
        """Whether clients are told to go elsewhere."""
        return self._api.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._api.draining = value

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        await (self._api if path[:4] == "/v1/" or path in _API else self._console)(scope, receive, send)


class Heart:
    """A thread that looks once a second: are project files, rows, schedules or queued runs there to be dealt with?

    A project that changes gets a new scheduler; one that does not import keeps the one it had. What goes wrong is told
    once for as long as it stays the same. Predictions come first: the project's code, which may take seconds to import,
    is left alone until the versions that answer are ``loaded``.
    """

    def __init__(
        self,
        workspace: Workspace,
        clock: Clock,
        loaded: Callable[[], bool],
        *,
        schedules: bool,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._workspace = workspace
        self._clock = clock
        self._loaded = loaded
        self._schedules = schedules
        self._tell = tell
        self._warn = warn
        self._told = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="headway-heart", daemon=True)
        self._project: Project | None = None
        self._scheduler: Scheduler | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the look that is under way."""
        self._stop.set()
        self._thread.join(_LAST_LOOK)

    def said(self) -> str:
        """What is started here, in a sentence."""
        if not self._schedules:
            return "Schedules are off here (--no-schedule); runs that are asked for are started."
        return "Schedules and queued runs are started by this process."

    def _beat(self) -> None:
        begun = monotonic()
        while not (self._loaded() or self._clock.follows or monotonic() - begun > _PATIENCE or self._stop.is_set()):
            self._stop.wait(0.05)
        while not self._stop.is_set():
            said = ""
            for work in (self._follow, self._tick, self._dispatch):
                try:
                    work()
                except HeadwayError as error:
                    said = self._workspace.settings.redact(str(error))
                except Exception:
                    log.exception("looking at schedules and queued runs")
                    said = "looking at schedules and queued runs failed; the log says where"
            if said and said != self._told:
                self._warn(f"warning: {said}")
            self._told = said
            self._stop.wait(_EVERY)

    def _follow(self) -> None:
        """Take up the project as its files are now, and the rows as they are."""
        project = self._workspace.project
        if project is not self._project:
            if self._project is None:
                self._tell("\n".join(what_runs(self._workspace, self._schedules)))
            self._project = project
            self._scheduler = open_scheduler(project.parts, project.runs) if self._schedules else None
        self._clock.follow(project)

    def _tick(self) -> None:
        if self._scheduler is not None:
            self._scheduler.tick()

    def _dispatch(self) -> None:
        if self._project is not None:
            dispatch(self._workspace.settings, self._project.parts.metadata)


class Clock:
    """What time it is for predictions. A clock that follows the data is told here: reading it never looks at rows."""

    def __init__(self, settings: Settings) -> None:
        self._newest: int | None = None
        self.follows = parse_clock(settings.clock) == "data"
        self._clock = open_clock(settings.clock, lambda: self._newest)
        self.now = self._clock.now

    def follow(self, project: Project) -> None:
        """Look at the newest row, where that matters."""
        if not self.follows:
            return
        newest = project.parts.binder.newest()
        if newest != self._newest:
            self._newest = newest
            assert isinstance(self._clock, DataClock)
            self._clock.reset()


def up(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    schedules: bool = True,
    announce: Callable[[str], None] = lambda text: print(text, flush=True),
    warn: Callable[[str], None] = lambda text: print(f"headway: {text}", file=sys.stderr, flush=True),
) -> None:
    """Serve the console and predictions, and start what is due, until SIGTERM or SIGINT.

    Parameters
    ----------
    host, port
        Where to listen, in place of the settings; port 0 takes a free one.
    schedules
        Whether schedules are looked at; queued runs are started in any case.
    announce
        Is told the URL once the server listens, and then what is running.
    warn
        Is told what goes wrong meanwhile, a sentence each.

    Raises
    ------
    StoreBusy, StoreError
        The port is taken, or cannot be listened on.
    """
    host = host or settings.serve.host
    listener = bind(host, settings.serve.port if port is None else port)
    sys.setswitchinterval(_SWITCH)
    clock = Clock(settings)
    workspace = Workspace(settings)
    if not is_loopback(host) and not settings.console.operator_token:
        warn(
            f"warning: {host} can be reached from other machines, and without console.operator_token whoever does may"
            " promote and start runs; set HEADWAY_CONSOLE_OPERATOR_TOKEN"
        )
    try:
        with open_service(settings, clock.now) as service:
            heart = Heart(workspace, clock, _loaded(service), schedules=schedules, tell=announce, warn=warn)
            console = create_app(workspace, scheduling=heart.said, reads=_reads(service))
            service.start()
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{listener.getsockname()[1]}"

            def listening() -> None:
                announce(f"serving on {url}")
                heart.start()

            try:
                Server(Front(service.app, console), listening).run([listener])
            finally:
                heart.stop()
                service.stop()
    finally:
        listener.close()
        workspace.close()
        gc.unfreeze()  # what the service froze is to be freed, or DuckDB reports it as leaked


def _reads(service: Service) -> Callable[[], dict[tuple[str, str], int]]:
    """How many values of features were served, by view and state."""
    return lambda: {(view, state): count for (view, state), count in service.metrics.features.copy().items()}


def _loaded(service: Service) -> Callable[[], bool]:
    """Whether the versions that answer have been loaded."""
    return lambda: service.router.table.built


def what_runs(workspace: Workspace, schedules: bool) -> list[str]:
    """A line each on the console, predictions and schedules, and on what is wrong with the project."""
    settings = workspace.settings
    declared = scheduled(workspace.project.declarations)
    due = f"{len(declared)} schedule{'s' if len(declared) != 1 else ''}" if declared else "no schedules declared"
    kept = "off" if settings.serve.log == "off" else str(settings.home / "predictions")
    lines = [
        f"  console      /                  {settings.project}, environment {settings.env}",
        f"  predictions  /v1, /openapi.json  logged: {kept}",
        f"  schedules    {due if schedules else 'off (--no-schedule); queued runs are started'}",
    ]
    return lines + ([f"  problem      {workspace.problem}"] if workspace.problem else [])


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
