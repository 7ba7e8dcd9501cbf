"""What is computed when a request arrives, and in the same way when a training set is put together.

Columns are numpy arrays by name, all of one length. Their types do not depend on the values, so that one row at
serving is treated as a million rows in training were: numbers and truth values are float64 with NaN for null, text is
an object array with None for null, timestamps are ``datetime64[us]`` in UTC with NaT for null.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from headway.define.records import CalendarUse, RequestFunctionUse
from headway.errors import ProjectCodeError

Function = Callable[..., Mapping[str, Any]]
Columns = Mapping[str, np.ndarray]

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_NAT = np.datetime64("NaT", "us").astype(np.int64).item()


def calendar_columns(use: CalendarUse, instants: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of ``use`` as float64 columns ``<column>__<part>``, NaN where the instant is NaT.

    ``instants`` is ``datetime64`` in UTC. Parts are those of the local time in the zone of ``use``: hour, minute,
    weekday (Monday 0), weekend (0 or 1), day, week (ISO 8601), month and dayofyear.

    >>> use = CalendarUse("pickup_at", "America/New_York", ("hour", "weekday"))
    >>> parts = calendar_columns(use, np.array(["2024-01-05T13:00", "NaT"], "datetime64[us]"))
    >>> {name: values.tolist() for name, values in parts.items()}
    {'pickup_at__hour': [8.0, nan], 'pickup_at__weekday': [4.0, nan]}
    """
    moments = instants.astype("datetime64[us]", copy=False).view(np.int64)
    if len(moments) == 1:
        moment = moments.item(0)
        parts = calendar_parts(use, None if moment == _NAT else moment)
        return {name: np.array([value]) for name, value in parts.items()}
    null = moments == _NAT
    known = np.where(null, 0, moments)
    local = known + _offsets(use.timezone, known)
    days = local // _DAY
    at = _Local(days, local - days * _DAY)
    found = {}
    for part in use.parts:
        values = _PARTS[part](at).astype(np.float64)
        values[null] = np.nan
        found[f"{use.column}__{part}"] = values
    return found


class _Local(NamedTuple):
    """Local times: days since 1970, and microseconds since midnight."""

    days: np.ndarray
    clock: np.ndarray


class _LocalOne(NamedTuple):
    date: dt.date
    clock: int


def _month(at: _Local) -> np.ndarray:
    return _dates(at.days).astype("datetime64[M]").astype(np.int64) % 12 + 1


def _day(at: _Local) -> np.ndarray:
    return 1 + _days_since(_dates(at.days).astype("datetime64[M]"), at.days)


def _dayofyear(at: _Local) -> np.ndarray:
    return 1 + _days_since(_dates(at.days).astype("datetime64[Y]"), at.days)


def _weekday(at: _Local) -> np.ndarray:
    return (at.days + 3) % 7  # 1970-01-01 was a Thursday


def _week(at: _Local) -> np.ndarray:
    # The ISO week of a date is that of its Thursday, counted from the Thursday's new year.
    thursdays = at.days - _weekday(at) + 3
    return (_dayofyear(_Local(thursdays, at.clock)) - 1) // 7 + 1


def _dates(days: np.ndarray) -> np.ndarray:
    return days.astype("datetime64[D]")


def _days_since(dates: np.ndarray, days: np.ndarray) -> np.ndarray:
    return days - dates.astype("datetime64[D]").astype(np.int64)


_PARTS: dict[str, Callable[[_Local], np.ndarray]] = {
    "hour": lambda at: at.clock // _HOUR,
    "minute": lambda at: at.clock % _HOUR // _MINUTE,
    "weekday": _weekday,
    "weekend": lambda at: _weekday(at) >= 5,
    "day": _day,
    "week": _week,
    "month": _month,
    "dayofyear": _dayofyear,
}

_PARTS_OF_ONE: dict[str, Callable[[_LocalOne], int]] = {
    "hour": lambda at: at.clock // _HOUR,
    "minute": lambda at: at.clock % _HOUR // _MINUTE,
    "weekday": lambda at: at.date.weekday(),
    "weekend": lambda at: at.date.weekday() >= 5,
    "day": lambda at: at.date.day,
    "week": lambda at: at.date.isocalendar()[1],
    "month": lambda at: at.date.month,
    "dayofyear": lambda at: at.date.toordinal() - at.date.replace(month=1, day=1).toordinal() + 1,
}


def calendar_parts(use: CalendarUse, moment: int | None) -> dict[str, float]:
    """The parts of ``use`` at one moment, microseconds since 1970 in UTC; NaN at None. As ``calendar_columns``.

    >>> calendar_parts(CalendarUse("pickup_at", "UTC", ("hour",)), 3_600_000_000)
    {'pickup_at__hour': 1.0}
    """
    if moment is None:
        return {f"{use.column}__{part}": math.nan for part in use.parts}
    days, clock = divmod(moment + _offset_of_one(use.timezone, moment), _DAY)
    try:
        date = dt.date.fromordinal(days + _EPOCH_ORDINAL)
    except (ValueError, OverflowError):  # beyond the year 9999: numpy still knows
        twice = calendar_columns(use, np.full(2, moment).view("datetime64[us]"))
        return {name: values.item(0) for name, values in twice.items()}
    at = _LocalOne(date, clock)
    return {f"{use.column}__{part}": float(_PARTS_OF_ONE[part](at)) for part in use.parts}


# A zone's offsets are found by asking zoneinfo, which does not tell its transitions, once for every day, and closing
# in on the second where two days differ; no zone has ever changed twice within a day (the closest are four days
# apart). That is done for spans of 2**45 microseconds (407 days), for those that occur.
_SPAN = 45
_FIRST = int(dt.datetime(1800, 1, 1, tzinfo=dt.UTC).timestamp()) * _SECOND  # local mean time before
_LAST = int(dt.datetime(2500, 1, 1, tzinfo=dt.UTC).timestamp()) * _SECOND  # rules repeat every 400 years after
_CYCLE = 146_097 * _DAY


def _offsets(zone: str, moments: np.ndarray) -> np.ndarray:
    """Microseconds to add to each UTC moment for the local time."""
    if not len(moments):
        return moments
    moments = np.maximum(moments, _FIRST)
    if moments.max() >= _LAST:
        moments = np.where(moments < _LAST, moments, _LAST - _CYCLE + (moments - _LAST) % _CYCLE)
    starts, offsets = _table(zone, int(moments.min()) >> _SPAN, int(moments.max()) >> _SPAN)
    if len(offsets) == 1:
        return offsets
    return offsets[np.searchsorted(starts, moments, side="right") - 1]


def _offset_of_one(zone: str, moment: int) -> int:
    moment = max(moment, _FIRST)
    if moment >= _LAST:
        moment = _LAST - _CYCLE + (moment - _LAST) % _CYCLE
    starts, offsets = _span(zone, moment >> _SPAN)
    return offsets[bisect_right(starts, moment) - 1]


@functools.lru_cache(maxsize=256)
def _table(zone: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each offset begins, and the offset, over the spans ``first`` to ``last``."""
    spans = [_span(zone, number) for number in range(first, last + 1)]
    starts = [start for span in spans for start in span[0]]
    offsets = [offset for span in spans for offset in span[1]]
    kept = [i for i, offset in enumerate(offsets) if i == 0 or offset != offsets[i - 1]]
    return np.array([starts[i] for i in kept]), np.array([offsets[i] for i in kept])


@functools.lru_cache(maxsize=8192)
def _span(zone: str, number: int) -> tuple[list[int], list[int]]:
    start, end = (number << _SPAN) // _SECOND, ((number + 1) << _SPAN) // _SECOND
    offset_at = _utc_offset(ZoneInfo(zone))
    starts, offsets = [number << _SPAN], [offset_at(start)]
    for day in range(start, end, 86_400):
        before, after = day, min(day + 86_400, end)
        if (changed := offset_at(after)) == offsets[-1]:
            continue
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if offset_at(middle) == offsets[-1] else (before, middle)
        starts.append(after * _SECOND)
        offsets.append(changed)
    return starts, offsets


def _utc_offset(zone: ZoneInfo) -> Callable[[int], int]:
    def at(second: int) -> int:
        offset = dt.datetime.fromtimestamp(second, zone).utcoffset()
        return 0 if offset is None else int(offset.total_seconds()) * _SECOND

    return at


def run_function(function: Function, use: RequestFunctionUse, columns: Columns, rows: int) -> dict[str, np.ndarray]:
    """Call a request function on the columns ``use`` names, and return its outputs as ``<function>__<output>``.

    The arrays it is given are read-only. It returns a dict; each value is ``rows`` numbers, truth values or strings,
    or a scalar that stands for every row. Numbers and truth values come back as float64, strings as objects. The
    outputs must be those of ``use.outputs``, unless that is empty. Dividing by zero and the like warns nowhere and
    gives ±inf or NaN, in training and serving alike.

    Raises:
        ProjectCodeError: the function raised, or returned something else; names the function, file and line.

    >>> use = RequestFunctionUse("ratio", "trips", "ratio", ("a", "b"), (), "")
    >>> run_function(lambda a, b: {"of": a / b}, use, {"a": np.array([1.0]), "b": np.array([0.0])}, 1)
    {'ratio__of': array([inf])}
    """
    given = [_read_only(columns[name]) for name in use.inputs]
    try:
        with np.errstate(all="ignore"):
            returned = function(*given)
    except Exception as error:
        raise ProjectCodeError(
            f"request function {use.name!r} raised {_line(error)} at {_place(function, error)}"
        ) from error
    if not isinstance(returned, Mapping):
        raise _refuse(function, use, f"returned {_described(returned)}; it returns a dict of arrays")
    found = {}
    for output, values in returned.items():
        if not isinstance(output, str):
            raise _refuse(function, use, f"named an output {output!r}; a name is a string")
        found[f"{use.name}__{output}"] = _checked(function, use, output, values, rows)
    if use.outputs and set(found) != set(use.outputs):
        raise _refuse(
            function,
            use,
            f"returned {', '.join(found) or 'nothing'} where it was trained with {', '.join(use.outputs)}",
        )
    if not found:
        raise _refuse(function, use, "returned no outputs")
    return found


def _read_only(values: np.ndarray) -> np.ndarray:
    # A function that changed its inputs would change other features too.
    if values.dtype.kind in "biu":
        values = values.astype(np.float64)
    else:
        values = values.view()
    values.flags.writeable = False
    return values


def _checked(function: Function, use: RequestFunctionUse, output: str, values: Any, rows: int) -> np.ndarray:
    """``values`` as a column of ``rows``."""
    array = np.asarray(values)
    if array.ndim == 0:
        array = np.full(rows, array[()])
    if array.shape != (rows,):
        raise _refuse(
            function, use, f"gave output {output!r} the shape {array.shape} for {rows} rows; give one value a row"
        )
    column = _as_column(array)
    if column is None:
        raise _refuse(
            function, use, f"gave output {output!r} {_described(array)}; an output is numbers, truth values or strings"
        )
    return column


def _as_column(array: np.ndarray) -> np.ndarray | None:
    """float64 or objects; None if ``array`` is neither numbers, truth values nor strings."""
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize == 8:
        return array
    if kind in "biuf":
        return array.astype(np.float64)
    if kind in "UT":
        return array.astype(object)
    return _of_objects(array) if kind == "O" else None


def _of_objects(array: np.ndarray) -> np.ndarray | None:
    """Strings among None and NaN (both are null), or numbers among None; None for anything else."""
    kinds = set(map(type, array.tolist()))
    try:
        if str in kinds and kinds <= {str, type(None), float}:
            cleaned = [None if value != value else value for value in array.tolist()]  # only NaN is not itself
            return np.array(cleaned, object) if float not in set(map(type, cleaned)) else None
        if all(issubclass(k, (float, int, np.number, np.bool_, type(None))) for k in kinds):
            return array.astype(np.float64)  # None becomes NaN
    except (OverflowError, TypeError):
        pass
    return None


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}" if value.dtype != object else "an array of mixed objects"
    return "None" if value is None else f"a {type(value).__name__}"


def _refuse(function: Function, use: RequestFunctionUse, message: str) -> ProjectCodeError:
    return ProjectCodeError(f"request function {use.name!r} ({_place(function)}) {message}")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _place(function: Function, error: BaseException | None = None) -> str:
    """File and line where ``function`` begins, or where in the files beside it ``error`` was raised."""
    code = getattr(function, "__code__", None)
    if code is None:
        return "<unknown>"
    file, line = code.co_filename, code.co_firstlineno
    home = str(Path(file).parent)
    for frame in _frames(error):
        if frame.filename.startswith(home):
            file, line = frame.filename, frame.lineno or line
    return f"{file}:{line}"


def _frames(error: BaseException | None) -> Iterator[traceback.FrameSummary] | Sequence[traceback.FrameSummary]:
    return traceback.extract_tb(error.__traceback__) if error is not None else ()


def items_of(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that the items of a list are: those of a matrix (rows, items); none for anything else.

    >>> {name: column.tolist() for name, column in items_of("v", np.array([[1.0, 2.0]])).items()}
    {'v__0': [1.0], 'v__1': [2.0]}
    """
    return {} if values.ndim == 1 else {f"{name}__{i}": values[:, i] for i in range(values.shape[1])}
