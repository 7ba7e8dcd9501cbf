"""Several versions of one package in one process, each with its own code."""

from __future__ import annotations

import concurrent.futures
import json
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headway.define._bundle import BundleLoader, write_bundle
from headway.errors import ArtifactError, DefinitionError, ProjectCodeError

FILES = {
    "trips/__init__.py": "TITLE = 'trips'\n",
    "trips/helpers.py": "FACTOR = {factor}\ndef scale(x):\n    return x * FACTOR\n",
    "trips/late.py": "def answer():\n    return {factor}\n",
    "trips/deep/__init__.py": "",
    "trips/deep/inner.py": """
        from ..helpers import scale
        from . import sibling

        def f(x):
            return scale(x) + sibling.ONE
    """,
    "trips/deep/sibling.py": "ONE = 1\n",
    "trips/features.py": """
        import math
        import trips.helpers
        import trips.helpers as direct
        from trips import helpers, TITLE
        from trips.helpers import scale

        def absolute(x):
            return scale(x), helpers.scale(x), trips.helpers.scale(x), direct.scale(x)

        def at_call(x):
            import trips.late as late
            from trips.late import answer
            from trips import late as again
            return late.answer(), answer(), again.answer(), math.sqrt(4)

        def by_name():
            import importlib
            from importlib import import_module
            import importlib.util
            assert importlib.util.find_spec("json")
            return importlib.import_module("trips.late").answer(), import_module(".late", __package__).answer()

        def raises():
            raise KeyError("nothing")

        def nested():
            return (lambda: [__import__("trips.late").late.answer() for _ in range(2)])()

        class Box:
            @staticmethod
            def made():
                import trips.late
                return trips.late.answer()

        def reloaded():
            exec("import trips.late\\nfound = trips.late.answer()", globals())
            return found
    """,
    "trips/shapes.py": """
        from __future__ import annotations
        import dataclasses, enum, typing

        class Color(enum.Enum):
            RED = 1

        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int
            color: Color = Color.RED
            many: typing.ClassVar[int] = 3

        def point():
            return dataclasses.asdict(Point(2)), typing.get_type_hints(Point)["color"] is Color
    """,
    "trips/ring_a.py": "import trips.ring_b as b\nNAME = 'a'\ndef other():\n    return b.NAME\n",
    "trips/ring_b.py": "import trips.ring_a as a\nNAME = 'b'\ndef other():\n    return a.NAME\n",
    "trips/never.py": "raise RuntimeError('executed without need')\n",
    "trips/declared.py": """
        import headway as hw
        source = hw.Source("s", path="x.parquet", timestamp="t")

        @hw.request_features(inputs=[hw.Request("a", "double")])
        def twice(a):
            from trips.helpers import scale
            return {"a": scale(a)}
    """,
    "trips/table.csv": "a,b\n1,2\n",
    "trips/.hidden": "secret",
    "trips/__pycache__/x.pyc": "old",
}


def project(root: Path, factor: int) -> Path:
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text.replace("{factor}", str(factor))))
    return root


Bundle = Callable[[int], BundleLoader]


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    made: list[BundleLoader] = []

    def make(factor: int) -> BundleLoader:
        home = tmp_path / str(factor)
        write_bundle(project(home / "live", factor), "trips", home / "bundle")
        made.append(BundleLoader(home / "bundle", "trips"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The live package of the same name is importable, and says 1000."""
    monkeypatch.syspath_prepend(str(project(tmp_path / "elsewhere", 1000)))
    import trips.late  # noqa: F401

    yield
    for name in [n for n in sys.modules.copy() if n == "trips" or n.startswith("trips.")]:
        del sys.modules[name]


def test_the_copy_is_complete_and_its_digest_says_what_it_is(tmp_path: Path) -> None:
    root = project(tmp_path / "a", 1)
    (root / "trips" / "huge.bin").write_bytes(b"x" * (5 << 20))
    first = write_bundle(root, "trips", tmp_path / "one")
    assert first == write_bundle(project(tmp_path / "b", 1), "trips", tmp_path / "two")
    assert first != write_bundle(project(tmp_path / "c", 2), "trips", tmp_path / "three")
    manifest = json.loads((tmp_path / "one" / "bundle.json").read_text())
    assert set(manifest["files"]) == {n for n in FILES if "hidden" not in n and "pyc" not in n}
    assert manifest["left_out"] == ["trips/huge.bin"]
    assert (tmp_path / "one" / "trips" / "table.csv").read_text() == "a,b\n1,2\n"
    assert not (tmp_path / "one" / "trips" / ".hidden").exists()


def test_a_package_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="no package 'trips'"):
        write_bundle(tmp_path, "trips", tmp_path / "out")


def test_a_single_module_is_a_package_too(tmp_path: Path) -> None:
    (tmp_path / "solo.py").write_text("def f():\n    import solo\n    return solo.X\nX = 5\n")
    write_bundle(tmp_path, "solo", tmp_path / "out")
    loader = BundleLoader(tmp_path / "out", "solo")
    assert loader.function("solo", "f")() == 5
    loader.close()


@pytest.mark.usefixtures("live")
def test_two_versions_answer_differently_at_once(bundle: Bundle) -> None:
    one, two = bundle(2), bundle(3)
    for loader, factor in ((one, 2), (two, 3), (one, 2)):
        assert loader.function("trips.features", "absolute")(10) == (10 * factor,) * 4
        assert loader.function("trips.features", "at_call")(1) == (factor, factor, factor, 2.0)
        assert loader.function("trips.features", "by_name")() == (factor, factor)
        assert loader.function("trips.features", "nested")() == [factor, factor]
        assert loader.function("trips.features", "Box.made")() == factor
        assert loader.function("trips.features", "reloaded")() == factor
        assert loader.function("trips.deep.inner", "f")(10) == 10 * factor + 1
    import trips.late

    assert trips.late.answer() == 1000


def test_without_a_live_package(bundle: Bundle) -> None:
    assert bundle(4).function("trips.features", "at_call")(1)[0] == 4
    assert "trips" not in sys.modules


def test_dataclasses_enums_and_rings(bundle: Bundle) -> None:
    loader = bundle(2)
    values, hint = loader.function("trips.shapes", "point")()
    assert values["x"] == 2
    assert hint
    assert loader.function("trips.ring_a", "other")() == "b"
    assert loader.function("trips.ring_b", "other")() == "a"


def test_a_request_function_gives_its_function(bundle: Bundle) -> None:
    assert bundle(3).function("trips.declared", "twice")(2) == {"a": 6}


def test_tracebacks_show_the_source(bundle: Bundle) -> None:
    try:
        bundle(3).function("trips.features", "raises")()
    except KeyError:
        shown = traceback.format_exc()
    assert 'raise KeyError("nothing")' in shown
    assert "bundle/trips/features.py" in shown


def test_what_is_not_there_is_named(bundle: Bundle) -> None:
    loader = bundle(3)
    with pytest.raises(ArtifactError, match=r"has no module 'trips\.nothing'"):
        loader.function("trips.nothing", "f")
    with pytest.raises(ArtifactError, match="has no 'nothing'"):
        loader.function("trips.features", "nothing")
    with pytest.raises(ArtifactError, match="is no function"):
        loader.function("trips", "TITLE")
    with pytest.raises(ArtifactError, match="not part of package"):
        loader.function("json", "dumps")
    with pytest.raises(ProjectCodeError, match="RuntimeError: executed without need"):
        loader.function("trips.never", "f")


def test_a_missing_dependency_is_not_a_missing_module(bundle: Bundle) -> None:
    loader = bundle(5)
    (loader.directory / "trips" / "needs.py").write_text("import no_such_package_at_all\n")
    with pytest.raises(ProjectCodeError, match="no_such_package_at_all"):
        loader.function("trips.needs", "f")


def test_no_compiled_code_is_written_or_read(bundle: Bundle) -> None:
    loader = bundle(3)
    loader.function("trips.features", "at_call")(1)
    assert not list(loader.directory.rglob("__pycache__"))


def test_closing_forgets_the_modules(bundle: Bundle) -> None:
    loader = bundle(3)
    function = loader.function("trips.features", "absolute")
    loader.close()
    loader.close()
    assert function.__module__ not in sys.modules
    assert function(1) == (3, 3, 3, 3)


def test_threads_import_at_once(bundle: Bundle) -> None:
    loaders = [bundle(n) for n in range(2, 6)]

    def ask(i: int) -> tuple[int, tuple[int, ...]]:
        loader = loaders[i % 4]
        return i % 4 + 2, (
            loader.function("trips.features", "at_call")(1)[0],
            loader.function("trips.ring_a", "other")(),
        )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for factor, found in pool.map(ask, range(64)):
            assert found == (factor, "b")
