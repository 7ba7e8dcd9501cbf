"""What makes a step run again, and what does not; what a plan says of it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from headway.define import _code
from headway.orchestrate.steps import _key

ROWS = """
    import pandas as pd
    import sidelib
    from stepsproj.one import first
    DATA = {"a": [1, 2, 3]}
    @hw.step
    def rows() -> pd.DataFrame:
        # read
        return pd.DataFrame(DATA)
    @hw.step
    def ids() -> list[int]:
        return [1, 2]
    @hw.step
    def deep(rows: pd.DataFrame) -> int:
        return first(int(rows["a"].sum()))
    @hw.step
    def apart(days: int) -> int:
        return sidelib.offset() + days
    @hw.step
    def sign(x: int) -> int:
        return 1 if x > 0 else -1
    @hw.step
    def last(x: int) -> int:
        return x
    @hw.pipeline
    def main(days: int = 7):
        found = rows()
        last(sign(deep(found)))
        apart(days)
"""
MODULES = {
    "a": ROWS,
    "one": "from stepsproj import two\ndef first(x): return two.second(x)\n",
    "two": "from stepsproj.deep import three\ndef second(x): return three(x)\n",
    "deep": "def three(x):\n    return x * FACTOR\nFACTOR = 2\ndef unrelated(): return 1\n",
}
ALL = {"rows", "deep", "sign", "last", "apart"}


@pytest.fixture
def project(steps, tmp_path, monkeypatch):
    """The project, and a library of its own beside it: ``sidelib``, installed in version 1.0."""
    site = tmp_path / "lib" / "site-packages"
    site.mkdir(parents=True)
    (site / "sidelib.py").write_text("def offset():\n    return 5\n")
    install(site, "1.0")
    monkeypatch.syspath_prepend(str(site))
    steps.write(**MODULES)
    steps.run()
    yield steps, site
    sys.modules.pop("sidelib", None)


def install(site: Path, version: str) -> None:
    for old in site.glob("sidelib-*"):
        (old / "METADATA").unlink()
        old.rmdir()
    info = site / f"sidelib-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sidelib\nVersion: {version}\n")
    forget_versions()


def forget_versions() -> None:
    importlib.invalidate_caches()
    _code._distribution_version.cache_clear()
    _code._distributions.cache_clear()
    _key._needed.cache_clear()


def ran(done: dict[str, str]) -> set[str]:
    return {key for key, status in done.items() if status == "done"}


def test_nothing_changed_or_only_a_comment(project):
    steps, _ = project
    assert ran(steps.run()) == set()
    steps.edit("a", "# read", "# read the rows")
    steps.edit("deep", "def three(x):", "def three(x):\n    '''Thrice.'''")
    steps.edit("deep", "return 1\n", "return 2\n")
    assert ran(steps.run()) == set()


def test_a_helper_three_modules_away(project):
    steps, _ = project
    steps.edit("deep", "FACTOR = 2", "FACTOR = 3")
    plan = steps.plan()
    assert {key: each.status for key, each in plan.items()} == {
        "rows": "cached",
        "deep": "run",
        "sign": "depends",
        "last": "depends",
        "apart": "cached",
    }
    assert plan["deep"].why == "the code it reaches changed"
    assert plan["sign"].why == "what 'deep' gives decides"
    assert ran(steps.run()) == {"deep", "sign"}  # the sign is the same, so what follows is not run
    assert steps.records()["deep"].why == "the code it reaches changed"
    assert steps.records()["sign"].why == "input x changed"


def test_the_version_of_a_library(project):
    steps, site = project
    install(site, "1.1")
    assert ran(steps.run()) == {"apart"}
    assert steps.records()["apart"].why == "library sidelib 1.0 → 1.1"


def test_the_version_of_a_library_that_a_library_needs(project, monkeypatch):
    steps, _ = project
    monkeypatch.setattr(_key, "_needed", lambda name: {name: "1", "numpy": "9.9"})
    steps.run()
    monkeypatch.setattr(_key, "_needed", lambda name: {name: "1", "numpy": "10"})
    assert ran(steps.run()) >= {"rows", "apart"}
    assert steps.records()["rows"].why == "library numpy 9.9 → 10"


def test_one_row(project):
    steps, _ = project
    steps.edit("a", "[1, 2, 3]", "[1, 2, 4]")
    assert ran(steps.run()) == {"rows", "deep", "sign"}
    assert steps.records()["deep"].why == "input rows changed"


def test_a_parameter_and_an_annotation(project):
    steps, _ = project
    assert ran(steps.run(days=3)) == {"apart"}
    assert steps.records()["apart"].why == "parameter days: 7 → 3"
    steps.edit("a", "def sign(x: int) -> int:", "def sign(x: int) -> float:")
    assert ran(steps.run(days=3)) == {"sign", "last"} or ran(steps.run(days=3)) == set()
    assert "annotated float, not int" in steps.records()["sign"].why or steps.records()["sign"].status == "cached"


def test_an_artifact_that_is_gone_or_damaged_is_made_again(project):
    steps, _ = project
    for damage in (Path.unlink, lambda file: file.write_bytes(b"")):
        file = steps.root / ".headway" / "local" / "artifacts" / steps.records()["rows"].output.path
        damage(file)
        assert steps.plan()["rows"].why.startswith("what it gave in run ")
        assert ran(steps.run()) == {"rows"}
        assert "is no longer there" in steps.records()["rows"].why


def test_a_step_without_a_cache_runs_and_what_follows_may_not(steps):
    steps.write(
        a="""
    @hw.step(cache=False)
    def look() -> int: return 1
    @hw.step
    def use(x): return x
    @hw.pipeline
    def main(): use(look())
    """
    )
    steps.run()
    assert steps.run() == {"look": "done", "use": "cached"}
    assert steps.records()["look"].why == "it is declared with cache=False"


def test_a_step_that_calls_another_depends_on_its_code(steps):
    steps.write(
        a="""
    from stepsproj.b import inner
    @hw.step
    def outer() -> int: return inner(1)
    @hw.pipeline
    def main(): outer()
    """,
        b="@hw.step\ndef inner(x): return x + 1\n",
    )
    steps.run()
    steps.edit("b", "x + 1", "x + 2")
    assert steps.run() == {"outer": "done"}
    assert steps.value("outer") == 3


def test_a_file_given_as_an_argument_counts_by_its_content(steps, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("1")
    steps.write(
        a=f"""
    from pathlib import Path
    @hw.step
    def read(file: Path) -> str: return file.read_text()
    @hw.pipeline
    def main(): read(Path({str(data)!r}))
    """
    )
    steps.run()
    assert steps.run() == {"read": "cached"}
    data.write_text("2")
    assert steps.run() == {"read": "done"}


def test_a_plan_of_what_was_never_run(steps):
    steps.write(
        a="""
    rows = hw.Source("rows", path="rows.csv")
    @hw.step
    def load(after_all: int = 0) -> list[int]: return [1]
    @hw.step
    def work(x: int) -> int: return x
    @hw.step
    def known(x: int) -> int: return x
    @hw.pipeline
    def main():
        done = hw.run(rows)
        work(each={"x": load()}, after=done)
        known(each={"x": [1, 2]})
        hw.when(False, lambda: known(3))
    """
    )
    plan = steps.plan()
    assert {key: (each.status, each.why) for key, each in plan.items()} == {
        "run:rows": ("run", "its own digests decide"),
        "load": ("run", "not done yet"),
        "work": ("depends", "what 'run:rows' gives decides"),
        "known": ("run", "2 items: 2 run"),
        "known[x=1]": ("run", "not done yet"),
        "known[x=2]": ("run", "not done yet"),
        "known#2": ("skip", "its branch of hw.when was not taken: the condition is false"),
    }
    assert plan["work"].needs == ("run:rows", "load")
