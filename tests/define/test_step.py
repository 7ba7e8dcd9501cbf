"""Steps and pipelines as functions, and what is refused of them."""

from __future__ import annotations

import datetime as dt
import inspect
import pickle
import sys
import textwrap
from pathlib import Path
from typing import Literal

import pytest

import headway as hw
from headway.define._collect import collect
from headway.define._parameters import parameters, read_parameters
from headway.define._step import active_project, product
from headway.errors import DefinitionError, NotFoundError, UsageError


@hw.step(retries=2, backoff="2s", timeout="10m", cache=False, owner="me", tags=["a"])
def export(city: str, days: int = 7) -> str:
    """Write a report."""
    return f"{city} {days}"


@hw.step
def double(x):
    return 2 * x


@hw.pipeline(each={"city": ["lisbon", "tallinn"]})
def publish(city: str, days: int = 1):
    first = export(city, days)
    return hw.when(first, lambda: export(city, after=first), otherwise=lambda: None)


def test_a_step_is_its_function():
    assert export("lisbon") == "lisbon 7"
    assert (export.__name__, export.__doc__, export.__module__) == ("export", "Write a report.", __name__)
    assert export.__wrapped__("a") == "a 7"
    assert inspect.signature(export) == inspect.signature(export.__wrapped__)
    assert (export.retries, export.backoff, export.timeout, export.cache) == (2, 2_000_000, 600_000_000, False)
    assert (export.description, export.owner, export.tags) == ("Write a report.", "me", ("a",))
    assert export.place.file == __file__


def test_after_is_ignored_and_each_gives_a_list_where_nothing_records():
    assert double(1, after="anything") == 2
    assert double(each={"x": [1, 2]}, after=3) == [2, 4]
    assert export(each={"city": ["a", "b"], "days": [1, 2]}) == ["a 1", "a 2", "b 1", "b 2"]


def test_a_pipeline_just_runs():
    assert publish("turin") == "turin 7"
    assert publish() == ["lisbon 7", "tallinn 7"]
    assert publish(days=2) == publish()
    with pytest.raises(UsageError, match=r"pipeline 'publish' \(.*\): got an unexpected keyword argument 'dayz'"):
        publish(dayz=2)


def test_when_calls_the_branch_that_is_chosen():
    assert hw.when(1, lambda: "yes", lambda: "no") == "yes"
    assert hw.when(0, lambda: "yes", lambda: "no") == "no"
    assert hw.when(0, lambda: "yes") is None
    with pytest.raises(UsageError, match="functions without arguments, such as lambda: export"):
        hw.when(True, "yes")


def test_run_needs_a_run_or_a_project():
    source = hw.Source("rows", path="rows.csv")
    with pytest.raises(UsageError, match="use `headway run rows`, or project.run\\('rows'\\)"):
        hw.run(source)
    with active_project(lambda name: {"ran": name}):
        assert hw.run(source) == {"ran": "rows"}
        assert hw.run("rows") == {"ran": "rows"}
    with pytest.raises(UsageError, match="steps and pipelines are called"):
        hw.run(export)


def test_a_step_is_pickled_by_name():
    sys.modules.setdefault(__name__, sys.modules[export.__module__])
    assert pickle.loads(pickle.dumps(export)) is export
    assert export.findable

    @hw.step
    def hidden():
        pass

    assert not hidden.findable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hw.step(lambda x: x), r"step \(.*\): @hw.step goes before a function with a name"),
        (lambda: hw.step(retries=-1)(free), r"step 'free' \(.*test_step.py:\d+\): retries is a whole number from 0 to"),
        (lambda: hw.step(retries=True)(free), "retries is a whole number"),
        (lambda: hw.step(timeout="0s")(free), "timeout is longer than nothing"),
        (lambda: hw.step(timeout="soon")(free), "timeout is a whole number and a unit, such as '15m'"),
        (lambda: hw.step(backoff=3)(free), "backoff is text such as '15m'"),
        (lambda: hw.step(cache=1)(free), "cache is True or False, got 1"),
        (lambda: hw.step(name="no name")(free), "'no name' is not a name"),
        (lambda: hw.step(export), "it is a step already"),
        (lambda: hw.step(taken), "an argument cannot be called 'after', which every step takes"),
        (lambda: hw.step(later), "it is an ordinary function that returns a value, not async"),
        (lambda: hw.pipeline(publish), "it is a pipeline already"),
        (lambda: hw.pipeline(each={"town": [1]})(free), "each names 'town', which is none of its parameters"),
        (lambda: hw.pipeline(each={"x": 1})(free), "takes a list of values, got 1"),
        (lambda: hw.pipeline(each={"x": []})(free), "takes a list of values"),
        (lambda: hw.pipeline(schedule="0 25 * * *")(free), r"pipeline 'free' \(.*\): a schedule is a cron line"),
        (lambda: hw.pipeline(missed="all")(free), "missed belongs to a schedule given as a cron line, and there is no"),
        (lambda: hw.pipeline(schedule="* * * * *", overlap="both")(free), "overlap is one of skip, queue, allow"),
    ],
)
def test_what_is_no_step_is_refused(make, message):
    with pytest.raises(DefinitionError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def free(x):
    return x


def taken(after):
    return after


async def later():
    return 1


def test_a_schedule_has_the_policies_given():
    made = hw.pipeline(schedule="0 5 * * *", timezone="Europe/Lisbon", missed="all", jitter="5m")(free)
    assert (made.schedule.cron, made.schedule.timezone, made.schedule.missed) == ("0 5 * * *", "Europe/Lisbon", "all")
    assert hw.pipeline(schedule="0 5 * * *")(free).schedule.timezone == "UTC"
    given = hw.Schedule("0 5 * * *", overlap="queue")
    assert hw.pipeline(schedule=given)(free).schedule is given
    with pytest.raises(DefinitionError, match="the hw.Schedule has its own"):
        hw.pipeline(schedule=given, missed="all")(free)


def test_a_product_has_every_combination():
    assert product(export, {"a": [1, 2], "b": ["x"]}) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]


# Parameters


@hw.pipeline(each={"city": ["lisbon", "tallinn"]})
def many(
    city: str,
    day: dt.date,
    days: int = 7,
    kind: Literal["full", "quick"] = "full",
    cities: list[str] | None = None,
    share: float = 0.5,
    dry: bool = False,
    at: dt.datetime | None = None,
    free=3,
):
    """Publish.

    days: how many days
    share (float): how much of it
    """


def test_parameters_are_read_from_the_signature_and_the_docstring():
    found = {p.name: p for p in parameters(many)}
    assert [p.type for p in found.values()] == [
        *("str", "date", "int", "str", "list[str]", "float", "bool", "datetime", "int")
    ]
    assert (found["city"].each, found["city"].required) == (("lisbon", "tallinn"), False)
    assert found["day"].required
    assert (found["kind"].choices, found["kind"].default) == (("full", "quick"), "full")
    assert (found["days"].description, found["share"].description) == ("how many days", "how much of it")
    assert found["cities"].optional


def test_text_and_json_become_values():
    text = {
        "day": "2024-01-31",
        "days": "3",
        "kind": "quick",
        "cities": "a, b",
        "share": "0.25",
        "dry": "yes",
        "at": "2024-01-01T00:00:00Z",
        "free": 4,
    }
    found = read_parameters(many, text)
    assert found == {
        "day": dt.date(2024, 1, 31),
        "days": 3,
        "kind": "quick",
        "cities": ["a", "b"],
        "share": 0.25,
        "dry": True,
        "at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        "free": 4,
    }
    assert read_parameters(many, found) == found
    assert read_parameters(many, {"day": "2024-01-31", "cities": '["a,b"]', "city": "turin"})["cities"] == ["a,b"]
    assert read_parameters(many, {"day": "2024-01-31", "cities": ""})["cities"] is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "pipeline 'many' needs a value for 'day': --param day=…"),
        ({"day": "soon"}, "'day' takes a date such as 2024-01-31, got 'soon'"),
        ({"day": dt.datetime(2024, 1, 1)}, "'day' takes a date"),
        ({"days": "3.5"}, "'days' takes a whole number, got '3.5'"),
        ({"days": True}, "'days' takes a whole number, got True"),
        ({"days": None}, "'days' takes a whole number, got nothing"),
        ({"share": "nan"}, "'share' takes a number, got 'nan'"),
        ({"dry": "perhaps"}, "'dry' takes true or false, got 'perhaps'"),
        ({"kind": "slow"}, "'kind' is one of full, quick, got 'slow'"),
        ({"cities": [1]}, "'cities' takes a list, each of them text, got 1"),
        ({"at": "2024-01-01T00:00:00"}, "'at' takes a time such as 2024-01-31T13:00:00Z"),
        ({"city": 3}, "'city' takes text, got 3"),
    ],
)
def test_what_does_not_fit_a_parameter_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        read_parameters(many, {"day": "2024-01-31", **given} if given else {})


def test_a_name_that_is_no_parameter_is_refused():
    with pytest.raises(NotFoundError, match="no parameter of many is called 'sharee'; did you mean 'share'"):
        read_parameters(many, {"sharee": 1})


@pytest.mark.parametrize("text", ["x: bytes", "x: dict[str, int]", "*x: int", "x: list[list[int]]"])
def test_a_parameter_of_another_type_is_refused(text):
    space: dict = {}
    exec(f"def odd({text}): pass", space)
    with pytest.raises(DefinitionError, match="parameters are str, int, float|its parameters are given by name"):
        parameters(hw.pipeline(space["odd"]))


# Collecting


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str):
        (tmp_path / "stepdefs").mkdir()
        (tmp_path / "stepdefs" / "__init__.py").write_text("import headway as hw\n" + textwrap.dedent(text))
        return collect("stepdefs", tmp_path)

    path = list(sys.path)
    yield write
    sys.path[:] = path
    sys.modules.pop("stepdefs", None)


def test_steps_and_pipelines_are_found_in_modules(write):
    found = write(
        """
        @hw.step
        def one(): pass
        @hw.pipeline
        def main(): one()
        more = [hw.pipeline(name="other")(main.__wrapped__)]
        """
    )
    assert set(found.steps) == {"one"}
    assert set(found.pipelines) == {"main", "other"}


def test_two_steps_of_one_name_and_a_pipeline_named_like_a_source_are_refused(write, tmp_path):
    with pytest.raises(DefinitionError, match=r"pipeline 'rows' .*: `headway run rows` would mean the source at"):
        write(
            """
            rows_source = hw.Source("rows", path="rows.csv")
            @hw.pipeline
            def rows(): pass
            """
        )
    sys.modules.pop("stepdefs", None)
    (tmp_path / "stepdefs" / "__init__.py").write_text(
        "import headway as hw\nx = hw.step(name='a')(lambda: 1) if 0 else None\n"
        "def f(): pass\na = hw.step(name='a')(f)\nb = hw.step(name='a')(f)\n"
    )
    with pytest.raises(DefinitionError, match=r"another step at .* has the same name; rename one of them"):
        collect("stepdefs", tmp_path)
