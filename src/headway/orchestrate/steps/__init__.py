"""Steps and pipelines: laid out, planned and carried out, with everything recorded and cached.

The chain: ``_trace`` runs the pipeline's function and notes its calls; ``_graph`` makes tasks of them that wait for
each other; ``_prepare`` resolves a task's inputs and looks for an earlier answer by its ``_key``; ``_execute`` does
what is left, in process or in the workers of ``_pool``; ``_values`` and ``_store`` keep what comes out.
"""

from headway.define._parameters import Parameter, parameters, read_parameters
from headway.orchestrate.steps._execute import RunTarget, execute_pipeline
from headway.orchestrate.steps._plan import PlannedStep, plan_pipeline
from headway.orchestrate.steps._recorder import Recorder

__all__ = [
    "Parameter",
    "PlannedStep",
    "Recorder",
    "RunTarget",
    "execute_pipeline",
    "parameters",
    "plan_pipeline",
    "read_parameters",
]
