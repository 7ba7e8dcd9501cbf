"""Every error headway raises on purpose, as one tree.

    HeadwayError                  exit code 1
    ├── DefinitionError           a declaration is wrong (also ValueError)
    │   └── BindingError          a declaration does not fit the data it names
    ├── SettingsError             headway.toml or the environment is wrong (also ValueError)
    ├── UsageError                a call or a command was wrong (also ValueError), exit code 2
    ├── NotFoundError             a name nobody knows (also LookupError), exit code 2
    ├── DataError                 rows that cannot be read or do not fit (also ValueError)
    ├── CheckFailed               a data check with on_fail="error" said no, exit code 3
    ├── GateRefused               a gate or a hold said no, exit code 3
    ├── RollbackRefused           going back is not possible as things are, exit code 3
    ├── RetireRefused             a feature view is still needed, exit code 3
    ├── MissingExtra              an optional package is not installed (also ImportError)
    ├── ArtifactError             a model's files are missing, changed or not allowed
    ├── ProjectCodeError          a function of the project raised, or returned what it may not
    ├── Cancelled                 somebody asked for the run to end
    └── StoreError                a backend failed (also OSError)
        └── StoreBusy             a backend is held by somebody else; trying again may help

A message is one sentence or two: what was got, what was possible, what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadwayError(Exception):
    """The root. ``exit_code`` is what the command line returns; ``retryable`` says whether trying again may help."""

    exit_code = 1
    retryable = False


class DefinitionError(HeadwayError, ValueError):
    """A declaration is wrong, whatever the data."""


class BindingError(DefinitionError):
    """A declaration does not fit the data it names: a wrong column, a wrong type."""


class SettingsError(HeadwayError, ValueError):
    """``headway.toml`` or the process environment is wrong."""


class UsageError(HeadwayError, ValueError):
    """A call or a command line was wrong."""

    exit_code = 2


class NotFoundError(HeadwayError, LookupError):
    """A name nobody knows."""

    exit_code = 2

    @classmethod
    def among(cls, kind: str, got: str, known: Iterable[str]) -> NotFoundError:
        """The error for a name that is not one of ``known``, with the nearest one suggested."""
        return cls(f"no {kind} is called {got!r}; {suggest(got, known)}")


class DataError(HeadwayError, ValueError):
    """Rows that cannot be read, or do not fit what was declared."""


class CheckFailed(HeadwayError):
    """A data check that stops what depends on its source said no."""

    exit_code = 3


class GateRefused(HeadwayError):
    """A gate, or a hold after a rollback, refused a promotion."""

    exit_code = 3


class RollbackRefused(HeadwayError):
    """The previous version cannot answer as things are; the message carries the command that mends it."""

    exit_code = 3


class RetireRefused(HeadwayError):
    """A feature view is declared, or a version of a model needs it."""

    exit_code = 3


class MissingExtra(HeadwayError, ImportError):
    """An optional package is not installed."""


class ArtifactError(HeadwayError):
    """A model's files are missing, changed since they were recorded, or of a kind that is not allowed."""


class ProjectCodeError(HeadwayError):
    """A function of the project raised an exception (the ``__cause__``), or returned what it may not."""


class Cancelled(HeadwayError):
    """Somebody asked for the run to end; what it had finished is kept."""


class StoreError(HeadwayError, OSError):
    """A backend failed."""


class StoreBusy(StoreError):
    """A backend is held by somebody else."""

    retryable = True


def suggest(got: str, known: Iterable[str]) -> str:
    """Half a sentence that names the nearest known name, or all of them when they are few."""
    names = sorted(known)
    if not names:
        return "there are none"
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"there are: {shown}"
