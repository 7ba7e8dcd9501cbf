"""Data checks: all of a source's in one pass over its rows, what they found and set aside as tables, and a contract
read off the data."""

from headway.data.quality._history import standing
from headway.data.quality._infer import Proposal, infer_checks, proposals
from headway.data.quality._run import raise_for, run_checks

__all__ = ["Proposal", "infer_checks", "proposals", "raise_for", "run_checks", "standing"]
