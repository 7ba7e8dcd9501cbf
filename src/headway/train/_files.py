"""Writing files so that they are on disk when the call returns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` and wait until the disk has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a final newline."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def sync_tree(directory: Path) -> None:
    """Wait until the entries of ``directory`` and of its subdirectories are on disk."""
    for folder in (directory, *(p for p in directory.rglob("*") if p.is_dir())):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
