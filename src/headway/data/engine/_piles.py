"""Rows put on numbered piles: in memory while there is room, in files beyond it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa

from headway.data.engine._scratch import Scratch
from headway.errors import HeadwayError, StoreError

_BUFFER = 48 << 20  # bytes that are collected before they are appended to files
_PER_ROW = 150  # bytes of keys, times and indexes that a row of events takes while features are computed
_PER_VALUE = 150  # bytes of one of its values, with the index of an aggregate


class Room:
    """Bytes that may be held in memory, shared by all who hold some."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used, self._lock = 0, Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if self._used + size > self.limit:
                return False
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._used -= size


class Workspace:
    """Where rows are worked on: ``memory`` bytes, and a folder below ``root`` for what is more.

    ``most_rows`` bounds how many rows are computed at once even where memory would allow for more, because what fits
    the processor's cache is computed faster. ``threads`` is how many parts are computed side by side.
    """

    def __init__(self, root: Path, memory: int, most_rows: int = 1 << 20, threads: int | None = None) -> None:
        self.memory, self.most_rows = memory, most_rows
        self.threads = min(threads or os.cpu_count() or 1, 2)  # more would want more memory, and wait for each other
        self.room = Room(memory // 2)  # the other half is for computing
        self.scratch = Scratch(root)

    def rows_at_once(self, values: int) -> int:
        """How many rows of events with so many values each to compute features from at once."""
        return max(1, min(self.most_rows, self.memory // 2 // self.threads // needed(1, values)))

    def piles(self) -> Piles:
        return Piles(self)

    def close(self) -> None:
        self.scratch.close()


def needed(rows: int, values: int) -> int:
    """About how many bytes it takes to compute features from events."""
    return rows * (_PER_ROW + _PER_VALUE * values)


class Piles:
    """Batches of rows by the number of their pile. All batches of a pile have one schema.

    One thread at a time may add; any may read. ``close`` removes everything.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder: Path | None = None
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._held = self._loose = 0  # bytes in memory: of the room, and beyond it until the next flush
        self._counts: dict[int, int] = {}

    def add(self, number: int, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self._counts[number] = self._counts.get(number, 0) + rows.num_rows
        self._waiting.setdefault(number, []).append(rows)
        size = rows.nbytes
        if self._folder is None and self._workspace.room.take(size):
            self._held += size
            return
        self._loose += size
        if self._folder is None or self._loose > _BUFFER:
            self._flush()

    def add_parted(self, rows: pa.RecordBatch, numbers: np.ndarray) -> None:
        """Put each row on the pile that ``numbers`` (small unsigned integers) says; rows of a pile stay in order."""
        if not rows.num_rows:
            return
        order = np.argsort(numbers, kind="stable")  # counts, for small integers
        sorted_rows, ordered = rows.take(pa.array(order)), numbers[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            self.add(int(ordered[begin]), sorted_rows.slice(begin, end - begin))

    def rows(self, number: int) -> int:
        return self._counts.get(number, 0)

    def numbers(self) -> list[int]:
        """The piles that have rows, ascending."""
        return sorted(self._counts)

    def read(self, number: int) -> Iterator[pa.RecordBatch]:
        """The batches of a pile, in the order they came."""
        if self._folder is not None and (path := self._path(number)).exists():
            with _on_disk(self._folder), pa.OSFile(str(path)) as file:
                while file.tell() < file.size():
                    with pa.ipc.open_stream(file) as stream:
                        yield from stream
        yield from self._waiting.get(number, [])

    def drop(self, number: int) -> None:
        """Forget a pile."""
        self._counts.pop(number, None)
        gone = sum(batch.nbytes for batch in self._waiting.pop(number, []))
        if self._folder is None:
            self._held -= gone
            self._workspace.room.give_back(gone)
        else:
            self._loose -= gone
            self._path(number).unlink(missing_ok=True)

    def close(self) -> None:
        for number in list(self._counts):
            self.drop(number)
        if self._folder is not None:
            self._folder.rmdir()
            self._folder = None

    def __del__(self) -> None:
        with suppress(Exception):  # an interpreter on its way out
            self.close()

    def _flush(self) -> None:
        if self._folder is None:
            self._folder = self._workspace.scratch.new("rows")
        with _on_disk(self._folder):
            for number, batches in self._waiting.items():
                table = pa.Table.from_batches(batches).combine_chunks()
                with pa.OSFile(str(self._path(number)), "ab") as file, pa.ipc.new_stream(file, table.schema) as stream:
                    stream.write_table(table)
        self._waiting = {}
        self._workspace.room.give_back(self._held)
        self._held = self._loose = 0

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{number}.arrows"


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, HeadwayError):
            raise
        why = error.strerror or str(error)
        raise StoreError(
            f"rows that do not fit memory_limit are kept under {folder.parent.parent} for as long as they are needed,"
            f" and there it failed: {why}; make room on the disk, or raise memory_limit"
        ) from error
