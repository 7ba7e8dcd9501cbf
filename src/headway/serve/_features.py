"""What the feature route answers for a view or a set of them: bytes in, bytes out, on any thread."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from headway.define.records import BEGINNING, FeaturePlan, ViewPlan, ViewUse
from headway.errors import DataError
from headway.serve import _arrow
from headway.serve._body import Given
from headway.serve._fields import InputField, input_field, missing_fields
from headway.serve._found import json_reader
from headway.serve._metrics import Metrics
from headway.serve._outcome import Outcome, iso
from headway.serve._predictor import STATES, earliest, encode_keys
from headway.serve._problems import Refused, shown
from headway.serve._protocols import FeatureReader, Found

_WORDS = np.array(STATES, object)
_FLOATS = ("double", "float", "halffloat")
_HEADS = 1024  # numbers of rows whose head of an Arrow answer is kept
_FEW = 256  # keys of an Arrow column that are quicker as Python's


class ServedFeatures:
    """A view, or a set of them, bound for reading all at once. Any thread may use it.

    ``uses`` are the views that it is made of. Features of a view go by their own names, those of a set by those that
    training gives them (``prefix__feature``).
    """

    def __init__(self, name: str, uses: Sequence[ViewUse], reader: FeatureReader, *, is_set: bool) -> None:
        self.name, self.uses, self.is_set = name, tuple(uses), is_set
        self._reader = reader
        self._parts = tuple(_Part(use, reader, f"{use.prefix}__" if is_set else "") for use in uses)
        self.keys = {column: field for part in self._parts for column, field in part.fields.items()}
        self.outputs = {name: plan for part in self._parts for name, plan in part.outputs}
        self._layout = _arrow.BatchLayout(self._schema())
        self._heads: dict[int, bytes] = {}

    @property
    def what(self) -> str:
        """How messages call it."""
        return f"{'set' if self.is_set else 'view'} {self.name!r}"

    @property
    def schema(self) -> pa.Schema:
        """The columns of an answer in Arrow."""
        return self._layout.schema

    def read(self, given: Given, now: int, request_id: str, *, arrow: bool = False) -> Outcome:
        """The stored features for the entities of a request, in their order, as JSON or as Arrow.

        Raises:
            Refused: a key is missing, unknown or of another type.
            StoreError: the online store failed.
        """
        self._check_names(given.columns)
        checked: dict[tuple[str, str], Any] = {}
        asked = [(part.bound, part.encode(given, checked)) for part in self._parts]
        if not given.rows:
            return Outcome(self._nothing(request_id, arrow=arrow), lambda _: None)
        found = self._reader.lookup_many(asked, now)
        body = self._to_arrow(found, given.rows) if arrow else self._to_json(found, request_id)
        return Outcome(body, lambda metrics: self._count(found, metrics))

    def _check_names(self, given: Mapping[str, Any]) -> None:
        if len(given) == len(self.keys) and given.keys() == self.keys.keys():
            return
        for name in given:
            if name not in self.keys:
                raise Refused(422, f"{self.what} has no key {shown(name)}; its keys are {', '.join(self.keys)}")
        raise missing_fields([name for name in self.keys if name not in given])

    def _nothing(self, request_id: str, *, arrow: bool) -> bytes:
        if arrow:
            return _arrow.empty(self._layout)
        as_of: dict[str, int | None] = {part.prefix: None for part in self._parts}
        return self._document({name: [] for name in self.outputs}, as_of, {}, request_id)

    def _to_json(self, found: Sequence[Found], request_id: str) -> bytes:
        features: dict[str, Any] = {}
        states: dict[str, list[str]] = {}
        as_of: dict[str, int | None] = {}
        for part, values in zip(self._parts, found, strict=True):
            as_of[part.prefix] = part.to_json(values, features, states)
        return self._document(features, as_of, states, request_id)

    def _document(
        self,
        features: Mapping[str, Any],
        as_of: Mapping[str, int | None],
        states: Mapping[str, list[str]],
        request_id: str,
    ) -> bytes:
        content: dict[str, Any]
        if self.is_set:
            content = {
                "set": self.name,
                "features": features,
                "as_of": {prefix: iso(moment) for prefix, moment in as_of.items()},
                "state": states,
                "fingerprint": {use.prefix: use.plan.fingerprint for use in self.uses},
                "request_id": request_id,
            }
        else:
            ((_, moment),) = as_of.items()
            content = {
                "view": self.name,
                "features": features,
                "as_of": iso(moment),
                "state": states,
                "fingerprint": self.uses[0].plan.fingerprint,
                "request_id": request_id,
            }
        return orjson.dumps(content, _in_json, orjson.OPT_SERIALIZE_NUMPY)

    def _schema(self) -> pa.Schema:
        """Features, then when they speak for and what they are worth: as ``project.online.read`` has them, but for the
        states, which are numbers here."""
        fields = [field.with_name(name) for part in self._parts for field, (name, _) in part.columns]
        for part in self._parts:
            lead = part.prefix if len(self._parts) > 1 else ""
            codes = pa.list_(pa.field("code", pa.uint8(), nullable=False), len(part.outputs))
            told = {"features": ",".join(name for name, _ in part.outputs), "codes": ",".join(STATES)}
            fields += [
                pa.field(f"{lead}_as_of", pa.timestamp("us", "UTC")),
                pa.field(f"{lead}_state", codes, nullable=False, metadata=told),
            ]
        fingerprints = ",".join(use.plan.fingerprint for use in self.uses)
        return pa.schema(fields, {"set" if self.is_set else "view": self.name, "fingerprint": fingerprints})

    def _to_arrow(self, found: Sequence[Found], rows: int) -> bytes:
        chunks = self._whole_numbers(found)
        if chunks is not None and (head := self._heads.get(rows)) is not None:
            return _arrow.joined(head, chunks)
        batch = _arrow.Batch(self._layout, rows)
        first, last = 0, len(self.outputs)
        for part, values in zip(self._parts, found, strict=True):
            part.to_arrow(values, batch, first)
            never = values.as_of == BEGINNING
            batch.add_matrix(np.array([last]), values.as_of[None], never[None] if never.any() else None)
            batch.add_codes(last + 1, values.state)
            first, last = first + len(part.outputs), last + 2
        if chunks is not None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[rows] = batch.head()
        return batch.to_bytes()

    def _whole_numbers(self, found: Sequence[Found]) -> list[np.ndarray] | None:
        """The columns of an answer as they follow each other in Arrow, if all features are numbers of eight bytes and
        none is null: then its head depends on the number of rows alone."""
        chunks: list[np.ndarray] = []
        for part, values in zip(self._parts, found, strict=True):
            if not part.numbers or np.count_nonzero(values.null) or values.as_of.min() == BEGINNING:
                return None
            chunks += [matrix for _, matrix in values.matrices()]
            chunks += [values.as_of, np.ascontiguousarray(values.state)]
        return chunks

    def _count(self, found: Sequence[Found], metrics: Metrics) -> None:
        for part, values in zip(self._parts, found, strict=True):
            codes = values.state.tobytes()
            ok = codes.count(0)
            if ok == len(codes):
                metrics.features[part.view, "ok"] += ok
                continue
            for code, state in enumerate(STATES):
                if count := codes.count(code):
                    metrics.features[part.view, state] += count


def whole_view(plan: ViewPlan) -> ViewUse:
    """All of a view, by its own name and keys."""
    return ViewUse(plan.name, plan, {}, tuple(feature.name for feature in plan.features))


class _Part:
    """One view of what is served."""

    def __init__(self, use: ViewUse, reader: FeatureReader, lead: str) -> None:
        self.prefix, self.view = use.prefix, use.plan.name
        self.bound = reader.bind(use.plan, use.features)
        plans = {feature.name: feature for feature in use.plan.features}
        self.outputs: list[tuple[str, FeaturePlan]] = [(f"{lead}{name}", plans[name]) for name in use.features]
        self.columns = list(zip(self.bound.schema, self.outputs, strict=True))
        self.numbers = all(_is_number(field.type) and field.type.bit_width == 64 for field in self.bound.schema)
        self._names = tuple(name for name, _ in self.outputs)
        self._keys = tuple((key.name, use.keys.get(key.name, key.name), key.type) for key in use.plan.keys)
        self.fields: dict[str, InputField] = {column: input_field(column, type_) for _, column, type_ in self._keys}
        self._exact = tuple(
            (name, json_reader(plan, i)) for i, (name, plan) in enumerate(self.outputs) if plan.type not in _FLOATS
        )

    def encode(self, given: Given, checked: dict[tuple[str, str], Any]) -> Sequence[bytes | None]:
        """The store's key of every row. ``checked`` is where columns are kept that were looked at, for other views.

        Raises ``Refused`` for keys of another type.
        """
        if not self._keys:  # the one entity of a view without keys
            return [*self.bound.encode({})] * given.rows
        columns, plain = {}, True
        for key, column, type_ in self._keys:
            values = checked.get((column, type_))
            if values is None:
                values = checked[column, type_] = self._column(column, given)
            plain = plain and type(values) is list
            columns[key] = values
        if plain:
            return encode_keys(self.bound, columns)
        try:
            columns = {key: given.columns[column] for key, column, _ in self._keys}
            encoded: Sequence[bytes | None] = self.bound.encode(columns)
        except DataError as error:
            raise Refused(422, str(error)) from None
        return encoded

    def _column(self, name: str, given: Given) -> Any:
        values = given.columns[name]
        if type(values) is list:
            return self.fields[name].keys(values)
        if given.rows > _FEW or values.null_count:
            return values
        kind = self.fields[name].kind
        if kind == "whole" and pa.types.is_integer(values.type):
            return values.to_numpy().tolist()
        if kind == "text" and (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            return values.to_pylist()
        return values

    def to_json(self, found: Found, features: dict[str, Any], states: dict[str, list[str]]) -> int | None:
        """Put values into ``features`` and what is not ok into ``states``; the moment that the values speak for."""
        row = found.ok_row
        if row is not None:
            features.update(zip(self._names, [[value] for value in row.values], strict=True))
            as_of: int | None = row.as_of
        else:
            features.update(zip(self._names, np.ascontiguousarray(found.floats().T), strict=True))
            as_of = earliest(found.as_of)
            state = found.state
            for i in np.flatnonzero(state.any(axis=0)).tolist():
                states[self._names[i]] = _WORDS[state[:, i]].tolist()
        for name, read in self._exact:
            features[name] = read(found)
        return as_of

    def to_arrow(self, found: Found, batch: _arrow.Batch, first: int) -> None:
        """Add the features to a batch, from column ``first`` on."""
        null = found.null
        whole = not null.any()
        done = set()
        for at, matrix in found.matrices():
            done.update(at)
            columns = np.array(at)
            batch.add_matrix(columns + first, matrix, None if whole else np.ascontiguousarray(null[:, columns].T))
        for i, (field, (_, plan)) in enumerate(self.columns):
            if i in done:
                continue
            nulls = None if whole else null[:, i]
            if pa.types.is_boolean(field.type):
                batch.add_bits(first + i, found.column(plan.name), nulls)
            elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                batch.add_texts(first + i, found.column(plan.name).tolist(), nulls)
            else:
                batch.add_array(first + i, found.array(plan.name))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind))


def _in_json(value: Any) -> str | float:
    """What JSON has no word for: bytes, and decimals in lists."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError
