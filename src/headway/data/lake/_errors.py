"""What goes wrong with a table, in one sentence."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from headway.errors import DataError, HeadwayError, StoreBusy, StoreError

_NO_ROOM = "there is no room on the disk for it; make some, and write it again"


@contextmanager
def named(table: str) -> Iterator[None]:
    """Raise what the libraries inside raise as a ``HeadwayError`` that names ``table``."""
    try:
        yield
    except HeadwayError:  # StoreError is an OSError too
        raise
    except OSError as error:
        raise StoreError(f"lake table {table!r}: {_reason(error)}") from None
    except Exception as error:  # noqa: BLE001 - raised again, under a better name if it has one
        raise _translate(table, error) from None


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _NO_ROOM
    if error.strerror is None:
        return _of_delta(error)
    return error.strerror + (f" ({error.filename})" if error.filename else "")


def _of_delta(error: Exception) -> str:
    """delta-rs's message, which may be a coloured tree of causes, in one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    if any(sign in text for sign in ("No space left", "Disk quota exceeded", "File too large")):
        return _NO_ROOM
    return re.sub(r"\s*\n\s*(?:↳\s*)?", ": ", text) or type(error).__name__


def _translate(table: str, error: Exception) -> Exception:
    import pyarrow as pa
    from deltalake.exceptions import CommitFailedError, DeltaError

    text = _of_delta(error)
    if isinstance(error, CommitFailedError):
        return StoreBusy(f"lake table {table!r}: others keep writing to it ({text}); try again")
    if isinstance(error, pa.ArrowException):
        return DataError(f"lake table {table!r}: the rows cannot be written: {text}")
    if isinstance(error, DeltaError):
        return StoreError(f"lake table {table!r}: {text}")
    return error
