"""From queries (key, r) to columns of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from headway.data.compute import _aggregate as aggregate
from headway.data.compute._aggregate import Numbers, Rows
from headway.data.compute._codes import KeyCodes
from headway.data.compute._column import Column
from headway.data.compute._order import sort_pairs
from headway.data.compute._ranges import Pieces, Visible
from headway.data.compute._timeline import Timeline, later
from headway.data.compute._tree import TooManyRangesError
from headway.data.compute._types import arrow_type
from headway.define.records import BEGINNING, FOREVER, Events, FeaturePlan, Snapshot, ViewPlan
from headway.errors import DataError

_CHUNK = 1 << 16  # queries at a time: what they need stays in the processor's cache
Result = Numbers | Rows
_RANGES: Mapping[str, Callable[[Column, Pieces], Result]] = {
    "sum": aggregate.total,
    "mean": aggregate.mean,
    "std": aggregate.std,
    "min": aggregate.least,
    "max": aggregate.greatest,
    "first": aggregate.first,
}


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
        with ThreadPoolExecutor(1) as other:  # the events are sorted while the queries are
            other.submit(lambda: self.timeline)
            number, code, r = self._queries(keys, t, t_valid)
        results, _ = self._compute(code, r)
        return self._table(results, number)

    def _queries(
        self, keys: pa.Table, t: np.ndarray, t_valid: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        code, asked = self._keys.lookup(keys)
        if len(t) != len(code):
            raise DataError(f"{len(code)} keys came with {len(t)} times; each row needs one of both")
        if t_valid is not None:
            asked &= t_valid
        return _distinct(code, floor_times(self.plan, np.asarray(t, dtype=np.int64)), asked)

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
        batch = Batch(self, code, r)
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


class Batch:
    """Some queries and what their features share: the visible rows per window, and those with a value per column."""

    def __init__(self, view: PreparedView, code: np.ndarray, r: np.ndarray) -> None:
        self.view, self.code, self.r = view, code, r
        self.timeline = view.timeline
        self._windows: dict[int | None, Visible] = {}
        self._seen: dict[tuple[int | None, str | None], tuple[Visible, Pieces]] = {}

    def value(self, feature: FeaturePlan) -> Result:
        if feature.kind == "count":
            return Numbers(aggregate.count_rows(self.seen(feature.window, None)[1]))
        column = self.view.column(feature)
        if feature.kind == "row":
            return self._row(column, feature.window)
        if feature.kind == "last":
            return self._last(column, feature.window)
        seen, pieces = self.seen(feature.window, column)
        if feature.kind == "nunique":
            return aggregate.distinct(column, seen)
        if feature.kind == "quantile":
            return aggregate.quantile(column, pieces, 0.5 if feature.q is None else feature.q)
        return _RANGES[feature.kind](column, pieces)

    def seen(self, window: int | None, column: Column | None) -> tuple[Visible, Pieces]:
        """The visible rows in a window; with a column, those where it has a value, in its own positions."""
        key = (window, None if column is None else column.name)
        if key not in self._seen:
            visible = self._visible(window)
            if column is not None:
                visible = visible.through(column.counts)
            self._seen[key] = (visible, visible.pieces())
        return self._seen[key]

    @cached_property
    def latest(self) -> np.ndarray:
        """The position of the latest visible row, -1 where there is none."""
        return self.timeline.latest(self.code, self.r)

    @cached_property
    def latest_rows(self) -> Rows:
        """The same as rows of the events."""
        return Rows(aggregate.rows_at(self.timeline.order, self.latest))

    @cached_property
    def _widest(self) -> int | None:
        windows = [f.window for f in self.view.plan.features if f.kind not in ("row", "last")]
        return None if None in windows else max((w for w in windows if w is not None), default=None)

    def _visible(self, window: int | None) -> Visible:
        if window not in self._windows:
            if window == self._widest:
                self._windows[window] = self.timeline.visible(self.code, self.r, window)
            else:
                widest = self._visible(self._widest)
                self._windows[window] = self.timeline.since(widest, self.code, self.r, window)
        return self._windows[window]

    def _row(self, column: Column, window: int | None) -> Rows:
        found = self.latest_rows
        if column.present is not None and len(column.present):
            found = Rows(np.where(column.present.take(found.rows, mode="clip"), found.rows, -1))
        return self._recent(found, window)

    def _last(self, column: Column, window: int | None) -> Rows:
        """The latest row if it has a value; only for the others all visible ones are searched for."""
        found = self.latest_rows
        if column.present is not None and len(column.present):
            rows = found.rows.copy()
            searched = np.flatnonzero((rows >= 0) & ~column.present.take(rows, mode="clip"))
            if len(searched):
                visible = self.timeline.visible(self.code[searched], self.r[searched], window)
                rows[searched] = aggregate.last(column, visible.through(column.counts).pieces()).rows
            found = Rows(rows)
        return self._recent(found, window)

    def _recent(self, found: Rows, window: int | None) -> Rows:
        """Rows before the window do not count; an older one cannot be within it if the latest is not."""
        if window is None or self.view.plan.timeless or len(self.view.events) == 0:
            return found
        event = self.view.events.event.take(found.rows, mode="clip")
        return Rows(np.where(event >= later(self.r, -window), found.rows, -1))


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
    code, r = code[order], r[order]
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
    return pa.array(asked, mask=asked < 0)


def _scattered(result: Numbers, number: np.ndarray) -> pa.Array:
    """The values of the queries ``number``."""
    if len(result.values) == 0:
        return pa.nulls(len(number), pa.from_numpy_dtype(result.values.dtype))
    absent = number < 0
    if result.valid is not None:
        absent |= ~result.valid.take(number, mode="clip")
    return pa.array(result.values.take(number, mode="clip"), mask=absent)


def _cast(array: pa.Array, feature: FeaturePlan) -> pa.Array:
    wanted = arrow_type(feature.type, array.type)
    if array.type == wanted:
        return array
    try:
        return array.cast(wanted, safe=not pa.types.is_floating(wanted))
    except pa.ArrowException as error:
        raise DataError(f"feature {feature.name!r} does not fit its type {feature.type}: {error}") from None
