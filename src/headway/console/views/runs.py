"""A run as a graph, as bars over time and as rows: large fan-outs are folded into one node each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from headway.console import _format
from headway.console.charts import Bar, Node, gantt, graph, sparkline
from headway.define.run_records import ENDED, RunRecord, StepRecord, StepStatus

FOLD = 4  # items of one step from which on they are one node
INNER = 5  # steps of a folded fan-out that are shown all the same, because they failed or run
CROWD = 120  # nodes from which on steps of one stage are one node too
_WORST: tuple[StepStatus, ...] = (
    "failed", "refused", "cancelled", "running", "waiting", "done", "cached", "skipped",
)  # fmt: skip
_TOLD: tuple[StepStatus, ...] = (
    "done", "cached", "running", "waiting", "failed", "refused", "cancelled", "skipped",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Group:
    """Steps that are shown as one: a single one, or the items of a fan-out. ``gathers`` are the steps that stand for a
    fan-out as a whole; they are not counted."""

    key: str
    label: str
    steps: tuple[StepRecord, ...]
    needs: tuple[str, ...] = ()  # keys of other groups
    gathers: tuple[StepRecord, ...] = ()

    @property
    def single(self) -> StepRecord | None:
        return self.steps[0] if len(self.steps) == 1 and not self.gathers else None

    @property
    def status(self) -> StepStatus:
        """What one should know of the group: while anything runs that it runs, then the worst of its steps."""
        found = {step.status for step in self.steps}
        found |= {step.status for step in self.gathers if step.status in ("failed", "refused")}
        if "running" in found:
            return "running"
        return next(status for status in _WORST if status in found)

    @property
    def seconds(self) -> float | None:
        """The work of all its steps together; None before any has ended."""
        lengths = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(lengths) if lengths else None

    @property
    def counts(self) -> str:
        """``97 done, 2 running, 1 failed``."""
        return in_words(Counter(step.status for step in self.steps))


def in_words(counts: Mapping[str, int]) -> str:
    """Counts by status in a fixed order, without the zeros."""
    return ", ".join(f"{counts[status]:,} {status}" for status in _TOLD if counts.get(status))


def fold(steps: Sequence[StepRecord]) -> list[Group]:
    """Steps as groups, in the order first seen: a fan-out is one group, and so are ``FOLD`` and more calls of one step
    for different items. Of more than ``CROWD`` groups, those of one stage (``train:…``) are."""
    gathered = _gathered(steps)
    chosen = {step.key: gathered.get(step.key, step.key) for step in steps}
    apart = Counter(step.step for step in steps if step.item and chosen[step.key] == step.key)
    chosen = {step.key: step.step if step.item and apart[step.step] >= FOLD else chosen[step.key] for step in steps}
    if len(set(chosen.values())) > CROWD:
        chosen = {key: group.partition(":")[0] for key, group in chosen.items()}
    members: dict[str, list[StepRecord]] = {}
    for step in steps:
        members.setdefault(chosen[step.key], []).append(step)
    whole = set(gathered.values())
    return [_group(key, inside, chosen, whole) for key, inside in members.items()]


def _group(key: str, inside: Sequence[StepRecord], chosen: Mapping[str, str], whole: Collection[str]) -> Group:
    gathers = tuple(step for step in inside if step.key in whole)
    items = tuple(step for step in inside if step.key not in whole)
    needs = dict.fromkeys(chosen[need] for step in inside for need in step.needs if need in chosen)
    label = inside[0].key if len(inside) == 1 else f"{key} × {len(items):,}"
    return Group(key, label, items, tuple(need for need in needs if need != key), gathers)


def _gathered(steps: Sequence[StepRecord]) -> dict[str, str]:
    """Key of an item → key of the step that gathers its fan-out: one of the same name whose item is a part of its."""
    places: dict[str, dict[frozenset[str], dict[frozenset[tuple[str, str]], str]]] = {}
    for step in steps:
        of_names = places.setdefault(step.step, {}).setdefault(frozenset(step.item), {})
        of_names.setdefault(_told(step, step.item), step.key)
    found = {}
    for step in steps:
        narrower = [names for names in places[step.step] if names < step.item.keys()]
        for names in sorted(narrower, key=len, reverse=True):
            key = places[step.step][names].get(_told(step, names))
            if key is not None:
                found[step.key] = key
                break
    return found


def _told(step: StepRecord, names: Iterable[str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, str(step.item[name])) for name in names)


def run_graph(groups: Sequence[Group], run: int) -> Markup:
    """The steps of a run as a graph; every node leads to its rows in the table."""
    nodes = [
        Node(
            id=group.key,
            label=group.label,
            sub=group.single.status + _took(group.single) if group.single else group.counts,
            look=group.status,
            href=link(run, group),
            title=f"{group.label}: {group.counts if not group.single else group.single.detail or group.single.status}",
        )
        for group in groups
    ]
    return graph(nodes, [(need, group.key) for group in groups for need in group.needs], f"Steps of run {run}")


def link(run: int, group: Group) -> str:
    """Where a group leads: to its step's row, or to the rows of its items."""
    if group.single:
        return f"/runs/{run}?step={quote(group.single.key, safe='')}#step"
    return f"/runs/{run}?of={quote(group.key, safe='')}#steps"


def _took(step: StepRecord) -> str:
    return (
        "" if step.seconds is None or step.status not in ("done", "failed") else f" · {_format.seconds(step.seconds)}"
    )


def run_gantt(groups: Iterable[Group], run: int, now: int) -> Markup:
    """When steps ran; a folded group is one bar from its first start to its last end."""
    bars = []
    for group in groups:
        begun = [step for step in (*group.steps, *group.gathers) if step.started_at is not None]
        if not begun:
            continue
        start = min(step.started_at or now for step in begun)
        end = max((step.ended_at or (now if step.status == "running" else step.started_at or now)) for step in begun)
        title = "" if group.single else f"{group.label}: {group.counts}"
        bars.append(Bar(group.label, start, max(end, start), group.status, link(run, group), title))
    return gantt(sorted(bars, key=lambda bar: bar.start), f"When the steps of run {run} ran")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the list. ``share`` is its length against the longest of the page, 0 to 100, for the bar."""

    run: RunRecord
    seconds: float | None
    share: float
    live: bool = False

    @property
    def params(self) -> dict[str, object]:
        """The parameters that say something: not those that are nothing, or no."""
        return {name: value for name, value in self.run.params.items() if value not in (None, False, [], "")}


def rows(runs: Sequence[RunRecord], now: int) -> list[RunRow]:
    """Runs as rows, with how long they took or have taken so far."""
    lengths = [seconds(run, now) for run in runs]
    longest = max((length for length in lengths if length is not None), default=0) or 1.0
    return [
        RunRow(run, length, 0.0 if length is None else 100 * length / longest, run.status not in ENDED)
        for run, length in zip(runs, lengths, strict=True)
    ]


def seconds(run: RunRecord, now: int) -> float | None:
    """How long a run took, or has taken so far; None before it has begun."""
    if run.started_at is None:
        return None
    end = run.ended_at if run.ended_at is not None else now
    return max(end - run.started_at, 0) / 1e6


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of the table of steps: a step, or a whole fan-out. ``inner`` steps belong to the fan-out above them."""

    step: StepRecord | None = None
    group: Group | None = None
    inner: bool = False


def table(
    steps: Sequence[StepRecord], groups: Sequence[Group], *, of: str = "", status: str = "", limit: int = 200
) -> tuple[list[StepRow], int]:
    """The rows of the table, at most ``limit``, and how many there would be.

    Without a filter fan-outs are one row each, followed by those of their steps that somebody should see; with one,
    every step of that group or status has its row.
    """
    if not of and not status:
        found = [row for group in groups for row in _folded(group)]
        return found[:limit], len(found)
    inside = next((group.steps for group in groups if group.key == of), ()) if of else steps
    kept = [StepRow(step) for step in inside if not status or step.status == status]
    return kept[:limit], len(kept)


def _folded(group: Group) -> list[StepRow]:
    if group.single:
        return [StepRow(group.single)]
    urgent = [step for step in group.steps if step.status in ("failed", "refused", "running")]
    return [StepRow(group=group), *(StepRow(step, inner=True) for step in urgent[:INNER])]


def command(run: RunRecord) -> str:
    """The command line that does what this run did."""
    return start_command(run.kind, run.targets, run.params)


def start_command(kind: str, targets: Sequence[str], params: Mapping[str, object]) -> str:
    """``headway run`` (or ``monitor``, ``train``) with targets and parameters, quoted for a shell."""
    import shlex

    verb = kind if kind in ("monitor", "train") else "run"
    words = ["headway", verb, *targets]
    for name, value in params.items():
        words += ["--param", f"{name}={as_text(value)}"]
    return " ".join(word if word.startswith("--") else shlex.quote(word) for word in words)


def as_text(value: object) -> str:
    """A parameter's value as it is written on the command line."""
    import json

    return value if isinstance(value, str) else json.dumps(value, default=str)


def history(step: str, lengths: Sequence[float | None]) -> Markup | None:
    """How long a step took the last times; None where there is nothing to compare."""
    if len(lengths) < 2:
        return None
    return sparkline(lengths, f"Seconds that {step} took the last {len(lengths)} times")
