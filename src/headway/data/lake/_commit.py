"""Making a data file a version of its table.

delta-rs leaves flushing to the operating system, and would commit before the data are on the disk. So files are
written and flushed by us, and delta-rs is given the commit only. Writers of a table take turns: delta-rs lets an
overwrite and an append that do not know of each other both succeed, as one version after the other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, TableFeatures
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction, Transaction, create_table_with_add_actions

from headway.data.lake._durable import sync_file
from headway.data.lake._log import LOG, NOTE, commit_file, read_note, versions
from headway.data.lake._protocol import Mode, Note, Once
from headway.errors import DataError, StoreBusy

_RETRIES = 10
_CHECKPOINT_EVERY = 50
# Versions are what models are reproduced from: nothing expires by itself.
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false", "delta.logRetentionDuration": "interval 36500 days"}
# A hook that fails would make a commit that is done look like one that is not; checkpoints are made apart from it.
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does: files that come, files that go (by their names in the log), and what is said of it.

    With ``same`` the rows are those there were, in other files.
    """

    mode: Mode
    schema: pa.Schema
    adds: Sequence[AddAction]
    note: Note
    removes: Sequence[str]
    once: Once
    same: bool = False


def load(folder: Path, version: int | None = None) -> DeltaTable:
    """The table in ``folder``, with its log read."""
    return DeltaTable(str(folder), version=version)


def settle(folder: Path, file: BinaryIO, rows: int, part: str = "", *, new: bool = True) -> list[AddAction]:
    """Move a staged file, once it is on the disk, to where a commit can name it. No rows, no file."""
    if not rows:
        return []
    file.flush()
    os.fsync(file.fileno())
    staged = Path(file.name)
    path = folder / f"{_prefix(part)}{staged.name}"
    staged.rename(path)
    sync_file(folder)
    facts = path.stat()
    return [
        AddAction(
            path=path.name,
            size=facts.st_size,
            partition_values={},
            modification_time=facts.st_mtime_ns // 1_000_000,
            data_change=new,
            stats=json.dumps({"numRecords": rows}),
        )
    ]


def files_of(folder: Path, part: str) -> list[str]:
    """The files of the newest version that hold a part, as the log names them."""
    if not part or not versions(folder):
        return []
    names = adds(load(folder))["path"].to_pylist()
    return [name for name in names if unquote(name).startswith(_prefix(part))]


def adds(table: DeltaTable) -> pa.Table:
    """The files of a version: ``path``, ``size_bytes``, ``modification_time``, ``num_records``."""
    return pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()  # pa.table imports pandas


def _prefix(part: str) -> str:
    return f"part-{part}-" if part else "part-"


def commit(folder: Path, change: Change) -> int:
    """Make a change a version, have it on the disk, and return its number. The caller holds the table's lock.

    Raises ``StoreBusy`` if somebody else wrote what ``once`` speaks of.
    """
    try:
        _refuse_twice(folder, change.once)
        _retry(folder, change)
    except BaseException:
        _discard(folder, change.adds)
        raise
    version = versions(folder)[-1]
    sync_file(commit_file(folder, version))
    sync_file(folder / LOG)
    sync_file(folder)
    return version


def _refuse_twice(folder: Path, once: Once) -> None:
    table = load(folder) if once and versions(folder) else None
    for writer, (before, _) in once.items():
        found = None if table is None else table.transaction_version(writer)
        if found != before:
            raise StoreBusy(f"rows of {writer!r} are in the table up to {found}, not up to {before}; try again")


def _retry(folder: Path, change: Change) -> None:
    for attempt in range(_RETRIES):
        try:
            _transact(folder, change)
            return
        except CommitFailedError:  # a writer that does not know our lock was faster
            if attempt == _RETRIES - 1 or change.once or change.removes:
                raise


def _discard(folder: Path, adds: Sequence[AddAction]) -> None:
    """Remove the files of a commit that failed; one that was interrupted may have been done all the same."""
    found = versions(folder)
    newest = commit_file(folder, found[-1]).read_text("utf-8") if found else ""
    for add in adds:
        if add.path not in newest:
            (folder / add.path).unlink(missing_ok=True)


def _transact(folder: Path, change: Change) -> None:
    _remove_empty_files(folder)
    properties = CommitProperties(
        custom_metadata={NOTE: json.dumps(dict(change.note))},
        app_transactions=[Transaction(writer, after) for writer, (_, after) in change.once.items()],
    )
    if versions(folder):
        table = _prepare(folder, change.mode, change.schema)
        gone = [RemoveAction(name, not change.same, _now(change)) for name in change.removes]
        table.create_write_transaction(
            [*change.adds, *gone],
            change.mode,
            Schema.from_arrow(change.schema),
            partition_by=[],
            commit_properties=properties,
            post_commithook_properties=_NO_HOOKS,
        )
        return
    create_table_with_add_actions(
        str(folder),
        Schema.from_arrow(change.schema),
        [*change.adds],
        mode="error",
        partition_by=[],
        configuration=_CONFIGURATION,
        commit_properties=properties,
        post_commithook_properties=_NO_HOOKS,
    )


def _now(change: Change) -> int:
    """When files went: when those in their place were written, in milliseconds."""
    return max((add.modification_time for add in change.adds), default=0)


def _prepare(folder: Path, mode: Mode, schema: pa.Schema) -> DeltaTable:
    """The table, with everything in place that a commit of rows does not bring along itself."""
    table = load(folder)
    _checkpoint(folder, table)
    # delta-rs would commit naive timestamps without the feature, and then no longer be able to open the table.
    if _is_naive(schema) and "timestampNtz" not in (table.protocol().writer_features or []):
        table.alter.add_feature(
            [TableFeatures.TimestampWithoutTimezone],
            allow_protocol_versions_increase=True,
            commit_properties=_as_noted(folder),
        )
        table = load(folder)
    if mode == "append" and _add_columns(folder, table, schema):
        table = load(folder)
    return table


def _as_noted(folder: Path) -> CommitProperties:
    """For a version with the rows of the one before: the note it has."""
    return CommitProperties(custom_metadata={NOTE: json.dumps(read_note(folder, versions(folder)[-1]))})


def _add_columns(folder: Path, table: DeltaTable, schema: pa.Schema) -> bool:
    current = pa.schema(table.schema().to_arrow())
    for field in schema:
        if field.name in current.names and current.field(field.name).type != field.type:
            raise StoreBusy(f"the type of column {field.name!r} has changed while rows were being appended; try again")
    added = [field for field in schema if field.name not in current.names]
    lower = {name.lower() for name in current.names}
    clash = sorted(field.name for field in added if field.name.lower() in lower)
    if clash:
        raise DataError(f"columns {clash} differ from those of the table only in upper and lower case")
    if added:
        table.alter.add_columns(Schema.from_arrow(pa.schema(added)).fields, commit_properties=_as_noted(folder))
    return bool(added)


def _is_naive(schema: pa.Schema) -> bool:
    return any(pa.types.is_timestamp(leaf) and leaf.tz is None for leaf in _leaves(schema))


def _leaves(schema: pa.Schema) -> Iterator[pa.DataType]:
    waiting = [field.type for field in schema]
    while waiting:
        kind = waiting.pop()
        inner = [kind.field(index).type for index in range(kind.num_fields)]
        waiting += inner
        if not inner:
            yield kind


def _checkpoint(folder: Path, table: DeltaTable) -> None:
    """Sum up the log now and then, so that opening the table does not take ever longer."""
    version = table.version()
    summary = folder / LOG / f"{version:020d}.checkpoint.parquet"
    if version % _CHECKPOINT_EVERY or not version or summary.exists():
        return
    table.create_checkpoint()
    sync_file(summary)
    sync_file(folder / LOG / "_last_checkpoint")


def _remove_empty_files(folder: Path) -> None:
    """Take away what a power cut left of a commit that was never confirmed."""
    for path in (folder / LOG).glob("*"):
        if path.is_file() and not path.stat().st_size:
            path.unlink()
