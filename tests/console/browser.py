"""A browser without a window: follows no script, keeps cookies, and reads what a page says."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
from starlette.types import ASGIApp

_VOID = {"meta", "link", "input", "br", "img", "hr", "wbr", "path", "rect", "circle", "line"}


class Page:
    """An answer, with its text and its links."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.html = response.text
        self.headers = response.headers

    @property
    def text(self) -> str:
        """What a reader sees, in one line."""
        plain = re.sub(r"<(script|style)\b.*?</\1>", " ", self.html, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", plain)).split())

    @property
    def links(self) -> list[str]:
        return [unescape(link) for link in re.findall(r'href="([^"]*)"', self.html)]

    @property
    def form_token(self) -> str:
        found = re.search(r'name="form_token" value="([^"]+)"', self.html)
        assert found, "the page has no form"
        return found[1]

    def check(self) -> Page:
        """Every element is closed, in order, and no template was left undone."""
        checker = _Nesting()
        checker.feed(self.html)
        assert not checker.open, f"not closed: {checker.open}"
        assert "{{" not in self.html
        assert "{%" not in self.html
        return self


class _Nesting(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag in ("path", "rect", "circle", "line"):
            return
        while self.open and self.open[-1] in ("p", "li", "option") and self.open[-1] != tag:
            self.open.pop()  # these may be left open
        assert self.open, f"</{tag}> was never opened"
        assert self.open.pop() == tag, f"</{tag}> closes another element at {self.getpos()}"


class Browser:
    """Asks an ASGI application, as ``http://127.0.0.1``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cookies = httpx.Cookies()

    def get(self, path: str, **headers: str) -> Page:
        return self._ask("GET", path, headers=headers)

    def post(self, path: str, on: str | None = None, **fields: Any) -> Page:
        """Send a form, with the token of the page ``on`` (by default the path itself)."""
        token = self.get(on or path).form_token
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, data={"form_token": token, **fields}, headers=headers)

    def follow(self, page: Page) -> Page:
        """Where an answer redirects to."""
        assert page.status == 303, page.text
        return self.get(urljoin("http://127.0.0.1/", page.headers["location"]))

    def _ask(self, method: str, path: str, **more: Any) -> Page:
        return Page(asyncio.run(self._send(method, path, **more)))

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", cookies=self._cookies) as client:
            response = await client.request(method, path, **more)
            self._cookies = client.cookies
            return response
