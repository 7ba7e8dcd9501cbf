"""Which columns a source has, and whether they are what its declaration says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import types

from headway.data.engine import plain_type
from headway.data.sources._columns import Column, common_type
from headway.data.sources._text import TYPES, Kind, Kinds, chosen
from headway.data.sources._time import INSTANT
from headway.define import Source
from headway.errors import BindingError, DataError, suggest

EVENT, KNOWN, SEQ = "__event", "__known", "__seq"
_RESERVED = (EVENT, KNOWN, SEQ)


@dataclass(frozen=True, slots=True)
class Target:
    """A column of the source: the type all files are brought to, and what its texts stand for (None: themselves).
    ``instant`` says that texts, local times and dates all become instants: the declared times."""

    name: str
    type: pa.DataType
    kind: Kind | None = None
    instant: bool = False


def unify(source: Source, scans: Mapping[Path, Sequence[Column]]) -> list[Target]:
    """The columns of all files by name, in the order they appear, checked against the declaration."""
    columns: dict[str, Column] = {}
    first_seen: dict[str, Path] = {}
    for path, scanned in scans.items():
        _check_names(source, path, [column.name for column in scanned])
        for column in scanned:
            before = columns.setdefault(column.name, column)
            columns[column.name] = _joined(source, before, column, first_seen.setdefault(column.name, path), path)
    if not columns:
        raise _data_error(source, f"there is nothing in {', '.join(str(path) for path in list(scans)[:3])}")
    _check_case(source, first_seen)
    _check_declared(source, list(columns))
    targets = [_target(source, column, first_seen[column.name]) for column in columns.values()]
    _check_types(source, {target.name: target for target in targets})
    return targets


def _joined(source: Source, before: Column, column: Column, first: Path, path: Path) -> Column:
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


def _target(source: Source, column: Column, path: Path) -> Target:
    kind = None if column.kinds is None else chosen(column.kinds)
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
        return Target(column.name, INSTANT, kind, instant=True)
    return Target(column.name, found, kind)


def _holds_local_times(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return any((types.is_timestamp(each) and each.tz is None) or _holds_local_times(each) for each in inner)


def _check_names(source: Source, path: Path, names: list[str]) -> None:
    if "" in names:
        raise _data_error(source, f"column {names.index('') + 1} of {path} has no name; give it one")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _data_error(source, f"{path} has several columns called {twice[0]!r}; rename all but one")


def _check_case(source: Source, first_seen: Mapping[str, Path]) -> None:
    known: dict[str, str] = {}
    for name, path in first_seen.items():
        if name.lower() in _RESERVED:
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
