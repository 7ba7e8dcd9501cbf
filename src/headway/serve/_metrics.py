"""Counters and histograms in the text format of Prometheus.

They are changed on the event loop's thread; swaps and failures to load are counted by the watcher's, one value each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from headway.define.records import State

if TYPE_CHECKING:
    from headway.serve._route import Table

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds

Labels = tuple[tuple[str, str], ...]


class LogFigures(Protocol):
    """What is told of a prediction log: rows on the disk, rows not kept, rows in memory, why the disk fails."""

    @property
    def written(self) -> Mapping[str, int]: ...

    @property
    def dropped(self) -> Mapping[tuple[str, Any], int]: ...

    @property
    def pending(self) -> int: ...

    @property
    def failing(self) -> str: ...


class Histogram:
    """How many values fell below each bound of ``BUCKETS``."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class Metrics:
    """What the server counts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # route, status
        self.seconds: dict[str, Histogram] = {}  # by route
        self.predictions: Counter[tuple[str, str, str | None, str]] = Counter()  # model, version, segment, role
        self.features: Counter[tuple[str, State]] = Counter()  # view, state
        self.function_errors: Counter[str] = Counter()  # by model
        self.load_failures: Counter[str] = Counter()  # by model
        self.swaps = 0

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests[route, status] += 1
        histogram = self.seconds.get(route)
        if histogram is None:
            histogram = self.seconds[route] = Histogram()
        histogram.add(seconds)

    def swapped(self, table: Table) -> None:  # noqa: ARG002 - called with the new table
        """Count a new routing table."""
        self.swaps += 1

    def failed_to_load(self, model: str) -> None:
        """Count an attempt to load what is live that failed."""
        self.load_failures[model] += 1

    def render(self, table: Table, log: LogFigures | None = None) -> bytes:
        """Everything as text; ``log`` is the prediction log, if there is one."""
        lines = [
            *_family("headway_requests_total", "counter", "Requests by route and status.", self._requests()),
            *_family("headway_request_seconds", "histogram", "Time to answer, by route.", self._seconds()),
            *_family("headway_predictions_total", "counter", "Rows predicted.", self._predictions()),
            *_family("headway_features_total", "counter", "Feature values by view and state.", self._features()),
            *_family("headway_function_errors_total", "counter", "Requests that a request function failed.",
                     _by_model("headway_function_errors_total", self.function_errors)),
            *_family("headway_load_failures_total", "counter", "Attempts to load a live version that failed.",
                     _by_model("headway_load_failures_total", self.load_failures)),
            *_family("headway_swaps_total", "counter", "Routing tables put in place.",
                     [_line("headway_swaps_total", (), self.swaps)]),
            *_family("headway_live_info", "gauge", "The versions that answer, 1 each.", _live(table)),
            *_family("headway_ready", "gauge", "Whether the server is ready.",
                     [_line("headway_ready", (), int(table.ready))]),
            *([] if log is None else _logged(log)),
        ]  # fmt: skip
        return ("\n".join(lines) + "\n").encode()

    def _requests(self) -> list[str]:
        return [
            _line("headway_requests_total", (("route", route), ("status", str(status))), count)
            for (route, status), count in sorted(self.requests.items())
        ]

    def _seconds(self) -> list[str]:
        name, lines = "headway_request_seconds", []
        for route, histogram in sorted(self.seconds.items()):
            below = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), histogram.counts, strict=True):
                below += count
                lines.append(_line(f"{name}_bucket", (("route", route), ("le", bound)), below))
            lines.append(_line(f"{name}_sum", (("route", route),), histogram.total))
            lines.append(_line(f"{name}_count", (("route", route),), below))
        return lines

    def _predictions(self) -> list[str]:
        return [
            _line("headway_predictions_total",
                  (("model", model), ("version", version), ("segment", segment or ""), ("role", role)), count)
            for (model, version, segment, role), count in sorted(self.predictions.items(), key=str)
        ]  # fmt: skip

    def _features(self) -> list[str]:
        return [
            _line("headway_features_total", (("view", view), ("state", state)), count)
            for (view, state), count in sorted(self.features.items())
        ]


def _logged(log: LogFigures) -> list[str]:
    dropped = [
        _line("headway_log_dropped_total", (("model", model), ("reason", reason)), rows)
        for (model, reason), rows in sorted(dict(log.dropped).items())
    ]
    return [
        *_family("headway_log_rows_total", "counter", "Predicted rows that the log has on the disk.",
                 _by_model("headway_log_rows_total", dict(log.written))),
        *_family("headway_log_dropped_total", "counter", "Predicted rows that the log did not keep.", dropped),
        *_family("headway_log_pending_rows", "gauge", "Predicted rows that the log has in memory.",
                 [_line("headway_log_pending_rows", (), log.pending)]),
        *_family("headway_log_failing", "gauge", "Whether the disk refuses what the log writes.",
                 [_line("headway_log_failing", (), int(bool(log.failing)))]),
    ]  # fmt: skip


def _live(table: Table) -> list[str]:
    return [
        _line("headway_live_info", (("model", name), ("version", version.version), ("segment", segment or "")), 1)
        for name, route in sorted(table.models.items())
        for segment, version in sorted(route.by_segment.items(), key=lambda item: item[0] or "")
    ]


def _by_model(name: str, counts: Mapping[str, int]) -> list[str]:
    return [_line(name, (("model", model),), count) for model, count in sorted(counts.items())]


def _family(name: str, kind: str, text: str, lines: Iterable[str]) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines]


def _line(name: str, labels: Labels, value: float) -> str:
    if not labels:
        return f"{name} {value}"
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{shown}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
