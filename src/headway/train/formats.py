"""Fitted estimators as files that are data.

LightGBM goes to its text form, XGBoost to UBJ, all else to skops, which names every type it would construct. The list
of types that may be constructed is ours: a file cannot add to it. What does not fit is refused, unless the
environment says ``allow_pickle = true``.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

from headway.errors import ArtifactError, MissingExtra
from headway.train._estimator import kind_of
from headway.train._files import write_bytes
from headway.train._lightgbm import TextModel

SWITCH = "allow_pickle = true under [project] in headway.toml"

# Types beyond skops' own list of public estimators. All of them hold numbers and other members of these lists, and
# none of them runs code of the file's choosing when it is built.
_SKLEARN = {
    "sklearn._loss.link": ("BaseLink", "HalfLogitLink", "IdentityLink", "Interval", "LogLink", "LogitLink",
                           "MultinomialLogit"),
    "sklearn._loss.loss": ("AbsoluteError", "ExponentialLoss", "HalfBinomialLoss", "HalfGammaLoss",
                           "HalfMultinomialLoss", "HalfPoissonLoss", "HalfSquaredError", "HalfTweedieLoss",
                           "HalfTweedieLossIdentity", "HuberLoss", "PinballLoss"),
    "sklearn.calibration": ("_CalibratedClassifier", "_SigmoidCalibration"),
    "sklearn.cluster._bisect_k_means": ("_BisectingTree",),
    "sklearn.cluster._kmeans": ("_kmeans_single_lloyd", "_kmeans_single_elkan"),
    "sklearn.compose._column_transformer": ("make_column_selector", "_RemainderColsList"),
    "sklearn.ensemble._hist_gradient_boosting.binning": ("_BinMapper",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.feature_selection._univariate_selection": ("chi2", "f_classif", "f_regression", "r_regression"),
    "sklearn.feature_selection._mutual_info": ("mutual_info_classif", "mutual_info_regression"),
    "sklearn.gaussian_process._gpc": ("_BinaryGaussianProcessClassifierLaplace",),
    "sklearn.gaussian_process.kernels": ("ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern",
                                         "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel"),
    "sklearn.metrics._dist_metrics": ("ChebyshevDistance64", "EuclideanDistance64", "ManhattanDistance64",
                                      "MinkowskiDistance64"),
    "sklearn.multiclass": ("_ConstantPredictor",),
    "sklearn.neighbors._ball_tree": ("BallTree", "BallTree64"),
    "sklearn.neighbors._kd_tree": ("KDTree", "KDTree64"),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "sklearn.preprocessing._function_transformer": ("_identity",),
    "sklearn.tree._tree": ("Tree",),
    "sklearn.utils._bunch": ("Bunch",),
    "sklearn.utils.validation": ("check_array",),
    "sklearn.utils._metadata_requests": ("MetadataRequest", "MethodMetadataRequest"),
}  # fmt: skip
_OTHERS = {
    "collections": ("OrderedDict", "defaultdict"),
    "functools": ("partial",),  # of a function that is itself allowed
    "lightgbm.basic": ("Booster",),
    "lightgbm.sklearn": ("LGBMClassifier", "LGBMRegressor"),
    "numpy": ("dtype", "mean", "median"),
    "scipy._lib.array_api_compat.numpy._aliases": ("asarray",),
    "scipy.interpolate._bsplines": ("BSpline",),
    "scipy.sparse._csr": ("csr_matrix", "csr_array"),
    "xgboost.core": ("Booster",),
    "xgboost.sklearn": ("XGBClassifier", "XGBRFClassifier", "XGBRFRegressor", "XGBRegressor"),
}
ALLOWED = frozenset(
    f"{module}.{name}" for group in (_SKLEARN, _OTHERS) for module, names in group.items() for name in names
)


def save(estimator: Any, stem: Path, *, allow_pickle: bool = False) -> tuple[Path, str]:
    """Write a fitted estimator beside ``stem`` and wait until the disk has it.

    Returns the file and its format: ``lightgbm``, ``xgboost``, ``skops``, or ``pickle`` where the others refuse and
    ``allow_pickle`` is set.

    Errors: ``ArtifactError`` naming the types that may not be stored, and the switch that stores a pickle instead.
    """
    match kind_of(estimator):
        case "lightgbm":
            return _written(stem, ".txt", _lightgbm_text(estimator)), "lightgbm"
        case "xgboost":
            return _written(stem, ".ubj", bytes(estimator.get_booster().save_raw(raw_format="ubj"))), "xgboost"
    try:
        return _written(stem, ".skops", _skops_bytes(estimator)), "skops"
    except ArtifactError:
        if not allow_pickle:
            raise
    return _written(stem, ".pkl", _pickle_bytes(estimator)), "pickle"


def load(path: Path, format: str, *, allow_pickle: bool = False) -> Any:
    """The object in a file: a ``TextModel``, an ``xgboost.Booster``, or the estimator itself.

    Errors: ``ArtifactError`` if the file is missing, broken, or holds what is not allowed; ``MissingExtra``.
    Whether the file is the one that was recorded is for the caller to check before.
    """
    readers = {"lightgbm": TextModel, "xgboost": _load_xgboost, "skops": _load_skops, "pickle": _load_pickle}
    if format not in readers:
        raise ArtifactError(f"{path.name}: no model format is called {format!r}; there are {', '.join(readers)}")
    if format == "pickle" and not allow_pickle:
        raise ArtifactError(f"{path.name} is a pickle, which can run any code; to load it, set {SWITCH}")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; restore it, or train the model again")
    return readers[format](path)


def _written(stem: Path, suffix: str, data: bytes) -> Path:
    path = stem.with_name(stem.name + suffix)
    write_bytes(path, data)
    return path


def _lightgbm_text(estimator: Any) -> bytes:
    best = getattr(estimator, "best_iteration_", None)
    text: str = estimator.booster_.model_to_string(num_iteration=best or -1)
    # How many threads fitted the model says nothing about it; without this the file would differ between machines.
    return re.sub(r"^\[num_threads: -?\d+\]$", "[num_threads: 1]", text, flags=re.MULTILINE).encode()


def _skops_bytes(estimator: Any) -> bytes:
    import skops.io

    try:
        data: bytes = skops.io.dumps(estimator)
        foreign = sorted(set(skops.io.get_untrusted_types(data=data)) - ALLOWED)
    except Exception as error:
        raise ArtifactError(
            f"{type(estimator).__name__} cannot be stored as data ({_line(error)}); use another estimator, or set"
            f" {SWITCH} to store a pickle instead"
        ) from error
    if foreign:
        raise ArtifactError(
            f"{type(estimator).__name__} holds {_few(foreign)}, which cannot be stored as data; use scikit-learn's own"
            f" parts (or move the code into a request function), or set {SWITCH} to store a pickle instead"
        )
    return data


def _pickle_bytes(estimator: Any) -> bytes:
    # Plain pickle refuses lambdas, which is what the switch is mostly for.
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(estimator))
    except Exception as error:
        raise ArtifactError(f"{type(estimator).__name__} cannot even be pickled: {_line(error)}") from error


def _load_xgboost(path: Path) -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtra("package 'xgboost' is not installed; pip install 'headway[xgboost]'") from error
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(path.read_bytes()))
    except xgboost.core.XGBoostError as error:
        raise ArtifactError(f"{path.name} is not an XGBoost model: {_line(error)}") from error
    return booster


def _load_skops(path: Path) -> Any:
    import skops.io

    data = path.read_bytes()
    try:
        foreign = sorted(set(skops.io.get_untrusted_types(data=data)) - ALLOWED)
    except Exception as error:
        raise ArtifactError(f"{path.name} is not a skops file: {_line(error)}") from error
    if foreign:
        raise ArtifactError(f"{path.name} holds {_few(foreign)}, which may not be loaded")
    try:
        return skops.io.loads(data, trusted=sorted(ALLOWED))
    except Exception as error:
        raise ArtifactError(
            f"{path.name} cannot be loaded with the installed packages: {type(error).__name__}: {_line(error)}"
        ) from error


def _load_pickle(path: Path) -> Any:
    try:
        return pickle.load(io.BytesIO(path.read_bytes()))  # noqa: S301 - behind the switch, see load
    except Exception as error:
        raise ArtifactError(f"{path.name} cannot be unpickled: {type(error).__name__}: {_line(error)}") from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
