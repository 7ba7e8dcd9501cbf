"""What a query source reads, and whether it works row by row.

A query may filter, compute and join (DESIGN §3.3): a single ``SELECT … FROM … JOIN … WHERE`` over names of sources.
Everything that looks at other rows, at the clock or at chance is refused, because its value for a past moment could
depend on what came later.

    first in FROM       the driver: one row in gives at most one row out
    JOIN, LEFT JOIN     of a timeless source
    SEMI, ANTI JOIN     of a timeless source
    ASOF [LEFT] JOIN    of a source that changes over time, on equalities and its timestamp:
                        ``asof join prices p on t.zone = p.zone and t.pickup_at >= p.valid_from``;
                        ``>`` is as good and takes strictly earlier rows; ``using (zone, day)`` puts the timestamp last

The text itself is never rewritten from the syntax tree (sqlglot's rendering changes the meaning of some operators,
such as ``~``): ``Query`` says where in the text names and stars stand, and binding edits it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from headway.define._base import Declaration
from headway.define._functions import AGGREGATES, ROW_MULTIPLYING, VOLATILE
from headway.define._source import Source
from headway.errors import DefinitionError, suggest

if TYPE_CHECKING:
    from sqlglot import Token, exp

Refuse = Callable[[str], DefinitionError]

_CLAUSES = {
    "with": "it has a CTE; declare that as another hw.Source and name it in FROM",
    "distinct": "DISTINCT compares rows with each other; with id= rows of one id are versions of one fact",
    "group": "GROUP BY adds up rows; a query works row by row, so aggregate in a FeatureView",
    "having": "HAVING looks at groups of rows; a query works row by row, so aggregate in a FeatureView",
    "windows": "WINDOW looks at other rows; windows belong in a FeatureView",
    "qualify": "QUALIFY looks at other rows; a query filters row by row, with WHERE",
    "order": "ORDER BY has no meaning here, because rows have no order; leave it out",
    "limit": "LIMIT keeps rows by the order they happen to be in; filter with WHERE",
    "offset": "OFFSET skips rows by the order they happen to be in; filter with WHERE",
    "sample": "a sample is another one each time; filter with WHERE, e.g. on a hash of the id",
    "laterals": "a LATERAL join makes several rows of one; declare that as another hw.Source",
    "pivots": "PIVOT adds up rows; aggregate in a FeatureView",
}
_TABLE_CLAUSES = {
    "pivots": _CLAUSES["pivots"],
    "sample": _CLAUSES["sample"],
    "joins": "put joins one after the other, without parentheses",
    "when": "AT (VERSION …) is not supported; a source is read as it is in the lake",
    "version": "AT (VERSION …) is not supported; a source is read as it is in the lake",
}
_ONLY = "a query is a single SELECT … FROM … JOIN … WHERE over names of sources"


@dataclass(frozen=True, slots=True)
class Input:
    """One name in FROM or JOIN. ``keys`` and ``timestamp`` are the columns an ASOF JOIN is on."""

    source: str
    alias: str
    kind: Literal["driver", "join", "filter", "asof"]
    span: tuple[int, int]  # characters of the name with its alias in the text
    keys: tuple[str, ...] = ()
    timestamp: str | None = None


@dataclass(frozen=True, slots=True)
class Star:
    """A star of the select list. To keep columns out of it, put ``before``, their names and ``after`` at ``at``."""

    alias: str | None  # None: a bare star
    at: int
    before: str
    after: str
    close_at: int | None = None  # a closing parenthesis goes here


@dataclass(frozen=True, slots=True)
class Query:
    """The parts of a query's text that binding edits; further columns go at ``select_end``. What follows the last word,
    a semicolon or comment, is left out of ``text``."""

    text: str
    inputs: tuple[Input, ...]
    stars: tuple[Star, ...]
    select_end: int

    @property
    def driver(self) -> Input:
        return self.inputs[0]


def inputs(source: Source) -> tuple[str, ...]:
    """The names a query source reads, the driver first, each once; none for a source of files."""
    if source.query is None:
        return ()
    return tuple(dict.fromkeys(i.source for i in read(source).inputs))


def lineage(source: Source, others: Mapping[str, Source]) -> tuple[str, ...]:
    """Everything a source reads, directly or through others, each name once, without its own.

    Raises
    ------
    DefinitionError
        A name nobody declares, or a query that reads itself.
    """
    found: dict[str, None] = {}

    def visit(at: Source, trail: tuple[str, ...]) -> None:
        for name in inputs(at):
            if name in trail:
                raise at.refuse(f"its query reads itself: {' → '.join((*trail[trail.index(name) :], name))}")
            if name not in others:
                raise at.refuse(f"its query reads {name!r}, which is no source; {suggest(name, others)}")
            visit(others[name], (*trail, name))
            found[name] = None

    visit(source, (source.name,))
    return tuple(found)


def check_row_local(source: Source, others: Mapping[str, Source]) -> None:
    """Refuse a query that could leak (see the module); ``others`` are all sources by name.

    Raises
    ------
    DefinitionError
        One sentence that names the source, its file and line, and what would be right.
    """
    if source.query is None:
        return
    lineage(source, others)
    query = read(source)
    driver = others[query.driver.source]
    if source.timeless and not driver.timeless:
        raise source.refuse(
            f"it has no timestamp, but {driver.name!r}, which it reads, changes over time; give it timestamp="
        )
    for joined in query.inputs[1:]:
        _check_join(source, joined, others[joined.source], driver)


def _check_join(source: Source, joined: Input, other: Source, driver: Source) -> None:
    name = joined.source
    if other.timeless:
        if joined.kind == "asof":
            raise source.refuse(f"ASOF JOIN {name}: {name!r} has no timestamp; a plain JOIN will do")
        return
    if driver.timeless:
        raise source.refuse(
            f"{name!r} changes over time and {driver.name!r} does not; put {name} first, in FROM, and join"
            f" {driver.name} to it"
        )
    if joined.kind == "filter":
        raise source.refuse(
            f"a SEMI or ANTI JOIN with {name!r} asks whether a row will ever exist, and it changes over time; only a"
            " timeless source can filter"
        )
    example = f"asof join {name} on … and {driver.name}.{driver.timestamp} >= {name}.{other.timestamp}"
    if joined.kind != "asof":
        raise source.refuse(f"{name!r} changes over time, so a plain JOIN would see what came later; write {example}")
    if joined.timestamp != other.timestamp:
        raise source.refuse(
            f"ASOF JOIN {name}: its inequality is on {joined.timestamp!r}, and the timestamp of {name!r} is"
            f" {other.timestamp!r}; write {example}"
        )
    if other.id and set(other.id) <= set(joined.keys):
        raise source.refuse(
            f"ASOF JOIN {name}: {name!r} has id {', '.join(other.id)}, so its rows are versions of one fact, of"
            f" which only the latest counts; for a history by"
            f" {other.timestamp!r} leave the id out, or add the timestamp to it"
        )


@lru_cache(maxsize=512)
def _parse(text: str) -> list[exp.Expr | None]:
    import sqlglot

    return list(sqlglot.parse(text, dialect="duckdb"))


def _statement(text: str, refuse: Refuse) -> exp.Expr:
    from sqlglot.errors import SqlglotError

    try:
        found = [s for s in _parse(text) if s is not None]
    except SqlglotError as error:
        raise refuse(f"its SQL cannot be read: {_where(error)}") from None
    if len(found) != 1:
        raise refuse(f"{_ONLY}, got {len(found)} statements")
    return found[0]


def _where(error: Exception) -> str:
    details = getattr(error, "errors", None)
    if details:
        first = details[0]
        return f"{first['description'].rstrip('.')} in line {first['line']}, near {first['highlight']!r}"
    return str(error).splitlines()[0]


def read(source: Source) -> Query:
    """A query source's text, taken apart; all of the row-local rule that needs no other source is checked."""
    if source.query is None:
        raise source.refuse("it has no query")
    try:
        return _read(source.query)
    except DefinitionError as error:
        raise source.refuse(str(error)) from None


@lru_cache(maxsize=512)
def _read(text: str) -> Query:
    from sqlglot import exp

    refuse = DefinitionError
    select = _statement(text, refuse)
    if isinstance(select, exp.SetOperation):
        raise refuse(f"{select.key.upper()} puts rows of several queries together; declare several sources")
    if not isinstance(select, exp.Select):
        raise refuse(f"{_ONLY}, got {select.key.upper()}")
    _check_clauses(select, _CLAUSES, {"expressions", "from", "joins", "where"}, refuse)
    for projection in select.expressions:
        _check_projection(projection, refuse)
    start = select.args.get("from_")
    if start is None:
        raise refuse(f"{_ONLY}; it reads no source")
    joins = select.args.get("joins") or []
    found = [_input(start.this, "driver", refuse), *(_joined(join, refuse) for join in joins)]
    aliases = [i.alias.lower() for i in found]
    for alias in aliases:
        if aliases.count(alias) > 1:
            raise refuse(f"two inputs are called {alias!r}; give them different aliases")
    for what in (*select.expressions, select.args.get("where"), *(j.args.get("on") for j in joins)):
        if what is not None:
            _check_scalar(what, refuse, frozenset(aliases))
    return _positions(text, select, tuple(found), refuse)


def _check_clauses(node: exp.Expr, reasons: Mapping[str, str], allowed: set[str], refuse: Refuse) -> None:
    for name, value in node.args.items():
        clause = name.rstrip("_")
        if value and clause not in allowed:
            raise refuse(reasons.get(clause) or f"{_ONLY}; {clause.replace('_', ' ').upper()} is not part of it")


def _check_projection(projection: exp.Expr, refuse: Refuse) -> None:
    from sqlglot import exp

    named = isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star)
    if named and projection.args.get("db"):
        raise refuse(f"{projection.sql('duckdb')} takes a struct apart; name its fields")
    if not named and not isinstance(projection, exp.Star) and next(projection.find_all(exp.Star), None):
        inside = next(projection.find_all(exp.Count), None)
        if inside is None:
            raise refuse(f"{projection.sql('duckdb')} picks columns by a pattern; name them, or use * and EXCLUDE")


def _input(table: exp.Expr, kind: Literal["driver", "join", "filter", "asof"], refuse: Refuse) -> Input:
    from sqlglot import exp

    if isinstance(table, exp.TableSample):
        raise refuse(_CLAUSES["sample"])
    if isinstance(table, exp.Subquery | exp.Select | exp.Paren):
        raise refuse("it has a subquery; declare that as another hw.Source and name it in FROM")
    if isinstance(table, exp.Lateral | exp.Unnest):
        raise refuse(_CLAUSES["laterals"])
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise refuse(f"FROM takes names of sources, got {table.sql('duckdb')}; declare an hw.Source and name that")
    name = table.this.name
    if table.args.get("db") or "." in name or "/" in name or "*" in name:
        raise refuse(f"FROM takes names of sources, got {table.sql('duckdb')}; declare an hw.Source(path=…) for files")
    _check_clauses(table, _TABLE_CLAUSES, {"this", "alias"}, refuse)
    alias = table.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise refuse(f"{table.sql('duckdb')} gives columns other names; do that in SELECT")
    last = table.this if alias is None else alias.this
    return Input(name, last.name, kind, (table.this.meta["start"], last.meta["end"] + 1))


def _joined(join: exp.Join, refuse: Refuse) -> Input:
    method, side, kind = ((join.args.get(what) or "").upper() for what in ("method", "side", "kind"))
    filters = kind in ("SEMI", "ANTI")
    found = _input(join.this, "asof" if method == "ASOF" else "filter" if filters else "join", refuse)
    if method not in ("", "ASOF"):
        raise refuse(f"{method} JOIN {found.source}: say what the rows have in common, with ON or USING")
    if side in ("RIGHT", "FULL"):
        raise refuse(f"{side} JOIN {found.source} makes rows that no row of FROM stands behind; use LEFT JOIN")
    if kind == "CROSS" or not (join.args.get("on") or join.args.get("using")):
        raise refuse(
            f"a join of {found.source} without ON or USING makes several rows of one; say what they have in common"
        )
    if method == "ASOF":
        if filters:
            raise refuse(f"ASOF {kind} JOIN {found.source}: use ASOF JOIN, or ASOF LEFT JOIN")
        return _asof(join, found, refuse)
    return found


def _asof(join: exp.Join, found: Input, refuse: Refuse) -> Input:
    """The columns an ASOF JOIN is on: equalities of columns of the joined source, and one inequality."""
    from sqlglot import exp

    if using := join.args.get("using"):
        names = [column.name for column in using]
        return _with_columns(found, names[:-1], names[-1])
    rule = f"ASOF JOIN {found.source} is on equalities and one inequality, such as t.at >= {found.alias}.valid_from"
    keys: list[str] = []
    moments: list[str] = []
    for condition in join.args["on"].flatten() if isinstance(join.args["on"], exp.And) else [join.args["on"]]:
        condition = condition.unnest()
        if not isinstance(condition, exp.EQ | exp.GTE | exp.GT | exp.LTE | exp.LT):
            raise refuse(f"{rule}; got {condition.sql('duckdb')}")
        left, right = condition.this, condition.expression
        if isinstance(condition, exp.LTE | exp.LT) or (isinstance(condition, exp.EQ) and _is_of(left, found.alias)):
            left, right = right, left
        if not _is_of(right, found.alias) or any(_may_be_of(c, found.alias) for c in left.find_all(exp.Column)):
            raise refuse(
                f"{rule}, with an alias before every column; the joined source's own column stands on the smaller side,"
                f" got {condition.sql('duckdb')}"
            )
        (keys if isinstance(condition, exp.EQ) else moments).append(right.name)
    if len(moments) != 1:
        raise refuse(f"{rule}; got {len(moments)} inequalities")
    return _with_columns(found, keys, moments[0])


def _with_columns(found: Input, keys: list[str], timestamp: str) -> Input:
    return Input(found.source, found.alias, found.kind, found.span, tuple(keys), timestamp)


def _is_of(node: exp.Expr, alias: str) -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Column) and node.table.lower() == alias.lower() and not node.args.get("db")


def _may_be_of(column: exp.Column, alias: str) -> bool:
    return column.table.lower() in ("", alias.lower())


def _names(node: exp.Expr) -> set[str]:
    """What a function is called, in lower case; a keyword such as CURRENT_DATE is a function too."""
    from sqlglot import exp

    if isinstance(node, exp.Anonymous):
        return {node.name.lower()}
    if isinstance(node, exp.Column) and not node.table and not node.this.args.get("quoted"):
        return {node.name.lower()} & {"current_role", "localtime"}
    if isinstance(node, exp.Func):
        return {name.lower() for name in node.sql_names()}
    return set()


def _check_scalar(expression: exp.Expr, refuse: Refuse, aliases: frozenset[str] = frozenset()) -> None:
    """Refuse what does not depend on one row alone."""
    from sqlglot import exp

    for node in expression.walk():
        text = node.sql("duckdb")
        names = _names(node)
        if isinstance(node, exp.Query | exp.Exists):
            raise refuse(f"it has a subquery, {text}; declare that as another hw.Source and join it")
        if isinstance(node, exp.Window):
            raise refuse(f"{text} looks at other rows; windows belong in a FeatureView")
        if isinstance(node, exp.AggFunc | exp.Filter | exp.WithinGroup) or names & AGGREGATES:
            raise refuse(f"{text} adds up rows; aggregates belong in a FeatureView, such as hw.sum('x', window='1d')")
        if isinstance(node, exp.Explode | exp.Unnest) or names & ROW_MULTIPLYING:
            raise refuse(f"{text} makes several rows of one; store them as rows and declare a source of those")
        if names & VOLATILE or (names & {"age"} and len(node.expressions) == 1):
            raise refuse(
                f"{text} gives another value each time, so the past cannot be computed again; use the row's own columns"
            )
        if isinstance(node, exp.Placeholder | exp.Parameter):
            raise refuse(f"{text} is a parameter, which nobody fills in; write the value")
        if isinstance(node, exp.Columns):
            raise refuse(f"{text} picks columns by a pattern; name them, or use * and EXCLUDE")
        if isinstance(node, exp.Identifier) and node.name.startswith("__"):
            raise refuse(f"{node.name!r} begins with two underscores, as only headway's own columns do")
        if isinstance(node, exp.Column) and not node.table and node.name.lower() in aliases:
            raise refuse(f"{text} stands for a whole row; put the alias before the column you mean")


def _positions(text: str, select: exp.Select, found: tuple[Input, ...], refuse: Refuse) -> Query:
    from sqlglot import TokenType, exp, tokenize

    tokens = list(tokenize(text, dialect="duckdb"))
    if not tokens or tokens[0].token_type != TokenType.SELECT:
        raise refuse("write SELECT before FROM")
    at = next(n for n, token in enumerate(tokens) if token.start == found[0].span[0])
    at = max(n for n in range(at) if tokens[n].token_type == TokenType.FROM)
    names = [
        None if isinstance(p, exp.Star) else p.table
        for p in select.expressions
        if isinstance(p, exp.Star) or (isinstance(p, exp.Column) and isinstance(p.this, exp.Star))
    ]
    stars = list(_star_tokens(tokens[:at]))
    if len(stars) != len(names):
        raise refuse("its stars cannot be told from products; put products in parentheses")
    spots = tuple(_star(tokens, n, name) for n, name in zip(stars, names, strict=True))
    end = tokens[at - 1]
    last = next(token for token in reversed(tokens) if token.token_type != TokenType.SEMICOLON)
    return Query(text[: last.end + 1], found, spots, end.start if end.token_type == TokenType.COMMA else end.end + 1)


def _star_tokens(tokens: list[Token]) -> Iterator[int]:
    """Positions of the stars that stand for columns: not inside parentheses, with no factor before them."""
    from sqlglot import TokenType

    depth = 0
    for n, token in enumerate(tokens):
        if token.token_type in (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE):
            depth += 1
        elif token.token_type in (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE):
            depth -= 1
        elif token.token_type == TokenType.STAR and depth == 0:
            before = tokens[n - 1].token_type
            if before in (TokenType.SELECT, TokenType.COMMA, TokenType.DOT):
                yield n


def _star(tokens: list[Token], n: int, alias: str | None) -> Star:
    from sqlglot import TokenType

    following = tokens[n + 1] if n + 1 < len(tokens) else None
    if following is None or following.text.upper() != "EXCLUDE":
        return Star(alias, tokens[n].end + 1, " exclude (", ")")
    first = tokens[n + 2]
    if first.token_type == TokenType.L_PAREN:
        return Star(alias, first.end + 1, "", ", ")
    last = n + 2
    while tokens[last + 1].token_type == TokenType.DOT:
        last += 2
    return Star(alias, first.start, "(", ", ", tokens[last].end + 1)


def check_expression(text: str, owner: Declaration, what: str = "expression") -> tuple[str, ...]:
    """Check a feature's or a check's scalar SQL expression over one row, and return the columns it names.

    Names are as written (``t.a`` for a qualified one). Aggregates, windows, subqueries, and functions of the clock or
    of chance are refused.

    Raises
    ------
    DefinitionError
        One sentence that names the owner, its file and line, and the expression.
    """
    return expression_columns(text, lambda message: owner.refuse(f"{what} {text!r}: {message}"))


def expression_columns(text: str, refuse: Refuse) -> tuple[str, ...]:
    """``check_expression`` for whoever words refusals otherwise."""
    try:
        return _columns_of(text)
    except DefinitionError as error:
        raise refuse(str(error)) from None


@lru_cache(maxsize=4096)
def _columns_of(text: str) -> tuple[str, ...]:
    from sqlglot import exp

    refuse = DefinitionError
    select = _statement(f"select {text}", refuse)
    others = [name for name, value in select.args.items() if value and name != "expressions"]
    if not isinstance(select, exp.Select) or others or len(select.expressions) != 1:
        raise refuse("write a single expression over the columns of one row")
    (found,) = select.expressions
    if isinstance(found, exp.Alias | exp.Star) or (next(found.find_all(exp.Star), None) and not _counts(found)):
        raise refuse("write a single expression over the columns of one row, without a name or a star")
    _check_scalar(found, refuse)
    bound = {i.name.lower() for node in found.find_all(exp.Lambda, exp.Comprehension) for i in _parameters(node)}
    columns = (c for c in found.find_all(exp.Column) if (c.parts[0].name.lower() not in bound))
    return tuple(dict.fromkeys(".".join(part.name for part in c.parts) for c in columns))


def _counts(node: exp.Expr) -> bool:
    from sqlglot import exp

    return next(node.find_all(exp.AggFunc), None) is not None


def _parameters(node: exp.Expr) -> Iterator[exp.Expr]:
    from sqlglot import exp

    if isinstance(node, exp.Comprehension):
        yield from (i for i in [node.args.get("expression")] if i is not None)
    else:
        yield from (e for e in node.expressions if isinstance(e, exp.Identifier))


def copies(source: Source, column: str) -> bool:
    """Whether an output column is the driver's column of that name, unchanged; False where the text does not say."""
    from sqlglot import exp

    select = _statement(source.query or "", source.refuse)
    query = read(source)
    driver = query.driver.alias.lower()
    explicit = [p for p in select.expressions if p.alias_or_name.lower() == column.lower()]
    if not explicit:
        plain = [s for s in select.find_all(exp.Star) if not s.args.get("replace") and not s.args.get("rename")]
        return len(plain) == len(query.stars) and any((s.alias or driver).lower() == driver for s in query.stars)
    (*_, found) = [p.this if isinstance(p, exp.Alias) else p for p in explicit]
    owners = {driver} if len(query.inputs) > 1 else {driver, ""}
    return isinstance(found, exp.Column) and found.name.lower() == column.lower() and found.table.lower() in owners


def origins(source: Source, column: str, others: Mapping[str, Source]) -> frozenset[str]:
    """The sources, its own included, whose columns a column of ``source`` may be computed from.

    Where the text does not say which input a column comes from, all are named.
    """
    if source.query is None:
        return frozenset({source.name})
    select = _statement(source.query, source.refuse)
    aliases = {i.alias.lower(): i.source for i in read(source).inputs}
    found = {source.name}
    for table, name in _sources_of(select, column):
        for inner in [aliases[table]] if table in aliases else dict.fromkeys(aliases.values()):
            if inner in others and inner != source.name:
                found |= origins(others[inner], name, others)
    return frozenset(found)


def _sources_of(select: exp.Expr, column: str) -> Iterator[tuple[str, str]]:
    """Alias (empty: unknown) and column of everything that an output column is computed from."""
    from sqlglot import exp

    explicit = [p for p in select.expressions if p.alias_or_name.lower() == column.lower()]
    for projection in explicit:
        yield from ((c.table.lower(), c.name) for c in projection.find_all(exp.Column))
    if explicit:
        return
    for projection in select.expressions:
        if isinstance(projection, exp.Star):
            yield "", column
        elif isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star):
            yield projection.table.lower(), column


def column_origins(
    source: Source, column: str, others: Mapping[str, Source], has: Callable[[Source, str], bool]
) -> frozenset[tuple[str, str]]:
    """The columns of sources without a query, as (source, column), that a column of ``source`` may be computed from.

    ``has`` says whether a source has a column; it decides where the text does not say which input one comes from.
    """
    if source.query is None:
        return frozenset({(source.name, column)})
    found: set[tuple[str, str]] = set()
    for candidates, name in _inner_columns(source.query, column):
        for inner in candidates:
            if inner in others and has(others[inner], name):
                found |= column_origins(others[inner], name, others, has)
    return frozenset(found)


@lru_cache(maxsize=4096)
def _inner_columns(text: str, column: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Of everything that an output column is computed from: the inputs that may have it, and its name there."""
    select = _statement(text, DefinitionError)
    aliases = {i.alias.lower(): i.source for i in _read(text).inputs}
    everything = tuple(dict.fromkeys(aliases.values()))
    return tuple(
        ((aliases[table],) if table in aliases else everything, name) for table, name in _sources_of(select, column)
    )
