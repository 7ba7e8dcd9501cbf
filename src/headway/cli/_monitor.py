"""monitor, status, and alerts list, ack, silence, resolve, test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli._show import Dir, Env, Json, fail, moment, open_project, print_json, print_table

if TYPE_CHECKING:
    from headway.define.watch_records import Alert
    from headway.orchestrate.monitoring.stage import Watched

app = typer.Typer(help="What somebody should look at.", no_args_is_help=True, rich_markup_mode=None)
Id = Annotated[int, typer.Argument(help="The number of the alert, as `headway alerts list` shows it.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for whoever comes after.", show_default=False)]
_SHOWN = 3  # findings of each kind that are printed


def monitor(
    model: Annotated[str | None, typer.Argument(help="A model; all if none is given.")] = None,
    until: Annotated[
        str | None, typer.Option(help="An instant in ISO with offset, in place of the clock's now.")
    ] = None,
    report: Annotated[str | None, typer.Option(help="Also write the reports of this run into this folder.")] = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Look at every window of predictions that has ended: data, drift, performance; raise alerts, write reports."""
    from pathlib import Path

    from headway.clock import from_iso

    instant = None if until is None else from_iso(until)
    with open_project(project, env) as opened:
        found = opened.monitoring.run(model, until=instant, reports=None if report is None else Path(report))
    if json:
        print_json(found)
    else:
        for watched in found:
            _print_watched(watched)
    for warning in dict.fromkeys(w for watched in found for w in watched.warnings):
        print(f"headway: warning: {warning}", file=sys.stderr)
    alerts = [a for watched in found for a in watched.alerts]
    if alerts:
        named = list(dict.fromkeys(a.title for a in alerts))
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        fail(f"{len(alerts)} alert{'s' if len(alerts) > 1 else ''}: {'; '.join(named[:3])}{more}", 3)


def _print_watched(watched: Watched) -> None:
    print(f"{watched.model}: {watched.said}")
    empty = 0
    for window in (*watched.windows, None):
        if window is not None and not window.rows:
            empty += 1
            continue
        if empty:
            print(f"  {empty} window{'s' if empty > 1 else ''} without predictions")
            empty = 0
        if window is not None:
            span = f"{moment(window.window_start)} to {moment(window.window_end)}"
            print(f"  {span}  {window.rows:,} rows  {window.verdict}")
    _print_findings(watched)
    for line in (*watched.actions, *(f"resolved: {a.title}" for a in watched.resolved)):
        print(f"  {line}")
    for path in watched.reports[-1:]:
        print(f"  report: {path}")


def _print_findings(watched: Watched) -> None:
    """What alarms in the newest window, of all rows together: the worst of each kind, in words."""
    last = watched.windows[-1] if watched.windows else None
    alarms = [f for f in last.alarms if f.segment is None] if last else []
    kinds = dict.fromkeys(f.kind for f in alarms)
    shown = [f for kind in kinds for f in [a for a in alarms if a.kind == kind][:_SHOWN]]
    for figure in shown:
        print(f"    {figure.severity:<9} {figure.kind:<12} {figure.said or figure.name}")
    segments = sorted({f.segment for f in last.alarms if f.segment is not None}) if last else []
    more = [f"{len(alarms) - len(shown)} more findings"] if len(alarms) > len(shown) else []
    more += [f"segments {', '.join(segments)}"] if segments else []
    if more:
        print(f"    and {'; '.join(more)}: see the report")


def status(project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """What is wrong now, worst first. Ends with 3 if anything is."""
    with open_project(project, env) as opened:
        found = opened.monitoring.status()
    if json:
        print_json(found)
    else:
        for trouble in found:
            print(f"{trouble.severity:<9} {trouble.kind:<12} {trouble.what}: {trouble.text}")
            if trouble.mend:
                print(f"{'':<9} {'':<12} → {trouble.mend}")
        if not found:
            print("all is well")
    if any(t.severity != "info" for t in found):
        sys.exit(3)


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Argument(help="Only those of a model.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that are resolved, too.")] = False,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Alerts that are not resolved, worst first."""
    states = ("open", "acknowledged", "resolved") if everything else ("open", "acknowledged")
    with open_project(project, env) as opened:
        found = opened.monitoring.alerts(model, state=states)  # type: ignore[arg-type]
        silences = opened.monitoring.desk.silences()
    if json:
        print_json(found)
        return
    print_table(
        ["id", "severity", "state", "since", "last", "count", "what"],
        [(a.id, a.severity, _state(a), _second(a.first_at), _second(a.last_at), a.count, a.title) for a in found],
        "no alert is open",
    )
    for silence in silences:
        of = silence.key_prefix or "everything"
        print(f"silent until {_second(silence.until)}: {of} ({silence.by}: {silence.why})")


def _second(at: int) -> str | None:
    return moment(at // 1_000_000 * 1_000_000)


def _state(alert: Alert) -> str:
    return f"{alert.state} by {alert.by}" if alert.state == "acknowledged" else alert.state


@app.command()
def ack(id: Id, why: Why = "", project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Say that you are looking into an alert: nobody is told of it again."""
    with open_project(project, env) as opened:
        alert = opened.monitoring.acknowledge(id, why=why)
    if json:
        print_json(alert)
    else:
        print(f"alert {id} acknowledged: {alert.title}")


@app.command()
def resolve(id: Id, why: Why = "", project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Say that it is over. Monitoring does so by itself when a later window is clean."""
    with open_project(project, env) as opened:
        alert = opened.monitoring.resolve(id, why=why)
    if json:
        print_json(alert)
    else:
        print(f"alert {id} resolved: {alert.title}")


@app.command()
def silence(
    key: Annotated[str, typer.Argument(help="Key of an alert or the beginning of keys, such as trip_duration/drift.")],
    length: Annotated[str, typer.Option("--for", help="How long, such as 2d.")] = "1d",
    why: Why = "",
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Tell nobody of some alerts for a while; they are still found and listed."""
    with open_project(project, env) as opened:
        found = opened.monitoring.silence(key, length=length, why=why)
    if json:
        print_json(found)
    else:
        print(f"nobody is told of {key or 'anything'} until {_second(found.until)}")


@app.command("test")
def send_test(project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Send a test alert to every channel of the settings."""
    with open_project(project, env) as opened:
        found = opened.monitoring.desk.test()
    if json:
        print_json(found)
    else:
        print_table(
            ["channel", "", "attempts", "error"],
            [(d.channel, "sent" if d.ok else "failed", d.attempts, d.error) for d in found],
            "no channel is set; give the environment alerts.webhook, alerts.slack, alerts.email or alerts.command",
        )
    if not all(d.ok for d in found):
        fail(f"{', '.join(d.channel for d in found if not d.ok)} did not take the test alert", 1)
