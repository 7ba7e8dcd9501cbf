"""The online store as a stage: the values served now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headway.clock import stopwatch
from headway.data.online import OnlineReader, OnlineStore, read_matrix, read_table
from headway.data.spine import arrow_type, as_table
from headway.define import FeatureSet
from headway.define.records import Field, ViewUse
from headway.errors import NotFoundError, UsageError
from headway.orchestrate._parts import Parts
from headway.orchestrate._publish import check_keys
from headway.orchestrate.features import FeatureStage, Views

_LONGEST = 1.0  # seconds for which what views stand for is not looked up again
_MANY = 256  # of them


@dataclass(slots=True)
class _Resolved:
    """What was asked for, bound to its data. ``asked`` keeps the objects alive, whose identity is the key."""

    asked: Any
    uses: list[ViewUse]
    age: Callable[[], float]


class OnlineStage:
    """``project.online``: the values served now.

    The store stays open from the first read on, and what views and sets stand for is looked up once a second at the
    most: a definition or a type that changes beside an open project is noticed then.
    """

    def __init__(self, parts: Parts, features: FeatureStage) -> None:
        self._parts, self._features = parts, features
        self._store: OnlineStore | None = None
        self._reader: OnlineReader | None = None
        self._resolved: dict[Any, _Resolved] = {}

    def read(self, views: Views, keys: Any) -> pa.Table:
        """The latest values for ``keys``, in the order asked: keys, features, ``_as_of`` and ``_state``.

        ``views`` are views, aliases, selections or sets of features, by object or by name. ``keys`` maps key columns
        (an alias's own names) to lists, or is any table that speaks Arrow. See ``headway.data.online.read_table`` for
        the columns. Whatever the number of views, the store is asked once.
        """
        uses = self._uses(views)
        return read_table(self._open(), uses, as_table(keys, "keys"), self._parts.clock.now())

    def matrix(self, views: Views, keys: Any) -> np.ndarray:
        """The latest values as float64 (entities, columns), NaN where `read` has null: what an estimator or a ranker
        takes, in a fraction of the time that a table needs. A column for each feature in the order asked, and one for
        each item of a list; when the values speak for, and what they are worth, is what `read` says besides.
        """
        uses = self._uses(views)
        if not (_is_even(keys) and all(use.plan.keys for use in uses)):
            keys = as_table(keys, "keys")  # which also says what is wrong with them
        return read_matrix(self._open(), uses, keys, self._parts.clock.now())

    def read_text(self, name: str, keys: Mapping[str, Sequence[str]]) -> pa.Table:
        """``read`` for a view or a set and for keys given as text, as on a command line."""
        found = self._features.named(name)
        what = f"{'set' if isinstance(found, FeatureSet) else 'view'} {name!r}"
        fields = _key_fields(self._uses(name))
        for key in keys:
            if key not in fields:
                raise NotFoundError.among(f"key of {what}", key, list(fields))
        missing = [key for key in fields if key not in keys]
        if missing:
            raise UsageError(f"{what} needs the keys {', '.join(fields)}; {', '.join(missing)} is missing")
        columns = {}
        for key, field in fields.items():
            try:
                columns[key] = pa.array(keys[key], pa.string()).cast(arrow_type(field.type))
            except pa.ArrowException:
                got = ", ".join(map(repr, keys[key]))
                raise UsageError(f"key {key!r} of {what} is of type {field.type}, got {got}") from None
        return self.read(name, pa.table(columns))

    def close(self) -> None:
        """Let go of the store; the next read opens it again."""
        store, self._store, self._reader = self._store, None, None
        if store is not None:
            store.close()

    def _open(self) -> OnlineReader:
        if self._reader is None:
            self._store = self._parts.open_online(True)
            self._reader = OnlineReader(self._store)
        return self._reader

    def _uses(self, views: Views) -> list[ViewUse]:
        """What ``views`` stand for now: the plan of a set is put together once, not for every read."""
        key = (self._parts.changes, _key(views))
        found = self._resolved.get(key)
        if found is None or found.age() > _LONGEST:
            uses = [self._parts.binder.use(selection) for selection in self._features.selections(views)]
            check_keys("what is read", uses)
            if len(self._resolved) >= _MANY:
                self._resolved.clear()
            asked = list(views) if isinstance(views, list | tuple) else views
            found = self._resolved[key] = _Resolved(asked, uses, stopwatch())
        return found.uses


def _key(views: Any) -> Any:
    if isinstance(views, list | tuple):
        return tuple(_key(view) for view in views)
    return views if isinstance(views, str) else id(views)


def _key_fields(uses: Sequence[ViewUse]) -> dict[str, Field]:
    """The key columns to be given, each once."""
    found: dict[str, Field] = {}
    for use in uses:
        for key in use.plan.keys:
            found.setdefault(use.keys.get(key.name, key.name), key)
    return found


def _is_even(keys: Any) -> bool:
    """Whether the keys are lists of one length, which need no table."""
    return (
        isinstance(keys, dict)
        and all(isinstance(values, list | tuple) for values in keys.values())
        and len({len(values) for values in keys.values()}) == 1
    )
