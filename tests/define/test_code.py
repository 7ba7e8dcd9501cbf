"""What a function's digest notices, and what it does not."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from headway.define._code import reach_digest

FILES = {
    "proj/__init__.py": "",
    "proj/features.py": """
        import math
        import functools
        import numpy as np
        from proj import one, config
        from proj.one import step as first_step
        from proj.deep import tools as t

        LIMIT = 3
        TABLE = {"a": [1, 2], "b": (3.5, None)}

        def noted(function):
            @functools.wraps(function)
            def inner(*args):
                return function(*args)
            return inner

        def scaled(by):
            def inner(x):
                return x * by
            return inner

        double = scaled(2)

        class Base:
            def offset(self):
                return 1

        class Child(Base):
            def go(self, x):
                return x + self.offset() + LIMIT

        instance = Child()
        instance.rate = 0.5

        def plain(x):
            # a comment
            return math.sqrt(x)

        def chain(x):
            return first_step(x)

        def by_module(x):
            return one.step(x)

        def by_alias(x):
            return t.clean(x)

        def constant(x):
            return x + LIMIT + config.RATE + len(TABLE)

        def default(x, limit=LIMIT):
            return x + limit

        @noted
        def decorated(x):
            return x + 1

        def closure(x):
            return double(x)

        def object_(x):
            return Child().go(x)

        def state(x):
            return instance.rate * x

        def inside(x):
            from proj.one import step
            from .deep.tools import clean as wash
            import proj.config as c
            return step(wash(x)) + c.RATE

        def whole(x, name):
            return getattr(one, name)(x)

        def dynamic(x):
            return importlib.import_module("proj.other").f(x)

        def listed(x):
            return [f(x) for f in [first_step, lambda v: v + 1]]

        shifted = lambda x: x + LIMIT

        def recursive(x):
            return x if x < 1 else recursive(x - 1)

        import importlib
    """,
    "proj/one.py": """
        from proj.two import middle

        def step(x):
            return middle(x)

        def unrelated(x):
            return x - 1
    """,
    "proj/two.py": """
        import proj.deep.three

        def middle(x):
            return proj.deep.three.last(x)
    """,
    "proj/config.py": "RATE = 0.1\nOTHER = 2\n",
    "proj/deep/__init__.py": "",
    "proj/deep/three.py": """
        import numpy as np
        WEIGHTS = np.array([1.0, 2.0])
        def last(x):
            '''Documented.'''
            return x * WEIGHTS
        def never(x):
            return 0
    """,
    "proj/deep/tools.py": "def clean(x):\n    return x\n\ndef other(x):\n    return x + 1\n",
    "proj/other.py": "def f(x):\n    return x\n",
}
Digest = Callable[..., str]


@pytest.fixture
def digest(tmp_path: Path) -> Iterator[Digest]:
    """The digest of ``proj.features.<name>`` after ``file`` had ``old`` replaced by ``new``."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    sys.path.insert(0, str(tmp_path))

    def of(name: str, file: str | None = None, old: str = "", new: str = "") -> str:
        path = tmp_path / (file or "proj/__init__.py")
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1) if old else before)
        try:
            forget()
            importlib.invalidate_caches()
            return reach_digest(getattr(importlib.import_module("proj.features"), name), ["proj"])
        finally:
            path.write_text(before)

    yield of
    sys.path.remove(str(tmp_path))
    forget()


def forget() -> None:
    for name in [n for n in sys.modules.copy() if n.split(".")[0] == "proj"]:
        del sys.modules[name]


NOTICED = [
    ("plain", "proj/features.py", "math.sqrt(x)", "math.sqrt(x) + 1"),
    ("chain", "proj/one.py", "return middle(x)", "return middle(x) + 1"),
    ("chain", "proj/two.py", ".last(x)", ".last(x) + 1"),
    ("chain", "proj/deep/three.py", "x * WEIGHTS", "x * WEIGHTS + 1"),
    ("chain", "proj/deep/three.py", "[1.0, 2.0]", "[1.0, 2.5]"),
    ("by_module", "proj/deep/three.py", "x * WEIGHTS", "x / WEIGHTS"),
    ("by_alias", "proj/deep/tools.py", "return x\n", "return -x\n"),
    ("constant", "proj/features.py", "LIMIT = 3", "LIMIT = 4"),
    ("constant", "proj/features.py", "(3.5, None)", "(3.5, 0)"),
    ("constant", "proj/config.py", "RATE = 0.1", "RATE = 0.2"),
    ("default", "proj/features.py", "LIMIT = 3", "LIMIT = 4"),
    ("decorated", "proj/features.py", "return function(*args)", "return -function(*args)"),
    ("decorated", "proj/features.py", "return x + 1", "return x + 2"),
    ("closure", "proj/features.py", "scaled(2)", "scaled(3)"),
    ("closure", "proj/features.py", "return x * by", "return x / by"),
    ("object_", "proj/features.py", "return 1\n", "return 2\n"),
    ("object_", "proj/features.py", "LIMIT = 3", "LIMIT = 4"),
    ("state", "proj/features.py", "rate = 0.5", "rate = 0.6"),
    ("instance", "proj/features.py", "rate = 0.5", "rate = 0.6"),
    ("instance", "proj/features.py", "return 1\n", "return 2\n"),
    ("Child", "proj/features.py", "return 1\n", "return 2\n"),
    ("inside", "proj/deep/three.py", "x * WEIGHTS", "x / WEIGHTS"),
    ("inside", "proj/deep/tools.py", "return x\n", "return -x\n"),
    ("inside", "proj/config.py", "RATE = 0.1", "RATE = 0.2"),
    ("whole", "proj/one.py", "return x - 1", "return x - 2"),
    ("dynamic", "proj/other.py", "return x", "return -x"),
    ("listed", "proj/features.py", "v + 1", "v + 2"),
    ("shifted", "proj/features.py", "x: x + LIMIT", "x: x - LIMIT"),
    ("shifted", "proj/features.py", "LIMIT = 3", "LIMIT = 4"),
]
IGNORED = [
    ("plain", "proj/features.py", "# a comment", "# another\n    \n"),
    ("chain", "proj/one.py", "return x - 1", "return x - 2"),
    ("chain", "proj/deep/three.py", "Documented", "Documented better"),
    ("chain", "proj/deep/three.py", "return 0", "return 1"),
    ("chain", "proj/features.py", "LIMIT = 3", "\n\n\nLIMIT = 4"),
    ("by_alias", "proj/deep/tools.py", "return x + 1", "return x + 2"),
    ("constant", "proj/config.py", "OTHER = 2", "OTHER = 3"),
    ("inside", "proj/config.py", "OTHER = 2", "OTHER = 3"),
    ("closure", "proj/features.py", "LIMIT = 3", "LIMIT = 4"),
    ("recursive", "proj/features.py", "scaled(2)", "scaled(3)"),
]


@pytest.mark.parametrize("change", NOTICED, ids=lambda c: f"{c[0]}: {c[2]}")
def test_a_change_of_what_it_computes_changes_the_digest(digest: Digest, change: tuple[str, str, str, str]) -> None:
    assert digest(*change) != digest(change[0])


@pytest.mark.parametrize("change", IGNORED, ids=lambda c: f"{c[0]}: {c[2]}")
def test_a_change_of_anything_else_does_not(digest: Digest, change: tuple[str, str, str, str]) -> None:
    assert digest(*change) == digest(change[0])


def test_two_closures_of_one_function_are_told_apart() -> None:
    def scaled(by: int) -> Callable[[int], int]:
        return lambda x: x * by

    pairs = [reach_digest({"a": scaled(a), "b": scaled(b)}, []) for a, b in ((2, 3), (3, 2), (2, 3))]
    assert pairs[0] != pairs[1]
    assert pairs[0] == pairs[2]


def test_another_process_finds_the_same_digest(digest: Digest, tmp_path: Path) -> None:
    here = {name: digest(name) for name in ("chain", "constant", "inside", "listed", "dynamic", "instance")}
    code = (
        "import proj.features as f\nfrom headway.define._code import reach_digest\n"
        f"print({{n: reach_digest(getattr(f, n), ['proj']) for n in {list(here)!r}}})"
    )
    path = ":".join([str(tmp_path), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path, "PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == str(here)


# Small projects, each with a change marked «before→after» of what ``pkg.m.f`` reaches; ``# pkg/…`` begins a new file.
NOTICED_MARKS = {
    "lru_cache": """
        import functools
        @functools.lru_cache
        def f(x):
            return x + «1→2»
    """,
    "contextmanager": """
        import contextlib
        @contextlib.contextmanager
        def f(x):
            yield x + «1→2»
    """,
    "contextmanager helper": """
        import contextlib
        from pkg.h import g
        @contextlib.contextmanager
        def f(x):
            yield g(x)
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
    """,
    "partial": """
        import functools
        from pkg.h import g
        f = functools.partial(g, «3→4»)
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + 10
    """,
    "partial func": """
        import functools
        from pkg.h import g
        f = functools.partial(g, 3)
        # pkg/h.py
        def g(x):
            return x + «1→4»

        def other(x):
            return x + 10
    """,
    "vectorize": """
        import numpy as np
        from pkg.h import g
        f = np.vectorize(g)
        # pkg/h.py
        def g(x):
            return x + «1→4»

        def other(x):
            return x + 10
    """,
    "property": """
        class C:
            @property
            def p(self):
                return «1→2»
        def f(x):
            return C().p
    """,
    "regex": """
        import re
        R = re.compile('«a→b»+')
        def f(x):
            return R.match(x)
    """,
    "datetime": """
        from datetime import date
        D = date(2020, 1, «2→3»)
        def f(x):
            return x > D
    """,
    "enum": """
        from enum import Enum
        class E(Enum):
            A = «1→3»
            B = 2
        def f(x):
            return E.A.value
    """,
    "enum member": """
        from enum import Enum
        class E(Enum):
            A = 1
            B = 2
        X = E.«A→B»
        def f(x):
            return X
    """,
    "dataclass": """
        from dataclasses import dataclass
        @dataclass
        class P:
            a: int = 1
        X = P(«3→4»)
        def f(x):
            return X.a
    """,
    "nested class in function": """
        def make(k):
            class C:
                rate = k
                def go(self): return 1
            return C
        K = make(«2→3»)
        def f(x):
            return K().rate
    """,
    "class closure": """
        def make(k):
            class C:
                def go(self): return k
            return C
        K = make(«2→3»)
        def f(x):
            return K().go()
    """,
    "two closures swapped": """
        def make(k):
            def inner(x): return x * k
            return inner
        a, b = make(«2), make(3→3), make(2»)
        def f(x):
            return a(x) - b(x)
    """,
    "kwdefault": """
        LIM = «3→4»
        def f(x, *, y=LIM):
            return x
    """,
    "nonlocal": """
        def make(k):
            def inner(x):
                nonlocal k
                k = k + 1
                return x * k
            return inner
        f = make(«2→3»)
    """,
    "whole module passed": """
        from pkg import h
        def f(x):
            return apply(h, x)
        def apply(m, x):
            return m.g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "whole module follows imports": """
        from pkg import h
        def f(x):
            return apply(h, x)
        def apply(m, x):
            return m.g(x)
        # pkg/h.py
        from pkg.k import g
        # pkg/k.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "getattr dynamic": """
        from pkg import h
        def f(x, n='g'):
            return getattr(h, n)(x)
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + 10
        # pkg/k.py
        Z = «1→2»
    """,
    "eval": """
        def f(x):
            return eval(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "from importlib inside": """
        def f(x):
            from importlib import import_module as im
            return im('pkg.h').g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "importlib inside": """
        def f(x):
            import importlib
            return importlib.import_module('pkg.h').g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "sys.modules": """
        import sys
        def f(x):
            return sys.modules['pkg.h'].g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "dunder import": """
        def f(x):
            return __import__('pkg.h').h.g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "inside dotted": """
        def f(x):
            import pkg.h
            return pkg.h.g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "inside as": """
        def f(x):
            import pkg.h as h
            return h.g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "from pkg import h inside": """
        def f(x):
            from pkg import h
            return h.g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "relative from . inside": """
        def f(x):
            from . import h as hh
            return hh.g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "class attr in module chain": """
        from pkg import h
        def f(x):
            return h.C.RATE * x
        # pkg/h.py
        class C:
            RATE = «1→2»
    """,
    "np array": """
        import numpy as np
        A = np.array([1, «2→3»])
        def f(x):
            return A
    """,
    "object array": """
        import numpy as np
        A = np.array(['«a→b»', None], dtype=object)
        def f(x):
            return A
    """,
    "function in dict": """
        from pkg.h import g, other
        T = {'a': g}
        def f(x):
            return T['a'](x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "set of functions": """
        from pkg.h import g, other
        T = {g, other}
        def f(x):
            return T
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "metaclass": """
        class M(type):
            def __call__(cls): return «1→2»
        class C(metaclass=M):
            pass
        def f(x):
            return C()
    """,
    "base in other module": """
        from pkg.h import B
        class C(B):
            pass
        def f(x):
            return C().go()
        # pkg/h.py
        class B:
            def go(self): return «1→2»
    """,
    "instance of project class from other module": """
        from pkg.h import b
        def f(x):
            return b.go()
        # pkg/h.py
        class B:
            def go(self): return «1→2»
        b = B()
    """,
    "bound method": """
        from pkg.h import go
        def f(x):
            return go()
        # pkg/h.py
        class B:
            def __init__(self, k): self.k = k
            def go(self): return 1
        go = B(«1→2»).go
    """,
    "decorator argument": """
        R = «1→2»
        def deco(k):
            def d(fn):
                def w(x): return fn(x) * k
                return w
            return d
        @deco(R)
        def f(x):
            return x
    """,
    "request features": """
        import headway as hw
        from pkg.h import g
        @hw.request_features(inputs=[hw.Request('x', 'double')], description='a')
        def f(x):
            return {'y': g(x)}
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
    """,
    "star import helper": """
        from pkg.h import *
        def f(x):
            return g(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "global in comprehension": """
        K = «2→3»
        def f(x):
            return [i * K for i in x]
    """,
    "conditional defs": """
        import sys
        if sys.version_info > (3,):
            def g(x): return «1→3»
        else:
            def g(x): return 2
        def f(x):
            return g(x)
    """,
    "lambda": """
        K = «1→2»
        f = lambda x: x + K
    """,
    "two lambdas one line": """
        T = [lambda x: x in {'a', 'b'}, lambda x: x + «1→2»]
        def f(x):
            return T
    """,
    "exec made": """
        ns = {}
        exec('def g(x): return x + «1→2»', ns)
        g = ns['g']
        def f(x):
            return g(x)
    """,
    "exec made with import": """
        ns = {}
        exec('def g(x):\\n    import pkg.h\\n    return pkg.h.g(x)', ns)
        g = ns['g']
        def f(x):
            return g(x)
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
    """,
    "namedtuple": """
        from collections import namedtuple
        P = namedtuple('P', 'a b')
        X = P(«1, 2→2, 1»)
        def f(x):
            return X.a
    """,
    "singledispatch": """
        import functools
        @functools.singledispatch
        def f(x):
            return x
        @f.register
        def _(x: int):
            return x + «1→2»
    """,
    "staticmethod": """
        from pkg.h import g
        class C:
            s = staticmethod(g)
        def f(x):
            return C.s(x)
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
    """,
    "cycle": """
        from pkg import h
        def f(x):
            return h.g(x)
        # pkg/h.py
        from pkg import m
        Z = «1→2»
        def g(x):
            return m.f(x - Z)
    """,
    "self-referring list": """
        L = [«1→2»]
        L.append(L)
        def f(x):
            return L
    """,
    "package attr via __init__": """
        import pkg
        def f(x):
            return pkg.g(x)
        # pkg/__init__.py
        from pkg.h import g
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
    """,
    "module dict": """
        from pkg import h
        def f(x, n):
            return h.__dict__[n](x)
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
    """,
    "vars(module)": """
        from pkg import h
        def f(x, n):
            return vars(h)[n](x)
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + «10→2»
    """,
    "global name in class body": """
        K = «1→2»
        class C:
            k = K
        def f(x):
            return C.k
    """,
    "lock": """
        import threading
        L = threading.Lock()
        K = «1→2»
        def f(x):
            with L:
                return x + K
    """,
    "logger": """
        import logging
        log = logging.getLogger(__name__)
        def f(x):
            log.info('a')
            return «→-»x
    """,
    "relative path changed": """
        from pathlib import Path
        P = Path(__file__).parent / '«a→b».csv'
        def f(x):
            return P
    """,
    "two same-name definitions": """
        class C:
            def go(self): return «1→5»
        D = C
        class C:
            def go(self): return 2
        def f(x):
            return D().go()
    """,
    "conflicting inner imports": """
        def f(x):
            try:
                from pkg.h import g
            except ImportError:
                from pkg.k import g
            return g(x)
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
        # pkg/k.py
        def g(x):
            return x + 1

        def other(x):
            return x + 10
    """,
    "TYPE_CHECKING": """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from pkg.h import T
        def f(x: T) -> T:
            return «→-»x
    """,
    "late imported names": """
        def f(x):
            from pkg.late import y
            return y(x)
        # pkg/late.py
        from pkg.h import g
        def y(x):
            return g(x)
        # pkg/h.py
        def g(x):
            return x + «1→2»

        def other(x):
            return x + 10
    """,
}

IGNORED_MARKS = {
    "getattr on object": """
        def f(x, n='g'):
            return getattr(x, n)(x)
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "eval comment": """
        def f(x):
            return eval(x)
        # pkg/h.py
        def g(x):
            return x + 1

        «→# hi
        »def other(x):
            return x + 10
    """,
    "df.eval": """
        def f(x):
            return x.eval('a')
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "importlib.util is not": """
        import importlib.util
        def f(x):
            return importlib.util.find_spec('json')
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "inside dotted unrelated": """
        def f(x):
            import pkg.h
            return pkg.h.g(x)
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + «10→30»
    """,
    "inside as unrelated": """
        def f(x):
            import pkg.h as h
            return h.g(x)
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + «10→30»
    """,
    "from pkg import h inside unrelated": """
        def f(x):
            from pkg import h
            return h.g(x)
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + «10→30»
    """,
    "local of the same name": """
        from pkg.h import g
        def f(x):
            g = x
            return g
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "attribute of the same name": """
        from pkg.h import g
        def f(x):
            return x.g
        # pkg/h.py
        def g(x):
            return x + «1→3»

        def other(x):
            return x + 10
    """,
    "dict order": """
        T = {«'a': 1, 'b': 2→'b': 2, 'a': 1»}
        def f(x):
            return T['a']
    """,
    "docstring of class": """
        class C:
            'doc'
            def m(self):
                '''«doc too→another»'''
                return 1
        def f(x):
            return C
    """,
    "request features description": """
        import headway as hw
        from pkg.h import g
        @hw.request_features(inputs=[hw.Request('x', 'double')], description='«a→b»')
        def f(x):
            return {'y': g(x)}
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + 10
    """,
    "conditional defs other": """
        import sys
        if sys.version_info > (3,):
            def g(x): return 1
        else:
            def g(x): return «2→3»
        def f(x):
            return g(x)
    """,
    "moved down": """
        «→import os


        Q = 1


        »def f(x):
            return x
    """,
    "two same-name definitions, the other": """
        class C:
            def go(self): return 1
        D = C
        class C:
            def go(self): return «2→5»
        def f(x):
            return D().go()
    """,
    "unused sentinel": """
        from pkg import h
        def f(x):
            return h.g(x)
        # pkg/h.py
        def g(x):
            return x + 1

        def other(x):
            return x + 10
        Q = «object()→2»
    """,
}

STEADY = {
    "relative path": """
        from pathlib import Path
        import os
        P = Path(__file__).parent / 'a.csv'
        Q = os.path.dirname(__file__)
        def f(x):
            return P, Q, __file__
    """,
    "rng": """
        import numpy as np, random
        R = np.random.default_rng()
        S = random.Random()
        def f(x):
            return R.normal() + S.random()
    """,
    "environ": """
        import os
        from os import environ
        def f(x):
            return environ.get('A'), os.environ
    """,
}


def write_package(root: Path, text: str, after: bool = False) -> Path:
    """``text`` as a package ``pkg`` in ``root``, its marks replaced."""
    text = re.sub("«(.*?)→(.*?)»", r"\2" if after else r"\1", textwrap.dedent(text), flags=re.DOTALL)
    first, *others = re.split(r"^# pkg/(.*)\n", text, flags=re.MULTILINE)
    (root / "pkg").mkdir(parents=True)
    for name, content in {
        "__init__.py": "",
        "m.py": first,
        **dict(zip(others[::2], others[1::2], strict=True)),
    }.items():
        (root / "pkg" / name).write_text(content)
    return root


DIGESTS = """
import importlib, json, sys
from headway.define._code import reach_digest

def digests(roots):
    found = []
    for root in roots:
        for name in [name for name in sys.modules.copy() if name.partition(".")[0] == "pkg"]:
            del sys.modules[name]
        sys.path.insert(0, root)
        importlib.invalidate_caches()
        found.append(reach_digest(importlib.import_module("pkg.m").f, ["pkg"]))
        sys.path.remove(root)
    return found

print(json.dumps(digests(sys.argv[1:])))
"""


def digests_elsewhere(roots: Sequence[Path], seed: int) -> list[str]:
    """The digests of ``pkg.m.f`` of several packages, found by a process with that hash seed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DIGESTS, *map(str, roots)],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": ":".join(p for p in sys.path if p),
            "PYTHONHASHSEED": str(seed),
            "CHANGES": str(seed),
        },
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The digests of every small project, before and after its change, in different directories and processes."""
    root = tmp_path_factory.mktemp("small")
    cases = NOTICED_MARKS | IGNORED_MARKS | STEADY
    sides = [
        [write_package(root / side / str(i), text, side == "after") for i, text in enumerate(cases.values())]
        for side in ("before", "after")
    ]
    found = [digests_elsewhere(roots, seed) for seed, roots in enumerate(sides, 1)]
    return dict(zip(cases, zip(*found, strict=True), strict=True))


@pytest.mark.parametrize("case", NOTICED_MARKS)
def test_the_marked_change_is_noticed(before_and_after: dict[str, tuple[str, str]], case: str) -> None:
    before, after = before_and_after[case]
    assert before != after


@pytest.mark.parametrize("case", [*IGNORED_MARKS, *STEADY])
def test_the_marked_change_makes_no_difference(before_and_after: dict[str, tuple[str, str]], case: str) -> None:
    before, after = before_and_after[case]
    assert before == after


def test_directory_and_hash_seed_make_no_difference(tmp_path: Path) -> None:
    cases = {**NOTICED_MARKS, **IGNORED_MARKS, **STEADY}
    here = [write_package(tmp_path / "here" / str(i), text) for i, text in enumerate(cases.values())]
    there = [write_package(tmp_path / "there" / str(i), text) for i, text in enumerate(cases.values())]
    found = zip(cases, digests_elsewhere(here, 1), digests_elsewhere(there, 77), strict=True)
    assert [case for case, one, other in found if one != other] == []


def test_a_chain_longer_than_the_stack_is_no_trouble(tmp_path: Path) -> None:
    lines = [f"def f{i}(x):\n    return f{i + 1}(x)\n" for i in range(1100)]
    text = "".join(["def f(x):\n    return f0(x)\n", *lines, "def f1100(x):\n    return x + «1→2»\n"])
    roots = [write_package(tmp_path / str(after), text, after) for after in (False, True)]
    one, other = digests_elsewhere(roots, 1)
    assert one != other


def test_libraries_count_by_version_and_are_not_read() -> None:
    assert reach_digest(json.dumps, []) == reach_digest(json.dumps, [])
    assert reach_digest(json.dumps, []) != reach_digest(json.loads, [])
    assert reach_digest(pytest.fixture, []) != reach_digest(pytest.raises, [])
