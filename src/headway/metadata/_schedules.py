"""Schedules: what is remembered of them, and who took which of their slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from headway.define.run_records import RunRecord, ScheduleState, Slot
from headway.metadata._database import Database, clean, short
from headway.metadata._runs import insert_run
from headway.metadata._tables import schedules, slots

_STATE = [schedules.c[name] for name in ScheduleState.__struct_fields__]
_SLOT = [slots.c[name] for name in Slot.__struct_fields__]


@dataclass(frozen=True, slots=True)
class Schedules:
    """Each slot of a schedule is taken once, by whichever scheduler comes first, on every database."""

    _database: Database

    def ensure(self, name: str, since: int) -> ScheduleState:
        """What is known of a schedule; one seen for the first time begins at ``since``."""
        known = self.get(name)
        if known is not None:
            return known
        fresh = {"name": short(name), "since": since, "paused": False, "by": "", "at": 0, "why": ""}
        with self._database.write() as connection:
            self._database.insert_new(connection, schedules, **fresh)
            return self._state(connection, name) or ScheduleState(name, since)

    def get(self, name: str) -> ScheduleState | None:
        """What is known of one schedule."""
        with self._database.read() as connection:
            return self._state(connection, name)

    def all(self) -> dict[str, ScheduleState]:
        """Every schedule that was ever seen, by name."""
        statement = sa.select(*_STATE).where(self._database.here(schedules)).order_by(schedules.c.name)
        with self._database.read() as connection:
            return {row.name: ScheduleState(*row) for row in connection.execute(statement)}

    def pause(self, name: str, by: str, why: str, at: int) -> ScheduleState:
        """Stop a schedule from being due until it is resumed. Pausing a paused one notes the newer reason."""
        return self._put(name, since=at, paused=True, by=by, why=why, at=at, moves=False)

    def resume(self, name: str, by: str, at: int, since: int) -> ScheduleState:
        """Let a schedule go on from ``since``: what was due before is not owed."""
        return self._put(name, since=since, paused=False, by=by, why="", at=at, moves=True)

    def take(self, slot: Slot, run: RunRecord | None) -> RunRecord | Literal[False] | None:
        """Take a slot and, if ``run`` is given, queue its run, in one transaction.

        Returns the run with its id, None for a slot taken without a run, or False if somebody has the slot already.
        """
        values = msgspec.structs.asdict(slot)
        values |= {"schedule": short(slot.schedule), "taken_by": clean(slot.taken_by), "why": clean(slot.why)}
        with self._database.write() as connection:
            taken = self._database.insert_new(connection, slots, **values)
            if taken is None:
                return False
            if run is None:
                return None
            queued = insert_run(self._database, connection, run)
            connection.execute(sa.update(slots).where(slots.c.id == taken).values(run=queued.id))
            return queued

    def last(self, name: str) -> Slot | None:
        """The newest slot that was taken."""
        return next(iter(self.slots(name, 1)), None)

    def latest(self) -> dict[str, Slot]:
        """The newest slot of every schedule that has one, by name, in one query."""
        same = slots.alias()
        newest = sa.select(sa.func.max(same.c.slot)).where(self._database.here(same, schedule=schedules.c.name))
        mine = sa.and_(self._database.here(slots, schedule=schedules.c.name), slots.c.slot == newest.scalar_subquery())
        # An outer join, so that SQLite begins with the few schedules and not with their many slots.
        known = sa.select(*_SLOT).select_from(schedules).outerjoin(slots, mine).where(self._database.here(schedules))
        with self._database.read() as connection:
            return {row.schedule: Slot(*row) for row in connection.execute(known) if row.schedule is not None}

    def slots(self, name: str, limit: int = 20) -> list[Slot]:
        """Slots that were taken, newest first."""
        condition = self._database.here(slots, schedule=short(name))
        statement = sa.select(*_SLOT).where(condition).order_by(slots.c.slot.desc()).limit(limit)
        with self._database.read() as connection:
            return [Slot(*row) for row in connection.execute(statement)]

    def _state(self, connection: sa.Connection, name: str) -> ScheduleState | None:
        row = connection.execute(sa.select(*_STATE).where(self._database.here(schedules, name=short(name)))).first()
        return None if row is None else ScheduleState(*row)

    def _put(self, name: str, *, since: int, moves: bool, **values: Any) -> ScheduleState:
        """The state with ``values``; an old one keeps its ``since`` unless that ``moves``."""
        values = {key: clean(v) if isinstance(v, str) else v for key, v in values.items()}
        changed = values | {"since": since} if moves else values
        old = self._database.here(schedules, name=short(name))
        with self._database.write() as connection:
            self._database.insert_new(connection, schedules, name=short(name), since=since, **values)
            row = connection.execute(sa.update(schedules).where(old).values(**changed).returning(*_STATE)).one()
            return ScheduleState(*row)
