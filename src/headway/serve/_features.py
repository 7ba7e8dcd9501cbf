"""What the feature route answers for one view: bytes in, bytes out, on any thread."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from headway.define.records import State, ViewPlan
from headway.serve._body import Given
from headway.serve._fields import input_field, missing_fields
from headway.serve._found import json_reader
from headway.serve._metrics import Metrics
from headway.serve._predict import Outcome, iso
from headway.serve._predictor import STATES, earliest, encode_keys
from headway.serve._problems import Refused, shown
from headway.serve._protocols import FeatureReader, Found

_encode = msgspec.json.Encoder(decimal_format="number").encode


class ServedView:
    """A view bound for reading all its features. Any thread may use it."""

    def __init__(self, plan: ViewPlan, reader: FeatureReader) -> None:
        self.plan = plan
        self._reader = reader
        self._bound = reader.bind(plan)
        self._keys = {key.name: input_field(key.name, key.type) for key in plan.keys}
        self._names = tuple(feature.name for feature in plan.features)
        exact = [(i, f) for i, f in enumerate(plan.features) if f.type not in ("double", "float", "halffloat")]
        self._exact = tuple((i, json_reader(feature, i)) for i, feature in exact)

    def read(self, given: Given, now: int, request_id: str) -> Outcome:
        """The stored features for the entities of a request, in their order.

        Raises:
            Refused: a key is missing, unknown or of another type.
            StoreError: the online store failed.
        """
        for name in given.columns:
            if name not in self._keys:
                known = ", ".join(self._keys)
                raise Refused(422, f"view {self.plan.name!r} has no key {shown(name)}; its keys are {known}")
        if missing := [name for name in self._keys if name not in given.columns]:
            raise missing_fields(missing)
        keys = {name: key.keys(given.columns[name]) for name, key in self._keys.items()}
        if not given.rows:
            return Outcome(self._body([[]] * len(self._names), None, {}, request_id), lambda _: None)
        (found,) = self._reader.lookup_many([(self._bound, encode_keys(self._bound, keys))], now)
        return self._answer(found, request_id)

    def _answer(self, found: Found, request_id: str) -> Outcome:
        row = found.ok_row
        if row is None:
            values = found.floats().T.tolist()  # NaN becomes null in JSON
            as_of, states = earliest(found.as_of), self._states(found)
            counted = np.bincount(found.state.ravel(), minlength=len(STATES)).tolist()
        else:
            values = [[value] for value in row.values]
            as_of, states, counted = row.as_of, {}, (len(values),)
        for i, read in self._exact:
            values[i] = read(found)
        body = self._body(values, as_of, states, request_id)
        return Outcome(body, functools.partial(_count, self.plan.name, counted))

    def _states(self, found: Found) -> dict[str, list[State]]:
        state = found.state
        return {
            self._names[i]: [STATES[code] for code in state[:, i].tolist()]
            for i in np.flatnonzero(state.any(axis=0)).tolist()
        }

    def _body(
        self, values: Sequence[list[Any]], as_of: int | None, states: Mapping[str, Sequence[State]], request_id: str
    ) -> bytes:
        return _encode(
            {
                "view": self.plan.name,
                "features": dict(zip(self._names, values, strict=True)),
                "as_of": iso(as_of),
                "state": states,
                "fingerprint": self.plan.fingerprint,
                "request_id": request_id,
            }
        )


def _count(view: str, counted: Sequence[int], metrics: Metrics) -> None:
    for state, count in zip(STATES, counted, strict=False):
        if count:
            metrics.features[view, state] += count
