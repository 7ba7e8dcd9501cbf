"""Copying a file source into the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from headway.data.lake import Lake
from headway.data.sources import (
    Counts,
    SourceReader,
    content_digest,
    file_signature,
    find_files,
    format_of,
    open_source,
    reading_digest,
)
from headway.define import Source
from headway.define.records import IngestResult
from headway.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def table_of(source: Source) -> str:
    """The lake table that holds the rows of a file source."""
    return f"source/{source.name}"


def ingest(source: Source, root: Path, lake: Lake, *, path_override: str | None = None, cache: Path) -> IngestResult:
    """Bring the lake's copy of a file source up to date.

    The copy is one lake version with the rows as ``SourceReader`` describes them. Where the files and the way they are
    read are those of the newest version, as told by their digest, nothing is written and ``changed`` is False. A run
    that fails or is killed leaves the former copy, and the next run starts over.

    Parameters
    ----------
    root
        The folder a relative path begins at.
    path_override
        Where the environment says that the files are, instead of ``source.path``.
    cache
        A file to remember the digests of contents in, see ``content_digest``.

    Raises ``DataError`` if files are missing, cannot be read, do not fit together, or are written to meanwhile;
    ``BindingError`` if the declaration names columns they do not have; ``StoreError`` if the lake fails.
    """
    files = find_files(source, root, path_override)
    before = file_signature(files)
    digest = reading_digest(source, format_of(source, path_override), content_digest(files, cache))
    table = table_of(source)
    version = lake.version(table)
    if version is not None:
        note = lake.note(table, version)
        if note.get("digest") == digest:
            return _result(source, version, note, changed=False)
    reader = open_source(source, root, path_override)
    rows = _rows(reader, lambda: find_files(source, root, path_override) == files and file_signature(files) == before)
    version = lake.write(table, rows, "overwrite", lambda: _note(digest, reader.counts))
    return _result(source, version, _note(digest, reader.counts), changed=True)


def _rows(reader: SourceReader, unchanged: Callable[[], bool]) -> pa.RecordBatchReader:
    """All rows; fails at the end, before anything is committed, if what was read is not what the digest is of."""
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        yield from reader.batches()
        if not unchanged():
            raise DataError("the files of the source were written to while they were being read; ingest it again")

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _note(digest: str, counts: Counts) -> dict[str, str]:
    return {"digest": digest, **{name: str(value) for name, value in asdict(counts).items()}}


def _result(source: Source, version: int, note: Mapping[str, str], *, changed: bool) -> IngestResult:
    counts = {name: int(note[name]) for name in asdict(Counts())}
    return IngestResult(
        source=source.name,
        table=table_of(source),
        version=version,
        digest=note["digest"],
        changed=changed,
        **counts,
    )
