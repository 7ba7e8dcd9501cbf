"""Declarations bound to the data they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from headway.data.binding._columns import duplicate, is_temporal
from headway.data.binding._conditions import quarantined, verify
from headway.data.binding._events import in_order_of_arrival, refuse_multiplied
from headway.data.binding._relation import Relation, relation
from headway.data.binding._sql import EVENT, KNOWN, SEQ, UNTIL, instant, name
from headway.data.binding._view import bind_view
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.define import FeatureView, Source, ViewSelection
from headway.define._query import check_row_local, inputs, lineage
from headway.define.records import Field, ViewPlan, ViewUse
from headway.errors import BindingError, DataError, suggest


class Binder:
    """Turns sources and views into SQL over the lake, and checks them against the columns there are.

    ``sources`` are those a query may name. A source or view handed in need not be among them: a notebook may bring its
    own. What was found out about the data is kept until a lake table has another version; ``forget`` drops it.
    """

    def __init__(self, sources: Mapping[str, Source], lake: Lake, engine: Engine) -> None:
        self._sources, self._lake, self._engine = sources, lake, engine
        self._kept: dict[tuple[Any, ...], Any] = {}

    def sql(self, source: Source) -> str:
        """A SELECT over lake tables named ``source/…``, without the rows that the source's checks set aside.

        It has the user's columns, ``__event``, ``__known``, ``__seq`` (timeless: ``__seq`` only) and, where rows are
        versions, ``__until``. Reads no data.
        """
        return self.relation(source).sql

    def tables(self, source: Source) -> tuple[str, ...]:
        """The lake tables behind a source, the driver's first."""
        return self.relation(source).tables

    def inputs(self, source: Source) -> tuple[str, ...]:
        """The sources a query names; none for a source of files."""
        return inputs(source)

    def base_sources(self, source: Source) -> tuple[str, ...]:
        """Every source that a source is made of, directly or through others; not itself."""
        return lineage(source, self._sources)

    def version(self, source: Source) -> int:
        """A number that grows whenever the data behind the source changes."""
        return sum(version + 1 for version in self._versions(self.tables(source)).values())

    def columns(self, source: Source) -> tuple[Field, ...]:
        """The user's columns and their Arrow types.

        Raises
        ------
        BindingError
            The query does not fit its sources, or a declared column is not there or of the wrong type.
        DataError
            A table behind it is not in the lake.
        """
        versions = self._versions(self.tables(source))
        found: tuple[Field, ...] = self._keep(("columns", source, *versions.items()), lambda: self._bind(source))
        return found

    def view(self, view: FeatureView) -> ViewPlan:
        """The view's plan; its columns and expressions checked against the data.

        Raises
        ------
        BindingError
            A key or feature names a column that is not there, or is of a type it cannot be.
        """
        columns = self.columns(view.source)
        versions = self._versions(self.tables(view.source))
        behind = [view.source, *(self._sources[name] for name in self.base_sources(view.source))]
        bases = [source for source in behind if source.query is None]
        found: ViewPlan = self._keep(
            ("view", view, *versions.items()),
            lambda: bind_view(
                view, self.relation(view.source), columns, bases, self._describe, lambda sql: self._query(sql, ())
            ),
        )
        return found

    def use(self, selection: ViewSelection) -> ViewUse:
        """A view as a model or request function uses it."""
        return ViewUse(selection.prefix, self.view(selection.view), dict(selection.keys), selection.features)

    def current_rows(self, source: Source, now: int, *, between: tuple[int, int] | None = None) -> pa.Table:
        """The rows of a source as they are known at ``now``, in the order of arrival: of each fact the one version
        visible then. With ``between``, those whose event time lies from the one instant on and before the other.

        The user's columns, ``__event``, ``__known`` and ``__seq``. Rows of a timeless source were known from 1970 on.

        Raises
        ------
        DataError
            A join of the query gives several rows for one.
        """
        self.columns(source)
        made = self.relation(source)
        if made.changes:
            until = f" and ({name(UNTIL)} is null or {name(UNTIL)} > {instant(now)})" if made.versioned else ""
            hide = f" exclude ({name(UNTIL)})" if made.versioned else ""
            sql = f"select *{hide} from ({made.sql}) where {made.standing} and {name(KNOWN)} <= {instant(now)}{until}"
            if between is not None:
                sql += f" and {name(EVENT)} >= {instant(between[0])} and {name(EVENT)} < {instant(between[1])}"
        else:
            sql = f"select *, {instant(0)} as {name(EVENT)}, {instant(0)} as {name(KNOWN)} from ({made.sql})"
        table = self._query(sql, made.tables)
        refuse_multiplied(
            table.column(SEQ), f"source {source.name!r} ({source.place})", made.tables, table.drop_columns(SEQ)
        )
        return in_order_of_arrival(table)

    def newest(self) -> int | None:
        """The moment of the newest change of any source; None if there is none."""
        found = [self.newest_known(source) for source in self._sources.values()]
        return max((moment for moment in found if moment is not None), default=None)

    def newest_known(self, source: Source) -> int | None:
        """The moment of the newest change of a source: a row became known, or ended. None for a timeless source, one
        without such rows, and one that is not in the lake yet."""
        made = self.relation(source)
        if not made.changes or any(self._lake.version(table) is None for table in made.tables):
            return None
        moment = f"greatest({name(KNOWN)}, {name(UNTIL)})" if made.versioned else name(KNOWN)
        sql = f"select epoch_us(max({moment})) as known from ({made.sql}) where {made.standing}"
        versions = self._versions(made.tables)
        found: int | None = self._keep(
            ("newest", source, *versions.items()), lambda: self._query(sql, made.tables).column("known")[0].as_py()
        )
        return found

    def forget(self) -> None:
        """Drop what was found out about the data."""
        self._kept.clear()

    def relation(self, source: Source, *, checked: bool = True) -> Relation:
        """The source as SQL, with the facts about it that checks need; without ``checked``, rows that its own checks
        would set aside are there too."""

        def make() -> Relation:
            check_row_local(source, self._sources)
            return relation(source, self._sources, checked=checked)

        made: Relation = self._keep(("relation", source, checked), make)
        return made

    def _bind(self, source: Source) -> tuple[Field, ...]:
        """Check a source, and those it reads, against the lake."""
        for inner in inputs(source):
            self.columns(self._sources[inner])
        made = self.relation(source, checked=False)
        try:
            # Not `describe`: it gives the second of two columns of one name another.
            schema = self._query(f"{made.select}\nlimit 0", made.tables).schema
        except BindingError as error:
            raise BindingError(str(source.refuse(f"its query does not fit the data: {error}"))) from None
        again = duplicate(schema.names)
        if again is not None:
            raise _refused(source, f"two columns of its query are called {again!r}; leave one out with EXCLUDE")
        fields = tuple(Field(f.name, str(f.type)) for f in schema if not f.name.startswith("__"))
        _check_declared(source, {f.name: f.type for f in fields})
        for check in quarantined(source):
            verify(source, check, fields)
        return fields

    def _versions(self, tables: tuple[str, ...]) -> dict[str, int]:
        found = {}
        for table in tables:
            version = self._lake.version(table)
            if version is None:
                raise DataError(f"{table!r} is not in the lake yet; `headway run` copies it")
            found[table] = version
        return found

    def _keep(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _describe(self, sql: str, tables: tuple[str, ...]) -> tuple[Field, ...]:
        return self._engine.describe(sql, self._files(tables))

    def _query(self, sql: str, tables: tuple[str, ...]) -> pa.Table:
        return self._engine.query(sql, self._files(tables))

    def _files(self, tables: tuple[str, ...]) -> dict[str, list[str]]:
        versions = self._versions(tables)
        return {
            table: self._keep(("files", table, version), partial(self._lake.files, table, version))
            for table, version in versions.items()
        }


def _check_declared(source: Source, types: Mapping[str, str]) -> None:
    """The columns a source declares are there, and of types that will do."""
    temporal = [("timestamp", source.timestamp), ("created", source.created)]
    for what, column in [*temporal, ("deleted", source.deleted), *(("id", c) for c in source.id)]:
        if column is None:
            continue
        if column not in types:
            raise _refused(source, f"{what}: there is no column {column!r}; {suggest(column, types)}")
        if what in ("timestamp", "created") and not is_temporal(types[column]):
            raise _refused(source, f"{what}: {column!r} is {types[column]}, which is no time; cast it")
        if what == "deleted" and types[column] != "bool":
            raise _refused(source, f"deleted: {column!r} is {types[column]}; it must be true or false")


def _refused(source: Source, message: str) -> BindingError:
    return BindingError(str(source.refuse(message)))
