"""The platform's own records: versions, the deployment log, runs, schedules, monitoring. SQLite or PostgreSQL."""

from headway.metadata._alerts import Alerts
from headway.metadata._audit import Audit
from headway.metadata._deployments import Deployments
from headway.metadata._figures import Figures
from headway.metadata._log import Answering, answering, held, is_automatic, live, live_version, previous, standing
from headway.metadata._open import Metadata, open_metadata
from headway.metadata._projections import ProjectedVersion, Projections
from headway.metadata._published import Published, PublishedFeatures
from headway.metadata._runs import Runs
from headway.metadata._schedules import Schedules
from headway.metadata._stages import StageResult, Stages
from headway.metadata._versions import VersionBrief, Versions

__all__ = [
    "Alerts",
    "Answering",
    "Audit",
    "Deployments",
    "Figures",
    "Metadata",
    "ProjectedVersion",
    "Projections",
    "Published",
    "PublishedFeatures",
    "Runs",
    "Schedules",
    "StageResult",
    "Stages",
    "VersionBrief",
    "Versions",
    "answering",
    "held",
    "is_automatic",
    "live",
    "live_version",
    "open_metadata",
    "previous",
    "standing",
]
