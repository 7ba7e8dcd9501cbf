"""Connections to one Redis or Valkey server: kept, given up in time, and found again when the server is back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from weakref import WeakSet

import hiredis
import redis
from redis import connection as redis_connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from headway.clock import monotonic
from headway.errors import SettingsError, StoreBusy, StoreError

T = TypeVar("T")

_Connection = Any  # redis-py's, whose methods have no types
_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+unix": "unix",
    "valkey+unix": "unix",
}
_READ_SECONDS = 1.0
_WRITE_SECONDS = 10.0
_REST_SECONDS = 1.0
_AHEAD = 24  # commands that are sent before the first one's answer is awaited

_PING = b"*1\r\n$4\r\nPING\r\n"

packed = cast("Callable[[tuple[bytes, ...]], bytes]", hiredis.pack_command)
"""A command and its arguments as they are sent."""


class RedisServer:
    """Connections to one server, kept for the next call. Any thread may ask; a forked child begins with none.

    A kept connection may have been closed by the server since: then the same is asked once more on a new one, which is
    safe because writing a row twice is the same as writing it once.
    """

    def __init__(self, url: str) -> None:
        self._make, self.place, self._patience = _connector(url)
        self._idle: dict[float, list[_Connection]] = {}
        self._resting_until = 0.0
        self._closed = False
        self.forget()
        _servers.add(self)

    def read(self, message: bytes, answers: int) -> list[Any]:
        """Send packed commands in one message and wait for their answers."""
        if self._resting_until and monotonic() < self._resting_until:
            raise self._silent(self._patience)  # so that not every request waits to learn it

        def exchange(connection: _Connection) -> list[Any]:
            connection.send_packed_command((message,))
            return [connection.read_response() for _ in range(answers)]

        return self._ask(exchange, self._patience)

    def write(self, commands: Iterable[bytes]) -> list[Any]:
        """Send packed commands, while the first ones are being carried out already; their answers.

        They may be made as they are sent: then they cannot be sent again, and the connection is tried first.
        """

        def exchange(connection: _Connection) -> list[Any]:
            answers, sent = [], 0
            for sent, command in enumerate(commands, 1):
                connection.send_packed_command((command,))
                if sent > _AHEAD:
                    answers.append(connection.read_response())
            answers += [connection.read_response() for _ in range(sent - len(answers))]
            return answers

        return self._ask(exchange, max(_WRITE_SECONDS, self._patience), again=isinstance(commands, Sequence))

    def close(self) -> None:
        self._closed = True
        for idle in self._idle.values():
            while idle:
                idle.pop().disconnect()

    def forget(self) -> None:
        """Begin without connections: those of a forked child's parent are the parent's."""
        self._idle = {self._patience: [], max(_WRITE_SECONDS, self._patience): []}

    def _ask(self, exchange: Callable[[_Connection], T], patience: float, *, again: bool = True) -> T:
        if not again:
            self._ask(_ping, patience)  # which leaves a connection that answers at the top
        idle = self._idle[patience]
        try:
            connection = idle.pop()
        except IndexError:
            connection = self._make(patience)
        used = again and bool(connection.is_connected)
        while True:
            try:
                answer = exchange(connection)
            except redis.ConnectionError as error:
                connection.disconnect()
                if not used:
                    raise self._failure(error, patience) from error
                used, connection = False, self._make(patience)
                idle.clear()
            except redis.RedisError as error:
                connection.disconnect()
                raise self._failure(error, patience) from error
            except BaseException:
                connection.disconnect()  # an answer may still be on its way
                raise
            else:
                self._resting_until = 0.0
                idle.append(connection)
                if self._closed:
                    self.close()
                return answer

    def _failure(self, error: redis.RedisError, patience: float) -> StoreError:
        if isinstance(error, redis.TimeoutError):
            self._resting_until = monotonic() + _REST_SECONDS
            return self._silent(patience)
        where = f"the online store at {self.place}"
        told = str(error)
        for sign, kind, sentence in _FAILURES:
            if isinstance(error, sign) if isinstance(sign, type) else sign in told:
                return kind(f"{where} {sentence}".replace("%s", told))
        return StoreError(f"{where} answered: {told}")

    def _silent(self, patience: float) -> StoreBusy:
        return StoreBusy(f"the online store at {self.place} did not answer within {patience:g} s; try again")


def _ping(connection: _Connection) -> None:
    connection.send_packed_command((_PING,))
    connection.read_response()


_FAILURES: tuple[tuple[type[Exception] | str, type[StoreError], str], ...] = (
    (redis.BusyLoadingError, StoreBusy, "is loading its data after a start; try again"),
    (redis.AuthenticationError, StoreError, "refused the user or the password in `online`: %s"),
    (redis.exceptions.NoPermissionError, StoreError, "does not let this user do that: %s"),
    (redis.ConnectionError, StoreBusy, "cannot be reached (%s); start it, or mend `online`, and try again"),
    (redis.ReadOnlyError, StoreError, "is a replica, which takes no writes; name the primary under `online`"),
    ("can't write against a read only replica", StoreError, "is a replica; name the primary under `online`"),
    (redis.OutOfMemoryError, StoreError, "is full (maxmemory); make room and run the same command again"),
    ("OOM ", StoreError, "is full (maxmemory); make room and run the same command again"),
    ("MISCONF", StoreError, "cannot write to its disk; make room there and run the same command again"),
    ("BUSY ", StoreBusy, "is busy with somebody's script; try again"),
    (redis.exceptions.ClusterError, StoreError, "is part of a Redis Cluster, which is not supported; name one server"),
    (redis.exceptions.MovedError, StoreError, "is part of a Redis Cluster, which is not supported; name one server"),
    ("WRONGTYPE", StoreError, "holds something else under headway's keys; give `online` another database"),
)


def _connector(url: str) -> tuple[Callable[[float], _Connection], str, float]:
    """What makes a connection that is as patient as asked, the server's name for messages, and the patience of reads.

    ``SettingsError`` for a URL that means nothing.
    """
    parse_url = cast("Callable[[str], dict[str, Any]]", redis_connection.parse_url)
    example = "write it as redis://:${PASSWORD}@host:6379/0"
    scheme, separator, rest = url.partition("://")
    try:
        options = parse_url(f"{_SCHEMES[scheme]}://{rest}")
        database = urlsplit(url).path.strip("/")
        if not separator or ("path" not in options and database and not database.isdecimal()):
            raise ValueError
        kind = options.pop("connection_class", redis_connection.Connection)
        seconds = float(options.pop("socket_timeout", None) or _READ_SECONDS)
        place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        options.pop("socket_connect_timeout", None)
        options = {**options, "retry": Retry(NoBackoff(), 0), "protocol": 2, "decode_responses": False}
        if "path" not in options:
            options = {"socket_keepalive": True, **options}

        def make(patience: float) -> _Connection:
            limits = {"socket_connect_timeout": min(patience, _READ_SECONDS), "socket_timeout": patience}
            return kind(**options, **limits)

        make(seconds)  # which sends nothing, but knows its options
    except (KeyError, TypeError, ValueError):
        raise SettingsError(f"the setting `online` names no Redis server that can be meant; {example}") from None
    return make, f"{place}, database {options.get('db', 0)}" if options.get("db") else place, seconds


_servers: WeakSet[RedisServer] = WeakSet()


def _after_fork() -> None:
    for server in list(_servers):
        server.forget()


os.register_at_fork(after_in_child=_after_fork)
