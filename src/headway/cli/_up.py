"""up: console, predictions, schedules and queued runs on one port."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli._show import Dir, Env


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.", show_default="8000")
    ] = None,
    schedule: Annotated[bool, typer.Option(help="Start what schedules say is due.")] = True,
    project: Dir = ".",
    env: Env = None,
) -> None:
    """Serve the console and predictions, and start scheduled and queued runs, until stopped."""
    from headway.console.server import up as serve
    from headway.settings import load_settings

    serve(load_settings(project, env), host=host, port=port, schedules=schedule)
