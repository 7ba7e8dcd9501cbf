"""Work that goes on beside other work. Arrow, numpy and the SQL engine let go of Python's lock while they compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, with the next one under way while the current one is worked on."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as other:
        coming: Future[object] = other.submit(next, source, end)
        try:
            while (item := coming.result()) is not end:
                coming = other.submit(next, source, end)
                yield item  # type: ignore[misc]
        finally:
            coming.exception()  # waits: a generator cannot be closed while it runs
            if hasattr(source, "close"):
                source.close()


def side_by_side(work: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    """``work`` of each item, in order, with up to ``threads`` of them under way or waiting to be taken."""
    if threads < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as others:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(others.submit(work, item))
                if len(waiting) >= threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
