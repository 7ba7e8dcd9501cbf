"""How results reach a person, or another program."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

if typing.TYPE_CHECKING:
    from headway.orchestrate._parts import Progress
    from headway.project import Project

Env = Annotated[str | None, typer.Option("--env", "-e", help="Environment of headway.toml.", show_default="local")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Dir = Annotated[str, typer.Option("--project", "-C", help="Folder of the project, or one inside it.")]


def fail(message: str, code: int) -> typing.NoReturn:
    """Say what went wrong, in one sentence on standard error, and leave."""
    print(f"headway: {message}", file=sys.stderr)
    sys.exit(code)


def open_project(project: str, env: str | None) -> Project:
    """The project with a progress display that suits where the output goes."""
    from headway.project import load

    return load(project, env, progress=progress_display())


def progress_display() -> Progress:
    """A bar on a terminal, a line per step elsewhere; always on standard error."""
    return _bar() if sys.stderr.isatty() else _lines()


def _lines() -> Progress:
    last = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last:
            last = what
            print(f"  … {what}" + (f" ({done}/{total})" if total > 1 else ""), file=sys.stderr, flush=True)

    return show


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("  {task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("", total=None)
    bar.start()
    import atexit

    atexit.register(bar.stop)

    def show(what: str, done: int, total: int) -> None:
        bar.update(task, description=what, completed=done, total=total or None)

    return show


def print_json(value: Any) -> None:
    """JSON on standard output; records as they are stored."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain)).decode())


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """A table for a person; ``empty`` is what to say if there is nothing, with what to do next."""
    rows = [[_cell(value) for value in row] for row in rows]
    if not rows:
        print(empty)
        return
    widths = [max(len(column), *(len(row[i]) for row in rows)) for i, column in enumerate(columns)]
    for line in ([*columns], *rows):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_cell(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return str(value)


def moment(us: int | None) -> str | None:
    """An instant as ISO text."""
    from headway.clock import to_iso

    return None if us is None else to_iso(us)
