"""Copying a file source into the lake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headway.data.lake import Lake
from headway.data.sources import (
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


def ingest(
    source: Source, root: Path, lake: Lake, *, path_override: str | None = None, cache: Path
) -> IngestResult:
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
    note = {"digest": digest}
    rows = _reader(reader, _Guard(source, files, before, reader, note))
    version = lake.write(table, rows, "overwrite", note)
    return _result(source, version, note, changed=True)
