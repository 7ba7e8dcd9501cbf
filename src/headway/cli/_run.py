"""plan and run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from headway.cli._show import Dir, Env, Json, fail, open_project, print_json, print_table

if TYPE_CHECKING:
    from headway.define.run_records import RunRecord
    from headway.orchestrate.run import Done
    from headway.orchestrate.unchanged import LastRun
    from headway.project import Project

Targets = Annotated[list[str] | None, typer.Argument(help="Sources, views, models, batch predictions, or a pipeline.")]
Params = Annotated[
    list[str] | None, typer.Option("--param", help="A pipeline's parameter, as name=value; may be given many times.")
]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="One of the values a pipeline fans out over, as name=value.")
]

_WORDS = {"run": "would run", "cached": "up to date", "depends": "depends", "skip": "skipped"}

# A pipeline's parameters are options too, which nobody knows before the project is loaded.
UNKNOWN_OPTIONS = {"ignore_unknown_options": True}


def plan(
    targets: Targets = None,
    param: Params = None,
    only: Only = None,
    why: Annotated[bool, typer.Option("--why", help="Only what would run, and what makes it.")] = False,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Show what would run, what is up to date, and why."""
    names, options = split_options(targets or ())
    params, picked = {**named_values(param or ()), **options}, named_values(only or ())
    with open_project(project, env) as opened:
        draft = opened.runs.draft(names, params, only=picked)
        steps = opened.runs.plan(draft.name, draft.params) if draft.kind == "pipeline" else None
        items = opened.plan(*names) if steps is None else []
    if steps is not None:
        steps = [s for s in steps if not why or s.status in ("run", "depends")]
        rows: list[tuple[str, ...]] = [(s.key, _WORDS[s.status], s.why) for s in steps]
        would, total = sum(s.status in ("run", "depends") for s in steps), len(steps)
    else:
        would, total = sum(i.stale for i in items), len(items)
        items = [i for i in items if i.stale or not why]
        rows = [(i.stage, i.target, "would run" if i.stale else "up to date", i.why) for i in items]
    if json:
        print_json(items if steps is None else steps)
        return
    columns = ["stage", "target", "", "why"] if steps is None else ["step", "", "why"]
    print_table(columns, rows, "" if total else "the project declares nothing yet; add an hw.Source to its package")
    print(f"\n{would} of {total} stages would run" if would else "\neverything is up to date")


def run(
    targets: Targets = None,
    param: Params = None,
    only: Only = None,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Check data, compute features, train, judge, promote, materialize: whatever is not up to date. Or run a pipeline;
    its parameters are options too."""
    from headway.orchestrate.unchanged import LastRun
    from headway.settings import load_settings

    names, options = split_options(targets or ())
    params, picked = {**named_values(param or ()), **options}, named_values(only or ())
    settings = load_settings(project, env)
    last = LastRun(settings, names)
    if not params and not picked and last.holds():
        if json:
            print_json([])
        else:
            print("nothing to do: sources, code and settings are as they were at the last run")
        return
    begun = last.begin()
    with open_project(project, env) as opened:
        draft = opened.runs.draft(names, params, only=picked)
        carry_out(opened, draft, json, last, begun)


def carry_out(opened: Project, draft: RunRecord, json: bool, last: LastRun | None = None, begun: str = "") -> None:
    """Carry a run out and show what becomes of its stages; raises what the run ended with.

    ``last`` remembers, with the state of the code that ``last.begin`` gave, that there is nothing to do.
    """
    from headway.errors import CheckFailed, GateRefused, HeadwayError

    seen: list[Done] = []
    failed: HeadwayError | None = None
    shown = sys.stdout  # while a step runs, what is printed goes to its log too

    def report(done: Done) -> None:
        seen.append(done)
        if not json:
            print_done(done, shown)

    try:
        with redirect_stdout(sys.stderr) if json else nullcontext():  # what steps print is not JSON
            opened.runs.carry_out(draft, report, lambda run: print(f"  run {run.id}", file=sys.stderr, flush=True))
    except (CheckFailed, GateRefused) as error:
        failed = error
    except HeadwayError as error:
        if json and seen:
            print_json(seen)
        raise error
    warnings = opened.models.project_to_mlflow()
    if failed is None and not warnings and last is not None and draft.kind == "project":
        last.remember(begun, opened.parts)
    if json:
        print_json(seen)
    elif failed is None and not any(d.outcome == "done" for d in seen):
        print("nothing to do: everything is up to date")
    for warning in warnings:
        print(f"headway: warning: {warning}", file=sys.stderr)
    if failed is not None:
        fail(str(failed), 3)


def print_done(done: Done, file: TextIO | None = None) -> None:
    """One line for a stage that ended, on standard output or ``file``."""
    sign = {"done": "✓", "cached": "·", "refused": "✗", "failed": "✗", "skipped": "-"}[done.outcome]
    time = f"  {done.seconds:.1f} s" if done.outcome == "done" else ""
    print(f"{sign} {done.stage:<12} {done.target:<20} {done.detail}{time}", file=file, flush=True)


def named_values(pairs: Iterable[str]) -> dict[str, Any]:
    """``name=value`` of the command line; a name that stands there more than once has a list.

    >>> named_values(["days=3", "city=lisbon", "city=turin"])
    {'days': '3', 'city': ['lisbon', 'turin']}
    """
    from headway.errors import UsageError

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"a parameter is given as name=value, got {pair!r}")
        _add(found, name, value)
    return found


def split_options(words: Iterable[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The targets among the words of a command line, and the options that are a pipeline's parameters.

    >>> split_options(["publish", "--days", "3", "--city=lisbon", "--dry-run"])
    (('publish',), {'days': '3', 'city': 'lisbon', 'dry_run': 'true'})
    """
    targets: list[str] = []
    found: dict[str, Any] = {}
    waiting: str | None = None
    for word in words:
        option = word[:2] == "--" and len(word) > 2
        if waiting is not None:
            _add(found, waiting, "true" if option else word)
            waiting = None
            if not option:
                continue
        if not option:
            targets.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if equals:
            _add(found, name.replace("-", "_"), value)
        else:
            waiting = name.replace("-", "_")
    if waiting is not None:
        _add(found, waiting, "true")
    return tuple(targets), found


def _add(found: dict[str, Any], name: str, value: str) -> None:
    if name in found:
        before = found[name] if isinstance(found[name], list) else [found[name]]
        found[name] = [*before, value]
    else:
        found[name] = value
