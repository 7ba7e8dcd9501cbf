"""The platform's own records: versions, the deployment log, results of stages. SQLite or PostgreSQL."""

from headway.metadata._deployments import Deployments
from headway.metadata._log import held, is_automatic, live, live_version, previous, standing
from headway.metadata._open import Metadata, open_metadata
from headway.metadata._projections import ProjectedVersion, Projections
from headway.metadata._stages import StageResult, Stages
from headway.metadata._versions import Versions

__all__ = [
    "Deployments",
    "Metadata",
    "ProjectedVersion",
    "Projections",
    "StageResult",
    "Stages",
    "Versions",
    "held",
    "is_automatic",
    "live",
    "live_version",
    "open_metadata",
    "previous",
    "standing",
]
