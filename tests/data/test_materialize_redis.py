"""Materializing into Redis: entities that go away, writers and servers that are killed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.data.test_materialize import MANY, PLAN, contents, read, refresh
from tests.redis_server import Server, any_running

from headway.data.online import OnlineReader, Watermark, fingerprint_prefix
from headway.data.online.redis import RedisStore
from headway.errors import StoreError
from headway.testing.online_store import MemoryStore

spawned = multiprocessing.get_context("forkserver")
spawned.set_forkserver_preload([__name__])


@pytest.fixture
def server() -> Iterator[Server]:
    with any_running() as server:
        yield server


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    store = RedisStore(server.url)
    yield store
    store.close()


@pytest.fixture(scope="module")
def unbroken() -> list[Any]:
    """What is served after three refreshes that nothing interrupted."""
    store = MemoryStore()
    for version in (1, 2, 3):
        refresh(store, 510, rows=MANY, version=version)
    return contents(store)


def test_an_entity_that_is_gone_is_deleted_and_nobody_else(store: RedisStore) -> None:
    rows = [(zone, 450, 1.0) for zone in range(50)]
    assert refresh(store, 510, rows=rows, version=1).deleted == 0
    assert refresh(store, 510, rows=rows, version=2).deleted == 0
    assert refresh(store, 510, rows=rows[1:], version=3).deleted == 1
    assert refresh(store, 510, rows=[*rows[2:], (99, 450, 1.0)], version=4).deleted == 1
    assert store.count(fingerprint_prefix(PLAN)) == 49 + 1
    assert [count for count, _ in read(store, [0, 1, 2, 49, 99], 510)] == [0, 0, 1, 1, 1]


def test_an_older_run_changes_nothing(store: RedisStore) -> None:
    refresh(store, 510, rows=MANY[:100], version=2)
    before = read(store, list(range(300)), 510)
    assert refresh(store, 510, rows=MANY[:200], version=1).outcome == "superseded"
    assert read(store, list(range(300)), 510) == before


def materialize_many(url: str, version: int, started: Any) -> None:
    store = RedisStore(url)
    started.send(True)
    refresh(store, 510, rows=MANY, version=version)
    store.close()


def test_a_killed_run_is_finished_by_the_next(server: Server, store: RedisStore, unbroken: list[Any]) -> None:
    pauses = random.Random(5)
    for version in (1, 2, 3):
        receiver, sender = spawned.Pipe(duplex=False)
        child = spawned.Process(target=materialize_many, args=(server.url, version, sender))
        child.start()
        receiver.recv()
        child.join(pauses.uniform(0, 0.3))
        if child.exitcode is None:
            os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        refresh(store, 510, rows=MANY, version=version)
    assert OnlineReader(store).watermark(PLAN) == Watermark(500, 3)
    assert contents(store) == unbroken
    assert store.drop(fingerprint_prefix(PLAN)) == 40_001


def test_a_killed_server_is_filled_by_the_next_run(server: Server, store: RedisStore, unbroken: list[Any]) -> None:
    refresh(store, 510, rows=MANY, version=1)
    failed = []
    for version, pause in ((2, 0.02), (3, 0.1), (3, 0.2)):
        killer = threading.Timer(pause, server.stop, [signal.SIGKILL])
        killer.start()
        try:
            refresh(store, 510, rows=MANY, version=version, full=True)
        except StoreError as error:
            failed.append(error)
        killer.join()
        server.start()
    assert failed
    refresh(store, 510, rows=MANY, version=3)
    assert OnlineReader(store).watermark(PLAN) == Watermark(500, 3)
    assert contents(store) == unbroken
