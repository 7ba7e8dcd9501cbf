"""What comes of a request: its answer, and what to note of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from headway.clock import to_iso
from headway.serve._logged import Served
from headway.serve._metrics import Metrics


class Outcome(NamedTuple):
    """The body of an answer, and what to count and to log once it is given (on the event loop's thread)."""

    body: bytes
    tally: Callable[[Metrics], None]
    served: Served | None = None


@functools.lru_cache(maxsize=1024)
def iso(as_of: int | None) -> str | None:
    """A moment as text; None stays None."""
    return None if as_of is None else to_iso(as_of)
