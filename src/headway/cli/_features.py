"""features list, show, get, materialize, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from headway.cli._show import Dir, Env, Json, fail, moment, open_project, print_json, print_table
from headway.errors import UsageError

app = typer.Typer(help="The feature store.", no_args_is_help=True, rich_markup_mode=None)
Views = Annotated[list[str] | None, typer.Argument(help="Names of views; all if none is given.")]


@app.command("list")
def list_(project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Views with their entity, source, features and freshness."""
    with open_project(project, env) as opened:
        rows = opened.features.listing()
    if json:
        print_json(rows)
        return
    print_table(
        ["view", "entity", "source", "features", "refresh", "online as of", "owner"],
        [(r.name, r.entity, r.source, len(r.features), r.refresh, moment(r.as_of), r.owner) for r in rows],
        "no feature views yet; declare an hw.FeatureView",
    )


@app.command()
def show(view: str, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """One view: its features with types, lineage, who uses it, and the SQL behind it."""
    with open_project(project, env) as opened:
        found = next(r for r in opened.features.listing([view]))
    if json:
        print_json(found)
        return
    print(f"{found.name}: {found.description or 'no description'}")
    for what, value in (
        ("entity", f"{found.entity} ({', '.join(found.keys)})"),
        ("source", f"{found.source} ← {', '.join(found.lineage)}"),
        ("refresh", found.refresh or "none (historical only if it has windows)"),
        ("lag", found.lag or "none"),
        ("ttl", found.ttl or "none"),
        ("online", moment(found.as_of) or "never materialized"),
        ("used by", ", ".join(found.used_by) or "no model"),
        ("declared", found.place),
        ("fingerprint", found.fingerprint),
    ):
        print(f"  {what:<12} {value}")
    print()
    print_table(
        ["feature", "type", "computed as", "window"],
        [(f.name, f.type, f.computed, f.window) for f in found.features],
        "",
    )
    print(f"\n{found.sql}")


@app.command()
def get(
    view: str,
    keys: Annotated[list[str], typer.Argument(help="key=value, or key=1,2,3 for several entities.")],
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """What the online store serves now, e.g. ``headway features get zone_traffic zone_id=74,75``."""
    wanted: dict[str, list[str]] = {}
    for item in keys:
        name, sign, values = item.partition("=")
        if not sign:
            raise UsageError(f"keys are given as name=value, got {item!r}")
        wanted[name] = values.split(",")
    if len({len(v) for v in wanted.values()}) > 1:
        raise UsageError("every key needs the same number of values")
    with open_project(project, env) as opened:
        table = opened.online.read_text(view, wanted)
    rows = table.to_pylist()
    if json:
        print_json(rows)
        return
    for row in rows:
        for name, value in row.items():
            print(f"{name:<32} {value}")
        print()


@app.command()
def materialize(
    views: Views = None,
    until: Annotated[
        str | None, typer.Option(help="An instant in ISO with offset, in place of the clock's now.")
    ] = None,
    full: Annotated[bool, typer.Option(help="Write every entity, not only those that changed.")] = False,
    version: Annotated[str | None, typer.Option(help="MODEL@VERSION: what that version was trained with.")] = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Bring the online store up to the last refresh."""
    from headway.clock import from_iso

    instant = None if until is None else from_iso(until)
    with open_project(project, env) as opened:
        if version is not None:
            name, _, number = version.partition("@")
            if not number.isdigit() or views:
                raise UsageError(f"--version reads MODEL@NUMBER and goes without views, got {version!r}")
            record = opened.models.version(name, int(number))
            plans = {use.plan.fingerprint: use.plan for use in record.serving.views}
            results = opened.features.materialize_plans(list(plans.values()), until=instant, full=full)
        else:
            results = opened.features.materialize(views or None, until=instant, full=full)
    if json:
        print_json(results)
        return
    print_table(
        ["view", "as of", "outcome", "written", "deleted"],
        [(r.view, moment(r.as_of), r.outcome, r.written, r.deleted) for r in results],
        "nothing to materialize: no view has a refresh",
    )


@app.command()
def verify(
    views: Views = None,
    late_limit: Annotated[float, typer.Option(help="Share of time the store may be late.")] = 0.01,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Compute again what is served, and say what differs. The promise is nothing."""
    with open_project(project, env) as opened:
        results = opened.features.verify(views or None, late_limit=late_limit)
    if json:
        print_json(results)
    else:
        print_table(
            ["view", "as of", "entities", "values", "differences", "late"],
            [(r.view, moment(r.as_of), r.entities, r.values, r.differences or 0, f"{r.late:.2%}") for r in results],
            "nothing is online yet; `headway run` materializes",
        )
        for result in results:
            for e in result.examples:
                print(f"  {result.view}.{e.feature} {e.keys}: served {e.served}, recomputed {e.recomputed}")
    absent = [r.view for r in results if r.as_of is None]
    if absent:
        fail(f"not online: {', '.join(absent)}; `headway features materialize` puts them there", 3)
    bad = [r.view for r in results if not r.passed]
    if bad:
        fail(f"what is served is not what history says, or was late too often: {', '.join(bad)}", 3)
