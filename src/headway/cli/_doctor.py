"""doctor: what is wrong with the set-up, and its mend."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headway.cli._show import Dir, Env, Json, print_json


def doctor(
    project: Dir = ".",
    env: Env = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port that `serve` would take.", show_default="8000")
    ] = None,
    json: Json = False,
) -> None:
    """Look at settings, files, disk, locks, backends and the port, and say what to mend."""
    from headway.orchestrate.doctor import examine

    findings = examine(project, env, port)
    if json:
        print_json(findings)
    else:
        for finding in findings:
            print(f"{'✓' if finding.ok else '✗'} {finding.what:<14} {finding.found}")
            if finding.mend:
                print(f"  {'':<14} → {finding.mend}")
    bad = sum(not f.ok for f in findings)
    if not json:
        print(f"\n{bad} of {len(findings)} need a hand" if bad else "\nall is well")
    sys.exit(1 if bad else 0)
