"""A version's models, ready to answer: every row by the model of its segment, else by the pooled one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headway.define.records import SegmentModel, ServingPlan
from headway.errors import ArtifactError, DataError
from headway.train import formats
from headway.train._encode import frame_of, matrix_of, positions
from headway.train._lightgbm import TextModel

Scorer = Callable[[Any], np.ndarray]
_POOLED = None


class Predictor:
    """Answers for a version. Several threads may use one; every prediction runs on one thread.

    Make one with ``load``. Columns are numpy arrays by name: numbers and truth values as float64 with NaN for null,
    text as objects with None.
    """

    def __init__(self, plan: ServingPlan, models: Mapping[str | None, Any]) -> None:
        self.plan = plan
        self._scorers: dict[str | None, Scorer] = {
            key: _scorer(model, _entry(plan, key).format, plan) for key, model in models.items()
        }
        self._rows = {key: model for key, model in models.items() if isinstance(model, TextModel)}
        self._cells = tuple((s.name, None if s.categories is None else positions(s.categories)) for s in plan.columns)
        # One row at a time is what most requests ask for; all models being text models makes it cheap.
        self._quick = not plan.frame and len(self._rows) == len(models) > 0
        self._classes = np.empty(len(plan.classes or ()), dtype=object)
        self._classes[:] = plan.classes or ()

    @classmethod
    def load(cls, directory: Path, plan: ServingPlan, *, allow_pickle: bool = False) -> Predictor:
        """Read the files that ``plan`` names from ``directory``.

        Errors: ``ArtifactError`` where a file is missing, broken or not allowed; ``MissingExtra``.
        """
        entries: dict[str | None, SegmentModel] = dict(plan.segments.items())
        if plan.pooled is not None:
            entries[_POOLED] = plan.pooled
        if not entries:
            raise ArtifactError(f"model {plan.model!r}: {directory} names no model files")
        models = {
            key: formats.load(directory / entry.file, entry.format, allow_pickle=allow_pickle)
            for key, entry in entries.items()
        }
        return cls(plan, models)

    def predict(
        self, columns: Mapping[str, np.ndarray], rows: int, segments: Sequence[str | None] | None = None
    ) -> tuple[np.ndarray, list[str | None]]:
        """Answer ``rows`` rows.

        Returns the predictions and, for each row, the segment whose model answered (None: the pooled one).
        Predictions are float64 for a regression, the probability of ``classes[1]`` for two classes, class labels (an
        object array) for several. A row that no model stands for gets NaN, or None among class labels.

        Errors: ``DataError`` for a missing column, or where the estimator refuses the values.
        """
        scores, answered = self.scores(columns, rows, segments)
        return (self.labels(scores) if self.plan.task == "multiclass" else scores), answered

    @property
    def takes_rows(self) -> bool:
        """Whether ``predict_row`` answers: for LightGBM's models, of one number each."""
        return self._quick and self.plan.task != "multiclass"

    def predict_row(self, row: Mapping[str, Any], segment: str | None = None) -> tuple[float, str | None] | None:
        """Answer one row of plain values by column name: what ``predict`` would say, at a fraction of its cost.

        Numbers are floats with NaN for null, text is a string or None. Returns None where it has no answer: unless
        ``takes_rows``, and for a value that does not fit, of which ``predict`` says what is wrong with it.
        """
        if not self.takes_rows:
            return None
        key = self._key(segment)
        model = self._rows.get(key)
        if model is None:
            return math.nan, key
        try:
            cells = [row[name] if codes is None else codes.get(row[name], math.nan) for name, codes in self._cells]
            return model.predict_one(cells)[0], key
        except (KeyError, TypeError, ValueError):
            return None

    def scores(
        self, columns: Mapping[str, np.ndarray], rows: int, segments: Sequence[str | None] | None = None
    ) -> tuple[np.ndarray, list[str | None]]:
        """As ``predict``, with probabilities [rows, classes] instead of labels for several classes."""
        if rows == 1 and self._quick:
            return self._one(columns, self._key(segments[0] if segments else None))
        return self.scores_of(self.encode(columns, rows), rows, segments)

    def encode(self, columns: Mapping[str, np.ndarray], rows: int) -> Any:
        """What the estimators see: a float64 matrix, or a DataFrame if the plan asks for one."""
        plan = self.plan
        return frame_of(columns, plan.columns) if plan.frame else matrix_of(columns, plan.columns, rows)

    def scores_of(
        self, encoded: Any, rows: int, segments: Sequence[str | None] | None = None
    ) -> tuple[np.ndarray, list[str | None]]:
        """Scores of what ``encode`` gave."""
        answered: list[str | None] = [_POOLED] * rows
        if segments is not None and self.plan.segments:
            answered = [self._key(segment) for segment in segments]
        shape = (rows, len(self._classes)) if self.plan.task == "multiclass" else (rows,)
        scores = np.full(shape, np.nan)
        for key, chosen in _groups(answered).items():
            scorer = self._scorers.get(key)
            if scorer is None:
                continue
            if len(chosen) == rows:
                scores[:] = self._run(scorer, encoded)
            else:
                scores[chosen] = self._run(scorer, encoded.iloc[chosen] if self.plan.frame else encoded[chosen])
        return scores, answered

    def labels(self, scores: np.ndarray) -> np.ndarray:
        """The likeliest class of each row, as an object array; None where nothing answered."""
        none = np.isnan(scores).any(axis=1)
        found = self._classes[np.argmax(np.where(none[:, None], 0.0, scores), axis=1)]
        found[none] = None
        return np.asarray(found)

    def _key(self, segment: str | None) -> str | None:
        return segment if segment in self.plan.segments else _POOLED

    def _one(self, columns: Mapping[str, np.ndarray], key: str | None) -> tuple[np.ndarray, list[str | None]]:
        model = self._rows.get(key)
        several = self.plan.task == "multiclass"
        if model is None:
            return np.full((1, len(self._classes)) if several else 1, np.nan), [key]
        try:
            values = [
                columns[name].item(0) if codes is None else codes.get(columns[name].item(0), np.nan)
                for name, codes in self._cells
            ]
            answer = model.predict_one(values)
        except (KeyError, TypeError, IndexError, ValueError):
            # The way for many rows says what is wrong with which column.
            return self.scores_of(self.encode(columns, 1), 1, [key])
        if several:
            answer = answer if len(answer) > 1 else [1 - answer[0], answer[0]]
            return np.array([answer]), [key]
        return np.array(answer), [key]

    def _run(self, scorer: Scorer, encoded: Any) -> np.ndarray:
        try:
            return scorer(encoded)
        except (TypeError, ValueError) as error:
            raise DataError(f"model {self.plan.model!r} cannot answer these rows: {_line(error)}") from error


def _entry(plan: ServingPlan, key: str | None) -> SegmentModel:
    entry = plan.pooled if key is None else plan.segments[key]
    assert entry is not None
    return entry


def _groups(keys: list[str | None]) -> dict[str | None, np.ndarray]:
    """Key → positions of the rows that have it."""
    codes: dict[str | None, int] = {}
    numbers = np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(len(codes) + 1))
    return {key: order[bounds[i] : bounds[i + 1]] for key, i in codes.items()}


def _scorer(model: Any, form: str, plan: ServingPlan) -> Scorer:
    """The model as a function from encoded rows to scores."""
    if form == "lightgbm":
        return _shaped(model.predict, plan)
    if form == "xgboost":
        return _shaped(_xgboost_predict(model), plan)
    if plan.task == "regression":
        return _single_threaded(lambda x: np.asarray(model.predict(x), dtype=np.float64).reshape(len(x)))
    if plan.task == "binary":
        return _single_threaded(lambda x: np.asarray(model.predict_proba(x), dtype=np.float64)[:, 1])
    return _single_threaded(lambda x: np.asarray(model.predict_proba(x), dtype=np.float64))


def _shaped(predict: Scorer, plan: ServingPlan) -> Scorer:
    if plan.task != "multiclass" or len(plan.classes or ()) != 2:
        return predict

    def both(x: Any) -> np.ndarray:
        second = predict(x)
        return np.column_stack([1 - second, second])

    return both


def _xgboost_predict(booster: Any) -> Scorer:
    best = booster.attr("best_iteration")
    trees = (0, int(best) + 1) if best else (0, 0)
    return lambda x: np.asarray(booster.inplace_predict(x, iteration_range=trees), dtype=np.float64)


def _single_threaded(predict: Scorer) -> Scorer:
    # One process serves on one core; several threads would make a small batch slower, not faster.
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()

    def limited(x: Any) -> np.ndarray:
        with controller.limit(limits=1):
            return predict(x)

    return limited


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
