"""A model version that is ready to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from headway.define.records import BEGINNING, State, VersionRecord, ViewUse, list_type
from headway.define.request_time import items_of
from headway.errors import suggest
from headway.serve._fields import ABSENT, InputField, input_field, missing_fields, segment_texts
from headway.serve._found import column_reader, is_number
from headway.serve._logged import EntryMaker
from headway.serve._problems import Refused, shown
from headway.serve._protocols import BoundView, FeatureReader, Found
from headway.serve._scoring import Scoring

_KEYS = 256

STATES: tuple[State, ...] = get_args(State)


@dataclass(slots=True)
class Answer:
    """Predictions for the rows asked, and what they rest on.

    ``segments`` says whose estimator answered each row (None: the pooled one). ``as_of`` has, per view, the moment
    its values speak for (the earliest, should they differ; None: never refreshed). ``states`` lists the features that
    are not ok in every row. ``counts`` are values by view and state, for the metrics. ``columns`` is what the estimator
    could see: plain values of one row, or arrays.
    """

    predictions: list[Any]
    segments: list[str | None]
    as_of: dict[str, int | None] = field(default_factory=dict)
    states: dict[str, list[State]] = field(default_factory=dict)
    counts: list[tuple[str, State, int]] = field(default_factory=list)
    columns: Mapping[str, Any] = field(default_factory=dict)


class LoadedVersion:
    """One version with everything it needs: estimators, request functions, features bound for reading.

    ``predict`` may be called from any thread.
    """

    def __init__(self, record: VersionRecord, scoring: Scoring, reader: FeatureReader) -> None:
        plan = record.serving
        self.record = record
        self.plan = plan
        self.version = str(record.version)
        self.maker = EntryMaker(plan, record.version)
        self._scoring = scoring
        self._reader = reader
        self._views = tuple(_BoundUse(use, reader) for use in plan.views)
        self._keys = {entity.name: input_field(entity.name, entity.type) for entity in plan.entities}
        self._requests = {request.name: input_field(request.name, request.type) for request in plan.requests}
        self._stored = {name: item for view in self._views for name, item in view.fields.items()}
        self._moments = tuple(r.name for r in plan.requests if r.type == "timestamp")
        # Only numbers among the features: then one row needs no arrays, unless a function does.
        self._plain = scoring.takes_rows and all(view.plain for view in self._views)
        self._required = tuple({**self._keys, **self._requests})
        self.known = frozenset((*self._required, *self._stored))

    @property
    def inputs(self) -> dict[str, InputField]:
        """The fields a caller must send: keys and request inputs, each once."""
        return {**self._requests, **self._keys}

    @property
    def overrides(self) -> dict[str, InputField]:
        """The fields a caller may send instead of what is stored."""
        return dict(self._stored)

    def predict(
        self, given: Mapping[str, list[Any]], rows: int, now: int, known: frozenset[str] | None = None
    ) -> Answer:
        """Answer ``rows`` rows of JSON values by field. ``known`` are names not to refuse (others of the model's).

        Raises:
            Refused: a field is missing, unknown or of another type.
            ProjectCodeError: a request function raised.
            StoreError: the online store failed.
        """
        self._check_names(given, self.known if known is None else known)
        keys = {name: item.keys(given[name]) for name, item in self._keys.items()}
        found = self._look_up(keys, now) if rows else ()
        if rows == 1 and self._plain and len(given) == len(self._required):
            one = self._predict_row(given, found)
            if one is not None:
                return one
        columns = {name: item.column(given[name]) for name, item in self._requests.items()}
        answer = Answer([], [])
        if not rows:
            return answer
        for view, values in zip(self._views, found, strict=True):
            view.add(values, columns, answer)
        if len(given) > len(self._required):
            self._override(given, columns, answer)
        self._scoring.complete(columns, rows)
        name = self.plan.segment
        segments = None if name is None else segment_texts(given[name])
        predictions, answer.segments = self._scoring.predict(columns, rows, segments)
        answer.predictions = predictions.tolist()
        answer.columns = columns
        return answer

    def warm_up(self, now: int) -> None:
        """Answer one row without values, so that the first request finds everything loaded.

        Raises whatever ``predict`` raises.
        """
        self.predict({name: [None] for name in self._required}, 1, now)

    def _check_names(self, given: Mapping[str, Any], known: frozenset[str]) -> None:
        if not known.issuperset(given):
            name = next(n for n in given if n not in known)
            raise Refused(422, f"unknown field {shown(name)}; {suggest(name, known)}")
        missing = [name for name in self._required if name not in given]
        if missing:
            raise missing_fields(missing)

    def _look_up(self, keys: Mapping[str, list[Any]], now: int) -> Sequence[Found]:
        if not self._views:
            return ()
        return self._reader.lookup_many([(view.bound, view.encode(keys)) for view in self._views], now)

    def _predict_row(self, given: Mapping[str, list[Any]], found: Sequence[Found]) -> Answer | None:
        """The answer for one row whose stored values are all ok, without arrays; None if it needs the general way."""
        answer = Answer([], [])
        row: dict[str, Any] = {}
        for view, values in zip(self._views, found, strict=True):
            ok = values.ok_row
            if ok is None:
                return None
            row.update(zip(view.names, ok.values, strict=True))
            answer.as_of[view.prefix] = ok.as_of
            answer.counts.append((view.view, "ok", len(ok.values)))
        for name, item in self._requests.items():
            row[name] = item.one(given[name])
        segment = None if self.plan.segment is None else segment_texts(given[self.plan.segment])[0]
        predicted = self._scoring.predict_row(row, {name: row[name] for name in self._moments}, segment)
        if predicted is None:
            return None
        answer.predictions, answer.segments = [predicted[0]], [predicted[1]]
        answer.columns = row
        return answer

    def _override(self, given: Mapping[str, list[Any]], columns: dict[str, np.ndarray], answer: Answer) -> None:
        for name, values in given.items():
            item = self._stored.get(name)
            if item is None:
                continue
            sent = [i for i, value in enumerate(values) if value is not ABSENT]
            if len(sent) == len(values):
                columns[name] = item.column(values)
                answer.states.pop(name, None)
                continue
            columns[name] = columns[name].copy()
            columns[name][sent] = item.column([values[i] for i in sent])
            if name in answer.states:
                for i in sent:
                    answer.states[name][i] = "ok"


class _BoundUse:
    """A view as the version uses it, bound to the online store."""

    def __init__(self, use: ViewUse, reader: FeatureReader) -> None:
        self.prefix = use.prefix
        self.view = use.plan.name
        self.bound = reader.bind(use.plan, use.features)
        self._keys = tuple((key.name, use.keys.get(key.name, key.name)) for key in use.plan.keys)
        plans = {f.name: f for f in use.plan.features}
        chosen = [(f"{use.prefix}__{name}", i, plans[name]) for i, name in enumerate(use.features)]
        self.names = tuple(name for name, _, _ in chosen)
        self._others = tuple((name, column_reader(f, i)) for name, i, f in chosen if not is_number(f))
        self.plain = not self._others
        self.fields = {name: input_field(name, f.type) for name, _, f in chosen if list_type(f.type) is None}

    def encode(self, keys: Mapping[str, list[Any]]) -> Sequence[bytes | None]:
        return encode_keys(self.bound, {key: keys[column] for key, column in self._keys})

    def add(self, found: Found, columns: dict[str, np.ndarray], answer: Answer) -> None:
        """Put the values into ``columns``, and into ``answer`` what they are worth."""
        # Columns of what is no number come out as NaN first, and are then read.
        columns.update(zip(self.names, found.floats().T, strict=True))
        for name, read in self._others:
            columns[name] = values = read(found)
            columns.update(items_of(name, values))
        answer.as_of[self.prefix] = earliest(found.as_of)
        state = found.state
        codes = state.tobytes()
        if codes.count(0) < len(codes):
            for i in np.flatnonzero(state.any(axis=0)).tolist():
                answer.states[self.names[i]] = [STATES[code] for code in state[:, i].tolist()]
            counted = np.bincount(state.ravel(), minlength=len(STATES)).tolist()
            answer.counts += [(self.view, s, n) for s, n in zip(STATES, counted, strict=True) if n]
        else:
            answer.counts.append((self.view, "ok", len(codes)))


def encode_keys(bound: BoundView, keys: Mapping[str, list[Any]]) -> Sequence[bytes | None]:
    """The store's key of each entity; None where a key is null.

    The encoder is asked for some keys at a time, without nulls: so it does without Arrow, whose first array of Python
    objects imports pandas.
    """
    rows = len(next(iter(keys.values()), ()))
    for values in keys.values():
        if None in values or rows > _KEYS:
            break
    else:
        return bound.encode(keys)
    whole = [i for i, row in enumerate(zip(*keys.values(), strict=True)) if None not in row]
    encoded: list[bytes | None] = [None] * rows
    for start in range(0, len(whole), _KEYS):
        chosen = whole[start : start + _KEYS]
        found = bound.encode({name: [values[i] for i in chosen] for name, values in keys.items()})
        for i, key in zip(chosen, found, strict=True):
            encoded[i] = key
    return encoded


def earliest(as_of: np.ndarray) -> int | None:
    """The earliest moment that some row speaks for; None if there was no refresh."""
    if len(as_of) == 1:
        one: int = as_of.item(0)
        return None if one == BEGINNING else one
    there = as_of[as_of != BEGINNING]
    return int(there.min()) if len(there) else None


def merged_known(versions: Iterable[LoadedVersion]) -> frozenset[str]:
    """The names that some version knows."""
    return frozenset(name for version in versions for name in version.known)
