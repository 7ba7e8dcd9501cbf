"""Models as they are watched: what moved, against what, in which bin, and how good the predictions were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from headway.console._context import Column, Context, listing
from headway.console.views import monitoring as shown
from headway.define import Monitor
from headway.define.watch_records import Alert, Figure
from headway.errors import UsageError

_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
_HISTORY = 2_000  # windows of the long chart of one figure


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model with the state of its newest window. ``end`` is None while nothing was monitored."""

    name: str
    monitor: Monitor | None
    end: int | None
    alarms: int
    segments: int  # with alarms of their own
    said: str
    alerts: int

    @property
    def state(self) -> tuple[str, str]:
        """Look and words."""
        if self.end is None:
            return "plain", "not monitored yet"
        if self.alarms:
            return "bad", f"{self.alarms} alarm{'s' if self.alarms > 1 else ''}"
        return "good", "quiet"


_COLUMNS = (
    Column("Model", lambda r: r.name),
    Column("State", lambda r: r.alarms if r.end is not None else None),
    Column("What", None),
    Column("Newest window", lambda r: r.end, hint="the end of the newest window of predictions that was looked at"),
    Column("Open alerts", lambda r: r.alerts, number=True),
    Column("Window", lambda r: r.monitor.length if r.monitor else None, css="wide"),
    Column("Looked at", None, css="wide", hint="when monitoring runs by itself"),
)


def routes(view: Context) -> list[Route]:
    """All models, one model, one figure of a model, and monitoring one now."""
    return [
        Route("/monitoring", lambda request: _overview(view, request)),
        Route("/monitoring/{model}", lambda request: _model(view, request)),
        Route("/monitoring/{model}/figure", lambda request: _figure(view, request)),
        Route("/monitoring/{model}/report", lambda request: _report(view, request)),
        Route("/monitoring/{model}/run", lambda request: _run(view, request), methods=["POST"]),
    ]


def _overview(view: Context, request: Request) -> Response:
    rows = model_rows(view)
    table = listing(request, rows, _COLUMNS, id="models", text=lambda r: f"{r.name} {r.said}", order="-state")
    return view.page(
        request, "monitoring.html", title="Monitoring", cli=["headway status", "headway monitor"], table=table,
        alarmed=sum(bool(r.alarms) for r in rows),
    )  # fmt: skip


def model_rows(view: Context) -> list[ModelRow]:
    """Every model that is declared or has figures."""
    figures, declared = view.metadata.figures, view.declarations
    newest, by_segment = figures.models(), figures.alarms()
    alerts = _alerts_by_model(view)
    rows = []
    for name in dict.fromkeys([*declared.models, *sorted(newest)]):
        end, alarms = newest.get(name, (None, 0))
        segments = sum(1 for segment, count in by_segment.get(name, {}).items() if segment is not None and count)
        worst = alerts.get(name, [])
        said = worst[0].title if worst else ""
        rows.append(ModelRow(name, declared.monitors.get(name), end, alarms, segments, said, len(worst)))
    return rows


def _alerts_by_model(view: Context) -> dict[str, list[Alert]]:
    found: dict[str, list[Alert]] = {}
    for alert in view.metadata.alerts.list(limit=500):
        if alert.model is not None:
            found.setdefault(alert.model, []).append(alert)
    return found


def _check(view: Context, model: str) -> None:
    if model not in view.declarations.models and model not in view.metadata.figures.models():
        view.not_found(f"The project has no model {model!r}.")


def _model(view: Context, request: Request) -> Response:
    model = request.path_params["model"]
    _check(view, model)
    latest = view.metadata.figures.latest(model)
    segment = request.query_params.get("segment") or None
    figures = _windows(view, model, segment, latest)
    charts = shown.charts(figures)
    current = [f for f in latest if f.segment == segment]
    monitor = view.declarations.monitors.get(model)
    cards = [c for c in charts if c.newest.alarm][: shown.CARDS]
    cards += [c for c in charts if c not in cards and c.alarms][: max(0, shown.CARDS // 2 - len(cards))]
    return view.page(
        request,
        "monitoring_model.html",
        title=f"Monitoring of {model}",
        cli=[f"headway monitor {model}", f"headway alerts list {model}"],
        model=model,
        monitor=monitor,
        latest=latest,
        window=(latest[0].window_start, latest[0].window_end) if latest else None,
        versions=sorted({f.version for f in latest if f.version is not None}),
        alarms=shown.alarms(current),
        segments=shown.by_segment(latest) if any(f.segment for f in latest) else {},
        segment=segment,
        cards=[(card, shown.bins_picture(card.newest)) for card in cards],
        charts=charts,
        performance=shown.performance(figures),
        shown=shown,
        windows=len({f.window_end for f in figures}),
        rows=next((f.statistic for f in current if f.kind == "volume"), None),
        figure_url=lambda kind, name: _figure_url(model, kind, name, segment),
        alerts=view.metadata.alerts.list(model=model, limit=20),
        reports=[file.stem for file in _reports(view, model)][-12:][::-1],
    )


def _windows(view: Context, model: str, segment: str | None, latest: Sequence[Figure]) -> list[Figure]:
    """The figures of the windows to show, of one segment: as many windows as can be drawn quickly."""
    inside = [f for f in latest if f.segment == segment]
    if not inside:
        return []
    count = shown.window_count(len(inside))
    length = inside[0].window_end - inside[0].window_start
    since = inside[0].window_end - count * length
    limit = shown.MOST_FIGURES * 2
    return view.metadata.figures.windows(model, segment=segment, since=since, limit=limit)


def _figure_url(model: str, kind: str, name: str, segment: str | None) -> str:
    values = {"kind": kind, "name": name} | ({"segment": segment} if segment else {})
    return f"/monitoring/{model}/figure?{urlencode(values)}"


def _figure(view: Context, request: Request) -> Response:
    """One figure over all its windows, and the bins of one of them."""
    model, query = request.path_params["model"], request.query_params
    kind, name, segment = query.get("kind", ""), query.get("name", ""), query.get("segment") or None
    _check(view, model)
    figures = view.metadata.figures.windows(model, kind=kind, name=name, segment=segment, limit=_HISTORY)  # type: ignore[arg-type]
    if not figures:
        view.not_found(f"Nothing was found out about {name!r} ({kind or 'no kind'}) of {model}.")
    end = query.get("window", "")
    chosen = next((f for f in figures if str(f.window_end) == end), None) or _worth_showing(figures)
    chart = next(iter(shown.charts(figures, kinds=(kind,))), None)
    back = f"/monitoring/{model}" + (f"?{urlencode({'segment': segment})}" if segment else "")
    return view.page(
        request,
        "monitoring_figure.html",
        title=f"{name}: {kind} of {model}",
        cli=f"headway monitor {model}",
        model=model,
        segment=segment,
        kind=kind,
        name=name,
        chart=chart,
        figures=figures[::-1][:120],
        chosen=chosen,
        bins=shown.bins(chosen),
        picture=shown.bins_picture(chosen),
        data=shown.uplot(figures),
        shown=shown,
        back=back,
        window_url=lambda f: f"{_figure_url(model, kind, name, segment)}&window={f.window_end}",
    )


def _worth_showing(figures: Sequence[Figure]) -> Figure:
    """The newest window with an alarm, else the newest."""
    return next((f for f in reversed(figures) if f.alarm), figures[-1])


def _reports(view: Context, model: str) -> list[Path]:
    """The reports that monitoring wrote on this machine, oldest first."""
    return sorted((view.settings.home / "reports" / model).glob("*.html"))


def _report(view: Context, request: Request) -> Response:
    """A report as it was written: the newest, or that of a window. It brings its own style."""
    model = request.path_params["model"]
    _check(view, model)
    name = request.query_params.get("window")
    found = [file for file in _reports(view, model) if name in (None, file.stem)]
    if not found:
        view.not_found(f"There is no such report of {model} on this machine; `headway monitor {model}` writes one.")
    headers = {"content-security-policy": _REPORT_POLICY, "cache-control": "no-store"}
    return FileResponse(found[-1], media_type="text/html; charset=utf-8", headers=headers)


def _run(view: Context, request: Request) -> Response:
    model = request.path_params["model"]
    if model not in view.declarations.models:
        raise UsageError(f"{model} is not declared any more, so it cannot be monitored")
    run = view.project.runs.start(f"monitor:{model}", trigger="console", by=view.who(request).name)
    return view.redirect(request, f"/runs/{run.id}", f"Run {run.id} monitors {model}; it is queued.")
