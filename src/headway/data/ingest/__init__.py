"""Sources → their lake tables: files, tables of databases, functions, and rows that are handed over.

Light to import: what reads and writes rows is loaded when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headway.data.ingest._files import ingest
from headway.data.ingest._state import State, look, table_of

if TYPE_CHECKING:
    from headway.data.ingest._append import append_rows
    from headway.data.ingest._tables import Into, ingest_function, ingest_table

__all__ = [
    "Into",
    "State",
    "append_rows",
    "ingest",
    "ingest_function",
    "ingest_table",
    "look",
    "table_of",
]

_HOMES = {"append_rows": "_append", "Into": "_tables", "ingest_function": "_tables", "ingest_table": "_tables"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
