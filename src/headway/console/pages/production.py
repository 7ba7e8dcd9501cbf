"""The first page: what is in production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console._context import Column, Context, listing
from headway.console.views import production as shown
from headway.data.online import OnlineReader
from headway.define.records import Deployment, ViewPlan
from headway.errors import HeadwayError

_ALERTS = 500

_COLUMNS = (
    Column("Model", lambda r: (r.model, r.segment or "")),
    Column("Segment", lambda r: r.segment or ""),
    Column("Live", lambda r: r.version, hint="the version that answers"),
    Column("Since", lambda r: r.line.at if r.line else None),
    Column("Decided by", lambda r: r.line.by if r.line else None, hint="who or what made it live, and why"),
    Column("Figure", lambda r: r.figure, number=True, hint="the model's metric on the test rows of the live version"),
    Column(
        "Before",
        lambda r: r.change,
        number=True,
        hint="the previous version's figure, on its own test rows, and how far the live one is from it",
    ),
    Column("Baseline", lambda r: r.baseline, number=True, hint="the figure of the declared baseline", css="broad"),
    Column("State", lambda r: (-len(r.alerts), -r.drift.alarms), hint="alerts, drift and freshness of its features"),
    Column(
        "Code",
        lambda r: r.record.commit if r.record else None,
        hint="commit, + for uncommitted changes, and training log",
    ),
)
_ACTS = Column("Act", css="acts")


def routes(view: Context) -> list[Route]:
    """The table of models and segments."""

    def production(request: Request) -> Response:
        found = production_rows(view)
        columns = (*_COLUMNS, _ACTS) if view.who(request).may_act else _COLUMNS
        table = listing(request, found, columns, id="production", text=lambda r: r.text, order="model", size=600)
        return view.page(
            request,
            "production.html",
            title="Production",
            cli=["headway models list", "headway status"],
            table=table,
            summary=_summary(found),
            declared=len(view.declarations.models),
        )

    return [Route("/", production)]


def production_rows(view: Context, only: Mapping[str, Sequence[Deployment]] | None = None) -> list[shown.Row]:
    """One row per model and segment: a handful of queries, however many versions there are. ``only`` are the models to
    show, with their deployment logs; None: all."""
    project = view.project
    metadata = project.parts.metadata
    lines = metadata.deployments.lines() if only is None else only
    counts = metadata.versions.counts()
    facts = shown.Facts(
        lines=lines,
        counts=counts,
        windows=metadata.figures.models(),
        alarms=metadata.figures.alarms(),
        alerts=metadata.alerts.list(limit=_ALERTS),
        as_of={},
        now=view.data_now(),
    )
    first = shown.decided(facts)
    records = metadata.versions.brief(shown.wanted(first))
    live = {(model, each.version) for model, found in first.items() for each in found.values()}
    plans = {u.plan.fingerprint: u.plan for pair in live if (r := records.get(pair)) for u in r.views}
    facts = shown.with_freshness(facts, _as_of(view, plans))
    names = {*project.declarations.models, *counts, *lines} if only is None else only
    return shown.rows(sorted(names), facts, first, records)


def _as_of(view: Context, plans: dict[str, ViewPlan]) -> dict[str, int]:
    """The last refresh of each plan that is online."""
    try:
        store = view.parts.open_online(True)
    except HeadwayError:
        return {}
    try:
        reader = OnlineReader(store)
        marks = {fingerprint: reader.watermark(plan) for fingerprint, plan in plans.items()}
    except HeadwayError:
        return {}
    finally:
        store.close()
    return {fingerprint: mark.as_of for fingerprint, mark in marks.items() if mark is not None}


def _summary(rows: list[shown.Row]) -> dict[str, int]:
    models = {r.model for r in rows}
    return {
        "models": len(models),
        "live": len({r.model for r in rows if r.version is not None}),
        "segments": sum(r.segment is not None for r in rows),
        "alerts": len({a.id for r in rows for a in r.alerts}),
        "held": len({r.model for r in rows if r.answering and r.answering.hold}),
        "late": len({r.model for r in rows if r.fresh and r.fresh[0] in ("warn", "bad")}),
    }
