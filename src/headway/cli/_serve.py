"""serve: predictions and features over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli._show import Dir, Env, open_project


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.", show_default="8000")
    ] = None,
    project: Dir = ".",
    env: Env = None,
) -> None:
    """Answer predictions and features over HTTP until stopped; promotions and rollbacks are taken up as they come."""
    from headway.orchestrate.serving import needs_newest, serve_project
    from headway.settings import load_settings

    settings = load_settings(project, env)
    newest = None
    if needs_newest(settings):
        with open_project(project, env) as opened:
            newest = opened.parts.binder.newest()
    serve_project(settings, newest, host=host, port=port)
