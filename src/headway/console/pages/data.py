"""Sources: what is in the lake, what the checks say, and the rows that were set aside."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console._context import Column, Context, listing
from headway.console._format import number
from headway.console.pages.features import place, reads
from headway.console.views import data as shown
from headway.data.quality import standing
from headway.define import Source
from headway.define.records import CheckResult
from headway.define.run_records import StepRecord
from headway.errors import HeadwayError

SAMPLE = 50  # rows of a quarantine that are shown
HISTORY = 40  # times a source was checked that are looked at


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source with the state of its copy in the lake; ``rows`` is None for queries, and before the first copy."""

    source: Source
    rows: int | None
    version: int | None
    ingested: StepRecord | None
    checks: tuple[shown.CheckRow, ...]
    aside: int
    refused: StepRecord | None  # the newest time it was checked, if that stopped what depends on it

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def kind(self) -> str:
        return self.source.origin

    @property
    def at(self) -> int | None:
        """When its copy was last brought up to date."""
        return self.ingested.ended_at if self.ingested else None

    @property
    def state(self) -> tuple[str, str]:
        """Look and words for its checks."""
        if self.refused is not None:
            return "bad", "failed"
        return shown.state(self.checks)


_COLUMNS = (
    Column("Source", lambda r: r.name),
    Column("Kind", lambda r: r.kind),
    Column("Rows", lambda r: r.rows, number=True),
    Column("Last new rows", lambda r: r.at),
    Column("Checks", lambda r: r.state[1]),
    Column("Quarantine", lambda r: r.aside, number=True, hint="rows that a check has set aside"),
    Column("Owner", lambda r: r.source.owner, css="wide"),
)


def routes(view: Context) -> list[Route]:
    """All sources, and one."""
    return [
        Route("/data", lambda request: _overview(view, request)),
        Route("/data/{source}", lambda request: _one(view, request)),
    ]


def _overview(view: Context, request: Request) -> Response:
    rows = [source_row(view, source, history=1) for source in view.declarations.sources.values()]
    table = listing(
        request,
        rows,
        _COLUMNS,
        id="sources",
        text=lambda r: f"{r.name} {r.kind} {r.state[1]} {r.source.owner or ''} {r.source.description or ''}",
    )
    failed = sum(r.state[0] in ("bad", "warn") for r in rows)
    return view.page(
        request, "data.html", title="Data", cli=["headway check", "headway ingest"], table=table, failed=failed
    )


def source_row(view: Context, source: Source, history: int = HISTORY) -> SourceRow:
    """What is known of a source, from its lake table's log and from the records; no rows are read."""
    lake, metadata = view.parts.lake, view.metadata
    table = f"source/{source.name}"
    version = lake.version(table) if source.query is None else None
    ingested = next((s for s in metadata.runs.history(f"ingest:{source.name}", 10) if s.status == "done"), None)
    done = checked(view, source.name, history)
    return SourceRow(
        source=source,
        rows=lake.rows(table) if version is not None else None,
        version=version,
        ingested=ingested,
        checks=tuple(shown.check_rows(source, done)),
        aside=standing(view.parts.lake, source.name),
        refused=_refused(view, source.name) if source.checks else None,
    )


def checked(view: Context, source: str, limit: int) -> list[tuple[int, list[CheckResult]]]:
    """The last times a source was checked, oldest first, with what every check found."""
    results = view.metadata.stages.history("check", source)[-limit:]
    return [(each.at, msgspec.convert(each.output, list[CheckResult])) for each in results]


def _one(view: Context, request: Request) -> Response:
    name = request.path_params["source"]
    source = view.declarations.sources.get(name)
    if source is None:
        view.not_found(f"The project has no source {name!r}.")
    row = source_row(view, source)
    columns, problem = _columns(view, source)
    return view.page(
        request,
        "data_source.html",
        title=name,
        cli=[f"headway check {name}"] + ([f"headway ingest {name}"] if source.query is None else []),
        row=row,
        source=source,
        place=place(view, source),
        query=inspect.cleandoc(source.query or ""),
        columns=columns,
        problem_of_source=problem,
        failures=shown.failures(row.checks),
        checked_at=max((at for c in row.checks for at, _ in c.history), default=None),
        ingests=_ingests(view, name) if source.query is None else [],
        quarantine=_quarantine(view, name) if row.aside else None,
        lineage=_lineage(view, name),
        reads=reads(view).get(name, ()),
    )


def _columns(view: Context, source: Source) -> tuple[Sequence[Any], str]:
    """The columns of a source, or why they cannot be told."""
    try:
        return view.parts.binder.columns(source), ""
    except HeadwayError as error:
        return (), view.settings.redact(str(error))


def _refused(view: Context, source: str) -> StepRecord | None:
    """The newest time it was checked, if that stopped what depends on it."""
    newest = next(iter(view.metadata.runs.history(f"check:{source}", 1)), None)
    return newest if newest is not None and newest.status in ("refused", "failed") else None


def _ingests(view: Context, source: str) -> list[StepRecord]:
    return [s for s in view.metadata.runs.history(f"ingest:{source}", 30) if s.status in ("done", "failed")][:10]


def _quarantine(view: Context, source: str) -> tuple[list[str], list[list[str | None]]]:
    """Columns and some rows of what was set aside; those that headway adds come as they are called for people."""
    table = f"quarantine/{source}"
    parts = view.parts
    sql = f'select * from "{table}" where __aside_until is null limit {SAMPLE}'
    rows = parts.engine.query(sql, {table: parts.lake.files(table)})
    names = [n for n in rows.column_names if not n.startswith("__") or n == "__check"]
    values = [[_cell(value) for value in rows.column(n).to_pylist()] for n in names]
    return ["failed" if n == "__check" else n for n in names], [list(row) for row in zip(*values, strict=True)]


def _cell(value: Any) -> str | None:
    """A value of a row as text."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", "seconds")
    return None if value is None else number(value, 7) if isinstance(value, float) else str(value)


def _lineage(view: Context, name: str) -> Any:
    d = view.declarations
    views = {v.name: v.source.name for v in d.views.values()}
    models = {m.name: (m.label.source.name, [s.view.name for s in m.selections]) for m in d.models.values()}
    return shown.lineage(name, d.sources, reads(view), views, models)
