"""headway takes a team from raw data to models in production: declare, run, look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headway.define import (
    BatchPrediction,
    Entity,
    FeatureSet,
    FeatureView,
    Gate,
    Label,
    Model,
    Monitor,
    RandomSplit,
    Request,
    Schedule,
    Source,
    TimeSplit,
    approx_nunique,
    between,
    calendar,
    count,
    expr,
    first,
    freshness,
    has_type,
    lag,
    last,
    last_n,
    matches,
    max,
    mean,
    median,
    min,
    mode,
    not_null,
    null_share,
    nunique,
    one_of,
    pipeline,
    quantile,
    request_features,
    row_count,
    run,
    source,
    std,
    step,
    sum,
    time_since_last,
    unique,
    vector,
    volume,
    when,
)
from headway.errors import HeadwayError

if TYPE_CHECKING:
    from headway.project import Project, load

__version__ = "0.1.0"

__all__ = [
    "BatchPrediction",
    "Entity",
    "FeatureSet",
    "FeatureView",
    "Gate",
    "HeadwayError",
    "Label",
    "Model",
    "Monitor",
    "Project",
    "RandomSplit",
    "Request",
    "Schedule",
    "Source",
    "TimeSplit",
    "approx_nunique",
    "between",
    "calendar",
    "count",
    "expr",
    "first",
    "freshness",
    "has_type",
    "lag",
    "last",
    "last_n",
    "load",
    "matches",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "not_null",
    "null_share",
    "nunique",
    "one_of",
    "pipeline",
    "quantile",
    "request_features",
    "row_count",
    "run",
    "source",
    "std",
    "step",
    "sum",
    "time_since_last",
    "unique",
    "vector",
    "volume",
    "when",
]


def __getattr__(name: str) -> Any:
    # The project brings pyarrow and the metadata store along; declarations do not need them.
    if name in ("load", "Project"):
        from headway import project

        return getattr(project, name)
    raise AttributeError(f"module 'headway' has no attribute {name!r}")
