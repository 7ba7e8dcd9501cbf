"""The report of one window of a model: one HTML page that needs nothing else, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import msgspec

from headway.clock import to_iso
from headway.define._monitor import rank
from headway.define.watch_records import Alert, Figure
from headway.monitor._svg import Bar, Dot, Line, histogram, series

_DAY = 86_400_000_000
_MOST_CHARTS = 60  # histograms on one page; the table has the rest
KIND_NAMES = {
    "drift": "Drift",
    "prediction": "Predictions",
    "missing": "Missing and unseen",
    "quality": "Data checks",
    "performance": "Performance",
    "estimate": "Estimated performance",
    "skew": "Training and serving",
    "volume": "Volume",
}


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to say about one window.

    ``figures`` are those of the window; ``history`` holds figures of kinds that are followed over time, of this and
    earlier windows, oldest first; ``notes`` say what was done and what was left out; ``blind`` says what the figures
    cannot show.
    """

    project: str
    env: str
    model: str
    version: int | None
    window_start: int
    window_end: int
    rows: int
    reference: str
    made_at: int
    figures: tuple[Figure, ...] = ()
    history: tuple[Figure, ...] = ()
    alerts: tuple[Alert, ...] = ()
    notes: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    runbook: str | None = None

    @property
    def alarms(self) -> tuple[Figure, ...]:
        """The figures that alarm, worst and biggest first."""
        return tuple(sorted((f for f in self.figures if f.alarm), key=_worst))

    @property
    def name(self) -> str:
        """The window as part of a file's name: ``2025-11-03_2025-11-10``."""
        return f"{_stamp(self.window_start)}_{_stamp(self.window_end)}"

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if not self.rows:
            return "Nothing was predicted in this window."
        alarms = self.alarms
        if not alarms:
            return "Nothing moved more than it usually does."
        named = list(dict.fromkeys(f.name for f in alarms))
        shown = ", ".join(named[:6]) + (f" and {len(named) - 6} more" if len(named) > 6 else "")
        return f"{len(alarms)} alarm{'s' if len(alarms) > 1 else ''}: {shown}."


def to_json(report: WindowReport) -> bytes:
    """The report as JSON, laid out to be read."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def to_html(report: WindowReport) -> str:
    """The report as one page: own style, drawings inside, no script, light and dark."""
    title = f"{report.model}, {_span(report)}"
    sections = [
        _summary(report),
        _findings(report),
        _moved(report),
        _over_time(report),
        _segments(report),
        _listed("What these figures cannot show", report.blind),
        _listed("How this was made", (f"Reference: {report.reference}.", *report.notes)),
        _all(report),
    ]
    style = files("headway.monitor").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n<body><main>"
        + "\n".join(s for s in sections if s)
        + "</main></body></html>\n"
    )


def bars(figure: Figure) -> list[Bar]:
    """The shares per bin that a figure carries, if it does: ``bins``, ``reference`` and ``current`` of its details."""
    d = figure.details
    names, before, now = d.get("bins"), d.get("reference"), d.get("current")
    if not names or not before or not now or not len(names) == len(before) == len(now):
        return []
    return [Bar(str(n), float(b), float(c)) for n, b, c in zip(names, before, now, strict=True)]


def _summary(report: WindowReport) -> str:
    version = f"@{report.version}" if report.version is not None else ""
    worst = min((rank(f.severity) for f in report.alarms), default=3)
    state = ("critical", "warning", "info", "fine")[worst]
    facts = [
        ("Window", _span(report)),
        ("Rows", f"{report.rows:,}"),
        ("Environment", f"{report.project}, {report.env}"),
        ("Made", to_iso(report.made_at)[:16].replace("T", " ") + " UTC"),
    ]
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    runbook = f"<p>What to do: {_linked(report.runbook)}</p>" if report.runbook else ""
    return (
        f"<header><h1>{escape(report.model)}{version}</h1>"
        f'<p class="verdict {state}"><b>{escape(report.verdict)}</b></p><dl>{listed}</dl>{runbook}</header>'
    )


def _findings(report: WindowReport) -> str:
    alarms = report.alarms
    if not alarms:
        return ""
    items = "".join(
        f'<li><span class="tag {f.severity}">{f.severity}</span> {escape(_told(f))}'
        f" <small>{escape(evidence(f))}</small></li>"
        for f in alarms
    )
    return f"<section><h2>What was found</h2><ul class=findings>{items}</ul></section>"


def _moved(report: WindowReport) -> str:
    drawn = [f for f in report.alarms if f.kind in ("drift", "prediction", "missing") and bars(f)]
    if not drawn:
        return ""
    left = f"<p>{len(drawn) - _MOST_CHARTS} more are in the table below.</p>" if len(drawn) > _MOST_CHARTS else ""
    charts = "".join(
        f"<figure>{histogram(bars(f), f'{_named(f)}: shares of rows per bin, reference and now')}"
        f"<figcaption>{escape(_told(f))}</figcaption></figure>"
        for f in drawn[:_MOST_CHARTS]
    )
    key = '<p class=key><span class="swatch ref"></span> reference <span class="swatch now"></span> this window</p>'
    return f"<section><h2>What moved</h2>{key}<div class=charts>{charts}</div>{left}</section>"


def _over_time(report: WindowReport) -> str:
    overall = [f for f in report.history if f.segment is None]
    ends = sorted({f.window_end for f in overall})
    if not ends:
        return ""
    charts = []
    for name in dict.fromkeys(f.name for f in overall if f.kind in ("performance", "estimate")):
        real = _line(overall, ends, "performance", name, "now")
        guess = _line(overall, ends, "estimate", name, "dashed")
        lines = [line for line in (real, guess) if line is not None]
        level, level_name = _level(overall, name)
        drawing = series(lines, f"{name} over windows", level, level_name)
        key = '<span class="swatch now"></span> with labels <span class="swatch est"></span> estimated without labels'
        charts.append(f"<figure>{drawing}<figcaption><b>{escape(name)}</b> {key}</figcaption></figure>")
    for kind, caption in (("prediction", "How far predictions are from the reference (effect)"), ("volume", "Rows")):
        for name in dict.fromkeys(f.name for f in overall if f.kind == kind):
            line = _line(overall, ends, kind, name, "now")
            if line is not None:
                drawing = series([line], f"{name} over windows")
                charts.append(f"<figure>{drawing}<figcaption><b>{escape(name)}</b> {caption}</figcaption></figure>")
    return f"<section><h2>Over time</h2><div class=charts>{''.join(charts)}</div></section>" if charts else ""


def _line(figures: Sequence[Figure], ends: Sequence[int], kind: str, name: str, style: str) -> Line | None:
    found = {f.window_end: f for f in figures if f.kind == kind and f.name == name}
    if not found:
        return None
    dots = []
    for end in ends:
        f = found.get(end)
        value = (
            None if f is None else float(f.n) if kind == "volume" else f.effect if kind == "prediction" else f.statistic
        )
        dots.append(Dot(_day(end), value, f is not None and f.alarm))
    said = {"estimate": f"{name} (estimated)", "prediction": name}.get(kind, name)
    return Line(said, dots, style)


def _level(figures: Sequence[Figure], name: str) -> tuple[float | None, str]:
    """The newest threshold of a metric, to be drawn across."""
    known = [f for f in figures if f.name == name and f.threshold is not None and f.kind in ("performance", "estimate")]
    return (known[-1].threshold, "threshold") if known else (None, "")


def _segments(report: WindowReport) -> str:
    names = sorted({f.segment for f in report.figures if f.segment is not None})
    if not names:
        return ""
    rows = []
    for name in names:
        own = [f for f in report.figures if f.segment == name]
        alarms = sorted((f for f in own if f.alarm), key=_worst)
        told = "; ".join(_told(f) for f in alarms[:5]) or "nothing moved"
        most = max((f.n for f in own), default=0)
        rows.append((name, f"{most:,}", str(len(alarms)), told))
    return f"<section><h2>By segment</h2>{_table(('segment', 'rows', 'alarms', 'what'), rows)}</section>"


def _all(report: WindowReport) -> str:
    if not report.figures:
        return ""
    rows = [
        (
            KIND_NAMES.get(f.kind, f.kind),
            f.name,
            f.segment or "all",
            f"{f.n:,}",
            _number(f.effect),
            _number(f.statistic),
            _number(f.threshold),
            _number(f.p),
            f.method,
            f.severity if f.alarm else "",
            f.said,
        )
        for f in sorted(report.figures, key=_order)
    ]
    head = ("kind", "name", "segment", "n", "effect", "statistic", "threshold", "p", "method", "alarm", "said")
    return f"<section><details><summary>All {len(rows)} figures</summary>{_table(head, rows)}</details></section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    whole = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class=wide tabindex="0" role="region" aria-label="table">{whole}</div>'


def _listed(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<section><h2>{escape(title)}</h2><ul>{''.join(f'<li>{escape(i)}</li>' for i in items)}</ul></section>"


def _named(figure: Figure) -> str:
    return figure.name if figure.segment is None else f"{figure.name}, {figure.segment}"


def _told(figure: Figure) -> str:
    said = figure.said or f"{figure.name}: {KIND_NAMES.get(figure.kind, figure.kind).lower()}"
    return said if figure.segment is None or figure.segment in said else f"{figure.segment}: {said}"


def evidence(figure: Figure) -> str:
    """What a finding rests on, in a few words: effect, rows, threshold, method."""
    parts = [
        f"effect {_number(figure.effect)}" if figure.effect is not None else "",
        f"n = {figure.n:,}",
        f"against {figure.reference_n:,}" if figure.reference_n else "",
        f"threshold {_number(figure.threshold)}" if figure.threshold is not None else "",
        ("p < 1e-6" if figure.p < 1e-6 else f"p = {_number(figure.p)}") if figure.p is not None else "",
        figure.method,
    ]
    return ", ".join(part for part in parts if part)


def _worst(figure: Figure) -> tuple[Any, ...]:
    return (
        rank(figure.severity),
        figure.segment is not None,
        -(abs(figure.effect) if figure.effect else 0.0),
        figure.name,
    )


def _order(figure: Figure) -> tuple[Any, ...]:
    return list(KIND_NAMES).index(figure.kind), figure.segment or "", figure.name


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _span(report: WindowReport) -> str:
    return f"{_minute(report.window_start)} to {_minute(report.window_end)} UTC"


def _minute(at: int) -> str:
    return to_iso(at)[: 10 if at % _DAY == 0 else 16].replace("T", " ")


def _day(at: int) -> str:
    return to_iso(at)[5 : 10 if at % _DAY == 0 else 16].replace("T", " ")


def _stamp(at: int) -> str:
    return to_iso(at)[: 10 if at % _DAY == 0 else 16].replace(":", "")


def _linked(text: str) -> str:
    shown = escape(text)
    return f'<a href="{shown}">{shown}</a>' if text.startswith(("https://", "http://")) else shown
