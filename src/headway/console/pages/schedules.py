"""Schedules: what runs next, what became of the last moments, and stopping one for a while."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console._context import Context
from headway.console._format import short_time
from headway.errors import UsageError
from headway.orchestrate.runs import schedules

SLOTS = 20


def routes(view: Context) -> list[Route]:
    """All schedules, one, and pausing and resuming it."""
    return [
        Route("/schedules", lambda request: _overview(view, request)),
        Route("/schedules/{name}", lambda request: _one(view, request)),
        Route("/schedules/{name}/pause", lambda request: _pause(view, request), methods=["POST"]),
        Route("/schedules/{name}/resume", lambda request: _resume(view, request), methods=["POST"]),
    ]


def _overview(view: Context, request: Request) -> Response:
    declared = schedules.scheduled(view.declarations)
    now = view.data_now()
    return view.page(
        request,
        "schedules.html",
        title="Schedules",
        cli="headway schedule list",
        found=schedules.next_runs(declared, view.metadata, now, 3),
        targets={name: each.target for name, each in declared.items()},
        data_now=now,
        apart=abs(now - view.now()) > 120_000_000,
        scheduling=view.scheduling() if view.scheduling else "",
    )


def _one(view: Context, request: Request) -> Response:
    name = request.path_params["name"]
    declared = schedules.scheduled(view.declarations)
    if name not in declared:
        view.not_found(f"Nothing that is called {name!r} has a schedule.")
    now = view.data_now()
    (found,) = schedules.next_runs({name: declared[name]}, view.metadata, now, 10)
    slots = view.metadata.schedules.slots(name, SLOTS)
    runs = {slot.run: view.metadata.runs.get(slot.run) for slot in slots if slot.run is not None}
    return view.page(
        request,
        "schedule.html",
        title=name,
        cli=[
            f"headway schedule {'resume' if found.state and found.state.paused else 'pause'} {name}",
            "headway schedule list",
        ],
        found=found,
        target=declared[name].target,
        slots=slots,
        runs=runs,
        data_now=now,
    )


def _pause(view: Context, request: Request) -> Response:
    name, why = request.path_params["name"], view.form(request).get("why")
    if not why:
        raise UsageError("say why the schedule is paused: somebody will ask")
    declared = schedules.scheduled(view.declarations)
    schedules.pause(declared, view.metadata, name, view.who(request).name, why, view.now())
    return view.redirect(request, f"/schedules/{name}", f"{name} is paused until somebody resumes it.")


def _resume(view: Context, request: Request) -> Response:
    name, why = request.path_params["name"], view.form(request).get("why")
    declared, now = schedules.scheduled(view.declarations), view.data_now()
    schedules.resume(declared, view.metadata, name, view.who(request).name, why, view.now(), now)
    said = f"{name} goes on from {short_time(now)} UTC; what was due before is not owed."
    return view.redirect(request, f"/schedules/{name}", said)
