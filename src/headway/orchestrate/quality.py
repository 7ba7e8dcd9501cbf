"""What is known of the quality of sources: a contract read off their rows, and what checks found over time."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from headway.data.quality import Proposal, infer_checks, proposals
from headway.orchestrate import plan as planning
from headway.orchestrate._parts import Parts


def infer(parts: Parts, names: Iterable[str]) -> list[Proposal]:
    """Checks that some sources, or all, could be given; see ``headway.data.quality.infer_checks``. What is not in the
    lake yet is copied first."""
    from headway.orchestrate.ingest import copy

    found = []
    for name in planning.resolve_sources(parts, names):
        source = parts.declarations.sources[name]
        if source.query is None and planning.ingest_item(parts, source).stale:
            copy(parts, source)
        parts.progress(f"look at {name}", 0, 0)
        found += proposals(source, infer_checks(source, parts.binder, parts.lake, parts.engine, parts.clock.now()))
    return found


def history(parts: Parts, names: Iterable[str]) -> pa.Table:
    """What the checks of some sources, or of all, found each time, the newest first: ``checked_at``, ``source``,
    ``check``, ``on_fail``, ``passed``, ``rows``, ``failed``, ``detail``."""
    tables = [f"checks/{name}" for name in planning.resolve_sources(parts, names)]
    there = [table for table in tables if parts.lake.version(table) is not None]
    if not there:
        return pa.table({})
    parted = (f"select '{t.removeprefix('checks/')}' as source, * from \"{t}\"" for t in there)
    sql = f"select checked_at, * exclude (checked_at) from ({' union all by name '.join(parted)})"
    return parts.engine.query(f"{sql} order by checked_at desc, source", {t: parts.lake.files(t) for t in there})
