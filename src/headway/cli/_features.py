"""features list, show, get, materialize, backfill, historical, verify, retire."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Annotated

import typer

from headway.cli._show import Dir, Env, Json, fail, moment, open_project, print_json, print_table
from headway.errors import UsageError

if typing.TYPE_CHECKING:
    from headway.monitor.verify import VerifyResult
    from headway.orchestrate.catalog import SetEntry, ViewEntry

app = typer.Typer(help="The feature store.", no_args_is_help=True, rich_markup_mode=None)
Views = Annotated[list[str] | None, typer.Argument(help="Names of views; all if none is given.")]


@app.command("list")
def list_(
    sets: Annotated[bool, typer.Option("--sets", help="Feature sets instead of views.")] = False,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Views with their entity, source, features, freshness, and who uses them; or feature sets."""
    with open_project(project, env) as opened:
        if sets:
            _list_sets(opened.features.set_listing(), json)
            return
        rows = opened.features.listing()
    if json:
        print_json(rows)
        return
    print_table(
        ["view", "entity", "source", "features", "refresh", "as of", "freshness", "verified", "used by", "owner"],
        [
            (r.name, r.entity, r.source, len(r.features), r.refresh, moment(r.as_of), _fresh(r), _parity(r.verified),
             [*r.used_by, *r.sets] or None, r.owner)
            for r in rows
        ],
        "no feature views yet; declare an hw.FeatureView",
    )  # fmt: skip


def _list_sets(found: Sequence[SetEntry], json: bool) -> None:
    if json:
        print_json(found)
        return
    print_table(
        ["set", "keys", "features", "views", "owner"],
        [(s.name, s.keys, len(s.columns), s.views, s.owner) for s in found],
        "no feature sets yet; declare an hw.FeatureSet",
    )


@app.command()
def show(
    view: str,
    stats: Annotated[bool, typer.Option("--stats", help="Work the statistics out now, and keep them.")] = False,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """One view: its features with types, statistics and lineage, who uses it, its code and its SQL."""
    with open_project(project, env) as opened:
        if stats:
            opened.features.statistics(view)
        found = next(r for r in opened.features.listing([view]))
    if json:
        print_json(found)
        return
    print(f"{found.name}: {found.description or 'no description'}")
    for what, value in _facts(found):
        print(f"  {what:<12} {value}")
    print()
    print_table(
        ["feature", "type", "computed as", "window", "from", "models"],
        [(f.name, f.type, f.computed, f.window, f.origins or None, f.models or None) for f in found.features],
        "",
    )
    _print_statistics(found)
    if found.code:
        print(f"\n# {found.place}\n{found.code}")
    print(f"\n{found.sql}")


def _fresh(entry: ViewEntry) -> str:
    from headway.orchestrate.monitoring.alerts import about

    return f"{entry.fresh} by {about(entry.late_by)}" if entry.late_by else entry.fresh


def _parity(found: VerifyResult | None) -> str | None:
    """The outcome of a view's last verification in a word or two."""
    if found is None:
        return None
    wrong = f"{found.wrong:,} wrong" if found.wrong else ""
    late = f"late {found.late:.1%}" if found.late > found.late_limit else ""
    return ", ".join(filter(None, (wrong, late))) or "equal"


def _facts(found: ViewEntry) -> list[tuple[str, str]]:
    versions = [f"{v.model}@{v.version} ({v.role}{'' if v.same else ', another definition'})" for v in found.versions]
    keys = [key if key == column else f"{key} = {column}" for key, column in found.key_columns.items()]
    online = moment(found.as_of) or "never materialized"
    expected = f", expected {moment(found.expected)}" if found.late_by else ""
    facts = [
        ("owner", found.owner or "nobody named"),
        ("tags", ", ".join(found.tags)),
        ("entity", f"{found.entity} ({', '.join(keys)})"),
        ("source", " ← ".join([found.source, ", ".join(found.lineage)] if found.lineage else [found.source])),
        ("time", ", ".join(found.time_columns) or "none: timeless"),
        ("refresh", found.refresh or "none (historical only if it has windows)"),
        ("lag", found.lag or "none"),
        ("ttl", found.ttl or "none"),
        ("online", f"{online} ({_fresh(found)}{expected})" if found.as_of is not None else online),
        ("verified", _verified(found)),
        ("used by", ", ".join(found.used_by) or "no model"),
        ("functions", ", ".join(found.functions)),
        ("sets", ", ".join(found.sets)),
        ("versions", ", ".join(versions)),
        ("declared", found.place),
        ("fingerprint", found.fingerprint),
    ]
    return [(what, value) for what, value in facts if value]


def _verified(found: ViewEntry) -> str:
    last = found.verified
    if last is None:
        return f"never; `headway features verify {found.name}`"
    said = "; ".join(last.findings()) or f"{last.values:,} values equal"
    return f"{said}, as of {moment(last.as_of)}"


def _print_statistics(found: ViewEntry) -> None:
    kept = found.statistics
    if kept is None:
        if found.as_of is not None:
            print(f"\nno statistics yet; `headway features show {found.name} --stats` works them out")
        return
    each = [(f.name, kept.features[f.name]) for f in found.features if f.name in kept.features]
    print(f"\nvalues of {kept.entities:,} entities as of {moment(kept.as_of)}")
    print_table(
        ["feature", "null", "different", "least", "5 %", "median", "95 %", "greatest", "mean", "spread"],
        [
            (name, None if s.null_share is None else f"{s.null_share:.1%}", s.distinct, s.least,
             *([s.quantiles[at] for at in (0, 2, 4)] if s.quantiles else [None] * 3), s.greatest, s.mean,
             s.sparkline() if s.quantiles else [f"{v.value} {v.share:.0%}" for v in s.shares[:3]])
            for name, s in each
        ],
        "",
    )  # fmt: skip


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A view or a feature set.")],
    keys: Annotated[list[str], typer.Argument(help="key=value, or key=1,2,3 for several entities.")],
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """What the online store serves now of a view or a set, e.g. ``headway features get zone_traffic zone_id=74,75``."""
    wanted: dict[str, list[str]] = {}
    for item in keys:
        key, sign, values = item.partition("=")
        if not sign:
            raise UsageError(f"keys are given as name=value, got {item!r}")
        wanted[key] = values.split(",")
    rows = max(map(len, wanted.values()))
    wanted = {key: values * rows if len(values) == 1 else values for key, values in wanted.items()}
    if len({len(v) for v in wanted.values()}) > 1:
        raise UsageError("every key needs the same number of values, or one that stands for every row")
    with open_project(project, env) as opened:
        table = opened.online.read_text(name, wanted)
    found = table.to_pylist()
    if json:
        print_json(found)
        return
    for row in found:
        for name, value in row.items():
            print(f"{name:<32} {value}")
        print()


@app.command()
def materialize(
    views: Views = None,
    until: Annotated[
        str | None, typer.Option(help="An instant in ISO with offset, in place of the clock's now.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="An instant: write entities with rows known since then, even if the data is another."),
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
    begin = None if since is None else from_iso(since)
    if begin is not None and full:
        raise UsageError("--full writes every entity and --since some; give one of them")
    with open_project(project, env) as opened:
        if version is not None:
            name, _, number = version.partition("@")
            if not number.isdigit() or views:
                raise UsageError(f"--version reads MODEL@NUMBER and goes without views, got {version!r}")
            record = opened.models.version(name, int(number))
            plans = {use.plan.fingerprint: use.plan for use in record.serving.views}
            results = opened.features.materialize_plans(list(plans.values()), until=instant, full=full, since=begin)
        else:
            results = opened.features.materialize(views or None, until=instant, full=full, since=begin)
    if json:
        print_json(results)
        return
    print_table(
        ["view", "as of", "outcome", "written", "deleted"],
        [(r.view, moment(r.as_of), r.outcome, r.written, r.deleted) for r in results],
        "nothing to materialize: no view has a refresh",
    )


@app.command()
def backfill(
    views: Annotated[list[str], typer.Argument(help="Names of views.")],
    since: Annotated[str, typer.Option(help="The first moment: an instant in ISO with offset.")],
    until: Annotated[str | None, typer.Option(help="The last moment; the clock's now by default.")] = None,
    every: Annotated[
        str | None, typer.Option(help="A multiple of the refresh, such as 1d; the refresh by default.")
    ] = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Keep the history of views' values as tables of the lake."""
    with open_project(project, env) as opened:
        results = opened.features.backfill(views, since, until, every=every)
    if json:
        print_json(results)
        return
    print_table(
        ["view", "table", "from", "to", "slices", "written", "rows"],
        [(r.view, r.table, moment(r.start), moment(r.end), r.slices, r.written, r.rows) for r in results],
        "nothing to backfill",
    )


@app.command()
def historical(
    views: Annotated[list[str], typer.Argument(help="Names of views and feature sets.")],
    spine: Annotated[str, typer.Option(help="A Parquet, CSV or NDJSON file with keys and moments.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write, with the features' columns.")],
    timestamp: Annotated[str, typer.Option(help="The column with each row's moment.")] = "ts",
    timezone: Annotated[str | None, typer.Option(help="The zone of that column, if it is naive.")] = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """The features of a file's rows, as they were known at each row's moment; the file may be of any size."""
    with open_project(project, env) as opened:
        rows = opened.features.historical_file(spine, views, output, timestamp=timestamp, timezone=timezone)
    if json:
        print_json({"rows": rows, "output": output})
        return
    print(f"{rows} rows written to {output}")


@app.command()
def verify(
    views: Views = None,
    late_limit: Annotated[float, typer.Option(help="Share of time the store may be late.")] = 0.01,
    sample: Annotated[
        int | None, typer.Option(help="Compare the values of so many entities; 0: of all.", show_default="1000000")
    ] = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Compute again what is served, and say what differs. The promise is nothing."""
    with open_project(project, env) as opened:
        results = opened.features.verify(views or None, late_limit=late_limit, sample=sample)
    if json:
        print_json([{n: getattr(r, n) for n in (*r.__struct_fields__, "passed")} for r in results])
    else:
        _print_verified(results)
    absent = [r.view for r in results if r.as_of is None]
    if absent:
        fail(f"not online: {', '.join(absent)}; `headway features materialize` puts them there", 3)
    bad = [f"{r.view}: {', '.join(r.findings())}" for r in results if not r.passed]
    if bad:
        fail(f"what is served is not what history says, or was late too often: {'; '.join(bad)}", 3)


def _print_verified(results: Sequence[VerifyResult]) -> None:
    print_table(
        ["view", "as of", "entities", "values", "differences", "lost", "ghosts", "late"],
        [
            (r.view, moment(r.as_of), f"{r.entities} of {r.known}" if r.entities < r.known else r.entities, r.values,
             r.differences or 0, r.lost, r.ghosts, f"{r.late:.2%}")
            for r in results
        ],
        "nothing is online yet; `headway run` materializes",
    )  # fmt: skip
    for result in results:
        for e in result.examples:
            print(f"  {result.view}.{e.feature} {e.keys}: served {e.served}, recomputed {e.recomputed}")
        for what, examples in (("lost", result.lost_examples), ("ghost", result.ghost_examples)):
            for keys in examples:
                print(f"  {result.view} {what} {keys}")


@app.command()
def retire(
    view: Annotated[str, typer.Argument(help="A view that is not declared any more, or the fingerprint of one.")],
    why: Annotated[str, typer.Option(help="The reason, for the audit.")],
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Take a view out of use: its rows leave the online store, its name what servers offer."""
    with open_project(project, env) as opened:
        done = opened.features.retire(view, why=why)
    if json:
        print_json(done)
        return
    names = f"; servers offer {', '.join(done.names)} no more" if done.names else ""
    print(f"retired {done.view}: {done.rows:,} rows dropped from the online store{names}")
