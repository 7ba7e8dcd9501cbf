"""Whether files are still what they were. Nothing heavy is imported here."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from headway.define import Source
from headway.errors import DataError

READING = 3  # raise it when the same file would be read differently than before
_MARGIN = 2_000_000_000  # ns; file systems stamp in steps of up to two seconds
_saving = threading.Lock()


class _Entry(NamedTuple):
    """A file as it was when its content was hashed."""

    size: int
    modified: int  # ns, as all times here
    changed: int  # unlike the modification time it cannot be set back
    inode: int
    sha256: str


def content_digest(files: Sequence[Path], cache: Path) -> str:
    """SHA-256 over the contents of ``files`` in their order; names do not count.

    Contents are read again only if size, times or inode differ from what ``cache``, a small JSON file, remembers. A
    file that was changed at about the time it was hashed is not remembered, since a second change may have left the
    same times. A damaged or missing cache is no error. Raises ``DataError`` for a file that cannot be read.
    """
    whole = hashlib.sha256()
    for digest in file_digests(files, cache).values():
        whole.update(bytes.fromhex(digest))
    return whole.hexdigest()


def file_digests(files: Sequence[Path], cache: Path) -> dict[Path, str]:
    """The SHA-256 of the content of each file, in their order; see ``content_digest``."""
    known = _load(cache)
    found: dict[str, _Entry] = {}
    changed: list[Path] = []
    for path in files:
        entry = known.get(str(path.absolute()))
        if entry is not None and entry[:4] == _facts(path):
            found[str(path.absolute())] = entry
        else:
            changed.append(path)
    if changed:
        stamp = _stamp(cache)
        found |= {str(path.absolute()): _hash(path) for path in changed}
        _save(cache, stamp, {**known, **found})
    return {path: found[str(path.absolute())].sha256 for path in files}


def reading_digest(source: Source, form: str, content: str) -> str:
    """The digest of contents together with everything in the declaration that decides how they are read; ``form`` is
    the file format."""
    how = [
        *(READING, content, form, source.timezone or "UTC", list(source.id)),
        *(source.timestamp, source.created, source.delay_us, source.deleted),
    ]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()


def file_signature(files: Sequence[Path]) -> list[tuple[int, int, int, int]]:
    """Sizes, times and inodes: differs after the files were replaced or written to."""
    return [_facts(path) for path in files]


def _facts(path: Path) -> tuple[int, int, int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"file {path}: {error.strerror}") from None
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def _hash(path: Path) -> _Entry:
    facts = _facts(path)
    try:
        with path.open("rb") as file:
            return _Entry(*facts, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise DataError(f"file {path} cannot be read: {error.strerror}; see to its permissions") from None


def _load(cache: Path) -> dict[str, _Entry]:
    """The entries that can be relied on: of files last changed well before their hashing began."""
    try:
        began = cache.stat().st_mtime_ns
        entries = {str(path): _Entry(*values) for path, values in json.loads(cache.read_bytes()).items()}
        return {path: entry for path, entry in entries.items() if _sound(entry, began - _MARGIN)}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _sound(entry: _Entry, limit: int) -> bool:
    whole = all(type(value) is int for value in entry[:4]) and len(bytes.fromhex(entry.sha256)) == 32
    return whole and max(entry.modified, entry.changed) < limit


def _stamp(cache: Path) -> Path | None:
    """A file made before hashing begins. It becomes the cache and keeps the moment of its making as its modification
    time, so that the file system's clock is compared with itself. None where no cache can be written: it only saves
    time, and work goes on without it."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{cache.name}.", dir=cache.parent)
        os.close(handle)
        return Path(name)
    except OSError:
        return None


def _save(cache: Path, stamp: Path | None, entries: dict[str, _Entry]) -> None:
    if stamp is None:
        return
    try:
        with _saving:
            began = stamp.stat().st_mtime_ns
            stamp.write_text(json.dumps({**_load(cache), **entries}), "utf-8")
            os.utime(stamp, ns=(began, began))
            stamp.replace(cache)
    except OSError:
        stamp.unlink(missing_ok=True)
