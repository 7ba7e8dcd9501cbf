"""Models: all of them, one of them, its versions, and two versions side by side."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from headway.console import charts
from headway.console._context import Column, Context, Listing, listing
from headway.console.pages.features import place
from headway.console.pages.production import production_rows
from headway.console.views import versions as shown
from headway.console.views.production import Row
from headway.define import Model
from headway.define.records import Deployment, VersionRecord
from headway.metadata import Answering, VersionBrief, answering
from headway.registry import MetricChange, comparison

_PER_PAGE = 50
_LOG_LINES = 30
_LONGEST_TEXT = 400_000  # characters of a file shown on a page
_PICTURES = (".png", ".jpg", ".jpeg")
_TEXTS = (".txt", ".log", ".json", ".patch", ".py", ".toml", ".csv", ".md", ".sql")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model in the list: what the project declares of it, and what production has of it."""

    name: str
    declared: Model | None
    rows: Sequence[Row]

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def text(self) -> str:
        """What the filter looks into."""
        about = self.declared
        said = [about.owner or "", about.description or "", *about.tags] if about else ["not declared any more"]
        return " ".join([self.name, *said])


_COLUMNS = (
    Column("Model", lambda r: r.name),
    Column("Live", lambda r: r.first.version, hint="the version that answers where a segment has none of its own"),
    Column("Figure", lambda r: r.first.figure, number=True, hint="the model's metric on the live version's test rows"),
    Column("Segments", lambda r: len(r.rows) - 1, number=True),
    Column("Versions", lambda r: r.first.versions, number=True),
    Column("Schedule", lambda r: str(r.declared.schedule or "") if r.declared else None, css="wide"),
    Column("Owner", lambda r: r.declared.owner if r.declared else None),
)
_SEGMENTS = (
    Column("Segment", lambda r: r.segment or ""),
    Column("Live", lambda r: r.version),
    Column("Since", lambda r: r.line.at if r.line else None),
    Column("Decided by", lambda r: r.line.by if r.line else None),
    Column("Figure", lambda r: r.figure, number=True),
    Column("Before", lambda r: r.change, number=True, hint="the previous version's figure, and the change from it"),
)


def routes(view: Context) -> list[Route]:
    """The list, the model, the version with its files, and the comparison."""
    return [
        Route("/models", lambda request: _all(view, request)),
        Route("/models/{model}", lambda request: _one(view, request)),
        Route("/models/{model}/compare", lambda request: _compare(view, request)),
        Route("/models/{model}/versions/{version:int}", lambda request: _version(view, request)),
        Route("/models/{model}/versions/{version:int}/files/{file:path}", lambda request: _file(view, request)),
    ]


def known_models(view: Context) -> list[str]:
    """Models that are declared, or have versions."""
    return sorted({*view.declarations.models, *view.metadata.versions.models()})


def existing(view: Context, request: Request) -> str:
    """The model of the path, if there is one of that name."""
    name: str = request.path_params["model"]
    if name not in known_models(view):
        view.not_found(f"No model is called {name!r}.")
    return name


def version_of(view: Context, model: str, version: int) -> VersionRecord:
    """One version, if the model has it."""
    record = view.metadata.versions.get(model, version)
    if record is None:
        view.not_found(f"Model {model!r} has no version {version}.")
    return record


def _all(view: Context, request: Request) -> Response:
    declared = view.declarations.models
    by_model: dict[str, list[Row]] = {}
    for row in production_rows(view):
        by_model.setdefault(row.model, []).append(row)
    rows = [ModelRow(name, declared.get(name), found) for name, found in by_model.items()]
    table = listing(request, rows, _COLUMNS, id="models", text=lambda r: r.text, order="model")
    return view.page(request, "models.html", title="Models", cli="headway models list", table=table)


def _one(view: Context, request: Request) -> Response:
    name = existing(view, request)
    metadata, declared = view.metadata, view.declarations.models.get(name)
    log = metadata.deployments.list(name)
    live = answering(log)
    before = _positive(request.query_params.get("before", ""))
    versions = metadata.versions.brief_page(name, before=before, limit=_PER_PAGE + 1)
    more = len(versions) > _PER_PAGE
    versions = versions[:_PER_PAGE]
    segments = _segment_rows(view, request, name, log)
    windows = metadata.figures.models()
    return view.page(
        request,
        "model.html",
        title=name,
        cli=[f"headway models show {name}", f"headway run {name}"],
        model=name,
        declared=declared,
        count=metadata.versions.counts().get(name, 0),
        live=live,
        main=live.get(None),
        answers={v: _answers_for(live, v) for v in {a.version for a in live.values()}},
        versions=versions,
        trend=_trend(versions),
        older=f"/models/{name}?before={versions[-1].version}" if more else "",
        place=place(view, declared) if declared else "",
        beside=next((v.version for v in versions if None not in live or v.version != live[None].version), None),
        newest=before is None,
        log=log[: -_LOG_LINES - 1 : -1],
        log_more=len(log) > _LOG_LINES,
        segments=segments,
        window=windows.get(name),
        alerts=metadata.alerts.list(model=name, limit=20),
        schedule=metadata.schedules.all().get(f"model:{name}") if declared and declared.schedule else None,
    )


def _segment_rows(view: Context, request: Request, name: str, log: Sequence[Deployment]) -> Listing | None:
    rows = [r for r in production_rows(view, {name: log}) if r.segment is not None]
    if not rows:
        return None
    return listing(request, rows, _SEGMENTS, id="segments", text=lambda r: r.text, order="segment", size=100)


def _trend(versions: Sequence[VersionBrief]) -> Any:
    """A line of the metric over the versions on the page, oldest first."""
    figures = [v.metrics.get(v.metric) for v in reversed(versions)]
    return charts.sparkline(figures, "the metric from version to version", width=160) if len(figures) > 1 else None


def _answers_for(live: Mapping[str | None, Answering], version: int) -> str:
    """Whom a version answers, in a few words."""
    segments = [s for s, a in live.items() if a.version == version and s is not None]
    if None in live and live[None].version == version:
        return "live"
    return f"live for {', '.join(segments[:3])}" + (f" and {len(segments) - 3} more" if len(segments) > 3 else "")


def _version(view: Context, request: Request) -> Response:
    name = existing(view, request)
    record = version_of(view, name, request.path_params["version"])
    log = view.metadata.deployments.list(name)
    live = answering(log)
    main = live.get(None)
    other = _other(main, record)
    directory = view.parts.registry.directory(record)
    return view.page(
        request,
        "version.html",
        title=f"{name}@{record.version}",
        cli=[
            f"headway models show {name} {record.version}",
            *([f"headway models compare {name} {other} {record.version}"] if other is not None else []),
            f"headway models promote {name} {record.version}",
        ],
        model=name,
        record=record,
        live=_answers_for(live, record.version) if record.version in {a.version for a in live.values()} else "",
        main=main,
        other=other,
        figures=_figure_table(request, record),
        features=shown.features(record),
        lines=_lines_of(log, record.version),
        files=_files(record, directory),
        plots=[f for f in sorted(record.files) if f.endswith(_PICTURES) and "/" not in f],
        patch="uncommitted.patch" if "uncommitted.patch" in record.files else "",
        directory=directory,
        run_id=_mlflow_run(view, record),
    )


def _other(main: Answering | None, record: VersionRecord) -> int | None:
    """The version to compare with: the live one if this is not it, else the one before."""
    if main is None:
        return None
    return main.previous if main.version == record.version else main.version


def _lines_of(log: Sequence[Deployment], version: int) -> list[Deployment]:
    return [d for d in reversed(log) if d.version == version][:20]


def _figure_table(request: Request, record: VersionRecord) -> Listing:
    metrics = (
        [record.metric, *(m for m in record.metrics if m != record.metric)] if record.metric else [*record.metrics]
    )
    columns = [Column("Test rows of", lambda r: r[0])]
    columns += [Column(m, lambda r, m=m: r[1].get(m), number=True) for m in metrics]  # type: ignore[misc]
    rows = sorted(record.segment_metrics.items())
    return listing(request, rows, columns, id="figures", text=lambda r: r[0], size=100)


def _mlflow_run(view: Context, record: VersionRecord) -> str | None:
    return view.project.models.mlflow_run(record)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a version. ``bytes`` None: it is gone."""

    name: str
    sha256: str
    bytes: int | None

    @property
    def shown(self) -> bool:
        """Whether a browser can show it as text or as a picture."""
        return self.name.endswith((*_TEXTS, *_PICTURES))


def _files(record: VersionRecord, directory: Path) -> list[File]:
    return [File(name, digest, _size(directory / name)) for name, digest in sorted(record.files.items())]


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def _file(view: Context, request: Request) -> Response:
    name = existing(view, request)
    record = version_of(view, name, request.path_params["version"])
    file: str = request.path_params["file"]
    path = view.parts.registry.directory(record) / file
    if file not in record.files:  # only what was recorded: no way leads out of the version's directory
        view.not_found(f"{name}@{record.version} has no file {file!r}.")
    if not path.is_file():
        view.not_found(f"The file {file!r} of {name}@{record.version} is gone from {path.parent}.")
    if "raw" in request.query_params or not file.endswith(_TEXTS):
        inline = file.endswith(_PICTURES)
        kind = mimetypes.guess_type(file)[0] if inline else "application/octet-stream"
        disposition = "inline" if inline else "attachment"
        return FileResponse(path, media_type=kind, filename=path.name, content_disposition_type=disposition)
    text = path.read_text(encoding="utf-8", errors="replace")
    return view.page(
        request,
        "file.html",
        title=file,
        cli=f"headway models show {name} {record.version}",
        model=name,
        record=record,
        file=file,
        text=text[:_LONGEST_TEXT],
        cut=len(text) > _LONGEST_TEXT,
        size=len(text),
    )


def _compare(view: Context, request: Request) -> Response:
    name = existing(view, request)
    main = answering(view.metadata.deployments.list(name)).get(None)
    numbers = view.metadata.versions.numbers(name)
    if not numbers:
        view.not_found(f"Model {name!r} has no versions yet; `headway run {name}` trains one.")
    b = _positive(request.query_params.get("b", "")) or numbers[0]
    default = main.version if main and main.version != b else next((n for n in numbers if n != b), b)
    a = _positive(request.query_params.get("a", "")) or default
    sides = version_of(view, name, a), version_of(view, name, b)
    found = comparison(*sides)
    return view.page(
        request,
        "compare.html",
        title=f"{name}: {a} beside {b}",
        cli=f"headway models compare {name} {a} {b}",
        model=name,
        a=sides[0],
        b=sides[1],
        numbers=sorted({*numbers, a, b}, reverse=True),
        metrics=_metric_table(request, found.metrics, sides[1]),
        overall=[m for m in found.metrics if m.segment is None],
        changes=shown.grouped(found),
        main=main,
        better=lambda metric, x, y: shown.better(sides[1], metric, x, y),
    )


def _metric_table(request: Request, metrics: Sequence[MetricChange], record: VersionRecord) -> Listing | None:
    """The model's metric by segment; None for a model without segments."""
    rows = [m for m in metrics if m.segment is not None]
    columns = (
        Column("Segment", lambda m: m.segment),
        Column("A", lambda m: m.a, number=True),
        Column("B", lambda m: m.b, number=True),
        Column("Change", lambda m: shown.change(m.a, m.b), number=True),
    )
    chosen = [m for m in rows if m.metric == record.metric] or rows
    return listing(request, chosen, columns, id="segments", text=lambda m: m.segment, size=100) if rows else None


def _positive(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) else None
