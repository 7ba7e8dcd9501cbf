"""Runs of pipelines: edges, fan-outs, branches, failures."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from headway.errors import (
    Cancelled,
    CheckFailed,
    DefinitionError,
    GateRefused,
    NotFoundError,
    ProjectCodeError,
    UsageError,
)

CALLED = """
    def called(what):
        with open("calls.txt", "a") as file:
            print(what, file=file)
"""
BASIC = (
    CALLED
    + """
    @hw.step
    def load(days: int) -> list[int]:
        called("load")
        return list(range(days))
    @hw.step
    def work(item: int, factor: int = 2) -> int:
        called(f"work {item}")
        print("working on", item)
        return item * factor
    @hw.step
    def total(parts: list[int]) -> int:
        called(f"total {parts}")
        return sum(parts)
    @hw.pipeline
    def main(days: int = 3, factor: int = 2):
        found = work(each={"item": load(days)}, factor=factor)
        total(found)
"""
)


def test_a_run_does_every_step_once_and_the_next_one_nothing(steps):
    steps.write(a=BASIC)
    done = steps.run()
    assert done == dict.fromkeys(("load", "work", "work[item=0]", "work[item=1]", "work[item=2]", "total"), "done")
    assert steps.calls() == ["load", "work 0", "work 1", "work 2", "total [0, 2, 4]"]
    assert steps.value("total") == 6
    assert "working on 1" in steps.log("work[item=1]")
    assert steps.run() == dict.fromkeys(done, "cached")
    assert steps.calls() == []
    records = steps.records()
    assert records["total"].needs == ("work",)
    assert records["work[item=1]"].needs == ("load",)
    assert records["work[item=1]"].item == {"item": 1}
    assert records["total"].why == "as in run 1"


def test_a_changed_parameter_runs_what_depends_on_it(steps):
    steps.write(a=BASIC)
    steps.run()
    steps.calls()
    done = steps.run(days=4)
    assert steps.calls() == ["load", "work 3", "total [0, 2, 4, 6]"]
    assert done["work[item=1]"] == "cached"
    assert steps.records()["load"].why == "parameter days: 3 → 4"
    assert steps.run(days="4", factor=2).keys() == done.keys()
    assert steps.calls() == []


def test_a_pipeline_that_fans_out_is_laid_out_for_each_value(steps):
    steps.write(
        a=CALLED
        + """
    @hw.step
    def greet(city: str, word: str) -> str:
        called(city)
        return f"{word} {city}"
    @hw.step
    def shout(text: str) -> str:
        return text.upper()
    @hw.pipeline(each={"city": ["lisbon", "tallinn"]})
    def main(city: str, word: str = "hi"):
        text = greet(city, word)
        if city == "lisbon":
            shout(text)
    """
    )
    assert set(steps.run()) == {"greet[city=lisbon]", "shout[city=lisbon]", "greet[city=tallinn]"}
    assert steps.value("shout[city=lisbon]") == "HI LISBON"
    assert steps.records()["greet[city=tallinn]"].item == {"city": "tallinn"}
    assert steps.run(city="tallinn") == {"greet[city=tallinn]": "cached"}
    assert steps.run(city="turin") == {"greet[city=turin]": "done"}


def test_fan_outs_over_products_lists_of_handles_and_other_fan_outs(steps):
    steps.write(
        a="""
    @hw.step
    def one() -> int:
        return 1
    @hw.step
    def add(a: int, b: int) -> int:
        return a + b
    @hw.step
    def double(x: int) -> int:
        return 2 * x
    @hw.step
    def gather(xs: list[int], ys: dict) -> list:
        return [xs, ys]
    @hw.pipeline
    def main():
        sums = add(each={"a": [10, 20], "b": [1, one()]})
        doubled = double(each={"x": sums})
        gather(doubled, {"nothing": double(each={"x": []}), "one": [one(), 5]})
    """
    )
    done = steps.run()
    assert set(done.values()) == {"done"}
    assert steps.value("gather") == [[22, 22, 42, 42], {"nothing": [], "one": [1, 5]}]
    records = steps.records()
    assert records["double"].detail == "4 items"
    assert [key for key in records if "add" in key] == [
        "add",
        *(f"add[a={a},b={b}]" for a in (10, 20) for b in (1, "#1")),
    ]
    assert records["double[a=20,b=#1]"].needs == ("add[a=20,b=#1]",)


@pytest.mark.parametrize("enough", [True, False])
def test_the_branch_that_is_not_taken_is_skipped(steps, enough):
    steps.write(
        a="""
    @hw.step
    def look(enough: bool) -> bool:
        return enough
    @hw.step
    def yes() -> str:
        return "yes"
    @hw.step
    def no() -> str:
        return "no"
    @hw.step
    def tell(word: str | None) -> str:
        return f"it is {word}"
    @hw.pipeline
    def main(enough: bool):
        left = []
        def leaving():
            left.append(yes())
            return left[0]
        word = hw.when(look(enough), leaving, otherwise=lambda: no())
        tell(word)
        tell(left[0])
        tell(hw.when(enough, lambda: "plain"))
    """
    )
    done = steps.run(enough=enough)
    taken, left = ("yes", "no") if enough else ("no", "yes")
    assert (done[taken], done[left], done["tell"]) == ("done", "skipped", "done")
    assert steps.value("tell") == f"it is {taken}"
    assert done["tell#2"] == ("done" if enough else "skipped")
    assert steps.value("tell#3") == ("it is plain" if enough else "it is None")
    records = steps.records()
    wanted = "false" if enough is False else "true"
    assert records[left].why == f"its branch of hw.when was not taken: the condition (look) is {wanted}"
    if not enough:
        assert records["tell#2"].why.startswith("it needs 'yes', which was skipped: its branch")


def test_a_failure_stops_what_depends_on_it_and_nothing_else(steps):
    steps.write(
        a="""
    @hw.step
    def broken(x: int) -> int:
        if x == 2:
            raise ValueError("no twos")
        return x
    @hw.step
    def after(xs: list) -> int:
        return len(xs)
    @hw.step
    def apart() -> int:
        return 1
    @hw.step
    def many(x: int, y: list) -> int:
        return x
    @hw.pipeline
    def main():
        found = broken(each={"x": [1, 2, 3]})
        after(found)
        many(each={"x": [1, 2]}, y=found)
        after([apart()])
    """
    )
    with pytest.raises(ProjectCodeError, match=r"step 'broken\[x=2\]' failed: ValueError: no twos \(.*a\.py:6\)") as e:
        steps.run()
    assert isinstance(e.value.__cause__, ValueError)
    records = steps.records()
    assert {key: record.status for key, record in records.items()} == {
        "broken": "failed",
        "broken[x=1]": "done",
        "broken[x=2]": "failed",
        "broken[x=3]": "done",
        "after": "skipped",
        "many": "skipped",
        "apart": "done",
        "after#2": "done",
    }
    assert records["after"].why == "it needs 'broken', which failed"
    assert records["broken"].detail == "3 items: 2 done, 1 failed"
    assert "Traceback" in steps.log("broken[x=2]")
    steps.edit("a", "x == 2", "x == 4")
    assert steps.run()["after"] == "done"


def test_built_in_stages_are_entered_each_time_and_their_outcome_counts(steps):
    steps.write(
        a=CALLED
        + """
    rows = hw.Source("rows", path="rows.csv")
    @hw.step
    def export(days: int) -> str:
        called("export")
        return "x"
    @hw.pipeline
    def main():
        export(7, after=hw.run(rows))
    """
    )
    steps.targets["rows"] = {"version": 1, "detail": "3 rows", "status": "done"}
    assert steps.run() == {"run:rows": "done", "export": "done"}
    assert steps.records()["run:rows"].detail == "3 rows"
    steps.targets["rows"] = {"version": 1, "detail": "nothing to do", "status": "cached"}
    assert steps.run() == {"run:rows": "cached", "export": "cached"}
    steps.targets["rows"] = {"version": 2}
    assert steps.run() == {"run:rows": "done", "export": "done"}
    assert steps.records()["export"].why == "what run:rows gave changed"
    steps.targets["rows"] = CheckFailed("3 rows are bad")
    with pytest.raises(CheckFailed, match="3 rows are bad"):
        steps.run()
    assert steps.records()["run:rows"].status == "refused"
    assert steps.records()["export"].why == "it needs 'run:rows', which refused"


def test_a_step_may_refuse(steps):
    steps.write(
        a="""
    from headway.errors import GateRefused
    @hw.step(retries=3)
    def gate() -> int:
        raise GateRefused("not good enough")
    @hw.pipeline
    def main():
        gate()
    """
    )
    with pytest.raises(GateRefused, match="not good enough"):
        steps.run()
    assert steps.records()["gate"].status == "refused"
    assert steps.records()["gate"].attempt == 1


def test_retries_wait_longer_each_time(steps, monkeypatch):
    pauses = []
    monkeypatch.setattr("headway.orchestrate.steps._execute.time.sleep", pauses.append)
    steps.write(
        a=CALLED
        + """
    @hw.step(retries=3, backoff="2s")
    def flaky() -> int:
        called("try")
        with open("calls.txt") as file:
            tries = len(file.readlines())
        if tries < 4:
            raise OSError("busy")
        return 1
    @hw.pipeline
    def main():
        flaky()
    """
    )
    assert steps.run() == {"flaky": "done"}
    assert pauses == [2, 4, 8]
    record = steps.records()["flaky"]
    assert record.attempt == 4
    assert record.why.startswith("attempt 3 failed: OSError: busy (")
    assert record.error == ""


def test_running_again_from_a_step(steps):
    steps.write(a=BASIC)
    steps.run()
    steps.calls()
    steps.run(from_step="work[item=1]")
    assert steps.calls() == ["work 1", "total [0, 2, 4]"]
    assert steps.records()["total"].why == "it was asked to run again from 'work[item=1]'"
    steps.run(from_step="work")
    assert steps.calls() == ["work 0", "work 1", "work 2", "total [0, 2, 4]"]
    with pytest.raises(NotFoundError, match="no step of the pipeline is called 'wrok'; did you mean 'work'"):
        steps.run(from_step="wrok")


def test_a_step_that_changes_its_input_changes_it_for_nobody_else(steps):
    steps.write(
        a="""
    import pandas as pd
    @hw.step
    def rows() -> dict[str, list[int]]:
        return {"a": [1]}
    @hw.step
    def table() -> pd.DataFrame:
        return pd.DataFrame({"a": [1, 2]})
    @hw.step
    def spoil(rows: dict, table: pd.DataFrame, given: list) -> int:
        rows["a"].append(2)
        table["a"] = 0
        given.append(1)
        return len(rows["a"]) + len(given)
    @hw.step
    def read(rows: dict, table: pd.DataFrame, given: list) -> list:
        return [rows, table["a"].tolist(), given]
    @hw.pipeline
    def main():
        made, frame, given = rows(), table(), []
        spoil(made, frame, given)
        read(made, frame, given)
    """
    )
    steps.run()
    assert steps.value("read") == [{"a": [1]}, [1, 2], []]
    assert steps.value("spoil") == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if one(): pass", r"what step 'one' gives is not known yet .* cannot be decided on; use hw\.when\(it, lambda"),
        ("[x for x in one()]", r"cannot be looped over or indexed; use each={'argument': it}"),
        ("one()[0]", "looped over or indexed"),
        ("len(one())", "looped over or indexed"),
        ("one() + 1", r"cannot be computed with; pass it to a step and do it there"),
        ("1 - one()", "computed with"),
        ("one() == 1", "computed with"),
        ("one().days", r"cannot be asked for \.days"),
        ("f'{one()}'", "turned into text"),
        ("one()()", "cannot be called"),
        ("int(one())", "computed with"),
        ("hw.when(one(), lambda: 1) + 1", r"what hw\.when gives is not known yet"),
        (
            "three({1: {one()}})",
            "its argument 'x' cannot be taken: it is dict with something inside that is none of these",
        ),
        ("two()", r"step 'two' \(.*a\.py:\d+\): missing a required argument: 'x'; it takes \(x: int\) -> int"),
        ("two(1, y=2)", "got an unexpected keyword argument 'y'"),
        ("two('1')", r"step 'two' .*: its argument 'x' cannot be taken: it is annotated int and is str"),
        ("two(x=1, each={'x': [1]})", "'x' is given both as an argument and in each="),
        ("two(each={'x': 3})", r"each={'x': …} takes a list, got int"),
        ("two(each={'x': ['a']})", "its argument 'x' cannot be taken: it is annotated int and is str"),
        ("two(each=[1])", "each= is a dict of an argument and its values"),
        ("two(each={'x': [0] * 10_001})", "a fan-out has at most 10000 items"),
        ("two(1, after=3)", "after= takes what other steps of the pipeline gave, got int"),
        ("two(lambda: 1)", "its argument 'x' cannot be taken: it is annotated int and is function"),
        ("hw.when(two(each={'x': [1]}), lambda: 1)", "is a list, one for each item, which hw.when cannot decide by"),
        ("hw.when(True, one())", r"hw\.when takes functions: lambda: one\(…\), and not what step 'one' gives"),
        ("hw.run(one)", "steps and pipelines are called"),
        ("1 / 0", r"pipeline 'main' \(.*a\.py:\d+\) cannot be laid out: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_laid_out_is_refused_in_a_sentence(steps, body, message):
    steps.write(
        a=f"""
    @hw.step
    def one() -> int:
        return 1
    @hw.step
    def two(x: int) -> int:
        return x
    @hw.step
    def three(x): return x
    @hw.pipeline
    def main():
        {body}
    """
    )
    with pytest.raises((UsageError, ProjectCodeError), match=message) as caught:
        steps.lay_out()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("steps_", "main", "message"),
    [
        (
            "def a() -> int:\n    return 'x'",
            "a()",
            r"step 'a' failed: what it returned does not fit: it is annotated int",
        ),
        ("def a(): return object()", "a()", "it is object, which cannot be kept: steps hand over JSON-able values"),
        ("def a(x: str): return x", "a(b())", r"its argument 'x' does not fit: it is annotated str and is int"),
        ("def a(x): return x", "a(each={'x': b()})", r"each={'x': …} takes a list, and got int"),
        ("def a(): raise SystemExit(3)", "a()", "SystemExit: 3"),
        ("def a(): return hw.run('b')", "a()", r"hw\.run\('b'\) is for the run of a pipeline"),
        ("def a() -> bytes: return b''", "hw.when(a(), lambda: b())", "hw.when decides by a value such as True"),
    ],
)
def test_what_goes_wrong_in_a_step_is_said_in_a_sentence(steps, steps_, main, message):
    steps.write(a=f"@hw.step\n{steps_}\n@hw.step\ndef b(): return 1\n@hw.pipeline\ndef main():\n    {main}\n")
    with pytest.raises((ProjectCodeError, UsageError), match=message) as caught:
        steps.run()
    assert "\n" not in str(caught.value)


def test_an_unknown_target_is_found_before_anything_runs(steps):
    steps.write(
        a=CALLED
        + """
    rows = hw.Source("rows", path="rows.csv")
    @hw.step
    def a(): called("a")
    @hw.pipeline
    def main():
        a()
        hw.run("row")
    """
    )
    with pytest.raises(NotFoundError, match="no target is called 'row'; did you mean 'rows'"):
        steps.run()
    assert steps.calls() == []


@pytest.fixture
def heeds_ctrl_c():
    """Started in the background of a shell, a process is given SIGINT to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_a_run_in_the_middle_of_a_step(steps):
    steps.write(
        a="""
    import time
    @hw.step
    def slow() -> int:
        open("begun", "x").close()
        time.sleep(30)
        return 1
    @hw.step
    def next(x): return x
    @hw.pipeline
    def main():
        next(slow())
    """
    )

    def interrupt():
        while not (steps.root / "begun").exists():
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    begin = time.monotonic()
    with pytest.raises((KeyboardInterrupt, Cancelled)):
        steps.run()
    assert time.monotonic() - begin < 20
    assert {record.status for record in steps.records().values()} == {"cancelled"}


def test_a_pipeline_within_a_pipeline_is_laid_out_in_its_place(steps):
    steps.write(
        a="""
    @hw.step
    def one(x: int = 1) -> int: return x
    @hw.pipeline
    def inner(x: int): return one(x)
    @hw.pipeline
    def main(): one(inner(5))
    """
    )
    assert steps.run() == {"one": "done", "one#2": "done"}
    assert steps.value("one#2") == 5


def test_a_step_called_in_a_step_is_its_function(steps):
    steps.write(
        a="""
    @hw.step
    def one() -> int: return 1
    @hw.step
    def two() -> list[int]: return [one(), *one_each()]
    @hw.step
    def twice(x): return 2 * x
    def one_each(): return twice(each={"x": [1, 2]})
    @hw.pipeline
    def main(): two()
    """
    )
    assert steps.run() == {"two": "done"}
    assert steps.value("two") == [1, 2, 4]


def test_a_step_with_a_timeout_that_no_worker_can_find_is_refused(steps):
    steps.write(
        a="""
    def make():
        @hw.step(timeout="1m")
        def hidden() -> int: return 1
        return hidden
    hidden = make()
    @hw.pipeline
    def main(): hidden()
    """
    )
    with pytest.raises(DefinitionError, match="it has a timeout, so it runs in a worker process, which has to find it"):
        steps.run()


def test_annotations_that_are_text_count_as_far_as_they_can_be_read(steps):
    steps.write(
        a="""
    from __future__ import annotations
    from typing import TYPE_CHECKING
    import datetime as dt
    if TYPE_CHECKING:
        import pandas as pd
        import polars as pl
    @hw.step
    def day() -> dt.date: return dt.date(2024, 1, 5)
    @hw.step
    def frame(day: dt.date) -> pd.DataFrame:
        import pandas
        return pandas.DataFrame({"day": [day.isoformat()]})
    @hw.step
    def kinds(first: pd.DataFrame, second: pl.DataFrame, third) -> list[str]:
        return [type(each).__module__.split(".")[0] for each in (first, second, third)]
    @hw.pipeline
    def main():
        made = frame(day())
        kinds(made, made, made)
    """
    )
    file = steps.root / "stepsproj" / "a.py"
    file.write_text(
        file.read_text()
        .replace("import headway as hw\n", "", 1)
        .replace("import datetime", "import headway as hw\nimport datetime")
    )
    steps.run()
    assert steps.value("kinds") == ["pandas", "polars", "pandas"]


def test_what_a_branch_gave_counts_where_a_step_comes_after_it(steps):
    steps.write(
        a="""
    @hw.step
    def one(x: int) -> int: return x
    @hw.step
    def last() -> int: return 0
    @hw.pipeline
    def main(x: int = 1):
        last(after=hw.when(True, lambda: [one(x)]))
    """
    )
    steps.run()
    assert steps.run()["last"] == "cached"
    assert steps.run(x=2)["last"] == "done"
    assert steps.records()["last"].why == "what hw.when[0] gave changed"


def test_ten_thousand_items_are_possible_and_more_are_not(steps):
    steps.write(
        a="""
    @hw.step
    def xs(n: int) -> list[int]: return list(range(n))
    @hw.step
    def one(x: int) -> int: return x
    @hw.pipeline
    def main(n: int): one(each={"x": xs(n)})
    """
    )
    with pytest.raises(UsageError, match=r"step 'one' .*: a fan-out has at most 10000 items, and each= gives 10001"):
        steps.run(n=10_001)
    assert steps.records()["one"].status == "failed"
