"""Which type the texts of a CSV or NDJSON column stand for.

A type is taken only if every value of every file can be read as it, so the answer does not hang on the order of rows.

    boolean   true, false, in any case
    int64     whole numbers without leading zeros (007 is text) that fit
    double    decimal numbers, nan, inf; whole numbers among them have at most 15 digits, so that none loses any
    date      2024-01-31
    time      2024-01-31T12:00, seconds, fractions and an offset may follow; dates count as midnight
    string    everything else

Texts of NDJSON can only be dates and times. In columns that are not text, NA, N/A, NULL, null, None and NaT stand for
null, like an empty field.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from headway.data.localtime import INSTANT
from headway.data.sources._protocol import Counts
from headway.data.sources._time import ISO_DATE, from_text, is_time

Kind = Literal["boolean", "integer", "number", "date", "time"]
Undecided = Literal["nothing"]  # no value has been met yet
Kinds = frozenset[Kind | Undecided]

ALL: Kinds = frozenset(("nothing", "boolean", "integer", "number", "date", "time"))
TIMES: Kinds = frozenset(("nothing", "date", "time"))
TYPES: dict[Kind, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "date": pa.date32(),
    "time": INSTANT,
}
_BOOLEAN = r"^(?i:true|false)$"
_INTEGER = r"^-?(?:0|[1-9]\d{0,18})$"
_WHOLE = r"[+-]?(?:0|[1-9]\d{0,14})"
_DECIMAL = r"[+-]?(?:(?:0|[1-9]\d*)\.\d*|\.\d+|(?:0|[1-9]\d*)(?:\.\d*)?[eE][+-]?\d+|\.\d+[eE][+-]?\d+)"
_NUMBER = rf"^(?:{_WHOLE}|{_DECIMAL}|[+-]?(?i:inf|infinity)|(?i:nan))$"


@functools.cache
def _nulls() -> pa.Array:
    # PyArrow imports pandas, which takes 0.4 s, for the first array made of a list, and not every command makes one.
    return pa.array(["", "NA", "N/A", "NULL", "null", "None", "NaT"])


def possible(text: pa.Array, kinds: Kinds) -> Kinds:
    """Those of ``kinds`` that every value can be read as."""
    values = pc.unique(text).drop_null()
    values = values.filter(pc.invert(pc.is_in(values, _nulls())))
    return frozenset(kind for kind in kinds if kind != "nothing" and _TESTS[kind](values)) if len(values) else kinds


def chosen(kinds: Kinds) -> Kind | None:
    """The narrowest of the kinds that are left; None is text, and so is a column without any value."""
    if "nothing" in kinds:
        return None
    return next((kind for kind in TYPES if kind in kinds), None)


def converted(text: pa.Array, kind: Kind | None, zone: str, counts: Counts) -> pa.Array:
    """The values as what they stand for; times without an offset are local in ``zone``."""
    if kind is None:
        return text
    values = pc.if_else(pc.is_in(text, _nulls()), pa.scalar(None, pa.string()), text)
    if kind == "boolean":
        return pc.equal(pc.utf8_lower(values), "true")
    if kind == "time":
        return from_text(values, zone, counts)
    return values.cast(TYPES[kind])


def _matches(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def _reads(values: pa.Array, pattern: str, target: pa.DataType) -> bool:
    if not _matches(values, pattern):
        return False
    try:
        values.cast(target)
    except pa.ArrowInvalid:
        return False
    return True


_TESTS: dict[Kind, Callable[[pa.Array], bool]] = {
    "boolean": lambda values: _matches(values, _BOOLEAN),
    "integer": lambda values: _reads(values, _INTEGER, pa.int64()),
    "number": lambda values: _reads(values, _NUMBER, pa.float64()),
    "date": lambda values: _reads(values, ISO_DATE, pa.date32()),
    "time": is_time,
}
