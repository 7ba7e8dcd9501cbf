"""The prediction log of a server: every predicted row on the disk within a second, in bounded memory.

A request hands its rows over and is answered. A thread writes what came since, five times a second, to segments of its
own (see ``headway.data.predictions``) and has it on the disk: a killed server loses what it was told last. What the
disk has not taken waits in memory, up to a number of rows; what happens then is the policy.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from headway.clock import WallClock, to_iso
from headway.data.predictions import FOLDER, LabelEntry, SegmentWriter
from headway.errors import StoreError
from headway.serve._log_thread import Drops, Item, LoggedLabels, LogThread, Reason
from headway.serve._logged import LoggedRows, Served
from headway.serve._room import Room

Policy = Literal["drop", "wait"]

_LAST_SECONDS = 10.0  # that the last write may take when the server stops
_LABEL_SECONDS = 10.0
_WALL = WallClock()

log = logging.getLogger("headway.serve")


class PredictionLog:
    """Takes rows and labels, and writes them down. Its methods are for one thread, that of the event loop.

    Parameters
    ----------
    home
        Segments are kept in the folder ``predictions`` of it, in one of this log's own.
    rows
        How many rows may be in memory. A request with more of them is admitted when there are none.
    policy
        When there is no room: ``drop`` rows and count them, or have requests ``wait``. Nothing waits while the disk
        fails.
    closed
        Called, on the log's thread, with each segment that is complete.
    wall
        The wall clock.
    sync
        Has a file on the disk.
    """

    def __init__(
        self,
        home: Path,
        *,
        rows: int = 100_000,
        policy: Policy = "drop",
        closed: Callable[[Path], None] = lambda _: None,
        wall: Callable[[], int] = _WALL.now,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.policy = policy
        self.wall = wall
        self._queue: deque[Item] = deque()
        self._drops = Drops()
        self._writer = SegmentWriter(home / FOLDER, _new_name(wall()), closed=closed, sync=sync)
        self._room = Room(rows, lambda: self._thread.wake())
        self._thread = LogThread(self._writer, self._queue, self._room, self._drops, wall)

    @property
    def name(self) -> str:
        """Whose segments these are; another one after every start."""
        return self._writer.folder.name

    @property
    def pending(self) -> int:
        """Rows in memory."""
        return self._room.pending

    @property
    def failing(self) -> str:
        """Why the disk does not take rows now; empty if it does."""
        return self._thread.failing

    @property
    def written(self) -> Mapping[str, int]:
        """Rows on the disk since the start, by model."""
        return self._thread.written

    @property
    def dropped(self) -> Mapping[tuple[str, Reason], int]:
        """Rows that were not kept since the start, by model and reason: there was no room (``full``), the disk failed
        and there was none (``disk``), a row could not be encoded (``failed``)."""
        return self._drops.counts

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what is left, for ten seconds at the most."""
        if not self._thread.stop(_LAST_SECONDS):
            log.error("prediction log: the disk does not answer; %d rows are lost", self.pending)

    def add(self, served: Served, seconds: float) -> bool:
        """Log the rows of a request that took ``seconds`` so far; False if there is no room, see ``put`` then."""
        if not self._room.enter(served.rows):
            return False
        self._keep(served, seconds)
        return True

    async def put(self, served: Served, seconds: float) -> None:
        """Log the rows of a request for which there was no room: wait for it, or drop them, as the policy says."""

        def take() -> bool:
            if self._must_drop:
                self._drop(served)
                return True
            if self._room.enter(served.rows, waited=True):
                self._keep(served, seconds)
                return True
            return False

        if self.policy == "wait" and not self._must_drop:
            self._thread.wake()
            await self._room.wait(take)
        else:
            self._drop(served)

    async def attach(self, model: str, entries: Sequence[LabelEntry]) -> None:
        """Keep labels; returns once they are on the disk. Raises ``StoreError`` if they are not."""
        loop = asyncio.get_running_loop()
        item = LoggedLabels(model, len(entries), entries, loop.create_future(), loop)
        try:
            async with asyncio.timeout(_LABEL_SECONDS):
                await self._enter(item)
                await item.done
        except TimeoutError:
            raise StoreError("labels cannot be kept now: the disk does not answer") from None

    async def _enter(self, item: LoggedLabels) -> None:
        def take(*, waited: bool = True) -> bool:
            if self._must_drop:
                item.done.set_exception(StoreError(f"labels cannot be kept now: {self.failing or 'the server stops'}"))
            elif self._room.enter(item.rows, waited=waited):
                self._queue.append(item)
                self._thread.wake()
            else:
                return False
            return True

        if not take(waited=False):
            await self._room.wait(take)

    @property
    def _must_drop(self) -> bool:
        return bool(self._thread.failing) or self._thread.stopping

    def _keep(self, served: Served, seconds: float) -> None:
        at = self.wall()
        for part in served.parts:
            try:
                rows = part.maker.logged(part, served, at, seconds)
            except Exception as error:  # noqa: BLE001 - whatever is in a row, the request is answered
                log.error("prediction log: a row of %s cannot be encoded: %r", served.model, error)
                rows = LoggedRows(part.maker.layout, len(part.answer.predictions), b"")
                self._drops.add(served.model, "failed", rows.rows, served.now)
            self._queue.append(rows)

    def _drop(self, served: Served) -> None:
        self._drops.add(served.model, "disk" if self.failing else "full", served.rows, served.now)


def describe(logged: PredictionLog | None) -> dict[str, Any]:
    """What ``/readyz`` says of the log."""
    if logged is None:
        return {"policy": "off"}
    return {
        "policy": logged.policy,
        "failing": logged.failing or None,
        "pending": logged.pending,
        "dropped": sum(logged.dropped.values()),
    }


def _new_name(now: int) -> str:
    """Sorts by when it was made, and is nobody else's."""
    return f"{to_iso(now)[:19].replace('-', '').replace(':', '')}-{os.urandom(6).hex()}"
