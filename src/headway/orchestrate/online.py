"""The online store as a stage: the values served now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from headway.data.online import OnlineReader, read_table
from headway.data.spine import arrow_type, as_table
from headway.errors import NotFoundError, UsageError
from headway.orchestrate._parts import Parts
from headway.orchestrate.features import FeatureStage, Views


class OnlineStage:
    """``project.online``: the values served now."""

    def __init__(self, parts: Parts, features: FeatureStage) -> None:
        self._parts, self._features = parts, features

    def read(self, views: Views, keys: Any) -> pa.Table:
        """The latest values for ``keys``, in the order asked: keys, features, ``_as_of`` and ``_state``.

        ``keys`` maps key columns (an alias's own names) to lists, or is any table that speaks Arrow. See
        ``headway.data.online.read_table`` for the columns.
        """
        selections = self._features.selections(views)
        uses = [self._parts.binder.use(s) for s in selections]
        table = as_table(keys, "keys")
        store = self._parts.open_online(True)
        try:
            return read_table(OnlineReader(store), uses, table, self._parts.clock.now())
        finally:
            store.close()

    def read_text(self, view: str, keys: Mapping[str, Sequence[str]]) -> pa.Table:
        """``read`` for keys given as text, as on a command line."""
        plan = self._parts.binder.view(self._features.view(view))
        names = [key.name for key in plan.keys]
        for name in keys:
            if name not in names:
                raise NotFoundError.among(f"key of view {view!r}", name, names)
        missing = [name for name in names if name not in keys]
        if missing:
            raise UsageError(f"view {view!r} needs the keys {', '.join(names)}; {', '.join(missing)} is missing")
        columns = {}
        for key in plan.keys:
            try:
                columns[key.name] = pa.array(keys[key.name], pa.string()).cast(arrow_type(key.type))
            except pa.ArrowException:
                got = ", ".join(map(repr, keys[key.name]))
                raise UsageError(f"key {key.name!r} of view {view!r} is of type {key.type}, got {got}") from None
        return self.read(view, pa.table(columns))
