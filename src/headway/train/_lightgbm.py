"""LightGBM's text models through its C interface.

The Python package takes three to five seconds to import (it brings scikit-learn and pandas along), and its one-row
prediction several times as long as the trees themselves. Serving needs neither: the library beside the package has a
documented C interface, with a call made for single rows (``LGBM_BoosterPredictForMatSingleRowFast``).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from headway.errors import ArtifactError, MissingExtra

_FLOAT64, _ROW_MAJOR, _NORMAL, _ALL_TREES = 1, 1, 0, -1
_PARAMETERS = b"num_threads=1 verbosity=-1"


@functools.cache
def library() -> ctypes.CDLL:
    """The shared library of the installed LightGBM. Errors: ``MissingExtra``."""
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise MissingExtra("package 'lightgbm' is not installed; pip install 'headway[lightgbm]'")
    name = {"darwin": "lib_lightgbm.dylib", "win32": "lib_lightgbm.dll"}.get(sys.platform, "lib_lightgbm.so")
    package = Path(spec.origin).parent
    places = (package / "lib" / name, package / "bin" / name, Path(sys.prefix) / "lib" / name, package.parent / name)
    for place in places:
        if place.is_file():
            found = ctypes.CDLL(str(place))
            found.LGBM_GetLastError.restype = ctypes.c_char_p
            return found
    raise MissingExtra(f"LightGBM's library {name} was in none of {', '.join(str(p) for p in places)}; reinstall it")


def _check(code: int) -> None:
    if code != 0:
        raise ArtifactError(f"LightGBM: {library().LGBM_GetLastError().decode('utf-8', 'replace')}")


def parameter_names() -> frozenset[str]:
    """Every parameter LightGBM knows, aliases included."""
    size, needed = ctypes.c_int64(1 << 20), ctypes.c_int64()
    text = ctypes.create_string_buffer(size.value)
    _check(library().LGBM_DumpParamAliases(size, ctypes.byref(needed), text))
    known: dict[str, list[str]] = json.loads(text.value.decode())
    return frozenset(known) | frozenset(alias for aliases in known.values() for alias in aliases)


class TextModel:
    """A fitted booster, read from its text form. May be used by several threads at once.

    Parameters
    ----------
    path
        The file; anything that is not a complete model is an ``ArtifactError``.
    """

    def __init__(self, path: Path) -> None:
        self._library = library()
        self._booster, iterations = ctypes.c_void_p(), ctypes.c_int()
        create = self._library.LGBM_BoosterCreateFromModelfile
        _check(create(str(path).encode(), ctypes.byref(iterations), ctypes.byref(self._booster)))
        self.columns = self._integer("LGBM_BoosterGetNumFeature")
        self.outputs = self._integer("LGBM_BoosterGetNumClasses")
        self._lock = threading.Lock()
        self._prepare_row()

    def _integer(self, name: str) -> int:
        value = ctypes.c_int()
        _check(getattr(self._library, name)(self._booster, ctypes.byref(value)))
        return value.value

    def _prepare_row(self) -> None:
        self._fast = ctypes.c_void_p()
        _check(
            self._library.LGBM_BoosterPredictForMatSingleRowFastInit(
                *(self._booster, _NORMAL, 0, _ALL_TREES, _FLOAT64),
                *(ctypes.c_int32(self.columns), _PARAMETERS, ctypes.byref(self._fast)),
            )
        )
        self._row = (ctypes.c_double * self.columns)()
        self._answer = (ctypes.c_double * self.outputs)()
        self._length = ctypes.c_int64()
        self._call = self._library.LGBM_BoosterPredictForMatSingleRowFast
        self._arguments = (self._fast, self._row, ctypes.byref(self._length), self._answer)

    def predict_one(self, values: list[float]) -> list[float]:
        """The outputs for one row: one number, or one for each of several classes."""
        with self._lock:
            self._row[:] = values  # type: ignore[assignment,unused-ignore]
            _check(self._call(*self._arguments))
            return self._answer[:]

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """float64 [rows], or [rows, classes] for several classes, on one thread."""
        if matrix.shape[1] != self.columns:
            raise ArtifactError(f"the model takes {self.columns} columns, got {matrix.shape[1]}")
        rows = np.ascontiguousarray(matrix, dtype=np.float64)
        answer = np.empty(len(rows) * self.outputs, dtype=np.float64)
        length = ctypes.c_int64()
        _check(
            self._library.LGBM_BoosterPredictForMat(
                *(self._booster, _pointer(rows), _FLOAT64, ctypes.c_int32(len(rows)), ctypes.c_int32(self.columns)),
                *(_ROW_MAJOR, _NORMAL, 0, _ALL_TREES, _PARAMETERS, ctypes.byref(length), _pointer(answer)),
            )
        )
        return answer.reshape(len(rows), self.outputs) if self.outputs > 1 else answer

    def __del__(self) -> None:
        # At interpreter exit the module's names may be gone already; then the process frees the memory.
        if getattr(self, "_fast", None) and self._fast.value:
            self._library.LGBM_FastConfigFree(self._fast)
        if getattr(self, "_booster", None) and self._booster.value:
            self._library.LGBM_BoosterFree(self._booster)


def _pointer(array: np.ndarray) -> Any:
    return ctypes.c_void_p(array.ctypes.data)
