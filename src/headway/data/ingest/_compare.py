"""What of the rows that were read is new, as SQL over what the lake holds (``old``) and what was read (``new``).

Rows are compared by a fingerprint of 128 bits over the user's columns. An id is compared with the versions that the
lake holds of it, in the order in which they arrived: those of its rows that the lake ends with are left out. So a row
that is read again gives nothing, a row that has changed (also back to what it once was) is a version, and a file that
holds the history of an id may grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

from headway.data.binding._sql import instant, name, names
from headway.data.sources import ARRIVED, DELETED, EVENT, KNOWN, SEQ
from headway.define import Source

WHAT = "__what"
NEW, CHANGED, GONE = 0, 1, 2

_SQL_TYPES = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "varchar",
    pa.binary(): "blob",
    pa.date32(): "date",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A source's rows in the lake and rows that came: the columns of both, and what the new ones are given.

    ``first`` is the next ``__seq``, ``count`` how many rows were read, ``arrived`` when (None: the clock has no time
    yet).
    """

    source: Source
    held: pa.Schema  # the user's columns in the lake
    columns: pa.Schema  # the user's columns of the new rows, which are at least those
    first: int
    count: int
    arrived: int | None

    def several(self) -> str:
        """How many ids come more than once."""
        ids = names(self.source.id)
        return f"select count(*) as n from (select {ids} from new group by {ids} having count(*) > 1)"

    def same(self) -> str:
        """Whether the rows are those there are, in whatever order."""
        figures = "count(*) as n, sum((__f >> 64)::hugeint) as s, bit_xor(__f) as x"
        old = f"select {figures} from (select {self._print(old=True)} as __f from old)"
        new = f"select {figures} from (select {self._print()} as __f from new)"
        return f"select (o.n, o.s, o.x) is not distinct from (n.n, n.s, n.x) as same from ({old}) as o, ({new}) as n"

    def changes(self, *, whole: bool, several: bool) -> str:
        """The rows to append, with ``__what``. ``whole``: an id that did not come is gone. ``several``: an id may come
        more than once."""
        parts = [self._single(several=several)]
        if several:
            parts.append(self._several())
        if whole:
            parts.append(self._gone())
        return "\nunion all\n".join(parts)

    def unseen(self, since: str) -> str:
        """Of rows without an id, those that the lake does not hold yet, counting equal rows; ``since`` is the column
        by which rows are read again. Rows before the least of the new ones are not looked at."""
        column = name(since)
        least = f"(select min({column}) from new)"
        old = f"select {self._print(old=True)} as __f from old where {column} >= {least} or {column} is null"
        seen = f"select __f, row_number() over (partition by __f) as __n from ({old})"
        new = f"select *, {self._print()} as __f from new"
        numbered = f"select *, row_number() over (partition by __f order by {name(SEQ)}) as __n from ({new})"
        rows = f"({numbered}) as n anti join ({seen}) as o using (__f, __n)"
        return f"select {self._listed('n')}, {NEW} as {WHAT} from {rows}"

    def _single(self, *, several: bool) -> str:
        """Of an id that comes once, the row, if the version that arrived last is another one."""
        ids = names(self.source.id)
        skip = f" anti join ({self._repeated()}) as r using ({ids})" if several else ""
        return (
            f"select {self._listed('n', 'o.__k', 'o.__s is not null')}, case when o.__s is null then {NEW} else"
            f" {CHANGED} end as {WHAT} from (select *, {self._print()} as __f from new) as n left join"
            f" ({self._standing(coming=True)}) as o using ({ids}){skip} where o.__s is null or o.__f <> n.__f"
        )

    def _several(self) -> str:
        """Of an id that comes more than once, the rows after those that the lake's versions of it end with."""
        ids = names(self.source.id)
        nth = f"row_number() over (partition by {ids} order by {name(SEQ)}) as __n"
        rows = f"select *, {self._print()} as __f, {nth} from new semi join ({self._repeated()}) as r using ({ids})"
        came = f"select {ids}, list(__f order by {name(SEQ)}) as __new from ({rows}) group by {ids}"
        known = f", max({name(KNOWN)}) as __k" if not self.source.timeless else ", null as __k"
        held = (
            f"select {ids}, list({self._print(old=True)} order by {name(SEQ)}) as __old{known} from old"
            f" semi join ({self._repeated()}) as r using ({ids}) group by {ids}"
        )
        lengths = "range(1, least(len(__old), len(__new)) + 1)"
        candidates = f"list_filter({lengths}, lambda k: __old[len(__old) - k + 1] = __new[1])"
        agree = f"list_filter({candidates}, lambda k: __old[len(__old) - k + 1:] = __new[:k])"
        skip = f"select {ids}, __k, __old is not null as __held, coalesce(list_max({agree}), 0) as __skip"
        skips = f"{skip} from ({came}) left join ({held}) using ({ids})"
        return (
            f"select {self._listed('n', 'o.__k', 'o.__held')}, case when o.__held then {CHANGED} else {NEW} end as"
            f" {WHAT} from ({rows}) as n join ({skips}) as o using ({ids}) where n.__n > o.__skip"
        )

    def _gone(self) -> str:
        """A deleted version of every id that did not come."""
        source, ids = self.source, names(self.source.id)
        values = [
            f"true as {name(item.name)}"
            if item.name == source.deleted
            else f"{self._old(item, 'h')} as {name(item.name)}"
            for item in self.columns
        ]
        if not source.timeless:
            known = "o.__k" if self.arrived is None else f"greatest({instant(self.arrived)}, o.__k)"
            values += [f"h.{name(EVENT)}", f"{known} as {name(KNOWN)}"]
        seq = f"{self.first + self.count - 1} + row_number() over (order by h.{name(SEQ)})"
        values += [
            f"{seq} as {name(SEQ)}",
            f"{self._arrival(known=None)} as {name(ARRIVED)}",
            f"true as {name(DELETED)}",
        ]
        return (
            f"select {', '.join(values)}, {GONE} as {WHAT} from old as h"
            f" join (select __s, __k from ({self._standing()})) as o on o.__s = h.{name(SEQ)}"
            f" anti join new using ({ids}) where not h.{name(DELETED)}"
        )

    def _standing(self, *, coming: bool = False) -> str:
        """Of every id in the lake, or of those that came (``coming``): the version that arrived last (``__s``), its
        fingerprint (``__f``), and the greatest moment at which one became known (``__k``)."""
        ids, seq = names(self.source.id), name(SEQ)
        known = f", max({name(KNOWN)}) as __k" if not self.source.timeless else ", null as __k"
        came = f" semi join new using ({ids})" if coming else ""
        return (
            f"select {ids}, max({seq}) as __s, arg_max({self._print(old=True)}, {seq}) as __f{known} from old{came}"
            f" group by {ids}"
        )

    def _repeated(self) -> str:
        ids = names(self.source.id)
        return f"select {ids} from new group by {ids} having count(*) > 1"

    def _listed(self, at: str, known: str | None = None, held: str = "false") -> str:
        """The columns of a row to append: of a version that follows another its ``__known`` is no earlier than its
        arrival and than that of the others, unless the source says itself when rows become known."""
        values = [f"{at}.{name(c)}" for c in self.columns.names]
        arrival = f"{at}.{name(KNOWN)}"
        if not self.source.timeless:
            values.append(f"{at}.{name(EVENT)}")
            if known is not None and self.source.created is None:
                moments = [f"{at}.{name(KNOWN)}", known]
                if self.arrived is not None:
                    moments.append(instant(self.arrived))
                arrival = (
                    f"case when {held} and {at}.{name(KNOWN)} is not null then greatest({', '.join(moments)})"
                    f" else {at}.{name(KNOWN)} end"
                )
            values.append(f"{arrival} as {name(KNOWN)}")
        values.append(f"{at}.{name(SEQ)} + {self.first} as {name(SEQ)}")
        values.append(f"{self._arrival(None if self.source.timeless else arrival)} as {name(ARRIVED)}")
        if self.source.id:
            values.append(f"{at}.{name(DELETED)}")
        return ", ".join(values)

    def _arrival(self, known: str | None) -> str:
        if self.arrived is not None:
            return instant(self.arrived)
        return known or "null::timestamptz"

    def _print(self, *, old: bool = False) -> str:
        """The fingerprint of a row, as two hashes of 64 bits in one number."""
        values = [self._old(item) if old else name(item.name) for item in self.columns]
        if self.source.id:
            values.append(name(DELETED))
        one, other = ", ".join(values), ", ".join(reversed(values))
        return f"(hash({one})::uhugeint * 18446744073709551616 + hash(1, {other})::uhugeint)"

    def _old(self, item: pa.Field, at: str = "") -> str:
        """A column of the lake in the type it is to have; null if the lake does not have it yet."""
        if item.name not in self.held.names:
            return f"cast(null as {sql_type(item.type)})"
        column = f"{at}.{name(item.name)}" if at else name(item.name)
        if self.held.field(item.name).type == item.type:
            return column
        return f"cast({column} as {sql_type(item.type)})"


def brought_to(held: pa.Schema, columns: pa.Schema, own: Sequence[str]) -> str:
    """The rows of the lake with the types of ``columns``, then headway's ``own`` columns."""
    values = []
    for item in columns:
        if item.name not in held.names:
            values.append(f"cast(null as {sql_type(item.type)}) as {name(item.name)}")
        elif held.field(item.name).type == item.type:
            values.append(name(item.name))
        else:
            values.append(f"cast({name(item.name)} as {sql_type(item.type)}) as {name(item.name)}")
    return f"select {', '.join([*values, *map(name, own)])} from old"


def sql_type(kind: pa.DataType) -> str:
    """A plain Arrow type as DuckDB writes it."""
    if kind in _SQL_TYPES:
        return _SQL_TYPES[kind]
    if types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    if types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if types.is_struct(kind):
        return f"struct({', '.join(f'{name(item.name)} {sql_type(item.type)}' for item in kind)})"
    if types.is_map(kind):
        return f"map({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    return f"{sql_type(kind.value_type)}[]"
