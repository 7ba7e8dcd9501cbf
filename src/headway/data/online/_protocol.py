"""What a backend has to do to hold the latest row per entity."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Protocol

STAMP_BYTES = 16
PREFIX_BYTES = 16

_SIGN = 1 << 63
_STAMP = struct.Struct(">QQ")


class OnlineStore(Protocol):
    """Bytes under bytes, with a guard against going back in time.

    Keys are not empty; their first 16 bytes are a view's fingerprint. A value begins with a 16-byte stamp (see
    ``stamp``), and stamps compare as bytes.

    - **Guard.** A row is written only if nothing is stored under its key or the stored stamp is not greater. The
      comparison and the write are one atomic step per key, whoever else is writing, in this process or another.
    - **Order.** Answers come in the order of the keys, repeated keys included. A later key is never read from an older
      state of the store than an earlier one, so what the first key says about all the others still holds for them.
    - **Durability.** What a call has written outlives the process and the machine once the call has returned. A call
      that was cut short may have written any part of its rows, each of them whole.
    - **Threads.** Every method may be called from any thread. After a fork the child uses its copy as if it were new.
    - **Ownership.** The store belongs to the caller, who closes it; nothing else may be called on it afterwards.

    Errors are ``StoreError``; ``StoreBusy`` where trying again may help.
    """

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, in order; None where there is none."""

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> int:
        """Write the rows that the guard lets through, and say how many; of equal stamps the later row wins."""

    def delete_older(self, prefix: bytes, stamp: bytes) -> int:
        """Delete the rows under ``prefix`` whose stamp is less; how many. A prefix has at least 16 bytes."""

    def drop(self, prefix: bytes) -> int:
        """Delete every row under ``prefix``; how many."""

    def prefixes(self) -> list[bytes]:
        """The different 16-byte beginnings of the stored keys, in order."""

    def close(self) -> None:
        """Let go of files and connections; a second call does nothing."""


def stamp(as_of: int, version: int) -> bytes:
    """The stamp of a value computed at ``as_of`` from data of ``version``; later ones are greater as bytes.

    >>> stamp(-5, 9) < stamp(3, 0) < stamp(3, 1)
    True
    """
    return _STAMP.pack(as_of + _SIGN, version)


def unstamp(value: bytes) -> tuple[int, int]:
    """``as_of`` and version of a value that begins with a stamp.

    >>> unstamp(stamp(-5, 9) + b"the rest")
    (-5, 9)
    """
    as_of, version = _STAMP.unpack_from(value)
    return as_of - _SIGN, version
