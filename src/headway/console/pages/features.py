"""The feature catalog: what there is, how fresh it is, what its values look like, and who uses it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
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
from headway.define._written import written
from headway.define.records import ViewPlan
from headway.errors import HeadwayError
from headway.monitor.verify import VerifyResult
from headway.orchestrate import catalog as entries
from headway.orchestrate._parts import Parts
from headway.orchestrate.verification import all_verified


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
    expected: int | None = None
    verified: VerifyResult | None = None
    sets: tuple[str, ...] = ()

    @property
    def parity(self) -> tuple[str, str]:
        """Look and words for what the last verification found."""
        return shown.parity(self.verified)

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
             self.parity[1], *view.tags, *names, *self.used_by, *self.sets]
        )  # fmt: skip


_COLUMNS = (
    Column("View", lambda r: r.name),
    Column("Entity", lambda r: r.view.entity.name),
    Column("Source", lambda r: r.view.source.name),
    Column("Features", lambda r: len(r.view.features), number=True),
    Column("Refresh", lambda r: r.plan.refresh if r.plan else None, hint="the grid that values are computed on"),
    Column("Freshness", lambda r: (r.late_by or 0) if r.as_of is not None else None),
    Column("As of", lambda r: r.as_of, hint="the moment that the online values speak for", css="wide"),
    Column("Verified", lambda r: r.parity[0], hint="are the served values those that training would compute?"),
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
            entries=entries.features(view.parts, row.view, row.plan),
            place=place(view, row.view),
            code=written(row.view, view.settings.root)[1],
            query=inspect.cleandoc(row.view.source.query or ""),
            functions=entries.functions(view.parts, row.view),
            versions=_versions(view, row),
            reads=_reads(view, row.name),
            **_statistics(view, row),
        )

    def statistics(request: Request) -> Response:
        row = _row(view, request.path_params["name"])
        return view.fragment(
            request,
            "feature_statistics.html",
            row=row,
            entries=entries.features(view.parts, row.view, row.plan),
            **_statistics(view, row, patience=5.0),
        )

    return [
        Route("/features", catalog),
        Route("/features/{name}", one),
        Route("/features/{name}/statistics", statistics),
    ]


def view_rows(view: Context) -> list[ViewRow]:
    """Every view of the project."""
    project = view.project
    now, used, verified = view.data_now(), users(view), all_verified(project.parts)
    store = project.parts.open_online(True)
    try:
        reader = OnlineReader(store)
        return [_one(project.parts, reader, v, now, used, verified) for v in project.declarations.views.values()]
    finally:
        store.close()


def _row(view: Context, name: str) -> ViewRow:
    project = view.project
    declared = project.declarations.views.get(name)
    if declared is None:
        view.not_found(f"The project has no feature view {name!r}.")
    store = project.parts.open_online(True)
    try:
        verified = all_verified(project.parts)
        return _one(project.parts, OnlineReader(store), declared, view.data_now(), users(view), verified)
    finally:
        store.close()


def _one(
    parts: Parts,
    reader: OnlineReader,
    declared: FeatureView,
    now: int,
    used: Mapping[str, tuple[str, ...]],
    verified: Mapping[str, VerifyResult],
) -> ViewRow:
    models, sets = used.get(declared.name, ()), entries.sets(parts, declared)
    try:
        plan = parts.binder.view(declared)
        mark = reader.watermark(plan)
    except HeadwayError as error:
        return ViewRow(
            declared, None, parts.settings.redact(str(error)), None, 0, "bad", "no data", None, models, sets=sets
        )
    as_of = None if mark is None else mark.as_of
    look, fresh = shown.freshness(plan, as_of, now)
    version = 0 if mark is None else mark.version
    return ViewRow(
        declared,
        plan,
        "",
        as_of,
        version,
        look,
        fresh,
        entries.late_by(plan, as_of, now),
        models,
        plan.r(now) if plan.refresh is not None else None,
        verified.get(plan.fingerprint),
        sets,
    )


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
    sets = {name: [s.view.name for s in each.selections] for name, each in declared.sets.items()}
    return shown.lineage(row.name, row.plan, row.view.source.name, declared.sources, reads(view), models, sets)


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


def _versions(view: Context, row: ViewRow) -> Sequence[entries.VersionUse]:
    """The model versions that need the view online."""
    fingerprint = row.plan.fingerprint if row.plan else ""
    return entries.uses_of(entries.version_uses(view.parts), row.name, fingerprint)


def _reads(view: Context, name: str) -> list[tuple[str, int]]:
    """How many values the server of this process has served, by state; nothing where it serves none."""
    counted = view.reads() if view.reads is not None else {}
    return sorted((state, count) for (of, state), count in counted.items() if of == name)


def _statistics(view: Context, row: ViewRow, patience: float = 0.1) -> dict[str, Any]:
    """``statistics`` by feature (None: still being worked out), ``pictures``, and how many entities they rest on."""
    found, pending = None, False
    if row.plan is not None and row.as_of is not None:
        found, pending = _sample.statistics(view.parts, row.plan, row.as_of, row.version, patience)
    features = found.features if found else {}
    return {
        "statistics": features,
        "pictures": {name: shown.picture(name, figures) for name, figures in features.items()},
        "pending": pending,
        "sample": found,
    }
