"""The API as an OpenAPI 3.1 document, with the real fields of the models that are live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.define.records import FeaturePlan
from headway.errors import DefinitionError
from headway.serve import _arrow
from headway.serve._features import ServedFeatures
from headway.serve._fields import InputField, Kind, input_field
from headway.serve._predictor import STATES
from headway.serve._problems import TITLES
from headway.serve._route import ModelRoute, Table

Json = dict[str, Any]
ARROW = _arrow.MEDIA_TYPE.decode()
_BINARY = {"type": "string", "format": "binary"}

_SCHEMAS: dict[Kind, Json] = {
    "whole": {"type": ["integer", "null"], "format": "int64"},
    "number": {"type": ["number", "null"]},
    "text": {"type": ["string", "null"]},
    "truth": {"type": ["boolean", "null"]},
    "time": {"type": ["string", "null"], "format": "date-time", "description": "With an offset; Z for UTC."},
    "date": {"type": ["string", "null"], "format": "date"},
}


def document(table: Table, *, labels: bool = False, rows: bool = False) -> Json:
    """The document for what ``table`` serves; ``labels`` and ``rows`` say whether they are taken."""
    paths: Json = {}
    for name, route in sorted(table.models.items()):
        paths[f"/v1/models/{name}/predict"] = {"post": _predict(name, route)}
        if labels:
            paths[f"/v1/models/{name}/labels"] = {"post": _labels(name, route)}
        paths[f"/v1/models/{name}"] = {"get": _get(f"describe_{name}", f"The live versions of {name}", _object())}
    for name, served in sorted(table.features.items()):
        paths[f"/v1/features/{name}"] = {"post": _features(served)}
    if rows:
        paths["/v1/sources/{source}/rows"] = {"post": _push()}
    paths["/v1/models"] = {"get": _get("list_models", "All models and their live versions", _object())}
    paths["/healthz"] = {"get": _get("healthz", "Whether the process is alive", _object())}
    paths["/readyz"] = {"get": _get("readyz", "Whether requests can be answered", _object(), 503)}
    paths["/metrics"] = {"get": _get("metrics", "Figures in Prometheus' text format", {"type": "string"}, text=True)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "headway", "version": "1", "description": "Predictions and features."},
        "paths": paths,
        "components": {"schemas": _common_schemas(), "responses": _problem_responses()},
    }


def _predict(name: str, route: ModelRoute) -> Json:
    inputs: dict[str, InputField] = {}
    overrides: dict[str, InputField] = {}
    for version in route.versions:
        inputs.update(version.inputs)
        overrides.update(version.overrides)
    keys = {key.name for version in route.versions for key in version.plan.entities}
    return {
        "operationId": f"predict_{name}",
        "summary": f"Predictions of {name}",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"oneOf": _bodies(inputs, overrides, keys)}}},
        },
        "responses": {
            "200": _json_response("One prediction for every row, in the order of the request", _prediction(route)),
            **_refusals(400, 404, 409, 413, 422, 500, 503),
        },
    }


def _bodies(inputs: Mapping[str, InputField], overrides: Mapping[str, InputField], keys: set[str]) -> list[Json]:
    entities = {n: f for n, f in inputs.items() if n in keys}
    requests = {n: f for n, f in inputs.items() if n not in keys}
    columns: Json = {
        "type": "object",
        "title": "Columns",
        "description": "A single value stands for every row. Stored features may be overridden.",
        "properties": {
            "entities": _fields_object(entities, {}, _column),
            "features": _fields_object(requests, overrides, _column),
        },
        "required": [n for n, fields in (("entities", entities), ("features", requests)) if fields],
        "additionalProperties": False,
    }
    return _with_rows(columns, _fields_object({**entities, **requests}, overrides, _value))


def _fields_object(required: Mapping[str, InputField], optional: Mapping[str, InputField], schema: Any) -> Json:
    return {
        "type": "object",
        "properties": {name: schema(item) for name, item in {**optional, **required}.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def _value(item: InputField) -> Json:
    schema = dict(_SCHEMAS[item.kind])
    if item.kind == "whole" and item.type != "int64":
        schema["minimum"], schema["maximum"] = item.low, item.high
        del schema["format"]
    return schema


def _column(item: InputField) -> Json:
    one = _value(item)
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _prediction(route: ModelRoute) -> Json:
    task, classes = route.newest.plan.task, route.newest.plan.classes
    if task == "multiclass":
        one: Json = {"description": "The likeliest class.", "enum": [*(classes or ()), None]}
    elif task == "binary":
        known = f" {classes[1]!r}" if classes else ""
        one = {"type": ["number", "null"], "description": f"The probability of class{known}."}
    else:
        one = {"type": ["number", "null"]}
    words: Json = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "predictions": {"type": "array", "items": one},
            "rows": {
                "type": "object",
                "properties": {
                    "version": words,
                    "segment": {
                        "type": "array",
                        "items": {"type": ["string", "null"]},
                        "description": "The segment whose estimator answered; null: the pooled one.",
                    },
                    "role": words,
                },
            },
            "as_of": {
                "type": "object",
                "description": "By view, the moment its values speak for; null: never refreshed.",
                "additionalProperties": {"type": ["string", "null"], "format": "date-time"},
            },
            "state": {"$ref": "#/components/schemas/State"},
            "request_id": {"type": "string"},
        },
        "required": ["model", "predictions", "rows", "as_of", "state", "request_id"],
    }


def _labels(name: str, route: ModelRoute) -> Json:
    task, classes = route.newest.plan.task, route.newest.plan.classes
    label: Json = {"type": "number"} if task == "regression" else {"enum": list(classes or ())}
    fields: dict[str, Json] = {
        "request_id": {"type": "string", "description": "That of the answer with the prediction."},
        "row": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "The row of the request; may be left out where it had one only.",
        },
        "label": label,
    }
    columns = {field: {"anyOf": [one, {"type": "array", "items": one}]} for field, one in fields.items()}
    closed: Json = {"type": "object", "required": ["request_id", "label"], "additionalProperties": False}
    row = {**closed, "properties": fields}
    listed: Json = {"type": "array", "title": "Row objects", "items": row}
    bodies = [
        {**closed, "title": "Columns", "properties": columns},
        listed,
        {"type": "object", "properties": {"rows": listed}, "required": ["rows"], "additionalProperties": False},
    ]
    answer = {
        "type": "object",
        "properties": {"model": {"type": "string"}, "labels": {"type": "integer"}, "request_id": {"type": "string"}},
    }
    return {
        "operationId": f"label_{name}",
        "summary": f"What predictions of {name} turned out to be",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": bodies}}}},
        "responses": {
            "200": _json_response("How many labels are kept; they are on the disk", answer),
            **_refusals(400, 404, 413, 422, 503),
        },
    }


def _push() -> Json:
    """What a source takes is in its declaration, which a server may learn of at any time."""
    row: Json = {"type": "object", "additionalProperties": True}
    listed: Json = {"type": "array", "title": "Row objects", "items": row}
    columns: Json = {
        "type": "object",
        "title": "Columns",
        "description": "Times are texts; a single value stands for every row.",
        "additionalProperties": True,
    }
    whole = {"type": "object", "properties": {"rows": listed}, "required": ["rows"], "additionalProperties": False}
    answer = {
        "type": "object",
        "properties": {"source": {"type": "string"}, "rows": {"type": "integer"}, "request_id": {"type": "string"}},
    }
    stream = {"description": "A stream with the source's columns; its buffers are not compressed."}
    content = {
        "application/json": {"schema": {"oneOf": [columns, listed, whole]}},
        ARROW: {"schema": {**_BINARY, **stream}},
    }
    source = {"name": "source", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "operationId": "push_rows",
        "summary": "Rows for a source that is declared with a schema only",
        "parameters": [source],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": _json_response("How many rows are kept, all of them; they are on the disk", answer),
            **_refusals(400, 404, 409, 413, 415, 422, 503),
        },
    }


def _features(served: ServedFeatures) -> Json:
    keys = dict(served.keys)
    columns: Json = {
        "type": "object",
        "title": "Columns",
        "description": "A single value stands for every row.",
        "properties": {"entities": _fields_object(keys, {}, _column)},
        "required": ["entities"],
        "additionalProperties": False,
    }
    words = ", ".join(f"{field.name}: {field.type}" for field in served.schema)
    arrow_in = {"description": f"A stream with the columns {', '.join(keys)}; its buffers are not compressed."}
    arrow_out = {"description": f"A stream of one batch, in the order of the request: {words}."}
    response = _json_response("One value for every entity, in the order of the request", _feature_answer(served))
    response["content"][ARROW] = {"schema": {**_BINARY, **arrow_out}}
    return {
        "operationId": f"features_{served.name}",
        "summary": f"Stored features of {served.name}",
        "description": f"Answers with Arrow where `accept` names {ARROW}, else with JSON.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": _with_rows(columns, _fields_object(keys, {}, _value))}},
                ARROW: {"schema": {**_BINARY, **arrow_in}},
            },
        },
        "responses": {"200": response, **_refusals(400, 404, 413, 415, 422, 503)},
    }


def _with_rows(columns: Json, row: Json) -> list[Json]:
    """A body as columns, or as row objects."""
    wrapped: Json = {
        "type": "object",
        "title": "Row objects in an object",
        "properties": {"rows": {"type": "array", "items": row}},
        "required": ["rows"],
        "additionalProperties": False,
    }
    return [columns, {"type": "array", "title": "Row objects", "items": row}, wrapped]


def _feature_answer(served: ServedFeatures) -> Json:
    moment: Json = {"type": ["string", "null"], "format": "date-time"}
    digest: Json = {"type": "string"}
    prefixes = [use.prefix for use in served.uses]

    def each(schema: Json) -> Json:
        """By view, in the answer of a set."""
        return {"type": "object", "properties": dict.fromkeys(prefixes, schema)} if served.is_set else schema

    return {
        "type": "object",
        "properties": {
            "set" if served.is_set else "view": {"type": "string"},
            "features": {
                "type": "object",
                "properties": {
                    name: {"type": "array", "items": _feature(plan)} for name, plan in served.outputs.items()
                },
            },
            "as_of": each(moment),
            "state": {"$ref": "#/components/schemas/State"},
            "fingerprint": each(digest),
            "request_id": {"type": "string"},
        },
    }


def _feature(feature: FeaturePlan) -> Json:
    try:
        return _value(input_field(feature.name, feature.type))
    except DefinitionError:
        return {}


def _get(operation: str, summary: str, schema: Json, *problems: int, text: bool = False) -> Json:
    media = "text/plain" if text else "application/json"
    answers = {"200": {"description": summary, "content": {media: {"schema": schema}}}, **_refusals(*problems)}
    return {"operationId": operation, "summary": summary, "responses": answers}


def _object() -> Json:
    return {"type": "object"}


def _json_response(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> Json:
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}


def _problem_responses() -> Json:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {f"Problem{status}": {"description": title, "content": content} for status, (_, title) in TITLES.items()}


def _common_schemas() -> Json:
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "request_id")}
    return {
        "Problem": {"type": "object", "properties": {**texts, "status": {"type": "integer"}}, "required": [*texts]},
        "State": {
            "type": "object",
            "description": "By feature, its state in every row; only features that are not ok in some row.",
            "additionalProperties": {"type": "array", "items": {"enum": list(STATES)}},
        },
    }
