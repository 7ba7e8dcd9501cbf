"""A version's own copy of the project's code, and importing from it.

Several versions of one package live in one process: each bundle is imported under a name of its own
(``headway_bundle_3.trips.features`` for ``trips.features``), and an absolute import of the package inside the bundle's
code is led to the bundle's copy, whether it stands at the top of a module or inside a function that is called later.
Every other import is an ordinary one.

The limit: a name that is handed to other code as text is not seen. ``importlib.import_module("trips.helpers")`` is led
to the copy too; ``importlib.resources.files("trips")`` is not, so write ``files(__package__)`` there.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from headway.define._request import RequestFeatures
from headway.errors import ArtifactError, DefinitionError, ProjectCodeError

MANIFEST = "bundle.json"
LARGEST_FILE = 4 << 20  # bytes; code is never left out

_SKIPPED_SUFFIXES = (".pyc", ".pyo")
_PREFIX = "headway_bundle_"
_numbers = itertools.count(1)


def write_bundle(root: Path, package: str, destination: Path) -> str:
    """Copy the package's files to ``destination`` and return a digest of their names and contents (64 hex digits).

    ``package`` is a package or a module in ``root``. Hidden files and compiled code are not part of it, nor are data
    files of more than 4 MB: ``bundle.json`` beside the package lists what was copied and what was left out.

    Raises:
        DefinitionError: there is no such package.
    """
    copied: dict[str, str] = {}
    left_out: list[str] = []
    shutil.rmtree(destination / package, ignore_errors=True)
    for file in package_files(root, package):
        name = file.relative_to(root).as_posix()
        if file.suffix != ".py" and file.stat().st_size > LARGEST_FILE:
            left_out.append(name)
            continue
        content = file.read_bytes()
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        copied[name] = hashlib.sha256(content).hexdigest()
    manifest = {"package": package, "files": copied, "left_out": left_out}
    (destination / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return hashlib.sha256(json.dumps(copied, sort_keys=True).encode()).hexdigest()


def package_files(root: Path, package: str) -> list[Path]:
    """The files that belong to ``package`` in ``root``, sorted by name: code and data, of any size.

    Raises:
        DefinitionError: there is no such package.
    """
    folder, module = root / package, root / f"{package}.py"
    if folder.is_dir():
        return sorted(_walk(folder, set()))
    if module.is_file():
        return [module]
    raise DefinitionError(f"there is no package {package!r} in {root}; `definitions` in headway.toml names it")


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:  # a link back up
        return
    seen.add(real)
    for entry in folder.iterdir():
        if entry.name.startswith(".") or entry.name == "__pycache__" or entry.suffix in _SKIPPED_SUFFIXES:
            continue
        if entry.is_dir():
            yield from _walk(entry, seen)
        elif entry.is_file():
            yield entry


class BundleLoader:
    """Imports from the bundle in ``directory``, apart from the live package and from every other bundle.

    A module is executed when it is first needed, and only once. Threads may import at the same time. ``close`` forgets
    the modules; functions taken from them go on working, as long as they import nothing new.
    """

    def __init__(self, directory: Path, package: str) -> None:
        self.directory = directory
        self.package = package
        self._top = f"{_PREFIX}{next(_numbers)}"
        _finder.add(self._top, directory, package)

    def load(self, module: str) -> ModuleType:
        """The bundle's own copy of ``module``, a dotted name that begins with the package.

        Raises:
            ArtifactError: the bundle has no such module.
            ProjectCodeError: executing it raised.
        """
        head = module.partition(".")[0]
        if head != self.package:
            raise ArtifactError(f"module {module!r} is not part of package {self.package!r}, so no bundle carries it")
        name = f"{self._top}.{module}"
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
                raise ArtifactError(f"the bundle in {self.directory} has no module {module!r}") from None
            raise self._failed(module, error) from error
        except Exception as error:
            raise self._failed(module, error) from error

    def function(self, module: str, qualname: str) -> Callable[..., Any]:
        """The function at ``qualname``; for a request function, the one it was made from.

        Raises:
            ArtifactError: the bundle has no such module or function.
            ProjectCodeError: executing the module raised.
        """
        found: Any = self.load(module)
        try:
            for part in qualname.split("."):
                found = getattr(found, part)
        except AttributeError:
            raise ArtifactError(f"module {module!r} of the bundle in {self.directory} has no {qualname!r}") from None
        function = found.function if isinstance(found, RequestFeatures) else found
        if not callable(function):
            raise ArtifactError(f"{qualname!r} in module {module!r} of the bundle in {self.directory} is no function")
        return function

    def close(self) -> None:
        """Forget the modules. A second call does nothing."""
        _finder.remove(self._top)

    def _failed(self, module: str, error: Exception) -> ProjectCodeError:
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return ProjectCodeError(f"module {module!r} of the bundle in {self.directory} cannot be imported: {said}")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of all bundles; one for the process, so that a hundred bundles slow down no other import."""

    def __init__(self) -> None:
        self._builtins: dict[str, dict[str, Any]] = {}

    def add(self, top: str, directory: Path, package: str) -> None:
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self._builtins[top] = _bundle_builtins(top, package)
        module = ModuleType(top, f"The bundle in {directory}.")
        module.__path__ = [str(directory)]
        sys.modules[top] = module

    def remove(self, top: str) -> None:
        self._builtins.pop(top, None)
        for name in [name for name in sys.modules.copy() if name == top or name.startswith(f"{top}.")]:
            sys.modules.pop(name, None)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        names = self._builtins.get(fullname.partition(".")[0])
        if names is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, names)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Executes a module with the bundle's builtins, from its source: what runs is the file that was recorded."""

    def __init__(self, fullname: str, path: str, names: dict[str, Any]) -> None:
        super().__init__(fullname, path)
        self._names = names

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002 - it has one module only
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        # A function keeps the builtins of the globals it was made with: imports inside it come here too.
        module.__dict__["__builtins__"] = self._names
        super().exec_module(module)


def _bundle_builtins(top: str, package: str) -> dict[str, Any]:
    """The builtins, with an ``__import__`` that leads the bundle's own package to its copy."""

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and _belongs(name, package):
            module = builtins.__import__(f"{top}.{name}", globals, locals, fromlist or (), 0)
            return module if fromlist else sys.modules[f"{top}.{package}"]
        module = builtins.__import__(name, globals, locals, fromlist or (), level)
        return facade if module is importlib else module

    facade = _ImportlibFacade(top, package)
    return {**vars(builtins), "__import__": import_}


class _ImportlibFacade(ModuleType):
    """``importlib`` as a bundle sees it: ``import_module`` finds the bundle's copies."""

    def __init__(self, top: str, package: str) -> None:
        super().__init__("importlib", importlib.__doc__)
        self.import_module = functools.partial(_import_module, top, package)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib, name)


def _import_module(top: str, bundled: str, name: str, package: str | None = None) -> ModuleType:
    if _belongs(name, bundled):
        return importlib.import_module(f"{top}.{name}")
    return importlib.import_module(name, package)


def _belongs(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


_finder = _Finder()
