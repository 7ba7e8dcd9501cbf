"""Features computed from other features of the view, by SQL, row by row."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa

from headway.data.compute._aggregate import Age
from headway.data.compute._types import arrow_type, from_numpy
from headway.data.engine import Engine
from headway.define.records import BEGINNING, FOREVER, FeaturePlan, ViewPlan
from headway.errors import DataError


class Expressions:
    """The exprs of a view, in an order in which each comes after those it names."""

    def __init__(self, plan: ViewPlan) -> None:
        self._plan = plan
        self._ordered = list(_in_order(plan.features))

    def ages(self, known: Mapping[str, Age]) -> dict[str, Age]:
        """An expr of latest values is as old as the oldest of them that is there, and expires with it."""
        found = dict(known)
        for feature in self._ordered:
            behind = [found[name] for name in feature.inputs if name in found]
            if behind:
                events = [np.where(age.event == BEGINNING, FOREVER, age.event) for age in behind]
                oldest = np.minimum.reduce(events)
                expired = np.logical_or.reduce([age.expired for age in behind])
                found[feature.name] = Age(np.where(oldest == FOREVER, BEGINNING, oldest), expired)
        return {name: age for name, age in found.items() if name not in known}

    def added(
        self, columns: Mapping[str, pa.Array], absent: np.ndarray, expired: Mapping[str, np.ndarray]
    ) -> dict[str, pa.Array]:
        """All columns in the plan's order; an expr is null where its row is ``absent`` and where it has expired."""
        if not self._ordered:
            return dict(columns)
        found = dict(columns)
        if not len(absent):
            found |= {f.name: pa.array([], arrow_type(f.type)) for f in self._ordered}
        else:
            engine = _engine(os.getpid())
            for feature in self._ordered:
                null = absent | expired[feature.name] if feature.name in expired else absent
                found[feature.name] = self._evaluated(engine, feature, found, null)
        return {feature.name: found[feature.name] for feature in self._plan.features}

    def _evaluated(
        self, engine: Engine, feature: FeaturePlan, columns: Mapping[str, pa.Array], null: np.ndarray
    ) -> pa.Array:
        of = {name: columns[name] for name in feature.inputs} or {"__row": from_numpy(np.zeros(len(null), np.int8))}
        sql = f'select {feature.expression} as value from "{self._plan.name}"'
        try:
            array = engine.query(sql, {self._plan.name: pa.table(of)}).column(0).combine_chunks()
        except DataError as error:
            raise DataError(f"feature {feature.name!r} of view {self._plan.name!r}: {error}") from None
        array = array.cast(arrow_type(feature.type, array.type))
        if not null.any():
            return array
        return array.take(from_numpy(np.arange(len(null)), null))


@lru_cache(maxsize=1)
def _engine(process: int) -> Engine:  # noqa: ARG001 - a forked child must open its own
    """One for all expressions: to open it takes longer than most of them."""
    engine = Engine()
    atexit.register(engine.close)
    return engine


def _in_order(features: tuple[FeaturePlan, ...]) -> Iterator[FeaturePlan]:
    """Binding has refused circles."""
    pending = [feature for feature in features if feature.kind == "expr"]
    while pending:
        waiting = {feature.name for feature in pending}
        yield from (feature for feature in pending if not waiting & set(feature.inputs))
        pending = [feature for feature in pending if waiting & set(feature.inputs)]
