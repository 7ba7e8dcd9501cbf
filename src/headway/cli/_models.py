"""train, models list, show, compare, promote, release; rollback."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headway.cli._show import Dir, Env, Json, fail, moment, open_project, print_json, print_table
from headway.define.records import VersionRecord

app = typer.Typer(help="Versions of models, and which one answers.", no_args_is_help=True, rich_markup_mode=None)
Segment = Annotated[str | None, typer.Option("--segment", help="Only this segment.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the log.", show_default=False)]


def train(model: str, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Train and register a model, and say what its gate thinks; nothing is promoted."""
    with open_project(project, env) as opened:
        record, gate, fresh = opened.train(model)
        opened.models.project_to_mlflow()
    if json:
        print_json({"version": record, "gate": gate, "trained": fresh})
    else:
        print(f"{model}@{record.version} {'trained' if fresh else 'has these very inputs: nothing to train'}")
        _print_figures(record)
        print(f"gate: {'passed' if gate.passed else 'refused'}: {gate.reason}")
    if not gate.passed:
        fail(f"the gate refuses version {record.version}: {gate.reason}", 3)


@app.command("list")
def list_(project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Every model: what answers, since when, decided by whom, and how good it is."""
    with open_project(project, env) as opened:
        rows: list[dict[str, Any]] = opened.models.overview()
    if json:
        print_json(rows)
        return
    print_table(
        ["model", "segment", "live", "since", "by", "metric", "test", "baseline", "versions", "held"],
        [
            (
                r["model"],
                r["segment"] or "all",
                r["live"],
                moment(r["since"]),
                r["by"],
                r["metric"],
                r["figure"],
                r["baseline"],
                r["versions"],
                "yes" if r["held"] else "",
            )
            for r in rows
        ],
        "no models yet; declare an hw.Model",
    )


@app.command()
def show(
    model: str,
    version: Annotated[int | None, typer.Argument(help="The live version if none is given.")] = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """A version with its figures and the world it is pinned to, and the model's deployment log."""
    with open_project(project, env) as opened:
        versions = opened.models.versions(model)
        live = opened.models.champion(model)
        record = (
            opened.models.version(model, version)
            if version is not None
            else live or (versions[-1] if versions else None)
        )
        log = opened.models.log(model)
        run = opened.models.mlflow_run(record) if record else None
    if json:
        print_json({"version": record, "live": live.version if live else None, "log": log})
        return
    if record is None:
        print(f"{model} has no version yet; `headway run {model}` trains one")
        return
    print(f"{model}@{record.version}{' (live)' if live and live.version == record.version else ''}")
    for what, value in (
        ("trained", moment(record.created_at)),
        ("rows", f"{record.train_rows} to learn from, {record.test_rows} to test on"),
        ("test from", moment(record.cut)),
        ("commit", f"{record.commit or 'none'}{' and uncommitted changes' if record.dirty else ''}"),
        ("data", ", ".join(f"{t}@{v}" for t, v in record.data.items())),
        ("training set", record.data_digest),
        ("environment", record.environment[:16]),
        ("mlflow run", run or "not projected yet"),
    ):
        print(f"  {what:<14} {value}")
    _print_figures(record)
    print()
    print_table(
        ["at", "action", "segment", "version", "by", "why"],
        [(moment(d.at), d.action, d.segment or "all", d.version, d.by, d.why) for d in log],
        "no decision yet",
    )


def _print_figures(record: VersionRecord) -> None:
    names = list(record.metrics)
    rows = [("overall", *(record.metrics[n] for n in names)), ("baseline", *(record.baseline.get(n) for n in names))]
    rows += [(s, *(figures.get(n) for n in names)) for s, figures in sorted(record.segment_metrics.items())]
    print_table(["test", *names], rows, "")


@app.command()
def compare(model: str, a: int, b: int, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """What tells one version from another: figures, parameters, features, data, code."""
    with open_project(project, env) as opened:
        found = opened.models.compare(model, a, b)
    if json:
        print_json(found)
        return
    print_table(
        ["metric", "segment", f"@{a}", f"@{b}", "change"],
        [(m.metric, m.segment or "overall", m.a, m.b, _change(m.a, m.b)) for m in found.metrics],
        "no figures to compare",
    )
    print()
    print_table(
        ["what", "name", f"@{a}", f"@{b}"],
        [
            (what, c.name, c.a, c.b)
            for what, changes in (
                ("parameter", found.params),
                ("feature", found.features),
                ("data", found.data),
                ("fact", found.facts),
            )
            for c in changes
        ],
        "nothing else differs",
    )


def _change(a: float | None, b: float | None) -> str:
    return "-" if a is None or b is None or a == 0 else f"{(b - a) / abs(a):+.2%}"


@app.command()
def promote(
    model: str,
    version: int,
    why: Why = "",
    segment: Segment = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Make a version answer, by hand. Its features are materialized first."""
    with open_project(project, env) as opened:
        line = opened.models.promote(model, version, segment, why=why)
        opened.models.project_to_mlflow()
    if json:
        print_json(line)
    else:
        print(f"{model}@{version} answers now{f' for {segment}' if segment else ''}")


@app.command()
def release(
    model: str, why: Why = "", segment: Segment = None, project: Dir = ".", env: Env = None, json: Json = False
) -> None:
    """Allow automatic promotion again after a rollback."""
    with open_project(project, env) as opened:
        line = opened.models.release(model, segment, why=why)
    if json:
        print_json(line)
    else:
        print(f"promotion of {model} is automatic again" if line else f"promotion of {model} was not held")


def rollback(
    model: str, why: Why = "", segment: Segment = None, project: Dir = ".", env: Env = None, json: Json = False
) -> None:
    """Make the version that answered before answer again, and hold automatic promotion."""
    with open_project(project, env) as opened:
        before = opened.models.champion(model, segment)
        line = opened.models.rollback(model, segment, why=why)
        if json:
            print_json(line)
        else:
            of = f"version {before.version}" if before else "nothing"
            print(
                f"{model}@{line.version} answers again{f' for {segment}' if segment else ''} in place of {of};"
                f" automatic promotion is held until `headway models release {model}`",
                flush=True,
            )
        opened.models.project_to_mlflow()
