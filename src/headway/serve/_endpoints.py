"""What the prediction and feature routes answer: bytes in, bytes out, on any thread."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headway.clock import to_iso
from headway.define.records import State, ViewPlan
from headway.serve._body import Given
from headway.serve._fields import input_field, missing_fields
from headway.serve._found import json_reader
from headway.serve._metrics import Metrics
from headway.serve._predictor import STATES, earliest, encode_keys
from headway.serve._problems import Refused, shown
from headway.serve._protocols import FeatureReader, Found
from headway.serve._route import ModelRoute, Routed

ROLE = "champion"

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Outcome(NamedTuple):
    """The body of an answer, and what to count once it is given (on the event loop's thread)."""

    body: bytes
    tally: Callable[[Metrics], None]


def predict(route: ModelRoute, given: Given, now: int, request_id: str) -> Outcome:
    """Predictions for the rows of a request. Raises what ``ModelRoute.predict`` raises."""
    routed = route.predict(given.columns, given.rows, now)
    answer = routed.answer
    body = _encode(
        {
            "model": route.name,
            "predictions": answer.predictions,
            "rows": {
                "version": routed.versions,
                "segment": answer.segments,
                "role": [ROLE] * given.rows,
            },
            "as_of": {prefix: iso(as_of) for prefix, as_of in answer.as_of.items()},
            "state": answer.states,
            "request_id": request_id,
        }
    )
    return Outcome(body, functools.partial(_count_predictions, route.name, routed))


def _count_predictions(model: str, routed: Routed, metrics: Metrics) -> None:
    segments = routed.answer.segments
    if len(segments) == 1:
        metrics.predictions[model, routed.versions[0], segments[0], ROLE] += 1
    else:
        for (version, segment), count in Counter(zip(routed.versions, segments, strict=True)).items():
            metrics.predictions[model, version, segment, ROLE] += count
    for view, state, count in routed.answer.counts:
        metrics.features[view, state] += count


def read_features(reader: FeatureReader, plan: ViewPlan, given: Given, now: int, request_id: str) -> Outcome:
    """The stored features of a view for the entities of a request, in their order.

    Raises:
        Refused: a key is missing, unknown or of another type.
        StoreError: the online store failed.
    """
    names = [key.name for key in plan.keys]
    for name in given.columns:
        if name not in names:
            raise Refused(422, f"view {plan.name!r} has no key {shown(name)}; its keys are {', '.join(names)}")
    if missing := [name for name in names if name not in given.columns]:
        raise missing_fields(missing)
    keys = {key.name: input_field(key.name, key.type).keys(given.columns[key.name]) for key in plan.keys}
    if not given.rows:
        empty: dict[str, Any] = {feature.name: [] for feature in plan.features}
        return Outcome(_features_body(plan, empty, None, {}, request_id), lambda _: None)
    bound = reader.bind(plan)
    (found,) = reader.lookup_many([(bound, encode_keys(bound, keys))], now)
    states = _states(plan, found)
    body = _features_body(plan, _values(plan, found), earliest(found.as_of), states, request_id)
    counted = np.bincount(found.state.ravel(), minlength=len(STATES)).tolist()
    return Outcome(body, functools.partial(_count_features, plan.name, counted))


def _features_body(
    plan: ViewPlan,
    values: Mapping[str, list[Any]],
    as_of: int | None,
    states: Mapping[str, Sequence[State]],
    request_id: str,
) -> bytes:
    return _encode(
        {
            "view": plan.name,
            "features": values,
            "as_of": iso(as_of),
            "state": states,
            "fingerprint": plan.fingerprint,
            "request_id": request_id,
        }
    )


def _count_features(view: str, counted: Sequence[int], metrics: Metrics) -> None:
    for state, count in zip(STATES, counted, strict=True):
        if count:
            metrics.features[view, state] += count


def _states(plan: ViewPlan, found: Found) -> dict[str, list[State]]:
    state = found.state
    if not state.any():
        return {}
    return {
        plan.features[i].name: [STATES[code] for code in state[:, i].tolist()]
        for i in np.flatnonzero(state.any(axis=0)).tolist()
    }


def _values(plan: ViewPlan, found: Found) -> dict[str, list[Any]]:
    floats = found.floats().T.tolist()  # NaN becomes null in JSON
    return {
        feature.name: floats[i] if feature.type in ("double", "float", "halffloat") else json_reader(feature, i)(found)
        for i, feature in enumerate(plan.features)
    }


@functools.lru_cache(maxsize=1024)
def iso(as_of: int | None) -> str | None:
    """A moment as text; None stays None."""
    return None if as_of is None else to_iso(as_of)
