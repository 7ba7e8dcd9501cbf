"""What a deployment log says, as pure functions over its lines (one model's, oldest first).

A ``promote`` is a decision for one segment or, with ``segment`` None, for all of them. The version live for a segment
is that of the latest standing decision that applies to it. A ``rollback`` withdraws the decision that is live: for the
one segment it names, or for everybody. So a model-wide promotion reaches every segment, rolling it back gives each
segment what it had, and rolling back twice goes further back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headway.define.records import Deployment


@dataclass(slots=True, eq=False)
class _Decision:
    line: Deployment
    withdrawn_for: set[str] = field(default_factory=set)

    def applies(self, segment: str | None) -> bool:
        if self.line.segment is None:
            return segment not in self.withdrawn_for
        return self.line.segment == segment


def live(log: Iterable[Deployment]) -> dict[str | None, int]:
    """The live version of all segments (key None), and of each segment whose version is another.

    A segment that is no key has the version under None. Without a model-wide promotion there is no key None.
    """
    decisions = _standing(log)
    segments = {d.line.segment for d in decisions} | {s for d in decisions for s in d.withdrawn_for}
    versions = {s: v for s in (None, *segments) if (v := _version(decisions, s)) is not None}
    return {s: v for s, v in versions.items() if s is None or v != versions.get(None)}


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers for one segment: the version, the line since which it does, what a rollback would make live, and
    the line that holds automatic promotion."""

    version: int
    line: Deployment
    previous: int | None
    hold: Deployment | None


def answering(log: Sequence[Deployment], segments: Iterable[str] = ()) -> dict[str | None, Answering]:
    """What ``live``, ``previous`` and ``held`` say, for everything at once: all segments (key None), the segments that
    the log names, and ``segments``. In one pass, where those take one for each segment."""
    decisions = _standing(log)
    general = [d for d in decisions if d.line.segment is None]
    own: dict[str, list[_Decision]] = {}
    for decision in decisions:
        if decision.line.segment is not None:
            own.setdefault(decision.line.segment, []).append(decision)
    lines = {(d.segment, d.version): d for d in log if d.action in ("promote", "rollback")}
    holds = _holds(log)
    found = {}
    for segment in dict.fromkeys((None, *own, *(s for d in general for s in d.withdrawn_for), *segments)):
        of_segment = own.get(segment, ()) if segment is not None else ()
        newest_first = heapq.merge(reversed(general), reversed(of_segment), key=lambda d: -d.line.id)
        versions = (d.line.version for d in newest_first if d.applies(segment))
        version = next(versions, None)
        if version is None:
            continue
        latest = max((d for key in {segment, None} if (d := lines.get((key, version)))), key=lambda line: line.id)
        before = next((v for v in versions if v != version), None)
        found[segment] = Answering(version, latest, before, _hold_of(holds, segment))
    return found


def live_version(log: Iterable[Deployment], segment: str | None = None) -> int | None:
    """The version that answers for ``segment`` (None: for segments without a line of their own)."""
    return _version(_standing(log), segment)


def previous(log: Iterable[Deployment], segment: str | None = None) -> int | None:
    """The version a rollback of ``segment`` would make live; None if there is nothing to go back to."""
    line = [d.line.version for d in _standing(log) if d.applies(segment)]
    return next((v for v in reversed(line) if v != line[-1]), None)


def standing(log: Iterable[Deployment], segment: str | None = None) -> list[Deployment]:
    """The promotions that hold for ``segment`` and were not rolled back, oldest first; the last one is live."""
    return [d.line for d in _standing(log) if d.applies(segment)]


def held(log: Iterable[Deployment], segment: str | None = None) -> Deployment | None:
    """The line that forbids automatic promotion of ``segment``, or None.

    A rollback or a hold forbids it until a release, or a promotion by hand, of the same segment or of all. A model-wide
    promotion is forbidden by any segment's hold, since it would reach that segment too.
    """
    return _hold_of(_holds(log), segment)


def is_automatic(line: Deployment) -> bool:
    """Whether a run, rather than a person, made the promotion."""
    return bool(line.figures.get("automatic"))


def _holds(log: Iterable[Deployment]) -> dict[str | None, Deployment]:
    holds: dict[str | None, Deployment] = {}
    for line in log:
        if line.action in ("rollback", "hold"):
            holds[line.segment] = line
        elif line.action == "release" or not is_automatic(line):
            if line.segment is None:
                holds.clear()
            holds.pop(line.segment, None)
    return holds


def _hold_of(holds: Mapping[str | None, Deployment], segment: str | None) -> Deployment | None:
    if segment is None:
        return max(holds.values(), key=lambda line: line.id, default=None)
    return holds.get(segment) or holds.get(None)


def _standing(log: Iterable[Deployment]) -> list[_Decision]:
    decisions: list[_Decision] = []
    for line in log:
        if line.action == "promote":
            decisions.append(_Decision(line))
        elif line.action == "rollback":
            decisions = _withdrawn(decisions, line.segment)
    return decisions


def _withdrawn(decisions: Sequence[_Decision], segment: str | None) -> list[_Decision]:
    """The decisions without the live one of ``segment`` (and without repetitions of it right before)."""
    kept = list(decisions)
    version = _version(kept, segment)
    for decision in [d for d in reversed(kept) if d.applies(segment)]:
        if decision.line.version != version:
            break
        if segment is not None and decision.line.segment is None:
            decision.withdrawn_for.add(segment)
        else:
            kept.remove(decision)
    return kept


def _version(decisions: Sequence[_Decision], segment: str | None) -> int | None:
    return next((d.line.version for d in reversed(decisions) if d.applies(segment)), None)
