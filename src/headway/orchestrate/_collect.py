"""Forgetting, in the online store, the definitions of views that nobody needs any more.

A definition that stops being needed may still be read: by a request under way, by a server that has not yet looked at
what it should answer with, by one that cannot reach the metadata just now. So it is only noted at first, and dropped by
the first collection that finds it unneeded a while later. Meanwhile it is not refreshed: its values become late, and
are served as such.
"""

from __future__ import annotations

from collections.abc import Callable

from headway.clock import WallClock
from headway.orchestrate._parts import Parts

GRACE = 3_600_000_000  # microseconds of wall time: servers run by it, whatever clock the project has
_STAGE = "unneeded"


def collect(parts: Parts, needed: Callable[[], set[str]], grace: int = GRACE) -> list[str]:
    """Drop definitions, by fingerprint, that have been unneeded for ``grace``; note those that are so only now.

    ``needed`` tells what has to stay; it is asked again right before anything is dropped.
    """
    now = WallClock().now()
    store = parts.open_online(False)
    try:
        stored = [prefix.hex() for prefix in store.prefixes()]
        since = _noted(parts)
        unneeded = set(stored) - needed()
        for fingerprint in since.keys() - unneeded:
            _note(parts, fingerprint, None)
        for fingerprint in sorted(unneeded - since.keys()):
            _note(parts, fingerprint, now)
        due = [
            fingerprint
            for fingerprint in stored
            if fingerprint in unneeded and now - since.get(fingerprint, now) >= grace
        ]
        gone = sorted(set(due) - needed()) if due else []
        for fingerprint in gone:
            store.drop(bytes.fromhex(fingerprint))
            _note(parts, fingerprint, None)
        return gone
    finally:
        store.close()


def _noted(parts: Parts) -> dict[str, int]:
    """Since when definitions have been unneeded."""
    latest = parts.metadata.stages.latest(_STAGE)
    return {target: result.output for (_, target), result in latest.items() if result.output is not None}


def _note(parts: Parts, fingerprint: str, since: int | None) -> None:
    parts.metadata.stages.put(_STAGE, fingerprint, "", since, WallClock().now())
