"""Versions of models, gates, promotion and rollback; and their projection into MLflow."""

from headway.registry._compare import Change, Comparison, MetricChange, comparison
from headway.registry._gate import best_held, decide
from headway.registry._mlflow import ProjectionResult, project_to_mlflow, projection_due, tracking_key
from headway.registry._registry import Registry

__all__ = [
    "Change",
    "Comparison",
    "MetricChange",
    "ProjectionResult",
    "Registry",
    "best_held",
    "comparison",
    "decide",
    "project_to_mlflow",
    "projection_due",
    "tracking_key",
]
