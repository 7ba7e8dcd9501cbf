"""How a model in production is watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from headway.define._base import Declaration, Place, caller_place, strings
from headway.define._duration import microseconds
from headway.define._model import METRICS, Model
from headway.define._schedule import Schedule, as_schedule
from headway.define.watch_records import FigureKind, Severity

Reference = Literal["training", "previous"]
OnAlert = Literal["notify", "retrain", "rollback"]
Threshold = Literal["critical", "warning", "info", "off"]

KINDS: tuple[str, ...] = get_args(FigureKind)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # worst first
DAILY = "0 6 * * *"
_SHORTEST = 60_000_000  # a window of a minute


def rank(severity: str) -> int:
    """0 for the worst severity."""
    return [str(s) for s in SEVERITIES].index(severity)


@dataclass(frozen=True, eq=False, init=False)
class Monitor(Declaration):
    """What of a model's predictions is watched, against what, and what follows from an alarm.

    A model without one is watched with the defaults, so a project needs this only to say otherwise.

    Parameters
    ----------
    model
        The model; its name is the monitor's.
    reference
        ``"training"``: what the version was trained and tested on; ``"previous"``: the four windows before.
    window
        How much time one figure is about. Windows lie on the UTC epoch grid; those of whole weeks begin on Mondays.
    label_delay
        How long after a prediction its label is there, so that a window can be judged; the label's ``matures`` by
        default, or at once. Until then performance is estimated.
    metrics
        The metrics to follow as labels arrive; the model's own by default.
    columns
        The columns to watch; all that the estimator sees by default.
    segments
        Whether the biggest segments are also watched on their own, where the model has segments.
    alert
        The least severity that raises an alert (``"warning"`` by default), for every kind of figure or for some:
        ``{"drift": "critical", "volume": "off"}``.
    on_alert
        What an alert starts besides telling: ``"retrain"`` a run of the model, gated as always (for alerts of drift,
        predictions and performance); ``"rollback"`` a rollback (for alerts of predictions and performance).
    runbook
        A link or a sentence for whoever gets the alert.
    schedule
        A cron line, or ``hw.Schedule`` for policies; every day at six in the morning by default, None for never.
    """

    model: Model = None  # type: ignore[assignment]
    name: str = ""
    reference: Reference = "training"
    window: str = "7d"
    label_delay: str | None = None
    metrics: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    segments: bool = True
    alert: Mapping[str, Threshold] = None  # type: ignore[assignment]
    on_alert: OnAlert = "notify"
    runbook: str | None = None
    schedule: Schedule | None = None
    declared: bool = True

    kind = "monitor"

    def __init__(
        self,
        model: Model,
        *,
        reference: Reference = "training",
        window: str = "7d",
        label_delay: str | None = None,
        metrics: str | Sequence[str] | None = None,
        columns: str | Sequence[str] | None = None,
        segments: bool = True,
        alert: Threshold | Mapping[str, Threshold] | None = None,
        on_alert: OnAlert = "notify",
        runbook: str | None = None,
        schedule: str | Schedule | None = DAILY,
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        place: Place | None = None,
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags), place=place or caller_place())
        if not isinstance(model, Model):
            raise self.refuse(f"its first argument is an hw.Model, got {model!r}")
        self._set(model=model, name=model.name, declared=place is None)
        self._common()
        self._set(reference=reference, window=window, label_delay=label_delay, on_alert=on_alert, runbook=runbook)
        self._set(metrics=strings(self, "metrics", metrics), columns=strings(self, "columns", columns))
        self._set(segments=segments, alert=MappingProxyType(self._thresholds(alert)))
        self._check_words()
        self._check_lengths()
        self._set(schedule=as_schedule(self, schedule))

    @classmethod
    def default(cls, model: Model) -> Monitor:
        """What a model is watched with if nothing is declared."""
        return cls(model, owner=model.owner, place=model.place)

    @property
    def length(self) -> int:
        """The window in microseconds."""
        return microseconds(self.window)

    @property
    def delay(self) -> int:
        """``label_delay`` in microseconds, or the label's ``matures``, or 0."""
        given = self.label_delay or self.model.label.matures
        return microseconds(given) if given else 0

    def raises(self, kind: str, severity: str) -> bool:
        """Whether an alarm of this kind and severity is one to tell somebody of."""
        least = self.alert.get(kind, "warning")
        return least != "off" and rank(severity) <= rank(least)

    def _thresholds(self, given: Any) -> dict[str, Threshold]:
        possible = get_args(Threshold)
        wanted: dict[Any, Any] = dict(given) if isinstance(given, Mapping) else dict.fromkeys(KINDS, given or "warning")
        for kind, least in wanted.items():
            if kind not in KINDS:
                raise self.refuse(f"alert names the kind {kind!r}; there are {', '.join(KINDS)}")
            if not isinstance(least, str) or least not in possible:
                raise self.refuse(f"alert is one of {', '.join(possible)}, or a dict of kinds to these, got {least!r}")
        return {**dict.fromkeys(KINDS, "warning"), **wanted}

    def _check_words(self) -> None:
        for what, value, choices in (
            ("reference", self.reference, get_args(Reference)),
            ("on_alert", self.on_alert, get_args(OnAlert)),
        ):
            if value not in choices:
                raise self.refuse(f"{what} is one of {', '.join(choices)}, got {value!r}")
        for metric in self.metrics:
            if metric not in METRICS:
                raise self.refuse(f"no metric is called {metric!r}; there are {', '.join(METRICS)}")
        if not isinstance(self.segments, bool):
            raise self.refuse(f"segments is True or False, got {self.segments!r}")
        if self.runbook is not None and (not isinstance(self.runbook, str) or not self.runbook):
            raise self.refuse(f"runbook is a link or a sentence, got {self.runbook!r}")

    def _check_lengths(self) -> None:
        if microseconds(self.window, f"monitor {self.name!r} ({self.place}): window") < _SHORTEST:
            raise self.refuse(f"window is a minute or longer, got {self.window!r}")
        if self.label_delay is not None:
            microseconds(self.label_delay, f"monitor {self.name!r} ({self.place}): label_delay")
