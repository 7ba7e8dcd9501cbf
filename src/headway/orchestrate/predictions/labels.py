"""What predictions turned out to be: labels that were attached, and labels straight from the model's label source.

A prediction gets one label or none; never one that could be another's. In this order:

1. A label attached by request id, and row where the request had several.
2. A label attached by the entity's keys and the event's time.
3. The row of the label's source that has the same id, where the ids are among what was logged: batch predictions carry
   them along.
4. The only row of the label's source with the same keys at the very same time. The time is that of the event: a
   request input (or a column that a batch carried along) called as the source's timestamp, or as the label's ``as_of``.
   The moment at which a request was answered is never taken for it.

Where several rows would do, the label is null and its state ``ambiguous``. Only what is known at the clock's now
counts, ``matures`` included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.predictions import KEY, input_name, is_input, read, read_labels
from headway.data.spine import arrow_type, column, instants, timestamps
from headway.define import Model
from headway.define._duration import microseconds
from headway.errors import DataError
from headway.orchestrate._parts import Parts

LabelState = Literal["known", "unknown", "ambiguous"]

_TEXTS = (pa.string(), pa.large_string())


def attached(parts: Parts, model: str | Model, since: int | None = None, until: int | None = None) -> pa.Table:
    """The logged predictions of a model whose moment is in [since, until), with what they turned out to be.

    The columns of ``headway.data.predictions.read``, and ``label`` (float64 for a regression, else of the type that it
    has in its source; null where it is not known), ``label_known_at`` and ``label_state`` (``known``, ``unknown``,
    ``ambiguous``). What servers have written and is not in the lake yet is moved there first.
    """
    name = model if isinstance(model, str) else model.name
    declared = parts.declarations.models.get(name) if isinstance(model, str) else model
    predictions = read(parts.lake, name, since, until, home=parts.settings.home)
    found = _Found(len(predictions))
    if len(predictions):
        now = parts.clock.now()
        told = read_labels(parts.lake, name)
        told = told.filter(pc.less_equal(told["known_at"], timestamps(np.array([now]))[0]))
        _by_request(parts, predictions, told, found)
        if declared is not None:
            times = moment_columns(declared)
            _by_keys(parts, predictions, told, declared, times, found)
            _from_source(parts, predictions, declared, times, now, found)
    kind = _label_type(parts, name, declared)
    table = predictions.append_column("label", found.labels(kind))
    table = table.append_column("label_known_at", timestamps(found.known, found.state == 1))
    return table.append_column("label_state", found.states())


def moment_columns(model: Model) -> tuple[str, ...]:
    """The columns of a model's label source that say when a fact happened, or when its features are taken."""
    names = (model.label.source.timestamp, model.label.as_of)
    return tuple(dict.fromkeys(name for name in names if name is not None))


class _Found:
    """The label of each prediction as far as it is known: its text, or a place in the label source."""

    def __init__(self, rows: int) -> None:
        self.state = np.zeros(rows, np.int8)  # 0 unknown, 1 known, 2 ambiguous
        self.known = np.zeros(rows, np.int64)
        self.told: list[str | None] = [None] * rows  # the text that was attached
        self.row = np.full(rows, -1)  # in the label source
        self.source: pa.Array | None = None  # the label source's labels

    @property
    def open(self) -> np.ndarray:
        """Predictions that nothing was found for."""
        return np.asarray(np.flatnonzero(self.state == 0))

    def settle(self, rows: np.ndarray, known: np.ndarray, *, ambiguous: np.ndarray) -> None:
        self.state[rows] = np.where(ambiguous, 2, 1)
        self.known[rows] = known

    def labels(self, kind: pa.DataType) -> pa.Array:
        """All labels, as one type; a text that is no such value is left out, and unknown."""
        texts = _parsed(self.told, kind)
        failed = np.asarray(texts.is_null()) & np.array([t is not None for t in self.told], bool) & (self.state == 1)
        self.state[failed] = 0
        if self.source is None:
            return texts
        rows = pa.array(self.row, mask=(self.row < 0) | (self.state != 1))
        return pc.coalesce(texts, self.source.cast(kind, safe=False).take(rows))

    def states(self) -> pa.Array:
        return pa.array(np.array(["unknown", "known", "ambiguous"], object)[self.state], pa.string())


def _label_type(parts: Parts, name: str, model: Model | None) -> pa.DataType:
    """Numbers for a regression; else what the label's source has, or text if the model is not declared any more."""
    versions = parts.registry.versions(name)
    task = versions[-1].serving.task if versions else "regression"
    if task == "regression":
        return pa.float64()
    if model is not None:
        for item in parts.binder.columns(model.label.source):
            if item.name == model.label.column:
                return arrow_type(item.type)
    return pa.string()


def _parsed(texts: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    """Texts as values of a type; null where a text is none."""
    values = pa.array(texts, pa.string())
    if kind in _TEXTS:
        return values.cast(kind)
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        return pa.array([_value(text, kind) for text in texts], kind)


def _value(text: str | None, kind: pa.DataType) -> Any:
    if text is None:
        return None
    try:
        return pa.scalar(text).cast(kind).as_py()
    except pa.ArrowInvalid:
        pass
    try:  # 1.0 for the class 1
        number = float(text)
    except ValueError:
        return None
    if pa.types.is_boolean(kind):
        return bool(number) if number in (0.0, 1.0) else None
    return int(number) if pa.types.is_integer(kind) and number.is_integer() else None


def _by_request(parts: Parts, predictions: pa.Table, told: pa.Table, found: _Found) -> None:
    """Labels by request id and row; without a row, of a request over HTTP that had one only.

    An id that a client sent again stands for one prediction if the inputs were the same, else it is ambiguous.
    """
    labels = told.filter(told["request_id"].is_valid())
    if not len(labels):
        return
    own = [n for n in predictions.column_names if is_input(n)]
    asked = predictions.select(["request_id", "row", "source", *own])
    same = ", ".join(_quoted(n) for n in own) or "0"
    rows = _query(
        parts,
        f"""
        with told as (
            select request_id, "row", label, known_at, logged_at from l
            qualify row_number() over (partition by request_id, "row" order by known_at desc, logged_at desc) = 1),
        asked as (
            select __n, request_id, "row", source, max("row") over (partition by request_id) as most,
                md5(row({same})::varchar) as inputs from p where request_id in (select request_id from told)),
        repeated as (
            select request_id, "row", count(distinct inputs) > 1 as ambiguous from asked group by all),
        matched as (
            select a.__n, t.label, t.known_at, r.ambiguous
            from asked a join repeated r using (request_id, "row") join told t on t.request_id = a.request_id
                and (t."row" = a."row" or (t."row" is null and a.most = 0 and a.source = 'http'))
            qualify row_number() over (partition by a.__n order by t.known_at desc, t.logged_at desc) = 1)
        select __n, label, epoch_us(known_at) as known, ambiguous from matched""",
        {"p": _numbered(asked), "l": labels},
    )
    _tell(found, rows)


def _by_keys(
    parts: Parts, predictions: pa.Table, told: pa.Table, model: Model, times: Sequence[str], found: _Found
) -> None:
    """Labels by the entity's keys and the event's time, the last one told of each."""
    keys = list(model.entity_columns)
    by = next((name for name in times if input_name(name) in predictions.column_names), None)
    labels = told.filter(told["request_id"].is_null())
    named = {key: KEY + key for key in keys}
    if by is None or not len(labels) or not {*named.values()} <= {*labels.column_names}:
        return
    if not {input_name(key) for key in keys} <= {*predictions.column_names}:
        return
    on = [(input_name(key), name) for key, name in named.items()]
    asked = predictions.select([input_name(by), *(name for name, _ in on)])
    labels = _alike(labels, asked, on)
    equal = " and ".join(
        [f'a.{_quoted(input_name(by))} = t."at"', *(f"a.{_quoted(p)} = t.{_quoted(f)}" for p, f in on)]
    )
    group = ", ".join(['"at"', *(_quoted(name) for _, name in on)])
    rows = _query(
        parts,
        f"""
        with told as (
            select * from l
            qualify row_number() over (partition by {group} order by known_at desc, logged_at desc) = 1)
        select a.__n, t.label, epoch_us(t.known_at) as known, false as ambiguous from p a join told t on {equal}""",
        {"p": _numbered(asked, found.open), "l": labels},
    )
    _tell(found, rows)


def _tell(found: _Found, rows: pa.Table) -> None:
    at = np.asarray(rows["__n"].combine_chunks()) if len(rows) else np.zeros(0, np.int64)
    ambiguous = np.asarray(rows["ambiguous"]).astype(bool)
    found.settle(at, np.asarray(rows["known"]), ambiguous=ambiguous)
    for n, label, unsure in zip(at.tolist(), rows["label"].to_pylist(), ambiguous.tolist(), strict=True):
        found.told[n] = None if unsure else label


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """The rows of a label source that are known now: ``usable`` where the label is known and final, too."""

    table: pa.Table
    label: pa.Array
    known: np.ndarray
    usable: np.ndarray


_KEPT: WeakKeyDictionary[Parts, tuple[tuple[Any, ...], _Facts]] = WeakKeyDictionary()


def _facts(parts: Parts, model: Model, now: int) -> _Facts:
    """The facts of a model's label source. Those read last are kept: a monitor asks for one window after the other."""
    key = (model, now, parts.binder.version(model.label.source))
    kept = _KEPT.get(parts)
    if kept is None or kept[0] != key:
        kept = _KEPT[parts] = (key, _read_facts(parts, model, now))
    return kept[1]


def _read_facts(parts: Parts, model: Model, now: int) -> _Facts:
    source, label = model.label.source, model.label
    table = parts.binder.current_rows(source, now)
    known_by = label.as_of if source.timeless and label.as_of is not None else "__known"
    known, valid = instants(column(table, known_by), None, f"column {known_by!r} of {source.name!r}")
    known = known + (microseconds(label.matures) if label.matures else 0)
    values = column(table, label.column, f"source {source.name!r}")
    return _Facts(table, values, known, valid & (known <= now) & np.asarray(values.is_valid()))


def _from_source(
    parts: Parts, predictions: pa.Table, model: Model, times: Sequence[str], now: int, found: _Found
) -> None:
    """Labels of the source's rows: by id where ids were logged, else by keys and time."""
    ids = list(model.label.source.id)
    there = {*predictions.column_names}
    timed = [name for name in times if input_name(name) in there]
    keys = list(model.entity_columns)
    by_id = bool(ids) and {input_name(name) for name in ids} <= there
    by_time = bool(timed) and {input_name(name) for name in keys} <= there
    if not (by_id or by_time):
        return
    facts = _facts(parts, model, now)
    found.source = facts.label
    if by_id:
        identified = np.ones(len(predictions), bool)
        for name in ids:
            identified &= np.asarray(predictions[input_name(name)].is_valid())
        _match(parts, predictions, found.open[identified[found.open]], ids, facts, found)
        rest = found.open[~identified[found.open]]
    else:
        rest = found.open
    if by_time:
        _match(parts, predictions, rest, [*keys, *timed], facts, found)


def _match(
    parts: Parts, predictions: pa.Table, rows: np.ndarray, names: Sequence[str], facts: _Facts, found: _Found
) -> None:
    """The one fact that is equal in ``names`` to each of some predictions. A fact whose label is not known yet counts
    when it comes to being the only one."""
    if not len(rows):
        return
    for name in names:
        if name not in facts.table.column_names:
            raise DataError(f"the label's source has no column {name!r} to tell by which row a prediction was about")
    on = [(input_name(name), name) for name in names]
    asked = predictions.select([name for name, _ in on])
    some = _alike(facts.table.select(list(names)), asked, on)
    equal = " and ".join(f"a.{_quoted(p)} = f.{_quoted(name)}" for p, name in on)
    matched = _query(
        parts,
        f"select a.__n, min(f.__n) as fact, count(*) as facts from p a join f on {equal} group by a.__n",
        {"p": _numbered(asked, rows), "f": _numbered(some)},
    )
    if not len(matched):
        return
    at, fact = np.asarray(matched["__n"]), np.asarray(matched["fact"])
    ambiguous = np.asarray(matched["facts"]) > 1
    keep = ambiguous | facts.usable[fact]
    at, fact, ambiguous = at[keep], fact[keep], ambiguous[keep]
    found.settle(at, facts.known[fact], ambiguous=ambiguous)
    found.row[at] = np.where(ambiguous, -1, fact)


def _alike(table: pa.Table, other: pa.Table, on: Sequence[tuple[str, str]]) -> pa.Table:
    """``table`` with the columns to compare in the types that ``other`` has them in; null where a value is none."""
    for theirs, mine in on:
        kind = other.schema.field(theirs).type
        if table.schema.field(mine).type != kind:
            table = table.set_column(table.column_names.index(mine), mine, _cast(column(table, mine), kind))
    return table


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([_each(value, kind) for value in values], kind)


def _each(value: pa.Scalar, kind: pa.DataType) -> Any:
    try:
        return value.cast(kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _numbered(table: pa.Table, rows: np.ndarray | None = None) -> pa.Table:
    """Some rows of a table (all, if not said), with their numbers as ``__n``."""
    if rows is None:
        return table.append_column("__n", pa.array(np.arange(len(table))))
    return table.take(pa.array(rows)).append_column("__n", pa.array(rows))


def _query(parts: Parts, sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    return parts.engine.query(sql, tables)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
