"""Search by name over everything the project has: the box of Ctrl-K, and a page without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console._context import NAVIGATION, Context

_MOST = 12
_RUNS = 100  # the newest ones are looked through by name
_VERSION = re.compile(r"(?P<model>[\w-]+)?\s*(?:@|\bv|\bversion\s+)\s*(?P<version>\d{1,9})$")


@dataclass(frozen=True, slots=True)
class Hit:
    """Something with a page: what it is, its name, the page, and a few words about it."""

    kind: str
    name: str
    link: str
    about: str = ""


def routes(view: Context) -> list[Route]:
    """``/search?q=``: a fragment for htmx, a page otherwise."""

    def search(request: Request) -> Response:
        q = " ".join(request.query_params.get("q", "").split())[:100]
        found = find(view, q)
        if request.headers.get("hx-request") == "true":
            return view.fragment(request, "_found.html", q=q, found=found)
        return view.page(request, "search.html", title="Search", q=q, found=found)

    return [Route("/search", search)]


def find(view: Context, q: str) -> list[Hit]:
    """What matches best, at most a dozen."""
    if not q:
        return []
    wanted = q.lower()
    ranked = []
    for order, hit in enumerate((*_everything(view), *_runs(view, wanted))):
        rank = _rank(wanted, hit.name.lower(), hit.about.lower())
        if rank is not None:
            ranked.append((rank, len(hit.name), order, hit))
    ranked.sort(key=lambda each: each[:3])
    exact = [*_versions(view, q), *_run(view, q)]
    return [*exact, *(hit for *_, hit in ranked)][:_MOST]


def _rank(wanted: str, name: str, about: str) -> int | None:
    """How well a name fits; less is better, None is not at all."""
    if name == wanted:
        return 0
    if name.startswith(wanted):
        return 1
    if any(part.startswith(wanted) for part in re.split(r"[\W_]+", name)):
        return 2
    if wanted in name:
        return 3
    if all(word in f"{name} {about}" for word in wanted.split()):
        return 4
    return 5 if len(wanted) > 2 and _in_order(wanted, name) else None


def _in_order(wanted: str, name: str) -> bool:
    """Whether the letters stand in the name in that order: ``tdur`` for ``trip_duration``."""
    letters = iter(name)
    return all(letter in letters for letter in wanted if letter != " ")


def _everything(view: Context) -> Iterator[Hit]:
    declared: Any = view.declarations
    for link, label in NAVIGATION:
        yield Hit("page", label, link)
    for name in sorted({*declared.models, *view.metadata.versions.counts()}):
        yield Hit("model", name, f"/models/{_part(name)}", _about(declared.models.get(name)))
    for name, item in declared.views.items():
        yield Hit("view", name, f"/features/{_part(name)}", _about(item))
        for feature in item.features:
            yield Hit("feature", feature.name, f"/features/{_part(name)}#{_part(feature.name)}", f"of {name}")
    for name, item in declared.sources.items():
        yield Hit("source", name, f"/data/{_part(name)}", _about(item))
    for name, item in declared.pipelines.items():
        yield Hit("pipeline", name, f"/runs/new?target={_part(name)}", _about(item))
    for name, item in declared.batches.items():
        yield Hit("batch", name, f"/runs/new?target={_part(name)}", _about(item))
    for name, item in declared.functions.items():
        yield Hit("function", name, "/features", _about(item))


def _part(name: str) -> str:
    return quote(name, safe="")


def _about(item: Any) -> str:
    if item is None:
        return ""
    return " · ".join(text for text in (item.description, item.owner, ", ".join(item.tags)) if text)


def _versions(view: Context, q: str) -> list[Hit]:
    """``trip_duration@3``, ``trip_duration v3``."""
    match = _VERSION.search(q)
    if match is None or not match["model"]:
        return []
    wanted, version = match["model"].lower(), int(match["version"])
    names = [name for name in view.metadata.versions.counts() if wanted in name.lower()][:5]
    known = view.metadata.versions.brief((name, version) for name in names)
    return [
        Hit("version", f"{name}@{version}", f"/models/{_part(name)}/versions/{version}")
        for name in names
        if (name, version) in known
    ]


def _run(view: Context, q: str) -> list[Hit]:
    """A run by its number."""
    digits = q.lower().removeprefix("run").strip(" #")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        return []
    run = view.metadata.runs.get(int(digits))
    return [] if run is None else [Hit("run", f"{run.id}", f"/runs/{run.id}", f"{run.name}: {run.status}")]


def _runs(view: Context, wanted: str) -> Iterator[Hit]:
    """The newest runs of something of that name."""
    if len(wanted) < 3:
        return
    matching = (run for run in view.metadata.runs.list(limit=_RUNS) if wanted in run.name.lower())
    for number, run in enumerate(matching):
        if number == 3:
            return
        yield Hit("run", f"{run.id}", f"/runs/{run.id}", f"{run.name}: {run.status}")
