"""What a version's predictions are held against: profiles of what it was trained and tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headway.define import Model
from headway.define.records import ColumnSpec, TrainingSet, VersionRecord
from headway.errors import HeadwayError
from headway.monitor import Counts, Profile, build_profile, count
from headway.orchestrate._parts import Parts
from headway.orchestrate.monitoring._label_source import source_columns, source_profile
from headway.orchestrate.monitoring._windows import ended
from headway.orchestrate.training_set import LabelRows, training_set
from headway.train._files import write_bytes

FILE, ROWS = "profile.json", "rows.parquet"
PREDICTION = "prediction"
TESTED = "predictions_test.parquet"
MOST_ROWS = 200_000  # rows that a profile is made of, evenly spread over the training set's time
MOST_SEGMENTS, LEAST_ROWS = 20, 300
SOME_ROWS = 5_000  # rows that are kept with their features
MOST_PAST = 56  # windows of the training set's own time


class SegmentReference(msgspec.Struct, frozen=True):
    """Profiles of some rows: of the columns the estimator sees, and of the predictions for the test rows."""

    columns: Profile | None
    predictions: Profile | None


class Past(msgspec.Struct, frozen=True):
    """A window of the training set, counted on the profile of its columns."""

    start: int
    end: int
    counts: Counts


class Reference(msgspec.Struct, frozen=True):
    """``profile.json`` of a version: everything together, and the biggest segments. ``note`` says what it is of;
    ``past`` are the windows of the training set's own time, so that there is a history from the first day on.
    ``source`` and ``source_past`` are the same of the columns of the label's source."""

    whole: SegmentReference
    segments: dict[str, SegmentReference] = {}
    note: str = ""
    past: tuple[Past, ...] = ()
    source: Profile | None = None
    source_past: tuple[Past, ...] = ()

    def only(self, names: Sequence[str]) -> Reference:
        """This reference with some of its columns; all, if none are named."""
        if not names:
            return self
        return Reference(
            _only(self.whole, names), {s: _only(r, names) for s, r in self.segments.items()}, self.note, self.past
        )


def _only(reference: SegmentReference, names: Sequence[str]) -> SegmentReference:
    if reference.columns is None:
        return reference
    columns = {name: column for name, column in reference.columns.columns.items() if name in names}
    return SegmentReference(msgspec.structs.replace(reference.columns, columns=columns), reference.predictions)


def write_reference(
    model: Model, data: TrainingSet, rows: LabelRows, test: np.ndarray, directory: Path, length: int
) -> None:
    """Put ``profile.json`` beside the other files of a version that has just been trained.

    It depends on the training set and the twin's predictions alone: the same training gives the same file.
    ``rows`` are those of the label's source, one for each of ``data``. ``length`` is that of the windows in which the
    model is watched; ``test`` says which rows the twin was tested on:
    with the features of some of them, in ``rows.parquet``, errors on later rows are estimated.
    """
    reference = _of(data, _tested(directory), "the training set; predictions of the twin for the test rows", length)
    reference = _with_source(reference, model, rows, length)
    write_bytes(directory / FILE, msgspec.json.encode(reference))
    tested = _tested(directory)
    if tested is not None:
        buffer = pa.BufferOutputStream()
        pq.write_table(_some_rows(data, test, tested), buffer, compression="zstd")
        write_bytes(directory / ROWS, buffer.getvalue().to_pybytes())


def read_reference(parts: Parts, model: Model | None, record: VersionRecord, length: int) -> Reference:
    """The reference of a version. Older ones have no file: theirs is made of their training set, as far as it can be
    had again, and kept beside the reports."""
    directory = parts.registry.directory(record)
    kept = parts.settings.home / "references" / record.model / f"{record.version}-{record.digest}.json"
    for path in (directory / FILE, kept):
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=Reference)
    tested = _tested(directory)
    try:
        if model is None:
            raise HeadwayError("the project does not declare the model any more")
        data, rows, plan = training_set(parts, model, record.created_at)
        same = [c.name for c in data.columns] == [c.name for c in record.serving.columns]
        if not same or plan.views != record.serving.views:
            raise HeadwayError("it was trained with other features than the project declares now")
        reference = _of(data, tested, "the training set, computed again from the data as they are now", length)
        reference = _with_source(reference, model, rows, length)
    except HeadwayError as error:
        whole = SegmentReference(None, None if tested is None else _predictions(tested))
        note = f"version {record.version} has no profile of its columns, and none can be made: {error}"
        return Reference(whole, note=note)
    fresh = kept.with_suffix(".new")
    write_bytes(fresh, msgspec.json.encode(reference))
    fresh.replace(kept)
    return reference


def read_rows(parts: Parts, record: VersionRecord) -> pa.Table | None:
    """The rows that are kept beside a profile: features, and for those tested ``__label`` and ``__prediction``;
    ``__spread`` says which are spread evenly over the training set."""
    path = parts.registry.directory(record) / ROWS
    return pq.read_table(path) if path.exists() else None


def read_tested(parts: Parts, record: VersionRecord) -> pa.Table | None:
    """Label and prediction of all test rows of a version."""
    return _tested(parts.registry.directory(record))


def _some_rows(data: TrainingSet, test: np.ndarray, tested: pa.Table) -> pa.Table:
    rows = np.flatnonzero(test)
    spread = _spread(len(data), SOME_ROWS)
    judged = _spread(len(rows), SOME_ROWS)
    chosen = np.unique(np.concatenate([spread, rows[judged]]))
    at = np.full(len(data), -1)
    at[rows[judged]] = judged
    places = pa.array(at[chosen], mask=at[chosen] < 0)
    table = data.table.take(pa.array(chosen)).append_column("__spread", pa.array(np.isin(chosen, spread)))
    table = table.append_column("__label", tested["label"].take(places))
    return table.append_column("__prediction", tested[PREDICTION].take(places))


def _spread(rows: int, most: int) -> np.ndarray:
    """At most so many places among rows, evenly spread."""
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.int64)


def _tested(directory: Path) -> pa.Table | None:
    path = directory / TESTED
    return pq.read_table(path) if path.exists() else None


def _of(data: TrainingSet, tested: pa.Table | None, note: str, length: int) -> Reference:
    rows = _spread(len(data), MOST_ROWS)  # in order of time, so these are rows of all times
    table = data.table.take(pa.array(rows)) if len(rows) < len(data) else data.table
    whole = SegmentReference(_columns(table, data.columns), None if tested is None else _predictions(tested))
    segments = {}
    if data.segment is not None:
        named = np.array(data.segment.take(pa.array(rows)).to_pylist(), dtype=object)
        for name in _biggest(named):
            own = table.filter(pa.array(named == name))
            mine = None
            if tested is not None:
                mine = _predictions(tested.filter(pa.array(np.array(tested["segment"].to_pylist(), object) == name)))
            segments[name] = SegmentReference(_columns(own, data.columns), mine)
    return Reference(whole, segments, note, _past(table, data.event[rows], whole.columns, length))


def _with_source(reference: Reference, model: Model, rows: LabelRows, length: int) -> Reference:
    chosen = _spread(len(rows.event), MOST_ROWS)
    table = rows.table.take(pa.array(chosen)) if len(chosen) < len(rows.event) else rows.table
    profile = source_profile(model, table)
    past = _past(source_columns(model, table), rows.event[chosen], profile, length)
    return msgspec.structs.replace(reference, source=profile, source_past=past)


def _past(table: pa.Table, event: np.ndarray, profile: Profile | None, length: int) -> tuple[Past, ...]:
    """The newest whole windows of the training set; rows are in order of time."""
    if profile is None or not len(event):
        return ()
    windows = list(ended(int(event[0]), int(event[-1]), length))[-MOST_PAST:]
    found = []
    for window in windows:
        low, high = np.searchsorted(event, [window.start, window.end])
        if high > low and window.start >= event[0]:
            found.append(Past(window.start, window.end, count(profile, table.slice(int(low), int(high - low)))))
    return tuple(found)


def _biggest(names: np.ndarray) -> list[str]:
    found, counts = np.unique(names[names != None].astype(str), return_counts=True)  # noqa: E711 - elementwise
    order = np.lexsort((found, -counts))[:MOST_SEGMENTS]
    return [str(found[i]) for i in order if counts[i] >= LEAST_ROWS]


def _columns(table: pa.Table, specs: tuple[ColumnSpec, ...]) -> Profile:
    return build_profile(aligned(table, {s.name: s.type for s in specs}))


def _predictions(tested: pa.Table) -> Profile | None:
    return build_profile(tested.select([PREDICTION])) if tested.num_rows else None


def aligned(table: pa.Table, types: dict[str, str]) -> pa.Table:
    """The table with truth values as numbers and all numbers as doubles, which is how an estimator sees them."""
    for number, field in enumerate(table.schema):
        plain = pa.types.is_boolean(field.type) or pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if plain and field.type != pa.float64() and types.get(field.name) != "string":
            column = table.column(number)
            column = column.cast(pa.int8()) if pa.types.is_boolean(field.type) else column
            table = table.set_column(number, field.name, column.cast(pa.float64(), safe=False))
    return table
