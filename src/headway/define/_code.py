"""A digest of the code that a function reaches, so that a change of what it computes is noticed, and no other.

What counts: the syntax trees of the function and of everything of the project that it names, transitively, and the
values of the constants among them. What does not: comments, docstrings, line numbers, and code next to it that it
never names. Libraries count by name and version.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from headway.define._base import Declaration
from headway.define._request import RequestFeatures

_SIMPLE = (type(None), bool, int, float, complex, str, bytes, type(...), range, slice)
_UNSEEN = frozenset({"globals", "eval", "exec", "__import__", "importlib", "vars", "locals"})


def reach_digest(function: Any, package_roots: Iterable[str]) -> str:
    """32 hex digits of everything in the project that a function or class reaches.

    Parameters
    ----------
    function
        A function, a class, a request function, or an object of a class (its state counts too).
    package_roots
        The project's top packages; where the code looks names up at run time (``importlib``, ``globals``, ``eval``),
        all of their source counts.
    """
    reach = _Reach(frozenset(package_roots))
    reach.value("", function)
    total = hashlib.blake2b(digest_size=16)
    for name, digest in sorted(reach.parts.items()):
        total.update(f"{name}\0{digest}\0".encode())
    return total.hexdigest()


@dataclass(slots=True)
class _Reach:
    """What was reached so far: name → digest of what it stands for. ``doing`` keeps objects alive and breaks cycles."""

    roots: frozenset[str]
    parts: dict[str, str] = field(default_factory=dict)
    doing: dict[int, Any] = field(default_factory=dict)

    def value(self, name: str, value: Any) -> None:
        """Take in a value known under ``name``."""
        self.parts[name] = self.describe(value)

    def describe(self, value: Any) -> str:
        """A text for a value; what it refers to by name becomes a part of its own."""
        if isinstance(value, _SIMPLE):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self.doing:
            return "seen"
        self.doing[id(value)] = value
        try:
            return self._describe(value)
        finally:
            # Names are parts and need describing once; plain values may come again with other contents.
            if not isinstance(value, FunctionType | type | ModuleType):
                del self.doing[id(value)]

    def _describe(self, value: Any) -> str:
        if isinstance(value, RequestFeatures):
            return self.describe(value.function)
        if isinstance(value, Declaration):
            return f"{value.kind} {getattr(value, 'name', '')}"
        if isinstance(value, FunctionType | type):
            return self._code(value)
        if isinstance(value, MethodType):
            return f"method {value.__func__.__qualname__} {self.describe(value.__func__)} {self.describe(value.__self__)}"
        if isinstance(value, BuiltinFunctionType):
            return f"builtin {value.__module__}.{value.__qualname__}{self._library(value.__module__)}"
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, functools.partial):
            return f"partial {self.describe(value.func)} {self.describe(value.args)} {self.describe(value.keywords)}"
        if hasattr(value, "__wrapped__") and callable(value):
            return f"{type(value).__qualname__} {self.describe(value.__wrapped__)}"
        return self._data(value)

    def _data(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return f"{{{', '.join(f'{self.describe(k)}: {self.describe(v)}' for k, v in value.items())}}}"
        if isinstance(value, set | frozenset):
            return f"set {sorted(self.describe(v) for v in value)}"
        if isinstance(value, list | tuple):
            return f"{self.describe(type(value))} [{', '.join(self.describe(v) for v in value)}]"
        if type(value).__module__ == "numpy" and hasattr(value, "tobytes") and not getattr(value.dtype, "hasobject", True):
            return f"array {value.dtype} {getattr(value, 'shape', ())} {_hash(value.tobytes())}"
        return self._object(value)

    def _object(self, value: Any) -> str:
        """Any other object: its class and its state, as copying it would take it apart."""
        try:
            made = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - an object may refuse to be copied in any way it likes
            return f"object {self.describe(type(value))} {self.describe(getattr(value, '__dict__', None))}"
        if isinstance(made, str):
            return f"object {made}"
        state = [list(part) if isinstance(part, Iterator) else part for part in made[1:]]
        return f"object {self.describe(type(value))} {', '.join(self.describe(part) for part in state)}"

    def _code(self, value: FunctionType | type) -> str:
        """A function or class: a name, and parts for what it is made of if it belongs to the project."""
        name = f"{value.__module__}.{value.__qualname__}"
        if not self._is_ours(value.__module__):
            return name + self._library(value.__module__)
        node = _find(value)
        if node is None:
            if isinstance(value, type):
                return self._class_without_source(name, value)
            self.parts[name] = _bytecode(value.__code__)
            names, chains = _loaded(value.__code__), {}
        else:
            self.parts[name] = _hash(_dump(node).encode())
            names, chains = _loaded(_compiled(node)), _chains(node)
        self._follow(name, value, names, chains)
        if node is not None:
            self._imports(node, value.__module__)
            if names & _UNSEEN or _imports_unseen(node):
                self._everything()
        if isinstance(value, type):
            for base in value.__bases__:
                self.value(f"{name} < {base.__qualname__}", base)
        else:
            self.value(f"{name}()", (value.__defaults__, value.__kwdefaults__))
        return name

    def _class_without_source(self, name: str, value: type) -> str:
        members = {k: v for k, v in vars(value).items() if not k.startswith("__") or callable(v)}
        self.value(name, members)
        return name

    def _follow(self, owner: str, value: Any, names: set[str], chains: Mapping[str, set[tuple[str, ...]]]) -> None:
        """Take in what the names that code loads stand for: closure first, then the module's globals."""
        module = sys.modules.get(value.__module__)
        scope = dict(getattr(value, "__globals__", None) or (vars(module) if module else {}))
        scope.update(_closure(value))
        for name in names:
            if name not in scope:
                continue
            found = scope[name]
            where = f"{owner}:{name}" if name in _closure(value) else f"{value.__module__}:{name}"
            if isinstance(found, ModuleType) and self._is_ours(found.__name__):
                for chain in chains.get(name) or {()}:
                    self._attribute(found, chain)
            elif where not in self.parts:
                self.parts[where] = ""
                self.value(where, found)

    def _attribute(self, module: ModuleType, chain: tuple[str, ...]) -> None:
        """``module.attr`` of the project: the attribute only, or the whole module if it cannot be told."""
        while chain and isinstance(getattr(module, chain[0], None), ModuleType):
            module, chain = getattr(module, chain[0]), chain[1:]
        if not self._is_ours(module.__name__):
            self.value(f"library {module.__name__}", module)
        elif chain and hasattr(module, chain[0]):
            where = f"{module.__name__}:{chain[0]}"
            if where not in self.parts:
                self.parts[where] = ""
                self.value(where, getattr(module, chain[0]))
        else:
            self.value(f"module {module.__name__}", module)

    def _imports(self, node: ast.AST, module: str) -> None:
        """Imports made while a function runs."""
        for statement in ast.walk(node):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    self._imported(alias.name, _chains(node).get(alias.asname or alias.name.partition(".")[0], set()))
            elif isinstance(statement, ast.ImportFrom):
                base = _absolute(statement, module)
                for alias in statement.names:
                    self._imported(base, {() if alias.name == "*" else (alias.name,)})

    def _imported(self, name: str, chains: Iterable[tuple[str, ...]]) -> None:
        if not self._is_ours(name):
            self.parts[f"library {name}"] = self._library(name)
            return
        for chain in chains or {()}:
            try:
                module = importlib.import_module(name)
                if chain and not hasattr(module, chain[0]):
                    importlib.import_module(f"{name}.{chain[0]}")
            except ImportError:
                self.parts[f"module {name}"] = "missing"
                continue
            self._attribute(module, chain)

    def _module(self, module: ModuleType) -> str:
        """A whole module: its source, and what its code names."""
        name = module.__name__
        if not self._is_ours(name):
            return name + self._library(name)
        tree = _tree(getattr(module, "__file__", None))
        if tree is None:
            return name
        self.parts[f"module {name} source"] = _hash(_dump(tree).encode())
        self._imports(tree, name if hasattr(module, "__path__") else f"{name}")
        return name

    def _everything(self) -> None:
        """All source of the project."""
        for root in self.roots:
            module = sys.modules.get(root)
            for directory in getattr(module, "__path__", ()):
                for file in sorted(Path(directory).rglob("*.py")):
                    tree = _tree(str(file))
                    self.parts[f"file {file.relative_to(directory)}"] = _hash(_dump(tree).encode()) if tree else ""

    def _is_ours(self, module: str | None) -> bool:
        """Whether code is followed into its source: the project's, a notebook's, anything not installed."""
        top = (module or "").partition(".")[0]
        if top in self.roots or top == "__main__":
            return True
        if not top or top == "headway" or top in sys.stdlib_module_names or top in sys.builtin_module_names:
            return False
        loaded = sys.modules.get(top)
        places = [getattr(loaded, "__file__", None), *getattr(loaded, "__path__", ())]
        return any(p for p in places) and not any("-packages" in part for p in places if p for part in Path(p).parts)

    @staticmethod
    def _library(module: str | None) -> str:
        top = (module or "").partition(".")[0]
        return "" if not top or top in sys.stdlib_module_names else f" {_version(top)}"


@functools.lru_cache(maxsize=256)
def _version(top: str) -> str:
    """The version of the distribution that a top module belongs to."""
    version = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(top, [])
        return ", ".join(sorted(f"{name} {importlib.metadata.version(name)}" for name in names)) or "unknown"


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _closure(value: Any) -> dict[str, Any]:
    code, cells = getattr(value, "__code__", None), getattr(value, "__closure__", None)
    found = {}
    for name, cell in zip(code.co_freevars if code else (), cells or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return found


def _tree(file: str | None) -> ast.Module | None:
    if not file or not file.endswith(".py"):
        return None
    try:
        seen = Path(file).stat()
        return _parsed(file, seen.st_mtime_ns, seen.st_size)
    except (OSError, SyntaxError, ValueError):
        return None


@functools.lru_cache(maxsize=512)
def _parsed(file: str, _changed: int, _size: int) -> ast.Module:
    return ast.parse(Path(file).read_bytes())


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _find(value: FunctionType | type) -> Definition | None:
    """The definition of a function or class in its file: by its path of names, the nearest to its line if several."""
    wrapped = inspect.unwrap(value) if isinstance(value, FunctionType) else value
    if wrapped is not value:
        value = wrapped  # the source is the wrapped function's; the wrapper comes in with its decorator
    try:
        file = inspect.getsourcefile(value)
    except TypeError:
        return None
    tree = _tree(file)
    if tree is None:
        return None
    line = value.__code__.co_firstlineno if isinstance(value, FunctionType) else 0
    found = list(_definitions(tree, value.__qualname__.replace(".<locals>", "").split(".")))
    return min(found, key=lambda node: abs(_first_line(node) - line)) if line and found else (found or [None])[-1]


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _definitions(node: ast.AST, path: list[str]) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            if child.name == path[0]:
                if len(path) == 1:
                    yield child
                else:
                    yield from _definitions(child, path[1:])
        elif not isinstance(child, ast.expr):
            yield from _definitions(child, path)


class _Plain(ast.NodeTransformer):
    """Without docstrings, and without headway's own decorators: their inputs are recorded elsewhere."""

    def _body(self, node: Any) -> Any:
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        if hasattr(node, "decorator_list"):
            node.decorator_list = [d for d in node.decorator_list if not _is_request_features(d)]
        return node

    visit_Module = visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _body  # noqa: N815


def _is_request_features(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) == "request_features"


def _plain(node: Any) -> Any:
    return _Plain().visit(ast.parse(ast.unparse(node)) if isinstance(node, Definition) else ast.parse(ast.unparse(node)))


def _dump(node: Any) -> str:
    return ast.dump(_plain(node), annotate_fields=False)


def _compiled(node: Definition) -> CodeType:
    return compile(ast.fix_missing_locations(_plain(node)), "<reach>", "exec")


def _loaded(code: CodeType) -> set[str]:
    """Names that code looks up outside itself: globals, and the free variables of a closure."""
    import dis

    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= _loaded(inner)
    return found


def _bytecode(code: CodeType) -> str:
    """A digest of compiled code, for functions whose source has no name of its own (lambdas, generated code)."""
    consts = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return _hash(repr((code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars)).encode())


def _chains(node: ast.AST) -> dict[str, set[tuple[str, ...]]]:
    """Name → the attributes taken of it: ``a.b.c`` gives a → (b, c); () where it is used as it is."""
    found: dict[str, set[tuple[str, ...]]] = {}
    inner: set[int] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute | ast.Name) and id(each) not in inner:
            trail: list[str] = []
            at: ast.expr = each
            while isinstance(at, ast.Attribute):
                inner.add(id(at.value))
                trail.insert(0, at.attr)
                at = at.value
            if isinstance(at, ast.Name):
                found.setdefault(at.id, set()).add(tuple(trail))
    return found


def _imports_unseen(node: ast.AST) -> bool:
    return any(
        alias.name.partition(".")[0] == "importlib"
        for statement in ast.walk(node)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for alias in (
            statement.names if isinstance(statement, ast.Import) else [ast.alias(statement.module or "")]
        )
    )


def _absolute(statement: ast.ImportFrom, module: str) -> str:
    """The module an ``from … import`` names, as seen from ``module``."""
    if not statement.level:
        return statement.module or ""
    here = sys.modules.get(module)
    package = module if hasattr(here, "__path__") else module.rpartition(".")[0]
    base = package.rsplit(".", statement.level - 1)[0] if statement.level > 1 else package
    return f"{base}.{statement.module}" if statement.module else base


__all__: list[str] = ["Callable", "reach_digest"][1:]
