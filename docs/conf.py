"""The documentation site: Markdown and docstrings, made by Sphinx (``make docs``)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DECISIONS = (ROOT / "docs" / "decisions").glob("*.md")

project = "headway"
author = "the headway authors"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Pages are read on the forge as well: links to files beside docs/ stay as they are, and tests/test_docs.py checks them.
suppress_warnings = ["myst.xref_missing", "myst.header"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "groupwise"
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"headway {release}"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False

# Docstrings are written for people who read them in an editor: single backticks mean code.
default_role = "code"


def _plain(*event: object) -> None:
    """Lists in docstrings without a blank line before them are meant as lists."""
    lines: list[str] = event[-1]  # type: ignore[assignment]
    text = "\n".join(lines)
    lines[:] = re.sub(r"(?m)^(?!- |  )(.+)\n(- )", r"\1\n\n\2", text).split("\n")


def _sidebar(_app: object, name: str, source: list[str]) -> None:
    """The links of the first page, in its sections, are the sidebar."""
    if name != "index":
        return
    trees = [_tree("", ["tutorial"])]
    for section in source[0].split("\n\n**")[1:]:
        caption = section.partition("**")[0]
        trees.append(_tree(caption, re.findall(r"\]\(([a-z][^)#]*)\.md\)", section)))
    source[0] += "\n" + "\n".join(trees) + _tree("Decisions", sorted(p.stem for p in DECISIONS), "decisions/")


def _tree(caption: str, pages: list[str], folder: str = "") -> str:
    lines = "\n".join(folder + page for page in pages if page not in ("ARCHITECTURE", "CONTRIBUTING"))
    captioned = f":caption: {caption}\n" if caption else ""
    return f"\n```{{toctree}}\n:hidden:\n{captioned}\n{lines}\n```\n"


def setup(app: object) -> None:
    app.connect("source-read", _sidebar)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", _plain)  # type: ignore[attr-defined]
