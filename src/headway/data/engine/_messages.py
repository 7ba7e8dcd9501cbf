"""DuckDB's errors as ours, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import duckdb

from headway.errors import BindingError, DataError, HeadwayError, StoreError, suggest

_DOES_NOT_FIT = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.NotImplementedException,
)
_VALUES = (
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.InvalidTypeException,
    duckdb.TypeMismatchException,
    duckdb.ConstraintException,
    duckdb.SerializationException,
)
_NO_ROOM = ("no space left", "max_temp_directory_size", "disk quota", "file too large")
_MISSING_TABLE = re.compile(r"Table with name (?P<name>.+?) does not exist!")
_HINTS = (
    (re.compile(r"\s*Candidate (?:bindings|entries):\s*", re.IGNORECASE), "; candidates: "),
    (re.compile(r"\s*Did you mean\s*"), "; did you mean "),
)


@contextmanager
def translated(tables: Iterable[str] = ()) -> Iterator[None]:
    """Raise what DuckDB raises inside as a ``HeadwayError``; ``tables`` are the names there are."""
    try:
        yield
    except duckdb.Error as error:
        raise _translate(error, tables) from None


def _translate(error: duckdb.Error, tables: Iterable[str]) -> HeadwayError:
    text = str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return StoreError(f"the query needed more memory than it may have: {sentence(text)}")
    if isinstance(error, duckdb.IOException):
        full = any(sign in text.lower() for sign in _NO_ROOM)
        kind: type[HeadwayError] = StoreError if full else DataError
        return kind(f"the disk is full: {sentence(text)}" if full else f"a file cannot be read: {sentence(text)}")
    if missing := _MISSING_TABLE.search(text):
        return BindingError(f"there is no table {missing['name']!r}; {suggest(missing['name'], tables)}")
    if isinstance(error, _DOES_NOT_FIT):
        return BindingError(sentence(text))
    if isinstance(error, _VALUES):
        return DataError(sentence(text))
    return StoreError(f"DuckDB failed: {sentence(text)}")


def sentence(text: str) -> str:
    """DuckDB's message without its heading, the quoted SQL, lists of overloads and advice about extensions.

    >>> sentence('Binder Error: Referenced column "b" not found!\\nCandidate bindings: "a"\\n\\nLINE 1: …')
    'Referenced column "b" not found; candidates: "a"'
    """
    text = re.sub(r"^[A-Z][\w ]* Error: ", "", text.strip())
    text = re.split(r"\n\s*LINE \d+:|\n\s*Candidate functions:|\n\s*Please try installing", text)[0]
    text = text.replace("!\n", "\n").strip().rstrip("!")
    for pattern, replacement in _HINTS:
        text = pattern.sub(replacement, text)
    return re.sub(r"\s*\n\s*", "; ", text).strip()
