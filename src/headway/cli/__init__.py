"""The command line: every stage of the golden path is a verb."""

from headway.cli._main import main

__all__ = ["main"]
