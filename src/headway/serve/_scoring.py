"""A version's own computing: calendars, request functions from its bundle, the estimators."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headway.define._bundle import BundleLoader
from headway.define.records import ServingPlan
from headway.define.request_time import Function, calendar_columns, calendar_parts, run_function
from headway.errors import ArtifactError
from headway.train.predictor import Predictor

BUNDLE = "bundle"


class Scoring:
    """What turns inputs and features into predictions, with the code and the files of one version.

    Columns are numpy arrays by name, as in ``headway.define.request_time``. Any thread may use it.
    """

    def __init__(self, plan: ServingPlan, predictor: Predictor, functions: Mapping[str, Function]) -> None:
        self.plan = plan
        self._predictor = predictor
        self._functions = tuple((functions[use.name], use) for use in plan.functions)
        outputs = {name for use in plan.functions for name in use.outputs}
        self._texts = tuple(c.name for c in plan.columns if c.name in outputs and _is_text(c.type))

    @classmethod
    def load(cls, directory: Path, plan: ServingPlan, *, allow_pickle: bool = False) -> Scoring:
        """Load a version's estimators and request functions from its directory.

        Raises:
            ArtifactError: a file or a function is missing, or not allowed.
            ProjectCodeError: a module of the bundle raised when it was imported.
            MissingExtra: the estimator's package is not installed.
        """
        predictor = Predictor.load(directory, plan, allow_pickle=allow_pickle)
        if not plan.functions:
            return cls(plan, predictor, {})
        if plan.package is None:
            raise ArtifactError(f"the version in {directory} has request functions, but no code bundle")
        bundle = BundleLoader(directory / BUNDLE, plan.package)
        try:
            functions = {use.name: bundle.function(use.module, use.qualname) for use in plan.functions}
        except BaseException:
            bundle.close()
            raise
        scoring = cls(plan, predictor, functions)
        # A request under way may still use the bundle: it goes when the last one has let go of this object.
        weakref.finalize(scoring, bundle.close)
        return scoring

    def complete(self, columns: dict[str, np.ndarray], rows: int) -> None:
        """Add what is computed at request time: calendar parts, then the outputs of request functions.

        Raises:
            ProjectCodeError: a function raised.
        """
        for calendar in self.plan.calendars:
            columns.update(calendar_columns(calendar, columns[calendar.column]))
        for function, use in self._functions:
            columns.update(run_function(function, use, columns, rows))
        for name in self._texts:
            # All values null: the function could not say that they are texts.
            if columns[name].dtype != object:
                columns[name] = np.full(rows, None, dtype=object)

    @property
    def takes_rows(self) -> bool:
        """Whether ``predict_row`` is worth asking."""
        return self._predictor.takes_rows

    def predict_row(
        self, row: dict[str, Any], moments: Mapping[str, int | None], segment: str | None
    ) -> tuple[float, str | None] | None:
        """What ``complete`` and ``predict`` do, for one row of plain values: floats (NaN for null) and strings.

        ``moments`` are the request's timestamps, in microseconds since 1970. None where only ``predict`` can answer.

        Raises:
            ProjectCodeError: a function raised.
        """
        for calendar in self.plan.calendars:
            row.update(calendar_parts(calendar, moments[calendar.column]))
        for function, use in self._functions:
            given = {
                name: _array(moments[name] if name in moments else row[name], name in moments) for name in use.inputs
            }
            for name, values in run_function(function, use, given, 1).items():
                row[name] = values.item(0)
        for name in self._texts:
            if not isinstance(row[name], str):
                row[name] = None
        return self._predictor.predict_row(row, segment)

    def predict(
        self, columns: Mapping[str, np.ndarray], rows: int, segments: Sequence[str | None] | None
    ) -> tuple[np.ndarray, list[str | None]]:
        """Predictions, and the segment whose estimator made each (None: the pooled one)."""
        return self._predictor.predict(columns, rows, segments)


def _array(value: Any, moment: bool) -> np.ndarray:
    """One value as the column that a function is given."""
    if moment:
        return np.array(["NaT"], "datetime64[us]") if value is None else np.array([value]).view("datetime64[us]")
    return np.array([value]) if isinstance(value, float) else np.array([value], dtype=object)


def _is_text(type_: str) -> bool:
    return "string" in type_
