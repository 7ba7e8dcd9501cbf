"""check: data checks now, before, and those that there could be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli._show import Dir, Env, Json, open_project, print_json, print_table

if TYPE_CHECKING:
    from headway.data.quality import Proposal
    from headway.define.records import CheckResult
    from headway.project import Project

Sources = Annotated[list[str] | None, typer.Argument(help="Names of sources.")]
Infer = Annotated[bool, typer.Option("--infer", help="Propose checks, read off the rows there are.")]
History = Annotated[bool, typer.Option("--history", help="Show what the checks found each time.")]


def check(
    sources: Sources = None,
    infer: Infer = False,
    history: History = False,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Run data checks now, on some sources or all of them; or propose checks, or show what they found before."""
    from headway.errors import UsageError

    if infer and history:
        raise UsageError("--infer proposes checks and --history shows what they found; give one of them")
    with open_project(project, env) as opened:
        if infer:
            _propose(opened.infer_checks(*(sources or ())), json)
        elif history:
            _show_history(opened, sources or (), json)
        else:
            _show(opened.check(*(sources or ())), json)


def _show(results: Sequence[CheckResult], json: bool) -> None:
    from headway.data.quality import raise_for

    if json:
        print_json(results)
    else:
        print_table(
            ["source", "check", "rows", "failed", "", "detail"],
            [(r.source, r.check, r.rows, r.failed, "ok" if r.passed else r.on_fail, r.detail) for r in results],
            "no source has checks; `headway check --infer` proposes some",
        )
    raise_for(results)


def _propose(found: Sequence[Proposal], json: bool) -> None:
    """Checks as Python, to be pasted into the declarations."""
    if json:
        print_json(found)
        return
    for source in dict.fromkeys(p.source for p in found):
        print(f"{source}:\n    checks=[")
        for each in (p for p in found if p.source == source):
            print(f"        {each.code},  # {each.why}")
        print("    ],")


def _show_history(opened: Project, sources: Sequence[str], json: bool) -> None:
    from headway.orchestrate.quality import history

    rows = history(opened.parts, sources).to_pylist()
    if json:
        print_json([row | {"checked_at": row["checked_at"].isoformat()} for row in rows])
        return
    print_table(
        ["at", "source", "check", "rows", "failed", "", "detail"],
        [
            (f"{r['checked_at']:%Y-%m-%d %H:%M:%S}", r["source"], r["check"], r["rows"], r["failed"],
             "ok" if r["passed"] else r["on_fail"], r["detail"]) for r in rows
        ],
        "nothing was checked yet; `headway check` does it",
    )  # fmt: skip
