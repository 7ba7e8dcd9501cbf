"""The fields of a request: what each takes, and how its JSON values become keys and columns.

Values arrive as JSON has them: None, bool, int, float, str, list, dict. A truth value is no number, a text is neither,
a whole number may stand for a number with a fraction but not the other way round, and a time without an offset is
refused. No message repeats a value.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headway.clock import from_iso
from headway.errors import DefinitionError, UsageError
from headway.serve._problems import Refused, shown

Kind = Literal["whole", "number", "text", "truth", "time", "date"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_INTEGER = re.compile(r"(u?)int(8|16|32|64)")
_NONE = type(None)
_TAKEN: dict[Kind, frozenset[type]] = {
    "whole": frozenset({int, _NONE}),
    "number": frozenset({int, float, _NONE}),
    "text": frozenset({str, _NONE}),
    "truth": frozenset({bool, _NONE}),
    "time": frozenset({str, _NONE}),
    "date": frozenset({str, _NONE}),
}
_WHOLE = {int}
_WORDS: dict[Kind, str] = {
    "whole": "a whole number",
    "number": "a number",
    "text": "a string",
    "truth": "true or false",
    "time": "a time with an offset such as 2024-01-05T13:00:00Z",
    "date": "a date such as 2024-01-05",
}
_GOT: dict[type, str] = {
    _NONE: "null",
    bool: "a truth value",
    int: "a whole number",
    float: "a number with a fraction",
    str: "a string",
    list: "a list",
    dict: "an object",
}


class _Absent:
    """The value of a field that one row object of a request leaves out while another has it."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class InputField:
    """One field: its name, its Arrow type as text, the kind of JSON value it takes, the bounds of a whole number."""

    name: str
    type: str
    kind: Kind
    low: int = 0
    high: int = 0

    def keys(self, values: list[Any]) -> list[Any]:
        """``values`` as an entity's keys: Python objects, None where null. Raises ``Refused``."""
        self._check(values)
        if self.kind == "time":
            return [None if v is None else _EPOCH + dt.timedelta(microseconds=v) for v in self._times(values)]
        if self.kind == "date":
            return self._dates(values)
        if self.kind == "number":
            return [None if v is None else float(v) for v in values]
        return values

    def column(self, values: list[Any]) -> np.ndarray:
        """``values`` as a column: float64, objects for text, datetime64[us] for times. Raises ``Refused``."""
        self._check(values)
        if self.kind == "text":
            return np.array(values, dtype=object)
        if self.kind == "time":
            return np.array([_NAT if v is None else v for v in self._times(values)], np.int64).view("datetime64[us]")
        if self.kind == "date":
            return np.array(self._dates(values), dtype="datetime64[us]")
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:
            raise self._too_large() from None

    def one(self, values: list[Any]) -> Any:
        """The only one of ``values``: a float (NaN for null), a string, or microseconds since 1970."""
        self._check(values)
        value = values[0]
        if self.kind == "text":
            return value
        if self.kind == "time":
            return None if value is None else self._time(value, 0, 1)
        try:
            return _NAN if value is None else float(value)
        except OverflowError:
            raise self._too_large() from None

    @property
    def words(self) -> str:
        """What the field takes, in words."""
        return f"{_WORDS[self.kind]} ({self.type.partition('[')[0]})"

    def _check(self, values: list[Any]) -> None:
        kinds, taken = set(map(type, values)), _TAKEN[self.kind]
        if not taken.issuperset(kinds):
            row = next(i for i, value in enumerate(values) if type(value) not in taken)
            raise self._refuse(_GOT.get(type(values[row]), "nothing"), row, len(values))
        if self.kind == "whole" and not (kinds == _WHOLE and self.low <= min(values) and max(values) <= self.high):
            for row, value in enumerate(values):
                if value is not None and not self.low <= value <= self.high:
                    raise self._refuse("a number outside its range", row, len(values))

    def _too_large(self) -> Refused:
        return Refused(422, f"field {self.name!r} takes {self.words}; a value is too large for it")

    def _refuse(self, got: str, row: int, rows: int) -> Refused:
        where = f" in row {row}" if rows > 1 else ""
        return Refused(422, f"field {self.name!r} takes {self.words}, got {got}{where}")

    def _times(self, values: list[str | None]) -> list[int | None]:
        return [None if v is None else self._time(v, row, len(values)) for row, v in enumerate(values)]

    def _time(self, value: str, row: int, rows: int) -> int:
        try:
            return from_iso(value)
        except (UsageError, OverflowError):
            raise self._refuse(
                "a time without an offset" if _is_naive(value) else "another string", row, rows
            ) from None

    def _dates(self, values: list[str | None]) -> list[dt.date | None]:
        found: list[dt.date | None] = []
        for row, value in enumerate(values):
            try:
                found.append(None if value is None else dt.date.fromisoformat(value))
            except ValueError:
                raise self._refuse("another string", row, len(values)) from None
        return found


_NAN = float("nan")
_NAT = np.datetime64("NaT", "us").astype(np.int64).item()


def _is_naive(value: str) -> bool:
    try:
        return dt.datetime.fromisoformat(value.strip()).tzinfo is None
    except ValueError:
        return False


@functools.lru_cache(maxsize=4096)
def input_field(name: str, type_: str) -> InputField:
    """The field for values of an Arrow type. ``DefinitionError`` for a type that no JSON value stands for."""
    if whole := _INTEGER.fullmatch(type_):
        bits = int(whole[2])
        bounds = (0, 2**bits - 1) if whole[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return InputField(name, type_, "whole", *bounds)
    for kind, pattern in _KINDS:
        if re.fullmatch(pattern, type_):
            return InputField(name, type_, kind)
    raise DefinitionError(
        f"field {name!r} is of type {type_}, which a request cannot carry; cast it to a number or text"
    )


_KINDS: tuple[tuple[Kind, str], ...] = (
    ("number", r"double|float|halffloat|decimal.*"),
    ("text", r"string|large_string|string_view|dictionary<values=string.*"),
    ("truth", "bool"),
    ("time", r"timestamp(\[.*\])?"),
    ("date", r"date(32|64)\[.*\]"),
)


def segment_texts(values: Sequence[Any]) -> list[str | None]:
    """Values as the names of segments: what Arrow's cast to text makes of them, as in training."""
    if {str, _NONE}.issuperset(map(type, values)):
        return list(values)
    if {int, _NONE}.issuperset(map(type, values)):
        return [None if value is None else str(value) for value in values]
    if {bool, _NONE}.issuperset(map(type, values)):
        return [None if value is None else str(value).lower() for value in values]
    import pyarrow as pa

    texts: list[str | None] = pa.array(values).cast(pa.string()).to_pylist()
    return texts


def missing_fields(names: Sequence[str]) -> Refused:
    """The problem for inputs that the request does not have."""
    listed = ", ".join(shown(name) for name in names)
    return Refused(422, f"the request lacks {listed}; null is a value, leaving a field out is not")
