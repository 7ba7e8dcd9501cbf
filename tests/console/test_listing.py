"""A table's order, filter and page in the URL."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from headway.console._context import Column, Listing, listing

COLUMNS = (Column("Name", lambda r: r[0]), Column("A figure", lambda r: r[1], number=True), Column("Plain"))
ROWS = [("b", 2), ("a", None), ("c", 1.5), ("d", 2)]


def asked(query: str, **more: object) -> Listing:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/t",
        "query_string": query.encode(),
        "headers": [],
        "server": ("t", 80),
    }
    return listing(Request(scope), ROWS, COLUMNS, id="t", text=lambda r: r[0], **more)  # type: ignore[arg-type]


def names(found: Listing) -> str:
    return "".join(row[0] for row in found.rows)


def test_order() -> None:
    assert names(asked("")) == "bacd"
    assert names(asked("", order="name")) == "abcd"
    assert names(asked("sort=a-figure")) == "cbda"  # what has no figure comes last,
    assert names(asked("sort=-a-figure")) == "bdca"  # either way
    assert names(asked("sort=plain")) == names(asked("sort=nonsense")) == "bacd"
    found = asked("sort=-name&q=")
    assert [found.direction(c) for c in COLUMNS] == ["descending", "none", "none"]
    assert found.sort_url(COLUMNS[0]) == "/t?sort=name"
    assert found.sort_url(COLUMNS[1]) == "/t?sort=a-figure"


def test_filter_and_pages() -> None:
    found = asked("q=A&other=1")
    assert (names(found), found.found, found.total, found.q) == ("a", 1, 4, "A")
    assert found.url(q=None) == "/t?other=1"
    found = asked("page=2&sort=name", size=3)
    assert (names(found), found.pages, found.first, found.last) == ("d", 2, 4, 4)
    assert found.url(page=1) == "/t?page=1&sort=name"
    assert names(asked("page=77", size=3)) == "d"
    assert asked("q=zzz").first == 0


@given(st.text(max_size=30), st.text(max_size=10), st.text(max_size=30))
def test_any_url_is_a_page(q: str, page: str, sort: str) -> None:
    from urllib.parse import urlencode

    found = asked(urlencode({"q": q, "page": page, "sort": sort}), size=3)
    assert set(found.rows) <= set(ROWS)
    assert 1 <= found.page <= found.pages
