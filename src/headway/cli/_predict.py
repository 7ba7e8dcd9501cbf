"""predict: score a file."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli._show import Dir, Env, Json, open_project, print_json


def predict(
    model: str,
    input: Annotated[str, typer.Option("--input", "-i", help="Parquet, CSV or NDJSON with keys and request inputs.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Parquet, CSV or NDJSON to write.")],
    version: Annotated[int | None, typer.Option(help="A version other than the live one.")] = None,
    no_log: Annotated[bool, typer.Option("--no-log", help="Leave these rows out of the prediction log.")] = False,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Score a file in bounded memory: every row comes out, in order, with prediction, version and segment."""
    with open_project(project, env) as opened:
        rows, used = opened.predict_file(model, input, output, version=version, log=not no_log)
    if json:
        print_json({"rows": rows, "version": used, "output": output})
    else:
        print(f"{rows} rows scored by {model}@{used} → {output}")
