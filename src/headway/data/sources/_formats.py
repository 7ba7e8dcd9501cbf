"""Parquet, CSV and NDJSON files, each in two passes: ``scan`` for the columns, ``read`` for the rows."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from pyarrow import types

from headway.data.sources._columns import Column, merge
from headway.data.sources._text import ALL, TIMES, Kinds, possible
from headway.errors import DataError

_ROWS = 65_536
_BLOCK = 8 * 2**20
_LONGEST_LINE = 2**30
_DELIMITERS = (",", ";", "\t", "|")


class FileFormat(Protocol):
    """Reads files of one format. Batches have the columns ``scan`` found, in the types it found them in."""

    def scan(self, path: Path) -> list[Column]:
        """The file's columns; none if the file is empty."""

    def read(self, path: Path, columns: list[Column], /) -> Iterator[pa.RecordBatch]:
        """The rows, in the file's order; ``columns`` is what ``scan`` found."""


class Parquet:
    """Columns and types as they are written in the file."""

    def scan(self, path: Path) -> list[Column]:
        with closing(pq.ParquetFile(path)) as file:
            return [Column(field.name, field.type) for field in file.schema_arrow]

    def read(self, path: Path, _columns: list[Column], /) -> Iterator[pa.RecordBatch]:
        # Without pre_buffer the file is in memory a row group at a time, not whole. Old writers keep timestamps as
        # INT96, which as nanoseconds would overflow outside 1677 to 2262.
        with closing(
            pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True, coerce_int96_timestamp_unit="us")
        ) as file:
            yield from file.iter_batches(_ROWS)


class Csv:
    """UTF-8 text with a header. The separator is whichever of ``, ; tab |`` is in the header most often; fields may be
    quoted; an empty field is null, a quoted empty one is empty text; blank lines are no rows."""

    def scan(self, path: Path) -> list[Column]:
        names, delimiter, has_rows = self._header(path)
        kinds: list[Kinds] = [ALL] * len(names)
        if has_rows:
            for batch in self._texts(path, delimiter):
                kinds = [possible(column, kind) for column, kind in zip(batch.columns, kinds, strict=True)]
        return [Column(name, pa.string(), kind) for name, kind in zip(names, kinds, strict=True)]

    def read(self, path: Path, _columns: list[Column], /) -> Iterator[pa.RecordBatch]:
        _, delimiter, has_rows = self._header(path)
        if has_rows:
            yield from self._texts(path, delimiter)

    def _header(self, path: Path) -> tuple[list[str], str, bool]:
        with _unpacked(path) as file:
            line = file.readline(_BLOCK).decode("utf-8-sig")
            has_rows = any(more.strip() for more in file)
        if not line.strip():
            return [], ",", False
        delimiter = max(_DELIMITERS, key=line.count)
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter)), delimiter, has_rows

    def _texts(self, path: Path, delimiter: str) -> Iterator[pa.RecordBatch]:
        with (
            _unpacked(path) as file,
            pa_csv.open_csv(
                pa.PythonFile(file, "r"),
                read_options=pa_csv.ReadOptions(block_size=_BLOCK),
                parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    default_column_type=pa.string(),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ) as reader,
        ):
            yield from reader


class NdJson:
    """One JSON object a line, UTF-8. Types are JSON's own: whole numbers are int64, others double; texts that are all
    ISO dates or times are those."""

    def scan(self, path: Path) -> list[Column]:
        found: dict[str, Column] = {}
        for block in _lines(path):
            inferred = [pa.field(field.name, _text_for_time(field.type)) for field in _parse(block).schema]
            texts = [field for field in inferred if types.is_string(field.type)]
            table = _parse(block, pa.schema(inferred)) if texts else None
            for field in inferred:
                kinds = None if table is None or field not in texts else _kinds(table[field.name])
                column = Column(field.name, field.type, kinds)
                found[field.name] = merge(found.get(field.name, column), column)
        return list(found.values())

    def read(self, path: Path, columns: list[Column], /) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([pa.field(column.name, column.type) for column in columns])
        for block in _lines(path):
            table = _parse(block, schema)
            yield from table.select(schema.names).combine_chunks().to_batches(_ROWS)


FORMATS: dict[str, FileFormat] = {"parquet": Parquet(), "csv": Csv(), "ndjson": NdJson()}


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Raise what goes wrong with a file as a ``DataError`` that begins with ``what`` and names the file."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what}: file {path}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{what}: file {path} has gone while it was being read; run it again") from None
    except PermissionError:
        raise DataError(f"{what}: file {path} may not be read; see to its permissions") from None
    except UnicodeDecodeError:
        raise DataError(f"{what}: file {path} is not UTF-8 text; save it as UTF-8") from None
    except (pa.ArrowException, OSError, EOFError, zlib.error, csv.Error) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{what}: file {path} cannot be read, it may be damaged: {text}") from None


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked if they are gzip, whatever the name says."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.open(raw) as file:
            yield cast(BinaryIO, io.BufferedReader(file, _BLOCK))


def _lines(path: Path) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time."""
    with _unpacked(path) as file:
        rest = b""
        while block := file.read(_BLOCK):
            whole, newline, tail = block.rpartition(b"\n")
            if newline:
                yield rest + whole
                rest = tail
            else:
                rest += block
            if len(rest) > _LONGEST_LINE:
                raise DataError("a line is longer than a gigabyte; NDJSON has one object a line")
        if rest.strip():
            yield rest


def _parse(block: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """All columns of a block; those of ``schema`` in its types, and null if the block does not have them."""
    if not block.strip():
        return (schema or pa.schema([])).empty_table()
    return pa_json.read_json(
        pa.BufferReader(block),
        read_options=pa_json.ReadOptions(block_size=len(block) + 1),
        parse_options=pa_json.ParseOptions(explicit_schema=schema),
    )


def _text_for_time(kind: pa.DataType) -> pa.DataType:
    """Arrow takes texts for timestamps and then forgets their offset; we look at the texts ourselves."""
    if types.is_timestamp(kind):
        return pa.string()
    if types.is_list(kind):
        return pa.list_(_text_for_time(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _text_for_time(field.type)) for field in kind])
    return kind


def _kinds(texts: pa.ChunkedArray) -> Kinds:
    kinds = TIMES
    for chunk in texts.chunks:
        kinds = possible(chunk, kinds)
    return kinds
