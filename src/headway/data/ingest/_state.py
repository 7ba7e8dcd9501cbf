"""What a source's table holds, as its newest version's note says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from headway.data.lake import Lake
from headway.data.sources import Counts
from headway.define import Source
from headway.define.records import IngestResult

if TYPE_CHECKING:
    import pyarrow as pa

WRITER = "headway/ingest"
"""The writer of the lake's ``once``: how many times rows were put into the table."""


def table_of(source: Source) -> str:
    """The lake table that holds the rows of a source that is no query."""
    return f"source/{source.name}"


@dataclass(frozen=True, slots=True)
class State:
    """A source's table at one version; ``version`` is None where there is none yet.

    The note it was committed with says, as text:

    - ``digest``: of all that decides the rows: equal digests mean equal rows;
    - ``how``: the digest of the declaration they were read under; ``read``: of what was read last, where that can be
      told;
    - ``rows``, ``seq`` (the next ``__seq``), ``puts`` (see ``WRITER``);
    - ``files``: path → digest of every file, in the order in which they were first read;
    - ``cursor``: how far a database table or a function has been read;
    - what reading met (``Counts``).
    """

    table: str
    version: int | None = None
    note: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def puts(self) -> int | None:
        return int(self.note["puts"]) if "puts" in self.note else None

    @property
    def next_seq(self) -> int:
        return int(self.note.get("seq", 0))

    @property
    def rows(self) -> int:
        return int(self.note.get("rows", 0))

    @property
    def files(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.note.get("files", "{}"))
        return found

    def columns(self, lake: Lake) -> pa.Schema | None:
        """The user's columns in the table; None where there is no table."""
        import pyarrow as pa

        from headway.data.sources import OWN

        if self.version is None:
            return None
        schema = lake.schema(self.table, self.version)
        return pa.schema([item for item in schema if item.name not in OWN])


def look(source: Source, lake: Lake) -> State:
    """The state of a source's table. Nothing heavy is imported."""
    table = table_of(source)
    version = lake.version(table)
    return State(table) if version is None else State(table, version, lake.note(table, version))


def result(source: Source, state: State, *, changed: bool, **figures: int) -> IngestResult:
    """What ingest answers; the figures that are not given are zero."""
    counts = {name: int(state.note.get(name, 0)) for name in asdict(Counts()) if name != "rows"}
    assert state.version is not None
    return IngestResult(
        source=source.name,
        table=state.table,
        version=state.version,
        digest=state.note["digest"],
        rows=state.rows,
        changed=changed,
        **counts,
        **figures,
    )
