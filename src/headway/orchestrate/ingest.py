"""Bringing the lake's copies of sources up to date: from files, databases, functions, and what was pushed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from headway import plugins
from headway.clock import stopwatch
from headway.data.ingest import Into, append_rows, ingest, ingest_function, ingest_table, look
from headway.data.pushes import move, sweep
from headway.data.sources import TableReader
from headway.define import FunctionSource, Source
from headway.define._duration import microseconds
from headway.define.records import IngestResult
from headway.errors import DataError, HeadwayError, SettingsError, StoreError
from headway.locks import exclusive
from headway.orchestrate._parts import Parts
from headway.orchestrate.pushes import publish_pushed
from headway.settings import Settings

_AT_ONCE = 4  # sources that are copied at a time, at most
_PATIENCE = 600.0  # seconds to wait for somebody else who copies the same source
_ASKED = "ask"  # the stage under which it is kept when a source was asked last

Kind = Literal["files", "table", "function", "pushed"]
Watch = Callable[[str, int], None]  # source, rows read so far


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of a source are in an environment. ``connection`` may hold a secret."""

    kind: Kind
    path: str | None = None
    table: str | None = None
    connection: str | None = field(default=None, repr=False)


class Ingested(msgspec.Struct, frozen=True):
    """What became of one source: ``done``, ``unchanged`` or ``failed``, and then why."""

    source: str
    outcome: Literal["done", "unchanged", "failed"]
    seconds: float
    result: IngestResult | None = None
    error: str = ""

    @property
    def rows_per_second(self) -> float | None:
        """Rows read in a second; None if none were."""
        if self.result is None or not self.result.read or not self.seconds:
            return None
        return self.result.read / self.seconds


def place_of(settings: Settings, source: Source) -> Place:
    """Where a source's rows are: where the environment says, else where the source does."""
    other = settings.sources.get(source.name, {})
    if "path" in other:
        return Place("files", path=other["path"])
    if other or source.table is not None:
        url = other.get("connection")
        if url is None and source.connection is not None:
            url = settings.expanded(f"source {source.name!r} ({source.place}), connection", source.connection)
        return Place("table", table=other.get("table") or source.table, connection=url)
    if source.path is not None:
        return Place("files", path=source.path)
    return Place("pushed" if source.pushed else "function")


def is_copied(source: Source) -> bool:
    """Whether a source has rows of its own in the lake; a query has those of others."""
    return source.query is None


def next_asking(parts: Parts, source: Source) -> int | None:
    """When a database or function is to be asked again, in microseconds since 1970; None: whenever there is a
    chance."""
    if source.every is None:
        return None
    last = parts.metadata.stages.get(_ASKED, source.name)
    return None if last is None else last.at + microseconds(source.every)


def arrival(parts: Parts) -> int | None:
    """The clock's now; None if a clock of data has no time yet."""
    try:
        return parts.clock.now()
    except DataError:
        return None


def copy(parts: Parts, source: Source, *, full: bool = False) -> IngestResult:
    """Bring the copy of one source up to date."""
    try:
        found = _copy(parts, source, arrival(parts), full, lambda name, rows: parts.progress(f"ingest {name}", rows, 0))
    finally:
        parts.rows_changed()
    return found


def ingest_sources(
    parts: Parts,
    sources: Iterable[Source],
    *,
    full: bool = False,
    started: Callable[[str], None] = lambda _: None,
    watch: Watch = lambda *_: None,
    ended: Callable[[Ingested], None] = lambda _: None,
) -> list[Ingested]:
    """Bring the copies of several sources up to date, some at a time; one that fails is said to, and stops no other.

    The callables are told of what happens, from several threads: of sources as they are started, of rows as they are
    read, and of sources as they are done.
    """
    wanted, now = [source for source in sources if is_copied(source)], arrival(parts)

    def one(source: Source) -> Ingested:
        started(source.name)
        elapsed = stopwatch()
        try:
            found = _copy(parts, source, now, full, watch)
        except HeadwayError as error:
            made = Ingested(source.name, "failed", round(elapsed(), 3), error=str(error))
        else:
            made = Ingested(source.name, "done" if found.changed else "unchanged", round(elapsed(), 3), found)
        ended(made)
        return made

    done: dict[str, Ingested] = {}
    try:
        with ThreadPoolExecutor(max(1, min(_AT_ONCE, os.cpu_count() or 1, len(wanted)))) as pool:
            for future in as_completed([pool.submit(one, source) for source in wanted]):
                made = future.result()
                done[made.source] = made
    finally:
        parts.rows_changed()
    return [done[source.name] for source in wanted]


def _copy(parts: Parts, source: Source, now: int | None, full: bool, watch: Watch) -> IngestResult:
    settings = parts.settings
    lock = settings.locks_dir / f"ingest-{source.name}.lock"
    with _redacted(settings), exclusive(lock, f"ingesting {source.name!r}", patience=_PATIENCE):
        place = place_of(settings, source)
        if place.kind == "files":
            return ingest(
                *(source, parts.root, parts.lake, parts.engine),
                cache=settings.home / "digests.json",
                path_override=settings.sources.get(source.name, {}).get("path"),
                arrived=now,
                full=full,
                scratch=_scratch(settings),
                watch=lambda rows: watch(source.name, rows),
            )
        if place.kind == "pushed":
            return _pushed(parts, source, now)
        into = Into(
            *(parts.lake, parts.engine, now, full, _scratch(settings)), watch=lambda rows: watch(source.name, rows)
        )
        found = _asked(settings, source, place, into)
        parts.metadata.stages.put(_ASKED, source.name, _ASKED, None, now or 0)
        return found


def _asked(settings: Settings, source: Source, place: Place, into: Into) -> IngestResult:
    if isinstance(source, FunctionSource) and place.kind == "function":
        return ingest_function(source, into)
    assert place.table is not None
    reader = open_table(settings, source, place)
    try:
        return ingest_table(source, place.table, reader, into)
    except StoreError as error:
        raise _about(source, error) from None
    except DataError as error:
        raise error if source.name in str(error) else _about(source, error) from None
    finally:
        reader.close()


def _about(source: Source, error: HeadwayError) -> HeadwayError:
    return error if source.name in str(error) else type(error)(str(source.refuse(str(error))))


def open_table(settings: Settings, source: Source, place: Place) -> TableReader:
    """A reader of the database that a source's table is in."""
    if place.connection is None:
        raise SettingsError(
            str(
                source.refuse(
                    f"its table {place.table!r} has no connection; give it connection=, or one in"
                    f" [env.{settings.env}.sources]"
                )
            )
        )
    url = settings.anchored(place.connection)
    backend = plugins.load("sources", plugins.scheme(url), least=settings.maturity)
    try:
        reader: TableReader = backend.open(url)
    except HeadwayError as error:
        raise _about(source, error) from None
    return reader


def _pushed(parts: Parts, source: Source, now: int | None) -> IngestResult:
    """Move what was pushed into the lake; as long as nothing was, there is an empty table."""
    home, lake = parts.settings.home, parts.lake
    publish_pushed(parts.metadata, [source], now or 0)
    moved = move(source, lake, parts.engine, home, scratch=_scratch(parts.settings))
    sweep(home, lake)
    if moved:
        figures = {name: sum(getattr(each, name) for each in moved) for name in ("read", "new", "versions", "gone")}
        return msgspec.structs.replace(moved[-1], changed=any(each.changed for each in moved), **figures)
    state = look(source, lake)
    return append_rows(source, [], lake, parts.engine, arrived=now if state.version is None else None)


def _scratch(settings: Settings) -> Path:
    return settings.home / "ingest"


@contextmanager
def _redacted(settings: Settings) -> Iterator[None]:
    """Cover secrets in what goes wrong: messages of databases may repeat what they were given."""
    try:
        yield
    except HeadwayError as error:
        said = settings.redact(str(error))
        if said == str(error):
            raise
        raise type(error)(said) from None
