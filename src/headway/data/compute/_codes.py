"""Key values as dense integers.

Every distinct key among the events gets a code from 0 on; a key nobody has seen gets -1. Composite keys are combined
code by code, so that ("1", "23") and ("12", "3") stay apart.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.compute._types import arrow_type, as_array, from_numpy, to_numpy
from headway.define.records import Field
from headway.errors import DataError


class KeyCodes:
    """The codes of ``table``'s rows (``codes``, int64), of which there are ``count`` distinct ones."""

    def __init__(self, table: pa.Table, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.table = key_columns(table, fields, "the events")
        self._dictionaries: list[pa.Array] = []
        self._combined: list[pa.Array] = []
        columns = [column.combine_chunks() for column in self.table.columns]
        self.codes = self._encode(columns[0], self._dictionaries)
        for column in columns[1:]:
            inner = self._encode(column, self._dictionaries)
            pairs = self.codes * len(self._dictionaries[-1]) + inner
            self.codes = self._encode(from_numpy(pairs), self._combined)
        last = self._combined or self._dictionaries
        self.count = len(last[-1])

    @staticmethod
    def _encode(column: pa.Array, dictionaries: list[pa.Array]) -> np.ndarray:
        encoded = column.dictionary_encode()
        dictionaries.append(encoded.dictionary)
        return to_numpy(encoded.indices).astype(np.int64)

    def lookup(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """The codes of the rows of ``table`` (-1: unknown, or a null), and which rows have no null in their key."""
        keys = key_columns(table, self.fields, "the rows to look up")
        columns = [column.combine_chunks() for column in keys.columns]
        whole = np.ones(keys.num_rows, dtype=bool)
        for column in columns:
            if column.null_count:
                whole &= to_numpy(column.is_valid())
        codes = _find(columns[0], self._dictionaries[0])
        for column, inner, pairs in zip(columns[1:], self._dictionaries[1:], self._combined, strict=True):
            second = _find(column, inner)
            known = (codes >= 0) & (second >= 0)
            codes = _find(from_numpy(np.where(known, codes * len(inner) + second, -1)), pairs)
        codes[~whole] = -1
        return codes, whole

    def distinct(self, codes: np.ndarray | None = None) -> tuple[np.ndarray, pa.Table]:
        """The given codes (all of them if None), each once, and their keys; in the order of the key values."""
        example = np.zeros(self.count, dtype=np.int64)
        example[self.codes] = np.arange(len(self.codes))
        chosen = np.arange(self.count) if codes is None else np.unique(codes)
        table = self.table.take(from_numpy(example[chosen]))
        order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names])
        return chosen[to_numpy(order)], table.take(order)


def key_columns(table: pa.Table, fields: tuple[Field, ...], what: str) -> pa.Table:
    """The key columns of ``table`` in the order and types of ``fields``."""
    missing = [field.name for field in fields if field.name not in table.column_names]
    if missing:
        raise DataError(f"{what} have no key column {missing[0]!r}; their columns are {table.column_names}")
    columns = [as_array(table[field.name], arrow_type(field.type), f"key {field.name!r}") for field in fields]
    return pa.table(columns, names=[field.name for field in fields])


def _find(column: pa.Array, dictionary: pa.Array) -> np.ndarray:
    found = pc.index_in(column, value_set=dictionary, skip_nulls=True)
    codes = to_numpy(found).astype(np.int64)
    if found.null_count:
        codes[~to_numpy(found.is_valid())] = -1
    return codes
