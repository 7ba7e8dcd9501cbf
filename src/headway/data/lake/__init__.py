"""The tables that headway itself writes: source copies, quarantine, predictions.

Light to import: what reads or writes tables is loaded when a lake is used.
"""

from __future__ import annotations

from headway.data.lake._protocol import Lake, Mode, Once, open_lake

__all__ = ["Lake", "Mode", "Once", "open_lake"]
