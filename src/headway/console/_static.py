"""Style sheets and scripts: read once, kept compressed, under URLs that change with their content."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

_MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
_PACKED = (".css", ".js", ".svg")


@dataclass(frozen=True, slots=True)
class _Asset:
    media: str
    plain: bytes
    packed: bytes | None
    digest: str


class Assets:
    """The files under ``static/``; ``url(name)`` is where a page finds one."""

    def __init__(self, folder: Path) -> None:
        files = sorted(f for f in folder.rglob("*") if f.suffix in _MEDIA)
        self._assets: Mapping[str, _Asset] = {f.relative_to(folder).as_posix(): _asset(f) for f in files}

    def url(self, name: str) -> str:
        """The URL of a file; it may be cached for ever. Raises ``KeyError`` for a file that is not there."""
        return f"/static/{self._assets[name].digest}/{name}"

    @property
    def route(self) -> Route:
        return Route("/static/{digest}/{name:path}", self._serve, methods=["GET"])

    @property
    def icon(self) -> Route:
        """Where browsers look for an icon of what is no page of ours: a log as plain text."""
        return Route("/favicon.ico", lambda _: RedirectResponse(self.url("icon.svg")), methods=["GET"])

    async def _serve(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            return Response("no such file", 404, media_type="text/plain")
        fresh = request.path_params["digest"] == asset.digest
        headers = {
            "cache-control": "public, max-age=31536000, immutable" if fresh else "no-cache",
            "content-type": asset.media,
            "vary": "accept-encoding",
        }
        if asset.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, headers={**headers, "content-encoding": "gzip"})
        return Response(asset.plain, headers=headers)


def _asset(file: Path) -> _Asset:
    plain = file.read_bytes()
    packed = gzip.compress(plain, 9, mtime=0) if file.suffix in _PACKED else None
    return _Asset(_MEDIA[file.suffix], plain, packed, blake2b(plain, digest_size=6).hexdigest())
