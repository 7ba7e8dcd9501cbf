"""Files → their source's table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headway.data.ingest._state import look, result
from headway.data.lake import Lake
from headway.data.sources import (
    Counts,
    SourceReader,
    file_digests,
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

    from headway.data.engine import Engine
    from headway.data.ingest._put import Way

Watch = Callable[[int], None]  # is told how many rows have been read


def ingest(
    source: Source,
    root: Path,
    lake: Lake,
    engine: Engine | None = None,
    *,
    cache: Path,
    path_override: str | None = None,
    arrived: int | None = None,
    full: bool = False,
    scratch: Path | None = None,
    watch: Watch = lambda _: None,
) -> IngestResult:
    """Bring the lake's copy of a file source up to date.

    New files are appended, and only they are read. If a file has changed or gone, all are read: rows with an id are
    compared with those the lake has, so that a changed row becomes a version and an id that does not come any more a
    deleted one; without an id they replace what was there (its old versions stay). So they do if the declaration
    reads them in another way than before. Where nothing has changed, as told by digests, nothing is read or written
    and ``changed`` is False. A run that fails or is killed leaves the former copy, and the next run starts over.

    Parameters
    ----------
    root
        The folder a relative path begins at.
    engine
        What rows are compared with; a new one by default.
    cache
        A file to remember the digests of contents in, see ``content_digest``.
    path_override
        Where the environment says that the files are, instead of ``source.path``.
    arrived
        The clock's now, in microseconds since 1970; None if a clock of data has no time yet.
    full
        Start over, as if nothing had been read.
    scratch
        A folder for rows that wait to be compared; a temporary one by default.

    Raises ``DataError`` if files are missing, cannot be read, do not fit together or what was read of them before, or
    are written to meanwhile; ``BindingError`` if the declaration names columns they do not have; ``StoreError`` if the
    lake fails.
    """
    found = _Found.at(source, root, path_override, cache)
    state = look(source, lake)
    if not full and state.note.get("read") == found.read:
        return result(source, state, changed=False)
    again = not full and state.note.get("how") == found.how
    order = _order(source, found, state.files) if again else _Order("start", found.files, False)
    columns = state.columns(lake) if again else None
    from headway.data.engine import Engine
    from headway.data.ingest._put import Put
    from headway.data.sources._schema import Held

    held = None if columns is None else Held(columns, whole=not order.lacking)
    reader = _Steady(open_source(source, root, path_override, order.files, held), found.unchanged, watch)
    files = {found.name(path): found.digests[path] for path in [*order.known, *order.files]}
    note = {"how": found.how, "read": found.read, "files": json.dumps(files)}
    with nullcontext(engine) if engine is not None else Engine(threads=2) as used:
        assert used is not None
        put = Put(source, lake, used, arrived, order.way, token=found.read, note=note, scratch=scratch)
        return put.carry_out(reader, state)


@dataclass(frozen=True, slots=True)
class _Found:
    """The files there are, in the order of their paths, and what they hold."""

    source: Source
    root: Path
    override: str | None
    digests: Mapping[Path, str]
    signature: list[tuple[int, int, int, int]]

    @classmethod
    def at(cls, source: Source, root: Path, override: str | None, cache: Path) -> _Found:
        files = find_files(source, root, override)
        signature = file_signature(files)
        return cls(source, root, override, file_digests(files, cache), signature)

    @property
    def files(self) -> list[Path]:
        return list(self.digests)

    @property
    def form(self) -> str:
        return format_of(self.source, self.override)

    @property
    def how(self) -> str:
        return reading_digest(self.source, self.form, "")

    @property
    def read(self) -> str:
        content = hashlib.sha256(b"".join(map(bytes.fromhex, self.digests.values()))).hexdigest()
        return reading_digest(self.source, self.form, content)

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def unchanged(self) -> bool:
        files = find_files(self.source, self.root, self.override)
        return files == self.files and file_signature(files) == self.signature


@dataclass(frozen=True, slots=True)
class _Order:
    """What to read, in which order; ``lacking``: columns may be missing, because files are."""

    way: Way
    files: Sequence[Path]
    lacking: bool
    known: tuple[Path, ...] = ()  # files that need not be read


def _order(source: Source, found: _Found, before: Mapping[str, str]) -> _Order:
    """What has to be read, given what was read ``before``. A file that was only renamed is still the same."""
    names = {found.name(path): path for path in found.files}
    gone = {name: digest for name, digest in before.items() if name not in names}
    places = {name: n for n, name in enumerate(before)}  # the order of arrival
    seen: dict[Path, int] = {}
    changed, new = [], []
    for name, path in names.items():
        digest = found.digests[path]
        if name in before:
            seen[path] = places[name]
            if before[name] != digest:
                changed.append(path)
            continue
        former = next((other for other, held in gone.items() if held == digest), None)
        if former is None:
            new.append(path)
        else:
            seen[path] = places[former]
            del gone[former]
    old = sorted(seen, key=lambda path: seen[path])
    if not changed and not gone:
        return _Order("part", new, True, tuple(old))
    if source.id:
        return _Order("whole", [*old, *new], bool(gone))
    return _Order("start", found.files, bool(gone))


@dataclass(frozen=True, slots=True)
class _Steady:
    """A reader that fails at the end, before anything is committed, if what was read is not what the digest is of."""

    reader: SourceReader
    unchanged: Callable[[], bool]
    watch: Watch

    @property
    def schema(self) -> pa.Schema:
        return self.reader.schema

    @property
    def counts(self) -> Counts:
        return self.reader.counts

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self.reader.batches():
            yield batch
            self.watch(self.counts.rows)
        if not self.unchanged():
            raise DataError("the files of the source were written to while they were being read; ingest it again")
