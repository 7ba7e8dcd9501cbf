"""The machine that figures were measured on, in words."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from harness import CORES, figure


def described(load: str) -> str:
    """Processor, cores, memory, system, and how busy it was before."""
    machine = f"{_processor()}, {len(CORES) or os.cpu_count()} cores, {_memory_gb():.0f} GB"
    return f"- Machine: {machine}, {platform.system()} {platform.release()}; load before the run: {load}"


def versions(packages: Iterable[str]) -> str:
    """Python's, headway's and those of packages."""
    found = [f"{name} {version(name)}" for name in packages]
    return f"- Python {platform.python_version()}; headway {version('headway')}, {', '.join(found)}"


def busy() -> str:
    """How many processes wanted to run in the last minute: above zero, the figures had company."""
    return figure(os.getloadavg()[0])


def _processor() -> str:
    found = Path("/proc/cpuinfo")
    if found.exists():
        for line in found.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
