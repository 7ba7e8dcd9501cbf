"""Reading the prediction log from the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.lake import Lake
from headway.data.predictions._compact import compact, dropped_table, labels_table, predictions_table
from headway.data.predictions._table import DROPPED, LABELS, MOMENT, OWN
from headway.errors import NotFoundError


class Logged(msgspec.Struct, frozen=True):
    """What the log has of a model: rows, the moments they speak for, and rows that were not kept, by reason."""

    model: str
    rows: int
    since: int | None
    until: int | None
    dropped: dict[str, int]
    labels: int


def read(
    lake: Lake,
    model: str,
    since: int | None = None,
    until: int | None = None,
    columns: Sequence[str] | None = None,
    *,
    home: Path | None = None,
) -> pa.Table:
    """The logged predictions of a model whose moment (``at``) is in [since, until), in no particular order.

    ``columns`` chooses some; one that no version has had is null. With ``home``, what servers have written there and
    is not in the lake yet is moved into it first. No predictions are a table without rows.
    """

    if home is not None:
        compact(lake, home)
    return _rows(lake, predictions_table(model), OWN, _between(since, until), columns)


def read_labels(lake: Lake, model: str) -> pa.Table:
    """All labels that were attached to a model's predictions, in no particular order."""

    return _rows(lake, labels_table(model), LABELS, None, None)


def find(lake: Lake, request_id: str, model: str | None = None) -> pa.Table:
    """The predictions of one request, row by row. Raises ``NotFoundError``."""
    for table in lake.tables():
        if table.startswith("predictions/") and model in (None, table.removeprefix("predictions/")):
            found = _rows(lake, table, OWN, pc.field("request_id") == request_id, None)
            if found.num_rows:
                return found.sort_by("row")
    of = "" if model is None else f" of model {model!r}"
    raise NotFoundError(
        f"the prediction log has no request {request_id!r}{of}; `headway predictions list` says what it has"
    )


def overview(lake: Lake) -> list[Logged]:
    """What the log has, by model."""
    names = {table.partition("/")[2] for table in lake.tables() if table.startswith(("predictions/", "dropped/"))}
    return [_logged(lake, model) for model in sorted(names)]


def _logged(lake: Lake, model: str) -> Logged:

    table = predictions_table(model)
    dropped = _rows(lake, dropped_table(model), DROPPED, None, ["reason", "rows"]).group_by("reason")
    counts = dropped.aggregate([("rows", "sum")]).to_pylist()
    at = read(lake, model, columns=["at"])["at"]
    first = pc.min_max(at).as_py() if len(at) else {"min": None, "max": None}
    return Logged(
        model=model,
        rows=0 if lake.version(table) is None else lake.rows(table),
        since=_micros(first["min"]),
        until=_micros(first["max"]),
        dropped={row["reason"]: row["rows_sum"] for row in counts},
        labels=0 if lake.version(labels_table(model)) is None else lake.rows(labels_table(model)),
    )


def _micros(moment: Any) -> int | None:

    return None if moment is None else pa.scalar(moment, MOMENT).cast(pa.int64()).as_py()


def _between(since: int | None, until: int | None) -> Any:

    found = None
    for bound, make in ((since, pc.greater_equal), (until, pc.less)):
        if bound is not None:
            test = make(pc.field("at"), pa.scalar(bound, pa.int64()).cast(MOMENT))
            found = test if found is None else found & test
    return found


def _rows(
    lake: Lake, table: str, own: Mapping[str, pa.DataType], condition: Any, columns: Sequence[str] | None
) -> pa.Table:
    """Rows of a table of the log; ``own`` are the columns that it has in any case."""
    import pyarrow.dataset as ds

    if lake.version(table) is None:
        return pa.schema([(n, t) for n, t in own.items() if columns is None or n in columns]).empty_table()
    schema = lake.schema(table)
    known = [name for name in (schema.names if columns is None else columns) if name in schema.names]
    found = ds.dataset(lake.files(table), schema=schema, format="parquet").to_table(columns=known, filter=condition)
    missing = [] if columns is None else [name for name in columns if name not in schema.names]
    for name in missing:
        found = found.append_column(name, pa.nulls(len(found), own.get(name, pa.null())))
    return found if columns is None else found.select(list(columns))
