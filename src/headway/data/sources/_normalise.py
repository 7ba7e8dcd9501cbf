"""Rows of any origin in headway's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from headway.data.engine import plain
from headway.data.localtime import INSTANT, check_range, localise
from headway.data.sources._protocol import EVENT, KNOWN, SEQ, Counts
from headway.data.sources._schema import Target
from headway.data.sources._text import converted
from headway.data.sources._time import from_text, midnight
from headway.define import Source
from headway.errors import DataError

_EXACT_FLOAT = 2**53  # from here on neighbouring integers are the same double


class Normaliser:
    """Brings batches to the form that ``SourceReader`` describes, counting what it meets on the way.

    ``targets`` are the columns there will be; what a batch does not have is null. Raises ``DataError`` for values that
    do not fit.
    """

    def __init__(self, source: Source, targets: Sequence[Target], counts: Counts) -> None:
        self._source, self._targets, self._counts = source, targets, counts
        self._zone = source.timezone or "UTC"
        self._without_id = 0
        added = [] if source.timeless else [pa.field(EVENT, INSTANT), pa.field(KNOWN, INSTANT)]
        self.schema = pa.schema([(t.name, t.type) for t in targets] + added + [pa.field(SEQ, pa.int64())])

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The user's columns in their form, and headway's own after them."""
        columns = {target.name: self._column(batch, target) for target in self._targets}
        arrays = list(columns.values()) + self._times(columns)
        first = self._counts.rows
        arrays.append(pa.array(np.arange(first, first + batch.num_rows, dtype=np.int64)))
        self._counts.rows += batch.num_rows
        self._check_ids(columns)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def finish(self) -> None:
        """Refuse, after the last row, rows without an id."""
        if self._without_id:
            raise DataError(
                str(
                    self._source.refuse(
                        f"{self._without_id} of {self._counts.rows} rows have no id ({', '.join(self._source.id)}), so"
                        " nothing tells which fact they are a version of; give them one, or declare no id"
                    )
                )
            )

    def _column(self, batch: pa.RecordBatch, target: Target) -> pa.Array:
        index = batch.schema.get_field_index(target.name)
        if index < 0 or types.is_null(batch.column(index).type):
            return pa.nulls(batch.num_rows, target.type)
        values = batch.column(index)
        try:
            if types.is_string(values.type):
                values = converted(values, target.kind, self._zone, self._counts)
            values = plain(values)
            return self._instants(values) if target.instant else values.cast(target.type)
        except (DataError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"column {target.name!r}: {error}") from None

    def _instants(self, values: pa.Array) -> pa.Array:
        """Times of any plain type as instants."""
        if types.is_string(values.type):
            return from_text(values, self._zone, self._counts)
        if types.is_date32(values.type):
            return midnight(values, self._zone, self._counts)
        if values.type.tz is None:
            return localise(values, self._zone, self._counts)
        check_range(values)
        return values

    def _times(self, columns: Mapping[str, pa.Array]) -> list[pa.Array]:
        """``__event`` and ``__known``; a row without an event time is never known."""
        source = self._source
        if source.timestamp is None:
            return []
        event = self._moments(source.timestamp, columns)
        self._counts.unplaced += event.null_count
        known = pc.add(event.view(pa.int64()), source.delay_us)  # years 1 to 9999 and a delay: cannot overflow
        if source.created is not None:
            created = self._moments(source.created, columns).view(pa.int64())
            known = pc.max_element_wise(known, created, skip_nulls=False)
        return [event, known.view(INSTANT)]

    def _moments(self, name: str, columns: Mapping[str, pa.Array]) -> pa.Array:
        try:
            return self._instants(columns[name])
        except DataError as error:
            raise DataError(f"column {name!r}: {error}") from None

    def _check_ids(self, columns: Mapping[str, pa.Array]) -> None:
        missing: pa.Array | None = None
        for name in self._source.id:
            values = columns[name]
            if types.is_floating(values.type) and pc.any(pc.greater_equal(pc.abs(values), _EXACT_FLOAT)).as_py():
                raise DataError(f"id {name!r} holds numbers that a {values.type} cannot tell apart; write it as text")
            null = pc.is_null(values, nan_is_null=True)
            missing = null if missing is None else pc.or_(missing, null)
        if missing is not None:
            self._without_id += pc.sum(missing).as_py() or 0
