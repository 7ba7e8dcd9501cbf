"""Brings the reference pages up to what the code says: ``python docs/generate.py`` (``--check`` only compares).

Of a command's section the lines that show how it is called and the table of its options are written anew; the words
between them are kept, and a new command begins with its docstring. Of the settings the tables are written anew.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from headway.cli._main import app

REFERENCE = Path(__file__).resolve().parent / "reference"
COMMON = {"--project", "--env", "--json", "--help"}  # the table at the top of the page has them
WIDTH = 116


def main() -> int:
    page = REFERENCE / "cli.md"
    written = page.read_text()
    wanted = command_line(written)
    if "--check" in sys.argv[1:]:
        print("the reference is as the code says" if wanted == written else "run `python docs/generate.py`")
        return int(wanted != written)
    page.write_text(wanted)
    return 0


def command_line(written: str) -> str:
    """The page of the command line, from how it is written now."""
    preamble, *rest = re.split(r"^## ", written, flags=re.MULTILINE)
    sections = dict(section.split("\n", 1) for section in rest)
    parts = [preamble.rstrip()]
    for name, command in leaves(get_command(app)):
        prose = words(sections[name]) if name in sections else textwrap.dedent(command.help or "").strip()
        parts += [f"## {name}", usage(name, command), prose, table(command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def leaves(command: Any, name: str = "headway") -> Iterator[tuple[str, Any]]:
    """Every command that can be called, with its whole name, as ``--help`` lists them."""
    for inner, sub in getattr(command, "commands", {}).items():
        if not getattr(sub, "hidden", False):
            yield from leaves(sub, f"{name} {inner}")
    if not hasattr(command, "commands"):
        yield name, command


def words(section: str) -> str:
    """What was written by hand: all but the first indented block and the table of options."""
    text = re.sub(r"\A\n*(?:    .*\n(?:[ ]{4,}.*\n)*)", "", section)
    return re.sub(r"\n\| option \| \|\n\|---\|---\|\n(?:\|.*\n?)*", "\n", text).strip()


def usage(name: str, command: Any) -> str:
    """How a command is called, every option in brackets unless it has to be given."""
    pieces = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = parameter.name.upper() + ("…" if parameter.nargs != 1 else "")
        else:
            shown = " | ".join([parameter.opts[0], *parameter.secondary_opts[:1]])
            if not parameter.is_flag:
                shown += f" {metavar(parameter)}"
        pieces.append(shown if parameter.required else f"[{shown}]")
    indent = " " * (len(name) + 5)
    glued = [piece.replace(" ", "\0") for piece in pieces]
    lines = textwrap.wrap(" ".join([*glued]), WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return f"    {name} " + f"\n{indent}".join(lines).replace("\0", " ")


def metavar(parameter: Any) -> str:
    """What stands for an option's value."""
    common = {"project": "DIR", "env": "NAME"}
    if parameter.name in common:
        return common[parameter.name]
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    return {int: "N", float: "X"}.get(annotation) or parameter.name.upper()


def table(command: Any) -> str:
    """The options that only this command has, with their sentences."""
    rows = [
        f"| {', '.join(f'`{spelling}`' for spelling in (*p.opts, *p.secondary_opts))} | {sentence(p)} |"
        for p in command.params
        if p.param_type_name == "option" and p.opts[0] not in COMMON
    ]
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""


def sentence(parameter: Any) -> str:
    """An option's help, with its default."""
    help = (parameter.help or "").replace("|", "\\|").strip()
    default = parameter.show_default if isinstance(parameter.show_default, str) else None
    if default is None and parameter.default not in (None, False, "", ()) and not callable(parameter.default):
        default = str(parameter.default)
    return f"{help} By default {default}." if default and help.endswith(".") else help


if __name__ == "__main__":
    sys.exit(main())
