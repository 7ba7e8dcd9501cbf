"""How much memory a process may take, and what of it goes to whom."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from headway.errors import SettingsError

LEAST = 750 * 10**6  # with less there is no room beside the libraries themselves
_LIBRARIES = 400 << 20  # what Python, Arrow, DuckDB and numpy take before they have seen a row
_BY_ITSELF = 0.6  # of the machine's memory, where nothing is set
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|[kmgt]?i?b|bytes?)\s*", re.IGNORECASE)
_UNITS = {"k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True)
class Memory:
    """A limit in bytes and its shares: ``sql`` for the SQL engine, ``rows`` for rows in Arrow and numpy.

    The rest is for the libraries and for what passes between the two.
    """

    limit: int

    @classmethod
    def of(cls, setting: str | None) -> Memory:
        """The limit as a setting says it (``"4GB"``, ``"512MiB"``, ``"50%"``); by default a share of the machine's.

        Raises ``SettingsError`` if it is no size, or one that nothing fits into.

        >>> Memory.of("4GB").limit
        4000000000
        """
        limit = int(_machine() * _BY_ITSELF) if setting is None else _bytes(setting)
        if limit < LEAST and setting is not None:
            raise SettingsError(
                f"memory_limit = {setting!r} is too little: headway needs at least {LEAST // 10**6}MB to read and"
                " compute features; what does not fit it spills to disk"
            )
        return cls(max(limit, LEAST))

    @property
    def sql(self) -> int:
        return int((self.limit - _LIBRARIES) * 0.35)

    @property
    def rows(self) -> int:
        return int((self.limit - _LIBRARIES) * 0.45)


def _bytes(setting: str) -> int:
    match = _SIZE.fullmatch(setting)
    if match is None:
        raise SettingsError(
            f'memory_limit is a size such as "4GB", or a share of the machine\'s memory such as "50%"; got {setting!r}'
        )
    number, unit = float(match[1]), match[2].lower()
    if unit == "%":
        return int(_machine() * number / 100)
    power = _UNITS.get(unit[0], 0) if unit not in ("b", "byte", "bytes") else 0
    base = 1024 if "i" in unit else 1000
    return int(number * base**power)


def _machine() -> int:
    """The memory of the machine, or of the control group that this process is confined to."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    confined = Path("/sys/fs/cgroup/memory.max")
    try:
        text = confined.read_text().strip()
    except OSError:
        return found
    return min(found, int(text)) if text.isdigit() else found
