"""schedule, which starts what is due until it is stopped; schedules list, pause, resume."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli._show import Dir, Env, Json, moment, open_project, print_json, print_table

if TYPE_CHECKING:
    from headway.define.run_records import RunRecord
    from headway.orchestrate.runs.schedules import ScheduleView
    from headway.project import Project

app = typer.Typer(help="What runs by itself, and when.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="As `headway schedules list` shows it, such as model:trip_duration.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the audit.", show_default=False)]


def schedule(project: Dir = ".", env: Env = None) -> None:
    """Start what is due, and every other queued run, until stopped. Any number may work on one environment."""
    from headway.orchestrate.runs.dispatch import dispatch
    from headway.orchestrate.runs.schedules import keep_going, open_scheduler, scheduled

    with open_project(project, env) as opened, _stopped_by_signals() as stop:
        parts = opened.parts
        number = len(scheduled(opened.declarations))
        print(f"{number} schedule{'' if number == 1 else 's'} of {opened.settings.project}; Ctrl-C stops", flush=True)
        keep_going(
            open_scheduler(parts, opened.runs),
            lambda: dispatch(opened.settings, parts.metadata),
            stop,
            queued=_tell_queued,
            tell=lambda said: print(f"headway: {said}", file=sys.stderr, flush=True),
        )


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Set by Ctrl-C and by SIGTERM; runs that were started go on in processes of their own."""
    stop = threading.Event()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: stop.set()) for kind in kinds]
    try:
        yield stop
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _tell_queued(run: RunRecord) -> None:
    print(f"run {run.id}: {run.schedule}, due {moment(run.slot)}", flush=True)


@app.command("list")
def list_(
    count: Annotated[int, typer.Option(min=1, max=100, help="How many moments to come.")] = 1,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Every schedule: when it is next due, what became of its last moment, who paused it and why."""
    from headway.orchestrate.runs.schedules import next_runs, scheduled

    with open_project(project, env) as opened:
        found = next_runs(scheduled(opened.declarations), opened.parts.metadata, _now(opened), count)
    if json:
        print_json(found)
        return
    print_table(
        ["schedule", "cron", "time zone", "next", "last", "run", "what became of it"],
        [
            (v.name, v.cron, v.timezone, _next(v), moment(v.last.slot) if v.last else None, _run(v), _said(v))
            for v in found
        ],
        "nothing runs by itself; give a model, batch prediction or pipeline schedule=",
    )


@app.command()
def pause(name: Name, why: Why = "", project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Stop a schedule until it is resumed. Runs that are going, go on."""
    from headway.clock import WallClock
    from headway.orchestrate._user import user
    from headway.orchestrate.runs.schedules import pause as pause_it
    from headway.orchestrate.runs.schedules import scheduled

    with open_project(project, env) as opened:
        declared = scheduled(opened.declarations)
        state = pause_it(declared, opened.parts.metadata, name, user(), why, WallClock().now())
    if json:
        print_json(state)
    else:
        print(f"{state.name} is paused; `headway schedules resume {state.name}` lets it go on")


@app.command()
def resume(name: Name, why: Why = "", project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Let a schedule go on from now; what was due while it was paused is not owed."""
    from headway.clock import WallClock
    from headway.orchestrate._user import user
    from headway.orchestrate.runs.schedules import resume as resume_it
    from headway.orchestrate.runs.schedules import scheduled

    with open_project(project, env) as opened:
        declared, now = scheduled(opened.declarations), opened.parts.clock.now()
        state = resume_it(declared, opened.parts.metadata, name, user(), why, WallClock().now(), now)
    if json:
        print_json(state)
    else:
        print(f"{state.name} goes on")


def _now(opened: Project) -> int | None:
    """The environment's clock; None while it follows data that is not there yet."""
    from headway.errors import DataError

    try:
        return opened.parts.clock.now()
    except DataError:
        return None


def _next(view: ScheduleView) -> str | None:
    if view.state is not None and view.state.paused:
        why = f": {view.state.why}" if view.state.why else ""
        return f"paused by {view.state.by} at {moment(view.state.at)}{why}"
    return ", ".join(moment(slot) or "" for slot in view.next) or None


def _run(view: ScheduleView) -> int | None:
    return view.last.run if view.last is not None else None


def _said(view: ScheduleView) -> str | None:
    """What became of the last moment."""
    if view.run is not None:
        return f"{view.run.status}{': ' if view.run.error else ''}{view.run.error}"
    return f"skipped: {view.last.why}" if view.last is not None else None
