"""From a package of declarations to the objects declared in it."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from headway.define._base import Declaration
from headway.define._feature_set import FeatureSet
from headway.define._features import Entity, FeatureView, ViewSelection
from headway.define._model import BatchPrediction, Label, Model
from headway.define._monitor import Monitor
from headway.define._query import check_row_local, lineage, origins
from headway.define._request import RequestFeatures
from headway.define._source import Source
from headway.define._step import Pipeline, Step
from headway.errors import DefinitionError, HeadwayError

_Declared = TypeVar("_Declared", bound=Declaration)


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a project declares, by name, in the order it was found."""

    package: str = ""
    sources: Mapping[str, Source] = field(default_factory=dict)
    entities: Mapping[str, Entity] = field(default_factory=dict)
    views: Mapping[str, FeatureView] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    batches: Mapping[str, BatchPrediction] = field(default_factory=dict)
    functions: Mapping[str, RequestFeatures] = field(default_factory=dict)
    monitors: Mapping[str, Monitor] = field(default_factory=dict)  # one for every model, declared or not
    steps: Mapping[str, Step] = field(default_factory=dict)
    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)
    sets: Mapping[str, FeatureSet] = field(default_factory=dict)


def collect(package_name: str, root: Path) -> Declarations:
    """Import a project's package with all its modules, and gather and check what they declare.

    Objects are found in the modules' namespaces, also inside lists, tuples, sets and dicts, and through each other: a
    view brings its source and entity, a model its views.

    Raises
    ------
    DefinitionError
        The package is missing or empty, a module does not import, two objects of one kind have one name, a query
        leaks, or a model's features could see its label. The message names the object, its file and line.
    """
    modules = _import(package_name, Path(root).resolve())
    found: dict[int, Declaration] = {}
    for module in modules:
        for value in list(vars(module).values()):
            for declared in _declared(value, set()):
                _reach(declared, found)
    declarations = Declarations(
        package_name,
        _by_name(found, Source),
        _by_name(found, Entity),
        _by_name(found, FeatureView),
        _by_name(found, Model),
        _by_name(found, BatchPrediction),
        _by_name(found, RequestFeatures),
        _monitors(found),
        _by_name(found, Step),
        _by_name(found, Pipeline),
        _by_name(found, FeatureSet),
    )
    check(declarations)
    return declarations


def check(declarations: Declarations) -> None:
    """Refuse what only shows when all declarations are seen together."""
    sources = declarations.sources
    for source in sources.values():
        lineage(source, sources)
        check_row_local(source, sources)
    for feature_set in declarations.sets.values():
        if (view := declarations.views.get(feature_set.name)) is not None:
            raise feature_set.refuse(
                f"the feature view at {view.place} has the same name, and both are read by it; rename one of them"
            )
    for model in declarations.models.values():
        check_effective(model, sources)
    targets = (sources, declarations.views, declarations.models, declarations.batches)
    for pipeline in declarations.pipelines.values():
        for other in (known[pipeline.name] for known in targets if pipeline.name in known):
            raise pipeline.refuse(
                f"`headway run {pipeline.name}` would mean the {other.kind} at {other.place} as well; give the pipeline"
                " another name="
            )


def check_effective(model: Model, sources: Mapping[str, Source]) -> None:
    """Refuse a model with a view on an effective source that shares rows with what its label comes from.

    An effective row holds at its very moment, so features taken at a label's moment would see the label's own row. A
    label that only passes by an effective source (joined, while the label comes from elsewhere) is fine.
    """
    label = model.label
    supplying = origins(label.source, label.column, sources)
    for selection in model.selections:
        source = selection.view.source
        shared = {source.name, *lineage(source, sources)} & supplying
        if source.effective and shared:
            raise model.refuse(
                f"its view {selection.view.name!r} reads {source.name!r}, which is effective, and its label"
                f" {label.column!r} comes from {sorted(shared)[0]!r}, so the features could see the label; leave"
                f" effective out of the source, or take the view from another"
            )


def _import(package_name: str, root: Path) -> list[ModuleType]:
    directory = root.joinpath(*package_name.split("."))
    top = package_name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "headway":
        raise DefinitionError(f"the project's package cannot be called {top!r}, as a module of Python or headway is")
    if not directory.is_dir():
        raise DefinitionError(
            f"there is no package {package_name!r} in {root}; make the directory {directory} with the declarations, or"
            " set definitions in headway.toml"
        )
    names = list(_module_names(package_name, directory))
    if not names:
        raise DefinitionError(f"package {package_name!r} in {root} has no modules; put declarations into {directory}")
    _forget_others(top, root)
    sys.path[:] = [str(root), *(place for place in sys.path if place != str(root))]  # before other projects' roots
    importlib.invalidate_caches()
    modules = [_import_one(name, root) for name in names]
    for module in modules:
        if not _is_below(module, directory):
            raise DefinitionError(
                f"package {package_name!r} is imported from {getattr(module, '__file__', '?')} instead of {directory};"
                " rename the project's package"
            )
    return modules


def _module_names(package_name: str, directory: Path) -> Iterator[str]:
    """The package, then its modules, in a stable order."""
    files = sorted(f for f in directory.rglob("*.py") if "__pycache__" not in f.parts and f.stem != "__main__")
    dotted = {
        ".".join(
            (package_name, *(f.parent if f.stem == "__init__" else f.with_suffix("")).relative_to(directory).parts)
        )
        for f in files
    }
    yield from sorted(name for name in dotted if all(part.isidentifier() for part in name.split(".")))


def _forget_others(top: str, root: Path) -> None:
    """Unload a package of this name that was imported from another root, and stop looking there."""
    # A copy at once: while a list is made of the items, other threads, and what is collected meanwhile, may import.
    loaded = {name: m for name, m in sys.modules.copy().items() if name == top or name.startswith(f"{top}.")}
    if not any(_origin(m) and not _is_below(m, root) for m in loaded.values()):
        return
    for origin in [_origin(loaded[top])] if top in loaded else []:
        if origin is not None and str(origin.parent) in sys.path and origin.parent != root:
            sys.path.remove(str(origin.parent))
    for name in loaded:
        del sys.modules[name]


def _origin(module: ModuleType) -> Path | None:
    """The directory of a package, or the file of a module."""
    places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None)]
    return Path(places[0]).resolve() if places and places[0] else None


def _is_below(module: ModuleType, directory: Path) -> bool:
    origin = _origin(module)
    return origin is not None and origin.is_relative_to(directory)


def _import_one(name: str, root: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except HeadwayError as error:
        if str(root) in str(error):
            raise
        raise type(error)(f"{error} ({_line_of(error, root)})") from error  # a part of a declaration has no place
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DefinitionError(
            f"module {name!r} cannot be imported ({_line_of(error, root)}): {' '.join(what.split())}"
        ) from error


def _line_of(error: BaseException, root: Path) -> str:
    """The last line of the user's own code on the way to an error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(root)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(root)


def _declared(value: Any, seen: set[int]) -> Iterator[Declaration]:
    """Declarations in a value: itself, or anywhere inside lists, tuples, sets and dicts."""
    if isinstance(value, Declaration):
        yield value
    elif isinstance(value, ViewSelection):
        yield value.view
    elif isinstance(value, Label):
        yield value.source
    elif isinstance(value, list | tuple | set | frozenset | dict) and id(value) not in seen:
        seen.add(id(value))
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _declared(inner, seen)


def _reach(declared: Declaration, found: dict[int, Declaration]) -> None:
    """``declared`` and everything reachable from it, once each; what is read comes before its reader."""
    if id(declared) in found:
        return
    for inner in _parts(declared):
        _reach(inner, found)
    found[id(declared)] = declared


def _parts(declared: Declaration) -> Iterator[Declaration]:
    if isinstance(declared, FeatureView):
        yield declared.source
        yield declared.entity
    elif isinstance(declared, FeatureSet):
        yield from (s.view for s in declared.selections)
    elif isinstance(declared, RequestFeatures):
        yield from (i.view for i in declared.inputs if isinstance(i, ViewSelection))
    elif isinstance(declared, Model):
        yield declared.label.source
        yield from (s.view for s in declared.selections)
        yield from declared.functions
    elif isinstance(declared, BatchPrediction):
        yield declared.model
        yield declared.input
    elif isinstance(declared, Monitor):
        yield declared.model


def _monitors(found: Mapping[int, Declaration]) -> dict[str, Monitor]:
    """The monitor of every model, in the order of the models; where none is declared, one with the defaults."""
    declared = _by_name(found, Monitor)
    return {name: declared.get(name) or Monitor.default(model) for name, model in _by_name(found, Model).items()}


def _by_name(found: Mapping[int, Declaration], kind: type[_Declared]) -> dict[str, _Declared]:
    named: dict[str, _Declared] = {}
    for declared in found.values():
        if not isinstance(declared, kind):
            continue
        name: str = declared.name  # type: ignore[attr-defined]
        other = named.setdefault(name, declared)
        if other is not declared:
            raise declared.refuse(f"another {declared.kind} at {other.place} has the same name; rename one of them")
    return named
