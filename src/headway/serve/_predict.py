"""What the prediction route answers: bytes in, bytes out, on any thread."""

from __future__ import annotations

import functools
from collections import Counter

import msgspec

from headway.serve._body import Given
from headway.serve._logged import ROLE, Served
from headway.serve._metrics import Metrics
from headway.serve._outcome import Outcome, iso
from headway.serve._route import ModelRoute, Routed

_encode = msgspec.json.Encoder().encode


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
    served = Served(route.name, request_id, given.rows, now, routed.parts) if given.rows else None
    return Outcome(body, functools.partial(_count_predictions, route.name, routed), served)


def _count_predictions(model: str, routed: Routed, metrics: Metrics) -> None:
    segments = routed.answer.segments
    if len(segments) == 1:
        metrics.predictions[model, routed.versions[0], segments[0], ROLE] += 1
    else:
        for (version, segment), count in Counter(zip(routed.versions, segments, strict=True)).items():
            metrics.predictions[model, version, segment, ROLE] += count
    for view, state, count in routed.answer.counts:
        metrics.features[view, state] += count
