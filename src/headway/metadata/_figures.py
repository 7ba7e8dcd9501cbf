"""Figures of monitoring, window by window."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import msgspec
import sqlalchemy as sa

from headway.define.watch_records import Figure, FigureKind
from headway.metadata._database import Database, as_json, short
from headway.metadata._tables import figure_windows, figures


@dataclass(frozen=True, slots=True)
class Figures:
    """What monitoring found. Monitoring a window again replaces what it found before."""

    _database: Database

    def put(self, figures: Sequence[Figure], at: int) -> None:
        """Store figures in one transaction; each replaces that of the same model, version, segment, kind, name and
        window."""
        rows = {_identity(figure): _row(figure, at) for figure in figures}
        with self._database.write() as connection:
            self._put(connection, list(rows.values()))
            for model, window_end in dict.fromkeys((row["model"], row["window_end"]) for row in rows.values()):
                self._sum_up(connection, model, window_end)

    def windows(
        self,
        model: str,
        *,
        kind: FigureKind | None = None,
        name: str | None = None,
        segment: str | EllipsisType | None = ...,
        since: int | None = None,
        limit: int = 5000,
    ) -> list[Figure]:
        """Figures of a model, oldest window first: the newest ``limit`` of those whose window ends after ``since``.

        ``segment`` None asks for figures of all segments taken together, ``...`` for those and of each.
        """
        wanted = {"kind": kind, "name": None if name is None else short(name)}
        condition = self._here(model, **{column: value for column, value in wanted.items() if value is not None})
        if segment is not ...:
            condition = sa.and_(condition, figures.c.segment == (None if segment is None else short(segment)))
        if since is not None:
            condition = sa.and_(condition, figures.c.window_end > since)
        statement = sa.select(figures.c.record).where(condition)
        newest = statement.order_by(figures.c.window_end.desc(), figures.c.id.desc()).limit(limit)
        return self._figures(newest)[::-1]

    def latest(self, model: str) -> list[Figure]:
        """The figures of the model's newest window."""
        end = sa.select(sa.func.max(figures.c.window_end)).where(self._here(model)).scalar_subquery()
        condition = sa.and_(self._here(model), figures.c.window_end == end)
        return self._figures(sa.select(figures.c.record).where(condition).order_by(figures.c.id))

    def models(self) -> dict[str, tuple[int, int]]:
        """Each model that has figures → the end of its newest window, and how many alarms there are in it."""
        return {model: (end, alarms) for model, (end, alarms) in self._newest_windows().items()}

    def alarms(self) -> dict[str, dict[str | None, int]]:
        """For each model with alarms in its newest window: segment → how many. None stands for figures of all
        segments taken together."""
        newest: dict[int, list[str]] = {}
        for model, (end, alarms) in self._newest_windows().items():
            if alarms:
                newest.setdefault(end, []).append(model)
        if not newest:
            return {}
        windows = (sa.and_(figures.c.model.in_(models), figures.c.window_end == end) for end, models in newest.items())
        condition = sa.and_(self._database.here(figures), sa.or_(*windows), figures.c.alarm)
        columns = figures.c.model, figures.c.segment
        statement = sa.select(*columns, sa.func.count()).where(condition).group_by(*columns)
        found: dict[str, dict[str | None, int]] = {}
        with self._database.read() as connection:
            for model, segment, count in connection.execute(statement):
                found.setdefault(model, {})[segment] = count
        return found

    def _newest_windows(self) -> dict[str, tuple[int, int]]:
        here = self._database.here(figure_windows)
        newest = sa.select(figure_windows.c.model, sa.func.max(figure_windows.c.window_end).label("end")).where(here)
        last = newest.group_by(figure_windows.c.model).subquery()
        columns = figure_windows.c.model, figure_windows.c.window_end, figure_windows.c.alarms
        same = sa.and_(figure_windows.c.model == last.c.model, figure_windows.c.window_end == last.c.end)
        statement = sa.select(*columns).join(last, same).where(here).order_by(figure_windows.c.model)
        with self._database.read() as connection:
            return {model: (end, alarms) for model, end, alarms in connection.execute(statement)}

    def _here(self, model: str, **values: Any) -> sa.ColumnElement[bool]:
        return self._database.here(figures, model=short(model), **values)

    def _put(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        self._database.put(connection, figures, ("model", "series", "window_end", "window_start"), rows)

    def _sum_up(self, connection: sa.Connection, model: str, window_end: int) -> None:
        condition = sa.and_(self._here(model, window_end=window_end), figures.c.alarm)
        alarms = connection.execute(sa.select(sa.func.count()).select_from(figures).where(condition)).scalar_one()
        row = {"model": model, "window_end": window_end, "alarms": alarms}
        self._database.put(connection, figure_windows, ("model", "window_end"), [row])

    def _figures(self, statement: sa.Select[Any]) -> list[Figure]:
        with self._database.read() as connection:
            found = connection.execute(statement).scalars().all()
        return [msgspec.json.decode(text, type=Figure) for text in found]


def _identity(figure: Figure) -> tuple[Any, ...]:
    return (
        figure.model,
        figure.version,
        figure.segment,
        figure.kind,
        figure.name,
        figure.window_start,
        figure.window_end,
    )


def _row(figure: Figure, at: int) -> dict[str, Any]:
    series = as_json((figure.version, figure.segment, figure.kind, figure.name))
    return {
        "model": short(figure.model),
        "series": hashlib.blake2b(series.encode(), digest_size=16).hexdigest(),
        "segment": None if figure.segment is None else short(figure.segment),
        "kind": figure.kind,
        "name": short(figure.name),
        "window_start": figure.window_start,
        "window_end": figure.window_end,
        "alarm": figure.alarm,
        "at": at,
        "record": as_json(figure),
    }
