"""A project opened in an environment: builds the chosen backends and offers the stages. No behaviour of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from headway import plugins
from headway.clock import Clock, FixedClock, from_iso, open_clock
from headway.data.binding import Binder
from headway.data.engine import Engine, Memory, Workspace
from headway.data.lake import Lake
from headway.data.quality import Proposal
from headway.define import Model, Source
from headway.define._collect import Declarations, collect
from headway.define._step import active_project
from headway.define.records import CheckResult, GateResult, VersionRecord
from headway.errors import SettingsError, suggest
from headway.metadata import Metadata
from headway.orchestrate._parts import Parts, Progress, no_progress
from headway.orchestrate._stores import online_opener
from headway.orchestrate.features import FeatureStage
from headway.orchestrate.ingest import Ingested, ingest_sources
from headway.orchestrate.models import ModelStage
from headway.orchestrate.monitoring.stage import MonitorStage
from headway.orchestrate.online import OnlineStage
from headway.orchestrate.plan import Item, plan, to_ingest
from headway.orchestrate.predictions.batch import predict, predict_file
from headway.orchestrate.pushes import Pushes
from headway.orchestrate.quality import infer
from headway.orchestrate.run import Done, check
from headway.orchestrate.runs.stage import RunStage
from headway.registry import Registry
from headway.settings import Settings, load_settings


class Project:
    """What ``headway.load`` returns.

    ``features``, ``online`` and ``models`` are the stages; ``declarations`` is what the project's package declares;
    ``settings`` says where everything is kept. Close it, or use it in a ``with`` block, to let go of files.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None, progress: Progress = no_progress) -> None:
        self.settings = settings
        self._given_clock = clock
        self._progress = progress

    @cached_property
    def declarations(self) -> Declarations:
        found = collect(self.settings.definitions, self.settings.root)
        check_overrides(self.settings, found)
        return found

    @cached_property
    def parts(self) -> Parts:
        """Every backend of the environment."""
        settings = self.settings
        settings.home.mkdir(parents=True, exist_ok=True)
        for kind, chosen in (("executors", settings.executor), ("schedulers", settings.scheduler)):
            if chosen != "local":
                backend(settings, kind, chosen)
        memory = Memory.of(settings.memory_limit)
        workspace = Workspace(settings.home / "spill", memory.rows, threads=settings.threads)
        engine: Engine = backend(settings, "compute_engines", settings.compute)(
            f"{memory.sql >> 20}MiB", settings.threads, workspace.scratch.new("sql")
        )
        lake: Lake = backend(settings, "lakes", settings.lake_uri)(settings.lake_uri)
        binder = Binder(self.declarations.sources, lake, engine)
        metadata: Metadata = backend(settings, "metadata_stores", settings.metadata_url)(
            settings.metadata_url, settings.project, settings.env
        )
        clock = self._given_clock or open_clock(settings.clock, binder.newest)
        return Parts(
            settings=settings,
            declarations=self.declarations,
            clock=clock,
            engine=engine,
            lake=lake,
            binder=binder,
            metadata=metadata,
            registry=Registry(metadata, settings.artifacts_dir, clock.now),
            open_online=online_opener(settings),
            workspace=workspace,
            progress=self._progress,
        )

    @cached_property
    def features(self) -> FeatureStage:
        return FeatureStage(self.parts)

    @cached_property
    def online(self) -> OnlineStage:
        return OnlineStage(self.parts, self.features)

    @cached_property
    def models(self) -> ModelStage:
        return ModelStage(self.parts, self.features)

    @cached_property
    def runs(self) -> RunStage:
        return RunStage(self.parts, self.features, self.models, lambda model: self.monitoring.run(model))

    @cached_property
    def monitoring(self) -> MonitorStage:
        return MonitorStage(self.parts, self.models, self.runs)

    @cached_property
    def _pushes(self) -> Pushes:
        return Pushes(self.settings.home, lambda: self.declarations.sources, self.parts.clock.now)

    def plan(self, *targets: str) -> list[Item]:
        """What ``run`` would do, and why."""
        return plan(self.parts, self.features, targets)

    def run(
        self,
        *targets: str,
        params: Mapping[str, Any] | None = None,
        report: Callable[[Done], None] = lambda _: None,
    ) -> list[Done]:
        """Bring targets (all of the project, if none is named) up to date, or run a pipeline with ``params``.

        The run is recorded: see ``runs``.
        """
        return self.runs.carry_out(self.runs.draft(targets, params), report)[1]

    def train(self, model: str | Model) -> tuple[VersionRecord, GateResult, bool]:
        """Train and register one model, whatever else is stale; see ``ModelStage.train``."""
        return self.runs.train(model if isinstance(model, str) else model.name)

    def predict(self, model: str | Model, data: Any, *, version: int | None = None) -> Any:
        """Score a table: its rows, in order, with ``prediction``, ``version`` and ``segment``.

        Features are taken at each row's event time where the table has the label source's timestamp column, else at
        the clock's now.
        """
        return predict(self.parts, self.models, model if isinstance(model, str) else model.name, data, version=version)

    def predict_file(
        self, model: str, source: str, output: str, *, version: int | None = None, log: bool = True
    ) -> tuple[int, int]:
        """Score a file in bounded memory; returns the rows scored and the version that did it.

        Every row is logged, unless ``log`` is false.
        """
        return predict_file(self.parts, self.models, model, source, output, version=version, log=log)

    def check(self, *sources: str) -> list[CheckResult]:
        """Run the checks of some sources, or of all, on the rows as they are in the lake now."""
        return check(self.parts, sources)

    def push(self, source: str | Source, rows: Any) -> int:
        """Have rows of a source that is declared with a schema only on the disk; how many they are.

        They are kept when it returns, all of them or none, and seen by features from the first refresh after the next
        ingest. ``rows`` is any table that speaks Arrow, or maps columns to lists.
        """
        return self._pushes.push(source if isinstance(source, str) else source.name, rows)

    def ingest(
        self,
        *sources: str,
        full: bool = False,
        started: Callable[[str], None] = lambda _: None,
        watch: Callable[[str, int], None] = lambda *_: None,
        ended: Callable[[Ingested], None] = lambda _: None,
    ) -> list[Ingested]:
        """Bring the lake's copies of some sources, or of all that are due, up to date; several at a time.

        A source that fails is told of in what is returned, and stops no other. ``full`` starts over, as if nothing had
        been read. The callables are told, from several threads, of sources as they are started, of rows as they are
        read, and of what became of a source.
        """
        wanted = to_ingest(self.parts, sources, full=full)
        return ingest_sources(self.parts, wanted, full=full, started=started, watch=watch, ended=ended)

    def infer_checks(self, *sources: str) -> list[Proposal]:
        """Checks that some sources, or all, could be given, read off their rows."""
        return infer(self.parts, sources)

    def close(self) -> None:
        """Let go of databases and files."""
        if "online" in self.__dict__:
            self.online.close()
        if "_pushes" in self.__dict__:
            self._pushes.close()
        if "parts" in self.__dict__:
            self.parts.engine.close()
            self.parts.workspace.close()
            self.parts.metadata.close()

    def __enter__(self) -> Self:
        self._active = active_project(lambda name: self.run(name))  # so that a pipeline can be called plainly
        self._active.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._active.__exit__(None, None, None)
        self.close()


def load(
    root: str | Path = ".",
    env: str | None = None,
    clock: Clock | str | int | None = None,
    progress: Progress = no_progress,
) -> Project:
    """Open the project in ``root`` (or the nearest folder above it with a ``headway.toml``).

    Parameters
    ----------
    env
        An environment of ``headway.toml``; ``local`` by default.
    clock
        In place of the environment's clock: an instant as ISO text with an offset or as microseconds since 1970 in
        UTC, or any object with ``now()``.
    progress
        Called with what is being done, how much of it is done, and of how much (0: unknown).

    Raises
    ------
    SettingsError
        There is no ``headway.toml``, or it is wrong.
    """
    if isinstance(clock, str):
        clock = FixedClock(from_iso(clock))
    elif isinstance(clock, int):
        clock = FixedClock(clock)
    return Project(load_settings(root, env), clock, progress)


def check_overrides(settings: Settings, declarations: Declarations) -> None:
    """Refuse another place for a source that does not exist, or of a kind that nothing can read."""
    for name, place in settings.sources.items():
        where = f"[env.{settings.env}.sources] {name}"
        if name not in declarations.sources:
            raise SettingsError(f"{where}: the project has no such source; {suggest(name, declarations.sources)}")
        source = declarations.sources[name]
        if source.query is not None:
            raise SettingsError(f"{where}: it is a query, so it has no place; give one to a source that it reads")
        if "path" in place and len(place) > 1:
            raise SettingsError(f"{where}: a source has either a path or a table with its connection, got both")
        if "path" not in place and not (place.get("table") or source.table):
            raise SettingsError(f"{where}: a connection needs a table")
        if "path" not in place and not (place.get("connection") or source.connection):
            raise SettingsError(f'{where}: a table needs a connection, such as connection = "postgresql://db/shop"')


def backend(settings: Settings, kind: str, setting: str) -> Callable[..., Any]:
    """What opens the backend a setting names, if it is installed and mature enough for the environment."""
    return plugins.load(kind, plugins.scheme(setting), least=settings.maturity).open


__all__ = ["Project", "load", "online_opener"]
