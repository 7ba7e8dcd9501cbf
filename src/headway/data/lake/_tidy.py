"""Joining the small files that many small appends leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from headway.data.lake._commit import Change, adds, commit, load, settle
from headway.data.lake._log import read_note, versions
from headway.data.lake._rows import write_rows

_SMALL = 32 << 20  # bytes
_JOINED = 256 << 20  # bytes of files that are joined at a time
_WORTH_IT = 16  # files


def small_files(table: DeltaTable) -> list[str]:
    """The files to join, oldest first, as the log names them; none if they are few.

    A part keeps its own file, which has two dashes in its name where the others have one.
    """
    found = adds(table).select(["path", "size_bytes", "modification_time"]).sort_by("modification_time")
    chosen: list[str] = []
    total = 0
    for name, size in zip(found["path"].to_pylist(), found["size_bytes"].to_pylist(), strict=True):
        if size < _SMALL and unquote(name).count("-") < 2 and total + size <= _JOINED:
            chosen.append(name)
            total += size
    return chosen if len(chosen) >= _WORTH_IT else []


def join(folder: Path, names: list[str], file: BinaryIO, lock: AbstractContextManager[None]) -> bool:
    """Put the rows of ``names`` into one file and let it take their place; not if one of them has gone meanwhile."""
    schema = pa.schema(load(folder).schema().to_arrow())
    rows = write_rows("", file, pa.RecordBatchReader.from_batches(schema, _batches(folder, names, schema)), schema)
    with lock:
        table = load(folder)
        if not set(names) <= set(adds(table)["path"].to_pylist()) or pa.schema(table.schema().to_arrow()) != schema:
            return False
        note = read_note(folder, versions(folder)[-1])  # the rows are those it speaks of
        commit(folder, Change("append", schema, settle(folder, file, rows, new=False), note, names, {}, same=True))
    return True


def _batches(folder: Path, names: list[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for name in names:
        found = pq.read_table(folder / unquote(name), partitioning=None)
        columns = [
            found[field.name].cast(field.type) if field.name in found.column_names else pa.nulls(len(found), field.type)
            for field in schema
        ]
        yield from pa.Table.from_arrays(columns, schema=schema).to_batches()
