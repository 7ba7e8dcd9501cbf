"""plan, run and check."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli._show import Dir, Env, Json, fail, open_project, print_json, print_table

if TYPE_CHECKING:
    from headway.orchestrate.run import Done

Targets = Annotated[list[str] | None, typer.Argument(help="Sources, views, models or batch predictions.")]


def plan(targets: Targets = None, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Show what would run, what is up to date, and why."""
    with open_project(project, env) as opened:
        items = opened.plan(*(targets or ()))
    if json:
        print_json(items)
        return
    print_table(
        ["stage", "target", "", "why"],
        [(i.stage, i.target, "would run" if i.stale else "up to date", i.why) for i in items],
        "the project declares nothing yet; add an hw.Source to its package",
    )
    stale = sum(i.stale for i in items)
    print(f"\n{stale} of {len(items)} stages would run" if stale else "\neverything is up to date")


def run(targets: Targets = None, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Check data, compute features, train, judge, promote, materialize: whatever is not up to date."""
    from headway.orchestrate.unchanged import LastRun
    from headway.settings import load_settings

    settings = load_settings(project, env)
    last = LastRun(settings, tuple(targets or ()))
    if last.holds():
        if json:
            print_json([])
        else:
            print("nothing to do: sources, code and settings are as they were at the last run")
        return
    _run_through(project, env, tuple(targets or ()), json, last)


def _run_through(project: str, env: str | None, targets: tuple[str, ...], json: bool, last: object) -> None:
    from headway.errors import CheckFailed, GateRefused
    from headway.orchestrate.unchanged import LastRun

    assert isinstance(last, LastRun)
    seen: list[Done] = []

    def report(done: Done) -> None:
        seen.append(done)
        if not json:
            _print_done(done)

    begun = last.begin()
    refused = ""
    with open_project(project, env) as opened:
        try:
            opened.run(*targets, report=report)
        except (CheckFailed, GateRefused) as error:
            refused = str(error)
        warnings = opened.models.project_to_mlflow()
        if not refused and not warnings:
            last.remember(begun, opened.parts)
    if json:
        print_json(seen)
    elif not any(d.outcome == "done" for d in seen) and not refused:
        print("nothing to do: everything is up to date")
    for warning in warnings:
        print(f"headway: warning: {warning}", file=sys.stderr)
    if refused:
        fail(refused, 3)


def _print_done(done: Done) -> None:
    sign = {"done": "✓", "cached": "·", "refused": "✗", "failed": "✗", "skipped": "-"}[done.outcome]
    time = f"  {done.seconds:.1f} s" if done.outcome == "done" else ""
    print(f"{sign} {done.stage:<12} {done.target:<20} {done.detail}{time}", flush=True)


def check(sources: Targets = None, project: Dir = ".", env: Env = None, json: Json = False) -> None:
    """Run data checks now, on some sources or all of them."""
    from headway.data.quality import raise_for

    with open_project(project, env) as opened:
        results = opened.check(*(sources or ()))
    if json:
        print_json(results)
    else:
        print_table(
            ["source", "check", "rows", "failed", "", "detail"],
            [(r.source, r.check, r.rows, r.failed, "ok" if r.passed else r.on_fail, r.detail) for r in results],
            "no source has checks; give one checks=[hw.not_null(...)]",
        )
    raise_for(results)
