"""The thread that writes the prediction log: from a queue to frames, from frames to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from headway.data.predictions import Dropped, LabelEntry, Labels, Layout, Rows, SegmentWriter, encode, listed
from headway.errors import StoreError
from headway.serve._logged import LoggedRows
from headway.serve._room import Room

Reason = Literal["full", "disk", "failed"]

FLUSH_SECONDS = 0.2
_FRAME_BYTES = 4 << 20

log = logging.getLogger("headway.serve")


class LoggedLabels(NamedTuple):
    """Labels that somebody waits for until they are on the disk."""

    model: str
    rows: int
    entries: Sequence[LabelEntry]
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


Item = LoggedRows | LoggedLabels


class Drops:
    """Rows that were predicted and not kept, by model and reason, and which of them the segments tell of."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Reason]] = Counter()
        self._told: Counter[tuple[str, Reason]] = Counter()
        self._at: dict[tuple[str, Reason], int] = {}
        self._changing = threading.Lock()

    def add(self, model: str, reason: Reason, rows: int, at: int) -> None:
        """Count rows that were dropped at the moment ``at``."""
        with self._changing:
            self._at[model, reason] = at
            self.counts[model, reason] += rows

    def untold(self) -> Mapping[tuple[str, Reason], int]:
        """Rows that no segment tells of yet."""
        with self._changing:
            return {key: rows - self._told[key] for key, rows in self.counts.items() if rows > self._told[key]}

    def told(self, rows: Mapping[tuple[str, Reason], int]) -> None:
        """Remember that the segments tell of these."""
        self._told.update(rows)

    def frames(self, rows: Mapping[tuple[str, Reason], int], logged_at: int) -> list[bytes]:
        return [
            encode(Dropped(model, reason, count, self._at[model, reason], logged_at))
            for (model, reason), count in rows.items()
        ]


class LogThread:
    """Writes what is in ``queue``, until it is stopped. What the disk refuses is kept for the next attempt."""

    def __init__(
        self, writer: SegmentWriter, queue: deque[Item], room: Room, drops: Drops, wall: Callable[[], int]
    ) -> None:
        self.failing = ""  # why the disk does not take rows now
        self.written: Counter[str] = Counter()  # rows on the disk, by model
        self.stopping = False
        self._writer, self._queue, self._room, self._drops, self._wall = writer, queue, room, drops, wall
        self._kept: list[Item] = []  # taken from the queue, and not on the disk yet
        self._segment = -1
        self._layouts: list[Layout] = []  # those that the segment has
        self._numbers: dict[int, int] = {}  # of a layout, by its identity, its place among them
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headway-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Write now rather than at the next fifth of a second."""
        self._wake.set()

    def stop(self, seconds: float) -> bool:
        """Write what is left, for at most so many seconds. Whether the thread has ended."""
        self.stopping = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            last = self.stopping
            try:
                self._flush()
            except Exception:  # the thread must outlive whatever it meets
                log.exception("prediction log: a flush failed")
            self._room.call()
        if self._kept:
            log.error("prediction log: %s; %d rows are lost", self.failing, sum(item.rows for item in self._kept))
        with contextlib.suppress(OSError):
            self._writer.close()

    def _flush(self) -> None:
        while self._queue:
            self._kept.append(self._queue.popleft())
        untold = self._drops.untold()
        if not self._kept and not untold:
            self._writer.rest()
            return
        try:
            self._begin(self._writer.ready())
            self._writer.write([*self._frames(), *self._drops.frames(untold, self._wall())])
        except OSError as error:
            self._fail(error)
            return
        self._drops.told(untold)
        self._forget()

    def _begin(self, segment: int) -> None:
        if segment != self._segment:
            self._segment, self._layouts, self._numbers = segment, [], {}

    def _fail(self, error: OSError) -> None:
        """Keep the rows for the next attempt; labels go back to who sent them."""
        reason = _reason(error)
        if not self.failing:
            log.error("prediction log: %s; rows wait in memory, and are dropped when that is full", reason)
        self.failing = reason
        self._segment = -1  # the next attempt goes to another one
        for item in self._kept:
            if isinstance(item, LoggedLabels):
                _tell(item, StoreError(f"labels cannot be kept now: {reason}"))
                self._room.leave(item.rows)
        self._kept = [item for item in self._kept if isinstance(item, LoggedRows)]

    def _forget(self) -> None:
        """Let go of what is on the disk."""
        if self.failing:
            log.warning("prediction log: the disk takes rows again")
            self.failing = ""
        done = 0
        for item in self._kept:
            done += item.rows
            if isinstance(item, LoggedLabels):
                _tell(item, None)
            elif item.entry:
                self.written[item.layout.model] += item.rows
        self._kept = []
        self._room.leave(done)

    def _frames(self) -> list[bytes]:
        """What was taken, as blocks of entries in one layout; before the first of a layout, the layout."""
        frames: list[bytes] = []
        blocks: dict[int, list[bytes]] = {}  # by the number of the layout
        size = 0
        for item in self._kept:
            if isinstance(item, LoggedLabels):
                frames.append(encode(Labels(item.model, listed([encode(entry) for entry in item.entries]))))
                continue
            entry = item.entry if type(item.entry) is bytes else self._encoded(item)
            if not entry:
                continue
            number = self._numbers.get(id(item.layout))
            if number is None:
                number = self._introduce(item.layout, frames)
            if number not in blocks:
                blocks[number] = []
            blocks[number].append(entry)
            size += len(entry)
            if size >= _FRAME_BYTES:
                frames += self._blocks(blocks)
                blocks, size = {}, 0
        return frames + self._blocks(blocks)

    def _blocks(self, blocks: Mapping[int, Sequence[bytes]]) -> list[bytes]:
        return [
            encode(Rows(number, self._layouts[number].model, listed(entries))) for number, entries in blocks.items()
        ]

    def _encoded(self, item: LoggedRows) -> bytes:
        """The item's bytes, which it keeps: the next attempt need not make them again."""
        if isinstance(item.entry, bytes):
            return item.entry
        try:
            item.entry = item.entry()
        except Exception as error:  # noqa: BLE001 - whatever is in a row, the others are written
            log.error("prediction log: %d rows of %s cannot be encoded: %r", item.rows, item.layout.model, error)
            self._drops.add(item.layout.model, "failed", item.rows, self._wall())
            item.entry = b""
        return item.entry

    def _introduce(self, layout: Layout, frames: list[bytes]) -> int:
        """Give a layout that the segment does not have yet its number in it."""
        number = len(self._layouts)
        frames.append(encode(msgspec.structs.replace(layout, number=number)))
        self._layouts.append(layout)
        self._numbers[id(layout)] = number
        return number


def _tell(item: LoggedLabels, error: Exception | None) -> None:
    def tell() -> None:
        if item.done.done():
            return
        if error is None:
            item.done.set_result(None)
        else:
            item.done.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop has ended
        item.loop.call_soon_threadsafe(tell)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "there is no room on the disk for it"
    return f"it cannot be written ({error.strerror or error})"
