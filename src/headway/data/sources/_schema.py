"""Which columns a source has, and whether they are what its declaration says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import types

from headway.data.engine import plain_type
from headway.data.localtime import INSTANT
from headway.data.sources._columns import Column, common_type
from headway.data.sources._protocol import OWN
from headway.data.sources._text import TYPES, Kind, Kinds, chosen
from headway.define import Source
from headway.errors import BindingError, DataError, suggest


@dataclass(frozen=True, slots=True)
class Target:
    """A column of the source: the type all files are brought to, and what its texts stand for (None: themselves).
    ``instant`` says that texts, local times and dates all become instants: the declared times."""

    name: str
    type: pa.DataType
    kind: Kind | None = None
    instant: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The columns that the lake has of a source already, to which new rows have to fit: columns may be added and types
    widened. With ``whole``, a column that does not come again is refused too."""

    schema: pa.Schema
    whole: bool = False

    def type_of(self, name: str) -> pa.DataType | None:
        return self.schema.field(name).type if name in self.schema.names else None


def unify(
    source: Source,
    scans: Mapping[Path, Sequence[Column]] | Mapping[str, Sequence[Column]],
    held: Held | None = None,
) -> list[Target]:
    """The columns of all files by name, in the order they appear, checked against the declaration and against what the
    lake has already."""
    columns: dict[str, Column] = {}
    first_seen: dict[str, Path | str] = {}
    for path, scanned in scans.items():
        _check_names(source, path, [column.name for column in scanned])
        for column in scanned:
            before = columns.setdefault(column.name, column)
            columns[column.name] = _joined(source, before, column, first_seen.setdefault(column.name, path), path)
    if not columns and held is None:
        raise _data_error(source, f"there is nothing in {', '.join(str(path) for path in list(scans)[:3])}")
    _check_case(source, first_seen)
    _check_declared(source, [*columns, *(held.schema.names if held is not None and not held.whole else ())])
    _check_held(source, columns, held)
    targets = [_target(source, column, first_seen[column.name], held) for column in columns.values()]
    if held is not None:
        targets = _in_order(targets, held)
    _check_types(source, {target.name: target for target in targets})
    return targets


def _joined(source: Source, before: Column, column: Column, first: Path | str, path: Path | str) -> Column:
    both = [kinds for kinds in (before.kinds, column.kinds) if kinds is not None]
    kinds: Kinds | None = frozenset.intersection(*both) if both else None
    common = common_type(before.type, column.type)
    if common is None and column.name in (source.timestamp, source.created):
        common = _common_time(before.type, column.type)
    if common is None:
        raise _data_error(source, f"column {column.name!r} is {column.type} in {path}, but {before.type} in {first}")
    return Column(column.name, common, kinds)


def _common_time(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    return INSTANT if _may_be_time(plain_type(one)) and _may_be_time(plain_type(other)) else None


def _may_be_time(kind: pa.DataType) -> bool:
    return bool(types.is_timestamp(kind) or types.is_date32(kind) or types.is_string(kind))


def _target(source: Source, column: Column, path: Path | str, held: Held | None = None) -> Target:
    before = None if held is None else held.type_of(column.name)
    kind = None if column.kinds is None else _kind(column.kinds, before)
    try:
        found = TYPES[kind] if kind else plain_type(column.type)
    except DataError as error:
        raise _data_error(source, f"column {column.name!r} in {path}: {error}") from None
    if _holds_local_times(found):
        raise _data_error(
            source,
            f"column {column.name!r} in {path} is {found}: times inside of lists and structs need a time zone;"
            " make them columns of their own, or write them with a zone",
        )
    declared = column.name in (source.timestamp, source.created)
    if types.is_timestamp(found) or (declared and types.is_string(found)):
        found, instant = INSTANT, True
    else:
        instant = False
    if before is None or types.is_null(column.type):
        return Target(column.name, found if before is None else before, kind, instant)
    common = common_type(before, found)
    if declared and types.is_date32(found) and types.is_timestamp(before):
        common, instant = INSTANT, True
    if common is None:
        raise _data_error(
            source,
            f"column {column.name!r} is {found} in {path}, but {before} in the lake; headway adds columns and widens"
            f" types, and does nothing else by itself: mend the rows, or start over with `headway ingest {source.name}"
            " --full`",
        )
    return Target(column.name, common, kind, instant)


def _kind(kinds: Kinds, before: pa.DataType | None) -> Kind | None:
    """What texts stand for: what they stood for before, if they still can."""
    if before is None:
        return chosen(kinds)
    if types.is_string(before):
        return None
    known = next((kind for kind, kept in TYPES.items() if kept == before), None)
    return known if known in kinds else chosen(kinds)


def _in_order(targets: Sequence[Target], held: Held) -> list[Target]:
    """The columns of the lake, and new ones after them."""
    found = {target.name: target for target in targets}
    kept = {name: Target(name, held.schema.field(name).type) for name in held.schema.names}
    before = [found.pop(name, kept[name]) for name in held.schema.names]
    return [*before, *found.values()]


def _check_held(source: Source, columns: Mapping[str, Column], held: Held | None) -> None:
    if held is None:
        return
    gone = [name for name in held.schema.names if name not in columns]
    if held.whole and gone:
        raise _data_error(
            source,
            f"column {gone[0]!r} ({held.schema.field(gone[0]).type}) is in the lake, but does not come any more;"
            " headway adds columns and widens types, and does nothing else by itself: bring it back, or start over with"
            f" `headway ingest {source.name} --full`",
        )
    lower = {name.lower(): name for name in held.schema.names}
    for name in columns:
        other = lower.get(name.lower(), name)
        if other != name:
            raise _data_error(
                source,
                f"column {name!r} differs from {other!r} in the lake only in upper and lower case, which SQL does not"
                " tell apart; rename it",
            )


def _holds_local_times(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return any((types.is_timestamp(each) and each.tz is None) or _holds_local_times(each) for each in inner)


def _check_names(source: Source, path: Path | str, names: list[str]) -> None:
    if "" in names:
        raise _data_error(source, f"column {names.index('') + 1} of {path} has no name; give it one")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _data_error(source, f"{path} has several columns called {twice[0]!r}; rename all but one")


def _check_case(source: Source, first_seen: Mapping[str, Path | str]) -> None:
    known: dict[str, str] = {}
    for name, path in first_seen.items():
        if name.lower() in OWN:
            raise _data_error(source, f"column {name!r} in {path} has a name that headway needs itself; rename it")
        other = known.setdefault(name.lower(), name)
        if other != name:
            raise _data_error(
                source,
                f"columns {other!r} in {first_seen[other]} and {name!r} in {path} differ only in upper and"
                " lower case, which SQL does not tell apart; rename one",
            )


def _check_declared(source: Source, names: list[str]) -> None:
    uses = [("id", name) for name in source.id]
    uses += [(use, getattr(source, use)) for use in ("timestamp", "created", "deleted") if getattr(source, use)]
    for use, name in uses:
        if name not in names:
            raise _binding_error(source, f"{use} names the column {name!r}, which is not there; {suggest(name, names)}")


def _check_types(source: Source, targets: Mapping[str, Target]) -> None:
    for use in ("timestamp", "created"):
        name = getattr(source, use)
        if name is not None and not _may_be_time(targets[name].type):
            raise _binding_error(
                source,
                f"{use} {name!r} is {targets[name].type}; it must be a timestamp, a date or ISO text such as"
                " 2024-01-31T12:00:00Z, so convert it where the files are written",
            )
    if source.deleted is not None and not types.is_boolean(targets[source.deleted].type):
        raise _binding_error(
            source, f"deleted {source.deleted!r} is {targets[source.deleted].type}; it must be boolean"
        )


def _data_error(source: Source, message: str) -> DataError:
    return DataError(str(source.refuse(message)))


def _binding_error(source: Source, message: str) -> BindingError:
    return BindingError(str(source.refuse(message)))
