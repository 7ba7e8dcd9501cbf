"""Arrow's stream format: requests as columns of keys, answers as one record batch.

An answer is written here rather than by pyarrow, which takes three times as long for it as the store takes to find the
rows: it makes an object of every column. Of a view's row nearly all values are of a few fixed-width types, so they are
laid out as a few matrices, whose memory is that of all their columns. What a message consists of is told at
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.serve._body import Given, refuse_many
from headway.serve._problems import Refused, shown

MEDIA_TYPE = b"application/vnd.apache.arrow.stream"

_MESSAGE = b"\xff\xff\xff\xff"  # what every message begins with
_END = _MESSAGE + bytes(4)
_NOT_ARROW = "the body is not a whole Arrow IPC stream; it is written by pyarrow.ipc.new_stream and the like"
# The flatbuffers of a message with a record batch, up to the vector of nodes: root, vtable and table of the message
# (version V5, kind, the batch, the length of the body), then vtable and table of the batch (nodes, rows, buffers).
_HEAD = struct.Struct("<I 6H iIqhBx 5H2x iIqI I")
_VTABLES = (12, 20, 16, 18, 4, 8), (10, 20, 8, 4, 16)
_V5, _SCHEMA, _DICTIONARY, _RECORD_BATCH = 4, 1, 2, 3
_U16, _I32, _U32, _I64 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q")
_MOST_TEXT = 2**31 - 1
_SHORT = 4096  # bytes of a schema that is kept


def _padded(size: int) -> int:
    return size + -size % 8


class BatchLayout:
    """Where the columns of a schema stand among the nodes and buffers of a record batch."""

    def __init__(self, schema: pa.Schema) -> None:
        shapes = [_shape(field.type) for field in schema]
        ends = np.cumsum(np.array([(0, 0), *shapes], np.intp), axis=0)
        self.schema = schema
        self.message: bytes = schema.serialize().to_pybytes()
        self.nodes, self.buffers = ends[:-1, 0], ends[:-1, 1]
        self.sizes: tuple[int, int] = tuple(ends[-1].tolist())


def _shape(kind: pa.DataType) -> tuple[int, int]:
    """How many nodes and buffers an array of the type has."""
    if pa.types.is_fixed_size_list(kind):
        nodes, buffers = _shape(kind.value_type)
        return nodes + 1, buffers + 1
    return 1, 3 if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind) else 2


class Batch:
    """A record batch that is being put together: every column is added once, in any order."""

    def __init__(self, layout: BatchLayout, rows: int) -> None:
        nodes, buffers = layout.sizes
        self._layout, self._rows = layout, rows
        self._nodes = np.zeros((nodes, 2), np.int64)
        self._nodes[:, 0] = rows
        self._buffers = np.zeros((buffers, 2), np.int64)
        self._chunks: list[Any] = []
        self._size = 0

    def add_matrix(self, columns: np.ndarray, values: np.ndarray, null: np.ndarray | None) -> None:
        """Columns of one fixed-width type: ``values`` has a row for each, in one piece, and so has ``null`` (bool)."""
        at = self._layout.buffers[columns]
        if null is not None:
            self._nodes[self._layout.nodes[columns], 1] = null.sum(axis=1)
            self._add_rows(at, np.packbits(~null, axis=1, bitorder="little"))
        self._add_rows(at + 1, values.view(np.uint8).reshape(len(values), -1))

    def add_bits(self, column: int, values: np.ndarray, null: np.ndarray | None) -> None:
        """A column of truth values."""
        at = self._begin(column, null)
        self._buffers[at] = self._add(np.packbits(values, bitorder="little").tobytes())

    def add_texts(self, column: int, values: Sequence[str | None], null: np.ndarray | None) -> None:
        """A column of texts. Raises ``Refused`` (413) where they are too long for one."""
        at = self._begin(column, null)
        parts = [b"" if value is None else value.encode() for value in values]
        ends = np.cumsum(np.array([0, *map(len, parts)], np.int64))
        large = pa.types.is_large_string(self._layout.schema.field(column).type)
        if ends[-1] > _MOST_TEXT and not large:
            raise Refused(413, "the answer is longer than Arrow allows for one column; ask for fewer entities")
        self._buffers[at] = self._add(ends.astype(np.int64 if large else np.int32).tobytes())
        self._buffers[at + 1] = self._add(b"".join(parts))

    def add_codes(self, column: int, codes: np.ndarray) -> None:
        """A column of lists of fixed size, without nulls: uint8 [rows, items]."""
        at, node = int(self._layout.buffers[column]), int(self._layout.nodes[column])
        self._nodes[node + 1, 0] = codes.size
        self._buffers[at + 2] = self._add(codes.tobytes())

    def add_array(self, column: int, array: pa.Array) -> None:
        """A column of any type."""
        node, at = int(self._layout.nodes[column]), int(self._layout.buffers[column])
        for inner in _with_inner(array):
            self._nodes[node] = len(inner), inner.null_count
            node += 1
        # A part of an array keeps the buffers of the whole; one that was copied has its own.
        whole = array if not array.offset else pa.concat_arrays([array, array.slice(0, 0)])
        for number, buffer in enumerate(whole.buffers()):
            if buffer is not None:
                self._buffers[at + number] = self._add(buffer.to_pybytes())

    def to_bytes(self) -> bytes:
        """The whole stream: schema, batch, end."""
        return b"".join((self.head(), *self._chunks, _END))

    def head(self) -> bytes:
        """All that comes before the first column's bytes. It says where each column is and how many nulls it has: as
        long as there are none, batches of as many rows of numbers have the same."""
        (nodes, _), (buffers, _) = self._nodes.shape, self._buffers.shape
        outer, inner = _VTABLES
        head = _HEAD.pack(
            16, *outer, 12, 28, self._size, _V5, _RECORD_BATCH, *inner, 12, 16, self._rows, 12 + 16 * nodes, nodes
        )
        meta = b"".join((head, self._nodes.tobytes(), struct.pack("<4xI", buffers), self._buffers.tobytes()))
        size = len(meta).to_bytes(4, "little")
        return b"".join((self._layout.message, _MESSAGE, size, meta))

    def _begin(self, column: int, null: np.ndarray | None) -> int:
        """Note the nulls of a column; where its next buffer stands."""
        at = int(self._layout.buffers[column])
        if null is not None:
            self._nodes[self._layout.nodes[column], 1] = null.sum()
            self._buffers[at] = self._add(np.packbits(~null, bitorder="little").tobytes())
        return at + 1

    def _add(self, chunk: bytes) -> tuple[int, int]:
        begin, size = self._size, len(chunk)
        self._chunks.append(chunk)
        if padding := -size % 8:
            self._chunks.append(bytes(padding))
        self._size += size + padding
        return begin, size

    def _add_rows(self, at: np.ndarray, chunk: np.ndarray) -> None:
        """Each row of bytes as a buffer of its own."""
        count, size = chunk.shape
        step = _padded(size)
        if step != size:
            wider = np.zeros((count, step), np.uint8)
            wider[:, :size] = chunk
            chunk = wider
        self._buffers[at, 0] = self._size + step * np.arange(count)
        self._buffers[at, 1] = size
        self._chunks.append(chunk.tobytes())
        self._size += step * count


def _with_inner(array: pa.Array) -> Iterator[pa.Array]:
    yield array
    if pa.types.is_fixed_size_list(array.type):
        yield from _with_inner(array.values[array.offset * array.type.list_size :][: len(array) * array.type.list_size])


def joined(head: bytes, chunks: Sequence[Any]) -> bytes:
    """A stream from a batch's head and the bytes of its columns, in the order in which that batch took them."""
    parts = [head]
    for chunk in chunks:
        parts.append(chunk)
        if padding := -chunk.nbytes % 8:
            parts.append(bytes(padding))
    parts.append(_END)
    return b"".join(parts)


def empty(layout: BatchLayout) -> bytes:
    """The stream of no rows."""
    return layout.message + _END


def read_stream(body: bytes, most_rows: int, most_bytes: int) -> Given:
    """The columns of a stream, as Arrow arrays.

    Raises:
        Refused: 400 for what is no such stream, 413 for too many rows, 422 for columns of one name, or what would take
            more memory than the body has (compressed buffers, dictionaries).
    """
    try:
        columns, rows = _columns(body, most_rows, most_bytes)
    except Refused:
        raise
    except Exception:  # noqa: BLE001 - pyarrow raises what it likes for bytes that are made up
        raise Refused(400, _NOT_ARROW) from None
    return Given(columns, rows)


def _columns(body: bytes, most_rows: int, most_bytes: int) -> tuple[dict[str, Any], int]:
    schema, batches = _batches(body)
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        refuse_many(rows, most_rows)
        batch.validate(full=True)  # before anybody believes its offsets
    names = schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(422, f"two columns are called {shown(twice)}")
    if len(batches) == 1:
        arrays = batches[0].columns
    else:
        table = pa.Table.from_batches(batches, schema).combine_chunks()
        arrays = [c.chunk(0) if c.num_chunks else pa.nulls(0).cast(c.type) for c in table.columns]
    return {name: _plain(name, array, most_bytes) for name, array in zip(names, arrays, strict=True)}, rows


def _batches(body: bytes) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    messages = list(_messages(body))
    if [kind for kind, _, _ in messages] == [_SCHEMA, _RECORD_BATCH] and messages[0][2] <= _SHORT:
        schema = _schema(body[: messages[0][2]])  # a client sends the same one every time
        return schema, [pa.ipc.read_record_batch(pa.py_buffer(body[messages[1][1] : messages[1][2]]), schema)]
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.schema, list(reader)


@lru_cache(maxsize=64)
def _schema(message: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(message))


def _plain(name: str, array: pa.Array, most_bytes: int) -> pa.Array:
    """The column as an array that has its values itself: a few bytes may stand for many texts in a stream."""
    kind = array.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        _refuse_long(name, sum(len(text) for text in array.to_pylist() if text is not None), most_bytes)
        return array.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary())
    if not pa.types.is_dictionary(kind):
        return array
    if not pa.types.is_primitive(kind.value_type):
        lengths = pc.binary_length(array.dictionary)  # fails for what is no text, as no key is
        _refuse_long(name, pc.sum(lengths.take(array.indices)).as_py() or 0, most_bytes)
    return array.dictionary_decode()


def _refuse_long(name: str, size: int, most: int) -> None:
    if size > most:
        raise Refused(413, f"the texts of column {shown(name)} have more than {most} bytes")


def _messages(body: bytes) -> Iterator[tuple[int, int, int]]:
    """The kind of every message of a stream, and where it begins and ends.

    Raises ``Refused`` for compressed buffers. These say themselves how large they get: a small body could ask for all
    the memory there is.
    """
    at = 0
    while at < len(body):
        start = at
        at += 4 if body[at : at + 4] == _MESSAGE else 0  # the oldest streams have no mark before a message
        (size,) = _I32.unpack_from(body, at)
        if not size:
            return
        message = at + 4 + _U32.unpack_from(body, at + 4)[0]
        kind, length = _member(body, message, 1), _member(body, message, 3)
        at += 4 + size + (0 if length is None else _I64.unpack_from(body, length)[0])
        if kind is None or not start < at <= len(body):
            raise Refused(400, _NOT_ARROW)
        if _is_compressed(body, message, body[kind]):
            raise Refused(422, "the body has compressed buffers; send them as they are")
        yield body[kind], start, at


def _is_compressed(body: bytes, message: int, kind: int) -> bool:
    """Whether the record batch of a message, or that of a dictionary, has the member ``compression``."""
    header = _member(body, message, 2)
    if header is None or kind not in (_DICTIONARY, _RECORD_BATCH):
        return False
    batch = header + _U32.unpack_from(body, header)[0]
    if kind == _DICTIONARY:
        data = _member(body, batch, 1)
        if data is None:
            return False
        batch = data + _U32.unpack_from(body, data)[0]
    return _member(body, batch, 3) is not None


def _member(body: bytes, table: int, number: int) -> int | None:
    """Where a member of a table of flatbuffers is; None if it is not there."""
    vtable = table - _I32.unpack_from(body, table)[0]
    at = 4 + 2 * number
    if at >= _U16.unpack_from(body, vtable)[0]:
        return None
    offset: int = _U16.unpack_from(body, vtable + at)[0]
    return table + offset if offset else None
