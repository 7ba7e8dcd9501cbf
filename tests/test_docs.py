"""What users can name is documented, and what the documentation names is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import headway
from headway.cli._main import app
from headway.settings import SETTINGS, VARIABLES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts) and "tests" not in page.parts
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def leaves(command, name="headway"):
    for inner, sub in getattr(command, "commands", {}).items():
        if not getattr(sub, "hidden", False):
            yield from leaves(sub, f"{name} {inner}")
    if not hasattr(command, "commands"):
        yield name, command


COMMANDS = dict(leaves(get_command(app)))


def options(command):
    return {spelling for p in command.params for spelling in (*p.opts, *p.secondary_opts) if spelling.startswith("-")}


def sections():
    text = (DOCS / "reference" / "cli.md").read_text()
    preamble, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    return preamble, dict(section.split("\n", 1) for section in rest)


def test_the_reference_has_a_section_for_every_command_and_no_other():
    assert set(sections()[1]) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_with_its_options_and_no_others(name):
    preamble, found = sections()
    command = COMMANDS[name]
    written = set(OPTION.findall(found[name]))
    named = {option for option in options(command) if option.startswith("--")}
    assert named <= written, "options without a word"
    assert {o for o in written if o.startswith("--")} <= named, "options the command does not have"
    assert options(command) <= written | set(OPTION.findall(preamble))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_has_its_arguments(name):
    usage = re.findall(rf"^    ({name} .*(?:\n {{10,}}.*)*)", sections()[1][name], re.MULTILINE)
    assert usage, "no line that shows how it is called"
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            assert re.search(rf"\b{parameter.name}\b", usage[0], re.IGNORECASE), parameter.name
    bracketed = "".join(re.findall(r"\[[^]]*\]", usage[0]))
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            assert (parameter.opts[0] in bracketed) is not parameter.required, parameter.opts[0]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_documented(setting):
    variables = [variable for variable, name in VARIABLES.items() if name == setting]
    text = (DOCS / "reference" / "settings.md").read_text()
    (row,) = re.findall(rf"^\| `{re.escape(setting)}` \|.*$", text, re.MULTILINE)
    assert SETTINGS[setting] in row
    assert re.findall(r"HEADWAY_\w+", row) == variables


def test_every_backend_is_documented():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    text = (DOCS / "reference" / "backends.md").read_text()
    for group, entries in groups.items():
        assert f"`{group}`" in text
        for name in entries:
            assert f"`{name}`" in text, f"{group}: {name}"


@pytest.mark.parametrize("name", headway.__all__)
def test_a_public_name_is_explained(name):
    pages = [*(DOCS / "concepts").glob("*.md"), *(DOCS / "reference").glob("*.md")]
    assert any(re.search(rf"\bhw\.{name}\b", page.read_text()) for page in pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(CODE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_pages_show_exist(page):
    for line in re.findall(r"^(?:    |\$ )(headway .*)$", page.read_text(), re.MULTILINE):
        words = line.replace("[", " ").replace("]", " ").replace("|", " ").split()
        if "COMMAND" in words:
            continue
        name = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in COMMANDS), None)
        assert name is not None, line
        if not COMMANDS[name].context_settings.get("ignore_unknown_options"):  # parameters of pipelines
            assert set(OPTION.findall(" ".join(words))) <= options(COMMANDS[name]), line
        if '"' in line:  # a whole call rather than a form of it
            COMMANDS[name].make_context(name, shlex.split(line, comments=True)[len(name.split()) :])


def test_the_index_leads_to_every_page():
    linked = {(DOCS / target).resolve() for target in LINK.findall((DOCS / "index.md").read_text())}
    pages = {page for page in DOCS.rglob("*.md") if "decisions" not in page.parts and page.name != "index.md"}
    assert pages <= linked
