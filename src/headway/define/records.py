"""What one stage hands to the next.

Records are data: frozen, without behaviour beyond small derived facts, and (the ``Struct`` ones)
written to JSON as they are, so that a model version can carry them for years.
Times are integers, microseconds since 1970 in UTC; ``FOREVER`` stands for "no end".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FOREVER = 2**63 - 1
BEGINNING = -(2**63)

Kind = Literal[
    "row", "last", "first", "count", "sum", "mean", "min", "max", "std", "quantile", "nunique",
    "mode", "time_since_last", "lag", "last_n", "expr",
]  # fmt: skip
State = Literal["ok", "late", "expired", "missing"]


_LIST = re.compile(r"fixed_size_list<item: (.+)>\[(\d+)\]")


def list_type(type: str) -> tuple[str, int] | None:
    """The type of the items and their number, of a feature that is a list; None for any other type.

    >>> list_type("fixed_size_list<item: float>[128]"), list_type("double")
    (('float', 128), None)
    """
    match = _LIST.fullmatch(type)
    return None if match is None else (match[1], int(match[2]))


def item_names(name: str, type: str) -> tuple[str, ...]:
    """The columns that a feature is to an estimator: one for each item of a list.

    >>> item_names("user__latest", "fixed_size_list<item: double>[2]"), item_names("user__age", "int64")
    (('user__latest__0', 'user__latest__1'), ('user__age',))
    """
    listed = list_type(type)
    return (name,) if listed is None else tuple(f"{name}__{i}" for i in range(listed[1]))


class Field(msgspec.Struct, frozen=True):
    """A column: its name and its Arrow type as text (``int64``, ``double``, ``string``, ``bool``, ``date32[day]``,
    ``timestamp[us, tz=UTC]``, …)."""

    name: str
    type: str


class FeaturePlan(msgspec.Struct, frozen=True):
    """One feature of a bound view.

    ``row`` is the value in the latest visible row (null if it is null there); ``last`` and ``first`` are the latest
    and earliest visible non-null value, of all time or of a window; ``lag`` is the latest one up to ``offset`` ago;
    ``last_n`` are the ``n`` latest ones; ``expr`` is computed from other features; the rest are aggregates over a
    window.
    """

    name: str
    kind: Kind
    type: str  # Arrow type of the result
    column: str | None = None  # name in Events.values; None: whole rows count, or it is an expr
    window: int | None = None  # microseconds; None: all of the past
    q: float | None = None
    offset: int = 0  # microseconds before r at which the window ends
    n: int | None = None  # length of a list: a last_n, or a vector (which is of kind row)
    expression: str | None = None  # of an expr: SQL over ``inputs``
    inputs: tuple[str, ...] = ()  # of an expr: the features it names
    expires: bool = False  # of an expr: it is computed from a latest value, directly or not
    nothing: str | int | float | bool | None = None  # of an expr: its value over no rows, times as Arrow keeps them

    @property
    def is_latest(self) -> bool:
        """Whether the feature is the latest value, so that ``ttl`` applies to it. The first value only gets older.

        An expr of a latest value is one too: it has the age of the oldest, and is null once that is too old.
        """
        return self.expires or (self.kind in ("row", "last") and self.window is None and not self.offset)

    @property
    def empty(self) -> str | int | float | bool | None:
        """The value over no rows at all."""
        if self.kind == "expr":
            return float(self.nothing) if self.type == "double" and self.nothing is not None else self.nothing
        return 0 if self.kind in ("count", "nunique") else None

    @property
    def reach(self) -> int | None:
        """How long before ``r`` (microseconds) an event still changes the value just by growing older; None: never."""
        if self.kind == "time_since_last" and self.window is None:
            return FOREVER
        return None if self.window is None and not self.offset else (self.window or 0) + self.offset


class ViewPlan(msgspec.Struct, frozen=True):
    """A feature view bound to its source: all that compute, materialize and serving need to know of it.

    ``sql`` yields the events (see ``Events``) from lake tables that are named as in ``tables``. ``fingerprint`` is a
    digest of everything that decides a value; online keys begin with it.
    """

    name: str
    fingerprint: str  # 32 hex digits
    source: str
    tables: tuple[str, ...]
    sql: str
    keys: tuple[Field, ...]  # the entity's key columns
    features: tuple[FeaturePlan, ...]
    refresh: int | None = None
    lag: int = 0
    ttl: int | None = None
    effective: bool = False
    timeless: bool = False

    def r(self, t: int) -> int:
        """The moment a value asked for at ``t`` is computed at (DESIGN: ``floor(t - lag, refresh)``)."""
        at = t - self.lag
        return at if self.refresh is None else at // self.refresh * self.refresh

    @property
    def longest_window(self) -> int | None:
        """How far back, in microseconds, events change values just by growing older (the longest window, offset
        included); None if none do, FOREVER if all do."""
        return max((reach for f in self.features if (reach := f.reach) is not None), default=None)

    @property
    def online(self) -> bool:
        """Whether the view can be materialized: windows (and what looks back from now in other ways) move, so a view
        with any needs a ``refresh``."""
        return self.refresh is not None or self.longest_window is None


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Versions of facts as one view sees them, in no particular order; row ``i`` of every member is one version.

    A version is visible at ``r`` if ``event < r`` (``<=`` for an effective source) and ``known <= r < until``.
    Deleted versions and rows never known are already left out (a delete has ended its predecessor's ``until``).
    ``rank`` is unique and orders ties of (event, known): the greater wins. ``known >= event`` always holds, except
    that timeless rows have ``event == known == BEGINNING``. Rows with a null key are left out.
    """

    keys: pa.Table
    event: np.ndarray  # int64
    known: np.ndarray  # int64
    until: np.ndarray  # int64, FOREVER where nothing came after
    rank: np.ndarray  # int64
    values: Mapping[str, pa.Array]
    version: int = 0  # version of the data the events were read from; grows

    def __len__(self) -> int:
        return len(self.event)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A view's values for many entities at one ``r``.

    ``features`` has one column per feature of the plan, in its order and of its type. ``event_times`` holds, for each
    ``is_latest`` feature of a view with a ttl, the event time behind the value (``BEGINNING`` where there is none).
    Values past their ttl at ``r`` are already null in ``features``; ``expired`` says where that happened.
    """

    keys: pa.Table
    features: pa.Table
    as_of: int
    version: int
    event_times: Mapping[str, np.ndarray] = field(default_factory=dict)
    expired: Mapping[str, np.ndarray] = field(default_factory=dict)


class CheckResult(msgspec.Struct, frozen=True):
    """What one check found. ``failed`` counts rows (1 or 0 for a check of the whole table)."""

    source: str
    check: str  # e.g. 'between("duration_s", 60, 10800)'
    on_fail: Literal["error", "warn", "quarantine"]
    rows: int
    failed: int
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.failed == 0


class ViewUse(msgspec.Struct, frozen=True):
    """A view as a model, or a request function, uses it: under a prefix, keyed by other columns, some features only."""

    prefix: str  # the alias, or the view's name
    plan: ViewPlan
    keys: dict[str, str]  # entity key → column of the spine, or field of the request
    features: tuple[str, ...]  # which of the plan's features

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}__{name}" for name in self.features)


class RequestInput(msgspec.Struct, frozen=True):
    """A value the caller sends with the request, and that training finds in the label's source."""

    name: str
    type: Literal["string", "int64", "double", "bool", "timestamp"]


class CalendarUse(msgspec.Struct, frozen=True):
    """Parts of a request timestamp in a time zone, as columns ``<column>__<part>``."""

    column: str
    timezone: str
    parts: tuple[str, ...]


class RequestFunctionUse(msgspec.Struct, frozen=True):
    """A request function: where its code is in the bundle, and the columns it takes, in order."""

    name: str
    module: str
    qualname: str
    inputs: tuple[str, ...]  # column names: request inputs or view features
    outputs: tuple[str, ...]  # column names, <name>__<output>
    digest: str  # of the code it reaches


class ColumnSpec(msgspec.Struct, frozen=True):
    """One column the estimator sees. Strings and bools reach estimators as the codes of ``categories``, if given."""

    name: str
    type: str
    categories: tuple[str, ...] | None = None


class SegmentModel(msgspec.Struct, frozen=True):
    """One fitted estimator of a version: its file and format (``lightgbm``, ``xgboost``, ``skops``, ``onnx``, …)."""

    file: str
    format: str
    rows: int


class ServingPlan(msgspec.Struct, frozen=True):
    """All a prediction needs besides the files it names; written as ``serving.json`` into a version's directory.

    ``views`` are looked up for the estimator or for a request function; ``columns`` is what the estimator sees, in
    order. A row goes to ``segments[value of the segment column]`` if there is one, else to ``pooled``.
    """

    model: str
    task: Literal["regression", "binary", "multiclass"]
    views: tuple[ViewUse, ...]
    requests: tuple[RequestInput, ...]
    calendars: tuple[CalendarUse, ...]
    functions: tuple[RequestFunctionUse, ...]
    columns: tuple[ColumnSpec, ...]
    pooled: SegmentModel | None
    segments: dict[str, SegmentModel] = msgspec.field(default_factory=dict)
    segment: str | None = None  # name of the request input or entity key that decides
    classes: tuple[Any, ...] | None = None
    frame: bool = False  # the estimator wants a DataFrame with column names
    package: str | None = None  # top package of the bundle

    @property
    def entities(self) -> tuple[Field, ...]:
        """The key columns a caller must send, each once, with their types."""
        found: dict[str, Field] = {}
        for use in self.views:
            for key in use.plan.keys:
                column = use.keys.get(key.name, key.name)
                found.setdefault(column, Field(column, key.type))
        return tuple(found.values())


class VersionRecord(msgspec.Struct, frozen=True):
    """A model version and the world it is pinned to."""

    model: str
    version: int
    digest: str  # of everything that went into the training; the same digest is the same version
    created_at: int
    directory: str  # holds the files, relative to the environment's artifact root
    files: dict[str, str]  # path → sha256
    serving: ServingPlan
    metrics: dict[str, float]  # of the twin on the test rows
    segment_metrics: dict[str, dict[str, float]]
    baseline: dict[str, float]
    params: dict[str, Any]
    seed: int
    cut: int | None  # the twin was trained on labels known by then
    train_rows: int
    test_rows: int
    data: dict[str, int]  # lake table → version
    data_digest: str  # of the training set's content
    commit: str | None
    dirty: bool
    environment: str  # digest of the installed distributions
    bundle: str  # digest of the code bundle
    metric: str = ""  # the one a gate looks at
    greater_is_better: bool = False
    split: str = ""  # how test rows were chosen, as declared
    run_id: str | None = None  # MLflow run


class GateResult(msgspec.Struct, frozen=True):
    """A gate's answer with the figures it looked at."""

    passed: bool
    reason: str
    metric: str = ""
    candidate: float | None = None
    champion: float | None = None
    champion_version: int | None = None
    best: float | None = None
    rows: int = 0


class Deployment(msgspec.Struct, frozen=True):
    """One line of the deployment log. ``segment`` None stands for all segments."""

    id: int
    model: str
    segment: str | None
    version: int | None
    action: Literal["promote", "rollback", "hold", "release"]
    by: str
    at: int
    why: str
    figures: dict[str, Any] = msgspec.field(default_factory=dict)


class IngestResult(msgspec.Struct, frozen=True):
    """What copying a source into the lake did. ``rows`` are those its table has now. Of the rows that were ``read``,
    ``new`` were events or facts that were not there and ``versions`` followed another version; ``gone`` ids did not
    come any more. ``ambiguous`` and ``nonexistent`` count local times at clock changes; ``unplaced`` counts rows
    without an event time, which no feature will ever see."""

    source: str
    table: str
    version: int
    digest: str  # of all that decides the rows
    rows: int
    changed: bool
    ambiguous: int = 0
    nonexistent: int = 0
    unplaced: int = 0
    read: int = 0
    new: int = 0
    versions: int = 0
    gone: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """One row per row of the label's source whose label is known.

    ``table`` holds the estimator's columns (``columns``, in order) and nothing else; ``label`` may be of any Arrow
    type without nulls; ``event`` and ``known`` are when the row happened and when its label was known; ``segment``
    and ``group`` are the columns of that name, if the model has them. ``digest`` covers all of it.
    """

    table: pa.Table
    columns: tuple[ColumnSpec, ...]
    label: pa.Array
    event: np.ndarray
    known: np.ndarray
    digest: str
    segment: pa.Array | None = None
    group: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.event)
