"""A bounded number of rows in memory, and those who wait for some of it to become free."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple


class _Waiting(NamedTuple):
    """Somebody who waits: ``take`` says whether waiting is over."""

    take: Callable[[], bool]
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Room:
    """How many rows are in memory, and at most ``limit``. ``leave`` and ``call`` are for the thread that lets rows go,
    all else for the event loop's: so each number is changed by one thread only. ``hurry`` is called when more than half
    of the room is taken."""

    def __init__(self, limit: int, hurry: Callable[[], None]) -> None:
        self._limit, self._half = limit, limit >> 1
        self._hurry = hurry
        self._entered = 0
        self._left = 0
        self._waiting: deque[_Waiting] = deque()

    @property
    def pending(self) -> int:
        """Rows in memory."""
        return self._entered - self._left

    def enter(self, rows: int, *, waited: bool = False) -> bool:
        """Let rows in, if there is room for them and nobody waits who came before. Any number may where there are
        none."""
        pending = self._entered - self._left
        after = pending + rows
        if (pending and after > self._limit) or (self._waiting and not waited):
            return False
        self._entered += rows
        if after > self._half:
            self._hurry()
        return True

    def leave(self, rows: int) -> None:
        """Let rows go."""
        self._left += rows

    async def wait(self, take: Callable[[], bool]) -> None:
        """Wait until ``take``, which is called in turn whenever rows have left, says so; it enters with ``waited``."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append(_Waiting(take, done, loop))
        await done

    def call(self) -> None:
        """Have those who wait look again."""
        with contextlib.suppress(IndexError, RuntimeError):  # nobody waits, or the loop has ended
            self._waiting[0].loop.call_soon_threadsafe(self._admit)

    def _admit(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            if not first.done.cancelled():
                if not first.take():
                    return
                first.done.set_result(None)
            self._waiting.popleft()
