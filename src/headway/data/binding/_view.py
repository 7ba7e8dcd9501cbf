"""A feature view bound to the columns of its source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence

import msgspec

from headway.data.binding._columns import BOOL, CASTS, DOUBLE, INT, find_unknown, key_type, normal
from headway.data.binding._events import ID
from headway.data.binding._relation import Relation
from headway.data.binding._sql import name
from headway.define import Feature, FeatureView, Source
from headway.define._duration import microseconds
from headway.define._query import expression_columns
from headway.define.records import FeaturePlan, Field, ViewPlan
from headway.errors import BindingError

FORMAT = 1  # part of every fingerprint: raise it when the same plan gives other values

Describe = Callable[[str, tuple[str, ...]], tuple[Field, ...]]

_NUMERIC = ("sum", "mean", "std", "quantile")


def bind_view(
    view: FeatureView, rows: Relation, columns: Sequence[Field], bases: Iterable[Source], describe: Describe
) -> ViewPlan:
    """The plan of ``view`` over ``rows``, whose user's columns are ``columns``; ``describe`` tells the types of SQL.

    Raises
    ------
    BindingError
        Names the view, its file and line, the key or feature, and what would be right.
    """
    texts = dict.fromkeys([*view.keys.values(), *(f.column for f in view.features if f.column is not None)])
    _check_columns(view, columns)
    known = {f.name for f in columns}
    types = _types(view, rows, list(texts), known, describe)
    keys = tuple(Field(key, _key_type(view, key, types[text])) for key, text in view.keys.items())
    values: dict[tuple[str, str], str] = {}  # expression and type it is kept in → column
    features = tuple(_feature(view, f, types, values) for f in view.features)
    sql = _sql(view, rows, keys, values, known)
    plan = ViewPlan(
        name=view.name,
        fingerprint="",
        source=view.source.name,
        tables=rows.tables,
        sql=sql,
        keys=keys,
        features=features,
        refresh=_length(view.refresh),
        lag=_length(view.lag) or 0,
        ttl=_length(view.ttl),
        effective=view.source.effective,
        timeless=view.source.timeless,
    )
    return msgspec.structs.replace(plan, fingerprint=fingerprint(plan, bases))


def fingerprint(plan: ViewPlan, bases: Iterable[Source]) -> str:
    """32 hex digits of everything that decides a value: not the view's name or owner, nor where files lie."""
    decides = {
        "format": FORMAT,
        "plan": {
            what: value
            for what, value in msgspec.to_builtins(plan).items()
            if what not in ("name", "fingerprint", "source")
        },
        "read": {
            base.name: [base.timezone, base.id, base.timestamp, base.created, base.delay_us, base.deleted]
            for base in bases
        },
    }
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _length(text: str | None) -> int | None:
    return None if text is None else microseconds(text)


def _error(view: FeatureView, message: str) -> BindingError:
    return BindingError(str(view.refuse(message)))


def _what(feature: Feature) -> str:
    return f"feature {feature.name!r}" + ("" if feature.kind == "row" else f", {feature.kind}")


def _check_columns(view: FeatureView, columns: Sequence[Field]) -> None:
    known = [f.name for f in columns]
    asked = [(f"key {key!r}", text) for key, text in view.keys.items()]
    asked += [(_what(f), f.column) for f in view.features if f.column is not None]
    for what, text in asked:
        if text in known:
            continue

        def refuse(message: str, what: str = what, text: str = text) -> BindingError:
            return _error(view, f"{what} ({text}): {message}")

        missing = find_unknown(expression_columns(text, refuse), view.source.name, known)
        if missing is not None:
            raise _error(view, f"{what}: in source {view.source.name!r} {missing}")


def _written(text: str, columns: Iterable[str]) -> str:
    """An expression as SQL; a column's name as it is, whatever characters it has."""
    return name(text) if text in columns else f"(\n{text}\n)"


def _types(view: FeatureView, rows: Relation, texts: list[str], known: set[str], describe: Describe) -> dict[str, str]:
    """The Arrow type of every expression."""

    def look(some: list[str]) -> list[str]:
        listed = ", ".join(f"{_written(text, known)} as {name(f'__x{n}')}" for n, text in enumerate(some))
        found = describe(f"select {listed} from ({rows.sql}) as {name(view.source.name)}", rows.tables)
        return [field.type for field in found]

    try:
        return dict(zip(texts, look(texts), strict=True))
    except BindingError:
        for text in texts:
            try:
                look([text])
            except BindingError as error:
                raise _error(view, f"{text!r} does not fit source {view.source.name!r}: {error}") from None
        raise


def _key_type(view: FeatureView, key: str, kind: str) -> str:
    found = key_type(kind)
    if found is None:
        raise _error(
            view, f"key {key!r} is {kind}, and keys are whole numbers, text, booleans, dates or timestamps; cast it"
        )
    return found


def _feature(
    view: FeatureView, feature: Feature, types: dict[str, str], values: dict[tuple[str, str], str]
) -> FeaturePlan:
    window = _length(feature.window)
    if feature.column is None:
        return FeaturePlan(feature.name, "count", INT, None, window)
    kind = normal(types[feature.column])
    if kind is None:
        raise _error(
            view,
            f"{_what(feature)}: {feature.column!r} is {types[feature.column]}; features are numbers, text, booleans,"
            " dates and timestamps, so take a part of it or cast it",
        )
    if feature.kind in ("sum", "mean") and kind == BOOL:
        kind = INT
    if feature.kind in _NUMERIC and kind not in (INT, DOUBLE):
        raise _error(
            view, f"{_what(feature)}: {feature.column!r} is {types[feature.column]}, and {feature.kind} is of numbers"
        )
    column = values.setdefault((feature.column, kind), f"__c{len(values)}")
    result = {"nunique": INT, "mean": DOUBLE, "std": DOUBLE, "quantile": DOUBLE}.get(feature.kind, kind)
    return FeaturePlan(feature.name, feature.kind, result, column, window, feature.q)  # type: ignore[arg-type]


def _sql(
    view: FeatureView, rows: Relation, keys: Sequence[Field], values: dict[tuple[str, str], str], known: set[str]
) -> str:
    """The events: keys, headway's columns, ids for ties, and one column for each value; no row that nobody can see."""
    listed = [f"cast({_written(view.keys[k.name], known)} as {CASTS[k.type]}) as {name(k.name)}" for k in keys]
    listed += [name(hidden) for hidden in rows.hidden]
    listed += [f"{name(c)} as {name(f'{ID}{n}')}" for n, c in enumerate(view.source.id)]
    listed += [f"cast({_written(text, known)} as {CASTS[kind]}) as {name(c)}" for (text, kind), c in values.items()]
    with_key = " and ".join(f"{name(k.name)} is not null" for k in keys)
    inner = f"select {', '.join(listed)} from ({rows.sql}) as {name(view.source.name)}"
    return f"select * from ({inner}) where {rows.standing} and {with_key}"
