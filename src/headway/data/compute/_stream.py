"""A view's columns for a spine of any length, which comes in batches and leaves in the same batches.

Questions are put on piles by the part of the events that answers them. Each part answers its own in turn, and its
answers go on piles by the batch they belong to, where they are put back in order. So every row of events and of the
spine is read, written and looked at a fixed number of times, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from headway.data.compute._parts import PartedView
from headway.data.compute._types import from_numpy, to_numpy
from headway.data.engine import Workspace

_ROW, _T, _ASKED = "__row", "__t", "__asked"
_GROUP = 1 << 19  # questions answered at a time
_VALUES = 1 << 24  # answers that wait to be put in order


class SpineColumns:
    """Ask for every batch, ``compute``, then take the answers batch by batch."""

    def __init__(self, view: PartedView, workspace: Workspace) -> None:
        self._view = view
        self._questions, self._answers = workspace.piles(), workspace.piles()
        self._starts = [0]  # the spine's row that each batch begins with, and the end
        self._given = 0

    def ask(self, keys: pa.Table, t: np.ndarray, t_valid: np.ndarray) -> None:
        """The next batch of the spine: the plan's key columns, the times and where they are not null."""
        begin, rows = self._starts[-1], len(t)
        self._starts.append(begin + rows)
        if len(self._view.events) == 1:
            if rows:
                self._answers.add(len(self._starts) - 2, _batch(self._view.at(keys, t, t_valid)))
            return
        table = keys.append_column(_ROW, from_numpy(np.arange(begin, begin + rows)))
        table = table.append_column(_T, from_numpy(t)).append_column(_ASKED, from_numpy(t_valid.astype(np.uint8)))
        if rows:
            self._questions.add_parted(_batch(table), self._view.events.numbers(keys))

    def compute(self) -> None:
        """Answer all questions."""
        most = max(_GROUP, _VALUES // len(self._view.plan.features))
        work = [
            (number, slice(start, start + most))
            for number in self._questions.numbers()
            for start in range(0, self._questions.rows(number), most)
        ]
        for (number, rows), answers in zip(work, self._view.each(self._answered, work), strict=True):
            for found, row in answers:
                self._sort_in(found, row)
            if rows.stop >= self._questions.rows(number):
                self._questions.drop(number)

    def answer(self) -> pa.Table:
        """The features of the next batch, row by row."""
        number = self._given
        self._given += 1
        rows = self._starts[number + 1] - self._starts[number]
        if not rows:
            return self._view.at(*_nothing(self._view))
        table = pa.Table.from_batches(list(self._answers.read(number)))
        self._answers.drop(number)
        if _ROW not in table.column_names:
            return table
        back = np.empty(rows, np.int64)
        back[to_numpy(table.column(_ROW).combine_chunks())] = np.arange(rows)
        table = table.drop_columns([_ROW])
        index = from_numpy(back)
        return pa.table([column.combine_chunks().take(index) for column in table.columns], names=table.column_names)

    def _answered(self, work: tuple[int, slice]) -> list[tuple[pa.Table, np.ndarray]]:
        """What a part answers to some of its questions, and for which rows of the spine."""
        number, rows = work
        part, found = self._view.part(number), []
        for table in _groups(_cut(self._questions.read(number), rows)):
            asked = to_numpy(table.column(_ASKED).combine_chunks()).view(bool)
            row, t = (to_numpy(table.column(name).combine_chunks()) for name in (_ROW, _T))
            found.append((part.at(table.drop_columns([_ROW, _T, _ASKED]), t, asked), row))
        return found

    def close(self) -> None:
        self._questions.close()
        self._answers.close()

    def _sort_in(self, found: pa.Table, row: np.ndarray) -> None:
        """Put answers on the piles of their batches; ``row`` ascends."""
        starts = np.array(self._starts)
        first, last = np.searchsorted(starts, row[[0, -1]], side="right") - 1
        cuts = np.searchsorted(row, starts[first : last + 2]).tolist()
        for number, begin, end in zip(range(first, last + 1), cuts[:-1], cuts[1:], strict=True):
            if end > begin:
                place = from_numpy(row[begin:end] - starts[number])
                self._answers.add(number, _batch(found.slice(begin, end - begin).append_column(_ROW, place)))


def _nothing(view: PartedView) -> tuple[pa.Table, np.ndarray]:
    return view.part(0).events.keys.slice(0, 0), np.empty(0, np.int64)


def _batch(table: pa.Table) -> pa.RecordBatch:
    """A table with rows as one batch."""
    (batch,) = table.combine_chunks().to_batches()
    return batch


def _cut(batches: Iterator[pa.RecordBatch], rows: slice) -> Iterator[pa.RecordBatch]:
    """The batches' rows from ``rows.start`` up to ``rows.stop``."""
    at = 0
    for batch in batches:
        begin, end = max(rows.start - at, 0), min(rows.stop - at, batch.num_rows)
        if begin < end:
            yield batch.slice(begin, end - begin)
        at += batch.num_rows


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        for start in range(0, batch.num_rows, _GROUP):
            waiting.append(batch.slice(start, _GROUP))
            if sum(map(len, waiting)) >= _GROUP:
                yield pa.Table.from_batches(waiting).combine_chunks()
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()
