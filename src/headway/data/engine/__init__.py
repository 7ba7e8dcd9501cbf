"""Connections to the SQL engine, and the Arrow types that tables are kept in.

Names are loaded when they are first used: ``plain`` needs no DuckDB, and importing the package loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.data.engine._duckdb import Engine
    from headway.data.engine._memory import Memory
    from headway.data.engine._piles import Piles, Workspace, needed
    from headway.data.engine._plain import plain, plain_schema, plain_type
    from headway.data.engine._threads import ahead, side_by_side

__all__ = [
    "Engine",
    "Memory",
    "Piles",
    "Workspace",
    "ahead",
    "needed",
    "plain",
    "plain_schema",
    "plain_type",
    "side_by_side",
]

_HOMES = {
    "Engine": "_duckdb",
    "Memory": "_memory",
    "Piles": "_piles",
    "Workspace": "_piles",
    "ahead": "_threads",
    "needed": "_piles",
    "plain": "_plain",
    "plain_schema": "_plain",
    "plain_type": "_plain",
    "side_by_side": "_threads",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
