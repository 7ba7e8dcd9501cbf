"""Declarations bound to data: SQL over lake tables, types, fingerprints, events."""

from headway.data.binding._binder import Binder
from headway.data.binding._events import load_events

__all__ = ["Binder", "load_events"]
