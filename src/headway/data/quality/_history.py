"""What checks found and set aside, as tables that remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from headway.data.binding._sql import SEQ, instant, name
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.define import Source
from headway.define.records import CheckResult

_TIDY_EVERY = 50  # versions: each is a small file of its own
CHECK, SINCE, ENDED = "__check", "__since", "__aside_until"
_STANDING = "standing"  # in the note of a version
_INSTANT = pa.timestamp("us", tz="UTC")
_RESULTS = pa.schema(
    [
        ("checked_at", _INSTANT),
        ("check", pa.string()),
        ("on_fail", pa.string()),
        ("passed", pa.bool_()),
        ("rows", pa.int64()),
        ("failed", pa.int64()),
        ("detail", pa.string()),
    ]
)


def keep(source: Source, results: Sequence[CheckResult], lake: Lake, now: int) -> None:
    """Add what was found to ``checks/<source>``."""
    columns = [pa.array([now] * len(results), pa.int64()).cast(_INSTANT)]
    columns += [pa.array([getattr(r, f.name) for r in results], f.type) for f in list(_RESULTS)[1:]]
    table = f"checks/{source.name}"
    version = lake.write(table, pa.table(columns, schema=_RESULTS), "append", {"source": source.name})
    if version % _TIDY_EVERY == 0:
        lake.tidy(table)


def set_aside(
    source: Source,
    failing: str | None,
    lake: Lake,
    engine: Engine,
    files: Mapping[str, Sequence[str]],
    now: int,
) -> None:
    """Bring ``quarantine/<source>`` up to date: rows that fail now are in it, those that no longer do have an end.

    ``failing`` is the SQL of the rows that fail, with ``__check``; None where there are none. A source that never set
    a row aside has no such table.
    """
    table = f"quarantine/{source.name}"
    before = lake.version(table)
    if failing is None and not standing(lake, source.name):
        return
    earlier, tables = f"select * from {name(table)}", dict(files)
    if before is not None:
        tables[table] = lake.files(table, before)
        if SINCE not in lake.schema(table, before).names:  # written before there was a history
            before = None
    if before is None:
        assert failing is not None
        rows = f"{_new(now)} from ({failing})"
    elif failing is None:
        rows = f"select * replace (coalesce({ENDED}, {instant(now)}) as {ENDED}) from ({earlier})"
    else:
        rows = _merged(earlier, failing, now)
    found = engine.query(rows, tables)
    lake.write(table, found, "overwrite", {"source": source.name, _STANDING: str(found.column(ENDED).null_count)})


def standing(lake: Lake, source: str) -> int:
    """How many rows of a source are set aside now; reads no rows."""
    table = f"quarantine/{source}"
    version = lake.version(table)
    if version is None:
        return 0
    note = lake.note(table, version)
    return int(note[_STANDING]) if _STANDING in note else lake.rows(table)


def _merged(earlier: str, failing: str, now: int) -> str:
    """What was set aside before with its end where it has one now, and after it what is set aside for the first time.

    Rows are told apart by their place in the order of arrival and by what they fail.
    """
    same = f"n.{name(SEQ)} = e.{name(SEQ)} and n.{CHECK} = e.{CHECK}"
    return (
        f"with earlier as ({earlier}), failing as ({failing})"
        f" select * replace (case when {ENDED} is null and not exists (select 1 from failing as n where {same})"
        f" then {instant(now)} else {ENDED} end as {ENDED}) from earlier as e"
        f" union all by name"
        f" {_new(now)} from failing as n"
        f" where not exists (select 1 from earlier as e where {same} and e.{ENDED} is null)"
    )


def _new(now: int) -> str:
    """The beginning of a SELECT of rows that are set aside for the first time."""
    return f"select {CHECK}, {instant(now)} as {SINCE}, null::timestamptz as {ENDED}, * exclude ({CHECK})"
