"""Columns as estimators see them: a float64 matrix, or a DataFrame where an estimator asks for names.

A column travels as a numpy array: numbers and truth values as float64 with NaN for null, strings as objects with
None. In the matrix a string is its position among the categories recorded with the model; null and what was not
there in training are NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.define.records import ColumnSpec
from headway.errors import DataError, DefinitionError

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, np.ndarray]


def is_text(spec: ColumnSpec) -> bool:
    """Whether a column holds strings."""
    return spec.type in ("string", "large_string", "string_view") or spec.type.startswith("dictionary<values=string")


def columns_of(table: pa.Table, specs: Sequence[ColumnSpec]) -> dict[str, np.ndarray]:
    """The columns of an Arrow table as numpy arrays, as ``Predictor.predict`` takes them.

    Errors: ``DefinitionError`` for a column whose type no estimator takes.
    """
    return {spec.name: _objects(table[spec.name]) if is_text(spec) else _numbers(table, spec) for spec in specs}


def _plain(column: pa.ChunkedArray) -> pa.Array:
    chunk = column.combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):
        chunk = pa.concat_arrays(chunk.chunks) if chunk.num_chunks else pa.array([], chunk.type)
    return chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(_plain(column).to_numpy(zero_copy_only=False), dtype=object)


def _numbers(table: pa.Table, spec: ColumnSpec) -> np.ndarray:
    column = _plain(table[spec.name])
    kind = column.type
    if pa.types.is_date(kind):
        column, kind = pc.cast(column, pa.date32()).view(pa.int32()), pa.int32()
    if not (pa.types.is_boolean(kind) or _is_number(kind)):
        raise DefinitionError(
            f"column {spec.name!r} is of type {kind}; an estimator takes numbers, truth values, dates (as days) and"
            " text (a timestamp goes in through hw.calendar)"
        )
    # 53 bits of a large integer are enough for an estimator, so the cast need not be exact.
    return np.array(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )


def with_categories(specs: Sequence[ColumnSpec], table: pa.Table) -> tuple[ColumnSpec, ...]:
    """``specs`` with the sorted distinct values of every text column."""
    return tuple(
        msgspec.structs.replace(
            spec, categories=tuple(sorted(pc.unique(_plain(table[spec.name]).drop_null()).to_pylist()))
        )
        if is_text(spec)
        else msgspec.structs.replace(spec, categories=None)
        for spec in specs
    )


def matrix_of_table(table: pa.Table, specs: Sequence[ColumnSpec]) -> np.ndarray:
    """float64 [rows, columns]; text as positions among ``categories``."""
    matrix = np.empty((table.num_rows, len(specs)), dtype=np.float64)
    for j, spec in enumerate(specs):
        if is_text(spec):
            values = _plain(table[spec.name])
            codes = pc.index_in(values, value_set=pa.array(spec.categories or (), values.type))
            matrix[:, j] = pc.cast(codes, pa.float64()).to_numpy(zero_copy_only=False)
        else:
            matrix[:, j] = _numbers(table, spec)
    return matrix


def matrix_of(columns: Columns, specs: Sequence[ColumnSpec], rows: int) -> np.ndarray:
    """float64 [rows, columns] from numpy columns; text as positions among ``categories``."""
    matrix = np.empty((rows, len(specs)), dtype=np.float64)
    for j, spec in enumerate(specs):
        values: Any = column(columns, spec.name)
        try:
            if spec.categories is not None:
                codes = positions(spec.categories)
                values = [codes.get(value, np.nan) for value in values.tolist()]
            matrix[:, j] = values
        except (TypeError, ValueError) as error:
            raise DataError(f"column {spec.name!r} is not {rows} values of type {spec.type}: {error}") from error
    return matrix


def column(columns: Columns, name: str) -> np.ndarray:
    """One column by name. Errors: ``DataError`` if it is missing."""
    try:
        return columns[name]
    except KeyError:
        raise DataError(
            f"the model needs the column {name!r}; there are {', '.join(sorted(columns)) or 'none'}"
        ) from None


def positions(categories: Sequence[str]) -> dict[Any, float]:
    """Category → its code."""
    return {category: float(i) for i, category in enumerate(categories)}


def frame_of(columns: Columns, specs: Sequence[ColumnSpec]) -> pd.DataFrame:
    """A DataFrame in the order of ``specs``: numbers as float64, text as objects with NaN for null."""
    import pandas as pd

    data = {spec.name: _missing_as_nan(column(columns, spec.name)) for spec in specs}
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in data.items()}, copy=False)


def frame_of_matrix(matrix: np.ndarray, specs: Sequence[ColumnSpec]) -> pd.DataFrame:
    """The DataFrame that ``frame_of`` would give, from a matrix with text as codes."""
    return frame_of({s.name: _decoded(matrix[:, j], s) for j, s in enumerate(specs)}, specs)


def _decoded(values: np.ndarray, spec: ColumnSpec) -> np.ndarray:
    if not is_text(spec):
        return values
    known = np.array([*(spec.categories or ()), None], dtype=object)
    return np.asarray(known[np.where(np.isnan(values), len(known) - 1, values).astype(np.int64)])


def _missing_as_nan(values: np.ndarray) -> np.ndarray:
    # scikit-learn's imputers look for NaN; a "str" dtype would do the same but means another thing before pandas 3.
    if values.dtype != object:
        return values
    return np.array([np.nan if value is None else value for value in values.tolist()], dtype=object)
