"""Types of columns, as a declaration names them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = {
    "bool": "bool",
    "boolean": "bool",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "int": "int64",
    "integer": "int64",
    "float": "float",
    "float32": "float",
    "double": "double",
    "float64": "double",
    "string": "string",
    "str": "string",
    "text": "string",
    "binary": "binary",
    "date": "date",
    "date32": "date",
    "timestamp": "timestamp",
}
_LIST = re.compile(r"list<(?:item:\s*)?(.+)>")
_DECIMAL = re.compile(r"decimal(?:128)?\((\d+),\s*(\d+)\)")
_PARAMETER = re.compile(r"\[.*\]$")

KNOWN = "bool, int8, int16, int32, int64, float, double, string, binary, date, timestamp, decimal(12, 2) or list<…>"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type: its name, what a list is of, and a decimal's digits."""

    name: str
    of: ColumnType | None = None
    digits: int = 0
    scale: int = 0


def parse_type(text: str) -> ColumnType:
    """A type by its name, as Arrow or a person writes it. Raises ``ValueError`` for a name nobody knows.

    >>> parse_type("int64").name, parse_type("timestamp[us, tz=UTC]").name, parse_type("list<float>").of.name
    ('int64', 'timestamp', 'float')
    """
    text = text.strip()
    if found := _LIST.fullmatch(text):
        return ColumnType("list", of=parse_type(found[1]))
    if found := _DECIMAL.fullmatch(text):
        digits, scale = int(found[1]), int(found[2])
        if not 1 <= digits <= 38 or scale > digits:
            raise ValueError(f"{text!r} is no type: a decimal has at most 38 digits")
        return ColumnType("decimal", digits=digits, scale=scale)
    name = _NAMES.get(_PARAMETER.sub("", text).lower())
    if name is None:
        raise ValueError(f"{text!r} is no type; there are {KNOWN}")
    return ColumnType(name)
