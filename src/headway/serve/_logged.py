"""What the prediction log is told of a request: every row with what it was answered from.

One row is encoded at once: that costs less than keeping its objects for another thread, which the garbage collector
would walk through meanwhile. Many rows are encoded by the log's own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headway.data.predictions import Layout, encode, layout_of
from headway.define.records import ServingPlan

if TYPE_CHECKING:
    from headway.serve._predictor import Answer

ROLE = "champion"

Getter = Callable[[Mapping[str, Any]], tuple[Any, ...]]


class Part(msgspec.Struct, gc=False):
    """What one version answered: ``rows`` are their numbers in the request (None: all of them), ``given`` the JSON
    values by field."""

    maker: EntryMaker
    rows: list[int] | None
    given: Mapping[str, list[Any]]
    answer: Answer


class Served(msgspec.Struct, gc=False):
    """A request that was answered. ``now`` is the moment it was answered at."""

    model: str
    request_id: str
    rows: int
    now: int
    parts: Sequence[Part]


class LoggedRows(msgspec.Struct, gc=False):
    """Rows of one version: encoded already (empty if that failed), or how to."""

    layout: Layout
    rows: int
    entry: bytes | Callable[[], bytes]


class EntryMaker:
    """Encodes the rows that one version answered, in its layout."""

    __slots__ = ("_columns", "_inputs", "_names", "layout")

    def __init__(self, plan: ServingPlan, version: int) -> None:
        self.layout: Layout = layout_of(plan, version, ROLE)
        self._names = tuple(column.name for column in plan.columns)
        self._columns = _getter(self._names)
        self._inputs = _getter([field.name for field in self.layout.inputs])

    def logged(self, part: Part, served: Served, logged_at: int, seconds: float) -> LoggedRows:
        """The part's rows, for the log. Raises whatever a value raises that cannot be encoded."""
        rows = len(part.answer.predictions)
        if rows == 1:
            return LoggedRows(self.layout, 1, self._encode(part, served, logged_at, seconds))
        return LoggedRows(self.layout, rows, lambda: self._encode(part, served, logged_at, seconds))

    def _encode(self, part: Part, served: Served, logged_at: int, seconds: float) -> bytes:
        inputs, answer = self._inputs(part.given), part.answer
        entry = (
            served.request_id,
            part.rows,
            served.now,
            logged_at,
            seconds,
            answer.predictions,
            answer.segments,
            tuple(answer.as_of.values()),
            inputs,
            self._features(answer),
            answer.states,
        )
        try:
            return encode(entry)
        except OverflowError:  # a whole number beyond 64 bits, sent for a number with a fraction
            return encode((*entry[:8], [[_fitting(value) for value in values] for values in inputs], *entry[9:]))

    def _features(self, answer: Answer) -> Sequence[Any]:
        values = self._columns(answer.columns)
        if not values or not isinstance(values[0], np.ndarray):
            return values
        if len(answer.predictions) == 1:
            return [column.item(0) for column in values]
        return [_bytes_or_list(column) for column in values]


def _bytes_or_list(column: np.ndarray) -> bytes | list[Any]:
    if column.dtype.kind == "f":
        return column.astype("<f8", copy=False).tobytes()
    listed: list[Any] = column.tolist()
    return listed


def _fitting(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**64 else value


def _getter(names: Sequence[str]) -> Getter:
    if len(names) > 1:
        return itemgetter(*names)
    if not names:
        return lambda _: ()
    (only,) = names
    return lambda values: (values[only],)
