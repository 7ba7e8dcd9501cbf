"""Who gives a command."""

from __future__ import annotations

import getpass


def user() -> str:
    """Who is at it, for the log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
