"""What a step prints, kept in its own file as well as shown."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_LONGEST = 120
_FORMAT = "%(levelname)s %(name)s: %(message)s"


def file_name(key: str) -> str:
    """The name of a step's log file; two keys never share one.

    >>> file_name("train:trip_duration")
    'train:trip_duration.log'
    """
    plain = re.sub(r"[^\w.:,=@\[\]-]", "_", key)[:_LONGEST]
    if plain != key or key.startswith("."):
        plain += "-" + hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
    return f"{plain}.log"


@contextmanager
def copied(path: Path) -> Iterator[None]:
    """Within the block, standard output, standard error and logging go to the file at ``path`` too.

    So does the traceback of an exception that leaves the block: people are shown one sentence, the log has the rest.
    """
    out, err = sys.stdout, sys.stderr
    with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
        logs = _Logs(file)
        logs.setFormatter(logging.Formatter(_FORMAT))
        sys.stdout, sys.stderr = _Tee(out, file), _Tee(err, file)
        logging.getLogger().addHandler(logs)
        try:
            yield
        except BaseException:
            traceback.print_exc(file=file)
            raise
        finally:
            logging.getLogger().removeHandler(logs)
            sys.stdout, sys.stderr = out, err


class _Tee:
    """A stream that also writes to a file; everything else is the stream's own."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream, self._file = stream, file
        # Rich draws its bar on this, if there is one: the bar is for eyes, not for the file.
        self.rich_proxied_file = getattr(stream, "rich_proxied_file", stream)

    def write(self, text: str) -> int:
        if not self._file.closed:  # somebody may have kept the stream for longer than the step
            self._file.write(text)
        return self._stream.write(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Logs(logging.StreamHandler[TextIO]):
    """Writes to the file what logging shows nowhere else, or on a stream it took before the step began."""

    def emit(self, record: logging.LogRecord) -> None:
        shown = self._handlers(record.name)
        if not shown and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)  # goes through sys.stderr, and so to the file
        elif not any(isinstance(getattr(handler, "stream", None), _Tee) for handler in shown):
            super().emit(record)

    def _handlers(self, name: str) -> list[logging.Handler]:
        """Who else is told what a logger says."""
        logger: logging.Logger | None = logging.getLogger(name)
        found: list[logging.Handler] = []
        while logger is not None:
            found += [handler for handler in logger.handlers if handler is not self]
            logger = logger.parent if logger.propagate else None
        return found
