"""Pieces of SQL text."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from decimal import Decimal

EVENT, KNOWN, UNTIL, SEQ = "__event", "__known", "__until", "__seq"
ARRIVED, DELETED = "__arrived", "__deleted"


def name(text: str) -> str:
    """A quoted identifier.

    >>> name("pickup at")
    '"pickup at"'
    """
    return '"' + text.replace('"', '""') + '"'


def names(texts: Iterable[str]) -> str:
    return ", ".join(name(text) for text in texts)


def literal(value: object) -> str | None:
    """A Python value as SQL; None if it has no counterpart. Naive datetimes are in UTC, as the session is.

    >>> literal("it's"), literal(2), literal(dt.date(2024, 1, 5))
    ("'it''s'", '2', "date '2024-01-05'")
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"'{value}'::double"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, dt.datetime):
        at = value if value.tzinfo is None else value.astimezone(dt.UTC)
        return f"timestamptz '{at.replace(tzinfo=None).isoformat(sep=' ')}+00'"
    if isinstance(value, dt.date):
        return f"date '{value.isoformat()}'"
    return None


def instant(microseconds: int) -> str:
    """A moment as SQL; microseconds since 1970 in UTC."""
    return f"make_timestamp({microseconds}::bigint)::timestamptz"


def any_null(columns: Iterable[str]) -> str:
    return " or ".join(f"{name(c)} is null" for c in columns)


def edited(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """``text`` with spans replaced. An empty span inserts; of several at one place the first comes first.

    >>> edited("a b", [(1, 1, "x"), (1, 1, "y"), (2, 3, "c")])
    'axy c'
    """
    parts, done = [], 0
    for start, end, new in sorted(edits, key=lambda edit: edit[0]):
        parts += [text[done:start], new]
        done = end
    return "".join([*parts, text[done:]])
