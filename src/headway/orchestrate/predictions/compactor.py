"""Moving the prediction log into the lake while a server runs: in a process of its own, since the lake's library takes
more memory than the server."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

from headway.settings import Settings

log = logging.getLogger("headway.serve")


class Compactor:
    """Starts ``headway predictions compact`` when a segment is complete, one at a time. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._command = [sys.executable, "-m", "headway", "predictions", "compact", "--json"]
        self._command += ["--project", str(settings.root), "--env", settings.env]
        self._waiting: threading.Thread | None = None

    def notice(self, segment: Path) -> None:
        """A segment is complete. One that comes while others are moved is moved next time, or when the log is read."""
        if self._waiting is not None and self._waiting.is_alive():
            return
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server
            )
        except OSError as error:
            log.error("prediction log: %s stays where it is, its compaction cannot be started: %s", segment, error)
            return
        # The process may outlive the server; while both live, somebody has to take note of its end.
        self._waiting = threading.Thread(target=process.wait, name="headway-compaction", daemon=True)
        self._waiting.start()
