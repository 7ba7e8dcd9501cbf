"""A lake of Delta tables in a local directory."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import unquote

from headway.data.lake._durable import make_directory, staged_file
from headway.data.lake._errors import named
from headway.data.lake._log import LOG, read_note, versions
from headway.data.lake._protocol import Mode, Note, Once
from headway.errors import NotFoundError, UsageError
from headway.locks import exclusive

if TYPE_CHECKING:
    import pyarrow as pa

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_STAGING = "_staging"  # Delta takes no notice of names that begin with an underscore
_EMPTY = "_empty"


class DeltaLake:
    """See ``Lake``; ``root`` is the directory."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def write(
        self,
        table: str,
        data: pa.Table | pa.RecordBatchReader,
        mode: Mode = "overwrite",
        note: Note | Callable[[], Note] = MappingProxyType({}),
        *,
        once: Once = MappingProxyType({}),
        part: str = "",
    ) -> int:
        from headway.data.lake._commit import Change, commit, files_of, settle
        from headway.data.lake._rows import target_schema, write_rows

        folder = self._folder(table)
        if mode not in ("overwrite", "append"):
            raise UsageError(f"mode is 'overwrite' or 'append', got {mode!r}")
        if part and (mode != "append" or not part.isalnum()):
            raise UsageError(f"part is letters and digits, for rows that are appended; got {part!r} with {mode!r}")
        self._check_not_nested(table, folder)
        with named(table):
            existing = self.schema(table) if mode == "append" and versions(folder) else None
            schema = target_schema(table, data.schema, existing)
            make_directory(folder / _STAGING)
            with staged_file(folder / _STAGING) as file:
                rows = write_rows(table, file, data, schema)
                facts = note() if callable(note) else note
                with self._lock(table, folder):
                    adds = settle(folder, file, rows, part)
                    return commit(folder, Change(mode, schema, adds, facts, files_of(folder, part), once))

    def mark(self, table: str, writer: str) -> int | None:
        from headway.data.lake._commit import load

        folder = self._folder(table)
        if not versions(folder):
            return None
        with named(table):
            found: int | None = load(folder).transaction_version(writer)
            return found

    def tidy(self, table: str) -> bool:
        from headway.data.lake._commit import load
        from headway.data.lake._tidy import join, small_files

        folder, _ = self._resolve(table, None)
        with named(table):
            names = small_files(load(folder))
            if not names:
                return False
            make_directory(folder / _STAGING)
            with staged_file(folder / _STAGING) as file:
                return join(folder, names, file, self._lock(table, folder))

    def version(self, table: str) -> int | None:
        found = versions(self._folder(table))
        return found[-1] if found else None

    def note(self, table: str, version: int | None = None) -> dict[str, str]:
        folder, version = self._resolve(table, version)
        with named(table):
            return read_note(folder, version)

    def files(self, table: str, version: int | None = None) -> list[str]:
        folder, version = self._resolve(table, version)
        names = self._adds(table, folder, version)["path"].to_pylist()
        if not names:
            return [str(self._file_without_rows(table, folder, version))]
        return sorted(str(folder / unquote(name)) for name in names)

    def schema(self, table: str, version: int | None = None) -> pa.Schema:
        import pyarrow as pa

        from headway.data.lake._commit import load

        folder, version = self._resolve(table, version)
        with named(table):
            return pa.schema(load(folder, version).schema().to_arrow())

    def rows(self, table: str) -> int:
        folder, version = self._resolve(table, None)
        return sum(self._adds(table, folder, version)["num_records"].to_pylist())

    def tables(self) -> list[str]:
        found = []
        for log in self._root.rglob(LOG):
            name = log.parent.relative_to(self._root).as_posix()
            if all(_PART.fullmatch(part) for part in name.split("/")) and versions(log.parent):
                found.append(name)
        return sorted(found)

    def _folder(self, table: str) -> Path:
        parts = table.split("/")
        if not all(_PART.fullmatch(part) for part in parts):
            raise UsageError(
                f"{table!r} is not the name of a lake table; its parts, separated by /, have letters, digits, _, - and"
                " ., and begin with a letter or digit"
            )
        return self._root.joinpath(*parts)

    def _check_not_nested(self, table: str, folder: Path) -> None:
        for parent in folder.parents:
            if parent == self._root:
                return
            if versions(parent):
                outer = parent.relative_to(self._root).as_posix()
                raise UsageError(f"lake table {table!r} would lie inside the table {outer!r}; use another name")

    def _resolve(self, table: str, version: int | None) -> tuple[Path, int]:
        folder = self._folder(table)
        found = versions(folder)
        if not found:
            raise NotFoundError.among("lake table", table, self.tables())
        if version is None:
            return folder, found[-1]
        if version not in found:
            raise NotFoundError(
                f"lake table {table!r} has no version {version}; it has the versions {found[0]} to {found[-1]}"
            )
        return folder, version

    def _adds(self, table: str, folder: Path, version: int) -> pa.Table:
        from headway.data.lake._commit import adds, load

        with named(table):
            return adds(load(folder, version))

    def _lock(self, table: str, folder: Path) -> AbstractContextManager[None]:
        return exclusive(folder / _STAGING / "lock", f"writing lake table {table!r}", patience=60)

    def _file_without_rows(self, table: str, folder: Path, version: int) -> Path:
        """A file with the version's columns only, made when it is first asked for."""
        import pyarrow.parquet as pq

        path = folder / _EMPTY / f"{version}.parquet"
        if not path.exists():
            schema = self.schema(table, version)
            with named(table):
                make_directory(path.parent)
                temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
                pq.write_table(schema.empty_table(), temporary, store_schema=False)
                temporary.replace(path)
        return path
