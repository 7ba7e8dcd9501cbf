"""What all measures share: child processes on chosen cores, their peak memory, and figures as a Markdown section."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

Tasks = Mapping[str, Callable[..., Any]]

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER, CLIENT, ALL = CORES[:1], CORES[-1:], CORES

_LONGEST = 120  # seconds that one child may take


@dataclass
class Section:
    """The result of one measure: a table with a row per contender, and what headway has to reach."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        lines = [f"## {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines.append("| " + " | ".join(self.header) + " |")
        lines.append("|" + "---|" * len(self.header))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        lines += ["", *(f"- {verdict}" for verdict in self.verdicts)]
        return "\n".join(lines).rstrip() + "\n"

    def judge(self, what: str, value: float, wanted: str, reached: bool) -> None:
        """Say how a figure compares with what DESIGN asks of headway."""
        self.verdicts.append(f"{what}: **{figure(value)}** (to reach: {wanted}) {'✓' if reached else '✗'}")


def rounds(most: int, seconds: float) -> Iterator[int]:
    """Numbers of rounds, as many as begin within ``seconds``: at least one, and ``most`` at the most."""
    begin = perf_counter()
    for number in range(most):
        if number and perf_counter() - begin > seconds:
            return
        yield number


def child(
    script: str, task: str, *arguments: Any, cores: Iterable[int] = (), longest: float = _LONGEST
) -> dict[str, Any]:
    """Run a task of a script in a process of its own; what it returns, with its peak memory as ``peak_mb``."""
    done = subprocess.run(
        command(script, task, *arguments, cores=cores), capture_output=True, text=True, timeout=longest, check=False
    )
    if done.returncode:
        raise SystemExit(f"{Path(script).name} {task} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def server(script: str, task: str, *arguments: Any, cores: Iterable[int] = ()) -> Iterator[int]:
    """A task that serves until it is told to stop; its port, which it prints as the last word of its first line."""
    with subprocess.Popen(command(script, task, *arguments, cores=cores), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{Path(script).name} {task} did not start")
            yield int(line.split(":")[-1])
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def command(script: str, task: str, *arguments: Any, cores: Iterable[int]) -> list[str]:
    return [sys.executable, str(script), task, json.dumps(list(cores)), json.dumps(arguments)]


def answer(tasks: Tasks) -> None:
    """Be the child: pin to the cores asked for, run the task, print its result."""
    _, task, cores, arguments = sys.argv
    if chosen := json.loads(cores):
        os.sched_setaffinity(0, chosen)
    result = tasks[task](*json.loads(arguments))
    print(json.dumps({**(result or {}), "peak_mb": peak_mb()}))


def warmed(task: Callable[..., Any]) -> Callable[..., Any]:
    """The task, once for small arguments, given first, and then for its own: what libraries load at their first use
    (pyarrow imports pandas, polars starts its threads) is not counted."""

    def run(small: Sequence[Any], *arguments: Any) -> Any:
        task(*small)
        return task(*arguments)

    return run


def peak_mb() -> float:
    """The most memory that was resident in this process, in MB (10⁶ bytes).

    ``getrusage`` would count what its parent held when it started this process, so Linux is asked in another way.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99))


def figure(value: float, unit: str = "") -> str:
    """Three significant digits, with thin groups: 12 300, 0.0562, 1.84."""
    if value and abs(value) < 1000:
        digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
        text = f"{value:.{digits}f}"
    else:
        rounded = round(value, -max(0, int(np.floor(np.log10(abs(value) or 1))) - 2))
        text = f"{rounded:,.0f}".replace(",", " ")
    return f"{text} {unit}".rstrip()
