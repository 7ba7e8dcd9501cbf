"""Where rows come from, and the form they are brought into.

Light to import: finding files and telling whether they have changed needs no Arrow; a reader loads it when it is made.
"""

from __future__ import annotations

from headway.data.sources._digest import content_digest, file_digests, file_signature, reading_digest
from headway.data.sources._find import find_files, format_of, open_source, source_digest
from headway.data.sources._protocol import ARRIVED, DELETED, EVENT, KNOWN, OWN, SEQ, Counts, SourceReader, TableReader

__all__ = [
    "ARRIVED",
    "DELETED",
    "EVENT",
    "KNOWN",
    "OWN",
    "SEQ",
    "Counts",
    "SourceReader",
    "TableReader",
    "content_digest",
    "file_digests",
    "file_signature",
    "find_files",
    "format_of",
    "open_source",
    "reading_digest",
    "source_digest",
]
