"""Decisions: the deployment log and everything else that somebody did, in one list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console._context import Context
from headway.define.records import Deployment
from headway.define.run_records import AuditLine

_PER_PAGE = 50
_AT_A_TIME = 200
_MOST = 4_000  # lines looked through for a filter; the next page goes on from there


@dataclass(frozen=True, slots=True)
class Line:
    """Something that was done, by whom, to what, and why. ``place`` says where it stands in its own log."""

    at: int
    by: str
    action: str
    object: str
    detail: str
    why: str
    link: str
    look: str
    place: tuple[str, int]

    def has(self, words: list[str]) -> bool:
        """Whether all the words are in the line."""
        text = f"{self.by} {self.action} {self.object} {self.detail} {self.why}".lower()
        return all(word in text for word in words)


def routes(view: Context) -> list[Route]:
    """The list, filtered by words, paged by where both logs were left."""

    def decisions(request: Request) -> Response:
        query = request.query_params
        q = query.get("q", "").strip()[:200]
        start = _position(query.get("before", ""))
        found, end = _page(view, q.lower().split(), start)
        older = f"/decisions?{urlencode({**({'q': q} if q else {}), 'before': f'{end[0]}.{end[1]}'})}" if end else ""
        return view.page(
            request,
            "decisions.html",
            title="Decisions",
            cli="headway models show MODEL",
            lines=found,
            q=q,
            older=older,
            first=start == (None, None),
        )

    return [Route("/decisions", decisions)]


Position = tuple[int | None, int | None]


def _position(text: str) -> Position:
    """Where to go on: the ids of the last deployment and audit line seen."""
    parts = text.split(".")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 16 for p in parts):
        return None, None
    return int(parts[0]), int(parts[1])


def _page(view: Context, words: list[str], start: Position) -> tuple[list[Line], tuple[int, int] | None]:
    """Lines of one page, and where the next begins; None for the last page."""
    seen = {"deployment": start[0], "audit": start[1]}
    found: list[Line] = []
    for looked, line in enumerate(_merged(view, start)):
        if len(found) == _PER_PAGE or looked == _MOST:
            return found, (seen["deployment"] or 2**53, seen["audit"] or 2**53)
        kind, number = line.place
        seen[kind] = number
        if line.has(words):
            found.append(line)
    return found, None


def _merged(view: Context, start: Position) -> Iterator[Line]:
    """Both logs, newest first. Each is told in its own clock; within a log the order is that of writing."""
    left = _deployments(view, start[0])
    right = _audited(view, start[1])
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a.at >= b.at):
            assert a is not None
            yield a
            a = next(left, None)
        else:
            yield b
            b = next(right, None)


def _deployments(view: Context, before: int | None) -> Iterator[Line]:
    while lines := view.metadata.deployments.recent(before, _AT_A_TIME):
        yield from map(_of_deployment, lines)
        before = lines[-1].id
        if len(lines) < _AT_A_TIME:
            return


def _audited(view: Context, before: int | None) -> Iterator[Line]:
    while lines := view.metadata.audit.list(before=before, limit=_AT_A_TIME):
        yield from map(_of_audit, lines)
        before = lines[-1].id
        if len(lines) < _AT_A_TIME:
            return


_LOOKS = {"promote": "good", "rollback": "bad", "hold": "warn", "release": "plain"}


def _of_deployment(line: Deployment) -> Line:
    before = line.figures.get("before")
    detail = [f"version {line.version}"] if line.version is not None else []
    detail += [f"in place of {before}"] if before is not None else []
    detail += [f"for {line.segment}"] if line.segment else []
    link = f"/models/{quote(line.model, safe='')}"
    return Line(
        line.at, line.by, line.action, line.model, " ".join(detail), line.why, link, _LOOKS[line.action],
        ("deployment", line.id),
    )  # fmt: skip


def _of_audit(line: AuditLine) -> Line:
    detail = ", ".join(f"{name} {value}" for name, value in line.details.items() if isinstance(value, str | int))
    link = ""
    if "alert" in line.details:
        link = f"/alerts/{line.details['alert']}"
    elif line.action in ("silence alerts", "end silence"):
        link = "/alerts"
    elif line.object.startswith("run ") and line.object[4:].isdigit():
        link = f"/runs/{line.object[4:]}"
    elif "schedule" in line.action:
        link = "/schedules"
    return Line(line.at, line.by, line.action, line.object, detail[:200], line.why, link, "plain", ("audit", line.id))
