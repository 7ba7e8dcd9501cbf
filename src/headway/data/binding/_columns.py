"""Column types: which there are, and what they become as keys, values and features."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headway.errors import suggest

INT, DOUBLE, STRING, BOOL, DATE = "int64", "double", "string", "bool", "date32[day]"
TIMESTAMP = "timestamp[us, tz=UTC]"

CASTS = {INT: "bigint", DOUBLE: "double", STRING: "varchar", BOOL: "boolean", DATE: "date", TIMESTAMP: "timestamptz"}
CASTS["float"] = "float"  # of the items of vectors only


_LIST = re.compile(r"(?:large_|fixed_size_)?list<[^:]*: (.+?)(?: not null)?>(?:\[(\d+)\])?")


def normal(kind: str) -> str | None:
    """The type a value is kept in: one of the six above; None for nested and other types.

    >>> normal("int16"), normal("decimal128(10, 2)"), normal("timestamp[ns]")
    ('int64', 'double', 'timestamp[us, tz=UTC]')
    """
    if kind.startswith(("int", "uint")) and kind.rstrip("0123456789") in ("int", "uint"):
        return INT
    if kind in ("float", "double", "halffloat") or kind.startswith("decimal"):
        return DOUBLE
    if is_text(kind) or kind == "extension<arrow.uuid>":
        return STRING
    if kind == "bool":
        return BOOL
    if kind.startswith("date"):
        return DATE
    return TIMESTAMP if kind.startswith("timestamp") else None


def vector_type(kind: str) -> tuple[str, int | None] | None:
    """The type that the items of a list of numbers are kept in, and how many they are if the type says so.

    >>> vector_type("list<element: float>"), vector_type("fixed_size_list<: decimal128(3, 1)>[4]"), vector_type("int64")
    (('float', None), ('double', 4), None)
    """
    match = _LIST.fullmatch(kind)
    if match is None or normal(match[1]) not in (INT, DOUBLE):
        return None
    short = match[1] in ("float", "halffloat", "int8", "int16", "uint8", "uint16")
    return "float" if short else DOUBLE, None if match[2] is None else int(match[2])


def key_type(kind: str) -> str | None:
    """The type of an entity key; None for what compares badly (floats, decimals) or not at all."""
    found = normal(kind)
    return None if found == DOUBLE else found


def is_number(kind: str) -> bool:
    return normal(kind) in (INT, DOUBLE)


def is_text(kind: str) -> bool:
    return kind in ("string", "large_string", "string_view") or kind.startswith("dictionary<values=string")


def is_temporal(kind: str) -> bool:
    return normal(kind) in (DATE, TIMESTAMP)


def find_unknown(columns: Iterable[str], alias: str, known: Iterable[str], *, exact: bool = False) -> str | None:
    """Why a column an expression names is not there, as half a sentence; None if all are.

    ``a.b`` is column ``b`` of the source called ``a``, or a field of the struct ``a``. SQL takes no notice of case;
    declarations that name a column do (``exact``).
    """
    names = list(known)
    at_hand = set(names) if exact else {n.lower() for n in names}
    for column in columns:
        parts = [column] if exact else column.split(".")
        if not exact and len(parts) > 1 and parts[0].lower() == alias.lower():
            parts = parts[1:]
        if (parts[0] if exact else parts[0].lower()) not in at_hand:
            return f"there is no column {parts[0]!r}; {suggest(parts[0], names)}"
    return None


def duplicate(columns: Iterable[str]) -> str | None:
    """The second of two columns that share a name, as SQL sees names."""
    seen: set[str] = set()
    for column in columns:
        if column.lower() in seen:
            return column
        seen.add(column.lower())
    return None
