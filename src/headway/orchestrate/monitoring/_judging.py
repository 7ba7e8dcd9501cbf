"""How right predictions were: realised as labels arrive, estimated before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headway.data.predictions import input_name, label_text
from headway.define import Monitor
from headway.define.records import VersionRecord
from headway.define.watch_records import Figure
from headway.errors import HeadwayError
from headway.monitor import calibrate, estimate_classification, estimate_regression, performance, together
from headway.orchestrate._parts import Parts
from headway.orchestrate.monitoring._counting import FEATURE, look
from headway.orchestrate.monitoring._windows import Window
from headway.orchestrate.monitoring.reference import PREDICTION, Reference, read_rows, read_tested
from headway.orchestrate.predictions.labels import attached

LEAST_LABELS = 30  # fewer say nothing: performance is estimated besides
_LABELLED = 0.5  # so is it where fewer of the rows have one
_JUDGED = 1_000_000  # rows of a window that performance is told from, evenly spread: what bounds memory
_MOST_ROWS = 20_000  # rows of a window that an estimate is made of
_LEAST_SEGMENT = 50
_PAST = 60  # windows of a metric's history


@dataclass(eq=False)
class Judged:
    """What is known of a window's predictions by one version: label, prediction and segment of its rows (of a million
    of them, where there are more), and the features of some."""

    labels: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    segments: list[str | None] = field(default_factory=list)
    features: list[pa.Table] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.predictions)

    @property
    def labelled(self) -> int:
        return sum(label is not None for label in self.labels)


def _some(table: pa.Table, share: float) -> pa.Table:
    """A share of the rows of a table, evenly spread."""
    if share >= 1:
        return table
    return table.take(pa.array(np.linspace(0, len(table) - 1, int(np.ceil(len(table) * share))).astype(np.int64)))


def _one_thread() -> AbstractContextManager[Any]:
    """For trees on a few thousand rows: threads that wait for each other hundreds of times cost more than they do."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="openmp")
    return limits


class Judge:
    """Judges windows of one version of a model."""

    def __init__(self, parts: Parts, monitor: Monitor, record: VersionRecord, reference: Reference) -> None:
        self._parts, self._monitor, self._record, self._reference = parts, monitor, record, reference
        self._plan = record.serving
        self._metrics = monitor.metrics or tuple(record.metrics)
        self._newest: tuple[Window, Judged] | None = None

    def figures(self, window: Window, now: int, *, estimated: bool = False) -> tuple[list[Figure], list[str]]:
        """Performance where labels are due and there, and else an estimate of it (unless there is one already, as
        ``estimated`` says); and, in sentences, what could not be told."""
        found = self._read(window, now)
        self._newest = window, found
        if not found.rows:
            return [], []
        figures: list[Figure] = []
        due = window.end + self._monitor.delay <= now
        if due and found.labelled:
            figures += self._performance(window, found)
        few = not due or found.labelled < LEAST_LABELS or found.labelled < _LABELLED * found.rows
        if not few or estimated:
            return figures, []
        try:
            return [*figures, *self._estimate(window, found)], []
        except HeadwayError as error:
            return figures, [f"performance could not be estimated: {error}"]

    def together(self, window: Window) -> list[Figure]:
        """Whether the columns of the window judged last, taken together, can be told from those of the training set.

        It alarms only against its own history: many a feature, such as a mean over the last week, tells by itself
        when a row is from.
        """
        known = read_rows(self._parts, self._record)
        if known is None or self._newest is None or self._newest[0] != window or not self._newest[1].features:
            return []
        found = self._newest[1]
        spread = known.filter(known["__spread"])
        history = self._past("drift", None, window)
        with _one_thread():
            figure = together(
                spread.select(self._columns(spread)),
                self._features(found),
                model=self._record.model,
                window=window,
                version=self._record.version,
                history=history,
            )
        if figure is None:
            return []
        if figure.alarm and not figure.method.startswith("history"):
            figure = msgspec.structs.replace(figure, alarm=False, severity="info")
        return [figure]

    def _read(self, window: Window, now: int) -> Judged:
        """The rows of a window, piece by piece; labels that were not known by ``now`` are not there yet."""
        seen = look(self._parts, self._record.model, window)
        found = Judged()
        rows = max(1, seen.versions.get(self._record.version, 0))
        share = min(1.0, _MOST_ROWS / min(rows, _JUDGED))
        for start, end in pairwise(seen.cuts if self._record.version in seen.versions else ()):
            table = attached(self._parts, self._record.model, start, end)
            table = _some(table.filter(pc.equal(table["version"], self._record.version)), min(1.0, _JUDGED / rows))
            late = pc.greater(table["label_known_at"].cast(pa.int64()), now)
            label = pc.if_else(pc.fill_null(late, True), pa.scalar(None, table["label"].type), table["label"])
            found.labels += label.to_pylist()
            found.predictions += table[PREDICTION].to_pylist()
            found.segments += self._segment(table)
            names = [n for n in table.column_names if n.startswith(FEATURE)]
            found.features.append(_some(table.select(names), share))
        return found

    def _segment(self, table: pa.Table) -> list[str | None]:
        column = None if self._plan.segment is None else input_name(self._plan.segment)
        if column is None or column not in table.column_names:
            return [None] * len(table)
        names: list[str | None] = table[column].cast(pa.string()).to_pylist()
        return names

    def _performance(self, window: Window, found: Judged) -> list[Figure]:
        label, prediction = self._arrays(found.labels, found.predictions)
        figures = self._of(window, None, label, prediction, self._record.metrics, self._record.test_rows)
        names = np.array(found.segments, dtype=object)
        for segment, reference in self._reference.segments.items() if self._monitor.segments else ():
            own = names == segment
            if int(own.sum()) >= _LEAST_SEGMENT and any(x is not None for x in label[own]):
                tested = 0 if reference.predictions is None else reference.predictions.rows
                metrics = self._record.segment_metrics.get(segment, {})
                figures += self._of(window, segment, label[own], prediction[own], metrics, tested)
        return figures

    def _of(
        self,
        window: Window,
        segment: str | None,
        label: np.ndarray,
        prediction: np.ndarray,
        reference: dict[str, float],
        reference_n: int,
    ) -> list[Figure]:
        past = self._past("performance", segment, window)
        return performance(
            label,
            prediction,
            task=self._plan.task,
            model=self._record.model,
            window=window,
            metrics=self._metrics,
            classes=self._classes,
            reference=reference,
            reference_n=reference_n,
            rows=len(label),
            version=self._record.version,
            segment=segment,
            history=past,
            previous=[f for f in past if f.window_end == window.start],
        )

    def _estimate(self, window: Window, found: Judged) -> list[Figure]:
        tested = read_tested(self._parts, self._record)
        past = self._past("estimate", None, window)
        about: dict[str, Any] = {
            "model": self._record.model,
            "window": window,
            "reference": self._record.metrics,
            "reference_n": self._record.test_rows,
            "version": self._record.version,
            "history": past,
            "previous": [f for f in past if f.window_end == window.start],
        }
        if tested is None or self._plan.task == "multiclass":
            return []
        if self._plan.task == "binary":
            positive = np.array([label == self._plan.classes[1] for label in tested["label"].to_pylist()])  # type: ignore[index]
            calibration = calibrate(np.asarray(tested[PREDICTION].cast(pa.float64())), positive)
            scores = np.array(found.predictions, dtype=np.float64)
            return estimate_classification(calibration, scores, metrics=self._metrics, **about)
        known = read_rows(self._parts, self._record)
        if known is None:
            return []
        known = known.filter(known["__label"].is_valid())
        error = np.asarray(known["__prediction"].cast(pa.float64())) - np.asarray(known["__label"].cast(pa.float64()))
        features = self._features(found)
        known = known.select(self._columns(known))
        with _one_thread():
            return estimate_regression(known, error, features, metrics=self._metrics, **about)

    def _columns(self, table: pa.Table) -> list[str]:
        return [name for name in table.column_names if not name.startswith("__")]

    def _features(self, found: Judged) -> pa.Table:
        table = pa.concat_tables(found.features, promote_options="default")
        return table.rename_columns([name.removeprefix(FEATURE) for name in table.column_names])

    @property
    def _classes(self) -> Sequence[Any] | None:
        if self._plan.task == "multiclass":  # which are logged as text
            return [label_text(c) for c in self._plan.classes or ()]
        return self._plan.classes

    def _arrays(self, labels: list[Any], predictions: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        if self._plan.task == "regression":
            return np.array(labels, dtype=np.float64), np.array(predictions, dtype=np.float64)
        if self._plan.task == "multiclass":
            labels = [None if label is None else label_text(label) for label in labels]
            return np.array(labels, dtype=object), np.array(predictions, dtype=object)
        return np.array(labels, dtype=object), np.array(predictions, dtype=np.float64)

    def _past(self, kind: str, segment: str | None, window: Window) -> list[Figure]:
        length = window.end - window.start
        figures = self._parts.metadata.figures.windows(
            self._record.model,
            kind=kind,  # type: ignore[arg-type]
            segment=segment,
            since=window.start - _PAST * length,
        )
        return [f for f in figures if f.window_end <= window.start and f.version == self._record.version]
