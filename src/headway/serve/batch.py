"""Predictions for files of any size, in bounded memory.

A file is read, scored and written batch by batch. The output appears whole under its name or not at all; it has one
row for every row of the input, in the same order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from headway.data.engine import ahead
from headway.data.spine import arrow_type
from headway.define.records import ServingPlan
from headway.errors import DataError, HeadwayError, NotFoundError, StoreError, UsageError

Score = Callable[[pa.Table], pa.Table]
Types = Mapping[str, pa.DataType]

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_BLOCK_BYTES = 8 << 20
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")


def input_types(plan: ServingPlan) -> dict[str, str]:
    """The Arrow types, as text, of the columns that a version needs of its input: keys and request inputs."""
    named = {"timestamp": "timestamp[us, tz=UTC]"}
    requests = {request.name: named.get(request.type, request.type) for request in plan.requests}
    return {**requests, **{key.name: key.type for key in plan.entities}}


def predict_file(
    source: Path,
    output: Path,
    score: Score,
    *,
    types: Mapping[str, str] | None = None,
    batch_rows: int = 50_000,
    progress: Callable[[str, int, int], None] | None = None,
    finish: Callable[[], None] = lambda: None,
) -> int:
    """Score ``source`` into ``output`` and return the number of rows.

    Parameters
    ----------
    source, output
        ``.parquet``, ``.csv``, ``.ndjson`` or ``.jsonl``, each read or written by its suffix.
    score
        Gives a table with the same rows and more columns for each batch; also called once with no rows, if the input
        has none.
    types
        Arrow types, as text, of the columns that must be read as such; see ``input_types``. In a CSV file all other
        columns are then passed on as the text they are. Without it, types are told from the values.
    batch_rows
        Rows in memory at a time.
    progress
        Called with what is done, the rows done, and of how many (0: unknown).
    finish
        Called once the last row is scored, before the output appears under its name.

    Raises:
        NotFoundError: there is no such input.
        UsageError: a suffix is none of these, or the output's directory is not there.
        DataError: the input cannot be read, or a batch does not fit the ones before.
    """
    reading, writing = _format(source), _format(output)
    if not source.is_file():
        raise NotFoundError(f"there is no file {source}")
    if not output.parent.is_dir():
        raise UsageError(f"there is no directory {output.parent} to write {output.name} into; make it first")
    wanted = {name: arrow_type(text) for name, text in (types or {}).items()}
    done, total = 0, _known_rows(source, reading)
    with _new_file(output) as partial:
        with _WRITERS[writing](partial) as sink, _readable(source):
            for batch in ahead(_READERS[reading](source, wanted, batch_rows)):
                scored = score(batch)
                if scored.num_rows != batch.num_rows:
                    raise HeadwayError(
                        f"scoring {batch.num_rows} rows of {source.name} gave {scored.num_rows}; nothing is written"
                    )
                sink.write(scored)
                done += batch.num_rows
                if progress is not None:
                    progress(f"predict {source.name}", done, total)
        finish()
    return done


def read_file(source: Path, types: Mapping[str, str] | None = None, batch_rows: int = 50_000) -> Iterator[pa.Table]:
    """A file's rows, a batch at a time, with ``types`` as for ``predict_file``. Raises what that raises."""
    reading = _format(source)
    if not source.is_file():
        raise NotFoundError(f"there is no file {source}")
    wanted = {name: arrow_type(text) for name, text in (types or {}).items()}
    with _readable(source):
        yield from _READERS[reading](source, wanted, batch_rows)


def _format(path: Path) -> str:
    found = _FORMATS.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"{path.name} ends in none of {', '.join(_FORMATS)}; its suffix says how it is read or written"
        )
    return found


def _known_rows(source: Path, format: str) -> int:
    if format != "parquet":
        return 0
    import pyarrow.parquet as pq

    with _readable(source):
        return int(pq.read_metadata(source).num_rows)


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{source.name} cannot be read: {lines[0]}") from error


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A name to write under; the file takes the place of ``path`` once it is complete and on disk."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    except OSError as error:
        if isinstance(error, HeadwayError):
            raise
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_parquet(source: Path, types: Types, rows: int) -> Iterator[pa.Table]:  # noqa: ARG001 - the file has types
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        if not file.metadata.num_rows:
            yield file.schema_arrow.empty_table()
            return
        for batch in file.iter_batches(batch_size=rows):
            yield pa.Table.from_batches([batch])


def _read_csv(source: Path, types: Types, rows: int) -> Iterator[pa.Table]:
    from pyarrow import csv

    if not source.stat().st_size:
        raise DataError(f"{source.name} is empty: there is not even a line of column names")
    chosen = dict(types)
    if types:
        with csv.open_csv(source) as reader:
            chosen = {name: types.get(name, pa.string()) for name in reader.schema.names}
    options = csv.ConvertOptions(column_types=chosen, strings_can_be_null=True, quoted_strings_can_be_null=False)
    with csv.open_csv(source, csv.ReadOptions(block_size=_BLOCK_BYTES), convert_options=options) as reader:
        seen = False
        for batch in reader:
            for start in range(0, batch.num_rows, rows):
                seen = True
                yield pa.Table.from_batches([batch.slice(start, rows)])
        if not seen:
            yield reader.schema.empty_table()


def _read_ndjson(source: Path, types: Types, rows: int) -> Iterator[pa.Table]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    names: dict[str, None] = {}  # of all batches so far: a field that an object leaves out is null
    collected: list[dict[str, Any]] = []
    with source.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                collected.append(decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(f"line {number} of {source.name} is no JSON object: {error}") from None
            if len(collected) == rows:
                yield _table(collected, names, types)
                collected = []
    if collected:
        yield _table(collected, names, types)
    elif not names:
        if not types:
            raise DataError(f"{source.name} has no rows, and so no columns")
        yield pa.schema(list(types.items())).empty_table()


def _table(rows: list[dict[str, Any]], names: dict[str, None], types: Types) -> pa.Table:
    for row in rows:
        names.update(dict.fromkeys(row))
    return pa.table({name: _array([row.get(name) for row in rows], types.get(name)) for name in names})


def _array(values: list[Any], wanted: pa.DataType | None) -> pa.Array:
    array = pa.array(values)
    if wanted is None and pa.types.is_string(array.type) and all(v is None or _MOMENT.fullmatch(v) for v in values):
        wanted = pa.timestamp("us", "UTC")
    return array if wanted is None else array.cast(wanted)


class _Sink(Protocol):
    def write(self, table: pa.Table) -> None: ...


class _Columnar:
    """A Parquet or CSV file, whose first batch decides its columns and their types.

    A batch is written while the next one is worked on; what goes wrong is raised with the next one, or at the end.
    """

    def __init__(self, path: Path, open_writer: Callable[[Path, pa.Schema], Any]) -> None:
        self._path = path
        self._open_writer = open_writer
        self._schema: pa.Schema | None = None
        self._writer: Any = None
        self._other = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None

    def write(self, table: pa.Table) -> None:
        if self._schema is None:
            self._schema = _settled(table.schema)
            self._writer = self._open_writer(self._path, self._schema)
        self._settle()
        self._under_way = self._other.submit(self._writer.write_table, _fitted(table, self._schema))

    def close(self) -> None:
        try:
            self._settle()
        finally:
            self._other.shutdown()
            if self._writer is not None:
                self._writer.close()

    def _settle(self) -> None:
        if self._under_way is not None:
            self._under_way.result()


def _parquet_writer(path: Path, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    # A dictionary of numbers is given up after a megabyte, and has cost more than all the rest by then.
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    return pq.ParquetWriter(path, schema, use_dictionary=texts or False)


def _csv_writer(path: Path, schema: pa.Schema) -> Any:
    from pyarrow import csv

    for field in schema:
        if pa.types.is_nested(field.type):
            raise UsageError(
                f"column {field.name!r} is a {field.type}, which a CSV file cannot hold; leave it out, or write Parquet"
            )
    return csv.CSVWriter(path, schema)


class _Ndjson:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._encoder = msgspec.json.Encoder(decimal_format="number")

    def write(self, table: pa.Table) -> None:
        self._file.write(self._encoder.encode_lines(table.to_pylist()))

    def close(self) -> None:
        self._file.close()


@contextmanager
def _closing(sink: Any) -> Iterator[_Sink]:
    try:
        yield sink
    finally:
        sink.close()


def _settled(schema: pa.Schema) -> pa.Schema:
    """The schema of the first batch; a column without a value so far is text, which takes whatever comes. Lists of one
    length are plain lists: read back from Parquet, one that is null would be refused."""
    return pa.schema([f.with_type(_settled_type(f.type)) for f in schema])


def _settled_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type)
    return pa.string() if pa.types.is_null(kind) else kind


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    if table.column_names != schema.names:
        different = sorted(set(table.column_names) ^ set(schema.names))
        raise DataError(
            f"a later batch has other columns than the first one: {', '.join(different) or 'another order'}"
        )
    return table.cast(schema)


_READERS: dict[str, Callable[[Path, Types, int], Iterator[pa.Table]]] = {
    "parquet": _read_parquet,
    "csv": _read_csv,
    "ndjson": _read_ndjson,
}
_WRITERS: dict[str, Callable[[Path], Any]] = {
    "parquet": lambda path: _closing(_Columnar(path, _parquet_writer)),
    "csv": lambda path: _closing(_Columnar(path, _csv_writer)),
    "ndjson": lambda path: _closing(_Ndjson(path)),
}
