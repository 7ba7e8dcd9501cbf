"""Statistics of feature values, and where a view's values come from and go to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import quote

from markupsafe import Markup

from headway.console._format import number, percent
from headway.console.charts import Bin, Node, graph, histogram
from headway.define import Source
from headway.define.records import ViewPlan
from headway.monitor.describe import Share, Statistics
from headway.monitor.verify import VerifyResult
from headway.orchestrate.catalog import Fresh, fresh

_LOOKS: dict[Fresh, str] = {
    "fresh": "good",
    "late": "warn",
    "expired": "bad",
    "never materialized": "bad",
    "historical only": "muted",
}


def bins(found: Statistics) -> list[Bin]:
    """Shares as bins of a picture."""
    return [Bin(_label(share), share.share) for share in found.shares]


def _label(share: Share) -> str:
    if share.value is not None:
        return share.value
    if share.low == share.high:
        return number(share.low)
    return f"{number(share.low, 3)} to {number(share.high, 3)}"


def picture(name: str, found: Statistics, *, height: int = 64) -> Markup:
    """The histogram of a feature."""
    shares = found.shares
    ends = None
    if shares and shares[0].low != shares[0].high:
        ends = (number(shares[0].low, 3), number(shares[-1].high, 3))
    title = f"{name}: {found.rows} values, {percent(found.null_share)} null"
    return histogram(bins(found), title, height=height, labels=ends)


def lineage(
    view: str, plan: ViewPlan | None, source: str, sources: Mapping[str, Source], reads: Mapping[str, Collection[str]],
    models: Mapping[str, Collection[str]], sets: Mapping[str, Collection[str]],
) -> Markup:  # fmt: skip
    """Sources → view → models and feature sets. ``reads`` are the sources each source's query reads; ``models`` and
    ``sets`` the views each uses."""
    nodes, edges = source_nodes([source], sources, reads)
    features = f"{len(plan.features)} features" if plan else ""
    nodes.append(Node(f"view:{view}", view, features, "view here", f"/features/{quote(view)}"))
    edges.append((f"source:{source}", f"view:{view}"))
    for model, views in models.items():
        if view in views:
            nodes.append(Node(f"model:{model}", model, "model", "model", f"/models/{quote(model)}"))
            edges.append((f"view:{view}", f"model:{model}"))
    for name, views in sets.items():
        if view in views:
            nodes.append(Node(f"set:{name}", name, "feature set", "set"))
            edges.append((f"view:{view}", f"set:{name}"))
    return graph(nodes, edges, f"Where {view} comes from, and what uses it")


def source_nodes(
    names: Collection[str], sources: Mapping[str, Source], reads: Mapping[str, Collection[str]]
) -> tuple[list[Node], list[tuple[str, str]]]:
    """Sources and all they read, as nodes and edges."""
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []
    waiting = list(names)
    for name in waiting:
        if name in nodes:
            continue
        kind = "query" if name in sources and sources[name].query is not None else "file"
        nodes[name] = Node(f"source:{name}", name, kind, "source", f"/data/{quote(name)}")
        for inner in reads.get(name, ()):
            edges.append((f"source:{inner}", f"source:{name}"))
            waiting.append(inner)
    return list(nodes.values()), edges


def freshness(plan: ViewPlan, as_of: int | None, now: int) -> tuple[str, str]:
    """Look and words for how fresh a view is online."""
    words = fresh(plan, as_of, now)
    return _LOOKS[words], words


def parity(found: VerifyResult | None) -> tuple[str, str]:
    """Look and words for what the last verification of a view found."""
    if found is None:
        return "plain", "not verified"
    if found.wrong:
        return "bad", f"{number(found.wrong)} wrong"
    if found.late > found.late_limit:
        return "warn", f"late {percent(found.late)}"
    return "good", "equal"
