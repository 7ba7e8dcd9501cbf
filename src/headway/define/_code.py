"""A digest of the code that a function reaches: it changes when what the function computes may change.

What counts: the syntax of the function and of everything in the project that it names, transitively, and the values of
constants, defaults and closures among them. What does not: comments, docstrings, positions, and code that stands next
to it but is never named. Libraries count by name and version.
"""

from __future__ import annotations

import ast
import builtins
import copy
import copyreg
import dis
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import random
import symtable
import sys
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from headway.define._base import Declaration, Place
from headway.define._request import RequestFeatures
from headway.define._step import Pipeline, Step

_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, type(...), type(NotImplemented), range}
)
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset, MappingProxyType})
# Their state moves as they are used, or is the machine's: only their type counts.
_STATEFUL = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator, type(os.environ), Place)
# Through these, code reaches what it does not name.
_DYNAMIC = (importlib.import_module, builtins.__import__, globals, eval, exec, sys.modules)
_ABOUT_MODULE = frozenset(vars(ModuleType("any"))) | {"__file__", "__cached__", "__path__", "__builtins__", "__dict__"}

_MISSING = object()

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Node = ast.Module | _Definition | ast.Lambda
_Chain = tuple[str, ...]


def reach_digest(function: Any, packages: Sequence[str]) -> str:
    """32 hex digits of the code that ``function`` reaches within ``packages``, the project's top-level packages.

    A class, or an object that refers to functions, will do too. Modules that are not installed, beside the packages,
    are followed like them.

    The same in every process: neither paths, lines and addresses nor the order of dicts and sets count. Imports made
    inside a function are followed, and run if they have not been yet. Code that looks names up at run time (``eval``,
    ``importlib.import_module``, ``globals`` and the like) reaches all source of the packages. A container that code
    fills as it runs counts with what it holds at the moment, so take digests before calling the function.

    >>> def half(x):
    ...     return x / 2
    >>> len(reach_digest(half, packages=["trips"]))
    32
    """
    return reach(function, packages).digest


class Reach(NamedTuple):
    """What a function reaches: ``digest`` covers ``code`` (the project's) and ``libraries``, name → version."""

    digest: str
    code: str
    libraries: dict[str, str]


def reach(function: Any, packages: Sequence[str]) -> Reach:
    """`reach_digest` with what it was made of, to tell a change of the code from one of a library."""
    walk = _Walk(_Project(packages))
    code = walk.digest(function)
    libraries = dict(sorted(walk.libraries.items()))
    return Reach(_hash(f"{code} {libraries}".encode()), code, libraries)


@dataclass(frozen=True, slots=True)
class _Library:
    """Stands for a module that is not the project's, whether it has been imported yet or not."""

    name: str


class _Project:
    """Which code is the project's, and what its modules hold."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)
        self._followed: dict[str, bool] = {}
        self.roots = {str(place.parent) for package in packages for place in _places(package)}

    def without_root(self, value: Any) -> Any:
        """A text that begins with the place of the project on this machine, without it."""
        if isinstance(value, str) and os.sep in value:
            for root in self.roots:
                if value == root or value.startswith(root + os.sep):
                    return f"<project>{value[len(root) :]}"
        return value

    def is_project(self, module: object) -> bool:
        """Whether code is followed: the packages', the terminal's, and what is not installed but lies beside them."""
        if module is None:  # made by exec
            return True
        top = str(module).partition(".")[0]
        if top not in self._followed:
            self._followed[top] = top in self.packages or top == "__main__" or _is_local(top)
        return self._followed[top]

    def is_library(self, value: Any) -> bool:
        if isinstance(value, FunctionType):
            # Not __module__: functools.wraps gives a library's wrapper the module of what it wraps.
            return not self.is_project(value.__globals__.get("__name__"))
        if isinstance(value, type):
            return not self.is_project(value.__module__)
        if isinstance(value, ModuleType):
            return not self.is_project(value.__name__)
        if isinstance(value, BuiltinFunctionType):
            return value.__self__ is None or isinstance(value.__self__, ModuleType)
        return isinstance(value, _Library)

    def attribute(self, module: ModuleType, chain: _Chain) -> Any:
        """What ``module.a.b`` is of the project, or the last module on the way if the rest cannot be told."""
        for name in chain:
            found = self.member(module, name)
            if not isinstance(found, ModuleType):
                return module if found is _MISSING else found
            module = found
        return module

    def member(self, module: ModuleType, name: str) -> Any:
        """What a module has under a name; of a library's, only modules and what reaches any code are of interest."""
        if name in _ABOUT_MODULE:
            return _MISSING
        found = vars(module).get(name, _MISSING)
        if self.is_library(module):
            return found if isinstance(found, ModuleType) or any(found is known for known in _DYNAMIC) else _MISSING
        if found is _MISSING and hasattr(module, "__path__"):
            found = _import(f"{module.__name__}.{name}") or _MISSING
        return found

    def imports(self, node: _Node, scope: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The names that imports inside ``node`` bind, with what they stand for."""
        chains = _chains(node)
        for statement in ast.walk(node):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    top = alias.name.partition(".")[0]
                    module = _imported(alias.name, self.is_project(alias.name))
                    whole = alias.asname is not None or top not in chains
                    yield alias.asname or top, module if whole else _imported(top, self.is_project(top))
            elif isinstance(statement, ast.ImportFrom):
                base = _absolute(statement, scope)
                module = _imported(base, self.is_project(base))
                for alias in statement.names:
                    found = self.member(module, alias.name) if isinstance(module, ModuleType) else _MISSING
                    yield alias.asname or alias.name, module if found is _MISSING else found

    def picks_by_name(self, node: _Node, scope: Mapping[str, Any]) -> bool:
        """Whether it calls ``getattr`` on a module of the project with a name made at run time."""
        for call in ast.walk(node):
            if not (isinstance(call, ast.Call) and _trail(call.func) == ("getattr",) and len(call.args) > 1):
                continue
            trail = _trail(call.args[0])
            owner = scope.get(trail[0]) if trail and not isinstance(call.args[1], ast.Constant) else None
            owner = self.attribute(owner, trail[1:]) if isinstance(owner, ModuleType) else None
            if isinstance(owner, ModuleType) and not self.is_library(owner):
                return True
        return False


class _Walk:
    """One pass over everything reached, in an order that depends on nothing but the code.

    What can be large or refer back (functions, classes, modules, instances) gets a number when first met and is taken
    apart later, in the order of the numbers; so neither cycles nor long chains of calls matter. Plain data is taken
    apart where it stands; ``open`` are the ids of the containers on the way, which may hold themselves.
    """

    def __init__(self, project: _Project, open_: set[int] | None = None) -> None:
        self.project = project
        self.open = set() if open_ is None else open_
        self.numbers: dict[int, int] = {}
        self.met: list[Any] = []  # keeps them alive too, so that no id is given twice
        self.libraries: dict[str, str] = {}
        self.dynamic = False

    def digest(self, value: Any) -> str:
        total = blake2b(self.describe(value).encode(errors="surrogatepass"), digest_size=16)
        for thing in self.met:  # grows while we go through it
            for text in self._take_apart(thing):
                total.update(f"\n{text}".encode(errors="surrogatepass"))
            total.update(b"\0")
        if self.dynamic:
            total.update("\n".join(_all_source(self.project.packages)).encode())
        return total.hexdigest()

    def describe(self, value: Any) -> str:
        """A text for a value: itself if it is data, a name if it is a library's, a number if it is to be followed."""
        if type(value) in _ATOMS:
            return f"{type(value).__name__} {self.project.without_root(value)!r}"
        if any(value is known for known in _DYNAMIC):
            self.dynamic = True
            return "dynamic"
        if isinstance(value, PurePath):
            return f"path {self.project.without_root(str(value))!r}"
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value)
        if type(value) in _CONTAINERS or isinstance(value, set | frozenset):
            return self._container(value)
        if isinstance(value, RequestFeatures | Step | Pipeline):
            return self.describe(value.function)
        if isinstance(value, Declaration):
            return f"{type(value).__qualname__} {getattr(value, 'name', '')!r}"
        if self.project.is_library(value):
            return self._library(value)
        return f"#{self._number(value)}"

    def _number(self, value: Any) -> int:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.met)
            self.met.append(value)
        return self.numbers[id(value)]

    # Data

    def _array(self, value: np.ndarray[Any, Any] | np.generic) -> str:
        if value.dtype.hasobject:
            return f"array {value.dtype} {value.shape} {self.describe(value.tolist())}"
        return f"array {value.dtype} {value.shape} {_hash(value.tobytes())}"

    def _container(self, value: Any) -> str:
        if id(value) in self.open:
            return "itself"
        self.open.add(id(value))
        try:
            if isinstance(value, set | frozenset):
                inside = ", ".join(sorted(map(self._alone, value)))
            elif isinstance(value, list | tuple):
                inside = ", ".join(map(self.describe, value))
            else:
                items = sorted(((self._alone(key), item) for key, item in value.items()), key=lambda pair: pair[0])
                inside = ", ".join(f"{key}: {self.describe(item)}" for key, item in items)
        finally:
            self.open.discard(id(value))
        return f"{type(value).__name__}({inside})"

    def _alone(self, value: Any) -> str:
        """A text for a value that does not depend on what was met before: what sorts the unordered."""
        if type(value) in _ATOMS:
            return self.describe(value)
        walk = _Walk(self.project, self.open)
        text = walk.digest(value)
        self.dynamic = self.dynamic or walk.dynamic
        self.libraries |= walk.libraries
        return text

    # Libraries

    def _library(self, value: Any) -> str:
        if isinstance(value, ModuleType | _Library):
            name = value.__name__ if isinstance(value, ModuleType) else value.name
            return f"library {self._counted(name)}"
        module = value.__globals__.get("__name__") if isinstance(value, FunctionType) else value.__module__
        name = value.__code__.co_qualname if isinstance(value, FunctionType) else value.__qualname__
        return f"library {self._counted(module or 'builtins')}.{name}{self._wrapped_by(value)}"

    def _counted(self, module: str) -> str:
        """The module, whose library now counts by its version."""
        top = module.partition(".")[0]
        if top not in self.libraries and (version := _version(top)):
            self.libraries[top] = version
        return module

    def _wrapped_by(self, value: Any) -> str:
        """The project's functions that a library's wrapper holds, in its closure and its attributes."""
        if not isinstance(value, FunctionType) or id(value) in self.open:
            return ""
        cells = [each for each in _closure(value).values() if isinstance(each, FunctionType | type)]
        attributes = vars(value) if "__wrapped__" in vars(value) else {}
        self.open.add(id(value))
        try:
            found = [self.describe(each) for each in cells if not self.project.is_library(each)]
            return " ".join(["", *found, *(f"{k} {self.describe(v)}" for k, v in sorted(attributes.items()))])
        finally:
            self.open.discard(id(value))

    # What has a number

    def _take_apart(self, value: Any) -> Iterator[str]:
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return self._module(value)
        return self._object(value)

    def _function(self, function: FunctionType) -> Iterator[str]:
        code, cells = function.__code__, _closure(function)
        scope = ChainMap(cells, function.__globals__, vars(builtins))
        node = _find(_tree(code.co_filename), code.co_qualname, code.co_firstlineno)
        yield from self._bytecode(function, scope) if node is None else self._source(node, scope)
        yield f"defaults {self.describe(function.__defaults__)} {self.describe(function.__kwdefaults__)}"
        yield f"cells {self.describe(cells)}"
        if "__wrapped__" in vars(function):
            yield f"wraps {self.describe(function.__wrapped__)}"  # type: ignore[attr-defined]

    def _bytecode(self, function: FunctionType, scope: Mapping[str, Any]) -> Iterator[str]:
        """A function without source: the terminal's, or made by exec."""
        loaded, imported = set(), set()
        for code in _nested(function.__code__):
            constants = [... if isinstance(each, CodeType) else each for each in code.co_consts]
            constants = [None if each == function.__doc__ else each for each in constants]
            yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {self.describe(constants)}"
            steps = list(dis.get_instructions(code))
            loaded |= {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
            imported |= {step.argval for step in steps if step.opname == "IMPORT_NAME"}
        found = {name: scope[name] for name in loaded - _ABOUT_MODULE if name in scope}
        found |= {f"import {name}": _imported(name, self.project.is_project(name)) for name in imported}
        yield from (f"{name} {self.describe(found[name])}" for name in sorted(found))

    def _class(self, cls: type) -> Iterator[str]:
        module, methods = sys.modules.get(cls.__module__), _methods(cls)
        file = getattr(module, "__file__", None) or next((m.__code__.co_filename for m in methods), None)
        line = next((m.__code__.co_firstlineno for m in methods if m.__code__.co_filename == file), 0)
        node = _find(_tree(file), cls.__qualname__, getattr(cls, "__firstlineno__", line))
        cells = {name: cell for method in methods for name, cell in _closure(method).items() if name != "__class__"}
        if node is None:
            yield from map(self.describe, methods)
        else:
            yield from self._source(node, ChainMap(cells, vars(module) if module else {}, vars(builtins)))
        # Also with source: a class made inside a function holds values that its source only names.
        data = {k: v for k, v in vars(cls).items() if not k.startswith("__") and type(v) in _ATOMS | _CONTAINERS}
        yield f"attributes {self.describe(data)} cells {self.describe(cells)}"
        yield f"bases {self.describe(cls.__bases__)} {self.describe(type(cls))}"

    def _module(self, module: ModuleType) -> Iterator[str]:
        tree = _tree(getattr(module, "__file__", None))
        if tree is not None:
            yield from self._source(tree, ChainMap(vars(module), vars(builtins)))

    def _object(self, value: Any) -> Iterator[str]:
        """An instance: its class, and its state as pickling would take it."""
        yield self.describe(type(value))
        if isinstance(value, _STATEFUL):
            return
        attributes = getattr(value, "__dict__", {})
        if "__wrapped__" in attributes:
            yield self.describe(attributes["__wrapped__"])
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            made = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception:  # noqa: BLE001 - an object refuses to be pickled in any way it likes
            yield self.describe(dict(attributes))
            return
        if isinstance(made, str):
            yield made
            return
        make, arguments, state, items, pairs = (*made, None, None, None)[:5]
        yield f"{self.describe(make)} {self.describe(arguments)} {self.describe(state)}"
        yield f"{self.describe(list(items or ()))} {self.describe(dict(pairs or ()))}"

    # Source

    def _source(self, node: _Node, scope: Mapping[str, Any]) -> Iterator[str]:
        """The syntax of a definition or module, and what the names in it stand for."""
        plain = _Plain(scope).visit(copy.deepcopy(node))
        yield ast.dump(plain)
        imports = list(self.project.imports(plain, scope))
        chains = _chains(plain)
        names = [(name, scope[name]) for name in _names(plain) - _ABOUT_MODULE if name in scope]
        for name, value in sorted([*names, *imports], key=lambda pair: pair[0]):
            yield from (f"{name} {text}" for text in self._named(value, chains.get(name, {()})))
        if self.project.picks_by_name(plain, ChainMap(dict(imports), *getattr(scope, "maps", [scope]))):
            self.dynamic = True

    def _named(self, value: Any, chains: Iterable[_Chain]) -> Iterator[str]:
        """A value that code names; of a module, only the attributes taken of it."""
        if not isinstance(value, ModuleType):
            yield self.describe(value)
            return
        for chain in sorted(chains):
            yield f"{chain} {self.describe(self.project.attribute(value, chain))}"


# Syntax


class _Plain(ast.NodeTransformer):
    """Leaves out docstrings, and the decorators of headway: what they declare is recorded by the declaration."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.scope = scope

    def _body(self, node: Any) -> Any:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if hasattr(node, "decorator_list"):
            node.decorator_list = [each for each in node.decorator_list if not self._is_headway(each)]
        return node

    visit_Module = visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _body  # noqa: N815

    def _is_headway(self, decorator: ast.expr) -> bool:
        trail = _trail(decorator.func if isinstance(decorator, ast.Call) else decorator)
        value = self.scope.get(trail[0]) if trail else None
        module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        return str(module).partition(".")[0] == "headway"


class _NonlocalAsGlobal(ast.NodeTransformer):
    """So that an inner function can stand alone: its outer names are looked up in the scope we have."""

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Global:
        return ast.Global(names=node.names)


def _names(node: _Node) -> set[str]:
    """The names that code looks up outside itself."""
    text = ast.unparse(_NonlocalAsGlobal().visit(copy.deepcopy(node)))
    top = symtable.symtable(text, "<reach>", "exec")
    found = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    tables = top.get_children()
    for table in tables:  # grows while we go through it
        found |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    return found


def _trail(node: ast.expr) -> _Chain:
    """``a.b.c`` as a tuple; empty for any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def _chains(node: ast.AST) -> dict[str, set[_Chain]]:
    """What is taken of each name: ``a.b.c`` gives (b, c) for a; () where the name stands alone."""
    found: dict[str, set[_Chain]] = {}
    inner = {id(each.value) for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute | ast.Name) and id(each) not in inner and (trail := _trail(each)):
            found.setdefault(trail[0], set()).add(trail[1:])
    return found


def _find(tree: ast.Module | None, qualname: str, line: int) -> _Definition | ast.Lambda | None:
    """The definition with that path of names, the one that holds or is nearest to ``line`` if there are several."""
    path = [name for name in qualname.split(".") if name != "<locals>"]
    if tree is None or "<lambda>" in path[:-1]:
        return None
    if path[-1] == "<lambda>":
        lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and node.lineno == line]
        return lambdas[0] if len(lambdas) == 1 else None
    found = list(_definitions(tree, path))
    return min(reversed(found), key=lambda node: _distance(node, line) if line else (False, 0), default=None)


def _definitions(node: ast.AST, path: list[str]) -> Iterator[_Definition]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _Definition):
            yield from _definitions(child, path)
        elif child.name == path[0]:
            yield from _definitions(child, path[1:]) if path[1:] else [child]


def _distance(node: _Definition, line: int) -> tuple[bool, int]:
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return not first <= line <= (node.end_lineno or first), abs(first - line)


def _tree(file: str | None) -> ast.Module | None:
    if file is None or not file.endswith(".py"):
        return None
    try:
        seen = Path(file).stat()
        return _parsed(file, seen.st_mtime_ns, seen.st_size)
    except (OSError, SyntaxError, ValueError):
        return None


@functools.lru_cache(maxsize=512)
def _parsed(file: str, _changed: int, _size: int) -> ast.Module:
    return ast.parse(Path(file).read_bytes())


# Objects


def _closure(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return found


def _methods(cls: type) -> list[FunctionType]:
    """The functions among a class's own attributes, by name."""
    found: list[Any] = []
    for _, value in sorted(vars(cls).items()):
        if isinstance(value, property):
            found += [value.fget, value.fset, value.fdel]
        else:
            found.append(getattr(value, "__func__", value))
    return [each for each in found if isinstance(each, FunctionType)]


def _nested(code: CodeType) -> list[CodeType]:
    return [code, *(each for inner in code.co_consts if isinstance(inner, CodeType) for each in _nested(inner))]


# Modules, files, versions


def _absolute(statement: ast.ImportFrom, scope: Mapping[str, Any]) -> str:
    """The module that ``from … import`` names, seen from the module whose globals are in ``scope``."""
    name = "." * statement.level + (statement.module or "")
    package = scope.get("__package__") or str(scope.get("__name__", "")).rpartition(".")[0]
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:  # beyond the top package
        return name


def _imported(name: str, ours: bool) -> ModuleType | _Library:
    """A module of the project or of Python, imported if need be; a library's is not looked at, imported or not."""
    module = _import(name) if ours or name.partition(".")[0] in sys.stdlib_module_names else None
    return _Library(name) if module is None else module


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001 - a module's code may raise anything; it is then no part of what can run
        return None


def _places(package: str) -> list[Path]:
    """The directories of a package, or the file of a single module; nothing is imported for that."""
    known: Any = sys.modules.get(package)
    if known is not None:
        directories, file = getattr(known, "__path__", None), getattr(known, "__file__", None)
    else:
        spec = _spec(package)
        directories, file = (spec.submodule_search_locations, spec.origin) if spec else (None, None)
    return [Path(each) for each in directories or [file] if each is not None]


def _spec(package: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None


def _is_local(top: str) -> bool:
    """Whether a top-level module is neither installed nor part of Python or headway."""
    if top == "headway" or top in sys.stdlib_module_names:
        return False
    places = _places(top)
    return bool(places) and not any(part.endswith("-packages") for place in places for part in place.parts)


def _all_source(packages: frozenset[str]) -> list[str]:
    """Name and digest of every source file of the packages."""
    found = []
    for place in (place for package in packages for place in _places(package)):
        for file in place.rglob("*.py") if place.is_dir() else [place]:
            found.append(f"{file.relative_to(place.parent).as_posix()} {_file_digest(file)}")  # noqa: PERF401
    return sorted(found)


def _file_digest(file: Path) -> str:
    tree = _tree(str(file))
    if tree is None:  # it is no Python that could run; its bytes do
        return _hash(file.read_bytes())
    return _hash(ast.dump(_Plain({}).visit(copy.deepcopy(tree))).encode(errors="surrogatepass"))


def _version(module: str) -> str:
    """The version of the distribution that a module belongs to; nothing for the standard library."""
    top = module.partition(".")[0]
    return "" if top in sys.stdlib_module_names else _distribution_version(top)


@functools.lru_cache(maxsize=1024)
def _distribution_version(top: str) -> str:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        found = {f"{name} {importlib.metadata.version(name)}" for name in _distributions().get(top, ())}
        return ", ".join(sorted(found))


@functools.lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def top_distribution(module: str) -> str:
    """The distribution that a top-level module belongs to; its own name if nobody knows better."""
    try:
        importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return next(iter(_distributions().get(module, ())), module)
    return module
