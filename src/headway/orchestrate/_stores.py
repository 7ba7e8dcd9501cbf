"""Opening the online store that an environment names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from headway import plugins
from headway.settings import Settings

if TYPE_CHECKING:
    from headway.data.online import OnlineStore


def online_opener(settings: Settings) -> Callable[[bool], OnlineStore]:
    """How to open the environment's online store; the argument says read-only."""

    @cache
    def chosen() -> plugins.Backend:
        return online_backend(settings)

    return lambda readonly: chosen().open(settings.online_url, readonly=readonly, namespace=settings.namespace)


def online_backend(settings: Settings) -> plugins.Backend:
    """The backend that the environment's setting names, if it is installed and mature enough."""
    return plugins.load("online_stores", plugins.scheme(settings.online_url), least=settings.maturity)
