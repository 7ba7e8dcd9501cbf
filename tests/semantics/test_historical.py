"""Training columns are what the oracle says, for every view of `world` and thousands of moments."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from tests.semantics.conftest import Opener
from tests.semantics.rows import (
    INSTANT,
    LORD_HOWE,
    NAIVE,
    NEW_YORK,
    PAIRS,
    USERS,
    any_time,
    local_time,
    more,
    oracle,
)

from headway.define import FeatureView
from headway.orchestrate.ingest import copy
from headway.project import Project
from headway.testing.oracle import Oracle, micros, same, to_utc

SPINE = 500
LATER = "2030-01-01T00:00:00Z"
ZONES: Mapping[str, tuple[str, Sequence[datetime]]] = {
    "new_york": ("America/New_York", NEW_YORK),
    "lord_howe": ("Australia/Lord_Howe", LORD_HOWE),
}
Time = Callable[[random.Random], datetime]


def asked(r: random.Random, keys: list[tuple[Any, ...]], time: Time) -> list[tuple[tuple[Any, ...], datetime | None]]:
    """Entities and moments: known and unknown ones, nulls, and some of them twice."""
    found = [(r.choice(keys), r.choice([None, *[time(r)] * 40])) for _ in range(SPINE)]
    return found + r.sample(found, SPINE // 5)


def all_keys(view: FeatureView) -> list[tuple[Any, ...]]:
    if len(view.entity.key) == 2:
        return [*PAIRS, ("1", ""), ("12", "23"), (None, None)]
    return [*((k,) for k in range(USERS)), *((k % 60,) for k in range(USERS)), (-1,), (10**12,), *[(None,)] * 5]


def spine(view: FeatureView, rows: Sequence[tuple[tuple[Any, ...], datetime | None]], kind: pa.DataType) -> pa.Table:
    key_type = pa.int64() if len(view.entity.key) == 1 else pa.string()
    columns = {k: pa.array([key[n] for key, _ in rows], key_type) for n, k in enumerate(view.entity.key)}
    return pa.table(columns | {"ts": pa.array([t for _, t in rows], kind), "row": pa.array(range(len(rows)))})


def differences(
    view: FeatureView, truth: Oracle, rows: Sequence[tuple[tuple[Any, ...], int | None]], found: pa.Table
) -> list[str]:
    """One line for each value that is not what it must be."""
    columns = {f.name: found.column(f"{view.name}__{f.name}").to_pylist() for f in view.features}
    wrong = []
    for n, (key, t) in enumerate(rows):
        for name, right in truth.values(key, t).items():
            if not same(columns[name][n], right):
                wrong.append(f"{view.name}.{name} of {key} at {t}: {columns[name][n]!r}, not {right!r}")
    return wrong


def compare(project: Project, view: FeatureView, truth: Oracle, r: random.Random) -> list[str]:
    zone, days = ZONES.get(view.source.name, (None, ()))
    rows = asked(r, all_keys(view), (lambda r: local_time(r, days)) if zone else any_time)
    table = spine(view, rows, NAIVE if zone else INSTANT)
    found = project.features.historical(table, [view], timezone=zone)
    assert found.select(table.column_names).equals(table)
    assert found.column_names == [*table.column_names, *(f"{view.name}__{f.name}" for f in view.features)]
    moments = [(key, None if t is None else micros(to_utc(t, zone))) for key, t in rows]
    return differences(view, truth, moments, found)


@pytest.mark.parametrize("seed", range(3))
def test_every_view_gives_what_the_oracle_says(seed: int, open_world: Opener) -> None:
    r = random.Random(seed)
    rows = more(r, {}, 700)
    project = open_world(rows, LATER)
    declared = project.declarations
    for source in declared.sources.values():
        if source.path is not None:
            copy(project.parts, source)
    wrong = []
    for view in declared.views.values():
        wrong += compare(project, view, oracle(view, declared.sources, rows), r)
    assert not wrong, f"{len(wrong)} values, such as\n" + "\n".join(wrong[:20])


__all__ = ["UTC"]
