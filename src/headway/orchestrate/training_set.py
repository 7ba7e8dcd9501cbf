"""From declarations to the table an estimator sees, in training and in judging an older version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.spine import column, instants, timestamps
from headway.define import Model, RandomSplit, Request, RequestFeatures
from headway.define._code import reach_digest
from headway.define._duration import microseconds
from headway.define.records import (
    CalendarUse,
    ColumnSpec,
    RequestFunctionUse,
    RequestInput,
    ServingPlan,
    TrainingSet,
    ViewUse,
    item_names,
    list_type,
)
from headway.define.request_time import calendar_columns, items_of, run_function
from headway.errors import BindingError, DataError, suggest
from headway.orchestrate._digest import digest, table_digest
from headway.orchestrate._parts import Parts
from headway.orchestrate.features import history

Function = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class LabelRows:
    """The rows a model may learn from: label known by the cut, one row per fact.

    ``table`` has the label source's columns; ``moment`` is when the features are taken (``as_of`` or event time).
    """

    table: pa.Table
    label: pa.Array
    event: np.ndarray
    known: np.ndarray
    moment: np.ndarray
    moment_valid: np.ndarray


def label_rows(parts: Parts, model: Model, now: int) -> LabelRows:
    """Read the label's source as it is known at ``now``, labels matured and not null, in order of event and arrival."""
    source, label = model.label.source, model.label
    names = [f.name for f in parts.binder.columns(source)]
    for what, wanted in _wanted(model).items():
        if wanted not in names:
            raise BindingError(
                f"model {model.name!r} ({model.place}): {what} {wanted!r} is no column of its label's source"
                f" {source.name!r}; {suggest(wanted, names)}"
            )
    table = parts.binder.current_rows(source, now)
    if source.timeless and label.as_of is not None:  # the moment of a row is the only time it has
        event, event_valid = instants(column(table, label.as_of), None, f"column {label.as_of!r} of {source.name!r}")
        known, known_valid = event, event_valid
    else:
        known, known_valid = instants(column(table, "__known"), None, "__known")
        event, event_valid = instants(column(table, "__event"), None, "__event")
    known = known + (microseconds(label.matures) if label.matures else 0)
    keep = known_valid & event_valid & (known <= now) & np.asarray(column(table, label.column).is_valid())
    table, event, known = table.filter(pa.array(keep)), event[keep], known[keep]
    order = np.lexsort((np.asarray(column(table, "__seq")), event))
    table, event, known = table.take(pa.array(order)), event[order], known[order]
    if label.as_of is None:
        moment, valid = event, np.ones(len(event), bool)
    else:
        moment, valid = instants(column(table, label.as_of), None, f"column {label.as_of!r} of {source.name!r}")
    return LabelRows(table, column(table, label.column), event, known, moment, valid)


def _wanted(model: Model) -> dict[str, str]:
    """What → column that the label's source must have."""
    found = {"the label": model.label.column}
    if model.label.as_of:
        found["the label's as_of"] = model.label.as_of
    found.update({f"key column {c}": c for c in model.entity_columns})
    found.update({f"request input {name}": name for name in model.request_inputs})
    if isinstance(model.split, RandomSplit) and model.split.group:
        found["the split's group"] = model.split.group
    return found


def skeleton(parts: Parts, model: Model) -> ServingPlan:
    """The serving plan of a model before anything is fitted: views, inputs and functions; no columns yet."""
    uses = _merged([parts.binder.use(s) for s in model.selections])
    _refuse_lists(model, uses)
    functions = tuple(
        RequestFunctionUse(
            name=f.name,
            module=f.function.__module__,
            qualname=f.function.__qualname__,
            inputs=f.columns,
            outputs=(),
            digest=reach_digest(f.function, [parts.settings.definitions]),
        )
        for f in model.functions
    )
    return ServingPlan(
        model=model.name,
        task=model.task or "regression",
        views=tuple(uses),
        requests=tuple(RequestInput(name, type_) for name, type_ in model.request_inputs.items()),  # type: ignore[arg-type]
        calendars=tuple(CalendarUse(c.name, c.timezone, tuple(c.parts)) for c in model.calendars),
        functions=functions,
        columns=(),
        pooled=None,
        segment=model.segment,
        package=parts.settings.definitions,
    )


def _refuse_lists(model: Model, uses: Sequence[ViewUse]) -> None:
    """Lists of numbers are columns of an estimator; other lists are none."""
    for use in uses:
        for feature in use.plan.features:
            listed = list_type(feature.type)
            if feature.name in use.features and listed and not listed[0].startswith(("int", "uint", "float", "double")):
                raise BindingError(
                    f"model {model.name!r} ({model.place}): feature {feature.name!r} of view {use.plan.name!r} is a"
                    f" list of {listed[0]}, which no estimator takes; select other features of the view,"
                    f" {use.plan.name}[[…]], or have hw.expr take a value out of it"
                )


def _merged(uses: Sequence[ViewUse]) -> list[ViewUse]:
    """Uses of one view under one prefix and one set of keys, as one."""
    found: dict[tuple[str, str], ViewUse] = {}
    for use in uses:
        at = (use.prefix, use.plan.fingerprint)
        before = found.get(at)
        if before is None:
            found[at] = use
        elif before.keys != use.keys:
            raise BindingError(f"{use.prefix!r} is used with two different keys; give one of them another alias")
        else:
            features = tuple(dict.fromkeys((*before.features, *use.features)))
            found[at] = ViewUse(use.prefix, use.plan, use.keys, features)
    if len({prefix for prefix, _ in found}) < len(found):
        raise BindingError("two different views are used under one name; give one of them an alias")
    return list(found.values())


def live_functions(model: Model) -> dict[str, Function]:
    """The request functions as the project declares them now."""
    return {f.name: f.function for f in model.functions}


def model_columns(
    parts: Parts, plan: ServingPlan, functions: Mapping[str, Function], rows: LabelRows
) -> tuple[dict[str, np.ndarray], ServingPlan]:
    """Every column a plan can offer an estimator, for label rows, by name: view features, request inputs, calendar
    parts, function outputs. The plan comes back with the outputs its functions turned out to have."""
    return offered(parts, plan, functions, rows.table, rows.moment, rows.moment_valid)


def offered(
    parts: Parts,
    plan: ServingPlan,
    functions: Mapping[str, Function],
    table: pa.Table,
    moment: np.ndarray,
    valid: np.ndarray,
) -> tuple[dict[str, np.ndarray], ServingPlan]:
    """``model_columns`` for any table that has the plan's keys and request inputs."""
    found: dict[str, np.ndarray] = {}
    for name, values in history(parts, plan.views, table, moment, valid).items():
        found[name] = as_numpy(values)
        found.update(items_of(name, found[name]))
    for request in plan.requests:
        found[request.name] = request_column(table, request)
    for use in plan.calendars:
        found.update(calendar_columns(use, found[use.column]))
    done = []
    for function in plan.functions:
        outputs = run_function(functions[function.name], function, found, table.num_rows)
        found.update(outputs)
        done.append(
            RequestFunctionUse(
                name=function.name,
                module=function.module,
                qualname=function.qualname,
                inputs=function.inputs,
                outputs=tuple(outputs),
                digest=function.digest,
            )
        )
    return found, msgspec.structs.replace(plan, functions=tuple(done))


def request_column(table: pa.Table, request: RequestInput) -> np.ndarray:
    """A request input as the numpy array that functions and estimators are given."""
    values = column(table, request.name, "the table")
    what = f"column {request.name!r}"
    if request.type == "timestamp":
        us, valid = instants(values, None, what)
        found = us.astype("datetime64[us]")
        found[~valid] = np.datetime64("NaT")
        return found
    target = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}[request.type]
    try:
        return as_numpy(values.cast(target))
    except pa.ArrowException:
        raise DataError(f"{what} is of type {values.type}, but it is declared as {request.type}") from None


def as_numpy(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Numbers and booleans as float64 with NaN for null, timestamps as datetime64[us], lists of numbers as float64
    (rows, items), all else as objects."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_fixed_size_list(array.type) and pa.types.is_primitive(array.type.value_type):
        items = array.type.list_size
        inner = array.values.slice(array.offset * items, len(array) * items)
        matrix = as_numpy(inner).reshape(len(array), items)
        return np.where(np.asarray(array.is_valid())[:, None], matrix, np.nan)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return np.asarray(array.cast(pa.timestamp("us")))
    if pa.types.is_boolean(array.type) or pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return np.asarray(pc.fill_null(array.cast(pa.float64(), safe=False), float("nan")))
    return np.array(array.to_pylist(), dtype=object)


def training_set(parts: Parts, model: Model, now: int) -> tuple[TrainingSet, LabelRows, ServingPlan]:
    """The training set of a model as known at ``now``, the label rows it was made of, and the plan it follows."""
    rows = label_rows(parts, model, now)
    if not len(rows.event):
        raise DataError(
            f"model {model.name!r}: no row of {model.label.source.name!r} has a label known by the clock's now;"
            " check the environment's clock, and `matures`"
        )
    columns, plan = model_columns(parts, skeleton(parts, model), live_functions(model), rows)
    wanted = estimator_columns(model, plan)
    table = pa.table({name: _arrow(columns[name]) for name in wanted})
    specs = tuple(ColumnSpec(name, str(table.schema.field(name).type)) for name in wanted)
    segment = column(rows.table, model.segment).cast(pa.string()) if model.segment else None
    group = (
        column(rows.table, model.split.group) if isinstance(model.split, RandomSplit) and model.split.group else None
    )
    whole = table.append_column("__label", rows.label).append_column("__event", timestamps(rows.event))
    whole = whole.append_column("__known", timestamps(rows.known))
    return (
        TrainingSet(
            table=table,
            columns=specs,
            label=rows.label,
            event=rows.event,
            known=rows.known,
            digest=digest(table_digest(whole), None if segment is None else table_digest(pa.table({"s": segment}))),
            segment=segment,
            group=group,
        ),
        rows,
        plan,
    )


def estimator_columns(model: Model, plan: ServingPlan) -> list[str]:
    """The columns an estimator sees, in the order of the model's features. A timestamp is an input only."""
    outputs = {f.name: f.outputs for f in plan.functions}
    found: list[str] = []
    for item in model.features:
        if isinstance(item, RequestFeatures):
            found.extend(outputs[item.name])
        elif isinstance(item, Request):
            found.extend([] if item.type == "timestamp" else [item.name])
        else:
            found.extend(item.columns)
    types = {f"{u.prefix}__{f.name}": f.type for u in plan.views for f in u.plan.features}
    found = [column for name in found for column in item_names(name, types.get(name, ""))]
    for name in found:
        if types.get(name, "").startswith(("timestamp", "date")):
            raise BindingError(
                f"model {model.name!r} ({model.place}): feature {name!r} is a moment, which no estimator takes;"
                " use it in a request function, or leave it out"
            )
    if not found:
        raise BindingError(f"model {model.name!r} ({model.place}): its features give the estimator no column")
    return found


def _arrow(values: np.ndarray) -> pa.Array:
    if values.dtype == object:
        return pa.array(values.tolist())
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    return pa.array(values, mask=np.isnan(values))
