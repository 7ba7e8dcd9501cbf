"""The history of views' values, kept as tables of the lake.

The grid of a view is cut into slices that are the same whoever asks: 1024 moments each. A slice is one commit, which
also records which of its moments it holds and of which data; so what is there already is left alone, a run that was
killed goes on where it was, and running it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec
import pyarrow as pa

from headway.data.compute import PartedView, grid_rows
from headway.define._duration import as_text
from headway.define.records import ViewPlan
from headway.errors import StoreBusy, UsageError
from headway.orchestrate._parts import Parts, source_version

EVERY = "_every"
_BITS = 10
_MOMENTS = 1 << _BITS  # of a slice


class BackfillResult(msgspec.Struct, frozen=True):
    """What a backfill left in the lake. ``start`` and ``end`` are its first and last moment; of its ``slices``
    ``written`` were not there yet, with ``rows``."""

    view: str
    table: str
    start: int
    end: int
    slices: int
    written: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Held:
    """What a slice holds: the moments ``first`` to ``last`` of it, computed from ``version`` of the data."""

    version: int
    first: int
    last: int

    @classmethod
    def of(cls, mark: int | None) -> _Held | None:
        if mark is None:
            return None
        return cls(mark >> 2 * _BITS, mark >> _BITS & _MOMENTS - 1, mark & _MOMENTS - 1)

    @property
    def mark(self) -> int:
        return (self.version << _BITS | self.first) << _BITS | self.last

    def covers(self, other: _Held) -> bool:
        return self.version == other.version and self.first <= other.first and other.last <= self.last

    def with_(self, before: _Held | None) -> _Held:
        """These moments and those that were there before."""
        if before is None:
            return self
        return _Held(self.version, min(self.first, before.first), max(self.last, before.last))


def table_of(plan: ViewPlan) -> str:
    """The lake table with a view's history; another definition of the view has another one."""
    return f"features/{plan.name}-{plan.fingerprint[:12]}"


def backfill(
    parts: Parts, plans: Sequence[ViewPlan], start: int, end: int, every: int | None = None
) -> list[BackfillResult]:
    """Keep the values of views at their refreshes from ``start`` to ``end``, or at multiples of ``every``."""
    grids = [_Grid.of(plan, start, min(end, plan.r(parts.clock.now())), every) for plan in plans]
    return [_backfill(parts, grid) for grid in grids]


@dataclass(frozen=True, slots=True)
class _Grid:
    """The moments ``step * k`` for ``first <= k <= last``."""

    plan: ViewPlan
    step: int
    first: int
    last: int

    @classmethod
    def of(cls, plan: ViewPlan, start: int, end: int, every: int | None) -> _Grid:
        step = every or plan.refresh
        if plan.timeless:
            raise UsageError(f"view {plan.name!r} has a source without a timestamp, so there is no history to compute")
        if step is None:
            raise UsageError(f"view {plan.name!r} has no refresh; say at which moments with every= (such as '1d')")
        if plan.refresh is not None and step % plan.refresh:
            raise UsageError(
                f"every= is a multiple of the refresh of view {plan.name!r} ({as_text(plan.refresh)});"
                f" got {as_text(step)}"
            )
        first, last = -(-start // step), end // step
        if first > last:
            raise UsageError(
                f"view {plan.name!r} has no refresh between the start and the end (the clock's now at the latest)"
            )
        return cls(plan, step, first, last)

    def slices(self) -> Iterator[tuple[int, int, int]]:
        """Number, first and last moment of each slice; the moments counted within it."""
        for number in range(self.first // _MOMENTS, self.last // _MOMENTS + 1):
            begin = number * _MOMENTS
            yield number, max(self.first - begin, 0), min(self.last - begin, _MOMENTS - 1)


def _backfill(parts: Parts, grid: _Grid) -> BackfillResult:
    plan, table = grid.plan, table_of(grid.plan)
    tables = parts.table_versions(plan)
    version = source_version(tables)
    slices = list(grid.slices())
    written = rows = 0
    for done, (number, first, last) in enumerate(slices):
        parts.progress(f"backfill {plan.name}", done, len(slices))
        wanted, writer = _Held(version, first, last), f"backfill-{grid.step}-{number}"
        before = _Held.of(mark := parts.lake.mark(table, writer))
        if before is not None and before.covers(wanted):
            continue
        wanted = wanted.with_(before)
        view = parts.view(plan, version, tables)
        count = _Count()
        try:
            parts.lake.write(
                table,
                _reader(view, grid.step, number * _MOMENTS, wanted, count),
                "append",
                once={writer: (mark, wanted.mark)},
                part=f"{grid.step}x{number}".replace("-", "m"),
            )
        except StoreBusy:
            now = _Held.of(parts.lake.mark(table, writer))  # somebody else may have done the same
            if now is None or not now.covers(wanted):
                raise
            continue
        written, rows = written + 1, rows + count.rows
    parts.progress(f"backfill {plan.name}", len(slices), len(slices))
    return BackfillResult(plan.name, table, grid.first * grid.step, grid.last * grid.step, len(slices), written, rows)


class _Count:
    rows = 0


def _reader(view: PartedView, step: int, begin: int, held: _Held, count: _Count) -> pa.RecordBatchReader:
    """The rows of a slice, part by part."""
    first, last = begin + held.first, begin + held.last
    found = view.each(lambda number: list(grid_rows(view.part(number), step, first, last)), range(len(view.events)))
    tables = (table.append_column(EVERY, pa.repeat(as_text(step), table.num_rows)) for some in found for table in some)
    head = next(tables)  # every part gives one at least

    def batches() -> Iterator[pa.RecordBatch]:
        for table in chain([head], tables):
            count.rows += table.num_rows
            yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(head.schema, batches())
