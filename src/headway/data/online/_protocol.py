"""What a backend has to do to hold the latest row per entity."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol, runtime_checkable

STAMP_BYTES = 16
PREFIX_BYTES = 16

_DIGEST = 32
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
    - **Durability.** What a call has written outlives the process once the call has returned, and the machine as far
      as the store's server is set up for it; what it does not outlive is the newest of all that was written, so that
      nothing later remains. A call that was cut short may have written any part of its rows, each of them whole.
    - **Threads.** Every method may be called from any thread. After a fork the child uses its copy as if it were new.
    - **Ownership.** The store belongs to the caller, who closes it; nothing else may be called on it afterwards.

    Errors are ``StoreError``; ``StoreBusy`` where trying again may help. A store behind a network gives up within about
    a second when it is asked for rows, and works again, without being opened anew, once its server is back.

    A factory is called as ``open_store(url, readonly=…, namespace=…)``. ``namespace`` is text that no other project and
    environment has: a store that others share keeps everything under it, and its ``prefixes`` names nobody else's.
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

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """The keys stored under ``prefix``, some thousand at a time, each once and in any order; a long one as
        ``kept_key`` of it. A key that is written or deleted meanwhile may be among them or not, and while there are
        such keys others may come twice."""

    @property
    def longest_key(self) -> int:
        """Keys of so many bytes and more are kept under ``kept_key(key, longest_key)``; 0: all are kept as they are."""

    def close(self) -> None:
        """Let go of files and connections; a second call does nothing."""


@runtime_checkable
class Counting(Protocol):
    """A store that can tell how many rows a view has without reading them, beside being an ``OnlineStore``."""

    def count(self, prefix: bytes) -> int:
        """How many rows are under a prefix of 16 bytes."""


class Concern(NamedTuple):
    """Something in a server's set-up that puts rows at risk, and how to mend it."""

    found: str
    mend: str


@runtime_checkable
class Examined(Protocol):
    """A store whose server may be set up badly, beside being an ``OnlineStore``; ``headway doctor`` asks."""

    def concerns(self) -> list[Concern]:
        """What puts rows at risk; nothing if all is well."""


def stamp(as_of: int, version: int) -> bytes:
    """The stamp of a value computed at ``as_of`` from data of ``version``; later ones are greater as bytes.

    >>> stamp(-5, 9) < stamp(3, 0) < stamp(3, 1)
    True
    """
    return _STAMP.pack(as_of + _SIGN, version)


def kept_key(key: bytes, longest: int) -> bytes:
    """What a store that has no room for keys of ``longest`` bytes calls one: its beginning and a digest."""
    if not longest or len(key) < longest:
        return key
    return key[: longest - _DIGEST] + blake2b(key, digest_size=_DIGEST).digest()


def unstamp(value: bytes) -> tuple[int, int]:
    """``as_of`` and version of a value that begins with a stamp.

    >>> unstamp(stamp(-5, 9) + b"the rest")
    (-5, 9)
    """
    as_of, version = _STAMP.unpack_from(value)
    return as_of - _SIGN, version
