"""Historical features from a file to a file, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from headway.data.compute import SpineColumns
from headway.data.spine import column, instants, key_columns
from headway.define.records import ViewUse
from headway.errors import DataError
from headway.orchestrate._parts import Parts
from headway.serve.batch import predict_file, read_file

ROWS = 1 << 19  # of the spine, in memory at a time


class _Columns:
    """The columns of one use of a view, batch by batch. A view whose events are in parts is asked for all batches
    before it answers for any."""

    def __init__(self, parts: Parts, use: ViewUse) -> None:
        self.use, self.view = use, parts.view(use.plan)
        self.stream = SpineColumns(self.view, parts.workspace) if len(self.view.events) > 1 else None


class _Retrieval:
    def __init__(self, parts: Parts, uses: Sequence[ViewUse], timestamp: str, timezone: str | None) -> None:
        self._parts, self._timestamp, self._timezone = parts, timestamp, timezone
        self.columns = [_Columns(parts, use) for use in uses]
        self._asked = 0

    @property
    def types(self) -> dict[str, str]:
        """The types of the columns that keys and moments are read from."""
        zone = ", tz=UTC" if self._timezone is None else ""
        found = {self._timestamp: f"timestamp[us{zone}]"}
        for column_ in self.columns:
            for key in column_.use.plan.keys:
                found.setdefault(column_.use.keys.get(key.name, key.name), key.type)
        return found

    def ask(self, table: pa.Table) -> None:
        self._asked += table.num_rows
        t, valid = instants(column(table, self._timestamp), self._timezone, self._what)
        for each in self.columns:
            if each.stream is not None:
                each.stream.ask(key_columns(table, each.use.plan.keys, each.use.keys), t, valid)

    def compute(self) -> None:
        for number, each in enumerate(self.columns):
            self._parts.progress(f"features {each.use.prefix}", number, len(self.columns))
            if each.stream is not None:
                each.stream.compute()

    def answer(self, table: pa.Table) -> pa.Table:
        """The table with the features' columns."""
        t, valid = instants(column(table, self._timestamp), self._timezone, self._what)
        whole = table
        for each in self.columns:
            if each.stream is None:
                found = each.view.at(key_columns(table, each.use.plan.keys, each.use.keys), t, valid)
            else:
                found = each.stream.answer()
            for name in each.use.features:
                called = f"{each.use.prefix}__{name}"
                if called in whole.column_names:
                    raise DataError(f"the spine already has a column {called!r}; rename it, or give the view an alias")
                whole = whole.append_column(called, found.column(name))
        return whole

    @property
    def _what(self) -> str:
        return f"column {self._timestamp!r} of the spine"

    def close(self) -> None:
        for each in self.columns:
            if each.stream is not None:
                each.stream.close()


def history_file(
    parts: Parts, uses: Sequence[ViewUse], source: Path, output: Path, *, timestamp: str, timezone: str | None
) -> int:
    """Write the rows of ``source`` with the columns of ``uses`` to ``output``; how many rows there are."""
    with ExitStack() as stack:
        retrieval = _Retrieval(parts, uses, timestamp, timezone)
        stack.callback(retrieval.close)
        if any(each.stream is not None for each in retrieval.columns):
            for table in read_file(source, retrieval.types, ROWS):
                retrieval.ask(table)
            retrieval.compute()
        return predict_file(
            source,
            output,
            retrieval.answer,
            types=retrieval.types,
            batch_rows=ROWS,
            progress=lambda _, done, total: parts.progress(f"write {output.name}", done, total),
        )
