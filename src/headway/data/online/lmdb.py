"""The online store on LMDB: one directory, no server, read by any number of processes while one writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import unquote

import lmdb

from headway.data.online._protocol import PREFIX_BYTES, STAMP_BYTES, kept_key
from headway.errors import SettingsError, StoreBusy, StoreError, UsageError
from headway.plugins import maturity

T = TypeVar("T")

_MAP_SIZE = 256 << 20  # of address space, not of disk; it doubles when the data outgrows it
_READERS = 1024
_LONGEST = 511  # LMDB's limit for a key
_CUT = _LONGEST - 32
_ROWS_PER_COMMIT = 16_384
_NO_ROOM = 1 << 20
_OWNER = "owner"
_AFTER_ALL = b"\xff" * (STAMP_BYTES + 1)  # greater than any stamp


@maturity("stable")
def open_store(url: str, *, readonly: bool = False, namespace: str = "") -> LmdbStore:
    """The store in the directory that ``url`` names: ``lmdb:///var/lib/online``, or ``lmdb:online`` below the cwd.

    A directory belongs to one environment of one project, ``namespace``: the first that writes there.

    A store opened with ``readonly`` may be there before its directory is: it answers as an empty one until somebody
    has written, and sees what is written later.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme != "lmdb" or not rest.strip("/"):
        raise SettingsError(f"{url!r} names no LMDB directory; write it as 'lmdb:///path/to/directory'")
    path = Path(unquote(rest.removeprefix("//")))
    _check_owner(path, namespace, claim=not readonly)
    return LmdbStore(path, readonly=readonly)


def _check_owner(path: Path, namespace: str, *, claim: bool) -> None:
    """Refuse a directory that another environment has written to; with ``claim``, it is this one's from now on."""
    file = path / _OWNER
    try:
        if claim and namespace and not file.exists():
            path.mkdir(parents=True, exist_ok=True)
            mine = path / f".{_OWNER}-{os.getpid()}-{threading.get_ident()}"
            mine.write_text(namespace)
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(mine)
            mine.unlink()
        owner = file.read_text() if file.exists() else namespace
    except OSError as error:
        raise StoreError(f"the online store's directory {path} cannot be used: {error.strerror}") from error
    if namespace and owner != namespace:
        raise SettingsError(
            f"the online store at {path} belongs to {owner!r}, and this is {namespace!r}; every environment has a"
            " directory of its own: name another one, or remove this one and materialize again"
        )


class LmdbStore:
    """An ``OnlineStore`` in one LMDB directory. ``map_size`` is where the memory map starts, in bytes.

    Every commit is synchronous. ``get_many`` reads one snapshot. Keys of 511 bytes and more are stored as their first
    479 bytes and a 32-byte digest, so that a stored key of 511 bytes is always such a one.
    """

    longest_key = _LONGEST

    def __init__(self, path: str | os.PathLike[str], *, readonly: bool = False, map_size: int = _MAP_SIZE) -> None:
        self._readonly = readonly
        self._environment: _Environment | None = _acquire(Path(path).resolve(), map_size)
        try:
            if readonly:
                self._environment.check_readable()
            else:
                self._environment.check_writable()
        except BaseException:
            self.close()
            raise

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        if max(map(len, keys)) >= _LONGEST:
            keys = [_stored_key(key) for key in keys]
        return self._open.read(partial(_get_all, keys=keys), [None] * len(keys))

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> int:
        environment = self._open_for_writing
        remaining = iter(rows)
        written = 0
        while batch := _next_batch(remaining):
            written += environment.write(partial(_put_guarded, rows=batch))
        return written

    def delete_older(self, prefix: bytes, stamp: bytes) -> int:
        return self._delete(prefix, stamp)

    def drop(self, prefix: bytes) -> int:
        return self._delete(prefix, _AFTER_ALL)

    def prefixes(self) -> list[bytes]:
        return self._open.read(_list_prefixes, [])

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        after: bytes | None = None
        nothing: list[bytes] = []
        while keys := self._open.read(partial(_list_keys, prefix=prefix, after=after), nothing):
            yield keys
            after = keys[-1]

    def count(self, prefix: bytes) -> int:
        """How many rows are under a prefix; their values are not read."""
        return sum(map(len, self.scan(prefix)))

    def close(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            _release(environment)

    def _delete(self, prefix: bytes, before: bytes) -> int:
        if not PREFIX_BYTES <= len(prefix) <= _CUT:
            raise UsageError(f"a prefix has {PREFIX_BYTES} to {_CUT} bytes, not {len(prefix)}")
        environment = self._open_for_writing
        deleted = 0
        after: bytes | None = None
        while after != b"":
            count, after = environment.write(partial(_delete_batch, prefix=prefix, after=after, before=before))
            deleted += count
        return deleted

    @property
    def _open(self) -> _Environment:
        if self._environment is None:
            raise UsageError("the online store has been closed; open it again")
        return self._environment

    @property
    def _open_for_writing(self) -> _Environment:
        if self._readonly:
            raise UsageError(f"the online store at {self._open.path} was opened for reading only")
        return self._open


def _stored_key(key: bytes) -> bytes:
    return kept_key(key, _LONGEST)


def _next_batch(rows: Iterator[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The next rows for one transaction, in key order (LMDB fills its pages then); rows of one key keep theirs."""
    return sorted(islice(rows, _ROWS_PER_COMMIT), key=itemgetter(0))


def _get_all(txn: lmdb.Transaction, keys: Sequence[bytes]) -> list[bytes | None]:
    return list(map(cast("Callable[[bytes], bytes | None]", txn.get), keys))


def _put_guarded(txn: lmdb.Transaction, rows: Sequence[tuple[bytes, bytes]]) -> int:
    if _is_free(txn, rows):
        return int(txn.cursor().putmulti(rows)[1])
    get, put = cast("Callable[[bytes], bytes | None]", txn.get), txn.put
    written = 0
    for key, value in rows:
        name = key if len(key) < _LONGEST else _stored_key(key)
        stored = get(name)
        if stored is None or stored[:STAMP_BYTES] <= value[:STAMP_BYTES]:
            put(name, value)
            written += 1
    return written


def _is_free(txn: lmdb.Transaction, rows: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether nothing is stored from the first of these keys to the last, and each comes once: nobody can be newer."""
    keys = {key for key, _ in rows}
    if len(keys) < len(rows) or max(map(len, keys)) >= _LONGEST:
        return False
    cursor = txn.cursor()
    return not cursor.set_range(rows[0][0]) or bytes(cursor.key()) > rows[-1][0]


def _delete_batch(txn: lmdb.Transaction, prefix: bytes, after: bytes | None, before: bytes) -> tuple[int, bytes]:
    """Look at the next rows under ``prefix``, the first ones or those after a key; how many were deleted, and the last
    key (empty at the end)."""
    cursor = txn.cursor()
    if not _go_to_next(cursor, prefix, after):
        return 0, b""
    rows = cast("list[tuple[bytes, bytes]]", list(islice(cursor.iternext(), _ROWS_PER_COMMIT)))
    last = rows[-1][0]
    if not last.startswith(prefix):
        rows = [row for row in rows if row[0].startswith(prefix)]
    older = [key for key, value in rows if value[:STAMP_BYTES] < before]
    for key in older:
        txn.delete(key)
    return len(older), last if last.startswith(prefix) else b""


def _list_keys(txn: lmdb.Transaction, prefix: bytes, after: bytes | None) -> list[bytes]:
    """The next keys under ``prefix``, the first ones or those after a key; none at the end."""
    cursor = txn.cursor()
    if not _go_to_next(cursor, prefix, after):
        return []
    keys = cast("list[bytes]", list(islice(cursor.iternext(keys=True, values=False), _ROWS_PER_COMMIT)))
    return keys if keys[-1].startswith(prefix) else [key for key in keys if key.startswith(prefix)]


def _go_to_next(cursor: lmdb.Cursor, prefix: bytes, after: bytes | None) -> bool:
    """Go to the first key from ``prefix`` on, or to the one after ``after``; False where there is none."""
    if not cursor.set_range(prefix if after is None else after):
        return False
    return after is None or bytes(cursor.key()) != after or cursor.next()


def _list_prefixes(txn: lmdb.Transaction) -> list[bytes]:
    found: list[bytes] = []
    cursor = txn.cursor()
    there = cursor.first()
    while there:
        prefix = bytes(cursor.key())[:PREFIX_BYTES]
        found.append(prefix)
        after = int.from_bytes(prefix, "big") + 1
        there = after < 1 << (8 * PREFIX_BYTES) and cursor.set_range(after.to_bytes(PREFIX_BYTES, "big"))
    return found


class _Environment:
    """The one LMDB environment of this process on a path; LMDB forbids a second one.

    ``_writing`` is held for a write transaction, ``_mapping`` for a read transaction and whenever the memory map is
    opened, moved or closed, because no transaction of the process may be under way then. Who needs both takes
    ``_writing`` first. Readers thus never wait for a commit.
    """

    def __init__(self, path: Path, map_size: int) -> None:
        self.path = path
        self.users = 0
        self._map_size = map_size
        self._env: lmdb.Environment | None = None
        self._writable = False
        self._writing = threading.Lock()
        self._mapping = threading.Lock()

    def read(self, question: Callable[[lmdb.Transaction], T], nothing: T) -> T:
        """The answer to ``question`` in one snapshot, or ``nothing`` where no store has been written yet."""
        for attempt in range(8):
            try:
                with self._mapping:
                    env = self._env or self._open_to_read()
                    if env is None:
                        return nothing
                    with env.begin() as txn:
                        return question(txn)
            except lmdb.MapResizedError:
                with self._writing:
                    self._remap(0)
            except lmdb.ReadersFullError as error:
                if self._dead_readers() == 0 and attempt:
                    raise StoreBusy(f"the online store at {self.path} has {_READERS} readers already") from error
            except lmdb.Error as error:
                raise self._failure("read", error) from error
        raise StoreBusy(f"the online store at {self.path} grew faster than it could be read; try again")

    def write(self, change: Callable[[lmdb.Transaction], T]) -> T:
        """Commit ``change`` to disk and hand back its result; it may be called again if the map has to grow."""
        with self._writing:
            while True:
                try:
                    with self._mapping:
                        env = self._open_to_write()
                    env.reader_check()  # a reader that died would keep old pages from being used again
                    with env.begin(write=True) as txn:
                        return change(txn)
                except lmdb.MapFullError:
                    self._remap(2)
                except lmdb.MapResizedError:
                    self._remap(0)
                except lmdb.Error as error:
                    self._close()
                    raise self._failure("written", error) from error

    def check_readable(self) -> None:
        self.read(lmdb.Transaction.id, 0)

    def check_writable(self) -> None:
        with self._writing, self._mapping:
            self._open_to_write()

    def close(self) -> None:
        with self._writing:
            self._close()

    def before_fork(self) -> None:
        """An inherited environment would let the child free the parent's reader slots: no process forks with one."""
        self._writing.acquire()
        self._close()
        self._mapping.acquire()

    def after_fork(self) -> None:
        self._mapping.release()
        self._writing.release()

    def _open_to_read(self) -> lmdb.Environment | None:
        """Nothing yet if the writer is still to come: LMDB could not open that for reading."""
        data = self.path / "data.mdb"
        try:
            if data.stat().st_size == 0:
                return None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure("opened", error) from error
        self._env, self._writable = self._opened(readonly=True), False
        return self._env

    def _open_to_write(self) -> lmdb.Environment:
        if self._env is not None and not self._writable:
            self._env.close()
            self._env = None
        if self._env is None:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"the online store's directory {self.path} cannot be made: {error.strerror}"
                ) from error
            self._env, self._writable = self._opened(readonly=False), True
        return self._env

    def _opened(self, *, readonly: bool) -> lmdb.Environment:
        try:
            return lmdb.open(
                str(self.path),
                map_size=self._map_size,
                readonly=readonly,
                create=not readonly,
                max_readers=_READERS,
                readahead=False,
                max_spare_txns=1,
            )
        except (lmdb.Error, OSError) as error:
            raise self._failure("opened", error) from error

    def _remap(self, factor: int) -> None:
        """Make the map ``factor`` times as large, or with 0 as large as its last writer did. Holds ``_writing``."""
        with self._mapping:
            if self._env is None:
                return
            try:
                self._env.set_mapsize(factor * int(self._env.info()["map_size"]))
            except lmdb.Error as error:
                self._env.close()
                self._env = None
                raise self._failure("mapped into memory", error) from error

    def _close(self) -> None:
        """The next call opens afresh. The caller holds ``_writing``."""
        with self._mapping:
            if self._env is not None:
                self._env.close()
                self._env = None

    def _dead_readers(self) -> int:
        with self._mapping:
            return self._env.reader_check() if self._env is not None else 0

    def _no_room(self) -> bool:
        """LMDB calls a write that was cut short for lack of room an I/O error."""
        try:
            return shutil.disk_usage(self.path).free < _NO_ROOM
        except OSError:
            return False

    def _failure(self, what: str, error: Exception) -> StoreError:
        if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError)):
            return StoreError(
                f"the files in {self.path} are not an online store of this LMDB version; "
                "move them away and materialize again"
            )
        if isinstance(error, lmdb.DiskError) or self._no_room():
            return StoreError(
                f"the online store at {self.path} could not be {what}: the disk is full; "
                "make room and run the same command again"
            )
        return StoreError(f"the online store at {self.path} could not be {what}: {error}")


_environments: dict[Path, _Environment] = {}
_registry = threading.Lock()


def _acquire(path: Path, map_size: int) -> _Environment:
    with _registry:
        environment = _environments.setdefault(path, _Environment(path, map_size))
        environment.users += 1
        return environment


def _release(environment: _Environment) -> None:
    with _registry:
        environment.users -= 1
        if environment.users == 0:
            del _environments[environment.path]
            environment.close()


def _before_fork() -> None:
    _registry.acquire()
    for environment in _environments.values():
        environment.before_fork()


def _after_fork() -> None:
    for environment in _environments.values():
        environment.after_fork()
    _registry.release()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork, after_in_parent=_after_fork)
