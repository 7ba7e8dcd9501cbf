"""Alerts, and what nobody wants to be told of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
import sqlalchemy as sa

from headway.define.watch_records import Alert, AlertState, Severity, Silence
from headway.errors import NotFoundError
from headway.metadata._database import Database, as_json, clean, short
from headway.metadata._tables import alerts, silences

Silences = list[Silence]  # named, because `list` is a method below

_SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the worst first


@dataclass(frozen=True, slots=True)
class Alerts:
    """Things to look at. A key has at most one alert that is not resolved; what is found again is counted on it."""

    _database: Database

    def found(self, alert: Alert, at: int) -> tuple[Alert, bool]:
        """Store what was found, and say whether it is new.

        The unresolved alert of the key, if there is one, is counted on: it takes the newer title, text and details,
        and the worse severity; its state stays.
        """

        def change(connection: sa.Connection) -> tuple[Alert, bool]:
            known = self._find(connection, self._database.here(alerts, open_key=short(alert.key)))
            if known is None:
                return self._insert(connection, msgspec.structs.replace(alert, first_at=at, last_at=at, count=1)), True
            again = msgspec.structs.replace(
                known,
                title=alert.title,
                text=alert.text,
                details=alert.details,
                runbook=alert.runbook or known.runbook,
                severity=min(known.severity, alert.severity, key=_SEVERITIES.index),
                last_at=max(known.last_at, at),
                count=known.count + 1,
            )
            return self._update(connection, again), False

        stored, new = self._database.write_again(change)
        return self._with_silence(stored), new

    def acknowledge(self, id: int, by: str, why: str, at: int) -> Alert:
        """Say that somebody is looking into it. An alert that is resolved stays so.

        Raises:
            NotFoundError: there is no such alert.
        """
        return self._answer(id, "acknowledged", by, why, at)

    def resolve(self, id: int, by: str, why: str, at: int) -> Alert:
        """Say that it is over; the same thing found later is a new alert.

        Raises:
            NotFoundError: there is no such alert.
        """
        return self._answer(id, "resolved", by, why, at)

    def resolve_key(self, key: str, at: int) -> None:
        """Resolve the alert of a key, if there is one, because what it was about is gone."""
        with self._database.write() as connection:
            known = self._find(connection, self._database.here(alerts, open_key=short(key)))
            if known is not None:
                self._update(connection, _answered(known, "resolved", "headway", "no longer found", at))

    def silence(self, key_prefix: str, until: int, by: str, why: str, at: int) -> None:
        """Keep quiet about alerts whose key is ``key_prefix``, or begins with it and a slash; empty: about all."""
        row = {"key_prefix": _prefix(key_prefix), "until": until, "by": clean(by), "why": clean(why), "at": at}
        with self._database.write() as connection:
            self._database.put(connection, silences, ("key_prefix",), [row])

    def silences(self) -> Silences:
        """Every silence, those that are over too, the one that lasts longest first."""
        columns = [silences.c[name] for name in Silence.__struct_fields__]
        statement = sa.select(*columns).where(self._database.here(silences)).order_by(silences.c.until.desc())
        with self._database.read() as connection:
            return [Silence(*row) for row in connection.execute(statement)]

    def unsilence(self, key_prefix: str) -> None:
        """Take a silence back."""
        with self._database.write() as connection:
            gone = self._database.here(silences, key_prefix=_prefix(key_prefix))
            connection.execute(sa.delete(silences).where(gone))

    def silenced(self, key: str, at: int) -> int | None:
        """Until when nobody is to be told of ``key``; None if they are."""
        until = _silenced(key, self.silences())
        return until if until is not None and until > at else None

    def get(self, id: int) -> Alert | None:
        """One alert."""
        with self._database.read() as connection:
            found = self._find(connection, self._database.here(alerts, id=id))
        return None if found is None else self._with_silence(found)

    def list(
        self,
        *,
        state: Collection[AlertState] = ("open", "acknowledged"),
        model: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Alert]:
        """Alerts of these states, the worst first and of equally bad ones the newest.

        ``before`` is the id of an alert: those that come after it in that order are listed.
        """
        wanted = {} if model is None else {"model": short(model)}
        with self._database.read() as connection:
            after = None if before is None else self._rank(connection, before)
            pages = [self._page(self._database.here(alerts, state=each, **wanted), after, limit) for each in state]
            if not pages:
                return []
            ids = sa.union_all(*(sa.select(page.c.id) for page in pages))
            worst = sa.select(alerts).where(alerts.c.id.in_(ids)).order_by(alerts.c.rank, alerts.c.id.desc())
            found = [_alert(row) for row in connection.execute(worst.limit(limit))]
        quiet = self.silences() if found else []
        return [_quiet(alert, quiet) for alert in found]

    def told(self, id: int, at: int) -> None:
        """Note that a channel has carried the alert, for ``Alert.told_at``."""
        self._change(id, lambda known: msgspec.structs.replace(known, told_at=at))

    def _answer(self, id: int, state: AlertState, by: str, why: str, at: int) -> Alert:
        changed = self._change(
            id, lambda known: known if known.state == "resolved" else _answered(known, state, by, why, at)
        )
        return self._with_silence(changed)

    def _change(self, id: int, change: Callable[[Alert], Alert]) -> Alert:
        with self._database.write() as connection:
            known = self._find(connection, self._database.here(alerts, id=id))
            if known is None:
                raise NotFoundError(f"there is no alert {id}; `headway alerts list` shows those there are")
            return self._update(connection, change(known))

    def _find(self, connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Alert | None:
        """An alert, and until the end of a transaction that writes, nobody else changes it."""
        statement = sa.select(alerts).where(condition)
        if connection.get_execution_options().get("headway_write"):
            statement = statement.with_for_update()
        row = connection.execute(statement).first()
        return None if row is None else _alert(row)

    def _insert(self, connection: sa.Connection, alert: Alert) -> Alert:
        inserted = connection.execute(
            self._database.insert(alerts, **alert_row(alert)).returning(alerts.c.id)
        ).scalar_one()
        return msgspec.structs.replace(alert, id=inserted)

    def _update(self, connection: sa.Connection, alert: Alert) -> Alert:
        connection.execute(sa.update(alerts).where(alerts.c.id == alert.id).values(**alert_row(alert)))
        return alert

    def _rank(self, connection: sa.Connection, id: int) -> tuple[int, int]:
        rank = connection.execute(sa.select(alerts.c.rank).where(self._database.here(alerts, id=id))).scalar()
        return (len(_SEVERITIES), 0) if rank is None else (rank, id)

    def _page(self, condition: sa.ColumnElement[bool], after: tuple[int, int] | None, limit: int) -> sa.Subquery:
        if after is not None:
            rank, id = after
            later = sa.or_(alerts.c.rank > rank, sa.and_(alerts.c.rank == rank, alerts.c.id < id))
            condition = sa.and_(condition, later)
        newest = sa.select(alerts.c.id).where(condition).order_by(alerts.c.rank, alerts.c.id.desc())
        return newest.limit(limit).subquery()

    def _with_silence(self, alert: Alert) -> Alert:
        return _quiet(alert, self.silences())


def _answered(alert: Alert, state: AlertState, by: str, why: str, at: int) -> Alert:
    return msgspec.structs.replace(alert, state=state, by=by, why=why, answered_at=at)


def _quiet(alert: Alert, quiet: Sequence[Silence]) -> Alert:
    return msgspec.structs.replace(alert, silenced_until=_silenced(alert.key, quiet))


def _prefix(key_prefix: str) -> str:
    return short(key_prefix.rstrip("/"))


def _silenced(key: str, quiet: Sequence[Silence]) -> int | None:
    """The end of the longest silence that covers ``key``, be it over or not."""
    covering = (s.until for s in quiet if not s.key_prefix or f"{key}/".startswith(f"{s.key_prefix}/"))
    return max(covering, default=None)


def alert_row(alert: Alert) -> dict[str, Any]:
    """An alert as a row of its table, without its id."""
    return {
        "open_key": None if alert.state == "resolved" else short(alert.key),
        "model": None if alert.model is None else short(alert.model),
        "state": alert.state,
        "rank": _SEVERITIES.index(alert.severity),
        "last_at": alert.last_at,
        "record": as_json(alert),
    }


def _alert(row: sa.Row[Any]) -> Alert:
    return msgspec.structs.replace(msgspec.json.decode(row.record, type=Alert), id=row.id)
