"""Files that are only appended to: what is written down before it is in the lake.

A writer has a folder of its own, with a lock that lives as long as it does and numbered segments. A segment is a magic
word and then frames: length, CRC-32, payload. What a killed writer left half written at the end is no frame, and is
never read. A place in a writer's segments is one number that only grows: see ``Place``.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.clock import monotonic
from headway.errors import StoreBusy
from headway.locks import exclusive

SEGMENT_BYTES = 64 << 20
SEGMENT_SECONDS = 600.0

_MAGIC = b"HWLOG\x00\x001"
_FRAME = struct.Struct("<II")
_SUFFIX = ".seg"
_LOCK = "lock"
_WRITING = "writing segments"
_OFFSET_BITS = 40

Sync = Callable[[int], None]


def place(number: int, offset: int) -> int:
    """A place in a writer's segments as one number: ``offset`` bytes into segment ``number``."""
    return number << _OFFSET_BITS | offset


class SegmentWriter:
    """Appends frames. One thread only; nothing is on the disk before the first write.

    ``closed`` is called with each segment that is complete, since it is large or old. ``sync`` has a file on the disk.
    """

    def __init__(
        self, root: Path, name: str, *, closed: Callable[[Path], None] = lambda _: None, sync: Sync = os.fsync
    ) -> None:
        self.folder = root / name
        self._closed, self._sync = closed, sync
        self._lock = contextlib.ExitStack()
        self._file: int | None = None
        self._next = 0
        self._size = 0
        self._due = 0.0

    def ready(self) -> int:
        """The number of the segment that the next write goes to. Raises ``OSError`` if it cannot be begun."""
        self.rest()
        if self._file is None:
            self._begin()
        return self._next - 1

    def write(self, payloads: Sequence[bytes]) -> None:
        """Append frames and have them on the disk: all of them, or none. Call ``ready`` before.

        Raises ``OSError``; the frames are then taken back, and the next write goes to another segment.
        """
        assert self._file is not None
        before = self._size
        try:
            for payload in payloads:
                self._append(_FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
            self._sync(self._file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            self._end()
            raise

    def rest(self) -> None:
        """Close the segment if it is large or old; call it now and then while there is nothing to write."""
        if self._file is not None and (self._size >= SEGMENT_BYTES or monotonic() >= self._due):
            self._end()
            self._closed(self._path)

    def close(self) -> None:
        """Close the segment and let go of the folder."""
        self._end()
        self._lock.close()

    def _begin(self) -> None:
        if not self.folder.exists():
            self._claim()
        self._next += 1
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._size, self._due = 0, monotonic() + SEGMENT_SECONDS
        try:
            self._append(_MAGIC)
            _sync_folder(self.folder)
        except BaseException:
            self._end()
            raise

    def _claim(self) -> None:
        """Make the folder with its lock held: one without a holder is a dead writer's."""
        made = self.folder.with_name(f".{self.folder.name}")
        made.mkdir(parents=True, exist_ok=True)
        self._lock.close()
        self._lock.enter_context(exclusive(made / _LOCK, _WRITING))
        made.rename(self.folder)
        _sync_folder(self.folder.parent)

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._size += len(data)

    def _end(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    @property
    def _path(self) -> Path:
        return self.folder / f"{self._next - 1:06d}{_SUFFIX}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a writer; ``final`` says that nothing will be added to it."""

    path: Path
    number: int
    final: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What there is of one writer, oldest segment first."""

    folder: Path
    alive: bool
    segments: tuple[Segment, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    def remove(self) -> None:
        """Take away what is left of a dead writer, once its segments are gone."""
        if not self.alive:
            with contextlib.suppress(OSError):  # another one is at it, or a segment is still there
                (self.folder / _LOCK).unlink(missing_ok=True)
                self.folder.rmdir()


def writers(root: Path) -> list[Written]:
    """All writers that have left something under ``root``."""
    if not root.is_dir():
        return []
    return [_look(folder) for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]


def _look(folder: Path) -> Written:
    alive = _is_alive(folder)  # before the files: what a dead writer has left does not change
    numbers = sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}"))
    found = [
        Segment(folder / f"{number:06d}{_SUFFIX}", number, not alive or number < numbers[-1]) for number in numbers
    ]
    return Written(folder, alive, tuple(found))


def _is_alive(folder: Path) -> bool:
    try:
        with exclusive(folder / _LOCK, _WRITING):
            return False
    except StoreBusy:
        return True
    except FileNotFoundError:  # another compaction has just removed it
        return False


def frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole frames of a segment, each with the offset where it ends; stops before the first that is not whole."""
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        return
    at = len(_MAGIC)
    while at + _FRAME.size <= len(data):
        length, check = _FRAME.unpack_from(data, at)
        begin, end = at + _FRAME.size, at + _FRAME.size + length
        payload = data[begin:end]
        if end > len(data) or zlib.crc32(payload) != check:
            return
        yield end, payload
        at = end
