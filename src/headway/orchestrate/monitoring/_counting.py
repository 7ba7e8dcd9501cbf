"""Predictions of a window, counted: read once, in pieces, and kept as counts that later windows are held against."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headway.data.predictions import input_name, predictions_table, read
from headway.define.records import VersionRecord
from headway.errors import HeadwayError
from headway.monitor import Counts, Profile, count
from headway.orchestrate._digest import digest
from headway.orchestrate._parts import Parts
from headway.orchestrate.monitoring._windows import Window
from headway.orchestrate.monitoring.reference import PREDICTION, Reference, SegmentReference, aligned

_STAGE = "monitor counts"
_PIECE = 250_000  # rows read at a time: what bounds memory
FEATURE = "f__"


class GroupCounts(msgspec.Struct, frozen=True):
    """Some rows, counted on the profiles of a reference: of all, or of one segment."""

    rows: int
    columns: Counts | None = None
    predictions: Counts | None = None

    def __add__(self, other: GroupCounts) -> GroupCounts:
        return GroupCounts(
            self.rows + other.rows, _sum(self.columns, other.columns), _sum(self.predictions, other.predictions)
        )


class WindowCounts(msgspec.Struct, frozen=True):
    """A window, counted on the reference of one version. ``versions`` says how many rows each version answered;
    ``states`` how many rows were served a feature in a state that is not ok; ``span`` is from the first row's moment
    to the last one's."""

    rows: int
    versions: dict[int, int]
    whole: GroupCounts
    segments: dict[str, GroupCounts] = {}
    states: dict[str, dict[str, int]] = {}
    span: tuple[int, int] | None = None


def _sum(a: Counts | None, b: Counts | None) -> Counts | None:
    return b if a is None else a if b is None else a + b


def first_moment(parts: Parts, model: str) -> int | None:
    """The earliest moment of a logged prediction, from the statistics of the table's files."""
    if parts.lake.version(predictions_table(model)) is None:
        return None
    found = []
    for file in parts.lake.files(predictions_table(model)):
        about = pq.read_metadata(file)
        for group in (about.row_group(n) for n in range(about.num_row_groups)):
            for column in (group.column(n) for n in range(group.num_columns)):
                known = column.statistics
                if column.path_in_schema == "at" and known is not None and known.has_min_max:
                    found.append(pa.scalar(known.min, pa.timestamp("us", "UTC")).value)
    return min(found, default=None)


class Pieces(msgspec.Struct, frozen=True):
    """What is known of a window before it is read: rows by version, most first, moments to cut it at, and the first
    and last row's moment."""

    versions: dict[int, int]
    cuts: tuple[int, ...]
    span: tuple[int, int] | None = None

    @property
    def rows(self) -> int:
        return sum(self.versions.values())


def look(parts: Parts, model: str, window: Window) -> Pieces:
    """Look at a window's moments and versions, two small columns, so that the rest can be read in pieces."""
    if parts.lake.version(predictions_table(model)) is None:
        return Pieces({}, (window.start, window.end))
    found = read(parts.lake, model, window.start, window.end, columns=["at", "version"])
    numbers, counts = np.unique(np.asarray(found.column("version").cast(pa.int64())), return_counts=True)
    order = np.lexsort((-numbers, -counts))
    versions = {int(numbers[i]): int(counts[i]) for i in order}
    at = np.sort(np.asarray(found.column("at").cast(pa.timestamp("us", "UTC")).cast(pa.int64())))
    cuts = (window.start, *(int(t) for t in at[_PIECE::_PIECE]), window.end)
    return Pieces(versions, tuple(dict.fromkeys(cuts)), (int(at[0]), int(at[-1])) if len(at) else None)


@dataclass(eq=False)
class WindowCounter:
    """Counts windows of one model on the reference of one version."""

    parts: Parts
    record: VersionRecord
    reference: Reference
    by_segment: bool = True
    _known: dict[int, frozenset[str]] = field(default_factory=dict)
    _counted: dict[Window, WindowCounts] = field(default_factory=dict)

    def counts(self, window: Window, *, again: bool = True) -> WindowCounts:
        """The counts of a window: those that were kept, if the window still has the rows that were counted then.

        Without ``again`` kept ones are taken as they are: rows seldom come to windows that are long over.
        """
        if window in self._counted:
            return self._counted[window]
        stages, key = self.parts.metadata.stages, f"{window.start}/{window.end}/{self._digest}"
        kept = stages.find(_STAGE, self.record.model, key)
        counts = None if kept is None else msgspec.convert(kept.output, WindowCounts, strict=False)
        if counts is None or again:
            seen = look(self.parts, self.record.model, window)
            if counts is None or counts.versions != seen.versions:
                counts = self._count(seen)
                stages.put(_STAGE, self.record.model, key, counts, window.end)
        self._counted[window] = counts
        return counts

    @property
    def _digest(self) -> str:
        """Names the bins, and what is counted on them."""
        references = [self.reference.whole, *self.reference.segments.values()]
        profiles = [p.digest for r in references for p in (r.columns, r.predictions) if p is not None]
        return digest(self.record.version, profiles, sorted(self._watched), self.by_segment)[:16]

    @property
    def _watched(self) -> list[str]:
        profile = self.reference.whole.columns
        return [] if profile is None else list(profile.columns)

    @property
    def _segment(self) -> str | None:
        """The log's column with the value that decides the segment."""
        column = self.record.serving.segment
        return input_name(column) if self.by_segment and column is not None else None

    @property
    def _there(self) -> set[str]:
        """The columns the log has; it is there, since something was found in it."""
        return set(self.parts.lake.schema(predictions_table(self.record.model)).names)

    def _count(self, seen: Pieces) -> WindowCounts:
        whole, segments = GroupCounts(0), dict[str, GroupCounts]()
        states: dict[str, Counter[str]] = {}
        for table in self._pieces(seen):
            for version in pc.unique(table.column("version")).to_pylist():
                own = table.filter(pc.equal(table.column("version"), version))
                whole += self._group(own, int(version), self.reference.whole)
                for name, rows in self._segments(own):
                    added = self._group(rows, int(version), self.reference.segments[name])
                    segments[name] = segments.get(name, GroupCounts(0)) + added
            _count_states(table, states)
        by_feature = {n: dict(c) for n, c in sorted(states.items())}
        return WindowCounts(seen.rows, seen.versions, whole, segments, by_feature, seen.span)

    def _pieces(self, seen: Pieces) -> Iterator[pa.Table]:
        wanted = ["version", PREDICTION, "states", *(f"{FEATURE}{name}" for name in self._watched)]
        if self._segment is not None:
            wanted.append(self._segment)
        wanted = [name for name in dict.fromkeys(wanted) if name in self._there]
        for start, end in pairwise(seen.cuts if seen.rows else ()):
            yield read(self.parts.lake, self.record.model, start, end, columns=wanted)

    def _group(self, rows: pa.Table, version: int, reference: SegmentReference) -> GroupCounts:
        columns = predictions = None
        if reference.columns is not None:
            columns = count(reference.columns, self._features(rows, version, reference.columns))
        if reference.predictions is not None and version == self.record.version:
            predictions = count(reference.predictions, _predictions(rows, reference.predictions))
        return GroupCounts(rows.num_rows, columns, predictions)

    def _features(self, rows: pa.Table, version: int, profile: Profile) -> pa.Table:
        """What the estimator was given, under the columns' own names; only columns that this version has."""
        known = self._columns_of(version)
        wanted = [name for name in profile.columns if name in known and f"{FEATURE}{name}" in rows.column_names]
        if not wanted:
            return rows.select([])
        found = rows.select([f"{FEATURE}{name}" for name in wanted]).rename_columns(wanted)
        return aligned(found, {name: column.type for name, column in profile.columns.items()})

    def _columns_of(self, version: int) -> frozenset[str]:
        if version not in self._known:
            try:
                record = self.parts.registry.show(self.record.model, version)
                self._known[version] = frozenset(c.name for c in record.serving.columns)
            except HeadwayError:  # a version nobody knows any more: its columns are those of this one
                self._known[version] = frozenset(c.name for c in self.record.serving.columns)
        return self._known[version]

    def _segments(self, rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        if self._segment is None or self._segment not in rows.column_names:
            return
        names = rows.column(self._segment).cast(pa.string())
        for name in self.reference.segments:
            own = rows.filter(pc.fill_null(pc.equal(names, name), False))
            if own.num_rows:
                yield name, own


def _predictions(rows: pa.Table, profile: Profile) -> pa.Table:
    column = rows.column(PREDICTION)
    text = profile.columns[PREDICTION].kind == "category"
    return pa.table({PREDICTION: column.cast(pa.string() if text else pa.float64(), safe=False)})


def _count_states(table: pa.Table, found: dict[str, Counter[str]]) -> None:
    """Add up how often each feature was served in a state that is not ok; rows say so in few different ways."""
    if "states" not in table.column_names:
        return
    for each in pc.value_counts(table.column("states").cast(pa.string()).combine_chunks()).to_pylist():
        for feature, state in (json.loads(each["values"]) if each["values"] else {}).items():
            found.setdefault(feature, Counter())[state] += each["counts"]
