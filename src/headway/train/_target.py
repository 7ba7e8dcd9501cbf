"""The label as numbers: which task it is, and which classes there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.define import Model
from headway.errors import DataError

Task = Literal["regression", "binary", "multiclass"]

# A number that takes more values than this is measured, not chosen from a list.
_MOST_CLASSES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """``y`` is float64 values for a regression, else int64 positions in ``classes`` (sorted, plain Python values)."""

    task: Task
    y: np.ndarray
    classes: tuple[Any, ...] | None = None

    def on(self, rows: np.ndarray) -> Target:
        """The target of some rows, with the classes that occur in them."""
        if self.classes is None:
            return Target(self.task, self.y[rows])
        present, codes = np.unique(self.y[rows], return_inverse=True)
        return Target(self.task, codes.astype(np.int64), tuple(self.classes[i] for i in present))


def label_values(label: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A label column as numpy: bool, int64 or float64 as it is, strings as objects."""
    label = label.combine_chunks() if isinstance(label, pa.ChunkedArray) else label
    if pa.types.is_dictionary(label.type):
        label = label.dictionary_decode()
    if label.null_count:
        raise DataError(f"the label has {label.null_count} nulls in {len(label)} rows; a training set has none")
    kind = label.type
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(label.to_numpy(zero_copy_only=False))
    if pa.types.is_integer(kind):
        return np.asarray(label.to_numpy()).astype(np.int64)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return np.asarray(pc.cast(label, pa.float64()).to_numpy())
    raise DataError(f"a label is a number, a truth value or text, got {kind}")


def make_target(model: Model, label: pa.Array, kind: Literal["regressor", "classifier", "unknown"]) -> Target:
    """Decide the task from the declaration, else from the estimator, else from the label.

    Errors: ``DefinitionError`` where declaration, estimator and label contradict each other, ``DataError`` for a
    label that is not finite or has one class only.
    """
    values = label_values(label)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise DataError(f"model {model.name!r}: the label is not a finite number in {bad} of {len(values)} rows")
    wants = _wants_regression(model, values, kind)
    if wants:
        if values.dtype.kind not in "fib":
            raise model.refuse("a regression needs a number as its label, got text")
        return Target("regression", values.astype(np.float64))
    return _classes(model, values)


def _wants_regression(model: Model, values: np.ndarray, kind: str) -> bool:
    if model.task is not None:
        declared = model.task == "regression"
        if kind != "unknown" and declared != (kind == "regressor"):
            raise model.refuse(f"task is {model.task!r}, but the estimator is a {kind}")
        return declared
    if kind != "unknown":
        return kind == "regressor"
    return values.dtype.kind == "f" or (values.dtype.kind == "i" and len(np.unique(values)) > _MOST_CLASSES)


def _classes(model: Model, values: np.ndarray) -> Target:
    found, codes = np.unique(values, return_inverse=True)
    if len(found) < 2:
        raise DataError(
            f"model {model.name!r}: all {len(values)} labels are {found[0]!s}; a classifier needs at least two classes"
        )
    if model.task == "binary" and len(found) != 2:
        raise model.refuse(f"task is 'binary', but the label has {len(found)} classes: {_few(found)}")
    task: Task = "binary" if len(found) == 2 and model.task != "multiclass" else "multiclass"
    return Target(task, codes.astype(np.int64), tuple(found.tolist()))


def _few(values: np.ndarray) -> str:
    return ", ".join(str(v) for v in values[:8]) + (" and more" if len(values) > 8 else "")
