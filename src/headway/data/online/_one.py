"""One row, quickly: what most requests ask for.

numpy takes as long for one row as for a hundred. A row in which every value is plainly ok is unpacked with ``struct``
instead; whatever is late, expired or missing goes the general way, which alone knows those rules.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from headway.data.online._keys import Watermark
from headway.data.online._packing import TEXT, TIMES, Layout

_HEAD = struct.Struct(">QQ")
_SIGN = 1 << 63
_NAN = float("nan")
_CODES = {
    "<f8": "d", "<f4": "f", "<f2": "e", "<i8": "q", "<i4": "i", "<i2": "h", "|i1": "b",
    "<u8": "Q", "<u4": "I", "<u2": "H", "|u1": "B", "|b1": "?",
}  # fmt: skip


class OkRow(NamedTuple):
    """A row whose values are all ok: when it speaks for, and its values as numbers (NaN for nulls and texts)."""

    as_of: int
    values: tuple[float, ...]


class RowUnpacker:
    """Unpacks rows of a layout; ``chosen`` says which of the plan's features, in which order."""

    def __init__(self, layout: Layout, chosen: Sequence[int]) -> None:
        self._layout = layout
        self._struct, first = _struct_of(layout)
        self._pick = _picker([_place(layout, i, first) for i in chosen])
        self._null, self._expired = first["null"], first.get("expired")
        # A null float is stored as NaN; of other numbers the null bits have to be looked at.
        whole = [i for i in chosen if layout.slots[i].group != TEXT and layout.slots[i].group[1] != "f"]
        self._whole = sum(1 << i for i in whole)
        self._times = _picker([first[TIMES] + layout.timed.index(i) for i in chosen if i in layout.timed])

    def ok_row(self, mark: Watermark | None, blob: bytes | None, r: int) -> OkRow | None:
        """The row if all its values are ok at ``r``; None if they are not, or if that is not plain to see."""
        layout = self._layout
        if blob is None or mark is None or (len(blob) < layout.size if layout.texts else len(blob) != layout.size):
            return None
        as_of, version = _HEAD.unpack_from(blob)
        if as_of == 0:  # BEGINNING: a blank in the place of a row
            return None
        as_of -= _SIGN
        if version <= mark.version and as_of < mark.as_of:
            as_of = mark.as_of
        if as_of < r and layout.plan.refresh is not None:
            return None
        values = self._struct.unpack_from(blob)
        if self._whole and int.from_bytes(values[self._null], "little") & self._whole:
            return None
        if self._expired is not None and not self._fresh(values, r):
            return None
        return OkRow(as_of, self._pick((*values, _NAN)))

    def _fresh(self, values: Sequence[Any], r: int) -> bool:
        """Whether no latest value is past its ttl, or without an event (BEGINNING is before everything)."""
        assert self._expired is not None
        ttl = self._layout.plan.ttl or 0
        return not any(values[self._expired]) and all(time >= r - ttl for time in self._times(values))


def _struct_of(layout: Layout) -> tuple[struct.Struct, dict[str, int]]:
    """The fixed part of a row for ``struct``, and which of its values is the first one of each member."""
    first: dict[str, int] = {}
    code, count = "<", 0
    for name in layout.dtype.names or ():
        member = layout.dtype[name]
        width = math.prod(member.shape)
        first[name] = count
        if name in ("null", "expired", "padding"):
            code, count = f"{code}{width}s", count + 1
        elif name in ("as_of", "version"):
            code, count = f"{code}Q", count + 1
        else:
            code, count = f"{code}{width}{_CODES[member.base.str]}", count + width
    first[TEXT] = count  # what stands for a text comes after all values
    return struct.Struct(code), first


def _place(layout: Layout, feature: int, first: dict[str, int]) -> int:
    slot = layout.slots[feature]
    return first[TEXT] if slot.group == TEXT or slot.items else first[slot.group] + slot.column


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple(values[place] for place in places)
