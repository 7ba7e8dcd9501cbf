"""The feature catalog: what there is, how fresh it is, what its values look like, and who uses it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console import _sample
from headway.console._context import Column, Context, listing
from headway.console.views import features as shown
from headway.data.online import OnlineReader
from headway.define import FeatureView
from headway.define._base import Declaration
from headway.define.records import ViewPlan
from headway.define.watch_records import Figure
from headway.errors import HeadwayError
from headway.orchestrate._parts import Parts


@dataclass(frozen=True, slots=True)
class ViewRow:
    """A view with what is known of it now. ``plan`` is None, and ``problem`` says why, while it cannot be bound."""

    view: FeatureView
    plan: ViewPlan | None
    problem: str
    as_of: int | None
    version: int
    look: str
    fresh: str
    late_by: int | None
    used_by: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.view.name

    @property
    def text(self) -> str:
        """What the filter looks into."""
        view = self.view
        names = [f.name for f in view.features]
        return " ".join(
            [view.name, view.entity.name, view.source.name, view.owner or "", view.description or "", self.fresh,
             *view.tags, *names, *self.used_by]
        )  # fmt: skip


_COLUMNS = (
    Column("View", lambda r: r.name),
    Column("Entity", lambda r: r.view.entity.name),
    Column("Source", lambda r: r.view.source.name),
    Column("Features", lambda r: len(r.view.features), number=True),
    Column("Refresh", lambda r: r.plan.refresh if r.plan else None, hint="the grid that values are computed on"),
    Column("Freshness", lambda r: (r.late_by or 0) if r.as_of is not None else None),
    Column("As of", lambda r: r.as_of, hint="the moment that the online values speak for", css="wide"),
    Column("Used by", lambda r: len(r.used_by), css="wide"),
    Column("Owner", lambda r: r.view.owner),
)


def routes(view: Context) -> list[Route]:
    """The catalog, one page per view, and its statistics as a fragment."""

    def catalog(request: Request) -> Response:
        found = view_rows(view)
        table = listing(request, found, _COLUMNS, id="views", text=lambda r: r.text, order="view")
        return view.page(
            request, "features.html", title="Features", cli="headway features list", table=table,
            late=sum(r.look in ("warn", "bad") for r in found),
        )  # fmt: skip

    def one(request: Request) -> Response:
        row = _row(view, request.path_params["name"])
        return view.page(
            request,
            "feature.html",
            title=row.name,
            cli=[
                f"headway features show {row.name}",
                f"headway features materialize {row.name}",
                f"headway features verify {row.name}",
            ],
            row=row,
            lineage=_lineage(view, row),
            entries=_entries(row),
            verified=_last_verify(view, row),
            place=place(view, row.view),
            query=inspect.cleandoc(row.view.source.query or ""),
            **_statistics(view, row),
        )

    def statistics(request: Request) -> Response:
        row = _row(view, request.path_params["name"])
        return view.fragment(
            request, "feature_statistics.html", row=row, entries=_entries(row), **_statistics(view, row, patience=5.0)
        )

    return [
        Route("/features", catalog),
        Route("/features/{name}", one),
        Route("/features/{name}/statistics", statistics),
    ]


def view_rows(view: Context) -> list[ViewRow]:
    """Every view of the project."""
    project = view.project
    now, used = view.data_now(), users(view)
    store = project.parts.open_online(True)
    try:
        reader = OnlineReader(store)
        return [_one(project.parts, reader, v, now, used) for v in project.declarations.views.values()]
    finally:
        store.close()


def _row(view: Context, name: str) -> ViewRow:
    project = view.project
    declared = project.declarations.views.get(name)
    if declared is None:
        view.not_found(f"The project has no feature view {name!r}.")
    store = project.parts.open_online(True)
    try:
        return _one(project.parts, OnlineReader(store), declared, view.data_now(), users(view))
    finally:
        store.close()


def _one(
    parts: Parts, reader: OnlineReader, declared: FeatureView, now: int, used: Mapping[str, tuple[str, ...]]
) -> ViewRow:
    models = used.get(declared.name, ())
    try:
        plan = parts.binder.view(declared)
        mark = reader.watermark(plan)
    except HeadwayError as error:
        return ViewRow(declared, None, parts.settings.redact(str(error)), None, 0, "bad", "no data", None, models)
    as_of = None if mark is None else mark.as_of
    look, fresh = shown.freshness(plan, as_of, now)
    version = 0 if mark is None else mark.version
    return ViewRow(declared, plan, "", as_of, version, look, fresh, shown.late_by(plan, as_of, now), models)


def users(view: Context) -> dict[str, tuple[str, ...]]:
    """View → the models that use it."""
    found: dict[str, tuple[str, ...]] = {}
    for model in view.declarations.models.values():
        for name in dict.fromkeys(s.view.name for s in model.selections):
            found[name] = (*found.get(name, ()), model.name)
    return found


def _lineage(view: Context, row: ViewRow) -> Any:
    declared = view.declarations
    models = {name: [s.view.name for s in model.selections] for name, model in declared.models.items()}
    return shown.lineage(row.name, row.plan, row.view.source.name, declared.sources, reads(view), models)


def reads(view: Context) -> dict[str, tuple[str, ...]]:
    """Source → the sources its query reads; nothing for a query that cannot be read."""
    found: dict[str, tuple[str, ...]] = {}
    for name, source in view.declarations.sources.items():
        try:
            found[name] = tuple(view.parts.binder.inputs(source))
        except HeadwayError:
            found[name] = ()
    return found


def place(view: Context, declared: Declaration) -> str:
    """File and line of a declaration, relative to the project."""
    return str(declared.place).removeprefix(f"{view.settings.root}/")


def _entries(row: ViewRow) -> list[dict[str, Any]]:
    """Name, type, formula and window of every feature."""
    types = {f.name: f.type for f in row.plan.features} if row.plan else {}
    return [
        {
            "name": f.name,
            "type": types.get(f.name, ""),
            "computed": (f.column or "") if f.kind == "row" else _formula(f.kind, f.column, f.q),
            "window": f.window,
        }
        for f in row.view.features
    ]


def _formula(kind: str, column: str | None, q: float | None) -> str:
    inside = [text for text in (column, None if q is None else f"{q:g}") if text]
    return f"{kind}({', '.join(inside)})"


def _statistics(view: Context, row: ViewRow, patience: float = 0.1) -> dict[str, Any]:
    """``statistics`` by feature (None: still being worked out), ``pictures``, and how many entities they rest on."""
    if row.plan is None or row.as_of is None:
        return {"statistics": {}, "pictures": {}, "pending": False, "sampled": 0, "states": {}}
    found = _sample.statistics(view.parts, row.plan, row.as_of, row.version, patience)
    if found is None:
        return {"statistics": {}, "pictures": {}, "pending": True, "sampled": 0, "states": {}}
    pictures = {name: shown.picture(name, figures) for name, figures in found.features.items()}
    return {
        "statistics": found.features,
        "pictures": pictures,
        "pending": False,
        "sampled": found.rows,
        "states": found.states,
    }


def _last_verify(view: Context, row: ViewRow) -> Figure | None:
    """What monitoring found when it last computed again what the view serves."""
    figures = view.metadata.figures
    found = [f for model in row.used_by for f in figures.windows(model, kind="skew", name=row.name, limit=1)]
    return max(found, key=lambda figure: figure.window_end, default=None)
