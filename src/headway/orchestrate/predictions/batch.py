"""Scoring many rows: tables, files, and declared batch predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headway.clock import stopwatch
from headway.data.spine import as_table, column, instants
from headway.define import BatchPrediction
from headway.define._bundle import BundleLoader
from headway.define.records import VersionRecord
from headway.errors import DataError, NotFoundError, UsageError
from headway.orchestrate._parts import Parts
from headway.orchestrate.models import ModelStage
from headway.orchestrate.predictions._batch_log import BatchLog, Names, Scored, batch_names, file_names
from headway.orchestrate.training_set import Function, offered
from headway.serve.batch import input_types
from headway.serve.batch import predict_file as score_file
from headway.train import Predictor

ROWS = 50_000  # rows scored at once: what bounds memory
MANY_ROWS = 1_000_000  # where a view's events are in parts: all of them are read for every batch
_OURS = ("source/", "quarantine/", "checks/", "features/", "predictions/", "labels/", "dropped/")


class Scorer:
    """A version ready to score tables, with features as they were known at each row's moment."""

    def __init__(self, parts: Parts, record: VersionRecord) -> None:
        parts.registry.verify_files(record)
        directory = parts.registry.directory(record)
        self._parts, self.record = parts, record
        self._predictor = Predictor.load(directory, record.serving, allow_pickle=parts.settings.allow_pickle)
        self._functions: dict[str, Function] = {}
        if record.serving.functions:
            loader = BundleLoader(directory / "bundle", record.serving.package or parts.settings.definitions)
            self._functions = {f.name: loader.function(f.module, f.qualname) for f in record.serving.functions}
        label = parts.declarations.models.get(record.model)
        self._timestamp = None if label is None else label.label.as_of or label.label.source.timestamp

    @property
    def types(self) -> dict[str, str]:
        """The types of the columns that the version, and the moment of a row, are read from."""
        found = input_types(self.record.serving)
        if self._timestamp is not None:
            found.setdefault(self._timestamp, "timestamp[us, tz=UTC]")
        return found

    @property
    def batch_rows(self) -> int:
        """How many rows to score at once."""
        whole = all(len(self._parts.view(use.plan).events) == 1 for use in self.record.serving.views)
        return ROWS if whole else MANY_ROWS

    def features(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Every column the version can use, for the rows of a table."""
        moment, valid, _ = self._moments(table)
        return offered(self._parts, self.record.serving, self._functions, table, moment, valid)[0]

    def score(self, table: pa.Table, log: BatchLog | None = None) -> pa.Table:
        """The table with ``prediction``, ``version`` and ``segment`` (of the model that answered; null: pooled)."""
        for name in ("prediction", "version", "segment"):
            if name in table.column_names:
                raise DataError(f"the input has a column {name!r} already; rename it")
        scored = self._scored(table)
        if log is not None:
            log.add(scored)
        found = scored.predicted
        table = table.append_column("prediction", pa.array(found.tolist() if found.dtype == object else found))
        table = table.append_column("version", pa.array([str(self.record.version)] * table.num_rows, pa.string()))
        return table.append_column("segment", pa.array(scored.segments, pa.string()))

    def _scored(self, table: pa.Table) -> Scored:
        watch = stopwatch()
        moment, valid, at_event = self._moments(table)
        plan = self.record.serving
        columns = offered(self._parts, plan, self._functions, table, moment, valid)[0]
        segments = None
        if plan.segment is not None:
            segments = column(table, plan.segment, "the input").cast(pa.string()).to_pylist()
        seen = {c.name: columns[c.name] for c in plan.columns}
        found, answered = self._predictor.predict(seen, table.num_rows, segments)
        return Scored(table, moment, valid, at_event, seen, found, answered, watch())

    def _moments(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """When each row's features are taken, whether that is known, and whether it is the row's own time: its
        timestamp where the table has one and it has passed, else the clock's now."""
        now, rows = self._parts.clock.now(), table.num_rows
        if self._timestamp is None or self._timestamp not in table.column_names:
            return np.full(rows, now, np.int64), np.ones(rows, bool), np.zeros(rows, bool)
        t, valid = instants(column(table, self._timestamp), None, f"column {self._timestamp!r} of the input")
        return np.minimum(t, now), valid, t <= now


def version_for(models: ModelStage, name: str, version: int | None) -> VersionRecord:
    """The version asked for, or the live one."""
    if version is not None:
        return models.version(name, version)
    live = models.champion(name)
    if live is None:
        raise NotFoundError(f"no version of {name!r} is live; `headway run {name}` trains and promotes one")
    return live


def predict(parts: Parts, models: ModelStage, name: str, data: Any, *, version: int | None = None) -> pa.Table:
    """Score a table in one go."""
    return Scorer(parts, version_for(models, name, version)).score(as_table(data, "the input"))


def predict_file(
    parts: Parts,
    models: ModelStage,
    name: str,
    source: str,
    output: str,
    *,
    version: int | None = None,
    log: bool = True,
) -> tuple[int, int]:
    """Score a file in bounded memory; returns the rows scored and the version that did it.

    Unless ``log`` is false, or the environment keeps no prediction log, every row is logged, before the output is
    there under its name.
    """
    scorer = Scorer(parts, version_for(models, name, version))
    path = Path(source)
    names = file_names(scorer.record, path) if log and path.is_file() else None
    with _logging(parts, scorer, names) as logged:
        rows = score_file(
            path,
            Path(output),
            lambda table: scorer.score(table, logged),
            types=scorer.types,
            batch_rows=scorer.batch_rows,
            progress=parts.progress,
            finish=_nothing if logged is None else logged.finish,
        )
    return rows, scorer.record.version


def predict_batch(parts: Parts, models: ModelStage, batch: BatchPrediction) -> tuple[int, int]:
    """Score the current rows of a source into a lake table, and log them; returns the rows and the version."""
    table = batch.output.removeprefix("lake:")
    if table.startswith(_OURS):
        raise UsageError(
            f"batch prediction {batch.name!r}: {table!r} is a name that headway keeps its own tables under"
        )
    scorer = Scorer(parts, version_for(models, batch.model.name, None))
    with _logging(parts, scorer, batch_names(parts, scorer.record, batch)) as logged:
        scored = _scored(parts, scorer, batch, logged)
        first = next(scored)
        total = first.num_rows

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal total
            yield from first.to_batches()
            for table in scored:
                total += table.num_rows
                yield from table.to_batches()
            if logged is not None:
                logged.finish()

        reader = pa.RecordBatchReader.from_batches(first.schema, batches())
        parts.lake.write(table, reader, "overwrite", {"model": f"{batch.model.name}@{scorer.record.version}"})
    return total, scorer.record.version


@contextmanager
def _logging(parts: Parts, scorer: Scorer, names: Names | None) -> Iterator[BatchLog | None]:
    """The log of a batch; None where there is none to be."""
    if names is None or parts.settings.serve.log == "off":
        yield None
        return
    with BatchLog(parts, scorer.record, names) as log:
        yield log


def _nothing() -> None:
    """What is left to do for a batch that is not logged."""


def _scored(parts: Parts, scorer: Scorer, batch: BatchPrediction, log: BatchLog | None) -> Iterator[pa.Table]:
    rows = parts.binder.current_rows(batch.input, parts.clock.now())
    hidden = [name for name in rows.column_names if name.startswith("__")]
    rows = rows.drop_columns(hidden)
    many = scorer.batch_rows
    for start in range(0, max(rows.num_rows, 1), many):
        parts.progress(f"predict {batch.name}", start, rows.num_rows)
        yield scorer.score(rows.slice(start, many), log)
