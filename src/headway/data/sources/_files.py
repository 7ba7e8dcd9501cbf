"""File sources as rows in one form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from headway.data.sources._columns import Column
from headway.data.sources._formats import FORMATS, reading
from headway.data.sources._normalise import Normaliser
from headway.data.sources._protocol import Counts
from headway.data.sources._schema import Held, unify
from headway.define import Source


class FileReader:
    """A ``SourceReader`` over files of one format, in the order given; ``held`` are the columns the lake has."""

    def __init__(self, source: Source, root: Path, files: list[Path], form: str, held: Held | None = None) -> None:
        self._source = source
        self._root = root
        self._files = files
        self._format = FORMATS[form]
        self._held = held
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        return self._counts

    @property
    def schema(self) -> pa.Schema:
        return self._normaliser.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        for path in self._files:
            with self._reading(path):
                for batch in self._format.read(path, self._scans[path]):
                    yield self._finished(batch)
        self._normaliser.finish()

    @cached_property
    def _scans(self) -> Mapping[Path, list[Column]]:
        found = {}
        for path in self._files:
            with self._reading(path):
                found[path] = self._format.scan(path)
        return found

    @cached_property
    def _normaliser(self) -> Normaliser:
        return Normaliser(self._source, unify(self._source, self._scans, self._held), self._counts)

    def _reading(self, path: Path) -> AbstractContextManager[None]:
        shown = path.relative_to(self._root) if path.is_relative_to(self._root) else path
        return reading(shown, f"source {self._source.name!r}")

    def _finished(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return self._normaliser.batch(batch)
