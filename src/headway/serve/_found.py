"""What was found in the online store, as columns for estimators and functions, and as JSON.

Arrow is left alone here: making an array of it takes as long as the rest of a request, and the first time imports
pandas.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from headway.clock import to_iso
from headway.define.records import FeaturePlan, list_type
from headway.errors import UsageError
from headway.serve._protocols import Found

_UNIT = re.compile(r"(?:timestamp|date32|date64)\[(\w+)")


def is_number(feature: FeaturePlan) -> bool:
    """Whether ``Found.floats`` has the feature's values."""
    return feature.type.startswith(("int", "uint", "double", "float", "halffloat", "bool"))


def column_reader(feature: FeaturePlan, i: int) -> Callable[[Found], np.ndarray]:
    """How to read a feature that is no number, the ``i``-th found: as training has it.

    Times and dates become datetime64[us] in UTC with NaT for null, decimals float64, lists float64 (rows, items),
    texts objects with None.
    """
    if unit := _unit(feature):
        return lambda found: _moments(found, feature.name, i, unit)
    if list_type(feature.type) is not None:
        return lambda found: found.matrix(feature.name)
    if feature.type.startswith("decimal"):
        return lambda found: np.array([np.nan if v is None else v for v in _decimals(found, feature.name)])
    return lambda found: found.column(feature.name)


def json_reader(feature: FeaturePlan, i: int) -> Callable[[Found], Any]:
    """How to read a feature that is no float, the ``i``-th found, as values for JSON: a list, or a matrix of floats."""
    if (items := list_type(feature.type)) is not None and items[0] in ("double", "float", "halffloat"):
        return lambda found: _vectors(found.matrix(feature.name), found.null[:, i])
    if feature.type.startswith(("int", "uint", "bool")):
        return lambda found: _with_nulls(found.column(feature.name), found.null[:, i])
    if unit := _unit(feature):
        shown = str if unit == "D" else lambda moment: _iso(moment.astype(np.int64).item())
        return lambda found: [
            None if np.isnat(moment) else shown(moment.astype("datetime64[D]") if unit == "D" else moment)
            for moment in _moments(found, feature.name, i, unit)
        ]
    if feature.type.startswith("decimal"):
        return lambda found: _decimals(found, feature.name)
    return lambda found: found.column(feature.name).tolist()


def _unit(feature: FeaturePlan) -> str:
    """The numpy unit of a time or date; empty for anything else."""
    unit = _UNIT.match(feature.type)
    if unit is None:
        return ""
    return "D" if feature.type.startswith("date") else unit[1]


def _moments(found: Found, name: str, i: int, unit: str) -> np.ndarray:
    values = found.column(name).astype(f"datetime64[{unit}]").astype("datetime64[us]")
    values[found.null[:, i]] = np.datetime64("NaT")
    return values


def _decimals(found: Found, name: str) -> list[float | None]:
    return [None if value is None else float(value) for value in found.array(name).to_pylist()]


def _vectors(matrix: np.ndarray, null: np.ndarray) -> Any:
    if not null.any():
        return np.ascontiguousarray(matrix)
    return [None if empty else row.tolist() for row, empty in zip(matrix, null.tolist(), strict=True)]


def _with_nulls(values: np.ndarray, null: np.ndarray) -> list[Any]:
    listed: list[Any] = values.tolist()
    if null.any():
        return [None if empty else value for value, empty in zip(listed, null.tolist(), strict=True)]
    return listed


def _iso(moment: int) -> str | None:
    try:
        return to_iso(moment)
    except UsageError:  # beyond the year 9999, for which there is no text
        return None
