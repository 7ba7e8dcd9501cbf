"""What every declaration has: a name, an owner, a description, tags, and the place where it was written."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from headway.errors import DefinitionError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_PACKAGE = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True, slots=True)
class Place:
    """File and line of a declaration, as ``trips/features.py:12``."""

    file: str = "<unknown>"
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def caller_place() -> Place:
    """The nearest frame outside headway and outside generated code: where the user wrote the declaration."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE) and not file.startswith("<string>"):
            return Place(file, frame.f_lineno)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return Place()


@dataclass(frozen=True, kw_only=True, eq=False)
class Declaration:
    """The common part. Declarations compare by identity and are never changed after they are made."""

    kind: ClassVar[str] = "declaration"

    owner: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    place: Place = field(default_factory=caller_place, repr=False)

    def refuse(self, message: str) -> DefinitionError:
        """The error to raise about this declaration: names the object, its file and line."""
        return DefinitionError(f"{self.kind} {getattr(self, 'name', '?')!r} ({self.place}): {message}")

    def _check_name(self, name: object) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or "__" in name:
            raise DefinitionError(
                f"{self.kind} ({self.place}): {name!r} is not a name; use letters, digits and single underscores,"
                " beginning with a letter"
            )

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _common(self) -> None:
        self._check_name(getattr(self, "name", None))
        self._set(tags=strings(self, "tags", self.tags))


def strings(owner: Declaration, what: str, value: str | Iterable[str] | None) -> tuple[str, ...]:
    """``value`` as a tuple of strings; a single string stands for one."""
    if value is None:
        return ()
    found = (value,) if isinstance(value, str) else tuple(value)
    for item in found:
        if not isinstance(item, str) or not item:
            raise owner.refuse(f"{what} takes strings, got {item!r}")
    return found
