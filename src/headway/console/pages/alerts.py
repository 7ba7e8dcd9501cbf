"""Alerts: what is wrong now, and what somebody does about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console._context import Column, Context, Form, listing
from headway.define.watch_records import Alert, AlertState
from headway.errors import HeadwayError, UsageError
from headway.orchestrate.monitoring.alerts import AlertDesk

_MOST = 500
_SILENCES = {"1h": "an hour", "8h": "eight hours", "1d": "a day", "3d": "three days", "7d": "a week", "30d": "30 days"}
_STATES: dict[str, tuple[AlertState, ...]] = {
    "": ("open", "acknowledged"),
    "open": ("open",),
    "acknowledged": ("acknowledged",),
    "resolved": ("resolved",),
}
_RANK = ("critical", "warning", "info")

_COLUMNS = (
    Column("Severity", lambda a: _RANK.index(a.severity)),
    Column("Alert", lambda a: a.title),
    Column("Model", lambda a: (a.model or "", a.segment or "")),
    Column("State", lambda a: a.state),
    Column("First", lambda a: a.first_at, hint="when it was found first"),
    Column("Last", lambda a: a.last_at, hint="when it was found last"),
    Column("Found", lambda a: a.count, number=True, hint="how often it was found"),
)


def routes(view: Context) -> list[Route]:
    """The list, an alert with its forms, and the silences."""

    def alerts(request: Request) -> Response:
        state = request.query_params.get("state", "")
        wanted = _STATES.get(state, _STATES[""])
        found = view.metadata.alerts.list(state=wanted, limit=_MOST)
        table = listing(request, found, _COLUMNS, id="alerts", text=_text, size=100)
        now = view.now()
        return view.page(
            request,
            "alerts.html",
            title="Alerts",
            cli=["headway alerts list", "headway status"],
            table=table,
            state=state if state in _STATES else "",
            states=_tabs(request),
            quiet=[s for s in view.metadata.alerts.silences() if s.until > now],
            watched=bool(view.metadata.figures.models()),
        )

    def alert(request: Request) -> Response:
        return _page(view, request, _found(view, request), Form({}))

    return [
        Route("/alerts", alerts),
        Route("/alerts/unsilence", _unsilence(view), methods=["POST"]),
        Route("/alerts/{id:int}", alert, methods=["GET"]),
        *(
            Route(f"/alerts/{{id:int}}/{name}", _acting(view, act), methods=["POST"])
            for name, act in (("acknowledge", _acknowledge), ("resolve", _resolve), ("silence", _silence))
        ),
    ]


def _text(alert: Alert) -> str:
    return f"{alert.severity} {alert.title} {alert.text} {alert.model or ''} {alert.segment or ''} {alert.kind}"


def _tabs(request: Request) -> list[tuple[str, str, str]]:
    """State, label and link of each tab; the filter stays."""
    q = request.query_params.get("q", "")[:200]
    labels = {"": "unresolved", "open": "open", "acknowledged": "acknowledged", "resolved": "resolved"}
    found = []
    for state, label in labels.items():
        query = urlencode({name: value for name, value in (("state", state), ("q", q)) if value})
        found.append((state, label, "/alerts" + (f"?{query}" if query else "")))
    return found


def _found(view: Context, request: Request) -> Alert:
    number: int = request.path_params["id"]
    found = view.metadata.alerts.get(number) if number < 2**53 else None
    if found is None:
        view.not_found(f"There is no alert {number}.")
    return found


def _page(view: Context, request: Request, found: Alert, form: Form, error: str = "") -> Response:
    now = view.now()
    return view.page(
        request,
        "alert.html",
        title=found.title or found.key,
        status=409 if error else 200,
        cli=[
            f'headway alerts ack {found.id} --why "…"',
            f'headway alerts resolve {found.id} --why "…"',
            f'headway alerts silence {found.key} --for 1d --why "…"',
        ],
        alert=found,
        silenced=found.silenced_until if found.silenced_until and found.silenced_until > now else None,
        silences=_SILENCES,
        prefixes=_prefixes(found.key),
        runbook_link=found.runbook if (found.runbook or "").startswith(("https://", "http://")) else None,
        why=form.get("why"),
        error=error,
    )


def _prefixes(key: str) -> Sequence[str]:
    """The key, and all above it: ``trips/performance/mae``, ``trips/performance``, ``trips``."""
    parts = key.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]


Act = Callable[[Context, Alert, Form, str], str]


def _acting(view: Context, act: Act) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        found, form = _found(view, request), view.form(request)
        if not form.get("why"):
            return _page(view, request, found, form, "Say why in a few words: others will see it beside the alert.")
        try:
            said = act(view, found, form, view.who(request).name)
        except HeadwayError as error:
            return _page(view, request, found, form, view.settings.redact(str(error)))
        return view.redirect(request, f"/alerts/{found.id}", said)

    return answer


def _acknowledge(view: Context, found: Alert, form: Form, by: str) -> str:
    AlertDesk(view.parts).acknowledge(found.id, why=form.get("why"), by=by)
    return "Acknowledged: others see that you are looking into it."


def _resolve(view: Context, found: Alert, form: Form, by: str) -> str:
    AlertDesk(view.parts).resolve(found.id, why=form.get("why"), by=by)
    return "Resolved. If the same is found again, it is a new alert."


def _silence(view: Context, found: Alert, form: Form, by: str) -> str:
    length, prefix = form.get("length"), form.get("prefix")
    if length not in _SILENCES or prefix not in _prefixes(found.key):
        raise UsageError(f"a silence lasts {', '.join(_SILENCES)}, and is of {' or '.join(_prefixes(found.key))}")
    AlertDesk(view.parts).silence(prefix, length=length, why=form.get("why"), by=by)
    return f"Nobody is told of {prefix} for {_SILENCES[length]}; it is still counted and shown here."


def _unsilence(view: Context) -> Callable[[Request], Response]:
    def take_back(request: Request) -> Response:
        prefix = view.form(request).get("prefix")
        if prefix not in {s.key_prefix for s in view.metadata.alerts.silences()}:
            raise UsageError(f"there is no silence of {prefix or 'everything'}")
        AlertDesk(view.parts).unsilence(prefix, by=view.who(request).name)
        return view.redirect(request, "/alerts", f"Alerts of {prefix or 'everything'} are told again.")

    return take_back
