"""Schedules that can be declared, and one sentence about those that cannot."""

from __future__ import annotations

from typing import Any

import pytest

import headway as hw
from headway.define import as_schedule
from headway.errors import DefinitionError

OWNER = hw.Entity("driver", key="driver_id")


@pytest.mark.parametrize(
    "cron",
    [
        "0 3 * * *",
        "*/15 9-17 * * mon-fri",
        "0 0 1 jan,JUL *",
        "30 22-2 * * *",
        "0 0 L * *",
        "0 0 * * fri#2",
        "0 0 29 2 *",
        "0 0 * * 7",
        "0 0 ? * 1",
    ],
)
def test_what_cron_knows_is_accepted(cron: str) -> None:
    assert hw.Schedule(cron).cron == cron


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("0 3 * *", "five fields such as '0 3 * * *', got '0 3 * *'"),
        ("@daily", "five fields"),
        ("", "five fields"),
        (7, "five fields such as '0 3 * * *', got 7"),
        ("0 0 3 * * *", "five fields"),
        ("a 3 * * *", "'a' in 'a 3 * * *' is no cron field"),
        ("H 3 * * *", "'H' in"),
        ("R 3 * * *", "'R' in"),
        ("61 3 * * *", "cannot be read: 61 3 * * * is not acceptable, out of range"),
        ("*/0 3 * * *", "cannot be read"),
        ("0 0 30 2 *", "'0 0 30 2 *' never comes round"),
        ("0 3-3 * * *", "the range '3-3' in '0 3-3 * * *' has one value: write '3'"),
        ("0 3 * * mon-1", "the range 'mon-1'"),
        ("0 3 * * 7-0", "the range '7-0'"),
    ],
)
def test_what_is_no_cron_line_is_refused(cron: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        hw.Schedule(cron)

    assert said in str(refused.value)
    assert "test_schedule.py:" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone is a name of the time zone database .*, got 'Mars/Olympus'"),
        ({"timezone": "Europe"}, "timezone is a name"),
        ({"timezone": "../etc/passwd"}, "timezone is a name"),
        ({"timezone": None}, "timezone is a name"),
        ({"missed": "never"}, "missed is one of once, all, skip, got 'never'"),
        ({"overlap": "kill"}, "overlap is one of skip, queue, allow, got 'kill'"),
        ({"jitter": "a while"}, "jitter is a whole number and a unit"),
        ({"jitter": 5}, "jitter is text such as"),
        ({"jitter": "25h"}, "jitter is at most 24h, got '25h'"),
    ],
)
def test_policies_that_do_not_exist_are_refused(policies: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        hw.Schedule("0 3 * * *", **policies)


def test_schedules_compare_by_what_they_say() -> None:
    made = hw.Schedule("0 3 * * *", timezone="Europe/Lisbon", missed="all", overlap="queue", jitter="5m")

    assert made == hw.Schedule("0 3 * * *", timezone="Europe/Lisbon", missed="all", overlap="queue", jitter="5m")
    assert made != hw.Schedule("0 3 * * *", timezone="Europe/Lisbon")
    assert made.jitter_microseconds == 300_000_000
    assert (str(made), str(hw.Schedule("0 3 * * *"))) == ("0 3 * * * Europe/Lisbon", "0 3 * * *")


def test_a_cron_line_stands_for_a_schedule_with_the_usual_policies() -> None:
    given = hw.Schedule("0 3 * * *", missed="all")

    assert as_schedule(OWNER, "0 3 * * *") == hw.Schedule("0 3 * * *")
    assert as_schedule(OWNER, given) is given
    assert as_schedule(OWNER, None) is None
    with pytest.raises(DefinitionError, match=r"entity 'driver' \(.*test_schedule.py:\d+\): schedule is a cron line"):
        as_schedule(OWNER, 3)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="entity 'driver' .* never comes round"):
        as_schedule(OWNER, "0 0 31 4 *")
