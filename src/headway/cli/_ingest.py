"""ingest."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli._show import Dir, Env, Json, fail, open_project, print_json, print_table

if TYPE_CHECKING:
    from headway.orchestrate.ingest import Ingested

Sources = Annotated[list[str] | None, typer.Argument(help="Names of sources; all that are due if none is named.")]


def ingest(
    sources: Sources = None,
    full: Annotated[bool, typer.Option("--full", help="Start over, as if nothing had been read.")] = False,
    project: Dir = ".",
    env: Env = None,
    json: Json = False,
) -> None:
    """Copy new and changed rows of sources into the lake."""
    with open_project(project, env) as opened, _display() as shown:
        found = opened.ingest(*(sources or ()), full=full, started=shown.started, watch=shown.watch, ended=shown.ended)
    failed = [each for each in found if each.outcome == "failed"]
    if json:
        print_json(found)
    else:
        print_table(
            ["source", "", "read", "new", "changed", "gone", "rows", "rows/s", "seconds"],
            [_row(each) for each in found],
            "no source has anything to copy; declare an hw.Source with a path or a table",
        )
    if failed:
        fail("; ".join(each.error for each in failed), 1)


def _row(each: Ingested) -> tuple[Any, ...]:
    result, speed = each.result, each.rows_per_second
    if result is None:
        return (each.source, each.outcome, None, None, None, None, None, None, each.seconds)
    figures = (result.read, result.new, result.versions, result.gone, result.rows)
    return (each.source, each.outcome, *figures, None if speed is None else f"{speed:,.0f}", each.seconds)


def _display() -> AbstractContextManager[_Lines]:
    return _Bars() if sys.stderr.isatty() else nullcontext(_Lines())


class _Lines:
    """A line for each source as it begins, and one as it ends; on standard error."""

    def started(self, source: str) -> None:
        print(f"  … ingest {source}", file=sys.stderr, flush=True)

    def watch(self, source: str, rows: int) -> None:
        """Rows have been read; a line for each would be too many."""

    def ended(self, each: Ingested) -> None:
        speed, read = each.rows_per_second, each.result.read if each.result is not None else 0
        said = each.outcome if speed is None else f"{read:,} rows, {speed:,.0f} rows/s"
        print(f"  … ingest {each.source}: {said}", file=sys.stderr, flush=True)


class _Bars(_Lines):
    """A line on the terminal for each source under way, with rows and rows a second."""

    def __enter__(self) -> _Bars:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._tasks: dict[str, Any] = {}
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("ingest {task.description}"),
            TextColumn("{task.completed:,.0f} rows"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, source: str) -> None:
        self._tasks[source] = self._bars.add_task(source, total=None, speed="")

    def watch(self, source: str, rows: int) -> None:
        task = self._tasks[source]
        found = next(each for each in self._bars.tasks if each.id == task)
        speed = f"{rows / found.elapsed:,.0f} rows/s" if found.elapsed else ""
        self._bars.update(task, completed=rows, speed=speed)

    def ended(self, each: Ingested) -> None:
        self._bars.remove_task(self._tasks.pop(each.source))
