"""Several views as one Arrow table, or as one matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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


def read_matrix(
    reader: OnlineReader, uses: Sequence[ViewUse], keys: pa.Table | Mapping[str, Sequence[Any]], now: int
) -> np.ndarray:
    """The latest values as float64 (entities, columns): those that ``read_table`` has, NaN where it has null, without
    moments and states. A column for each feature, in the order asked, and one for each item of a list.

    Raises
    ------
    UsageError
        A feature that is no number: a text, a time.
    DataError
        A view's key column is missing, or of another kind than the key.
    """
    asked = []
    for use in uses:
        bound = reader.bind(use.plan, use.features)
        if bound.not_numbers:
            raise UsageError(
                f"feature {bound.not_numbers[0]!r} of view {use.prefix!r} is no number; leave it out, or read a table"
            )
        given = _entity_keys(use, keys) if isinstance(keys, pa.Table) else _entity_lists(use, keys)
        asked.append((bound, bound.encode(given)))
    rows = len(asked[0][1]) if asked else 0
    out = np.empty((rows, sum(bound.width for bound, _ in asked)))
    at = 0
    for (bound, _), found in zip(asked, reader.lookup_many(asked, now), strict=True):
        if bound.width == len(bound.features):
            found.floats(out[:, at : at + bound.width])
        else:
            numbers = found.floats()
            columns = [
                found.matrix(name) if slot.items else numbers[:, i, None]
                for i, (name, slot) in enumerate(zip(bound.features, bound.slots, strict=True))
            ]
            np.concatenate(columns, axis=1, out=out[:, at : at + bound.width])
        at += bound.width
    return out


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


def _entity_lists(use: ViewUse, keys: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    found = {}
    for field in use.plan.keys:
        name = use.keys.get(field.name, field.name)
        if name not in keys:
            raise DataError(f"view {use.prefix!r} needs key {name!r} exactly once; {suggest(name, keys)}")
        found[field.name] = keys[name]
    return found


def _side_by_side(batches: Sequence[pa.RecordBatch], names: Sequence[str]) -> pa.Table:
    if len(batches) == 1:  # as it is: an object for each column takes longer than finding the rows
        return pa.Table.from_batches(batches).rename_columns(names)
    return pa.Table.from_arrays([column for batch in batches for column in batch.columns], names)
