"""From what a model declares to an estimator ready to be fitted: found, given its parameters, its seed, its threads."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from headway.define import Model
from headway.errors import MissingExtra, suggest

Kind = Literal["lightgbm", "xgboost", "histogram", "other"]

_NATIVE: dict[tuple[str, str], Kind] = {
    ("lightgbm.sklearn", "LGBMRegressor"): "lightgbm",
    ("lightgbm.sklearn", "LGBMClassifier"): "lightgbm",
    ("xgboost.sklearn", "XGBRegressor"): "xgboost",
    ("xgboost.sklearn", "XGBClassifier"): "xgboost",
    ("xgboost.sklearn", "XGBRFRegressor"): "xgboost",
    ("xgboost.sklearn", "XGBRFClassifier"): "xgboost",
    ("sklearn.ensemble._hist_gradient_boosting.gradient_boosting", "HistGradientBoostingRegressor"): "histogram",
    ("sklearn.ensemble._hist_gradient_boosting.gradient_boosting", "HistGradientBoostingClassifier"): "histogram",
}
_EXTRAS = {"lightgbm": "headway[lightgbm]", "xgboost": "headway[xgboost]", "sklearn": "scikit-learn"}
_FORESTS = "sklearn.ensemble._forest"


def kind_of(estimator: object) -> Kind:
    """Which estimators take codes of categories and NaN as they are; a user's subclass is not one of them."""
    cls = type(estimator)
    return _NATIVE.get((cls.__module__, cls.__name__), "other")


def role_of(estimator: object) -> Literal["regressor", "classifier", "unknown"]:
    """What the estimator says it is."""
    from sklearn.base import is_classifier, is_regressor

    try:
        return "regressor" if is_regressor(estimator) else "classifier" if is_classifier(estimator) else "unknown"
    except (AttributeError, TypeError):  # a class of somebody's own without scikit-learn's tags
        return "unknown"


def resolve(model: Model) -> Any:
    """The unfitted estimator of a model, with its parameters set; never the declared object itself.

    Errors: ``MissingExtra`` where a package is missing, ``DefinitionError`` for an unknown name, a parameter that
    does not exist, or something that is no estimator.
    """
    given = _imported(model, model.estimator) if isinstance(model.estimator, str) else model.estimator
    if inspect.isclass(given) or (callable(given) and not hasattr(given, "fit")):
        estimator = _called(model, given)
    else:
        estimator = _copied(model, given)
    if not (hasattr(estimator, "fit") and hasattr(estimator, "predict") and hasattr(estimator, "get_params")):
        raise model.refuse(
            f"estimator is a scikit-learn compatible regressor, classifier or pipeline (fit, predict, get_params);"
            f" got {_short(estimator)}"
        )
    _check_lightgbm_names(model, estimator)
    return estimator


def _imported(model: Model, text: str) -> Any:
    module_name, name = text.split(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        top = missing.partition(".")[0]
        if top in _EXTRAS:
            raise MissingExtra(
                f"model {model.name!r} needs the package {top!r}, which is not installed; pip install '{_EXTRAS[top]}'"
            ) from error
        raise model.refuse(
            f"estimator {text!r}: there is no module {missing!r}; check the spelling, or install the package it is in"
        ) from error
    except (ImportError, ValueError) as error:
        raise model.refuse(f"estimator {text!r}: its module cannot be imported: {error}") from error
    try:
        return getattr(module, name)
    except AttributeError:
        public = [n for n in dir(module) if not n.startswith("_") and callable(getattr(module, n, None))]
        raise model.refuse(f"estimator {text!r}: {module_name} has no {name!r}; {suggest(name, public)}") from None


def _called(model: Model, factory: Callable[..., Any]) -> Any:
    _check_signature(model, factory)
    try:
        return factory(**model.params)
    except Exception as error:
        raise model.refuse(f"{_short(factory)} could not be made with these params: {_line(error)}") from error


def _check_signature(model: Model, factory: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    _check_names(model, _short(factory), takes)


def _check_names(model: Model, what: str, known: Iterable[str]) -> None:
    known = set(known)
    for name in model.params:
        if name not in known:
            raise model.refuse(f"{what} has no parameter {name!r}; {suggest(name, known)}")


def _copied(model: Model, given: Any) -> Any:
    from sklearn.base import clone

    try:
        estimator = clone(given)
    except (TypeError, RuntimeError) as error:
        raise model.refuse(
            f"estimator is 'module:Class', an estimator or pipeline object, or a function of params that returns one;"
            f" got {_short(given)} ({_line(error)})"
        ) from error
    if kind_of(estimator) not in ("lightgbm", "xgboost"):
        _check_names(model, _short(estimator), estimator.get_params(deep=True))
    try:
        return estimator.set_params(**model.params)
    except (TypeError, ValueError) as error:
        raise model.refuse(f"{_short(given)} refuses these params: {_line(error)}") from error


def _check_lightgbm_names(model: Model, estimator: Any) -> None:
    # LightGBM takes any keyword and only warns about one it does not know.
    if kind_of(estimator) != "lightgbm":
        return
    from headway.train._lightgbm import parameter_names

    signature = inspect.signature(type(estimator).__init__).parameters
    _check_names(model, type(estimator).__name__, parameter_names() | (set(signature) - {"self", "kwargs"}))


def has_column_transformer(estimator: Any) -> bool:
    """Whether some part of the estimator picks columns, for which they need names."""
    return any(type(part).__name__ == "ColumnTransformer" for _, part in parts(estimator))


def parts(estimator: Any) -> Iterator[tuple[str, Any]]:
    """The estimator and every estimator inside it, with the prefix of its parameters."""
    yield "", estimator
    for name, value in estimator.get_params(deep=True).items():
        if hasattr(value, "get_params") and not inspect.isclass(value):
            yield f"{name}__", value


def with_seed(estimator: Any, seed: int) -> Any:
    """Set every unset ``random_state``, and what makes LightGBM repeat itself and stay quiet."""
    for _, part in list(parts(estimator)):
        own = part.get_params(deep=False)
        if own.get("random_state", seed) is None and not _given(part, "seed", "random_seed"):
            part.set_params(random_state=seed)
        if type(part).__module__ == "lightgbm.sklearn":
            part.set_params(**_steady(part))
    return estimator


def _steady(part: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not _given(part, "deterministic"):
        found["deterministic"] = True
    if not _given(part, "force_row_wise", "force_col_wise"):
        found["force_row_wise"] = True
    if not _given(part, "verbose", "verbosity"):
        found["verbosity"] = -1
    return found


def _given(part: Any, *names: str) -> bool:
    own = part.get_params(deep=False)
    return any(own.get(name) is not None for name in names)


def with_threads(estimator: Any, threads: int, *, override: bool) -> Any:
    """Let the estimator use ``threads`` threads, where the user has said nothing or ``override`` is set.

    Only boosters and forests are given more than one: they answer the same whatever the number, and others would
    start processes.
    """
    for _, part in list(parts(estimator)):
        own = part.get_params(deep=False)
        if "n_jobs" not in own:
            continue
        spreads = type(part).__module__ in ("lightgbm.sklearn", "xgboost.sklearn", _FORESTS)
        if override or (own["n_jobs"] is None and spreads):
            part.set_params(n_jobs=threads)
    return estimator


def recorded_params(estimator: Any) -> dict[str, Any]:
    """The effective parameters as JSON values; estimators and functions by name."""
    return {name: _plain(value) for name, value in sorted(estimator.get_params(deep=True).items())}


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _plain(value.item())
    return _short(value)


def _short(value: Any) -> str:
    named = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    return f"{named.__module__}.{named.__qualname__}" if inspect.isroutine(value) else named.__name__


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
