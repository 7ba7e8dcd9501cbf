"""Declarations bound to the data they name: sources and views as SQL over lake tables, and the events a view sees."""

from headway.data.binding._binder import Binder
from headway.data.binding._events import load_events

__all__ = ["Binder", "load_events"]
