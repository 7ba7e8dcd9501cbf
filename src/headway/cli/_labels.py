"""labels: tell what predictions turned out to be."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli._show import Dir, Env, Json, open_project, print_json

app = typer.Typer(help="What predictions turned out to be.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _labels() -> None:
    """What predictions turned out to be."""


@app.command()
def attach(
    model: str,
    input: Annotated[
        str, typer.Option("--input", "-i", help="Parquet, CSV or NDJSON with request_id (and row) or keys and time.")
    ],
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Attach labels to predictions that were logged; one that is attached again replaces the one before."""
    from headway.orchestrate.predictions.attach import attach_file

    with open_project(project, env) as opened:
        done = attach_file(opened.parts, model, input)
    if json:
        print_json(done)
        return
    how = "request id" if done.by == "request" else "keys and time"
    left = f"; {done.without_label} rows without a label were left out" if done.without_label else ""
    print(f"{done.rows} labels attached to {model} by {how}{left}")
