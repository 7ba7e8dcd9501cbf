"""Statistics of feature values, and where a view's values come from and go to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from headway.console._format import number, percent
from headway.console.charts import Bin, Node, graph, histogram
from headway.define import Source
from headway.define.records import ViewPlan

BINS, TOP = 20, 8
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a sample of a feature's values looks like. ``quantiles`` are those at 5, 25, 50, 75 and 95 per cent; of
    text there are none, and ``bins`` are the most frequent values."""

    rows: int
    nulls: int
    distinct: int
    least: float | None = None
    greatest: float | None = None
    mean: float | None = None
    quantiles: tuple[float, ...] = ()
    bins: tuple[Bin, ...] = ()

    @property
    def null_share(self) -> float | None:
        return self.nulls / self.rows if self.rows else None

    @property
    def known(self) -> int:
        return self.rows - self.nulls


def statistics(values: pa.Array | pa.ChunkedArray) -> Statistics:
    """The statistics of a column. Bools and texts are counted by value; times count as microseconds since 1970."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    rows, nulls = len(values), values.null_count
    known = values.drop_null()
    if not len(known) or not _is_number(values.type):
        return Statistics(rows, nulls, len(known.unique()), bins=_most_frequent(known))
    numbers = np.asarray(known.cast(pa.float64(), safe=False))
    nan = int(np.isnan(numbers).sum())
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return Statistics(rows, nulls + nan, 0)
    return Statistics(
        rows,
        nulls + nan,
        len(np.unique(numbers)),
        float(numbers.min()),
        float(numbers.max()),
        float(numbers.mean()),
        tuple(float(q) for q in np.quantile(numbers, _QUANTILES)),
        _binned(numbers),
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _binned(values: np.ndarray) -> tuple[Bin, ...]:
    """Shares in bins of one width; of whole numbers with few values, each has its own. What lies beyond the outer
    hundredths is counted into the outer bins: one wild value would leave nothing else to see."""
    distinct = np.unique(values)
    if len(distinct) <= BINS and np.all(distinct == np.round(distinct)):
        return tuple(Bin(number(float(v)), float(np.mean(values == v))) for v in distinct)
    low, high = np.quantile(values, (0.01, 0.99))
    if low == high:
        low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(np.clip(values, low, high), edges)
    return tuple(
        Bin(f"{number(float(a), 3)} to {number(float(b), 3)}", float(count / len(values)))
        for a, b, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )


def _most_frequent(values: pa.Array) -> tuple[Bin, ...]:
    if not len(values):
        return ()
    counted = pc.value_counts(values).to_pylist()
    counted.sort(key=lambda item: -item["counts"])
    bins = [Bin(str(item["values"]), item["counts"] / len(values)) for item in counted[:TOP]]
    rest = sum(item["counts"] for item in counted[TOP:])
    return (*bins, Bin("others", rest / len(values))) if rest else tuple(bins)


def picture(name: str, found: Statistics, *, height: int = 64) -> Markup:
    """The histogram of a feature."""
    bins = found.bins
    ends = None
    if found.quantiles and " to " in (bins[0].label if bins else ""):
        ends = (bins[0].label.split(" to ")[0], bins[-1].label.split(" to ")[1])
    title = f"{name}: {found.rows} values, {percent(found.null_share)} null"
    return histogram(bins, title, height=height, labels=ends)


def lineage(
    view: str, plan: ViewPlan | None, source: str, sources: Mapping[str, Source], reads: Mapping[str, Collection[str]],
    models: Mapping[str, Collection[str]],
) -> Markup:  # fmt: skip
    """Sources → view → models. ``reads`` are the sources each source's query reads; ``models`` the views each uses."""
    nodes, edges = source_nodes([source], sources, reads)
    features = f"{len(plan.features)} features" if plan else ""
    nodes.append(Node(f"view:{view}", view, features, "view here", f"/features/{quote(view)}"))
    edges.append((f"source:{source}", f"view:{view}"))
    for model, views in models.items():
        if view in views:
            nodes.append(Node(f"model:{model}", model, "model", "model", f"/models/{quote(model)}"))
            edges.append((f"view:{view}", f"model:{model}"))
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


def late_by(plan: ViewPlan, as_of: int | None, now: int) -> int | None:
    """By how many microseconds the online values of a view are older than training assumes; 0: they are not; None:
    there are none, or the view is not kept online."""
    if as_of is None or not plan.online:
        return None
    if plan.refresh is None:
        return 0
    return max(plan.r(now) - as_of, 0)


def freshness(plan: ViewPlan, as_of: int | None, now: int) -> tuple[str, str]:
    """Look and words for how fresh a view is online."""
    if not plan.online:
        return "muted", "historical only"
    if as_of is None:
        return "bad", "never materialized"
    late = late_by(plan, as_of, now) or 0
    if not late:
        return "good", "fresh"
    limit = plan.ttl if plan.ttl is not None else 3 * (plan.refresh or 0)
    return ("bad", "expired") if late > limit else ("warn", "late")


def quantile_words(found: Statistics) -> Sequence[tuple[str, Any]]:
    """Name and value of the quantiles, for a table."""
    return list(zip(("5 %", "25 %", "median", "75 %", "95 %"), found.quantiles, strict=False))
