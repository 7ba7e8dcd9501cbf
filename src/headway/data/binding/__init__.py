"""Declarations bound to the data they name: sources and views as SQL over lake tables, and the events a view sees."""

from headway.data.binding._binder import Binder
from headway.data.binding._entities import Part, entities, part_events
from headway.data.binding._events import load_events
from headway.data.binding._parts import EventParts

__all__ = ["Binder", "EventParts", "Part", "entities", "load_events", "part_events"]
