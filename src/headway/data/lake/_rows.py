"""Rows on their way into a Parquet file of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from headway.data.engine import plain, plain_schema
from headway.errors import DataError

_GROUP_ROWS = 122_880  # DuckDB works on row groups side by side, and this is its own size for them
_GROUP_BYTES = 128 * 2**20


def target_schema(table: str, incoming: pa.Schema, existing: pa.Schema | None) -> pa.Schema:
    """The schema rows are written with: plain types, or those of the table that is appended to."""
    try:
        schema = plain_schema(incoming)
    except DataError as error:
        raise DataError(f"lake table {table!r}: {error}") from None
    lower = [name.lower() for name in schema.names]
    twice = sorted({name for name in schema.names if lower.count(name.lower()) > 1})
    if twice:
        raise DataError(f"lake table {table!r}: columns must differ in more than upper and lower case, got {twice}")
    if not schema.names:
        raise DataError(f"lake table {table!r}: a table needs at least one column")
    if existing is None:
        return schema
    known = {name: existing.field(name).type for name in existing.names}
    return pa.schema([pa.field(field.name, known.get(field.name, field.type)) for field in schema])


def write_rows(table: str, file: BinaryIO, data: pa.Table | pa.RecordBatchReader, schema: pa.Schema) -> int:
    """Write all rows in groups of a bounded size and return how many there were."""
    batches = data.to_batches() if isinstance(data, pa.Table) else data
    rows = 0
    # A dictionary of numbers is given up after a megabyte, and has cost more than all the rest by then.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    options = {"compression": "zstd", "compression_level": 1, "use_dictionary": texts, "store_schema": False}
    with pq.ParquetWriter(file, schema, **options) as writer:
        for group in _groups(batches):
            writer.write_table(_converted(table, group, schema), row_group_size=len(group))
            rows += len(group)
    return rows


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        # A slice at a time: a batch may be a whole table.
        for start in range(0, batch.num_rows, _GROUP_ROWS):
            waiting.append(batch.slice(start, _GROUP_ROWS))
            if sum(map(len, waiting)) >= _GROUP_ROWS or sum(piece.nbytes for piece in waiting) >= _GROUP_BYTES:
                yield pa.Table.from_batches(waiting)
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _converted(table: str, group: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field, column in zip(schema, group.columns, strict=True):
        try:
            chunks = [plain(chunk).cast(field.type) for chunk in column.chunks]
        except (DataError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"lake table {table!r}: column {field.name!r}, {column.type}, does not fit {field.type} ({error})"
            ) from None
        columns.append(pa.chunked_array(chunks, field.type))
    return pa.Table.from_arrays(columns, schema=schema)
