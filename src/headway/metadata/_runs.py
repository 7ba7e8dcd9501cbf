"""Runs and their steps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
import sqlalchemy as sa

from headway.define.run_records import RunRecord, RunStatus, StepRecord
from headway.errors import NotFoundError
from headway.metadata._database import Database, as_json, clean, short
from headway.metadata._tables import run_names, runs, steps

Steps = list[StepRecord]  # named, because `list` is a method below

_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
_GOING: tuple[RunStatus, ...] = ("queued", "running")
_JSON = {"targets": tuple[str, ...], "params": dict[str, Any]}
_COLUMNS = [runs.c[name] for name in RunRecord.__struct_fields__]


@dataclass(frozen=True, slots=True)
class Runs:
    """What ran, runs and waits to run. Each method is one transaction, or reads one state of the database."""

    _database: Database

    def create(self, run: RunRecord) -> RunRecord:
        """Store ``run`` and return it with its id, which is greater than every earlier one."""
        with self._database.write() as connection:
            return insert_run(self._database, connection, run)

    def get(self, id: int) -> RunRecord | None:
        """One run as it is now."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(*_COLUMNS).where(self._database.here(runs, id=id))).first()
        return None if row is None else _run(row)

    def some(self, ids: Collection[int]) -> dict[int, RunRecord]:
        """These runs, in one query; those nobody knows are left out."""
        condition = sa.and_(self._database.here(runs), runs.c.id.in_(set(ids)))
        with self._database.read() as connection:
            return {row.id: _run(row) for row in connection.execute(sa.select(*_COLUMNS).where(condition))}

    def take(self, id: int, host: str, pid: int, at: int) -> RunRecord | None:
        """Make a queued run this process's to carry out. Of all who try, one is given the run and the others None.

        Nobody is given a run while the one it is ``behind``, or an earlier one of its schedule, has not ended.
        """
        values = {"status": "running", "host": clean(host), "pid": pid, "started_at": at, "beat_at": at}
        with self._database.write() as connection:
            if self._waits(connection, id):
                return None
            return self._change(connection, id, ("queued",), **values)

    def beat(self, id: int, at: int) -> str | None:
        """Leave a sign of life of a run that is going. Returns who asked for it to end, None if nobody did.

        For a run that others have ended meanwhile, for want of a sign of life say, the answer says that.
        """
        condition = sa.and_(self._database.here(runs, id=id), runs.c.status.in_(_GOING))
        beat = sa.update(runs).where(condition).values(beat_at=at).returning(runs.c.cancel_by)
        with self._database.write() as connection:
            going = connection.execute(beat).first()
            if going is not None:
                return None if going.cancel_by is None else str(going.cancel_by)
            ended = self._status(connection, id)
        return None if ended in (None, "done", "failed", "refused") else f"headway (the run is recorded as {ended})"

    def finish(self, id: int, status: RunStatus, at: int, error: str = "") -> None:
        """Record how a run ended. A run that has ended stays as it is."""
        with self._database.write() as connection:
            self._change(connection, id, _GOING, status=status, ended_at=at, error=clean(error))

    def cancel(self, id: int, by: str, at: int) -> RunStatus:
        """Ask for a run to end, and return its status now.

        A queued run is cancelled at once; one that is running is told by its next ``beat``; one that ended stays so.

        Raises:
            NotFoundError: there is no such run.
        """
        with self._database.write() as connection:
            queued = self._change(connection, id, ("queued",), status="cancelled", ended_at=at, cancel_by=clean(by))
            if queued is not None:
                return "cancelled"
            first = sa.func.coalesce(runs.c.cancel_by, clean(by))
            running = sa.update(runs).where(self._database.here(runs, id=id, status="running"))
            connection.execute(running.values(cancel_by=first))
            status = self._status(connection, id)
        if status is None:
            raise NotFoundError(f"there is no run {id}; `headway runs list` shows those there are")
        return status

    def list(
        self,
        *,
        status: Collection[RunStatus] = (),
        name: str | None = None,
        kind: str | None = None,
        schedule: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[RunRecord]:
        """Runs, newest first: of these statuses (none: all), with ``name`` among their targets, with ids below
        ``before``."""
        newest = [
            self._newest(each, name, {"kind": kind, "schedule": schedule}, before, limit)
            for each in tuple(dict.fromkeys(status)) or _STATUSES
        ]
        ids = sa.union_all(*(sa.select(one.c.id) for one in newest))
        statement = sa.select(*_COLUMNS).where(runs.c.id.in_(ids)).order_by(runs.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(statement)]

    def counts(self) -> dict[RunStatus, int]:
        """How many runs there are of each status that has any."""
        statement = (
            sa.select(runs.c.status, sa.func.count().label("runs"))
            .where(self._database.here(runs))
            .group_by(runs.c.status)
        )
        with self._database.read() as connection:
            return {row.status: row.runs for row in connection.execute(statement)}

    def plan(self, run: int, steps: Sequence[StepRecord]) -> None:
        """Put all these steps of a run, those that are there already in their old place."""
        with self._database.write() as connection:
            self._put(connection, [msgspec.structs.replace(step, run=run) for step in steps])

    def step(self, record: StepRecord) -> None:
        """Put one step of its run."""
        with self._database.write() as connection:
            self._put(connection, [record])

    def steps(self, run: int) -> Steps:
        """The steps of a run, in the order in which they were first put."""
        return self._steps(self._database.here(steps, run=run), steps.c.id)

    def cached(self, step: str, digest: str) -> StepRecord | None:
        """The newest record of a step that was carried out under this digest."""
        condition = self._database.here(steps, step=short(step), digest=short(digest), status="done")
        return next(iter(self._steps(condition, steps.c.id.desc(), 1)), None)

    def history(self, step: str, limit: int = 50) -> Steps:
        """A step in all runs, newest first."""
        return self._steps(self._database.here(steps, step=short(step)), steps.c.id.desc(), limit)

    def _change(
        self, connection: sa.Connection, id: int, expected: Sequence[RunStatus], **values: Any
    ) -> RunRecord | None:
        """The run with ``values``, if it was in an expected status. The database decides, row by row, who is first."""
        condition = sa.and_(self._database.here(runs, id=id), runs.c.status.in_(expected))
        row = connection.execute(sa.update(runs).where(condition).values(**values).returning(*_COLUMNS)).first()
        if row is None:
            return None
        connection.execute(sa.update(run_names).where(run_names.c.run == id).values(status=values["status"]))
        return _run(row)

    def _waits(self, connection: sa.Connection, id: int) -> bool:
        """Whether the run that ``id`` is behind, or an earlier one of the same schedule, has not ended.

        What has ended never goes on again, so the answer no cannot become wrong.
        """
        columns = sa.select(runs.c.behind, runs.c.schedule).where(self._database.here(runs, id=id))
        row = connection.execute(columns).first()
        if row is None or row.behind is None:
            return False
        ahead = runs.c.id == row.behind
        if row.schedule is not None:
            ahead = sa.or_(ahead, sa.and_(runs.c.schedule == row.schedule, runs.c.id < row.behind))
        going = sa.select(runs.c.id).where(self._database.here(runs), runs.c.status.in_(_GOING), ahead).limit(1)
        return connection.execute(going).first() is not None

    def _status(self, connection: sa.Connection, id: int) -> RunStatus | None:
        found: RunStatus | None = connection.execute(
            sa.select(runs.c.status).where(self._database.here(runs, id=id))
        ).scalar()
        return found

    def _newest(
        self, status: RunStatus, name: str | None, others: dict[str, str | None], before: int | None, limit: int
    ) -> sa.Subquery:
        """The ids of the newest runs of one status: a short walk along an index."""
        wanted = {column: value for column, value in others.items() if value is not None}
        if name is None:
            id, condition = runs.c.id, self._database.here(runs, status=status, **wanted)
        else:
            id, condition = run_names.c.run, self._database.here(run_names, name=short(name), status=status)
            if wanted:
                of_kind = sa.select(sa.literal(1)).where(runs.c.id == id, *(runs.c[c] == v for c, v in wanted.items()))
                condition = sa.and_(condition, of_kind.exists())
        if before is not None:
            condition = sa.and_(condition, id < before)
        return sa.select(id.label("id")).where(condition).order_by(id.desc()).limit(limit).subquery()

    def _put(self, connection: sa.Connection, records: Sequence[StepRecord]) -> None:
        self._database.put(connection, steps, ("run", "key"), [step_row(record) for record in records])

    def _steps(
        self, condition: sa.ColumnElement[bool], order: sa.ColumnElement[Any], limit: int | None = None
    ) -> Steps:
        statement = sa.select(steps.c.record).where(condition).order_by(order).limit(limit)
        with self._database.read() as connection:
            found = connection.execute(statement).scalars().all()
        return [msgspec.json.decode(text, type=StepRecord) for text in found]


def insert_run(database: Database, connection: sa.Connection, run: RunRecord) -> RunRecord:
    """Insert a run into a transaction that is under way, and return it with its id."""
    values = run_row(run)
    id = connection.execute(database.insert(runs, **values).returning(runs.c.id)).scalar_one()
    names = [{"name": short(name), "status": run.status, "run": id} for name in dict.fromkeys(run.targets)]
    if names:
        connection.execute(database.insert(run_names), names)
    return msgspec.structs.replace(run, id=id)


def run_row(run: RunRecord) -> dict[str, Any]:
    """A run as a row of its table, without its id."""
    values = {name: clean(v) if isinstance(v, str) else v for name, v in msgspec.structs.asdict(run).items()}
    del values["id"]
    return values | {name: as_json(values[name]) for name in _JSON}


def _run(row: sa.Row[Any]) -> RunRecord:
    values = dict(row._mapping)
    for name, type_ in _JSON.items():
        values[name] = msgspec.json.decode(values[name], type=type_)
    return RunRecord(**values)


def step_row(record: StepRecord) -> dict[str, Any]:
    """A step as a row of its table."""
    return {
        "run": record.run,
        "key": short(record.key),
        "step": short(record.step),
        "status": record.status,
        "digest": None if record.digest is None else short(record.digest),
        "record": as_json(record),
    }
