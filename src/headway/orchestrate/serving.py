"""Serving a project's environment. The process needs neither the project's code nor the engine that computes
features: what it serves is written down in the metadata and in each version's directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headway.clock import open_clock, parse_clock
from headway.data.online import OnlineReader
from headway.metadata import Metadata, open_metadata
from headway.orchestrate._stores import online_opener
from headway.orchestrate.predictions.compactor import Compactor
from headway.orchestrate.pushes import PublishedSources, Pushes
from headway.registry import Registry
from headway.serve import RegistryCatalogue, Service, freeze_loaded, serve
from headway.serve.log import PredictionLog
from headway.settings import Settings


def serve_project(settings: Settings, newest: int | None, *, host: str | None = None, port: int | None = None) -> None:
    """Serve what is live until SIGTERM or SIGINT.

    ``newest`` is when the last row became known, for an environment whose clock is ``data``.
    """
    clock = open_clock(settings.clock, lambda: newest)
    metadata = open_metadata(settings.metadata_url, settings.project, settings.env)
    registry = Registry(metadata, settings.artifacts_dir, clock.now)
    store = online_opener(settings)(True)
    try:
        serve(
            RegistryCatalogue(registry),
            OnlineReader(store),
            clock.now,
            host=host or settings.serve.host,
            port=settings.serve.port if port is None else port,
            allowed_hosts=hosts(settings),
            allow_pickle=settings.allow_pickle,
            log=prediction_log(settings),
            sink=_sink(settings, metadata, clock.now),
        )
    finally:
        store.close()
        metadata.close()


@contextmanager
def open_service(settings: Settings, now: Callable[[], int]) -> Iterator[Service]:
    """The prediction service of an environment, not started yet, for a server that has more than predictions. What it
    reads from is closed with the block."""
    metadata = open_metadata(settings.metadata_url, settings.project, settings.env)
    store = online_opener(settings)(True)
    try:
        yield Service(
            RegistryCatalogue(Registry(metadata, settings.artifacts_dir, now)),
            OnlineReader(store),
            now,
            allowed_hosts=hosts(settings),
            allow_pickle=settings.allow_pickle,
            log=prediction_log(settings),
            sink=_sink(settings, metadata, now),
            settled=freeze_loaded,
        )
    finally:
        store.close()
        metadata.close()


def _sink(settings: Settings, metadata: Metadata, now: Callable[[], int]) -> Pushes:
    """Takes rows for the sources that were declared with a schema only at the last run."""
    return Pushes(settings.home, PublishedSources(metadata), now)


def prediction_log(settings: Settings) -> PredictionLog | None:
    """The log of an environment's predictions, which moves itself into the lake; None where it is off."""
    if settings.serve.log == "off":
        return None
    closed = Compactor(settings).notice
    return PredictionLog(settings.home, rows=settings.serve.log_rows, policy=settings.serve.log, closed=closed)


def hosts(settings: Settings) -> list[str]:
    """The names that may stand in a Host header besides those of the loopback."""
    return [name.strip() for name in settings.serve.hosts.split(",") if name.strip()]


def needs_newest(settings: Settings) -> bool:
    """Whether the environment's clock has to look at the data."""
    return parse_clock(settings.clock) == "data"
