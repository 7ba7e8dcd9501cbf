"""Where data comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from headway.define._base import Declaration, strings
from headway.define._checks import Check
from headway.define._duration import microseconds

Format = Literal["parquet", "csv", "ndjson"]
_ENDINGS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".ndjson.gz": "ndjson",
    ".jsonl.gz": "ndjson",
}


@dataclass(frozen=True, eq=False, init=False)
class Source(Declaration):
    """Rows from files, or from a query over other sources.

    Parameters
    ----------
    path
        A file or a glob, relative to the project: Parquet, CSV or NDJSON (``format`` if the ending does not tell).
    query
        A SELECT over other sources of the project that filters, computes and joins row by row.
    id
        Column or columns that identify a fact: rows of one id are its versions. Without it rows are separate events.
    timestamp
        Event time. A source without it is timeless: always known, never changing.
    created
        When the row became known; null means not yet.
    delay
        A row is known no earlier than its event time plus this.
    deleted
        A boolean column; a true row says that the fact ceased to exist.
    timezone
        The zone of the naive timestamps of a file. A query has none: its inputs are in UTC already.
    effective
        The timestamp means "valid from": the row already holds at that very moment.
    checks
        What must hold, see ``not_null`` and its siblings.

    Examples
    --------
    >>> Source("zones", path="data/zones.parquet").timeless
    True
    """

    name: str = ""
    path: str | None = None
    query: str | None = None
    format: Format | None = None
    id: tuple[str, ...] = ()
    timestamp: str | None = None
    created: str | None = None
    delay: str | None = None
    deleted: str | None = None
    timezone: str | None = None
    effective: bool = False
    checks: tuple[Check, ...] = ()

    kind = "source"

    def __init__(
        self,
        name: str,
        *,
        path: str | Path | None = None,
        query: str | None = None,
        format: Format | None = None,
        id: str | Sequence[str] | None = None,
        timestamp: str | None = None,
        created: str | None = None,
        delay: str | None = None,
        deleted: str | None = None,
        timezone: str | None = None,
        effective: bool = False,
        checks: Sequence[Check] = (),
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags))
        self._set(name=name, path=None if path is None else str(path), query=query, timestamp=timestamp)
        self._common()
        self._set(created=created, delay=delay, deleted=deleted, timezone=timezone, effective=bool(effective))
        self._set(id=strings(self, "id", id), checks=tuple(checks))
        self._check_place()
        self._check_time()
        self._set(format=self._format(format))
        for check in self.checks:
            if not isinstance(check, Check):
                raise self.refuse(f"checks takes checks such as hw.not_null('a'), got {check!r}")

    def _check_place(self) -> None:
        given = [what for what in ("path", "query") if getattr(self, what) is not None]
        if len(given) != 1:
            raise self.refuse(
                f"a source has either a path or a query, got {' and '.join(given) if given else 'neither'}"
            )

    def _check_time(self) -> None:
        if self.delay is not None:
            microseconds(self.delay, f"source {self.name!r} ({self.place}): delay")
        for what in ("created", "delay", "effective"):
            if getattr(self, what) and self.timestamp is None:
                raise self.refuse(f"{what} needs a timestamp")
        if self.timezone is None:
            return
        if self.query is not None:
            raise self.refuse("timezone belongs to the files a query reads, not to the query")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise self.refuse(f"{self.timezone!r} is not a time zone; use a name such as 'Europe/Lisbon'") from None

    def _format(self, given: str | None) -> Format | None:
        if self.path is None:
            return None
        if given is not None:
            if given not in get_args(Format):
                raise self.refuse(f"format is one of {', '.join(get_args(Format))}, got {given!r}")
            return given  # type: ignore[return-value]
        name = Path(self.path).name.lower()
        for ending in sorted(_ENDINGS, key=len, reverse=True):
            if name.endswith(ending):
                return _ENDINGS[ending]
        raise self.refuse(
            f"the ending of {self.path!r} does not tell the format; give format= one of {', '.join(get_args(Format))}"
        )

    @property
    def timeless(self) -> bool:
        return self.timestamp is None

    @property
    def delay_us(self) -> int:
        return 0 if self.delay is None else microseconds(self.delay)
