"""``headway run`` of pipelines, and ``headway runs``."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests import project
from tests.project import Shop, environment

from headway.cli._run import named_values, split_options

WORK = '''
import pathlib
import time

import headway as hw


@hw.step
def numbers(city: str, days: int) -> list[int]:
    print(f"{days} numbers of {city}")
    return list(range(days))


@hw.step
def double(number: int) -> int:
    with pathlib.Path("did.txt").open("a") as did:
        did.write(f"{number}\\\\n")
    if pathlib.Path("slow").exists():
        time.sleep(0.02)
    return 2 * number


@hw.step
def total(numbers: list[int], city: str, loud: bool) -> str:
    if pathlib.Path("wrong").exists():
        raise ValueError("no total today")
    return f"{city}: {sum(numbers)}{'!' if loud else ''}"


@hw.pipeline(each={"city": ["lisbon", "turin"]})
def publish(city: str, days: int = 3, loud: bool = False):
    """Double the numbers of some days and add them up.

    days: how many numbers
    """
    return total(double(each={"number": numbers(city, days)}), city, loud)


@hw.pipeline
def counted():
    return numbers("turin", 1, after=hw.run("footfall"))
'''


@pytest.fixture
def work(empty: Shop) -> Shop:
    """A project with a pipeline; nothing has run."""
    (empty.root / "shop/work.py").write_text(WORK.replace("\\\\n", "\\n"))
    return empty


def did(shop: Shop) -> list[int]:
    """The items that were doubled, in that order."""
    file = shop.root / "did.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def steps(shop: Shop, run: int) -> dict[str, str]:
    return {s["key"]: s["status"] for s in shop.call("runs", "show", str(run), "--json").json()["steps"]}


# Parameters


def test_parameters_are_options_too(work: Shop) -> None:
    told = work.call("run", "publish", "--days", "4", "--loud", "--only", "city=turin")
    assert "turin: 12!" in told.out
    assert "lisbon" not in told.out
    again = work.call("run", "publish", "--param", "days=4", "--loud=true", "--json")
    assert {i["outcome"] for i in again.json() if i["target"].startswith("double[city=turin")} == {"cached"}
    assert "4 numbers of lisbon" in again.err  # what steps print is not JSON
    (first, second) = reversed(work.call("runs", "list", "--json").json())
    assert first["params"] == {"city": "turin", "days": 4, "loud": True}
    assert second["params"] == {"days": 4, "loud": True}
    assert did(work) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("publish", "--dys", "3"), "did you mean 'days'?"),
        (("publish", "--days", "three"), "a whole number"),
        (("publish", "--only", "city=porto"), "lisbon, turin"),
        (("publish", "--only", "days=3"), "there are: city"),
        (("publish", "--param", "days"), "name=value"),
        (("publish", "delivery"), "a pipeline runs by itself"),
        (("publsh", "--days", "3"), "did you mean 'publish'?"),
        (("delivery", "--days", "3"), "takes no parameters, got --days"),
        (("--jsn",), "--jsn"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_wrong_parameters_get_a_sentence(work: Shop, verb: str, arguments: tuple[str, ...], told: str) -> None:
    assert told in work.call(verb, *arguments, code=2).err
    assert "no run yet" in work.call("runs", "list").out


def test_plan_tells_of_a_pipeline(work: Shop) -> None:
    work.call("run", "publish")
    assert "everything is up to date" in work.call("plan", "publish").out
    told = work.call("plan", "publish", "--days", "4", "--why").out
    assert "parameter days: 3 → 4" in told
    assert "up to date" not in told
    planned = work.call("plan", "publish", "--json").json()
    assert {step["status"] for step in planned} == {"cached"}


def test_a_built_in_stage_is_a_step(work: Shop) -> None:
    work.call("run", "counted")
    assert steps(work, 1) == {"run:footfall": "done", "numbers": "done"}
    assert "5 entities" in work.call("runs", "logs", "1", "run:footfall").out
    assert "everything is up to date" in work.call("plan", "counted").out
    work.call("run", "counted")
    assert steps(work, 2) == {"run:footfall": "cached", "numbers": "cached"}
    work.edit("shop/features.py", 'hw.count(window="7d")},\n)', 'hw.count(window="8d")},\n)')
    assert "materialize footfall: this definition" in work.call("plan", "counted", "--why").out
    work.call("run", "counted")
    assert steps(work, 3) == {"run:footfall": "done", "numbers": "done"}


def test_words_of_the_command_line() -> None:
    assert split_options(["publish", "--days", "-3", "--x"]) == (("publish",), {"days": "-3", "x": "true"})
    assert split_options(["--a", "--b=c=d", "e"]) == (("e",), {"a": "true", "b": "c=d"})
    assert split_options(["--a", "1", "--a", "2"]) == ((), {"a": ["1", "2"]})
    assert named_values(["a=", "b=c=d"]) == {"a": "", "b": "c=d"}


# Looking


def test_a_run_is_listed_shown_and_its_logs_are_kept(work: Shop) -> None:
    assert "headway run" in work.call("runs", "list").out
    work.call("run", "publish", "--only", "city=lisbon")
    (work.root / "wrong").touch()
    work.call("run", "publish", "--only", "city=turin", code=1)
    listed = work.call("runs", "list", "--status", "failed", "--json").json()
    assert [run["id"] for run in listed] == [2]
    assert "no total today" in listed[0]["error"]
    assert [run["id"] for run in work.call("runs", "list", "--name", "publish", "--limit", "1", "--json").json()] == [2]
    assert "no such run" in work.call("runs", "list", "--name", "delivery").out
    shown = work.call("runs", "show", "1").out
    assert "city=lisbon, days=3" in shown
    assert "█" in shown
    assert "total[city=lisbon]" in shown
    assert "numbers=double[city=lisbon]" in shown  # where it came from
    assert "headway runs rerun 2" in work.call("runs", "show", "2").out
    assert "3 numbers of lisbon" in work.call("runs", "logs", "1").out
    assert "3 numbers of turin" in work.call("runs", "logs", "2", "numbers", "--follow").out
    (log,) = (work.home / "runs/2").glob("total*")
    assert 'raise ValueError("no total today")' in log.read_text()  # with the traceback, which nobody is shown unasked


def test_a_difference_is_told(work: Shop) -> None:
    work.call("run", "publish", "--only", "city=lisbon")
    work.call("run", "publish", "--only", "city=lisbon", "--days", "2")
    told = work.call("runs", "diff", "1", "2").out
    assert "days" in told
    assert "made of parameters" in told
    found = work.call("runs", "diff", "1", "2", "--json").json()
    assert found["params"] == [{"name": "days", "a": 3, "b": 2}]
    assert "the steps are the same" in work.call("runs", "diff", "1", "1").out


# Running again


def test_a_failed_run_goes_on_and_a_step_is_run_again(work: Shop) -> None:
    (work.root / "wrong").touch()
    work.call("run", "publish", "--only", "city=turin", code=1)
    (work.root / "wrong").unlink()
    work.call("runs", "rerun", "1", "--why", "mended")
    assert steps(work, 2)["double[city=turin,number=2]"] == "cached"
    assert steps(work, 2)["total[city=turin]"] == "done"
    assert did(work) == [0, 1, 2]
    work.call("runs", "rerun", "2", "--from", "double", "--param", "days=2")
    assert steps(work, 3)["numbers[city=turin]"] == "done"
    assert did(work) == [0, 1, 2, 0, 1]
    shown = work.call("runs", "show", "3", "--json").json()["run"]
    assert (shown["parent"], shown["from_step"], shown["params"]["days"]) == (2, "double", 2)


def test_a_fan_out_that_was_killed_goes_on_with_the_unfinished_items(work: Shop) -> None:
    (work.root / "slow").touch()
    child = subprocess.Popen(
        work.command("run", "publish", "--days", "100", "--only", "city=turin"),
        cwd=work.root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while len(did(work)) < 40 and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    before = did(work)
    assert 40 <= len(before) < 100
    assert work.call("runs", "list", "--json").json()[0]["status"] == "crashed"
    (work.root / "slow").unlink()
    work.call("runs", "rerun", "1")
    again = did(work)[len(before) :]
    assert set(before) | set(again) == set(range(100))
    assert len(set(before) & set(again)) <= 1  # the one that was cut short
    assert list(steps(work, 2).values()).count("cached") >= len(before) - 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "7"), "there is no run 7"),
        (("show", "one"), "'id'"),
        (("logs", "1", "doubel"), "did you mean 'double"),
        (("logs", "7"), "there is no run 7"),
        (("diff", "1", "7"), "there is no run 7"),
        (("rerun", "1", "--from", "totl"), "did you mean 'total"),
        (("rerun", "1", "--param", "dys=1"), "did you mean 'days'?"),
        (("cancel", "7"), "there is no run 7"),
        (("execute", "1"), "is done already"),
        (("list", "--status", "don"), "did you mean 'done'?"),
    ],
)
def test_nonsense_gets_a_sentence(work: Shop, arguments: tuple[str, ...], told: str) -> None:
    work.call("run", "publish", "--only", "city=lisbon", "--days", "1")
    assert told in work.call("runs", *arguments, code=2).err


def test_runs_are_told_when_the_project_is_broken(work: Shop) -> None:
    work.call("run", "publish", "--only", "city=lisbon", "--days", "1")
    (work.root / "shop/broken.py").write_text("1 +")
    assert "publish" in work.call("runs", "list").out
    assert "publish" in work.call("runs", "show", "1").out
    assert work.call("runs", "cancel", "1", "--json").json() == {"run": 1, "status": "done"}


def test_no_project(tmp_path: Path) -> None:
    for verb in (("list",), ("show", "1"), ("logs", "1"), ("diff", "1", "2"), ("rerun", "1"), ("cancel", "1")):
        assert "headway.toml" in Shop(tmp_path).call("runs", *verb, code=1).err


def test_a_second_runs_list_of_a_project_without_runs_speaks_json(tmp_path: Path) -> None:
    shop = project.build(tmp_path / "shop")
    assert shop.call("runs", "list", "--json").json() == []
