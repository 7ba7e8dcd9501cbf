"""Promotion, rollback and release: each a page that asks for a reason, and then the decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console import _decide
from headway.console._context import Context, Form
from headway.console.pages.models import existing, version_of
from headway.console.views.versions import better, change
from headway.define.records import Deployment, VersionRecord
from headway.errors import HeadwayError, UsageError
from headway.metadata import Answering, answering

_CHOICES = 100  # versions offered

Act = Callable[[Context, str, str | None, Form, str], str]


def routes(view: Context) -> list[Route]:
    """A GET that asks and a POST that acts, for each kind of decision."""
    found = []
    acts: Mapping[str, Act] = {"promote": _promote, "rollback": _rollback, "release": _release}
    for name, act in acts.items():
        found.append(Route(f"/models/{{model}}/{name}", _asking(view, name), methods=["GET"]))
        found.append(Route(f"/models/{{model}}/{name}", _acting(view, name, act), methods=["POST"]))
    return found


def _asking(view: Context, action: str) -> Callable[[Request], Response]:
    def ask(request: Request) -> Response:
        query = {name: [value] for name, value in request.query_params.items()}
        return _page(view, request, action, Form(query))

    return ask


def _acting(view: Context, action: str, act: Act) -> Callable[[Request], Response]:
    def decide(request: Request) -> Response:
        model, form = existing(view, request), view.form(request)
        try:
            if not form.get("why") and action != "release":
                raise UsageError("say why in a few words: whoever looks at the log later will want to know")
            said = act(view, model, form.get("segment") or None, form, view.who(request).name)
        except HeadwayError as error:
            return _page(view, request, action, form, view.settings.redact(str(error)))
        return view.redirect(request, f"/models/{model}", said)

    return decide


def _promote(view: Context, model: str, segment: str | None, form: Form, by: str) -> str:
    version = _chosen(form.get("version"))
    _decide.promote(view.settings, _decide.Decision(model, version, segment, form.get("why"), by))
    return f"Version {version} of {model} answers now{_where(segment)}."


def _rollback(view: Context, model: str, segment: str | None, form: Form, by: str) -> str:
    line = view.project.models.rollback(model, segment, why=form.get("why"), by=by)
    _decide.tell_mlflow(view.settings)
    return (
        f"Version {line.version} of {model} answers again{_where(segment)}."
        " Automatic promotion is held until it is released."
    )


def _release(view: Context, model: str, segment: str | None, form: Form, by: str) -> str:
    line = view.project.models.release(model, segment, why=form.get("why"), by=by)
    return f"Promotion of {model}{_where(segment)} " + ("is automatic again." if line else "was not held.")


def _chosen(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UsageError(f"a version is a number such as 3, got {text[:40]!r}")
    return int(text)


def _where(segment: str | None) -> str:
    return f" for {segment}" if segment else ""


_TITLES = {"promote": "Promote", "rollback": "Roll back", "release": "Release"}


def _page(view: Context, request: Request, action: str, form: Form, error: str = "") -> Response:
    """The page that asks: what is, what would be, and the reason."""
    model = existing(view, request)
    segment = form.get("segment") or None
    versions = view.metadata.versions.page(model, limit=_CHOICES)
    log = view.metadata.deployments.list(model)
    now = answering(log, [segment] if segment else []).get(segment)
    candidate = _candidate(view, model, action, form.get("version"), now, versions)
    live = version_of(view, model, now.version) if now else None
    return view.page(
        request,
        "decide.html",
        title=f"{_TITLES[action]} {model}",
        cli=_command(action, model, segment, candidate),
        status=409 if error else 200,
        action=action,
        verb=_TITLES[action],
        model=model,
        segment=segment,
        segments=_segments(versions[:1], log, segment),
        versions=versions,
        now_=now,
        live=live,
        candidate=candidate,
        figures=_figures(live, candidate, segment),
        why=form.get("why"),
        error=error[:1].upper() + error[1:],
    )


def _candidate(
    view: Context, model: str, action: str, text: str, now: Answering | None, versions: Sequence[VersionRecord]
) -> VersionRecord | None:
    """The version that would answer; the newest where nobody has chosen one that there is."""
    if action == "rollback":
        return version_of(view, model, now.previous) if now and now.previous is not None else None
    if action == "release":
        return None
    chosen = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    found = None if chosen is None else view.metadata.versions.get(model, chosen)
    return found or next((v for v in versions if now is None or v.version != now.version), next(iter(versions), None))


def _segments(versions: Sequence[VersionRecord], log: Sequence[Deployment], segment: str | None) -> list[str]:
    """Segments to choose from: those of some versions, those the log names, and the one asked for."""
    found = {segment} if segment else set()
    for record in versions:
        found |= {*record.serving.segments, *record.segment_metrics}
    return sorted(found | {line.segment for line in log if line.segment is not None})


class Figure(NamedTuple):
    """A metric of what answers and of what would; ``look`` says whether the change is for the better."""

    metric: str
    a: float | None
    b: float | None
    change: float | None
    look: str


def _figures(live: VersionRecord | None, candidate: VersionRecord | None, segment: str | None) -> list[Figure]:
    """Each metric, side by side."""
    record = candidate or live
    if record is None:
        return []
    old, new = _of(live, segment), _of(candidate, segment)
    names = [name for name in dict.fromkeys([record.metric, *old, *new]) if name]
    pairs = [(name, old.get(name), new.get(name)) for name in names]
    return [Figure(name, a, b, change(a, b), better(record, name, a, b)) for name, a, b in pairs]


def _of(record: VersionRecord | None, segment: str | None) -> Mapping[str, float]:
    if record is None:
        return {}
    return record.segment_metrics.get(segment, {}) if segment else record.metrics


def _command(action: str, model: str, segment: str | None, candidate: VersionRecord | None) -> str:
    words = {
        "promote": f"headway models promote {model} {candidate.version if candidate else 'VERSION'}",
        "rollback": f"headway rollback {model}",
        "release": f"headway models release {model}",
    }[action]
    return words + (f' --segment "{segment}"' if segment else "") + ' --why "…"'
