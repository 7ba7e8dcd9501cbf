"""Data checks: all of a source's in one pass over its rows, and the rows they set aside kept as a table."""

from headway.data.quality._run import raise_for, run_checks

__all__ = ["raise_for", "run_checks"]
