"""Fitting one estimator on some rows and writing it down. Runs in this process or in a worker."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headway.define.records import ColumnSpec, SegmentModel, ServingPlan
from headway.errors import ArtifactError, DefinitionError, HeadwayError, suggest
from headway.train import formats
from headway.train._encode import frame_of_matrix, is_text
from headway.train._estimator import Kind, kind_of, with_seed, with_threads
from headway.train._target import Target
from headway.train.predictor import Predictor

# So many rows are asked twice, before and after a model went through its file.
_PARITY_ROWS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """All that the fits of one training have in common. Goes to worker processes."""

    owner: str  # how errors begin: model 'x' (file:line)
    plan: ServingPlan  # task, classes, columns with categories, frame
    estimator: Any  # unfitted
    seed: int
    allow_pickle: bool

    @property
    def kind(self) -> Kind:
        return kind_of(self.estimator)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Where a fitted estimator was written, and what it said on the way (deduplicated warnings)."""

    entry: SegmentModel
    warnings: tuple[str, ...]


def fit(
    recipe: Recipe, matrix: np.ndarray, target: Target, stem: Path, *, root: Path, threads: int, segment: str | None
) -> Fitted:
    """Fit a copy of the recipe's estimator and write it beside ``stem``, below ``root``.

    With a segment the fit gets one thread, whatever the user has asked for: the segments are what runs side by side.

    Errors: ``DefinitionError`` where the estimator refuses parameters or rows, ``ArtifactError`` where it cannot be
    stored as data.
    """
    from sklearn.base import clone
    from threadpoolctl import threadpool_limits

    estimator = with_seed(clone(recipe.estimator), recipe.seed)
    with_threads(estimator, threads, override=segment is not None)
    with _steady(recipe.seed) as said, threadpool_limits({"blas": 1, "openmp": threads}):
        try:
            _fit_in_place(recipe, estimator, matrix, target)
        except HeadwayError:
            raise
        except Exception as error:
            raise DefinitionError(_explain(recipe, matrix, error, segment)) from error
    _refuse_unused(recipe, said)
    # A server runs on one core, and the file must not say how many cores the training had.
    with_threads(estimator, 1, override=True)
    file, form = formats.save(estimator, stem, allow_pickle=recipe.allow_pickle)
    entry = SegmentModel(file=file.relative_to(root).as_posix(), format=form, rows=len(matrix))
    if form in ("lightgbm", "xgboost"):
        _check_parity(recipe, estimator, matrix[:_PARITY_ROWS], entry, root)
    return Fitted(entry, tuple(dict.fromkeys(str(w.message).strip() for w in said)))


@contextmanager
def _steady(seed: int) -> Iterator[list[warnings.WarningMessage]]:
    """numpy's global generator seeded (some estimators draw from it), warnings collected; both put back after."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield said
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _fit_in_place(recipe: Recipe, estimator: Any, matrix: np.ndarray, target: Target) -> None:
    specs = recipe.plan.columns
    text = [j for j, spec in enumerate(specs) if is_text(spec)]
    y = target.y if target.classes is None else np.array(target.classes)[target.y]
    match recipe.kind:
        case "lightgbm":
            names = [spec.name for spec in specs]
            readable = all(re.fullmatch(r"\w+", name) for name in names)
            options = {"feature_name": names if readable else "auto"}
            if text:
                options["categorical_feature"] = text  # type: ignore[assignment]
            estimator.fit(matrix, y, **options)
        case "xgboost":
            if text:
                kinds = ["c" if j in text else "q" for j in range(len(specs))]
                estimator.set_params(feature_types=kinds, enable_categorical=True)
            estimator.fit(matrix, target.y)  # XGBoost wants classes counted from 0
        case "histogram":
            if text and estimator.get_params()["categorical_features"] in ("from_dtype", "warn", None):
                estimator.set_params(categorical_features=text)
            estimator.fit(matrix, y)
        case "other":
            estimator.fit(frame_of_matrix(matrix, specs) if recipe.plan.frame else np.asarray(matrix), y)


def _refuse_unused(recipe: Recipe, said: list[warnings.WarningMessage]) -> None:
    """XGBoost only warns about a parameter it does not know."""
    for warning in said:
        unused = re.search(r"Parameters: \{(.*?)\} are not used", str(warning.message), flags=re.DOTALL)
        if unused:
            names = re.findall(r"\w+", unused.group(1))
            known = set(recipe.estimator.get_params()) - set(names)
            raise DefinitionError(
                f"{recipe.owner}: {type(recipe.estimator).__name__} has no use for the parameter {', '.join(names)};"
                f" {suggest(names[0], known)}"
            )


def _explain(recipe: Recipe, matrix: np.ndarray, error: Exception, segment: str | None) -> str:
    """Why a fit failed, in a sentence that says what to change."""
    name = type(recipe.estimator).__name__
    where = f" on segment {segment!r}" if segment is not None else ""
    specs, text = recipe.plan.columns, str(error)
    nulls = _counted(specs, np.isnan(matrix).sum(axis=0))
    if "NaN" in text and nulls:
        return (
            f"{recipe.owner}: {name} takes no nulls{where}, and there are some in {nulls} ({len(matrix)} rows); add an"
            " imputer to the pipeline (sklearn.impute.SimpleImputer), or take an estimator that takes them, such as"
            " lightgbm:LGBMRegressor"
        )
    infinite = _counted(specs, np.isinf(matrix).sum(axis=0))
    if "infinity" in text and infinite:
        return f"{recipe.owner}: {name} takes no infinite values{where}, and there are some in {infinite}"
    words = [spec.name for spec in specs if is_text(spec)]
    if recipe.plan.frame and words and re.search(r"could not convert string|dtypes? must be|dtype=object", text):
        return (
            f"{recipe.owner}: {name} takes no text{where}, and {', '.join(words)} hold text; encode them in a pipeline"
            " (sklearn.compose.ColumnTransformer with OneHotEncoder), or take an estimator for which headway does:"
            " LightGBM, XGBoost, HistGradientBoosting"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return f"{recipe.owner}: {name} could not be fitted{where}: {type(error).__name__}: {lines[0]}"


def _counted(specs: tuple[ColumnSpec, ...], counts: np.ndarray) -> str:
    found = [f"{spec.name} ({int(n)})" for spec, n in zip(specs, counts, strict=True) if n]
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more columns" if len(found) > 8 else "")


def _check_parity(recipe: Recipe, estimator: Any, matrix: np.ndarray, entry: SegmentModel, root: Path) -> None:
    """A booster's own format leaves out what the Python class around it does; then it may not be used."""
    plan = msgspec.structs.replace(recipe.plan, pooled=entry, segments={}, frame=False)
    stored = Predictor.load(root, plan).scores_of(np.asarray(matrix), len(matrix))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if plan.task == "regression":
            direct = estimator.predict(matrix)
        else:
            direct = _probabilities(estimator.predict_proba(matrix), plan.task)
    if direct is None or not np.allclose(stored, direct, rtol=1e-5, atol=1e-7, equal_nan=True):
        raise ArtifactError(
            f"{recipe.owner}: {type(estimator).__name__} answers otherwise once stored in its own format, which leaves"
            " out Python code such as an objective given as a function; use one of the built-in objectives"
        )


def _probabilities(found: np.ndarray, task: str) -> np.ndarray | None:
    """Scores as ``Predictor`` gives them; None if they are no probabilities (an objective that is a function)."""
    if found.ndim != 2 or (found < 0).any() or (found > 1).any():
        return None
    return np.asarray(found[:, 1]) if task == "binary" else found
