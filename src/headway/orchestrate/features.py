"""The feature store as one stage: history, the online store, and whether the two agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from headway.data.compute import at
from headway.data.materialize import MaterializeResult, materialize
from headway.data.spine import as_table, column, instants, key_columns
from headway.define import FeatureView, ViewSelection, as_selections
from headway.define.records import ViewPlan, ViewUse
from headway.errors import DataError, NotFoundError
from headway.monitor.verify import VerifyResult
from headway.orchestrate import catalog
from headway.orchestrate._parts import Parts, source_version
from headway.orchestrate.verification import verify_plans

Views = FeatureView | ViewSelection | str | Sequence[FeatureView | ViewSelection | str]


class FeatureStage:
    """``project.features``: point-in-time training columns, materialization, verification."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def historical(self, spine: Any, views: Views, *, timestamp: str = "ts", timezone: str | None = None) -> pa.Table:
        """The spine's columns, then one column per feature, named ``view__feature`` (or ``alias__feature``).

        Parameters
        ----------
        spine
            Keys and moments: any table that speaks Arrow. One row out for every row in, in the same order.
        views
            Views, aliases or selections of features; names of the project's views will do.
        timestamp
            The spine's column with the moment each row's features are taken at.
        timezone
            The zone of that column, if it is naive; naive moments without it are refused.

        Raises
        ------
        DataError
            The spine lacks a column or has one of the wrong type.
        """
        table = as_table(spine)
        uses = [self._parts.binder.use(s) for s in self.selections(views)]
        t, valid = instants(column(table, timestamp), timezone, f"column {timestamp!r} of the spine")
        return append_columns(table, history(self._parts, uses, table, t, valid))

    def selections(self, views: Views) -> list[ViewSelection]:
        """Views by name or by object, as selections."""
        items = [views] if isinstance(views, str | FeatureView | ViewSelection) else list(views)
        return as_selections([self.view(i) if isinstance(i, str) else i for i in items])

    def view(self, name: str) -> FeatureView:
        """A view of the project by name."""
        known = self._parts.declarations.views
        if name not in known:
            raise NotFoundError.among("feature view", name, known)
        return known[name]

    def listing(self, names: Sequence[str] | None = None) -> list[catalog.ViewEntry]:
        """Catalog entries of some views, or of all."""
        return catalog.views(self._parts, [self.view(n).name for n in names or self._parts.declarations.views])

    def plans(self) -> dict[str, ViewPlan]:
        """Every view of the project, bound to its data."""
        return {name: self._parts.binder.view(view) for name, view in self._parts.declarations.views.items()}

    def needed(self) -> dict[str, ViewPlan]:
        """Every view that must be kept online, by fingerprint: the project's, and those that versions of models which
        answer now, or would after a rollback, were trained with."""
        found = {plan.fingerprint: plan for plan in self.plans().values() if plan.online}
        for record in self._parts.registry.needed_versions():
            for use in record.serving.views:
                found.setdefault(use.plan.fingerprint, use.plan)
        return found

    def materialize(
        self, views: Views | None = None, *, until: int | None = None, full: bool = False
    ) -> list[MaterializeResult]:
        """Bring the online store up to the last refresh before ``until`` (the clock's now), for some views or all that
        are needed.

        Raises
        ------
        UsageError
            A view with windows has no ``refresh``: it is historical only.
        """
        if views is None:
            plans = list(self.needed().values())
        else:
            plans = [self._parts.binder.use(s).plan for s in self.selections(views)]
        return self.materialize_plans(plans, until=until, full=full)

    def materialize_plans(
        self, plans: Sequence[ViewPlan], *, until: int | None = None, full: bool = False
    ) -> list[MaterializeResult]:
        """``materialize`` for bound views; those of an old version need no declaration any more."""
        parts = self._parts
        moment = parts.clock.now() if until is None else until
        store = parts.open_online(False)
        done = []
        try:
            for number, plan in enumerate(plans):
                parts.progress(f"materialize {plan.name}", number, len(plans))
                tables = parts.table_versions(plan)
                version = source_version(tables)
                result = materialize(
                    plan,
                    lambda plan=plan, version=version, tables=tables: parts.events(plan, version, tables),  # type: ignore[misc]
                    store,
                    version=version,
                    until=moment,
                    full=full,
                )
                self._remember(plan, result, tables, parts.clock.now())
                done.append(result)
            parts.progress("materialize", len(plans), len(plans))
        finally:
            store.close()
        return done

    def _remember(self, plan: ViewPlan, result: MaterializeResult, tables: Mapping[str, int], at: int) -> None:
        output = {"view": plan.name, "as_of": result.as_of, "version": result.version, "tables": dict(tables)}
        digest, stages = f"{result.as_of}:{result.version}", self._parts.metadata.stages
        if not stages.find("materialize", plan.fingerprint, digest):
            stages.put("materialize", plan.fingerprint, digest, output, at)
        current, declared = stages.get("view", plan.name), self._parts.declarations.views.get(plan.name)
        # What the feature server reads: the project's own definition, not that of an old version kept beside it.
        own = declared is None or self._parts.binder.view(declared).fingerprint == plan.fingerprint
        if own and (current is None or current.digest != plan.fingerprint):
            stages.put("view", plan.name, plan.fingerprint, plan, at)

    def verify(self, views: Views | None = None, *, late_limit: float = 0.01) -> list[VerifyResult]:
        """Compute again what the online store serves, at the as-of it serves and from the data it was made of.

        The promise is zero differences. The result also says how much of the time since the first refresh the store
        was later than training assumes, against ``late_limit`` (a share).
        """
        if views is None:
            plans = list(self.needed().values())
        else:
            plans = [self._parts.binder.use(s).plan for s in self.selections(views)]
        return verify_plans(self._parts, plans, late_limit=late_limit)

    def collect(self) -> list[str]:
        """Drop from the online store what no view of the project and no live or previous version needs."""
        store = self._parts.open_online(False)
        try:
            needed = {bytes.fromhex(fingerprint) for fingerprint in self.needed()}
            gone = [prefix for prefix in store.prefixes() if prefix not in needed]
            for prefix in gone:
                store.drop(prefix)
            return [prefix.hex() for prefix in gone]
        finally:
            store.close()


def history(
    parts: Parts, uses: Sequence[ViewUse], table: pa.Table, t: np.ndarray, valid: np.ndarray
) -> dict[str, pa.ChunkedArray]:
    """The columns of ``uses`` for a spine, by name; views used twice are read once."""
    found: dict[str, pa.ChunkedArray] = {}
    for number, use in enumerate(uses):
        parts.progress(f"features {use.prefix}", number, len(uses))
        keys = key_columns(table, use.plan.keys, use.keys)
        events = parts.events(use.plan, parts.source_version(use.plan))
        columns = at(use.plan, events, keys, t, valid)
        for name in use.features:
            found[f"{use.prefix}__{name}"] = columns.column(name)
    parts.progress("features", len(uses), len(uses))
    return found


def append_columns(table: pa.Table, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> pa.Table:
    """The table with more columns; a name it already has is refused."""
    for name, values in columns.items():
        if name in table.column_names:
            raise DataError(f"the spine already has a column {name!r}; rename it, or give the view an alias")
        table = table.append_column(name, values)
    return table
