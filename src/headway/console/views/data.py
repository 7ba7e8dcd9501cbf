"""Checks of sources over time, and where a source is used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from headway.console._format import percent
from headway.console.charts import Line, Node, Point, graph, series
from headway.console.views.features import source_nodes
from headway.define import Source
from headway.define.records import CheckResult


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check with what it found last, and before; ``result`` is None before it was ever done."""

    check: str
    on_fail: str
    result: CheckResult | None
    history: tuple[tuple[int, CheckResult], ...] = ()

    @property
    def state(self) -> tuple[str, str]:
        """Look and words."""
        if self.result is None:
            return "plain", "not checked yet"
        if self.result.passed:
            return "good", "passed"
        return {"error": ("bad", "failed"), "quarantine": ("warn", "set rows aside")}.get(
            self.on_fail, ("warn", "warned")
        )

    @property
    def share(self) -> float | None:
        """The share of rows that failed."""
        return _share(self.result) if self.result else None


def _share(result: CheckResult) -> float:
    return result.failed / result.rows if result.rows else float(bool(result.failed))


def check_rows(source: Source, done: Sequence[tuple[int, Sequence[CheckResult]]]) -> list[CheckRow]:
    """A row per declared check. ``done`` are the times the source was checked, oldest first."""
    rows = []
    for check in source.checks:
        name = str(check)
        history = tuple((at, result) for at, results in done for result in results if result.check == name)
        rows.append(CheckRow(name, check.on_fail, history[-1][1] if history else None, history))
    return rows


def failures(rows: Sequence[CheckRow]) -> Markup | None:
    """The share of rows that failed over time, a line for each check that ever failed; None if there is no line to
    draw."""
    failing = [row for row in rows if len(row.history) > 1 and any(not found.passed for _, found in row.history)]
    lines = [Line(row.check, [_point(row.check, at, found) for at, found in row.history]) for row in failing]
    return series(lines[:3], "Share of rows that failed", text=lambda v: percent(v, 1)) if lines else None


def _point(check: str, at: int, found: CheckResult) -> Point:
    return Point(at, _share(found), said=f"{check}: {percent(_share(found), 2)}")


def state(rows: Sequence[CheckRow]) -> tuple[str, str]:
    """Look and words for all checks of a source."""
    if not rows:
        return "plain", "no checks"
    if all(row.result is None for row in rows):
        return "plain", "not checked yet"
    failed = [row for row in rows if row.result is not None and not row.result.passed]
    if not failed:
        return "good", f"{len(rows)} passed"
    looks = [row.state[0] for row in failed]
    return ("bad" if "bad" in looks else "warn"), f"{len(failed)} of {len(rows)} not met"


def lineage(
    name: str,
    sources: Mapping[str, Source],
    reads: Mapping[str, Collection[str]],
    views: Mapping[str, str],
    models: Mapping[str, tuple[str, Collection[str]]],
) -> Markup:
    """What a source reads and who reads it. ``views`` is view → source; ``models`` model → label source and views."""
    below = _downstream(name, reads)
    nodes, edges = source_nodes([*below], sources, {n: reads.get(n, ()) for n in {*below, *_upstream(name, reads)}})
    nodes = [_marked(node) if node.id == f"source:{name}" else node for node in nodes]
    used = {view: source for view, source in views.items() if source in below}
    for view, source in used.items():
        nodes.append(Node(f"view:{view}", view, "view", "view", f"/features/{view}"))
        edges.append((f"source:{source}", f"view:{view}"))
    for model, (label, read) in models.items():
        mine = [view for view in read if view in used]
        if not mine and label not in below:
            continue
        nodes.append(Node(f"model:{model}", model, "model", "model", f"/models/{model}"))
        edges += [(f"view:{view}", f"model:{model}") for view in mine]
        edges += [(f"source:{label}", f"model:{model}")] if label in below else []
    return graph(nodes, edges, f"What {name} reads, and who reads it")


def _marked(node: Node) -> Node:
    return Node(node.id, node.label, node.sub, f"{node.look} here", node.href, node.title)


def _downstream(name: str, reads: Mapping[str, Collection[str]]) -> list[str]:
    """The source, and every source that reads it, however indirectly."""
    found = [name]
    for each in found:
        found += [other for other, inner in reads.items() if each in inner and other not in found]
    return found


def _upstream(name: str, reads: Mapping[str, Collection[str]]) -> list[str]:
    found = [name]
    for each in found:
        found += [inner for inner in reads.get(each, ()) if inner not in found]
    return found
