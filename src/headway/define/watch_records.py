"""What watching a model in production leaves behind: figures of windows, and alerts."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

FigureKind = Literal["drift", "prediction", "missing", "quality", "performance", "estimate", "skew", "volume"]
Severity = Literal["critical", "warning", "info"]
AlertState = Literal["open", "acknowledged", "resolved"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one window: of a column against its reference, or of a metric.

    ``effect`` is how much (PSI, change of a share or of a metric), ``n`` how many rows of the window it rests on;
    ``threshold`` is what ``statistic`` was held against, by ``method``; ``p`` is adjusted for the number of columns.
    ``said`` is the finding in plain words. ``details`` holds what a chart needs, such as the shares per bin.
    """

    model: str
    version: int | None = None
    segment: str | None = None
    kind: FigureKind
    name: str  # column, check or metric
    window_start: int
    window_end: int
    n: int
    reference_n: int = 0
    statistic: float | None = None
    effect: float | None = None
    threshold: float | None = None
    p: float | None = None
    method: str = ""
    alarm: bool = False
    severity: Severity = "info"
    said: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something somebody should look at. One ``key`` has at most one alert that is not resolved: what is found again
    is counted, not repeated."""

    id: int = 0
    key: str  # e.g. trip_duration/performance/mae
    model: str | None = None
    segment: str | None = None
    kind: str = ""
    severity: Severity = "warning"
    title: str = ""
    text: str = ""
    state: AlertState = "open"
    first_at: int = 0
    last_at: int = 0
    count: int = 1
    by: str = ""  # who acknowledged or resolved it
    why: str = ""
    answered_at: int | None = None  # when it was acknowledged or resolved
    silenced_until: int | None = None
    told_at: int | None = None  # when a channel last carried it
    runbook: str | None = None
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Silence(msgspec.Struct, frozen=True):
    """Alerts that nobody is told of for a while: those whose key is ``key_prefix`` or begins with it and a slash."""

    key_prefix: str  # empty: every alert
    until: int
    by: str
    why: str
    at: int
