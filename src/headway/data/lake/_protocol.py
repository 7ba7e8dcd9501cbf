"""What a lake is, whatever keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote, urlsplit

from headway.errors import SettingsError
from headway.plugins import maturity

if TYPE_CHECKING:
    import pyarrow as pa

Mode = Literal["overwrite", "append"]
Note = Mapping[str, str]
Once = Mapping[str, tuple[int | None, int]]


class Lake(Protocol):
    """Named tables with versions. Names have parts, as in ``source/raw_trips``.

    - A write is one version, seen whole or not at all, by every reader, from the moment ``write`` returns at the
      latest; from then on it also outlives a killed process and a power cut.
    - A write that fails or is killed leaves the table as it was.
    - Old versions stay readable, and the files of a version never change.
    - Writers may run side by side, in threads and in processes: appends all count, and the last overwrite wins.
      ``StoreBusy`` if they keep each other waiting for too long, ``StoreError`` if the store fails (disk full).
    - A table, or a version, that is not there raises ``NotFoundError``; only ``version`` answers None instead.
    """

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
        """Write rows and return the table's new version; it is made if it is not there.

        ``overwrite`` replaces rows and schema. ``append`` adds rows; columns the table does not have yet are added to
        it, columns the rows do not have are null, types must fit. ``note`` is kept with the version; a
        function is asked for it after the last row. A reader is consumed piece by piece, and what it raises comes
        through. Types are made plain (see ``engine.plain``).

        ``once`` has, for whoever hands rows over piece by piece, how far they were in the table and how far they are
        with these rows; ``StoreBusy``, and nothing is written, if the table says otherwise of one of them. ``part``
        (letters and digits) is a name for appended rows: rows that were appended under it before are replaced.
        """

    def mark(self, table: str, writer: str) -> int | None:
        """How far a writer has come (see ``once``); None if it has not written, or there is no such table."""

    def tidy(self, table: str) -> bool:
        """Join small files of the newest version into larger ones; rows stay as they are. Whether there were any."""

    def version(self, table: str) -> int | None:
        """The newest version, or None if there is no such table."""

    def note(self, table: str, version: int | None = None) -> dict[str, str]:
        """The note a version was written with; reads no data."""

    def files(self, table: str, version: int | None = None) -> list[str]:
        """The Parquet files of a version, never none: a version without rows has one file without rows."""

    def schema(self, table: str, version: int | None = None) -> pa.Schema:
        """The columns of a version and their types."""

    def rows(self, table: str) -> int:
        """How many rows the newest version has; reads no data."""

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""


@maturity("stable")
def open_lake(uri: str) -> Lake:
    """The lake at a directory (a path or a ``file://`` URI); it appears with the first write.

    Raises ``SettingsError`` for places no lake can be kept in.
    """
    from headway.data.lake._delta import DeltaLake

    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise SettingsError(f"lake {uri!r}: a lake is kept in a local directory; {parts.scheme}:// is not supported")
    path = unquote(parts.path) if parts.scheme else uri
    if not path or "%" in path:
        raise SettingsError(f"lake {uri!r}: give the path of a directory, without the character %")
    return DeltaLake(Path(path))
