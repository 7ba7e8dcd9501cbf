"""The public names, and how little importing them loads."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys

import pytest

import headway
from headway import errors

HEAVY = ("mlflow", "sklearn", "duckdb", "pandas", "lightgbm", "pyarrow")


def test_public_names_are_sorted_and_each_stands_once():
    assert headway.__all__ == sorted(set(headway.__all__))


@pytest.mark.parametrize("name", headway.__all__)
def test_a_public_name_can_be_imported(name):
    assert getattr(headway, name) is not None


def test_what_can_be_imported_is_public():
    modules = {name for name in vars(headway) if f"headway.{name}" in sys.modules}
    other = {"annotations", "TYPE_CHECKING", "Any"}
    found = {name for name in vars(headway) if not name.startswith("_")} - modules - other
    assert found | {"Project", "load"} == set(headway.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="FeatureVeiw"):
        headway.FeatureVeiw  # noqa: B018


def loaded(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after ``code``."""
    tell = f"import sys; print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_importing_headway_loads_nothing_heavy():
    assert loaded("import headway") == set()


def test_declaring_loads_nothing_heavy():
    code = "import headway as hw; hw.Source('a', path='a.csv', timestamp='t', checks=[hw.not_null('t')])"
    assert loaded(code) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["features", "--help"], ["run", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        f"import sys; sys.argv = ['headway', *{arguments!r}]\n"
        "from headway.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert loaded(code) == set()


def test_the_error_tree_is_the_one_drawn_above_it():
    assert drawn() == {c.__name__: c.__bases__[0].__name__ for c in declared() if c is not errors.HeadwayError}


def test_errors_are_the_builtins_they_are_said_to_be():
    for name, builtin in re.findall(r"([A-Z]\w+) .*\(also (\w+)\)", errors.__doc__):
        assert issubclass(getattr(errors, name), getattr(builtins, builtin))


def test_errors_have_the_exit_codes_they_are_said_to_have():
    for line in errors.__doc__.splitlines():
        if name := re.search(r"[─ ] ([A-Z]\w+)  ", line):
            told = re.search(r"exit code (\d)", line)
            assert getattr(errors, name.group(1)).exit_code == int(told.group(1) if told else 1), line


def declared():
    return [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.HeadwayError)]


def drawn() -> dict[str, str]:
    """Name → parent of every error in the drawing."""
    found, trail = {}, [(-1, "HeadwayError")]
    for line in errors.__doc__.splitlines():
        if entry := re.match(r"([│ ]*[├└]── )(\w+)", line):
            depth, name = len(entry.group(1)), entry.group(2)
            while trail[-1][0] >= depth:
                trail.pop()
            found[name] = trail[-1][1]
            trail.append((depth, name))
    return found
