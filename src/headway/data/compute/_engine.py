"""From queries (key, r) to columns of features."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from headway.data.compute import _aggregate as aggregate
from headway.data.compute._aggregate import Numbers, Rows
from headway.data.compute._batch import Batch, Result
from headway.data.compute._codes import KeyCodes
from headway.data.compute._column import Column
from headway.data.compute._order import sort_pairs
from headway.data.compute._timeline import Timeline, later
from headway.data.compute._tree import TooManyRangesError
from headway.data.compute._types import arrow_type, from_numpy
from headway.define.records import BEGINNING, FOREVER, Events, FeaturePlan, Snapshot, ViewPlan
from headway.errors import DataError

_CHUNK = 1 << 16  # queries at a time: what they need stays in the processor's cache
_BLOCK = 1 << 20  # rows asked for at a time: bounds memory, and large arrays are costly to come by


@dataclass(frozen=True, slots=True)
class Age:
    """For a feature that ttl applies to: its value's event time (BEGINNING: no value), and whether that is too old."""

    event: np.ndarray
    expired: np.ndarray


class PreparedView:
    """A view's events, sorted and indexed once for any number of questions.

    ``at`` and ``snapshot`` give what the functions of the same names give.
    """

    def __init__(self, plan: ViewPlan, events: Events) -> None:
        self.plan, self.events = plan, events
        self._keys = KeyCodes(events.keys, plan.keys)
        self._columns: dict[str, Column] = {}

    @cached_property
    def timeline(self) -> Timeline:
        return Timeline(self.plan, self.events, self._keys.codes, self._keys.count)

    def at(self, keys: pa.Table, t: np.ndarray, t_valid: np.ndarray | None = None) -> pa.Table:
        if len(t) != keys.num_rows:
            raise DataError(f"{keys.num_rows} keys came with {len(t)} times; each row needs one of both")
        t = np.asarray(t, dtype=np.int64)
        asked = np.ones(len(t), dtype=bool) if t_valid is None else t_valid
        blocks = [slice(begin, begin + _BLOCK) for begin in range(0, max(len(t), 1), _BLOCK)]
        with ThreadPoolExecutor(1) as other:  # the events are sorted while the first queries are
            other.submit(lambda: self.timeline)
            first = self._queries(keys[blocks[0]], t[blocks[0]], asked[blocks[0]])
        rest = (self._queries(keys[block], t[block], asked[block]) for block in blocks[1:])
        return pa.concat_tables([self._answer(*queries) for queries in chain([first], rest)])

    def _queries(self, keys: pa.Table, t: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        code, whole = self._keys.lookup(keys)
        return _distinct(code, floor_times(self.plan, t), whole & asked)

    def _answer(self, number: np.ndarray, code: np.ndarray, r: np.ndarray) -> pa.Table:
        results, _ = self._compute(code, r)
        return self._table(results, number)

    def snapshot(self, r: int, keys: pa.Table | None = None) -> Snapshot:
        if keys is None:
            code, keys = self._keys.distinct()
            asked = np.ones(len(code), dtype=bool)
        else:
            code, asked = self._keys.lookup(keys)
            keys = keys.select([field.name for field in self.plan.keys])
        moment = np.full(len(code), min(max(r, BEGINNING), FOREVER), dtype=np.int64)
        results, ages = self._compute(code, moment)
        number = np.where(asked, np.arange(len(code)), -1)
        return Snapshot(
            keys=keys,
            features=self._table(results, number),
            as_of=r,
            version=self.events.version,
            event_times={name: age.event for name, age in ages.items()},
            expired={name: age.expired for name, age in ages.items()},
        )

    def column(self, feature: FeaturePlan) -> Column:
        """The column a feature is computed from."""
        name = feature.column
        if name is None or name not in self.events.values:
            raise DataError(
                f"feature {feature.name!r} of view {self.plan.name!r} needs column {name!r}; "
                f"the events have {sorted(self.events.values)}"
            )
        if name not in self._columns:
            self._columns[name] = Column(name, self.events.values[name], self.timeline)
        return self._columns[name]

    def _compute(self, code: np.ndarray, r: np.ndarray) -> tuple[list[Result], dict[str, Age]]:
        """The value of every feature for each query, and the ages of those that ttl applies to."""
        parts: list[list[Result]] = [[] for _ in self.plan.features]
        for begin in range(0, max(len(code), 1), _CHUNK):
            for answer in self._answers(code[begin : begin + _CHUNK], r[begin : begin + _CHUNK]):
                for part, result in zip(parts, answer, strict=True):
                    part.append(result)
        joined = _Memo(_joined)
        results = [joined(*part) for part in parts]
        ages: dict[str, Age] = {}
        if (ttl := self.plan.ttl) is not None:
            aged = _Memo(lambda result: self._aged(result, r, ttl))
            for index, feature in enumerate(self.plan.features):
                if feature.is_latest:
                    results[index], ages[feature.name] = aged(results[index])
        return results, ages

    def _answers(self, code: np.ndarray, r: np.ndarray) -> list[list[Result]]:
        """The features' values, for as few queries at a time as keeps their ranges within bounds."""
        batch = Batch(self.events, self.timeline, self.column, code, r)
        try:
            return [[batch.value(feature) for feature in self.plan.features]]
        except TooManyRangesError:
            half = len(code) // 2
            return self._answers(code[:half], r[:half]) + self._answers(code[half:], r[half:])

    def _aged(self, result: Rows, r: np.ndarray, ttl: int) -> tuple[Rows, Age]:
        if len(self.events) == 0:
            return result, Age(np.full(len(r), BEGINNING), np.zeros(len(r), dtype=bool))
        event = np.where(result.rows >= 0, self.events.event.take(result.rows, mode="clip"), BEGINNING)
        expired = (event < later(r, -ttl)) & (event != BEGINNING)
        return Rows(np.where(expired, -1, result.rows)), Age(event, expired)

    def _table(self, results: list[Result], number: np.ndarray) -> pa.Table:
        """Columns for rows that ask for the query ``number`` each; -1 for null."""
        index = _Memo(lambda result: _index(result.rows, number))
        columns = []
        for feature, result in zip(self.plan.features, results, strict=True):
            if isinstance(result, Rows):
                array = self.column(feature).array.take(index(result))
            else:
                array = _scattered(result, number)
            columns.append(_cast(array, feature))
        return pa.table(columns, names=[feature.name for feature in self.plan.features])


class _Memo:
    """A function that works only once on the same objects: features of one view often share their rows."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._done: dict[tuple[int, ...], tuple[tuple[object, ...], Any]] = {}

    def __call__(self, *arguments: object) -> Any:
        key = tuple(map(id, arguments))
        if key not in self._done:  # the arguments are kept so that their ids stay theirs
            self._done[key] = (arguments, self._function(*arguments))
        return self._done[key][1]


def floor_times(plan: ViewPlan, t: np.ndarray) -> np.ndarray:
    """``plan.r`` for every time, held at the ends of what 64 bits can say."""
    at = later(t, -plan.lag)
    if plan.refresh is None:
        return at
    floored = at // plan.refresh * plan.refresh
    return np.where(floored > at, BEGINNING, floored)  # ran over the lower end


def _distinct(code: np.ndarray, r: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's query number (-1: null), and the distinct queries ordered by (code, r)."""
    code, r = np.where(asked, code, -1), np.where(asked & (code >= 0), r, 0)
    order = sort_pairs(code, r)
    code, r = code.take(order), r.take(order)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (code[1:] != code[:-1]) | (r[1:] != r[:-1])
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    number[~asked] = -1
    return number, code[new], r[new]


def _joined(*parts: Result) -> Result:
    if len(parts) == 1:
        return parts[0]
    rows = [part.rows for part in parts if isinstance(part, Rows)]
    if rows:
        return Rows(np.concatenate(rows))
    numbers = [part for part in parts if isinstance(part, Numbers)]
    valid = [part.valid for part in numbers if part.valid is not None]
    return Numbers(np.concatenate([part.values for part in numbers]), np.concatenate(valid) if valid else None)


def _index(rows: np.ndarray, number: np.ndarray) -> pa.Array:
    """The event rows to take, for rows that ask for the query ``number`` each."""
    asked = aggregate.rows_at(rows, number)
    return from_numpy(asked, asked < 0)


def _scattered(result: Numbers, number: np.ndarray) -> pa.Array:
    """The values of the queries ``number``."""
    if len(result.values) == 0:
        return pa.nulls(len(number), pa.from_numpy_dtype(result.values.dtype))
    absent = number < 0
    if result.valid is not None:
        absent |= ~result.valid.take(number, mode="clip")
    return from_numpy(result.values.take(number, mode="clip"), absent)


def _cast(array: pa.Array, feature: FeaturePlan) -> pa.Array:
    wanted = arrow_type(feature.type, array.type)
    if array.type == wanted:
        return array
    try:
        return array.cast(wanted, safe=not pa.types.is_floating(wanted))
    except pa.ArrowException as error:
        raise DataError(f"feature {feature.name!r} does not fit its type {feature.type}: {error}") from None
