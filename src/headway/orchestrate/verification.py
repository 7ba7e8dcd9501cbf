"""Whether the online store holds what history says it should."""

from __future__ import annotations

from collections.abc import Sequence

from headway.data.compute import snapshot
from headway.data.online import OnlineReader, stored_rows
from headway.define.records import ViewPlan
from headway.monitor.verify import VerifyResult, compare, late_share
from headway.orchestrate._parts import Parts


def verify_plans(
    parts: Parts, plans: Sequence[ViewPlan], *, late_limit: float = 0.01, since: int | None = None
) -> list[VerifyResult]:
    """Compute again what is served of bound views, at the as-of served and from the versions of the data recorded then;
    those of an old version need no declaration any more. Lateness is that since an instant, if one is given."""
    store = parts.open_online(True)
    try:
        return [_verify(parts, plan, OnlineReader(store), late_limit, since) for plan in plans]
    finally:
        store.close()


def _verify(parts: Parts, plan: ViewPlan, reader: OnlineReader, late_limit: float, since: int | None) -> VerifyResult:
    mark = reader.watermark(plan)
    if mark is None:
        return VerifyResult(view=plan.name, fingerprint=plan.fingerprint, as_of=None)
    history = parts.metadata.stages.history("materialize", plan.fingerprint)
    tables = next(
        (h.output["tables"] for h in history if h.output["version"] == mark.version), parts.table_versions(plan)
    )
    truth = snapshot(plan, parts.events(plan, mark.version, tables), mark.as_of)
    stored = stored_rows(reader, plan, truth.keys)
    late = late_share(plan, [(h.output["as_of"], h.at) for h in history], parts.clock.now(), since)
    return compare(plan, truth, stored, late=late, late_limit=late_limit)
