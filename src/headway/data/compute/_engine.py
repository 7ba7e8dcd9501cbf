"""From queries (key, r) to columns of features."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from headway.data.compute import _aggregate as aggregate
from headway.data.compute._aggregate import Age, Lists, Numbers, Rows
from headway.data.compute._batch import SWEPT, Batch, Result
from headway.data.compute._codes import KeyCodes
from headway.data.compute._column import Column
from headway.data.compute._expressions import Expressions
from headway.data.compute._late import LATE, LATEST, LateColumn, LateRows, Stretches, far_back, many_ranges
from headway.data.compute._order import sort_pairs
from headway.data.compute._sweep import Distinct, Modes
from headway.data.compute._timeline import Span, Timeline, later
from headway.data.compute._tree import TooManyRangesError
from headway.data.compute._types import arrow_type, fixed_list, fixed_lists, from_numpy
from headway.define.records import BEGINNING, FOREVER, Events, FeaturePlan, Snapshot, ViewPlan
from headway.errors import DataError

_CHUNK = 1 << 16  # queries at a time: what they need stays in the processor's cache
_BLOCK = 1 << 20  # rows asked for at a time: bounds memory, and large arrays are costly to come by


class PreparedView:
    """A view's events, sorted and indexed once for any number of questions.

    ``at`` and ``snapshot`` give what the functions of the same names give.
    """

    def __init__(self, plan: ViewPlan, events: Events) -> None:
        self.plan, self.events = plan, events
        self._keys = KeyCodes(events.keys, plan.keys)
        self._columns: dict[str, Column] = {}
        self._swept: dict[tuple[str, str | None, Span], Distinct | Modes] = {}
        self._late_spans: dict[tuple[Callable[..., bool], Span], bool] = {}
        self._stretches: dict[tuple[str | None, Span], Stretches] = {}
        self._late_columns: dict[tuple[str | None, Span], LateColumn | LateRows] = {}
        self._expressions = Expressions(plan)

    @cached_property
    def timeline(self) -> Timeline:
        return Timeline(self.plan, self.events, self._keys.codes, self._keys.count)

    def at(self, keys: pa.Table, t: np.ndarray, t_valid: np.ndarray | None = None) -> pa.Table:
        if len(t) != keys.num_rows:
            raise DataError(f"{keys.num_rows} keys came with {len(t)} times; each row needs one of both")
        t = np.asarray(t, dtype=np.int64)
        asked = np.ones(len(t), dtype=bool) if t_valid is None else t_valid
        many = _BLOCK * 64 // (64 + sum(feature.n or 0 for feature in self.plan.features))
        blocks = [slice(begin, begin + many) for begin in range(0, max(len(t), 1), many)]
        with ThreadPoolExecutor(1) as other:  # the events are sorted while the first queries are
            other.submit(lambda: self.timeline)
            first = self._queries(keys[blocks[0]], t[blocks[0]], asked[blocks[0]])
        rest = (self._queries(keys[block], t[block], asked[block]) for block in blocks[1:])
        return pa.concat_tables([self._answer(*queries) for queries in chain([first], rest)])

    def _queries(self, keys: pa.Table, t: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        code, whole = self._keys.lookup(keys)
        return _distinct(code, floor_times(self.plan, t), whole & asked)

    def _answer(self, number: np.ndarray, code: np.ndarray, r: np.ndarray) -> pa.Table:
        results, ages = self._compute(code, r)
        return self._table(results, ages, number)

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
            features=self._table(results, ages, number),
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
            array = self.events.values[name]
            if feature.kind == "row" and feature.n is not None:
                array = fixed_lists(array, feature.n, f"feature {feature.name!r} of view {self.plan.name!r}")
            self._columns[name] = Column(name, array, self.timeline)
        return self._columns[name]

    def _compute(self, code: np.ndarray, r: np.ndarray) -> tuple[dict[str, Result], dict[str, Age]]:
        """The value of every feature but the exprs for each query, and the ages of those that ttl applies to."""
        late = [feature for feature in self.plan.features if self._is_late(feature, code, r)]
        batched = [f for f in self.plan.features if f.kind not in (*SWEPT, "expr") and f not in late]
        parts: list[list[Result]] = [[] for _ in batched]
        for begin in range(0, max(len(code), 1), _CHUNK):
            for answer in self._answers(batched, code[begin : begin + _CHUNK], r[begin : begin + _CHUNK]):
                for part, result in zip(parts, answer, strict=True):
                    part.append(result)
        joined = _Memo(_joined)
        results = {feature.name: joined(*part) for feature, part in zip(batched, parts, strict=True)}
        results |= {f.name: self._sweep(f).of(code, r) for f in self.plan.features if f.kind in SWEPT}
        results |= {f.name: self._without_nulls(f, self._late(f).of(f, code, r)) for f in late}
        ages: dict[str, Age] = {}
        if (ttl := self.plan.ttl) is not None:
            aged = _Memo(lambda result: self._aged(result, r, ttl))
            for feature in (*batched, *late):
                if feature.is_latest:
                    results[feature.name], ages[feature.name] = aged(results[feature.name])
            ages |= self._expressions.ages(ages)
        return results, {f.name: ages[f.name] for f in self.plan.features if f.name in ages}

    def _sweep(self, feature: FeaturePlan) -> Distinct | Modes:
        key = (feature.kind, feature.column, Span.of(feature, self.plan))
        if key not in self._swept:
            made = Distinct if feature.kind == "nunique" else Modes
            self._swept[key] = made(self.column(feature), key[2], self.events)
        return self._swept[key]

    def _is_late(self, feature: FeaturePlan, code: np.ndarray, r: np.ndarray) -> bool:
        """Whether the rows a feature sees are so many ranges that it is better computed by ``_late``."""
        if feature.kind not in LATE:
            return False
        span, judge = Span.of(feature, self.plan), many_ranges
        if feature.kind in LATEST:
            span, judge = span.unbounded, far_back
        if (judge, span) not in self._late_spans:
            self._late_spans[judge, span] = judge(self.timeline, span, code, r)
        return self._late_spans[judge, span]

    def _without_nulls(self, feature: FeaturePlan, found: Result) -> Result:
        """A bare column is null where it is null in the latest row, which is then no row at all."""
        present = self.column(feature).present if feature.kind == "row" else None
        if present is None or not isinstance(found, Rows) or not len(present):
            return found
        return Rows(np.where(present.take(found.rows, mode="clip"), found.rows, -1))

    def _late(self, feature: FeaturePlan) -> LateColumn | LateRows:
        span = Span.of(feature, self.plan)
        column = None if feature.column is None or feature.kind == "row" else self.column(feature)
        key = (None if column is None else column.name, span)
        if key not in self._late_columns:
            whole = column is None or column.positions is None
            at = (None if whole else feature.column, span)
            if at not in self._stretches:
                self._stretches[at] = Stretches(self.timeline, None if whole else column, span, self.events)
            stretches = self._stretches[at]
            made = LateRows(stretches, self.events) if column is None else LateColumn(column, stretches, self.events)
            self._late_columns[key] = made
        return self._late_columns[key]

    def _answers(self, features: list[FeaturePlan], code: np.ndarray, r: np.ndarray) -> list[list[Result]]:
        """The features' values, for as few queries at a time as keeps their ranges within bounds."""
        batch = Batch(self.events, self.timeline, self.column, code, r)
        try:
            return [[batch.value(feature) for feature in features]]
        except TooManyRangesError:
            half = len(code) // 2
            halves = (slice(None, half), slice(half, None))
            return [answer for half in halves for answer in self._answers(features, code[half], r[half])]

    def _aged(self, result: Rows, r: np.ndarray, ttl: int) -> tuple[Rows, Age]:
        if len(self.events) == 0:
            return result, Age(np.full(len(r), BEGINNING), np.zeros(len(r), dtype=bool))
        event = np.where(result.rows >= 0, self.events.event.take(result.rows, mode="clip"), BEGINNING)
        expired = (event < later(r, -ttl)) & (event != BEGINNING)
        return Rows(np.where(expired, -1, result.rows)), Age(event, expired)

    def _table(self, results: dict[str, Result], ages: dict[str, Age], number: np.ndarray) -> pa.Table:
        """Columns for rows that ask for the query ``number`` each; -1 for null."""
        index = _Memo(lambda result: _index(result.rows, number))
        columns: dict[str, pa.Array] = {}
        for feature in self.plan.features:
            if feature.kind == "expr":
                continue
            result = results[feature.name]
            if isinstance(result, Lists):
                array = _listed(self.column(feature).array, result.rows, number)
            elif isinstance(result, Rows):
                array = self.column(feature).array.take(index(result))
            else:
                array = _scattered(result, number)
            columns[feature.name] = _cast(array, feature)
        expired = {name: aggregate.rows_at(age.expired.view(np.int8), number) > 0 for name, age in ages.items()}
        columns = self._expressions.added(columns, number < 0, expired)
        return pa.table(columns)


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
    if isinstance(parts[0], Rows | Lists):
        rows = np.concatenate([part.rows for part in parts if not isinstance(part, Numbers)])
        return Rows(rows) if isinstance(parts[0], Rows) else Lists(rows)
    numbers = [part for part in parts if isinstance(part, Numbers)]
    valid = [part.valid for part in numbers if part.valid is not None]
    return Numbers(np.concatenate([part.values for part in numbers]), np.concatenate(valid) if valid else None)


def _index(rows: np.ndarray, number: np.ndarray) -> pa.Array:
    """The event rows to take, for rows that ask for the query ``number`` each."""
    asked = aggregate.rows_at(rows, number)
    return from_numpy(asked, asked < 0)


def _listed(array: pa.Array, rows: np.ndarray, number: np.ndarray) -> pa.Array:
    """Lists of the values at the event rows of the queries ``number``; null where there is no value at all."""
    asked = np.where((number < 0)[:, None], -1, rows.take(number, axis=0, mode="clip") if len(rows) else -1)
    items = array.take(from_numpy(asked.ravel(), asked.ravel() < 0))
    return fixed_list(items, rows.shape[1], asked[:, 0] >= 0, spread=False)


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
