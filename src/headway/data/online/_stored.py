"""What a store holds of one view, as it is: which rows, under which stamps, whatever they are worth now.

Serving asks for entities; whoever verifies asks the other way round: who is stored at all?
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from headway.data.online._arrow import arrow_type
from headway.data.online._keys import Key, Watermark, encode_keys, read_watermark, row_prefix
from headway.data.online._packing import plan_layout
from headway.data.online._protocol import OnlineStore, kept_key, unstamp
from headway.data.online._read import OnlineColumns, OnlineReader
from headway.define.records import BEGINNING, Field, ViewPlan

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MANY = 16_384


class StoredView:
    """The rows of one view in a store. It does not close the store."""

    def __init__(self, store: OnlineStore, plan: ViewPlan) -> None:
        self.plan = plan
        self._store = store
        self._reader = OnlineReader(store).bind(plan)
        self._layout = plan_layout(plan)

    def mark(self) -> Watermark | None:
        """The view's last completed refresh."""
        return read_watermark(self._store, self.plan)

    def names(self) -> Iterator[list[bytes]]:
        """What the stored rows are called, some thousand at a time; see ``OnlineStore.scan``."""
        return self._store.scan(row_prefix(self.plan))

    def named(self, keys: pa.Table) -> list[bytes]:
        """What the rows of entities are called, if they are stored. No key may be null."""
        return [kept_key(key, self._store.longest_key) for key in encode_keys(self.plan, keys) if key is not None]

    def read(self, keys: pa.Table) -> StoredRows:
        """The rows of entities, in their order."""
        return self.read_names(encode_keys(self.plan, keys))

    def read_names(self, names: Sequence[Key]) -> StoredRows:
        """The rows of encoded keys. One that the store had to shorten cannot be found again, and is not there."""
        mark_key = self._reader.mark_key
        found: list[bytes | None] = []
        for start in range(0, len(names), _MANY):
            found += self._store.get_many([mark_key if n is None else n for n in names[start : start + _MANY]])
        blobs = [None if name is None else blob for name, blob in zip(names, found, strict=True)]
        return StoredRows(self, blobs)

    def whole(self, blob: bytes) -> bool:
        """Whether a row has the length that the view's rows have."""
        size, layout = self._layout.size, self._layout
        if not layout.texts or len(blob) < size:
            return len(blob) == size
        return len(blob) == size + int(layout.read([blob])["ends"][0, -1])

    def decode(self, mark: Watermark | None, blobs: Sequence[bytes | None], r: int) -> OnlineColumns:
        """Rows as what they are worth at ``r``."""
        return self._reader.decode(mark, blobs, r)

    def text_of(self, name: bytes) -> dict[str, Any]:
        """The key columns that a row's name stands for; the name itself, in hex, where it stands for none."""
        rest = name[len(row_prefix(self.plan)) :]
        found = None if len(name) == self._store.longest_key else _decoded(self.plan.keys, rest)
        return {"(not a key)": rest.hex()} if found is None else found


class StoredRows:
    """Rows of a view, one per name asked for. ``as_of`` and ``version`` are their stamps, ``BEGINNING`` and 0 for what
    is not there; ``damaged`` rows are as good as that."""

    def __init__(self, view: StoredView, blobs: list[bytes | None]) -> None:
        self._view = view
        self.damaged = np.array([b is not None and not view.whole(b) for b in blobs], bool)
        self._blobs = [None if bad else blob for blob, bad in zip(blobs, self.damaged, strict=True)]
        self.there = np.array([blob is not None for blob in self._blobs], bool)
        stamps = [(BEGINNING, 0) if blob is None else unstamp(blob) for blob in self._blobs]
        self.as_of = np.array([as_of for as_of, _ in stamps], np.int64)
        self.version = np.array([version for _, version in stamps], np.int64)

    def __len__(self) -> int:
        return len(self._blobs)

    def values(self, rows: np.ndarray, mark: Watermark | None, r: int) -> pa.Table:
        """The features of some of the rows (by their numbers) as they are read at ``r``."""
        columns = self._view.decode(mark, [self._blobs[at] for at in rows.tolist()], r)
        return pa.table({name: columns.array(name) for name in columns.features})


def digests(names: Sequence[bytes]) -> np.ndarray:
    """A number for each name, the same on every machine and as good as chance: uint64."""
    joined = b"".join([blake2b(name, digest_size=8).digest() for name in names])
    return np.frombuffer(joined, "<u8")


def _decoded(fields: Sequence[Field], rest: bytes) -> dict[str, Any] | None:
    """Key columns from the encoded part of a key (see ``_keys``); None if it is not one."""
    found: dict[str, Any] = {}
    for field in fields:
        kind = arrow_type(field.type)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            part, rest = rest[:8], rest[8:]
        elif len(fields) == 1:
            part, rest = rest, b""
        else:
            size = int.from_bytes(rest[:4], "big")
            part, rest = rest[4 : 4 + size], rest[4 + size :]
            if len(part) != size:
                return None
        try:
            found[field.name] = _value(kind, part)
        except (struct.error, UnicodeDecodeError, OverflowError, ValueError):
            return None
    return None if rest else found


def _value(kind: pa.DataType, part: bytes) -> Any:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return part.decode()
    if pa.types.is_uint64(kind):
        return struct.unpack(">Q", part)[0]
    if pa.types.is_floating(kind):
        return struct.unpack(">d", part)[0]
    (number,) = struct.unpack(">q", part)
    if pa.types.is_boolean(kind):
        return bool(number)
    if pa.types.is_date32(kind):
        return date(1970, 1, 1) + timedelta(days=number)
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        at = _EPOCH + timedelta(microseconds=number)
        return at if kind.tz else at.replace(tzinfo=None)
    return number
