"""Reading the body of a request: columns or row objects, into columns of JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from headway.errors import suggest
from headway.serve._fields import ABSENT
from headway.serve._problems import Refused, shown

_decode = msgspec.json.Decoder().decode
_SHAPE = '{"entities": {…}, "features": {…}} or a list of row objects'
_ENTITIES = '{"entities": {"key": [values]}} or a list of row objects'
_MOST_TEXT = 16 << 20  # characters that a single value may come to, once it stands on every row


class Given(NamedTuple):
    """Columns of JSON values by field name, all of one length; Arrow arrays, if they came as Arrow."""

    columns: dict[str, Any]
    rows: int


def read_json(body: bytes | bytearray) -> Any:
    """The body as JSON. Raises ``Refused`` (400)."""
    try:
        return _decode(body)
    except msgspec.ValidationError:
        raise Refused(400, "the body has a number that is out of range") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(400, "the body is not JSON; NaN and Infinity are not JSON either, use null") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None


def read_given(content: Any, most_rows: int) -> Given:
    """A predict request as columns: each a scalar, which stands for every row, or a list; or row objects.

    Raises ``Refused``: 422 for another shape or for lists of different lengths, 413 for too many rows.
    """
    if type(content) is dict and "rows" not in content:
        return columns_of(_merged(content), most_rows)
    return rows_of(content, most_rows, _SHAPE)


def read_entities(content: Any, most_rows: int) -> Given:
    """A feature request as columns: ``{"entities": {…}}`` with a scalar or a list for each key, or row objects."""
    if type(content) is not dict or "rows" in content:
        return rows_of(content, most_rows, _ENTITIES)
    if type(content.get("entities")) is not dict:
        raise Refused(422, f"the body is {_ENTITIES}")
    _refuse_other_keys(content, ("entities",))
    return columns_of(content["entities"], most_rows)


def _merged(content: dict[str, Any]) -> dict[str, Any]:
    """Entities and features in one: a name stands for one value, wherever it was given."""
    _refuse_other_keys(content, ("entities", "features"))
    entities, features = content.get("entities", {}), content.get("features", {})
    if type(entities) is not dict or type(features) is not dict:
        raise Refused(422, 'entities and features are objects: {"entities": {…}, "features": {…}}')
    if not features:
        return entities
    merged = {**entities, **features}
    if len(merged) < len(entities) + len(features):
        both = next(name for name in entities if name in features)
        raise Refused(422, f"field {shown(both)} is both in entities and in features; give it once")
    return merged


def _refuse_other_keys(content: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in content:
        if name not in known:
            raise Refused(422, f"the body has an unknown member {shown(name)}; {suggest(name, known)}")


def columns_of(fields: dict[str, Any], most_rows: int) -> Given:
    """Fields that are each a scalar or a list, as columns. Raises ``Refused``."""
    rows = -1
    for name, value in fields.items():
        if type(value) is list and len(value) != rows:
            if rows >= 0:
                first = next(n for n, v in fields.items() if type(v) is list)
                raise Refused(
                    422,
                    f"fields differ in length: {shown(first)} has {rows} values, {shown(name)} has {len(value)};"
                    " give lists of one length, or a single value for every row",
                )
            rows = len(value)
    if rows < 0:
        return Given({name: [value] for name, value in fields.items()}, 1)
    refuse_many(rows, most_rows)
    for name, value in fields.items():
        if type(value) is str and len(value) * rows > _MOST_TEXT:
            raise Refused(413, f"the text of {shown(name)} is too long to stand for {rows} rows")
    return Given({name: v if type(v) is list else [v] * rows for name, v in fields.items()}, rows)


def rows_of(content: Any, most_rows: int, shape: str) -> Given:
    """A list of row objects, by itself or as ``{"rows": [...]}``, as columns. Raises ``Refused``."""
    rows = content
    if type(content) is dict:
        _refuse_other_keys(content, ("rows",))
        rows = content["rows"]
    if type(rows) is not list:
        raise Refused(422, f"the body is {shape}")
    refuse_many(len(rows), most_rows)
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if type(row) is not dict:
            raise Refused(422, f"row {number} is not an object; the body is {shape}")
        names.update(dict.fromkeys(row))
    return Given({name: [row.get(name, ABSENT) for row in rows] for name in names}, len(rows))


def refuse_many(rows: int, most_rows: int) -> None:
    """Raise ``Refused`` (413) for more rows than a request may have."""
    if rows > most_rows:
        raise Refused(413, f"the request has {rows} rows, at most {most_rows} are allowed; send several requests")
