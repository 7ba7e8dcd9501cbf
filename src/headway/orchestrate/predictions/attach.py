"""Attaching labels to predictions that were logged: from a file or a table, by request id or by keys and time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.clock import WallClock
from headway.data.engine import plain
from headway.data.predictions import KEY, LABELS, label_text, labels_table
from headway.data.spine import as_table, cast_key, column, instants, timestamps
from headway.define import Model
from headway.define.records import Field, ServingPlan
from headway.errors import DataError, NotFoundError
from headway.orchestrate._parts import Parts
from headway.orchestrate.predictions.labels import moment_columns
from headway.serve.batch import read_file

_TIME = "timestamp[us, tz=UTC]"


class Attached(msgspec.Struct, frozen=True):
    """What became of a file of labels: rows that were attached, and rows left out because their label was null."""

    model: str
    by: str  # "request" or "keys"
    rows: int
    without_label: int


def attach_labels(parts: Parts, name: str, data: Any) -> Attached:
    """Attach the labels of a table; see ``attach_file``."""
    return _attach(parts, name, [as_table(data, "the labels")])


def attach_file(parts: Parts, name: str, path: str) -> Attached:
    """Attach the labels of a file to a model's predictions.

    Its columns are ``request_id``, ``label`` and, where requests had several rows, ``row``; or the model's keys, the
    label source's timestamp column and ``label``. ``known_at`` may say when a label was known, in place of the clock's
    now. A label that is attached again replaces the one before. Nothing is attached if a row cannot be.

    Raises
    ------
    NotFoundError
        There is no such model, or no version of it.
    DataError
        A column is missing, a value is of another type, or one row has two labels.
    """
    plan = _plan(parts, name)
    types = {"request_id": "string", "row": "int64", "known_at": _TIME, "label": "string"}
    types |= {key.name: key.type for key in plan.entities}
    model = parts.declarations.models.get(name)
    types |= {} if model is None else dict.fromkeys(moment_columns(model), _TIME)
    return _attach(parts, name, read_file(Path(path), types))


def _plan(parts: Parts, name: str) -> ServingPlan:
    versions = parts.registry.versions(name)
    if not versions:
        raise NotFoundError.among("model with a version", name, parts.metadata.versions.models())
    return versions[-1].serving


def _attach(parts: Parts, name: str, tables: Iterator[pa.Table] | list[pa.Table]) -> Attached:
    plan, now, wall = _plan(parts, name), parts.clock.now(), WallClock().now()
    found = [_labels(parts, name, plan, table, now, wall) for table in tables]
    rows = pa.concat_tables([labels for labels, _ in found])
    by = "request" if "request_id" in rows.column_names else "keys"
    _refuse_two(
        rows, ["request_id", "row"] if by == "request" else [c for c in rows.column_names if c[:3] == KEY] + ["at"]
    )
    for column_name, kind in LABELS.items():
        if column_name not in rows.column_names:
            rows = rows.append_column(column_name, pa.nulls(len(rows), kind))
    if len(rows):
        parts.lake.write(labels_table(name), rows, "append")
    return Attached(name, by, len(rows), sum(left for _, left in found))


def _labels(parts: Parts, name: str, plan: ServingPlan, table: pa.Table, now: int, wall: int) -> tuple[pa.Table, int]:
    """The rows of a table that have a label, as rows of the lake table, and how many have none."""
    texts = _texts(column(table, "label", "the input"), plan)
    keep = texts.is_valid()
    table, texts = table.filter(keep), texts.filter(keep)
    rows = len(texts)
    columns: dict[str, pa.Array] = _who(parts, name, plan, table)
    known = np.full(rows, now)
    if "known_at" in table.column_names:
        said, valid = instants(column(table, "known_at"), None, "column 'known_at' of the input")
        known = np.where(valid, said, now)
    columns |= {
        "label": texts,
        "known_at": timestamps(known),
        "logged_at": timestamps(np.full(rows, wall)),
        "source": pa.repeat("file", rows),
    }
    return pa.table(columns), len(keep) - rows


def _who(parts: Parts, name: str, plan: ServingPlan, table: pa.Table) -> dict[str, pa.Array]:
    """The columns that say which predictions the labels are of."""
    if "request_id" in table.column_names:
        ids = column(table, "request_id").cast(pa.string())
        if ids.null_count:
            raise DataError(f"{ids.null_count} labels have no request_id; a label is of a request that was answered")
        row = column(table, "row") if "row" in table.column_names else pa.nulls(len(ids), pa.int64())
        return {"request_id": ids, "row": cast_key(row, Field("row", "int64"), "column 'row' of the input")}
    model = parts.declarations.models.get(name)
    times = () if model is None else moment_columns(model)
    time = next((n for n in times if n in table.column_names), None)
    if model is None or time is None:
        raise DataError(_wanted(model, name, times))
    moment, valid = instants(column(table, time), None, f"column {time!r} of the input")
    found = {"at": timestamps(moment, valid)}
    for key in plan.entities:
        values = cast_key(column(table, key.name, "the input"), key, f"column {key.name!r} of the input")
        found[KEY + key.name] = values.cast(pa.string())
    for said, values in found.items():
        if values.null_count:
            raise DataError(f"{values.null_count} labels have no {said.removeprefix(KEY)}; it says what a label is of")
    return found


def _wanted(model: Model | None, name: str, times: tuple[str, ...]) -> str:
    if model is None:
        return (
            f"the labels have no column 'request_id', and model {name!r} is not declared any more: nothing else tells"
        )
    keys = ", ".join([*model.entity_columns, times[0] if times else "a timestamp"])
    return f"the labels have neither the column 'request_id' nor the columns {keys}, which tell whose labels they are"


def _texts(values: pa.Array, plan: ServingPlan) -> pa.Array:
    """Labels as the text they are kept as, checked against what the model predicts."""
    values = plain(values)
    if plan.task == "regression":
        try:
            numbers = values.cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(f"model {plan.model!r} predicts numbers, but a label of the input is none") from None
        numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
        return pa.array([None if v is None else repr(v) for v in numbers.to_pylist()], pa.string())
    return pa.array([None if v is None else label_text(v) for v in values.to_pylist()], pa.string())


def _refuse_two(rows: pa.Table, by: list[str]) -> None:
    counted = rows.group_by(by).aggregate([([], "count_all")]) if by else rows
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    if len(twice):
        example = ", ".join(f"{name.removeprefix(KEY)}={twice[name][0].as_py()}" for name in by)
        raise DataError(f"{len(twice)} predictions have two labels in the input, such as {example}; keep one of each")
