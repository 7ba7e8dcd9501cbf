"""predictions: what was predicted, from the prediction log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli._show import Dir, Env, Json, moment, print_json, print_table

if TYPE_CHECKING:
    from headway.data.lake import Lake
    from headway.settings import Settings

app = typer.Typer(help="The prediction log.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Every model with logged predictions: how many, of which time, and how many were not kept."""
    from headway.data.predictions import overview

    _, lake = _compacted(project, env)
    found = overview(lake)
    if json:
        print_json(found)
        return
    print_table(
        ["model", "rows", "since", "until", "dropped", "labels"],
        [(m.model, m.rows, moment(m.since), moment(m.until), _dropped(m.dropped), m.labels) for m in found],
        "no predictions yet; `headway serve` and `headway predict` log them",
    )


def _dropped(by_reason: dict[str, int]) -> str:
    return ", ".join(f"{rows} ({reason})" for reason, rows in sorted(by_reason.items())) or "0"


@app.command()
def show(
    request_id: str,
    model: Annotated[str | None, typer.Option(help="Look at this model's predictions only.")] = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """A request's rows: what came in, what the estimator was given, what it said."""
    from headway.data.predictions import find

    _, lake = _compacted(project, env)
    rows = [_told(row) for row in find(lake, request_id, model).to_pylist()]
    if json:
        print_json(rows)
        return
    for row in rows[:_SHOWN]:
        print_table(["", f"row {row['row']}"], [(k, v) for k, v in row.items() if v is not None], "")
        print()
    if len(rows) > _SHOWN:
        print(f"and {len(rows) - _SHOWN} rows more; --json prints them all")


_SHOWN = 10


def _told(row: dict[str, Any]) -> dict[str, Any]:
    import datetime

    return {
        name: value.astimezone(datetime.UTC).replace(tzinfo=None).isoformat() + "Z"
        if isinstance(value, datetime.datetime)
        else value
        for name, value in row.items()
    }


@app.command()
def compact(project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Move what servers have written into the lake; reading the log does so by itself."""
    from headway.data.predictions import compact as move

    settings, lake = _lake(project, env)
    done = move(lake, settings.home)
    if json:
        print_json({"rows": dict(done.rows), "removed": done.removed, "torn": dict(done.torn)})
        return
    rows = [(table, count) for table, count in sorted(done.rows.items())]
    print_table(["table", "rows"], rows, "nothing was waiting: all that was logged is in the lake")


def _lake(project: str, env: str | None) -> tuple[Settings, Lake]:
    """The lake, without the project: its code need not be imported."""
    from headway import plugins
    from headway.settings import load_settings

    settings = load_settings(project, env)
    backend = plugins.load("lakes", plugins.scheme(settings.lake_uri), least=settings.maturity)
    lake: Lake = backend.open(settings.lake_uri)
    return settings, lake


def _compacted(project: str, env: str | None) -> tuple[Settings, Lake]:
    from headway.data.predictions import compact as move

    settings, lake = _lake(project, env)
    move(lake, settings.home)
    return settings, lake
