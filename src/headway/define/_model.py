"""Labels, splits, gates, models and batch predictions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from headway.define._base import Declaration, Place, caller_place, strings
from headway.define._duration import microseconds
from headway.define._feature_set import FeatureSet
from headway.define._features import FeatureView, ViewSelection
from headway.define._request import Calendar, Request, RequestFeatures
from headway.define._schedule import Schedule, as_schedule
from headway.define._source import Source
from headway.errors import DefinitionError

Task = Literal["regression", "binary", "multiclass"]
RegressionMetric = Literal["mae", "rmse", "mape", "medae", "r2", "bias"]
ClassificationMetric = Literal["log_loss", "auc", "accuracy", "f1", "precision", "recall", "brier", "average_precision"]
METRICS: tuple[str, ...] = (*get_args(RegressionMetric), *get_args(ClassificationMetric))
GREATER_IS_BETTER = frozenset({"r2", "auc", "accuracy", "f1", "precision", "recall", "average_precision"})
Baseline = Literal["median", "mean", "majority", "prior"]
ModelFeature = FeatureView | ViewSelection | FeatureSet | RequestFeatures | Request | Calendar


@dataclass(frozen=True, slots=True)
class Label:
    """What a model learns: one training row per row of ``source``.

    ``matures`` is how long after a row is known its outcome is final; younger rows are left out, whatever their
    class. ``as_of`` names the column whose moment the features are taken at (the event time by default).
    """

    source: Source
    column: str
    matures: str | None = None
    as_of: str | None = None
    place: Place = field(default_factory=caller_place, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            raise DefinitionError(f"label ({self.place}): its first argument is an hw.Source, got {self.source!r}")
        if self.source.timeless and self.as_of is None:
            raise DefinitionError(
                f"label ({self.place}): source {self.source.name!r} has no timestamp, so there is no moment to take"
                " the features at; give the source a timestamp or the label as_of="
            )
        if self.source.effective:
            raise DefinitionError(
                f"label ({self.place}): source {self.source.name!r} is effective (its rows hold at their very moment),"
                " so its features could see the label; take the label from a source of events"
            )
        if self.matures is not None:
            microseconds(self.matures, f"label ({self.place}): matures")


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Test on the last ``test`` of event time, train on what was known ``gap`` before it began.

    With ``refit`` the version that is served is trained once more on everything; its figures are those of the twin
    trained up to the cut. ``test`` may also be an instant (ISO with offset): test from there on.
    """

    test: str
    gap: str | None = None
    refit: bool = True

    def __post_init__(self) -> None:
        if self.instant is None and microseconds(self.test, "TimeSplit: test") == 0:
            raise DefinitionError("TimeSplit: test is longer than nothing")
        if self.gap is not None:
            microseconds(self.gap, "TimeSplit: gap")

    @property
    def instant(self) -> str | None:
        """``test`` where it is an instant rather than a length."""
        return self.test if isinstance(self.test, str) and "-" in self.test else None


@dataclass(frozen=True, slots=True)
class RandomSplit:
    """Test on a random share of the rows, the same for one seed. ``group`` keeps rows of one value together."""

    test: float = 0.2
    group: str | None = None
    refit: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.test, bool) or not isinstance(self.test, int | float) or not 0 < self.test < 1:
            raise DefinitionError(f"RandomSplit: test is a share between 0 and 1, got {self.test!r}")


@dataclass(frozen=True, slots=True)
class Gate:
    """What a new version must reach before it is promoted.

    ``max_regression`` is a share of the champion's figure on the same rows. ``at_least`` and ``at_most`` bound the
    metric itself. ``beat_baseline`` asks it to be better than the naive baseline.
    """

    metric: str
    max_regression: float = 0.0
    at_least: float | None = None
    at_most: float | None = None
    beat_baseline: bool = True

    def __post_init__(self) -> None:
        _check_metric(self.metric, "gate")
        if isinstance(self.max_regression, bool) or not 0 <= self.max_regression < 1:
            raise DefinitionError(f"gate: max_regression is a share such as 0.01, got {self.max_regression!r}")


def _check_metric(name: str, where: str) -> None:
    if name not in METRICS:
        raise DefinitionError(f"{where}: no metric is called {name!r}; there are {', '.join(METRICS)}")


@dataclass(frozen=True, eq=False, init=False)
class Model(Declaration):
    """A model: label, features, estimator, how it is judged, and when it is trained.

    Parameters
    ----------
    features
        Views (or aliases, selections of features, feature sets), request functions, ``hw.Request`` inputs,
        ``hw.calendar``.
    estimator
        ``"module:Class"``, an estimator or pipeline object, or a function of the parameters that returns one.
    params
        For the class or function, or ``set_params`` of the object.
    metrics
        From mae, rmse, mape, medae, r2, bias, log_loss, auc, accuracy, f1, precision, recall, brier,
        average_precision; the first is the one a gate looks at by default.
    segment, fallback
        One model per value of this request input or key; ``fallback="pooled"`` answers for small and unseen segments.
    min_rows
        A segment with fewer training rows gets no model of its own.
    schedule
        When it is trained by ``headway up`` and ``headway schedule``: a cron line, or ``hw.Schedule`` for policies.
    """

    name: str = ""
    label: Label = None  # type: ignore[assignment]
    features: tuple[ViewSelection | RequestFeatures | Request | Calendar, ...] = ()
    estimator: Any = None
    params: Mapping[str, Any] = None  # type: ignore[assignment]
    metrics: tuple[str, ...] = ()
    task: Task | None = None
    split: TimeSplit | RandomSplit = None  # type: ignore[assignment]
    baseline: Baseline | None = None
    segment: str | None = None
    fallback: Literal["pooled"] | None = None
    min_rows: int = 200
    gate: Gate | None = None
    schedule: Schedule | None = None
    seed: int = 0

    kind = "model"

    def __init__(
        self,
        name: str,
        *,
        label: Label,
        features: Sequence[ModelFeature],
        estimator: str | Callable[..., Any] | Any,
        params: Mapping[str, Any] | None = None,
        metrics: str | Sequence[str] = (),
        task: Task | None = None,
        split: TimeSplit | RandomSplit | None = None,
        baseline: Baseline | None = None,
        segment: str | None = None,
        fallback: Literal["pooled"] | None = None,
        min_rows: int = 200,
        gate: Gate | None = None,
        schedule: str | Schedule | None = None,
        seed: int = 0,
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags))
        self._set(name=name)
        self._common()
        self._set(label=label, estimator=estimator, params=copy.deepcopy(dict(params or {})), task=task)
        self._set(split=split or RandomSplit(), baseline=baseline, segment=segment, fallback=fallback)
        self._set(min_rows=min_rows, gate=gate, schedule=as_schedule(self, schedule), seed=seed)
        self._set(metrics=strings(self, "metrics", metrics))
        self._check_parts()
        self._set(features=self._features(features))
        self._check_segment()

    def _check_parts(self) -> None:
        if not isinstance(self.label, Label):
            raise self.refuse(f"label is hw.Label(source, 'column'), got {self.label!r}")
        if not isinstance(self.split, TimeSplit | RandomSplit):
            raise self.refuse(f"split is hw.TimeSplit(...) or hw.RandomSplit(...), got {self.split!r}")
        if self.gate is not None and not isinstance(self.gate, Gate):
            raise self.refuse(f"gate is hw.Gate('metric', ...), got {self.gate!r}")
        for what, value, choices in (
            ("task", self.task, get_args(Task)),
            ("baseline", self.baseline, get_args(Baseline)),
            ("fallback", self.fallback, ("pooled",)),
        ):
            if value is not None and value not in choices:
                raise self.refuse(f"{what} is one of {', '.join(choices)}, got {value!r}")
        for metric in (*self.metrics, *((self.gate.metric,) if self.gate else ())):
            _check_metric(metric, f"model {self.name!r} ({self.place})")
        if isinstance(self.estimator, str) and self.estimator.count(":") != 1:
            raise self.refuse(f"estimator as text reads 'module:Class', got {self.estimator!r}")
        if self.estimator is None:
            raise self.refuse("it has no estimator")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise self.refuse(f"seed is a whole number from 0 on, got {self.seed!r}")

    def _features(
        self, given: Sequence[ModelFeature]
    ) -> tuple[ViewSelection | RequestFeatures | Request | Calendar, ...]:
        found: list[ViewSelection | RequestFeatures | Request | Calendar] = []
        for item in given if isinstance(given, list | tuple) else [given]:
            if isinstance(item, FeatureView):
                found.append(item.selection)
            elif isinstance(item, FeatureSet):
                found.extend(item.selections)
            elif isinstance(item, ViewSelection | RequestFeatures | Request | Calendar):
                found.append(item)
            else:
                raise self.refuse(
                    "features are views, view.alias(...), feature sets, request functions, hw.Request(...) or"
                    f" hw.calendar(...); got {item!r}"
                )
        if not found:
            raise self.refuse("it has no features")
        names = [c for item in found for c in _columns(item)]
        for each in names:
            if names.count(each) > 1:
                raise self.refuse(f"two features are called {each!r}; give one of the views an alias")
        return tuple(found)

    def _check_segment(self) -> None:
        if self.fallback is not None and self.segment is None:
            raise self.refuse("fallback needs a segment")
        if self.segment is None:
            return
        sent = [*self.request_inputs, *self.entity_columns]
        if self.segment not in sent:
            raise self.refuse(
                f"a request cannot supply the segment {self.segment!r}; it is one of the request inputs and keys:"
                f" {', '.join(sent) or 'none'} (add hw.Request({self.segment!r}, 'string') to the features)"
            )

    @property
    def selections(self) -> tuple[ViewSelection, ...]:
        """Every use of a view, by the estimator and by request functions."""
        direct = [f for f in self.features if isinstance(f, ViewSelection)]
        inner = [i for f in self.features if isinstance(f, RequestFeatures) for i in f.inputs]
        return (*direct, *(i for i in inner if isinstance(i, ViewSelection)))

    @property
    def functions(self) -> tuple[RequestFeatures, ...]:
        return tuple(f for f in self.features if isinstance(f, RequestFeatures))

    @property
    def calendars(self) -> tuple[Calendar, ...]:
        return tuple(f for f in self.features if isinstance(f, Calendar))

    @property
    def request_inputs(self) -> dict[str, str]:
        """Name → type of every value the caller sends besides keys."""
        found: dict[str, str] = {}
        inner = [i for f in self.functions for i in f.inputs]
        for item in (*self.features, *inner):
            name, type_ = (
                (item.name, item.type)
                if isinstance(item, Request)
                else (item.name, "timestamp")
                if isinstance(item, Calendar)
                else (None, None)
            )
            if name is None or type_ is None:
                continue
            if found.setdefault(name, type_) != type_:
                raise self.refuse(f"request input {name!r} is declared both as {found[name]} and as {type_}")
        return found

    @property
    def entity_columns(self) -> tuple[str, ...]:
        """The key columns the caller sends."""
        return tuple(dict.fromkeys(column for s in self.selections for column in s.keys.values()))


def _columns(item: object) -> tuple[str, ...]:
    if isinstance(item, ViewSelection | Calendar):
        return item.columns
    return (item.name,) if isinstance(item, Request | RequestFeatures) else ()


@dataclass(frozen=True, eq=False, init=False)
class BatchPrediction(Declaration):
    """Predictions of a model for every row of a source, kept as a table: ``output="lake:predictions_nightly"``."""

    name: str = ""
    model: Model = None  # type: ignore[assignment]
    input: Source = None  # type: ignore[assignment]
    output: str = ""
    schedule: Schedule | None = None

    kind = "batch prediction"

    def __init__(
        self,
        name: str,
        *,
        model: Model,
        input: Source,
        output: str,
        schedule: str | Schedule | None = None,
        owner: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__(owner=owner, description=description, tags=tuple(tags))
        self._set(name=name)
        self._common()
        if not isinstance(model, Model):
            raise self.refuse(f"model is an hw.Model, got {model!r}")
        if not isinstance(input, Source):
            raise self.refuse(f"input is an hw.Source, got {input!r}")
        if not isinstance(output, str) or not output.removeprefix("lake:") or not output.startswith("lake:"):
            raise self.refuse(f"output names a table as 'lake:table', got {output!r}")
        self._set(model=model, input=input, output=output, schedule=as_schedule(self, schedule))
