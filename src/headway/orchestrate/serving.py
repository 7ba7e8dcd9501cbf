"""Serving a project's environment. The process needs neither the project's code nor the engine that computes
features: what it serves is written down in the metadata and in each version's directory."""

from __future__ import annotations

import msgspec

from headway import plugins
from headway.clock import open_clock, parse_clock
from headway.data.online import OnlineReader
from headway.define.records import ViewPlan
from headway.metadata import Metadata, open_metadata
from headway.registry import Registry
from headway.serve import RegistryCatalogue, serve
from headway.settings import Settings


def serve_project(settings: Settings, newest: int | None, *, host: str | None = None, port: int | None = None) -> None:
    """Serve what is live until SIGTERM or SIGINT.

    ``newest`` is when the last row became known, for an environment whose clock is ``data``.
    """
    clock = open_clock(settings.clock, lambda: newest)
    metadata = open_metadata(settings.metadata_url, settings.project, settings.env)
    registry = Registry(metadata, settings.artifacts_dir, clock.now)
    url = settings.online_url
    backend = plugins.load("online_stores", plugins.scheme(url), least=settings.maturity)
    store = backend.open(url, readonly=True)
    try:
        serve(
            RegistryCatalogue(registry),
            OnlineReader(store),
            clock.now,
            views=known_views(metadata),
            host=host or settings.serve.host,
            port=settings.serve.port if port is None else port,
            allowed_hosts=[name.strip() for name in settings.serve.hosts.split(",") if name.strip()],
            allow_pickle=settings.allow_pickle,
        )
    finally:
        store.close()
        metadata.close()


def known_views(metadata: Metadata) -> list[ViewPlan]:
    """The newest plan of every view that was ever materialized."""
    latest = metadata.stages.latest()
    return [msgspec.convert(r.output, ViewPlan) for (stage, _), r in latest.items() if stage == "view"]


def needs_newest(settings: Settings) -> bool:
    """Whether the environment's clock has to look at the data."""
    return parse_clock(settings.clock) == "data"
