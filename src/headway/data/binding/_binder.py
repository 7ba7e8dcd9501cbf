"""Declarations bound to the data they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa

from headway.data.binding._sql import HIDDEN, failing, quoted, source_sql, table_of
from headway.data.engine import Engine
from headway.data.lake import Lake
from headway.define import Feature, FeatureView, Source, ViewSelection
from headway.define._duration import microseconds
from headway.define._query import check_expression, check_row_local, lineage
from headway.define.records import FeaturePlan, Field, ViewPlan, ViewUse
from headway.errors import BindingError, DataError, suggest

FORMAT = 1  # part of every fingerprint: raise it when the same plan would give other values

_WHOLE = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
_CASTS = {"int64": "bigint", "double": "double", "string": "varchar", "bool": "boolean", "date32[day]": "date"}
_CASTS["timestamp[us, tz=UTC]"] = "timestamptz"
_KEYS = ("int64", "string", "bool", "date32[day]", "timestamp[us, tz=UTC]")


def normal_type(given: str) -> str | None:
    """The Arrow type that values of a type are carried in; None if features cannot have it."""
    if given in _WHOLE:
        return "int64"
    if given in ("float", "halffloat", "double") or given.startswith("decimal"):
        return "double"
    if given in ("string", "large_string", "string_view"):
        return "string"
    if given.startswith("timestamp"):
        return "timestamp[us, tz=UTC]"
    return given if given in ("bool", "date32[day]") else "date32[day]" if given == "date64[ms]" else None


class Binder:
    """Sources and views as SQL, types and plans. Ask ``forget`` after the lake has changed.

    Sources that are not of the project may be passed anywhere: a notebook may bind a view it has just made.
    """

    def __init__(self, sources: Mapping[str, Source], lake: Lake, engine: Engine) -> None:
        self._sources, self._lake, self._engine = dict(sources), lake, engine
        self._columns: dict[int, tuple[Field, ...]] = {}
        self._plans: dict[int, tuple[FeatureView, ViewPlan]] = {}
        self._newest: dict[int, int | None] = {}
        self._kept: list[Source] = []  # ids of objects are keys above: they must live as long

    def forget(self) -> None:
        """Drop what was learned from the data."""
        self._columns.clear()
        self._plans.clear()
        self._newest.clear()

    def inputs(self, source: Source) -> tuple[str, ...]:
        """Every source that a source reads, directly or not."""
        return lineage(source, self._known(source))

    def base_sources(self, source: Source) -> tuple[str, ...]:
        """Every source that a source is made of, itself not included."""
        return self.inputs(source)

    def tables(self, source: Source) -> tuple[str, ...]:
        """The lake tables that a source reads."""
        known = self._known(source)
        return tuple(table_of(known[n]) for n in (*self.inputs(source), source.name) if known[n].path is not None)

    def version(self, source: Source) -> int:
        """A number that grows with the data of a source."""
        return sum(1 + (self._lake.version(table) or 0) for table in self.tables(source))

    def sql(self, source: Source, *, checked: bool = True) -> str:
        """A SELECT of a source's columns with ``__event``, ``__known``, ``__until`` and ``__seq``.

        ``checked`` False keeps the rows that its own checks set aside.
        """
        known = self._known(source)
        check_row_local(source, known)
        return source_sql(source, known, checked=checked)

    def columns(self, source: Source) -> tuple[Field, ...]:
        """A source's own columns with their types."""
        if id(source) not in self._columns:
            self._kept.append(source)
            try:
                found = self._engine.describe(self.sql(source, checked=False), self.files(source))
            except BindingError as error:
                raise BindingError(f"source {source.name!r} ({source.place}): {error}") from None
            self._columns[id(source)] = tuple(f for f in found if f.name not in HIDDEN)
            self._check_declared(source)
        return self._columns[id(source)]

    def _check_declared(self, source: Source) -> None:
        names = [f.name for f in self._columns[id(source)]]
        for what in ("timestamp", "created", "deleted"):
            name = getattr(source, what)
            if name is not None and name not in names:
                raise BindingError(f"{source.refuse(f'{what} {name!r} is none of its columns; {suggest(name, names)}')}")
        for name in source.id:
            if name not in names:
                raise BindingError(f"{source.refuse(f'id {name!r} is none of its columns; {suggest(name, names)}')}")
        for check in source.checks:
            for name in check.columns:
                if name not in names:
                    raise BindingError(
                        f"check {check} of source {source.name!r} ({check.place}): no column is called {name!r};"
                        f" {suggest(name, names)}"
                    )
            if check.kind == "expr":
                check_expression(check.args[0], source, "the check")
                self._described(source, failing(check), f"check {check} of source {source.name!r} ({check.place})")

    def view(self, view: FeatureView) -> ViewPlan:
        """A view with types, SQL and fingerprint.

        Raises
        ------
        BindingError
            A column is not there, or of a type that does not fit; names the view, the feature and its place.
        """
        if id(view) not in self._plans:
            self._plans[id(view)] = (view, self._plan(view))
        return self._plans[id(view)][1]

    def use(self, selection: ViewSelection) -> ViewUse:
        """A selection of a view, bound."""
        return ViewUse(selection.prefix, self.view(selection.view), dict(selection.keys), selection.features)

    def current_rows(self, source: Source, now: int) -> pa.Table:
        """A source's rows as they are known at ``now``, hidden columns included; all rows of a timeless source."""
        sql = self.sql(source)
        if source.timestamp is not None:
            at = f"make_timestamptz({now})"
            sql = f"select * from ({sql}) where __known <= {at} and (__until is null or __until > {at})"
        return self._engine.query(f"select * exclude (__until) from ({sql})", self.files(source))

    def newest_known(self, source: Source) -> int | None:
        """When the last row of a source became known; None for a timeless or an empty one."""
        if source.timestamp is None:
            return None
        if id(source) not in self._newest:
            self._kept.append(source)
            sql = f"select epoch_us(max(__known)) as newest from ({self.sql(source, checked=False)})"
            self._newest[id(source)] = self._engine.query(sql, self.files(source)).column(0)[0].as_py()
        return self._newest[id(source)]

    def newest(self) -> int | None:
        """When the last row of any source became known."""
        ready = [s for s in self._sources.values() if all(self._lake.version(t) is not None for t in self.tables(s))]
        return max((n for s in ready if (n := self.newest_known(s)) is not None), default=None)

    def files(self, source: Source) -> dict[str, list[str]]:
        """Lake table → files, for every table a source reads."""
        found = {}
        for table in self.tables(source):
            if self._lake.version(table) is None:
                raise DataError(f"source {source.name!r} reads {table!r}, which is not in the lake yet; `headway run` copies it")
            found[table] = self._lake.files(table)
        return found

    def _known(self, source: Source) -> dict[str, Source]:
        return {**self._sources, source.name: source}

    def _plan(self, view: FeatureView) -> ViewPlan:
        self.columns(view.source)
        keys = tuple(self._key(view, name) for name in view.entity.key)
        expressions = list(dict.fromkeys(f.column for f in view.features if f.column is not None))
        types = {e: self._value_type(view, e) for e in expressions}
        columns = {e: f"c{i}" for i, e in enumerate(expressions)}
        parts = [f"({view.keys[k.name]})::{_CASTS[k.type]} as {quoted(k.name)}" for k in keys]
        parts += ["__event", "__known", "__until", "__seq"]
        parts += [f"{quoted(name)} as __id{i}" for i, name in enumerate(view.source.id)]
        parts += [f"({e})::{_CASTS[types[e]]} as {columns[e]}" for e in expressions]
        sql = f"select {', '.join(parts)} from ({self.sql(view.source)})"
        features = tuple(self._feature(view, f, types, columns) for f in view.features)
        plan = ViewPlan(
            name=view.name,
            fingerprint="",
            source=view.source.name,
            tables=self.tables(view.source),
            sql=sql,
            keys=keys,
            features=features,
            refresh=None if view.refresh is None else microseconds(view.refresh),
            lag=0 if view.lag is None else microseconds(view.lag),
            ttl=None if view.ttl is None else microseconds(view.ttl),
            effective=view.source.effective,
            timeless=view.source.timestamp is None,
        )
        return msgspec.structs.replace(plan, fingerprint=self._fingerprint(view, plan))

    def _fingerprint(self, view: FeatureView, plan: ViewPlan) -> str:
        """A digest of everything that decides a value, the way the files are read included."""
        known = self._known(view.source)
        read = {
            name: [getattr(known[name], a) for a in ("timezone", "id", "timestamp", "created", "delay", "deleted")]
            for name in (*self.inputs(view.source), view.source.name)
        }
        told = json.dumps([FORMAT, msgspec.to_builtins(plan), read], sort_keys=True)
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()

    def _key(self, view: FeatureView, name: str) -> Field:
        expression = view.keys[name]
        where = f"{view.kind} {view.name!r} ({view.place}): key {name!r}"
        check_expression(expression, view, "key")
        given = self._described(view.source, expression, where)
        normal = normal_type(given)
        if normal not in _KEYS:
            raise BindingError(f"{where} is of type {given}; a key is a whole number, text, bool, date or timestamp")
        return Field(name, normal)

    def _value_type(self, view: FeatureView, expression: str) -> str:
        users = ", ".join(repr(f.name) for f in view.features if f.column == expression)
        where = f"{view.kind} {view.name!r} ({view.place}): feature {users}"
        check_expression(expression, view, f"feature {users}:")
        given = self._described(view.source, expression, where)
        normal = normal_type(given)
        if normal is None:
            raise BindingError(f"{where} is of type {given}, which no feature can have; convert it in the expression")
        return normal

    def _described(self, source: Source, expression: str, where: str) -> str:
        names = [f.name for f in self._columns.get(id(source), ())]
        try:
            sql = f"select ({expression}) as x from ({self.sql(source, checked=False)})"
            return self._engine.describe(sql, self.files(source))[0].type
        except BindingError as error:
            unknown = expression.strip().strip('"')
            if unknown.isidentifier() and unknown not in names:
                raise BindingError(
                    f"{where}: source {source.name!r} has no column {unknown!r}; {suggest(unknown, names)}"
                ) from None
            raise BindingError(f"{where}: {error}") from None

    def _feature(
        self, view: FeatureView, feature: Feature, types: Mapping[str, str], columns: Mapping[str, str]
    ) -> FeaturePlan:
        kind: Any = feature.kind
        window = None if feature.window is None else microseconds(feature.window)
        if feature.column is None:
            return FeaturePlan(feature.name, kind, "int64", None, window)
        given = types[feature.column]
        if kind in ("sum", "mean", "std", "quantile") and given not in ("int64", "double", "bool"):
            raise BindingError(
                f"{view.kind} {view.name!r} ({view.place}): feature {feature.name!r} is the {kind} of {feature.column!r},"
                f" which is {given}; it needs numbers"
            )
        result = given
        if kind == "nunique":
            result = "int64"
        elif kind in ("mean", "std", "quantile"):
            result = "double"
        elif kind == "sum" and given == "bool":
            result = "int64"
        return FeaturePlan(feature.name, kind, result, columns[feature.column], window, feature.q)
