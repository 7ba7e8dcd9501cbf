"""A table whose filter, order and page are in the URL, so that a link shows what its sender saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, what to sort by (None: not sortable), whether it holds numbers, a sentence that says
    what it means, and a class for its cells (``wide`` ones are left out on a phone)."""

    label: str
    key: Callable[[Any], Any] | None = None
    number: bool = False
    hint: str = ""
    css: str = ""

    @property
    def slug(self) -> str:
        return "-".join(self.label.lower().split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The rows to show, and the links that show them otherwise."""

    id: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    total: int  # before the filter
    found: int  # after it
    q: str
    order: str  # slug of the column, with a minus for the greatest first
    page: int
    pages: int
    size: int
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    filterable: bool = True

    def url(self, **changes: str | int | None) -> str:
        """This page with some parameters changed; None and "" leave one out."""
        values = {**self.params, **{name: "" if v is None else str(v) for name, v in changes.items()}}
        query = urlencode({name: value for name, value in values.items() if value != ""})
        return f"{self.path}?{query}" if query else self.path

    def sort_url(self, column: Column) -> str:
        """Sorted by a column; the other way round if it is already."""
        return self.url(sort=f"-{column.slug}" if self.order == column.slug else column.slug, page=None)

    def direction(self, column: Column) -> str:
        """For ``aria-sort``: ascending, descending or none."""
        if self.order.lstrip("-") != column.slug:
            return "none"
        return "descending" if self.order.startswith("-") else "ascending"

    @property
    def first(self) -> int:
        return (self.page - 1) * self.size + 1 if self.found else 0

    @property
    def last(self) -> int:
        return min(self.page * self.size, self.found)


def listing(
    request: Request,
    rows: Sequence[Any],
    columns: Sequence[Column],
    *,
    id: str,
    text: Callable[[Any], str] | None = None,
    order: str = "",
    size: int = 500,
) -> Listing:
    """The rows a request asks for with ``q`` (words that ``text`` of a row contains), ``sort`` and ``page``."""
    params = {name: value for name, value in request.query_params.items() if len(value) <= 200}
    q = params.get("q", "").strip()
    words = q.lower().split()
    found = [r for r in rows if all(w in text(r).lower() for w in words)] if text and words else list(rows)
    order = params.get("sort", order)
    column = next((c for c in columns if c.slug == order.lstrip("-")), None)
    if column is not None and column.key is not None:
        found = _sorted(found, column.key, descending=order.startswith("-"))
    pages = max(1, -(-len(found) // size))
    page = min(max(1, _number(params.get("page", "1"))), pages)
    return Listing(
        id=id,
        columns=columns,
        rows=found[(page - 1) * size : page * size],
        total=len(rows),
        found=len(found),
        q=q,
        order=order,
        page=page,
        pages=pages,
        size=size,
        path=request.url.path,
        params=params,
        filterable=text is not None,
    )


def _sorted(rows: Sequence[Any], key: Callable[[Any], Any], *, descending: bool) -> list[Any]:
    """Sorted; rows without a value come last either way, and those of one value keep their order."""
    known = [(value, row) for row in rows if (value := key(row)) is not None]
    if len({type(value) for value, _ in known} - {int, float}) > 1:
        known = [(str(value), row) for value, row in known]
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in known] + [row for row in rows if key(row) is None]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1
