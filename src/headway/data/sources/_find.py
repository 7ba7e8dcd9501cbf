"""The files of a source, and whether they are still the same. Nothing heavy is imported here."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headway.data.sources._digest import content_digest, reading_digest
from headway.define import Source
from headway.errors import DataError, DefinitionError

if TYPE_CHECKING:
    from headway.data.sources._protocol import SourceReader
    from headway.data.sources._schema import Held


def find_files(source: Source, root: Path, path_override: str | None = None) -> list[Path]:
    """The files of a file source, sorted by path: the order of arrival.

    Raises ``DataError`` if there are none; the message names the pattern, the folder and files that look alike.
    """
    pattern = path_override if path_override is not None else source.path
    if pattern is None:
        raise DataError(str(source.refuse("it is a query and has no files")))
    if "://" in pattern:
        raise DataError(str(source.refuse(f"{pattern!r} is not a local path; files are read from local folders")))
    literal = root / pattern
    if literal.is_file():
        return [literal]
    if literal.is_dir():
        raise DataError(str(source.refuse(f"{pattern!r} is a folder; name its files, such as {pattern}/*.parquet")))
    names = sorted(glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207 - takes absolute patterns
    files = [root / name for name in names if (root / name).is_file()]
    if not files:
        raise DataError(str(source.refuse(_nothing_found(pattern, root))))
    return files


def _nothing_found(pattern: str, root: Path) -> str:
    folder = (root / pattern).parent
    fixed = next(parent for parent in (folder, *folder.parents) if not glob.has_magic(str(parent)))
    existing = next(parent for parent in (fixed, *fixed.parents) if parent.is_dir())
    message = f"no file matches {pattern!r} in {root}"
    if existing != fixed:
        return f"{message}: there is no folder {fixed.relative_to(existing).parts[0]!r} in {existing}"
    names = sorted(path.name for path in existing.iterdir() if path.is_file() and not path.name.startswith("."))
    if not names:
        return f"{message}: {existing} holds no files"
    near = difflib.get_close_matches(Path(pattern).name, names, n=3, cutoff=0.5) or names[:5]
    return f"{message}; near by there are {', '.join(near)}"


def format_of(source: Source, path_override: str | None = None) -> str:
    """Parquet, CSV or NDJSON: what the ending of an overriding path says, else what the source declares."""
    if path_override is not None:
        try:
            return str(Source(source.name, path=path_override).format)
        except DefinitionError:
            pass  # the ending says nothing, so the declared format holds
    return str(source.format)


def source_digest(source: Source, root: Path, cache: Path, path_override: str | None = None) -> str:
    """The digest ``ingest`` compares: the same one means the same rows. Imports nothing heavy."""
    content = content_digest(find_files(source, root, path_override), cache)
    return reading_digest(source, format_of(source, path_override), content)


def open_source(
    source: Source,
    root: Path,
    path_override: str | None = None,
    files: Sequence[Path] | None = None,
    held: Held | None = None,
) -> SourceReader:
    """A reader of the source's rows as they are now; or of some ``files`` of it, in that order, as rows that are to
    fit the columns ``held``."""
    from headway.data.sources._files import FileReader

    found = find_files(source, root, path_override) if files is None else list(files)
    return FileReader(source, root, found, format_of(source, path_override), held)
