"""The feature store as one stage: history, the online store, and whether the two agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headway.clock import from_iso
from headway.data.materialize import MaterializeResult, materialize
from headway.data.spine import as_table, column, instants, key_columns
from headway.define import FeatureSet, FeatureView, ViewSelection, as_selections
from headway.define._duration import microseconds
from headway.define.records import ViewPlan, ViewUse
from headway.errors import DataError, NotFoundError
from headway.monitor.verify import VerifyResult
from headway.orchestrate import catalog
from headway.orchestrate._collect import collect
from headway.orchestrate._parts import Parts, source_version
from headway.orchestrate._publish import publish
from headway.orchestrate._user import user
from headway.orchestrate.backfill import BackfillResult, backfill
from headway.orchestrate.history_file import history_file
from headway.orchestrate.retire import Retired, retire
from headway.orchestrate.statistics import ViewStatistics, keep_statistics
from headway.orchestrate.verification import verify_plans

ViewLike = FeatureView | ViewSelection | FeatureSet | str
Views = ViewLike | Sequence[ViewLike]


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
            Views, aliases, selections of features or feature sets; names of the project's views and sets will do.
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

    def historical_file(
        self, spine: str | Path, views: Views, output: str | Path, *, timestamp: str = "ts", timezone: str | None = None
    ) -> int:
        """``historical`` from a file to a file; returns how many rows it has.

        Both are ``.parquet``, ``.csv``, ``.ndjson`` or ``.jsonl``, by their suffix. Neither has to fit into memory:
        what exceeds ``memory_limit`` is kept on the disk while it is needed. The output appears whole or not at all.
        """
        uses = [self._parts.binder.use(s) for s in self.selections(views)]
        return history_file(self._parts, uses, Path(spine), Path(output), timestamp=timestamp, timezone=timezone)

    def selections(self, views: Views) -> list[ViewSelection]:
        """Views and sets by name or by object, as selections."""
        items = [views] if isinstance(views, str | FeatureView | ViewSelection | FeatureSet) else list(views)
        return as_selections([self.named(i) if isinstance(i, str) else i for i in items])

    def named(self, name: str) -> FeatureView | FeatureSet:
        """A view or a set of the project by name."""
        sets, known = self._parts.declarations.sets, self._parts.declarations.views
        if name not in sets and name not in known:
            raise NotFoundError.among("feature view or set", name, (*known, *sets))
        return sets[name] if name in sets else known[name]

    def view(self, name: str) -> FeatureView:
        """A view of the project by name."""
        known = self._parts.declarations.views
        if name not in known:
            raise NotFoundError.among("feature view", name, known)
        return known[name]

    def listing(self, names: Sequence[str] | None = None) -> list[catalog.ViewEntry]:
        """Catalog entries of some views, or of all."""
        return catalog.views(self._parts, [self.view(n).name for n in names or self._parts.declarations.views])

    def set_listing(self) -> list[catalog.SetEntry]:
        """Catalog entries of all feature sets."""
        return catalog.set_entries(self._parts)

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
        self,
        views: Views | None = None,
        *,
        until: int | None = None,
        full: bool = False,
        since: int | None = None,
    ) -> list[MaterializeResult]:
        """Bring the online store up to the last refresh before ``until`` (the clock's now), for some views or all that
        are needed.

        New data rewrites every entity, because rows may have changed anywhere. ``since`` says that rows known before
        that moment are as they were: only entities with later ones are written, and those whose windows moved.

        Raises
        ------
        UsageError
            A view with windows has no ``refresh``: it is historical only.
        """
        if views is None:
            plans = list(self.needed().values())
        else:
            plans = [self._parts.binder.use(s).plan for s in self.selections(views)]
        done = self.materialize_plans(plans, until=until, full=full, since=since)
        publish(self._parts)
        return done

    def backfill(
        self, views: Views, start: int | str, end: int | str | None = None, *, every: str | None = None
    ) -> list[BackfillResult]:
        """Keep the values of views, at their refreshes from ``start`` to ``end``, as tables ``features/…`` of the lake.

        A table has the entity's keys, ``_as_of``, the features and ``_every``: the values that ``historical`` gives at
        that moment. The first moment of a table, and every 1024th after it, has a row for each entity seen by then;
        the others have those whose values may have changed since the moment before.

        Parameters
        ----------
        start, end
            Instants, both included: ISO text with an offset, or microseconds since 1970 in UTC. By default up to the
            clock's now.
        every
            A multiple of the refresh, for fewer rows; needed for a view without one.

        Raises
        ------
        UsageError
            A view has no history, or no refresh in that time.
        """
        plans = [self._parts.binder.use(s).plan for s in self.selections(views)]
        step = None if every is None else microseconds(every, "every=")
        last = self._parts.clock.now() if end is None else _instant(end)
        return backfill(self._parts, plans, _instant(start), last, step)

    def materialize_plans(
        self,
        plans: Sequence[ViewPlan],
        *,
        until: int | None = None,
        full: bool = False,
        since: int | None = None,
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
                    lambda plan=plan, version=version, tables=tables: parts.view(plan, version, tables),  # type: ignore[misc]
                    store,
                    version=version,
                    until=moment,
                    full=full,
                    since=since,
                    progress=lambda done, total, name=plan.name: parts.progress(f"write {name}", done, total),  # type: ignore[misc]
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
        declared = self._parts.declarations.views.get(plan.name)
        # What the feature server reads: the project's own definition, not that of an old version kept beside it.
        if declared is None or self._parts.binder.view(declared).fingerprint == plan.fingerprint:
            self._parts.metadata.published.put_view(plan, at)

    def verify(
        self, views: Views | None = None, *, late_limit: float = 0.01, sample: int | None = None
    ) -> list[VerifyResult]:
        """Compute again what the online store serves, at the as-of it serves and from the data it was made of.

        The promise is zero differences, nobody lost, and nobody stored who should not be. The result also says how much
        of the time since the first refresh the store was later than training assumes, against ``late_limit`` (a share).
        ``sample``: how many entities' values are compared; by default a million, 0 for all there are.
        """
        if views is None:
            plans = list(self.needed().values())
        else:
            bound = [self._parts.binder.use(s).plan for s in self.selections(views)]
            plans = list({plan.fingerprint: plan for plan in bound}.values())
        return verify_plans(self._parts, plans, late_limit=late_limit, sample=sample)

    def retire(self, view: str, *, why: str, by: str | None = None) -> Retired:
        """Take a view out of use: drop its rows from the online store and its name from what servers offer.

        ``view`` is the name of a view that is not declared any more, or the beginning (8 digits or more) of the
        fingerprint of one definition. The decision is kept in the audit log.

        Raises
        ------
        RetireRefused
            The view is still declared, or a live or previous version needs it; the message names who does.
        """
        return retire(self._parts, self.needed(), view, by=by or user(), why=why)

    def statistics(self, view: str) -> ViewStatistics | None:
        """Work out what the online values of a view look like, and keep it for the catalog; None if there are none."""
        plan = self._parts.binder.view(self.view(view))
        store = self._parts.open_online(True)
        try:
            return keep_statistics(self._parts, plan, store)
        finally:
            store.close()

    def collect(self) -> list[str]:
        """Drop from the online store what no view of the project, no name that servers know and no live or previous
        version has needed for an hour; servers that run are never cut off. Returns fingerprints."""
        return collect(self._parts, self._kept)

    def _kept(self) -> set[str]:
        """Fingerprints that somebody reads, or would after a rollback."""
        return {*self.needed(), *(plan.fingerprint for plan in self._parts.metadata.published.features().plans)}


def _instant(value: int | str) -> int:
    """An instant in microseconds, from ISO text too."""
    return from_iso(value) if isinstance(value, str) else value


def history(
    parts: Parts, uses: Sequence[ViewUse], table: pa.Table, t: np.ndarray, valid: np.ndarray
) -> dict[str, pa.ChunkedArray]:
    """The columns of ``uses`` for a spine, by name; views used twice are read once."""
    found: dict[str, pa.ChunkedArray] = {}
    for number, use in enumerate(uses):
        parts.progress(f"features {use.prefix}", number, len(uses))
        keys = key_columns(table, use.plan.keys, use.keys)
        columns = parts.view(use.plan).at(keys, t, valid)
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
