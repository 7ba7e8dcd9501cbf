"""Features over other features of a view, bound: what they name, their types, and their values over no rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from headway.data.binding._columns import CASTS, find_unknown, normal
from headway.data.binding._sql import literal, name
from headway.define import Feature, FeatureView
from headway.define._query import expression_columns
from headway.define.records import FeaturePlan, list_type
from headway.errors import BindingError, DataError

Evaluate = Callable[[str], pa.Table]


def bind_expressions(view: FeatureView, plans: Mapping[str, FeaturePlan], evaluate: Evaluate) -> dict[str, FeaturePlan]:
    """The plans of a view's exprs by name; ``plans`` has the other features, and ``evaluate`` answers a SELECT.

    Raises
    ------
    BindingError
        An expr names no feature of the view, or itself by way of others, or its SQL does not fit their types.
    """
    exprs = {f.name: f for f in view.features if f.kind == "expr"}
    inputs = {f.name: _inputs(view, f) for f in exprs.values()}
    found = dict(plans)
    for each in _in_order(view, inputs):
        found[each] = _bound(view, exprs[each], [found[other] for other in inputs[each]], evaluate)
    return {each: found[each] for each in exprs}


def _error(view: FeatureView, feature: Feature, message: str) -> BindingError:
    return BindingError(str(view.refuse(f"feature {feature.name!r} ({feature.expression}): {message}")))


def _inputs(view: FeatureView, feature: Feature) -> list[str]:
    """The features an expr names, as they are written in the view."""
    names = [f.name for f in view.features]
    text = feature.expression or ""
    columns = expression_columns(text, lambda message: _error(view, feature, message))
    if (missing := find_unknown(columns, view.name, names)) is not None:
        raise _error(view, feature, f"it is computed from features of the same view, and {missing}")
    found: dict[str, str] = {}
    for column in columns:
        parts = column.split(".")
        part = parts[1] if len(parts) > 1 and parts[0].lower() == view.name.lower() else parts[0]
        same = [n for n in names if n.lower() == part.lower()]
        if len(same) > 1:
            raise _error(view, feature, f"SQL cannot tell {' from '.join(map(repr, same))}; give one another name")
        found[same[0]] = same[0]
    return list(found)


def _in_order(view: FeatureView, inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """The exprs, each after those it names."""
    done: list[str] = []

    def visit(each: str, trail: tuple[str, ...]) -> None:
        if each in trail:
            circle = " → ".join((*trail[trail.index(each) :], each))
            raise BindingError(str(view.refuse(f"feature {each!r} is computed from itself: {circle}")))
        if each in done:
            return
        for other in inputs[each]:
            if other in inputs:
                visit(other, (*trail, each))
        done.append(each)

    for each in inputs:
        visit(each, ())
    return done


def _bound(view: FeatureView, feature: Feature, inputs: Sequence[FeaturePlan], evaluate: Evaluate) -> FeaturePlan:
    listed = ", ".join(f"{_empty(plan)} as {name(plan.name)}" for plan in inputs) or "1 as __row"
    rows = f"(select {listed}) as {name(view.name)}"
    given = str(_asked(view, feature, evaluate, f"select (\n{feature.expression}\n) as value from {rows}").type)
    if (kind := normal(given)) is None:
        raise _error(
            view, feature, f"it is {given}; features are numbers, text, booleans, dates and timestamps, so cast it"
        )
    sql = f"cast((\n{feature.expression}\n) as {CASTS[kind]})"
    value = _asked(view, feature, evaluate, f"select {sql} as value from {rows}")
    return FeaturePlan(
        feature.name,
        "expr",
        kind,
        expression=sql,
        inputs=tuple(plan.name for plan in inputs),
        expires=any(plan.is_latest for plan in inputs),
        nothing=_kept(value),
    )


def _asked(view: FeatureView, feature: Feature, evaluate: Evaluate, sql: str) -> pa.ChunkedArray:
    """The column of a SELECT that has one."""
    try:
        return evaluate(sql).column(0)
    except DataError as error:
        raise _error(view, feature, f"over no rows at all, {error}") from None
    except BindingError as error:
        raise _error(view, feature, f"it does not fit the features it names: {error}") from None


def _empty(plan: FeaturePlan) -> str:
    """A feature's value over no rows as SQL."""
    items = list_type(plan.type)
    cast = CASTS[plan.type] if items is None else f"{CASTS[items[0]]}[{items[1]}]"
    value = plan.empty
    if plan.kind == "expr" and value is not None and plan.type.startswith(("date", "timestamp")):
        since = f"date '1970-01-01' + {value}" if plan.type.startswith("date") else f"make_timestamp({value}::bigint)"
        return f"cast({since} as {cast})"
    return f"cast({'null' if value is None else literal(value)} as {cast})"


def _kept(column: pa.ChunkedArray) -> Any:
    """A single value as a plan keeps it."""
    if pa.types.is_temporal(column.type):
        column = column.combine_chunks().view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    value = column[0].as_py()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
