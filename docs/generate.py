"""Brings the reference pages up to what the code says: ``python docs/generate.py`` (``--check`` only compares).

Of a command's section the lines that show how it is called and the table of its options are written anew; the words
between them are kept, and a new command begins with its docstring. Of the settings the tables are written anew, but for
the defaults.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from headway.cli._main import app
from headway.settings import _GROUPS, _KEYS, SETTINGS, VARIABLES, Settings

REFERENCE = Path(__file__).resolve().parent / "reference"
COMMON = {"--project", "--env", "--json", "--help"}  # the table at the top of the page has them
WIDTH = 116


def main() -> int:
    pages = {REFERENCE / "cli.md": command_line, REFERENCE / "settings.md": settings}
    written = {page: page.read_text() for page in pages}
    wanted = {page: make(written[page]) for page, make in pages.items()}
    if "--check" in sys.argv[1:]:
        print("the reference is as the code says" if wanted == written else "run `python docs/generate.py`")
        return int(wanted != written)
    for page, text in wanted.items():
        page.write_text(text)
    return 0


def settings(written: str) -> str:
    """The page of the settings: name, variable and sentence of each row are the code's; the default, which may have to
    be explained, stays as it is written, and is that of the code in a new row."""
    tables = re.compile(r"(?<=\|---\|---\|---\|---\|\n)(?:\|.*\n)+")
    known = {row[1]: row[2] for row in re.finditer(r"^\| `([\w.]+)` \|[^|]*\| ([^|]*) \|", written, re.MULTILINE)}
    variables = {name: variable for variable, name in VARIABLES.items()}
    rows: dict[bool, list[str]] = {True: [], False: []}
    for name, sentence in SETTINGS.items():
        variable = f"`{variables[name]}` " if name in variables else ""
        rows[_KEYS[name].table == "project"].append(
            f"| `{name}` | {variable}| {known.get(name) or default(name)} | {sentence} |\n"
        )
    project, env = "".join(rows[True]), "".join(rows[False])
    made = iter((project, env))
    return tables.sub(lambda _: next(made), written, count=2)


def default(name: str) -> str:
    """What a setting is if nobody sets it."""
    group, _, key = name.rpartition(".")
    found = next(f.default for f in fields(_GROUPS[group] if group else Settings) if f.name == key)
    return "none" if found is None or not isinstance(found, str | int) else f"`{json.dumps(found)}`"


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
