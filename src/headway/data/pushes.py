"""Rows that are pushed: on the disk when ``push`` returns, in the lake at the next ingest.

A push is one frame of a segment (see ``segments``): a header and an Arrow IPC stream. ``move`` appends what segments
hold of a source to its table. The commit carries, as an application transaction of the table, how far in the writer's
segments it has come, so that a kill neither loses nor repeats a row; a segment is removed once the tables of all its
sources have what is in it. Light to import, since the serving process does.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headway.data.segments import Segment, SegmentWriter, Written, frames, place, writers
from headway.define import Source
from headway.errors import DataError, StoreError
from headway.locks import exclusive

if TYPE_CHECKING:
    import pyarrow as pa

    from headway.data.engine import Engine
    from headway.data.lake import Lake
    from headway.define.records import IngestResult

FOLDER = "pushes"
APP = "headway/push/"

_AT_ONCE = 64 << 20  # bytes that one commit is made of
_SPAN = 60_000_000  # microseconds of arrival that one commit covers
_PATIENCE = 600.0  # seconds to wait for another move
_HEAD = 4


class _Header(msgspec.Struct, array_like=True, frozen=True):
    source: str
    arrived: int | None
    rows: int


@dataclass(eq=False)
class _Waiting:
    """A push that is not on the disk yet."""

    payload: bytes
    done: threading.Event = field(default_factory=threading.Event)
    error: OSError | None = None


class PushLog:
    """Writes pushes down. Any thread may push; those that come together are put on the disk together.

    ``name`` is that of a writer there has never been; ``sync`` has a file on the disk.
    """

    def __init__(self, home: Path, name: str, *, sync: Callable[[int], None] = os.fsync) -> None:
        self._writer = SegmentWriter(home / FOLDER, name, sync=sync)
        self._writing = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._closed = False

    def push(self, source: str, rows: pa.Table, arrived: int | None) -> None:
        """Have rows of a source on the disk.

        Raises
        ------
        StoreError
            The disk did not take them: none of them is kept.
        """
        mine = _Waiting(_encoded(_Header(source, arrived, rows.num_rows), rows))
        self._queue.append(mine)
        with self._writing:  # who comes first writes for those who wait
            if not mine.done.is_set():
                self._write()
        if mine.error is not None:
            reason = mine.error.strerror or str(mine.error)
            raise StoreError(
                f"{rows.num_rows} rows of source {source!r} could not be written down ({reason}), and none of them is"
                " kept; make room and push them again"
            ) from None

    def close(self) -> None:
        """Let go of files; what was pushed stays to be moved."""
        with self._writing:
            self._closed = True
            self._writer.close()

    def _write(self) -> None:
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            if self._closed:
                raise OSError("the project was closed")
            self._writer.ready()
            self._writer.write([each.payload for each in batch])
        except OSError as error:
            for each in batch:
                each.error = error
        for each in batch:
            each.done.set()


def waiting(home: Path, source: Source, lake: Lake) -> int:
    """How many pushed rows of a source are not in its table yet."""
    table = f"source/{source.name}"
    return sum(
        pushed.header.rows
        for writer in writers(home / FOLDER)
        for pushed in _frames(writer, {source.name: lake.mark(table, APP + writer.name)})
        if pushed.header.source == source.name
    )


def state(home: Path) -> list[str]:
    """Something that is different after a push, and the same as long as there is none; reads no rows."""
    return [
        f"{writer.name}/{segment.number}:{segment.path.stat().st_size}"
        for writer in writers(home / FOLDER)
        for segment in writer.segments
    ]


def move(source: Source, lake: Lake, engine: Engine, home: Path, *, scratch: Path | None = None) -> list[IngestResult]:
    """Append what was pushed of a source to its table; one result for each commit.

    Commits cover a minute of arrivals at most, and rows arrive at the end of theirs. Raises ``StoreBusy`` if another
    move takes too long, ``DataError`` if rows do not fit the table any more: they stay where they are.
    """
    if not (home / FOLDER).is_dir():
        return []
    done: list[IngestResult] = []
    with exclusive(home / "locks" / "pushes.lock", "moving pushed rows into the lake", patience=_PATIENCE):
        for writer in writers(home / FOLDER):
            done += _Move(source, lake, engine, writer, scratch).run()
    return done


def sweep(home: Path, lake: Lake) -> list[str]:
    """Remove segments whose rows are all in the lake; returns what was removed."""
    gone: list[str] = []
    if not (home / FOLDER).is_dir():
        return gone
    with exclusive(home / "locks" / "pushes.lock", "moving pushed rows into the lake", patience=_PATIENCE):
        for writer in writers(home / FOLDER):
            marks = _Marks(lake, APP + writer.name)
            for segment in writer.segments:
                if segment.final and all(marks.has(p.header.source, p.place) for p in _frames_of(segment)):
                    segment.path.unlink(missing_ok=True)
                    gone.append(f"{writer.name}/{segment.path.name}")
            writer.remove()
    return gone


@dataclass(frozen=True, slots=True)
class _Pushed:
    """A frame: what it says of itself, where it ends, and its rows."""

    header: _Header
    place: int
    content: memoryview

    def batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        yield from pa.ipc.open_stream(pa.py_buffer(self.content))


class _Marks:
    """How far a writer's rows are in each source's table."""

    def __init__(self, lake: Lake, app: str) -> None:
        self._lake, self._app = lake, app
        self._found: dict[str, int | None] = {}

    def has(self, source: str, place: int) -> bool:
        if source not in self._found:
            self._found[source] = self._lake.mark(f"source/{source}", self._app)
        mark = self._found[source]
        return mark is not None and place <= mark


@dataclass(eq=False)
class _Move:
    """Moves what one writer has written of one source."""

    source: Source
    lake: Lake
    engine: Engine
    writer: Written
    scratch: Path | None
    done: list[IngestResult] = field(default_factory=list)

    def run(self) -> list[IngestResult]:
        mark = self.lake.mark(f"source/{self.source.name}", APP + self.writer.name)
        pending: list[_Pushed] = []
        size = 0
        for pushed in _frames(self.writer, {self.source.name: mark}):
            if pushed.header.source != self.source.name:
                continue
            if pending and (size >= _AT_ONCE or not _together(pending[0].header, pushed.header)):
                mark = self._commit(pending, mark)
                pending, size = [], 0
            pending.append(pushed)
            size += len(pushed.content)
        if pending:
            self._commit(pending, mark)
        return self.done

    def _commit(self, pending: list[_Pushed], mark: int | None) -> int:
        from headway.data.ingest import append_rows

        end = pending[-1].place
        arrived = [p.header.arrived for p in pending if p.header.arrived is not None]
        self.done.append(
            append_rows(
                self.source,
                (batch for pushed in pending for batch in pushed.batches()),
                self.lake,
                self.engine,
                arrived=max(arrived, default=None),
                mark={APP + self.writer.name: (mark, end)},
                scratch=self.scratch,
            )
        )
        return end


def _together(first: _Header, other: _Header) -> bool:
    """Whether two pushes may share a commit, and so the moment of their arrival."""
    if first.arrived is None or other.arrived is None:
        return first.arrived == other.arrived
    return 0 <= other.arrived - first.arrived < _SPAN


def _frames(writer: Written, marks: Mapping[str, int | None]) -> Iterator[_Pushed]:
    """What a writer has written, but for what the marks say is in the lake."""
    for segment in writer.segments:
        for pushed in _frames_of(segment):
            mark = marks.get(pushed.header.source)
            if mark is None or pushed.place > mark:
                yield pushed


def _frames_of(segment: Segment) -> Iterator[_Pushed]:
    for end, payload in frames(segment.path):
        size = int.from_bytes(payload[:_HEAD], "little")
        try:
            header = msgspec.msgpack.decode(payload[_HEAD : _HEAD + size], type=_Header)
        except msgspec.MsgspecError as error:
            raise DataError(
                f"{segment.path} has pushed rows that this version of headway cannot read ({error}); ingest them with"
                " the version that wrote them"
            ) from None
        yield _Pushed(header, place(segment.number, end), memoryview(payload)[_HEAD + size :])


def _encoded(header: _Header, rows: pa.Table) -> bytes:
    import pyarrow as pa

    head = msgspec.msgpack.encode(header)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return len(head).to_bytes(_HEAD, "little") + head + content
