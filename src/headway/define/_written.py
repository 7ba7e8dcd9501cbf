"""A declaration's own text, as it stands in the project's files."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

from headway.define._base import Declaration


def written(declared: Declaration, root: Path) -> tuple[str, str]:
    """Where a declaration stands, as ``trips/features.py:12`` relative to ``root``, and the statement that makes it.

    The text is empty where the file is not there any more, is no Python, or lies outside the project.
    """
    file = Path(declared.place.file)
    if not file.is_absolute():
        file = root / file
    try:
        inside = file.resolve().relative_to(root.resolve())
        changed = file.stat().st_mtime_ns
    except (OSError, ValueError):
        return str(declared.place), ""
    return f"{inside.as_posix()}:{declared.place.line}", _statement(str(file), changed, declared.place.line)


@lru_cache(maxsize=512)
def _statement(file: str, changed: int, line: int) -> str:  # noqa: ARG001 - a changed file is another one
    try:
        text = Path(file).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):
        return ""
    around = [s for s in ast.walk(tree) if isinstance(s, ast.stmt) and _first(s) <= line <= (s.end_lineno or s.lineno)]
    plain = [s for s in around if not isinstance(s, ast.If | ast.For | ast.While | ast.With | ast.Try)]
    if not plain:
        return ""
    innermost = max(plain, key=lambda s: (_first(s), -(s.end_lineno or 0)))
    lines = text.splitlines()[_first(innermost) - 1 : innermost.end_lineno]
    indent = innermost.col_offset
    return "\n".join(each[indent:] if not each[:indent].strip() else each for each in lines)


def _first(statement: ast.stmt) -> int:
    """The first line, decorators included."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return min([statement.lineno, *(d.lineno for d in statement.decorator_list)])
    return statement.lineno
