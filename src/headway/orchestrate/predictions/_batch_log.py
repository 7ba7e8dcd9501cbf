"""Batches in the prediction log: straight into the lake, side by side with the scoring, once however often they run.

Rows are appended under a name, and take the place of what was appended under it before. A file is known by its content:
scored again by the same version, its rows are replaced. Of a declared batch, rows whose features are those of their own
event time are one such set for each version: another run gives them again. Rows whose features are those of the
clock's now are another prediction each time, unless the data and the moment are the same.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from headway.clock import WallClock
from headway.data.engine import plain
from headway.data.predictions import Batch, batch_table, layout_of, predictions_table, settled
from headway.data.spine import arrow_type, cast_key, column
from headway.define import BatchPrediction
from headway.define.records import VersionRecord, ViewPlan
from headway.orchestrate._digest import digest
from headway.orchestrate._parts import Parts
from headway.orchestrate.predictions.labels import moment_columns

_WAITING = 2  # batches in memory besides the one that is scored


@dataclass(frozen=True, slots=True)
class Names:
    """What a run of a batch is called: ``request_id`` in the log, and the sets of rows that it replaces."""

    request_id: str
    at_event: str
    at_now: str


def file_names(record: VersionRecord, path: Path) -> Names:
    """The names for scoring a file: the same for the same content and version."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    found = digest("file", content, record.model, record.version)
    return Names(f"batch-{found}", found, found)


def batch_names(parts: Parts, record: VersionRecord, batch: BatchPrediction) -> Names:
    """The names for a run of a declared batch."""
    tables = {*parts.binder.tables(batch.input), *(t for use in record.serving.views for t in use.plan.tables)}
    kept = digest("batch", batch.name, record.version)
    run = digest(kept, {table: parts.lake.version(table) for table in tables}, parts.clock.now())
    return Names(f"batch-{run}", kept, run)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A table that was scored: its rows, when their features were taken (``at_event``: at their own event time), what
    the estimator was given, and what came of it."""

    table: pa.Table
    moment: np.ndarray
    valid: np.ndarray
    at_event: np.ndarray
    columns: Mapping[str, np.ndarray]
    predicted: np.ndarray
    segments: Sequence[str | None]
    seconds: float


class BatchLog:
    """Logs what a batch scores. In a ``with`` block: nothing is in the log unless ``finish`` was called."""

    def __init__(self, parts: Parts, record: VersionRecord, names: Names) -> None:
        self._parts, self._record, self._names = parts, record, names
        live = parts.registry.champion(record.model)
        role = "champion" if live is not None and live.version == record.version else "other"
        self._layout = layout_of(record.serving, record.version, role)
        self._table = predictions_table(record.model)
        self._sinks: dict[str, _Sink] = {}
        self._rows = 0
        model = parts.declarations.models.get(record.model)
        self._carried: dict[str, pa.DataType] = {}
        if model is not None:
            wanted = {*model.label.source.id, *moment_columns(model)} - {item.name for item in self._layout.inputs}
            fields = parts.binder.columns(model.label.source)
            self._carried = {f.name: arrow_type(f.type) for f in fields if f.name in wanted}

    def add(self, scored: Scored) -> None:
        """Log a table's rows. Raises what writing rows before these has raised."""
        at_event = scored.at_event
        sets = ((self._names.at_event, at_event), (self._names.at_now, ~at_event))
        whole = self._names.at_event == self._names.at_now
        for name, chosen in ((self._names.at_event, np.ones(len(at_event), bool)),) if whole else sets:
            if chosen.any():
                self._sink(name).put(self._batch(scored, chosen))
        self._rows += len(at_event)

    def finish(self) -> None:
        """Have all rows in the log."""
        for sink in self._sinks.values():
            sink.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for sink in self._sinks.values():
            sink.abandon()

    def _sink(self, name: str) -> _Sink:
        if name not in self._sinks:
            self._sinks[name] = _Sink(self._parts, self._table, name)
        return self._sinks[name]

    def _batch(self, scored: Scored, chosen: np.ndarray) -> pa.Table:
        table, rows = scored.table, np.flatnonzero(chosen)
        keys = {key.name: key for key in self._record.serving.entities}
        inputs = {
            item.name: cast_key(column(table, item.name), keys[item.name], item.name)
            if item.name in keys
            else plain(column(table, item.name))
            for item in self._layout.inputs
        }
        carried = {
            name: _cast(column(table, name), kind) for name, kind in self._carried.items() if name in table.column_names
        }
        made = batch_table(
            Batch(
                layout=self._layout,
                request_id=self._names.request_id,
                first=self._rows,
                logged_at=WallClock().now(),
                seconds=scored.seconds / max(len(chosen), 1),
                moment=scored.moment,
                valid=scored.valid,
                predicted=scored.predicted,
                segments=scored.segments,
                columns=scored.columns,
                inputs=inputs,
                as_of={use.prefix: _as_of(use.plan, scored.moment) for use in self._record.serving.views},
                carried=carried,
            )
        )
        return made if len(rows) == len(chosen) else made.take(pa.array(rows))


def _as_of(plan: ViewPlan, moment: np.ndarray) -> np.ndarray:
    """The moment that a view's values speak for, asked at ``moment``: ``ViewPlan.r`` of many."""
    at = moment - plan.lag
    return at if plan.refresh is None else at // plan.refresh * plan.refresh


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column that is carried along, as its source has it; as it is, if it is something else."""
    values = plain(values)
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return values


class _Sink:
    """Writes one set of rows, in a thread of its own: compressing them takes as long as scoring them."""

    def __init__(self, parts: Parts, table: str, name: str) -> None:
        self._parts, self._table, self._name = parts, table, name
        self._queue: queue.Queue[pa.Table | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._complete = False
        self._thread = threading.Thread(target=self._run, name="headway-batch-log", daemon=True)
        self._thread.start()

    def put(self, rows: pa.Table) -> None:
        self._queue.put(rows)
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        self._complete = True
        self._end()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Write nothing, unless it is written already."""
        if self._thread.is_alive():
            self._end()

    def _end(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write()
        except _Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where rows are put
            self._error = error
            while self._queue.get() is not None:
                pass  # whoever puts must not wait for a thread that has gone

    def _write(self) -> None:
        first = self._queue.get()
        if first is None:
            return
        lake = self._parts.lake
        known = {} if lake.version(self._table) is None else {f.name: f.type for f in lake.schema(self._table)}
        first = settled(first, known)
        reader = pa.RecordBatchReader.from_batches(first.schema, self._batches(first))
        lake.write(self._table, reader, "append", part=self._name)

    def _batches(self, first: pa.Table) -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        while (rows := self._queue.get()) is not None:
            yield from rows.rename_columns(first.column_names).cast(first.schema).to_batches()
        if not self._complete:
            raise _Abandoned


class _Abandoned(Exception):
    """The batch failed: its rows are not logged."""
