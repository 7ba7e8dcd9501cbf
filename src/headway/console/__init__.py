"""The console: server-made pages over one environment of one project, usable without JavaScript."""

from headway.console._app import create_app
from headway.console._context import Context

__all__ = ["Context", "create_app"]
