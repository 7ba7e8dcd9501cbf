"""What a deployment log amounts to."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.define.records import Deployment
from headway.metadata import answering, held, live, live_version, previous, standing

Action = Literal["promote", "rollback", "hold", "release"]
Step = tuple[Action, str | None, int | None]

SEGMENTS = ("Queens", "Bronx")


def build(*steps: tuple[Any, ...]) -> list[Deployment]:
    """A log from (action, segment, version) and, for automatic promotions, a fourth item."""
    return [
        Deployment(i, "m", step[1], step[2], step[0], "me", i, "", {"automatic": len(step) > 3})
        for i, step in enumerate(steps, 1)
    ]


def up(version: int, segment: str | None = None) -> Step:
    return ("promote", segment, version)


def back(segment: str | None = None) -> Step:
    return ("rollback", segment, None)


@pytest.mark.parametrize(
    ("steps", "now"),
    [
        ([], {}),
        ([up(1)], {None: 1}),
        ([up(1), up(3), back()], {None: 1}),
        ([up(1), up(2), up(3), back(), back()], {None: 1}),
        ([up(1), up(2), back(), up(3), back()], {None: 1}),  # not 2, which was rolled back
        ([up(2), up(1), back()], {None: 2}),  # the log, not the numbers
        ([up(1), up(2), up(2), back()], {None: 1}),  # promoting what is live adds no step
        ([up(1), up(2, "Queens")], {None: 1, "Queens": 2}),
        ([up(1), up(2, "Queens"), back("Queens")], {None: 1}),  # back to the model-wide line
        ([up(1), up(2), back("Queens")], {None: 2, "Queens": 1}),
        ([up(1), up(2), up(3), back("Queens"), back("Queens")], {None: 3, "Queens": 1}),
        ([up(1), up(2, "Queens"), up(3)], {None: 3}),  # a model-wide promotion reaches every segment
        ([up(1), up(2, "Queens"), up(3), back()], {None: 1, "Queens": 2}),  # and gives back what each had
        ([up(1), up(2), up(3, "Queens"), back()], {None: 1, "Queens": 3}),
        ([up(2, "Queens")], {"Queens": 2}),
        ([up(1), ("hold", None, None), ("release", None, None)], {None: 1}),
    ],
)
def test_what_is_live(steps: list[Step], now: dict[str | None, int]) -> None:
    assert live(build(*steps)) == now


@pytest.mark.parametrize(
    ("steps", "segment", "version"),
    [
        ([], None, None),
        ([up(1)], None, None),
        ([up(1), up(1)], None, None),
        ([up(1), up(4)], None, 1),
        ([up(1), up(4), back()], None, None),
        ([up(1), up(2, "Queens")], "Queens", 1),
        ([up(1), up(2, "Queens")], "Bronx", None),
        ([up(1), up(2)], "Queens", 1),
        ([up(1), up(2, "Queens")], None, None),
    ],
)
def test_what_a_rollback_would_give(steps: list[Step], segment: str | None, version: int | None) -> None:
    assert previous(build(*steps), segment) == version


@pytest.mark.parametrize(
    ("steps", "segment", "by"),
    [
        ([up(1), up(2)], None, None),
        ([up(1), up(2), back()], None, 3),
        ([up(1), up(2), back()], "Queens", 3),
        ([up(1), up(2), back("Queens")], "Queens", 3),
        ([up(1), up(2), back("Queens")], "Bronx", None),
        ([up(1), up(2), back("Queens")], None, 3),  # a model-wide promotion would reach Queens
        ([up(1), ("hold", None, None)], None, 2),
        ([up(1), up(2), back(), ("release", None, None)], None, None),
        ([up(1), up(2), back("Queens"), ("release", "Queens", None)], None, None),
        ([up(1), up(2), back("Queens"), ("release", "Bronx", None)], None, 3),
        ([up(1), up(2), back(), up(3)], None, None),
        ([up(1), up(2), back(), up(3, "Queens")], None, 3),
        ([up(1), up(2), back("Queens"), up(3)], "Queens", None),
        ([up(1), up(2), back(), ("promote", None, 3, "automatic")], None, 3),
    ],
)
def test_what_holds_automatic_promotion(steps: list[Step], segment: str | None, by: int | None) -> None:
    found = held(build(*steps), segment)

    assert (found and found.id) == by


steps = st.lists(
    st.tuples(
        st.sampled_from(["promote", "promote", "rollback"]),
        st.sampled_from([None, *SEGMENTS]),
        st.integers(1, 5),
    ),
    max_size=14,
)


@given(steps)
def test_against_one_stack_per_segment(wanted: list[Step]) -> None:
    """The same rules, told as one stack of (decision, version) per segment, with "*" for a segment never named."""
    stacks: dict[str | None, list[tuple[int, int]]] = {s: [] for s in (None, "*", *SEGMENTS)}
    done: list[Step] = []
    for number, (action, segment, version) in enumerate(wanted):
        stack = stacks[segment]
        going = [v for _, v in stack if v != stack[-1][1]]
        assert previous(build(*done), segment) == (going[-1] if going else None)
        if action == "promote":
            assert version is not None
            for name, each in stacks.items():
                if segment is None or name == segment:
                    each.append((number, version))
        elif not going:
            continue
        else:
            top, gone = stack[-1][1], set()
            while stack[-1][1] == top:
                gone.add(stack.pop()[0])
            if segment is None:
                for name in stacks:
                    stacks[name] = [d for d in stacks[name] if d[0] not in gone]
        done.append((action, segment, version if action == "promote" else stacks[segment][-1][1]))

    log = build(*done)
    for segment, stack in stacks.items():
        assert live_version(log, segment) == (stack[-1][1] if stack else None)
        assert live(log).get(segment, live(log).get(None)) == live_version(log, segment)
        assert [line.version for line in standing(log, segment)] == [v for _, v in stack]
    at_once = answering(log, SEGMENTS)
    for segment in (None, *SEGMENTS):
        found = at_once.get(segment)
        assert (found and found.version) == live_version(log, segment)
        assert (found and found.previous) == (previous(log, segment) if found else None)
        assert found is None or found.hold == held(log, segment)
        assert found is None or found.line.version == found.version
