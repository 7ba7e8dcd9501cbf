"""Every online store of headway against the public contract."""

import uuid
from functools import partial

import pytest
from tests.redis_server import KINDS, running

from headway.data.online import lmdb, redis
from headway.testing.online_store import MemoryStore, OnlineStoreContract, SharedOnlineStoreContract


class TestLmdb(SharedOnlineStoreContract):
    @pytest.fixture
    def opener(self, tmp_path):
        return partial(lmdb.open_store, f"lmdb://{tmp_path}/online")


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    with running(request.param) as server:
        yield server


class TestRedis(SharedOnlineStoreContract):
    @pytest.fixture
    def opener(self, server):
        return partial(redis.open_store, server.url, namespace=uuid.uuid4().hex)


class TestMemory(OnlineStoreContract):
    @pytest.fixture
    def opener(self):
        return MemoryStore
