"""The columns of the log's lake tables.

Predictions: the log's own columns first, then keys and request inputs under their own names, every column that the
estimator was given as ``f__<column>``, and the as-of of every view as ``as_of__<view>``. Columns come and go with
versions; a column whose type has changed gets another name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from headway.clock import from_iso
from headway.data.predictions._frames import Dropped, Entry, LabelEntry, Layout, states_of

FEATURE, AS_OF, KEY = "f__", "as_of__", "k__"
MOMENT = pa.timestamp("us", tz="UTC")

OWN = {
    "request_id": pa.string(),
    "row": pa.int64(),
    "at": MOMENT,
    "logged_at": MOMENT,
    "model": pa.string(),
    "version": pa.int64(),
    "segment": pa.string(),
    "role": pa.string(),
    "prediction": pa.float64(),
    "seconds": pa.float64(),
    "source": pa.string(),
    "states": pa.string(),
}
LABELS = {
    "request_id": pa.string(),
    "row": pa.int64(),
    "at": MOMENT,
    "label": pa.string(),
    "known_at": MOMENT,
    "logged_at": MOMENT,
    "source": pa.string(),
}
DROPPED = {"reason": pa.string(), "rows": pa.int64(), "at": MOMENT, "logged_at": MOMENT, "writer": pa.string()}

_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()


def input_name(name: str) -> str:
    """The column of a key or request input: its own name, unless the log has such a column itself.

    >>> input_name("shop_id"), input_name("version")
    ('shop_id', 'in__version')
    """
    lower = name.lower()
    taken = lower in OWN or lower.startswith((FEATURE, AS_OF, "in__", "_"))
    return f"in__{name}" if taken else name


def is_input(column: str) -> bool:
    """Whether a column is a key, a request input, or carried along by a batch.

    >>> is_input("shop_id"), is_input("f__shop__orders_7d"), is_input("prediction")
    (True, False, False)
    """
    return column not in OWN and not column.startswith((FEATURE, AS_OF, "prediction__"))


def rows_table(layout: Layout, entries: Sequence[Entry]) -> pa.Table:
    """Entries of one layout as rows of the lake table."""
    counts = [len(entry.predictions) for entry in entries]
    each = np.repeat(np.arange(len(entries)), counts)

    def spread(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(list(values), kind).take(pa.array(each))

    columns: dict[str, pa.Array] = {
        "request_id": spread((e.request_id for e in entries), pa.string()),
        "row": pa.array(
            [n for e, count in zip(entries, counts, strict=True) for n in (e.rows or range(count))], pa.int64()
        ),
        "at": spread((e.at for e in entries), pa.int64()).cast(MOMENT),
        "logged_at": spread((e.logged_at for e in entries), pa.int64()).cast(MOMENT),
        "model": pa.repeat(layout.model, len(each)),
        "version": pa.repeat(pa.scalar(layout.version, pa.int64()), len(each)),
        "segment": pa.array([s for e in entries for s in e.segments], pa.string()),
        "role": pa.repeat(layout.role, len(each)),
        "prediction": predictions([p for e in entries for p in e.predictions], text=layout.text),
        "seconds": spread((e.seconds for e in entries), pa.float64()),
        "source": pa.repeat("http", len(each)),
        "states": pa.array(
            [
                states_of(e.states, row) if e.states else None
                for e, count in zip(entries, counts, strict=True)
                for row in range(count)
            ],
            pa.string(),
        ),
    }
    for i, item in enumerate(layout.inputs):
        columns[input_name(item.name)] = _inputs([v for e in entries for v in e.inputs[i]], item.type)
    for i, item in enumerate(layout.columns):
        columns[FEATURE + item.name] = _features([e.features[i] for e in entries], item.type)
    for i, prefix in enumerate(layout.views):
        columns[AS_OF + prefix] = spread((e.as_of[i] for e in entries), pa.int64()).cast(MOMENT)
    return pa.table(columns)


def predictions(values: Sequence[Any] | np.ndarray, *, text: bool) -> pa.Array:
    """Predictions as numbers (NaN, where nothing answered, is null), or class labels as text."""
    if not text:
        numbers = np.asarray([np.nan if v is None else v for v in values] if isinstance(values, list) else values)
        return pa.array(numbers.astype(np.float64), from_pandas=True)
    return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(value)


def features(values: np.ndarray) -> pa.Array:
    """A column as the estimator was given it: numbers, with NaN as null, or text."""
    if values.dtype.kind in "fiub":
        return pa.array(values.astype(np.float64), from_pandas=True)
    return pa.array([None if v is None else str(v) for v in values.tolist()], pa.string())


def _features(values: Sequence[Any], type_: str) -> pa.Array:
    """A column of entries: each a value, a list of values, or the bytes of numbers."""
    if "string" in type_:
        return pa.array([None if v is None else str(v) for item in values for v in _each(item)], pa.string())
    pieces = [
        np.frombuffer(item, "<f8") if isinstance(item, bytes) else np.array([_number(v) for v in _each(item)])
        for item in values
    ]
    return pa.array(np.concatenate(pieces).astype(np.float64), from_pandas=True)


def _each(item: Any) -> Sequence[Any]:
    if isinstance(item, bytes):
        return [None if np.isnan(v) else v for v in np.frombuffer(item, "<f8").tolist()]
    return item if isinstance(item, list) else [item]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _inputs(values: Sequence[Any], type_: str) -> pa.Array:
    """JSON values of a key or request input, in its type."""
    for starts, kind, convert in _INPUTS:
        if type_.startswith(starts):
            return pa.array([None if v is None else convert(v) for v in values], kind)
    return pa.array([None if v is None else str(v) for v in values], pa.string())


_INPUTS: tuple[tuple[tuple[str, ...], pa.DataType, Callable[[Any], Any]], ...] = (
    (("uint64",), pa.decimal128(20, 0), int),
    (("int", "uint"), pa.int64(), int),
    (("double", "float", "halffloat", "decimal"), pa.float64(), float),
    (("bool",), pa.bool_(), bool),
    (("timestamp",), MOMENT, from_iso),
    (("date",), pa.date32(), lambda text: dt.date.fromisoformat(text).toordinal() - _EPOCH_DAY),
)


def input_array(values: pa.Array, type_: str) -> pa.Array:
    """A column of a table that was scored, in the type that the log keeps a key or request input in."""
    wanted = next((kind for starts, kind, _ in _INPUTS if type_.startswith(starts)), pa.string())
    return values.cast(wanted) if values.type != wanted else values


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows that a batch scored: what it was, and what came of it. ``carried`` are columns of the input that say which
    fact a row is of; ``predicted``, ``segments``, ``moment`` have one value for each row."""

    layout: Layout
    request_id: str
    first: int  # number of the first row
    logged_at: int
    seconds: float  # for each row
    moment: np.ndarray
    valid: np.ndarray
    predicted: np.ndarray
    segments: Sequence[str | None]
    columns: Mapping[str, np.ndarray]
    inputs: Mapping[str, pa.Array]
    as_of: Mapping[str, np.ndarray] = field(default_factory=dict)
    carried: Mapping[str, pa.Array] = field(default_factory=dict)


def batch_table(batch: Batch) -> pa.Table:
    """Rows that a batch scored, as rows of the lake table."""
    layout, rows = batch.layout, len(batch.moment)
    columns: dict[str, pa.Array] = {
        "request_id": pa.repeat(batch.request_id, rows),
        "row": pa.array(np.arange(batch.first, batch.first + rows)),
        "at": pa.array(batch.moment, pa.int64(), mask=~batch.valid).cast(MOMENT),
        "logged_at": pa.repeat(pa.scalar(batch.logged_at, pa.int64()), rows).cast(MOMENT),
        "model": pa.repeat(layout.model, rows),
        "version": pa.repeat(pa.scalar(layout.version, pa.int64()), rows),
        "segment": pa.array(batch.segments, pa.string()),
        "role": pa.repeat(layout.role, rows),
        "prediction": predictions(batch.predicted, text=layout.text),
        "seconds": pa.repeat(batch.seconds, rows),
        "source": pa.repeat("batch", rows),
        "states": pa.nulls(rows, pa.string()),
    }
    columns.update({input_name(name): values for name, values in batch.carried.items()})
    for item in layout.inputs:
        columns[input_name(item.name)] = input_array(batch.inputs[item.name], item.type)
    columns.update({FEATURE + item.name: features(batch.columns[item.name]) for item in layout.columns})
    for prefix, as_of in batch.as_of.items():
        columns[AS_OF + prefix] = pa.array(as_of, pa.int64(), mask=~batch.valid).cast(MOMENT)
    return pa.table(columns)


def label_rows(entries: Sequence[LabelEntry]) -> pa.Table:
    """Labels that came over HTTP, as rows of the lake table."""
    rows = len(entries)
    return pa.table(
        {
            "request_id": pa.array([e.request_id for e in entries], pa.string()),
            "row": pa.array([e.row for e in entries], pa.int64()),
            "at": pa.nulls(rows, MOMENT),
            "label": pa.array([e.label for e in entries], pa.string()),
            "known_at": pa.array([e.known_at for e in entries], pa.int64()).cast(MOMENT),
            "logged_at": pa.array([e.logged_at for e in entries], pa.int64()).cast(MOMENT),
            "source": pa.repeat("http", rows),
        }
    )


def dropped_rows(found: Sequence[Dropped], writer: str) -> pa.Table:
    """What was not kept, as rows of the lake table."""
    return pa.table(
        {
            "reason": pa.array([d.reason for d in found], pa.string()),
            "rows": pa.array([d.rows for d in found], pa.int64()),
            "at": pa.array([d.at for d in found], pa.int64()).cast(MOMENT),
            "logged_at": pa.array([d.logged_at for d in found], pa.int64()).cast(MOMENT),
            "writer": pa.repeat(writer, len(found)),
        }
    )


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of several layouts, with every column that one of them has; one of two types gets a second name."""
    whole: dict[str, pa.DataType] = {}
    fitted = []
    for table in tables:
        table = settled(table, whole)
        whole.update({f.name: f.type for f in table.schema})
        fitted.append(table)
    return pa.concat_tables(fitted, promote_options="default")


def settled(table: pa.Table, existing: Mapping[str, pa.DataType]) -> pa.Table:
    """``table`` with columns named so that they fit those there are: one that is there in another type, or in another
    case, gets the type as a suffix."""
    lower = {name.lower(): name for name in existing}
    names = []
    for item in table.schema:
        known = lower.get(item.name.lower())
        fits = known is None or (known == item.name and existing[known] == item.type)
        name = item.name if fits else f"{item.name}__{_word(item.type)}"
        while not fits and (clash := lower.get(name.lower())) and (clash != name or existing[clash] != item.type):
            name += "_"
        names.append(name)
    return table.rename_columns(names)


def _word(kind: pa.DataType) -> str:
    return str(kind).partition("[")[0].partition("(")[0]
