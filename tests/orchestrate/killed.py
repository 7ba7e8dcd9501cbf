"""Commands that can be killed at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import project
from tests.project import Shop


class Warm:
    """Commands as children of a process that has imported everything: a kill then meets work, not imports."""

    def __init__(self) -> None:
        script = [sys.executable, str(Path(__file__).with_name("warm.py"))]
        self._process = subprocess.Popen(
            script, env=project.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def run(self, shop: Shop, arguments: Sequence[str], kill_after: float | None = None) -> bool:
        """Run a command and kill its process group after some seconds; whether it was killed before it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(shop.root), list(arguments)]).encode() + b"\n")
        self._process.stdin.flush()
        pid = int(self._line())
        if kill_after is not None and not select.select([self._process.stdout], [], [], kill_after)[0]:
            with contextlib.suppress(ProcessLookupError):  # it came to its end meanwhile
                os.killpg(pid, signal.SIGKILL)
        status = int(self._line())
        killed = os.WIFSIGNALED(status)
        assert killed or os.WEXITSTATUS(status) == 0
        return killed

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
