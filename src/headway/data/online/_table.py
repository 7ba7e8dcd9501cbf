"""Several views as one Arrow table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from headway.data.online._read import OnlineReader
from headway.define.records import ViewPlan, ViewUse
from headway.errors import DataError, UsageError, suggest


def read_table(
    reader: OnlineReader, uses: Sequence[ViewUse], keys: pa.Table | Mapping[str, Sequence[Any]], now: int
) -> pa.Table:
    """The latest values for the entities in ``keys``: one row out for every row in, in the same order.

    The columns of ``keys`` come first, then a column ``prefix__feature`` per feature of each view, then, for one view,
    ``_as_of`` (the moment the values speak for, null if the view was never refreshed) and ``_state``, a struct with a
    field per feature (``ok``, ``late``, ``expired`` or ``missing``). With several views these are called
    ``<prefix>_as_of`` and ``<prefix>_state``.

    Raises
    ------
    DataError
        A view's key column is missing, or of another kind than the key.
    """
    table = keys if isinstance(keys, pa.Table) else pa.table(dict(keys))
    asked = []
    for use in uses:
        bound = reader.bind(use.plan, use.features)
        asked.append((bound, bound.encode(_entity_keys(use, table))))
    names: list[str] = []
    batches: list[pa.RecordBatch] = []
    verdicts: dict[str, pa.Array] = {}
    for use, found in zip(uses, reader.lookup_many(asked, now), strict=True):
        names += [f"{use.prefix}__{name}" for name in use.features]
        batches.append(found.to_arrow())
        lead = "" if len(uses) == 1 else use.prefix
        verdicts |= {f"{lead}_as_of": found.as_of_array(), f"{lead}_state": found.states_arrow()}
    everything = [*table.column_names, *names, *verdicts]
    if len(set(everything)) < len(everything):
        twice = next(name for name in everything if everything.count(name) > 1)
        raise UsageError(f"two columns would be called {twice!r}; give one of the views an alias")
    answer = _side_by_side(batches, names)
    for at, name in enumerate(table.column_names):
        answer = answer.add_column(at, name, table.column(at))
    for name, verdict in verdicts.items():
        answer = answer.append_column(name, verdict)
    return answer


def stored_rows(reader: OnlineReader, plan: ViewPlan, keys: pa.Table) -> pa.Table:
    """What the store holds of all features for ``keys``, as of the view's watermark, whatever the time is now."""
    return pa.Table.from_batches([reader.stored(plan, keys).to_arrow()])


def _entity_keys(use: ViewUse, table: pa.Table) -> pa.Table:
    found = {}
    for field in use.plan.keys:
        name = use.keys.get(field.name, field.name)
        if table.schema.get_field_index(name) < 0:  # also if there are several
            raise DataError(f"view {use.prefix!r} needs key {name!r} exactly once; {suggest(name, table.column_names)}")
        found[field.name] = table.column(name)
    # A view without keys has one entity, whose values stand on every row.
    return pa.table(found) if found else table.select([])


def _side_by_side(batches: Sequence[pa.RecordBatch], names: Sequence[str]) -> pa.Table:
    if len(batches) == 1:  # as it is: an object for each column takes longer than finding the rows
        return pa.Table.from_batches(batches).rename_columns(names)
    return pa.Table.from_arrays([column for batch in batches for column in batch.columns], names)
