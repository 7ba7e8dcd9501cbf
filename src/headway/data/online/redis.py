"""The online store on Redis or Valkey: one server for many machines, shared by any number of projects.

A view is one hash, ``headway:{<project>:<env>}:<fingerprint>``, a row per field: a view is forgotten in one step, its
rows are found without looking at anybody else's keys, and what is asked of several views goes out as one message. A
second hash, ``headway:{<project>:<env>}:views``, names the views and the newest stamp that was written to each: rows
that are not older than that cannot meet a newer one, so the guard lets them through without reading what is there. The
braces keep a project's environment in one slot, where a script may touch all of it.

How long an acknowledged row lives is the server's affair: ``appendonly yes`` keeps it over a restart, and with
``appendfsync everysec`` a power cut takes back the last second. What is taken back is the end of the story, watermark
included, so the next materialization sees it and writes it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter

from headway.data.online._protocol import PREFIX_BYTES, STAMP_BYTES, Concern
from headway.data.online._redis_server import RedisServer, packed
from headway.errors import StoreError, UsageError
from headway.plugins import maturity

Row = tuple[bytes, bytes]

_FIELDS = 1024  # of one command of a read: others get their turn between two
_KEYS_PER_TRIP = 16_384
_ROWS_PER_CALL = 16_384  # that are looked at together
_ROWS = 256  # of one script; a script keeps the server to itself
_BYTES = 1 << 20
_SCANNED = b"512"
_OLDEST_SERVER = (5,)  # from then on scripts are replicated by what they do

_BEFORE = """
local function before(a, b)
  if a == b then return false end
  local a1, a2, a3, a4 = struct.unpack('>I4I4I4I4', a)
  local b1, b2, b3, b4 = struct.unpack('>I4I4I4I4', b)
  if a1 ~= b1 then return a1 < b1 elseif a2 ~= b2 then return a2 < b2 elseif a3 ~= b3 then return a3 < b3 end
  return a4 < b4
end
"""
# Lua compares texts by the server's locale, and its numbers have 53 bits.

_PUT = (
    _BEFORE
    + """
local view, stamp = ARGV[1], ARGV[2]
local newest = redis.call('HGET', KEYS[2], view)
if not newest then
  newest = redis.call('EXISTS', KEYS[1]) == 1 and 'unknown' or false
end
if stamp ~= '' and newest ~= 'unknown' and not (newest and before(stamp, newest)) then
  if newest ~= stamp then redis.call('HSET', KEYS[2], view, stamp) end
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
  return (#ARGV - 2) / 2
end
local fields = {}
for i = 3, #ARGV, 2 do fields[#fields + 1] = ARGV[i] end
local stored, stamps, rows, latest = redis.call('HMGET', KEYS[1], unpack(fields)), {}, {}, newest
for i, field in ipairs(fields) do
  local new = string.sub(ARGV[2 * i + 2], 1, 16)
  local old = stamps[field] or (stored[i] and string.sub(stored[i], 1, 16))
  if not old or not before(new, old) then
    stamps[field] = new
    rows[#rows + 1] = field
    rows[#rows + 1] = ARGV[2 * i + 2]
    if latest ~= 'unknown' and not (latest and before(new, latest)) then latest = new end
  end
end
if #rows > 0 then
  if latest ~= newest or latest == 'unknown' then redis.call('HSET', KEYS[2], view, latest) end
  redis.call('HSET', KEYS[1], unpack(rows))
end
return #rows / 2
"""
).encode()
# KEYS: a view's rows, the newest stamps; ARGV: the view, the stamp that all rows have or '', then field, value, …

_DELETE = (
    _BEFORE
    + """
local found = redis.call('HSCAN', KEYS[1], ARGV[2], 'MATCH', ARGV[3], 'COUNT', ARGV[5])
local gone, deleted = {}, 0
for i = 1, #found[2], 2 do
  if ARGV[4] == '' or before(string.sub(found[2][i + 1], 1, 16), ARGV[4]) then gone[#gone + 1] = found[2][i] end
end
if #gone > 0 then deleted = redis.call('HDEL', KEYS[1], unpack(gone)) end
if deleted > 0 and redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HDEL', KEYS[2], ARGV[1]) end
return {found[1], deleted}
"""
).encode()
# ARGV: the view, a cursor, a pattern of fields, the stamp to keep from or '', how many to look at

_DROP = b"""
local held = redis.call('HLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return held
"""

_KEYS = b"""
local found, fields = redis.call('HSCAN', KEYS[1], ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3]), {}
for i = 1, #found[2], 2 do fields[#fields + 1] = found[2][i] end
return {found[1], fields}
"""
# HSCAN itself would send the values along.


@maturity("stable")
def open_store(url: str, *, readonly: bool = False, namespace: str = "") -> RedisStore:
    """The store on the server that ``url`` names; rows of other namespaces on it are never seen nor touched.

    ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, ``redis+unix:///run/redis.sock?db=0`` for a socket, or
    the same with ``valkey``. ``?socket_timeout=0.2`` is how many seconds a read may take; the default is 1.

    Nothing is sent yet: a server that is down now may be back when it is needed.
    """
    return RedisStore(url, readonly=readonly, namespace=namespace)


class RedisStore:
    """An ``OnlineStore`` on a Redis or Valkey server. Methods fail at once, or within ``socket_timeout``, if the server
    is not there, and work again when it is.

    ``get_many`` is one message and one answer for up to 16 384 keys; the keys after them are asked for next.
    """

    longest_key = 0

    def __init__(self, url: str, *, readonly: bool = False, namespace: str = "") -> None:
        self._server: RedisServer | None = RedisServer(url)
        self._readonly = readonly
        self._lead = b"headway:{%s}:" % namespace.encode()
        self._views = self._lead + b"views"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if len(keys) > _KEYS_PER_TRIP:
            trips = (keys[at : at + _KEYS_PER_TRIP] for at in range(0, len(keys), _KEYS_PER_TRIP))
            return list(chain.from_iterable(map(self.get_many, trips)))
        if not keys:
            return []
        commands = []
        for prefix, fields in _by_prefix(keys):
            name = self._name(prefix)
            portions = (fields[at : at + _FIELDS] for at in range(0, len(fields), _FIELDS))
            commands += [packed((b"HMGET", name, *some)) for some in portions]
        answers = self._open.read(b"".join(commands), len(commands))
        return answers[0] if len(answers) == 1 else list(chain.from_iterable(answers))

    def put_many(self, rows: Iterable[Row]) -> int:
        server = self._open_for_writing
        remaining = iter(rows)
        first = list(islice(remaining, _ROWS_PER_CALL))
        if len(first) < _ROWS_PER_CALL:
            return sum(server.write(list(self._puts(first)))) if first else 0
        return sum(server.write(self._all_puts(first, remaining)))

    def delete_older(self, prefix: bytes, stamp: bytes) -> int:
        return self._delete(prefix, stamp)

    def drop(self, prefix: bytes) -> int:
        if len(prefix) > PREFIX_BYTES:
            return self._delete(prefix, b"")
        server, keys = self._open_for_writing, self._keys_of(prefix)
        (held,) = server.write([_script(_DROP, *keys, _view(prefix))])
        return int(held)

    def prefixes(self) -> list[bytes]:
        server = self._open
        (views,) = server.read(packed((b"HKEYS", self._views)), 1)
        if not views:
            return []
        there = [packed((b"EXISTS", self._lead + view)) for view in views]
        found = server.read(b"".join(there), len(there))
        return sorted(bytes.fromhex(view.decode()) for view, held in zip(views, found, strict=True) if held)

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        server = self._open
        head, (rows, _) = prefix[:PREFIX_BYTES], self._keys_of(prefix)
        pattern, cursor = _pattern(prefix), b"0"
        while True:
            command = packed((b"EVAL", _KEYS, b"1", rows, cursor, pattern, b"1024"))
            ((cursor, fields),) = server.read(command, 1)
            if fields:
                yield [head + field for field in dict.fromkeys(fields)]
            if cursor == b"0":
                return

    def count(self, prefix: bytes) -> int:
        """How many rows a view has; asked of the server, not of the rows."""
        (held,) = self._open.read(packed((b"HLEN", self._keys_of(prefix)[0])), 1)
        return int(held)

    def concerns(self) -> list[Concern]:
        """What in the server's set-up puts rows at risk."""
        return list(_concerns(self._open))

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _all_puts(self, batch: list[Row], remaining: Iterator[Row]) -> Iterator[bytes]:
        """The scripts that write many rows, made while the server is at work."""
        while batch:
            yield from self._puts(batch)
            batch = list(islice(remaining, _ROWS_PER_CALL))

    def _puts(self, batch: Sequence[Row]) -> Iterator[bytes]:
        """The scripts that write some rows; those of one key stay in their order."""
        views: dict[bytes, list[Row]] = {}
        for row in batch:
            views.setdefault(row[0][:PREFIX_BYTES], []).append(row)
        for prefix, rows in views.items():
            keys, view = self._keys_of(prefix), _view(prefix)
            for some in _portions(rows):
                stamps = {value[:STAMP_BYTES] for _, value in some}
                common = stamps.pop() if len(stamps) == 1 else b""
                arguments = chain.from_iterable([(key[PREFIX_BYTES:], value) for key, value in some])
                yield _script(_PUT, *keys, view, common, *arguments)

    def _delete(self, prefix: bytes, before: bytes) -> int:
        server, keys = self._open_for_writing, self._keys_of(prefix)
        head = (*keys, _view(prefix[:PREFIX_BYTES]))
        pattern, deleted, cursor = _pattern(prefix), 0, b"0"
        while True:
            ((cursor, count),) = server.write([_script(_DELETE, *head, cursor, pattern, before, _SCANNED)])
            deleted += int(count)
            if cursor == b"0":
                return deleted

    def _name(self, prefix: bytes) -> bytes:
        return self._lead + prefix.hex().encode()

    def _keys_of(self, prefix: bytes) -> tuple[bytes, bytes]:
        """The two keys of the scripts: a view's rows, and the newest stamps of all views."""
        if len(prefix) < PREFIX_BYTES:
            raise UsageError(f"a prefix has {PREFIX_BYTES} bytes or more, not {len(prefix)}")
        return self._name(prefix[:PREFIX_BYTES]), self._views

    @property
    def _open(self) -> RedisServer:
        if self._server is None:
            raise UsageError("the online store has been closed; open it again")
        return self._server

    @property
    def _open_for_writing(self) -> RedisServer:
        if self._readonly:
            raise UsageError(f"the online store at {self._open.place} was opened for reading only")
        return self._open


def _by_prefix(keys: Sequence[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Runs of keys of one view: their prefix, and what follows it in each."""
    prefixes = [key[:PREFIX_BYTES] for key in keys]
    fields = [key[PREFIX_BYTES:] for key in keys]
    if prefixes.count(prefixes[0]) == len(prefixes):
        yield prefixes[0], fields
        return
    for prefix, run in groupby(zip(prefixes, fields, strict=True), itemgetter(0)):
        yield prefix, [field for _, field in run]


def _portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows of one script each: so few that others are not kept waiting, and never none."""
    at = 0
    while at < len(rows):
        some, size = rows[at : at + _ROWS], 0
        for count, (key, value) in enumerate(some):
            size += len(key) + len(value)
            if size > _BYTES and count:
                some = some[:count]
                break
        yield some
        at += len(some)


def _view(prefix: bytes) -> bytes:
    return prefix.hex().encode()


def _script(code: bytes, rows: bytes, views: bytes, *arguments: bytes) -> bytes:
    return packed((b"EVAL", code, b"2", rows, views, *arguments))


def _pattern(prefix: bytes) -> bytes:
    """What the fields under a prefix look like, for HSCAN."""
    escaped = b"".join(b"\\" + bytes([c]) if c in b"*?[]\\" else bytes([c]) for c in prefix[PREFIX_BYTES:])
    return escaped + b"*"


def _concerns(server: RedisServer) -> Iterator[Concern]:
    (text,) = server.read(packed((b"INFO",)), 1)
    said = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    version = said.get("valkey_version") or said.get("redis_version", "0")
    if tuple(map(int, version.split(".")[:1])) < _OLDEST_SERVER:
        yield Concern(f"the server is version {version}", "headway needs Redis 5 or newer, or any Valkey")
    if said.get("cluster_enabled") == "1":
        yield Concern("the server is part of a Redis Cluster", "name a server of its own under `online`")
    if said.get("role") == "slave":
        yield Concern("the server is a replica, which takes no writes", "name the primary under `online`")
    if said.get("aof_enabled") == "0":
        yield Concern(
            "appendonly is off: what was written since the last snapshot is gone when the server stops",
            "set `appendonly yes` on the server (CONFIG SET appendonly yes, then CONFIG REWRITE)",
        )
    elif _setting(server, "appendfsync") == "no":
        yield Concern("appendfsync is no: a power cut may take back half a minute", "set `appendfsync everysec`")
    policy = said.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys"):
        yield Concern(
            f"maxmemory-policy is {policy}: the server forgets whole views when its memory is full",
            "set `maxmemory-policy noeviction`",
        )


def _setting(server: RedisServer, name: str) -> str | None:
    """A setting of the server, None where it does not tell."""
    try:
        (pair,) = server.read(packed((b"CONFIG", b"GET", name.encode())), 1)
    except StoreError:
        return None
    return pair[1].decode() if len(pair) == 2 else None
