"""A feature view bound to the columns of its source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence

import msgspec

from headway.data.binding._columns import BOOL, CASTS, DOUBLE, INT, find_unknown, key_type, normal, vector_type
from headway.data.binding._events import ID
from headway.data.binding._expressions import Evaluate, bind_expressions
from headway.data.binding._relation import Relation
from headway.data.binding._sql import name
from headway.define import Feature, FeatureView, Source
from headway.define._duration import microseconds
from headway.define._query import expression_columns
from headway.define.records import FeaturePlan, Field, ViewPlan
from headway.errors import BindingError

_FIRST = ("name", "kind", "type", "column", "window", "q")
# What plans have come to hold since, by its default: it must not change the fingerprints of those that do without.
_LATER = {field.name: field.default for field in msgspec.structs.fields(FeaturePlan) if field.name not in _FIRST}
FORMAT = 1  # part of every fingerprint: raise it when the same plan gives other values

Describe = Callable[[str, tuple[str, ...]], tuple[Field, ...]]

_NUMERIC = ("sum", "mean", "std", "quantile")
_RESULTS = {"nunique": INT, "count": INT, "mean": DOUBLE, "std": DOUBLE, "quantile": DOUBLE, "time_since_last": DOUBLE}


def bind_view(
    view: FeatureView,
    rows: Relation,
    columns: Sequence[Field],
    bases: Iterable[Source],
    describe: Describe,
    evaluate: Evaluate,
) -> ViewPlan:
    """The plan of ``view`` over ``rows``, whose user's columns are ``columns``; ``describe`` tells the types of SQL,
    and ``evaluate`` gives what a SELECT of constants gives.

    Raises
    ------
    BindingError
        Names the view, its file and line, the key or feature, and what would be right.
    """
    texts = dict.fromkeys([*view.keys.values(), *(text for f in view.features for _, text in _texts(f))])
    _check_columns(view, columns)
    known = {f.name for f in columns}
    types = _types(view, rows, list(texts), known, describe)
    keys = tuple(Field(key, _key_type(view, key, types[text])) for key, text in view.keys.items())
    values: dict[tuple[str, str], str] = {}  # SQL and how it is cast → column
    plans = {f.name: _feature(view, f, types, known, values) for f in view.features if f.kind != "expr"}
    plans |= bind_expressions(view, plans, evaluate)
    features = tuple(plans[f.name] for f in view.features)
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
    told = {w: v for w, v in msgspec.to_builtins(plan).items() if w not in ("name", "fingerprint", "source")}
    told["features"] = [
        {what: value for what, value in feature.items() if what not in _LATER or value != _LATER[what]}
        for feature in told["features"]
    ]
    decides = {
        "format": FORMAT,
        "plan": told,
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


def _texts(feature: Feature) -> list[tuple[str, str]]:
    """What a feature has of SQL over the source's columns, with what to call it."""
    found = [(_what(feature), feature.column), (f"{_what(feature)}, where", feature.where)]
    return [(what, text) for what, text in found if text is not None]


def _check_columns(view: FeatureView, columns: Sequence[Field]) -> None:
    known = [f.name for f in columns]
    asked = [(f"key {key!r}", text) for key, text in view.keys.items()]
    asked += [each for f in view.features for each in _texts(f)]
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
    view: FeatureView, feature: Feature, types: dict[str, str], known: set[str], values: dict[tuple[str, str], str]
) -> FeaturePlan:
    window, offset = _length(feature.window), _length(feature.offset) or 0
    condition = _condition(view, feature, types, known)
    if feature.column is None:
        column = None
        if condition is not None:
            column = _column(values, f"case when {condition} then true end", CASTS[BOOL])
        kind, result = feature.kind, _RESULTS[feature.kind]
        return FeaturePlan(feature.name, kind, result, column, window, offset=offset)  # type: ignore[arg-type]
    sql = _written(feature.column, known)
    if condition is not None:
        sql = f"case when {condition} then {sql} end"
    if feature.kind == "vector":
        item = _item(view, feature, types[feature.column])
        column = _column(values, sql, f"{CASTS[item]}[]")
        return FeaturePlan(feature.name, "row", f"fixed_size_list<item: {item}>[{feature.n}]", column, n=feature.n)
    kind = _value_type(view, feature, types[feature.column])
    column = _column(values, sql, CASTS[kind])
    result = _RESULTS.get(feature.kind, kind)
    if feature.kind == "last_n":
        result = f"fixed_size_list<item: {kind}>[{feature.n}]"
    return FeaturePlan(feature.name, feature.kind, result, column, window, feature.q, offset, feature.n)  # type: ignore[arg-type]


def _column(values: dict[tuple[str, str], str], sql: str, cast: str) -> str:
    return values.setdefault((sql, cast), f"__c{len(values)}")


def _condition(view: FeatureView, feature: Feature, types: dict[str, str], known: set[str]) -> str | None:
    if feature.where is None:
        return None
    if types[feature.where] != BOOL:
        raise _error(
            view,
            f"{_what(feature)}: where is a condition, true or false, and {feature.where!r} is"
            f" {types[feature.where]}; compare it with something",
        )
    return _written(feature.where, known)


def _value_type(view: FeatureView, feature: Feature, given: str) -> str:
    """The type that the values of a feature's column are kept in."""
    kind = normal(given)
    if kind is None:
        lists = ", or hw.vector for a list of numbers" if "list<" in given else ""
        raise _error(
            view,
            f"{_what(feature)}: {feature.column!r} is {given}; features are numbers, text, booleans, dates and"
            f" timestamps, so take a part of it or cast it{lists}",
        )
    if feature.kind in ("sum", "mean") and kind == BOOL:
        kind = INT
    if feature.kind in _NUMERIC and kind not in (INT, DOUBLE):
        raise _error(view, f"{_what(feature)}: {feature.column!r} is {given}, and {feature.kind} is of numbers")
    return kind


def _item(view: FeatureView, feature: Feature, given: str) -> str:
    """The type of a vector's numbers."""
    found = vector_type(given)
    if found is None:
        raise _error(view, f"{_what(feature)}: {feature.column!r} is {given}, and a vector is a list of numbers")
    item, dim = found
    if dim is not None and dim != feature.n:
        raise _error(view, f"{_what(feature)}: {feature.column!r} has {dim} dimensions, not {feature.n}")
    return item


def _sql(
    view: FeatureView, rows: Relation, keys: Sequence[Field], values: dict[tuple[str, str], str], known: set[str]
) -> str:
    """The events: keys, headway's columns, ids for ties, and one column for each value; no row that nobody can see."""
    listed = [f"cast({_written(view.keys[k.name], known)} as {CASTS[k.type]}) as {name(k.name)}" for k in keys]
    listed += [name(hidden) for hidden in rows.hidden]
    listed += [f"{name(c)} as {name(f'{ID}{n}')}" for n, c in enumerate(view.source.id)]
    listed += [f"cast({sql} as {cast}) as {name(c)}" for (sql, cast), c in values.items()]
    with_key = " and ".join(f"{name(k.name)} is not null" for k in keys)
    inner = f"select {', '.join(listed)} from ({rows.sql}) as {name(view.source.name)}"
    return f"select * from ({inner}) where {rows.standing} and {with_key}"
