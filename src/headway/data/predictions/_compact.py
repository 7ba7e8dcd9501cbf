"""Segments → lake tables, exactly once.

What is in a writer's segments goes to ``predictions/<model>``, ``labels/<model>`` and ``dropped/<model>``. Each commit
carries, as an application transaction of the Delta table, how far in the writer's segments it has come; the table takes
a commit only if it begins where the one before ended. So a compaction that is killed, or meets another one, writes no
row twice; and a segment is removed only once every table has what is in it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from headway.data.lake import Lake
from headway.data.predictions._frames import (
    Dropped,
    Frame,
    Labels,
    Layout,
    Rows,
    decode_entries,
    decode_frame,
    decode_labels,
)
from headway.data.predictions._table import dropped_rows, joined, label_rows, rows_table, settled
from headway.data.segments import Segment, Written, frames, place, writers
from headway.errors import DataError, StoreError
from headway.locks import exclusive

FOLDER = "predictions"
APP = "headway/"

_AT_ONCE = 48 << 20  # bytes of segments that one commit is made of
_PATIENCE = 600.0  # seconds to wait for another compaction

log = logging.getLogger("headway.predictions")


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did: rows by lake table, segments removed, bytes at the end of dead writers' files that were
    no whole frame."""

    rows: Counter[str] = field(default_factory=Counter)
    removed: list[str] = field(default_factory=list)
    torn: Counter[str] = field(default_factory=Counter)


def predictions_table(model: str) -> str:
    return f"predictions/{model}"


def labels_table(model: str) -> str:
    return f"labels/{model}"


def dropped_table(model: str) -> str:
    return f"dropped/{model}"


def compact(lake: Lake, home: Path) -> Compacted:
    """Move all that servers have written under ``home`` into the lake.

    What a living server is writing is taken as far as it goes. Raises ``StoreBusy`` if another compaction takes too
    long.
    """
    done = Compacted()
    if not (home / FOLDER).is_dir() or not any((home / FOLDER).iterdir()):
        return done
    with exclusive(home / "locks" / "predictions.lock", "compacting the prediction log", patience=_PATIENCE):
        touched: set[str] = set()
        for writer in writers(home / FOLDER):
            touched |= _Compaction(lake, writer, done).run()
        for table in sorted(touched):
            try:
                lake.tidy(table)
            except StoreError as error:  # the rows are there all the same
                log.warning("small files stay as they are: %s", error)
    return done


class _Compaction:
    """Moves what one writer has written."""

    def __init__(self, lake: Lake, writer: Written, done: Compacted) -> None:
        self._lake, self._writer, self._done = lake, writer, done
        self._app = APP + writer.name
        self._marks: dict[str, int | None] = {}  # by table
        self._pending: dict[str, list[Frame]] = {}  # by table
        self._layouts: dict[int, Layout] = {}  # of the rows that are pending, by identity of their frames
        self._bytes = 0
        self._place = 0

    def run(self) -> set[str]:
        """Move everything; returns the tables that were written to."""
        read: list[Segment] = []
        for segment in self._writer.segments:
            self._read(segment)
            read.append(segment)
            if self._bytes >= _AT_ONCE:
                self._commit()
                self._remove(read)
                read = []
        self._commit()
        self._remove(read)
        self._writer.remove()
        return {table for table in self._marks if self._done.rows[table]}

    def _read(self, segment: Segment) -> None:
        layouts: dict[int, Layout] = {}
        end = 0
        for end, payload in frames(segment.path):
            self._place = place(segment.number, end)
            frame = _decoded(decode_frame, payload, segment.path)
            if isinstance(frame, Layout):
                layouts[frame.number] = frame
                continue
            table = _table_of(frame)
            mark = self._mark(table)
            if mark is not None and self._place <= mark:
                continue
            if isinstance(frame, Rows):
                self._layouts[id(frame)] = layouts[frame.layout]
            self._pending.setdefault(table, []).append(frame)
            self._bytes += len(payload)
            if self._bytes >= _AT_ONCE:
                self._commit()
        torn = segment.path.stat().st_size - end
        if segment.final and end and torn:
            self._done.torn[segment.path.name] += torn
            log.info("%s ends with %d bytes that were never written whole", segment.path, torn)

    def _mark(self, table: str) -> int | None:
        if table not in self._marks:
            self._marks[table] = self._lake.mark(table, self._app)
        return self._marks[table]

    def _commit(self) -> None:
        for table, found in self._pending.items():
            rows = self._rows(found)
            existing = {} if self._lake.version(table) is None else _types(self._lake.schema(table))
            data = settled(rows, existing)
            self._lake.write(table, data, "append", once={self._app: (self._marks[table], self._place)})
            self._marks[table] = self._place
            self._done.rows[table] += rows.num_rows
        self._pending, self._layouts, self._bytes = {}, {}, 0

    def _rows(self, found: Sequence[Frame]) -> pa.Table:
        if isinstance(found[0], Labels):
            return label_rows([e for f in found if isinstance(f, Labels) for e in decode_labels(f.entries)])
        if isinstance(found[0], Dropped):
            return dropped_rows([f for f in found if isinstance(f, Dropped)], self._writer.name)
        by_layout: dict[Layout, list[Any]] = {}
        for frame in found:
            if isinstance(frame, Rows):
                layout = msgspec.structs.replace(self._layouts[id(frame)], number=0)
                by_layout.setdefault(layout, []).extend(decode_entries(frame.entries))
        return joined([rows_table(layout, entries) for layout, entries in by_layout.items()])

    def _remove(self, read: Sequence[Segment]) -> None:
        for segment in read:
            if segment.final:
                segment.path.unlink(missing_ok=True)
                self._done.removed.append(f"{self._writer.name}/{segment.path.name}")


def _table_of(frame: Rows | Labels | Dropped) -> str:
    if isinstance(frame, Rows):
        return predictions_table(frame.model)
    return labels_table(frame.model) if isinstance(frame, Labels) else dropped_table(frame.model)


def _decoded(decode: Callable[[bytes], Frame], payload: bytes, path: Path) -> Frame:
    try:
        return decode(payload)
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path} has a frame that this version of headway cannot read ({error}); compact it with the version that"
            " wrote it, `headway predictions compact`"
        ) from None


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {item.name: item.type for item in schema}
