"""What is in the frames of a prediction log: layouts, rows in such a layout, labels, and what was not kept.

A server writes these and the compaction reads them; both are MessagePack arrays. A layout names the columns of a
version's rows once per segment, so that each segment can be read on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headway.define.records import Field, ServingPlan


class Layout(msgspec.Struct, frozen=True, array_like=True, tag="layout"):
    """The columns of rows: keys and request inputs, what the estimator was given, the views that were read."""

    number: int  # within the segment
    model: str
    version: int
    role: str
    text: bool  # predictions are class labels
    inputs: tuple[Field, ...]
    columns: tuple[Field, ...]
    views: tuple[str, ...]


class Rows(msgspec.Struct, frozen=True, array_like=True, tag="rows"):
    """Entries in one layout: a list of ``Entry``, not yet decoded."""

    layout: int
    model: str
    entries: msgspec.Raw


class Labels(msgspec.Struct, frozen=True, array_like=True, tag="labels"):
    """Labels that came over HTTP: a list of ``LabelEntry``, not yet decoded."""

    model: str
    entries: msgspec.Raw


class Dropped(msgspec.Struct, frozen=True, array_like=True, tag="dropped"):
    """Rows that were predicted and not kept, since the last such frame. ``at`` is the clock's now at the last one."""

    model: str
    reason: str
    rows: int
    at: int
    logged_at: int


Frame = Layout | Rows | Labels | Dropped


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """The rows of one request that one version answered; ``rows`` are their numbers in the request (None: all).

    ``inputs`` has a list of JSON values for every input of the layout; ``features``, for every column, the value (one
    row), or a list of values, or the bytes of little-endian float64 ones. ``states`` has the features that are not ok
    in some row.
    """

    request_id: str
    rows: list[int] | None
    at: int
    logged_at: int
    seconds: float
    predictions: list[Any]
    segments: list[str | None]
    as_of: list[int | None]
    inputs: list[list[Any]]
    features: list[Any]
    states: dict[str, list[str]]


class LabelEntry(msgspec.Struct, frozen=True, array_like=True):
    """One label: of a row of a request (None: its only one). ``label`` is the value as text."""

    request_id: str
    row: int | None
    label: str
    known_at: int
    logged_at: int


_encode = msgspec.msgpack.Encoder().encode
decode_frame = msgspec.msgpack.Decoder(Frame).decode
decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode
decode_labels = msgspec.msgpack.Decoder(list[LabelEntry]).decode


def encode(value: Any) -> bytes:
    """An entry, or a frame, as bytes. An entry may also be a tuple of its fields."""
    return _encode(value)


def listed(entries: Sequence[bytes]) -> msgspec.Raw:
    """Encoded entries as an encoded list of them."""
    return msgspec.Raw(b"\xdd" + len(entries).to_bytes(4, "big") + b"".join(entries))


def layout_of(plan: ServingPlan, version: int, role: str) -> Layout:
    """The layout of a version's rows."""
    requests = tuple(Field(r.name, "timestamp[us, tz=UTC]" if r.type == "timestamp" else r.type) for r in plan.requests)
    named = {r.name for r in requests}
    return Layout(
        number=0,
        model=plan.model,
        version=version,
        role=role,
        text=plan.task == "multiclass",
        inputs=(*requests, *(key for key in plan.entities if key.name not in named)),
        columns=tuple(Field(c.name, c.type) for c in plan.columns),
        views=tuple(use.prefix for use in plan.views),
    )


def label_text(value: Any) -> str:
    """A label as the text it is kept as: numbers as Python writes them, truth values in lower case."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def states_of(states: Mapping[str, Sequence[str]], row: int) -> str | None:
    """The states of one row that are not ok, as JSON; None if all are."""
    found = {name: of[row] for name, of in states.items() if of[row] != "ok"}
    return msgspec.json.encode(found).decode() if found else None
